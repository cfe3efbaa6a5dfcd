"""What the processes of test_train_interrupted.py run: `hf-mlcl train`, telling in a file what it is doing."""

import itertools
import os
import sys
from pathlib import Path

import torch

from hf_mlcl.cli import main
from hf_mlcl.cli import train as command
from hf_mlcl.training import MLCLTrainer

PHASES = {
    "loading": (command, "load_data"),
    "training": (MLCLTrainer, "training_step"),
    "saving a checkpoint": (MLCLTrainer, "_save_checkpoint"),
    "fitting the classifier": (MLCLTrainer, "fit_classifier"),
    "saving the model": (MLCLTrainer, "save_model"),
    "measuring": (command, "measure"),
}


def announced(phase, function, path):
    count = itertools.count(1)

    def wrapper(*args, **kwargs):
        if not (phase == "saving the model" and args[0]._staging):  # that of a checkpoint
            path.write_text(f"{phase} {next(count)}")
        return function(*args, **kwargs)

    return wrapper


def train(arguments, folder):
    """Runs the command with its output in files of `folder`, where the file `phase` says how far it has come."""
    torch.set_num_threads(1)
    folder = Path(folder)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    for phase, (owner, name) in PHASES.items():
        setattr(owner, name, announced(phase, getattr(owner, name), folder / "phase"))
    main(arguments)
