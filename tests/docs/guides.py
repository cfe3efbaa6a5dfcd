"""Reads the code blocks of a guide and runs them in order, as somebody who follows it would."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from hf_mlcl.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
_BLOCK = re.compile(r"(?:<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A code block: its place for error messages, and the comment right above it, such as "slow: two processes"."""

    place: str
    language: str
    code: str
    mark: str


def blocks(guide):
    """The ```bash and ```python blocks of a guide, in order."""
    text = guide.read_text(encoding="utf-8")
    return [
        Block(
            f"{guide.name}:{text[: found.start('code')].count(chr(10)) + 1}",
            *found.group("language", "code"),
            found["mark"] or "",
        )
        for found in _BLOCK.finditer(text)
        if found["language"] in ("bash", "python")
    ]


def kind(block):
    """What the mark says of a block: "not run", "slow" or nothing."""
    return block.mark.partition(":")[0] if block.mark.partition(":")[0] in ("not run", "slow") else ""


def substituted(code, substitutes):
    """The code with the words that stand for the reader's own things replaced."""
    words = "|".join(map(re.escape, sorted(substitutes, key=len, reverse=True)))
    return re.sub(rf"(?<![\w/-])({words})(?![\w-])", lambda found: substitutes[found[1]], code)


def run(block, substitutes, folder, namespace):
    """Runs a block in `folder`, which is the working directory; a Python block sees the names of those before it."""
    code = substituted(block.code, substitutes)
    if block.language == "python":
        exec(compile(code, block.place, "exec"), namespace)
        return
    for command in shell_commands(code):
        if command.startswith("hf-mlcl ") and not re.search(r"[|<>&;]", command):
            run_in_process(shlex.split(command, comments=True)[1:], block.place)
        else:
            run_in_shell(command, folder, block.place)


def run_in_process(arguments, place):
    """`hf-mlcl` without a process of its own, which would spend most of its time importing."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            main(arguments)
    except SystemExit as exit_:
        assert not exit_.code, f"{place}: hf-mlcl {shlex.join(arguments)}\n{errors.getvalue()}"


def run_in_shell(command, folder, place):
    """A command that is a program of its own, with this Python's programs first on the path."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{place}: {command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def shell_commands(code):
    """The commands of a block: continued lines joined, `<<'EOF'` documents kept with their command, no comments."""
    lines, commands = iter(code.splitlines()), []
    for line in lines:
        while line.endswith("\\"):
            line = line[:-1] + next(lines).lstrip()
        opening = re.search(r"<<'?(\w+)'?", line)
        while opening and line.splitlines()[-1] != opening[1]:
            line += "\n" + next(lines)
        if line.strip() and not line.lstrip().startswith("#"):
            commands.append(line)
    return commands


def run_guide(guide, substitutes, folder, with_slow):
    """Runs a guide's blocks in order; those marked as slow only where asked for."""
    state = torch.random.get_rng_state()
    namespace = {"__name__": "__main__"}
    for name in ("scripts", "benchmarks"):
        (folder / name).symlink_to(REPOSITORY / name)
    for block in blocks(guide):
        if kind(block) == "" or (with_slow and kind(block) == "slow"):
            run(block, substitutes, folder, namespace)
    torch.random.set_rng_state(state)
