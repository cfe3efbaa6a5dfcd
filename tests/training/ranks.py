"""Starts a script on several gloo processes, once for all tests that look at what it leaves."""

import os
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

HERE = Path(__file__).resolve().parent


def folder_of_ranks(tmp_path_factory, script, processes):
    """The folder that `script FOLDER` has filled on so many processes; it runs when first asked for."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root  # where workers meet
    folder = root / f"{Path(script).stem}-{processes}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            assert not partial.exists(), f"{script} failed on {processes} processes when it was first asked for"
            partial.mkdir()
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
            result = subprocess.run(
                [*command, str(HERE / script), str(partial)],
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])},
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert result.returncode == 0, result.stderr[result.stderr.find("Traceback") :][:6000]
            partial.rename(folder)
    return folder
