"""Starts scripts on several gloo processes, for tests that look at what they leave."""

import os
import subprocess
import sys
from pathlib import Path

from filelock import FileLock


def torchrun(processes, script, *arguments):
    """Runs a script on so many processes; a failure shows its first traceback."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    result = subprocess.run([*command, *map(str, (script, *arguments))], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[result.stderr.find("Traceback") :][:6000]


def folder_of_ranks(tmp_path_factory, script, processes):
    """The folder that `script FOLDER` of tests/training has filled; it runs once, when first asked for."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root  # where workers meet
    folder = root / f"{Path(script).stem}-{processes}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            assert not partial.exists(), f"{script} failed on {processes} processes when it was first asked for"
            partial.mkdir()
            torchrun(processes, Path(__file__).parent / "training" / script, partial)
            partial.rename(folder)
    return folder
