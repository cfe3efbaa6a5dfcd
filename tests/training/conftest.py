"""What tests of training share: results of jobs on several processes, messages of loggers, no waiting for the disk."""

import logging
import os

import pytest
import torch
from ranks import folder_of_ranks
from transformers.utils import logging as transformers_logging


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch):
    """Nobody cuts the power while tests run."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    """Gives what a job on several processes has left under a name; the job runs when first asked for."""

    def load(name, processes=2, script="distributed_job.py"):
        folder = folder_of_ranks(tmp_path_factory, script, processes)
        return torch.load(folder / f"{name}.pt", weights_only=False)

    return load


@pytest.fixture
def log(caplog):
    """The messages of transformers' loggers, which do not reach the root by themselves."""
    transformers_logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        yield caplog
    transformers_logging.disable_propagation()
