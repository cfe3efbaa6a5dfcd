"""Prints the figures by which the layout of the package is judged, each beside its limit.

    python scripts/design_figures.py

Ends with status 1 where a limit is exceeded.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "hf_mlcl"
CONTAINERS = {"Labels", "LabelSets", "LabelLists", "LabelScores", "LinearScores", "StoredScores"}


def files_from_batch_to_kernel() -> list[str]:
    """The files on the way from `training_step` to the kernel, in their order, of a step of a tiny model."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from toy import toy_trainer

    from hf_mlcl.losses import base

    stacks: list[list[str]] = []
    kernel = base.weighted_contrast

    def watched(*args, **kwargs):
        frame, files = sys._getframe(1), [Path(kernel.__code__.co_filename)]
        while frame is not None:
            files.append(Path(frame.f_code.co_filename))
            if frame.f_code.co_name == "training_step":
                break
            frame = frame.f_back
        own = [str(path.relative_to(PACKAGE)) for path in reversed(files) if path.is_relative_to(PACKAGE)]
        stacks.append([name for name, _ in groupby(own)])
        return kernel(*args, **kwargs)

    base.weighted_contrast = watched
    try:
        with tempfile.TemporaryDirectory() as folder:
            toy_trainer(folder, max_steps=1, queue_size=8, num_train_epochs=1).train()
    finally:
        base.weighted_contrast = kernel
    return stacks[0]


def branches_on_label_form() -> list[str]:
    """Places that ask whether labels are rows, lists or a container."""
    places = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
                continue
            asks = any(
                isinstance(part, ast.Name) and part.id == "LABEL_IDS"
                or isinstance(part, ast.Attribute) and part.attr == "too_large"
                or isinstance(part, ast.Call) and ast.unparse(part.func) == "isinstance"
                and bool({n.id for n in ast.walk(part.args[1]) if isinstance(n, ast.Name)} & CONTAINERS)
                for part in ast.walk(node.test)
            )  # fmt: skip
            if asks:
                places.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    return places


def exported_names() -> int:
    """Names in the `__all__` of the package and of its folders."""
    code = (
        "import importlib, pkgutil, hf_mlcl; total = len(hf_mlcl.__all__)\n"
        "for info in pkgutil.iter_modules(hf_mlcl.__path__, 'hf_mlcl.'):\n"
        "    total += len(getattr(importlib.import_module(info.name), '__all__', [])) if info.ispkg else 0\n"
        "print(total)"
    )
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def lines(folder: str) -> int:
    """Lines of the Python files of a folder that are in the repository."""
    names = subprocess.run(
        ["git", "ls-files", "-z", folder], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    paths = [REPOSITORY / name for name in names if name.endswith(".py")]
    return sum(len(path.read_text().splitlines()) for path in paths if path.is_file())


def main() -> int:
    from transformers import Trainer

    from hf_mlcl import MLCLTrainer

    way, places = files_from_batch_to_kernel(), branches_on_label_form()
    classes = [cls.__name__ for cls in MLCLTrainer.__mro__[: MLCLTrainer.__mro__.index(Trainer)]]
    named = [str(path.relative_to(PACKAGE)) for path in sorted(PACKAGE.rglob("label*.py"))]
    figures = [
        ("files from training_step to the kernel", len(way), 5, " > ".join(way)),
        ("files on that way that come twice", len(way) - len(set(way)), 0, ""),
        ("places that ask for the form of labels", len(places), 6, " ".join(places)),
        ("classes above transformers.Trainer", len(classes), 3, " ".join(classes)),
        ("files named label*", len(named), 3, " ".join(named)),
        ("exported names", exported_names(), 60, ""),
        ("lines of the package", lines("hf_mlcl"), 12_000, ""),
        ("lines of the tests", lines("tests"), 13_000, ""),
    ]
    for name, value, limit, what in figures:
        print(f"{'ok ' if value <= limit else 'NOT'} {name}: {value:,} (at most {limit:,}) {what}".rstrip())
    return int(any(value > limit for _, value, limit, _ in figures))


if __name__ == "__main__":
    sys.exit(main())
