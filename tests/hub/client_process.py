"""Starts a job that talks through the real client to the Hub on 127.0.0.1."""

import os
import subprocess
import sys
from pathlib import Path

import hf_mlcl

HERE = Path(__file__).resolve().parent


def run(job, folder, hub, **environment):
    """One process with the real client, as somebody would start it; standard output and errors."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    base |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(Path(hf_mlcl.__file__).resolve().parents[1]),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / job), str(folder)],
        env={**base, **environment},
        stdin=subprocess.DEVNULL,  # a question about remote code would end here
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr
