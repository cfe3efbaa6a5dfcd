"""The description of a run that is saved beside the model: arguments without secrets or paths, versions, time."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import torch

from .files import last_name

PACKAGES = ("hf-mlcl", "torch", "transformers", "accelerate", "datasets", "numpy")
# Where the run stood, not what it was: such values differ on every machine and may give away names and tokens.
PRIVATE = (
    "dir",
    "path",
    "token",
    "hub",
    "push",
    "report",
    "run_name",
    "project",
    "resume",
    "trackio",
    "deepspeed",
    "ddp",
)
# What a job says that cannot be a file or folder of this machine.
NO_SOURCES = ("label_delimiter",)


def describe_run(
    args: Any,
    model: Any,
    *,
    job: dict[str, Any],
    examples: dict[str, int],
    report: Any = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """A JSON-ready description of what was trained on what, how, with which packages and how long.

    Args:
        args: The `TrainingArguments`.
        model: The trained model.
        job: What else was chosen: `task`, and as far as they are known `encoder`, `dataset`, the options of the data.
        examples: Name of a split to its number of examples.
        report: What `fit_classifier` returned; None where it was not called.
        seconds: Time of the whole run; None where it was not measured.
    """
    # Not from a fresh object: making one resets accelerate's state, and with it the number of processes.
    defaults = {
        name: getattr(item.default, "value", item.default) for name, item in type(args).__dataclass_fields__.items()
    }
    changed = {
        name: last_name(value) if isinstance(value, str) else value
        for name, value in args.to_dict().items()
        if isinstance(value, (bool, int, float, str))
        and value != defaults[name]
        and not any(word in name for word in PRIVATE)
    }
    study = (
        "learning_rate",
        "num_train_epochs",
        "per_device_train_batch_size",
        "weight_decay",
        "warmup_steps",
        "seed",
    )
    config = model.config
    description = {
        "job": {
            name: last_name(value) if isinstance(value, str) and name not in NO_SOURCES else value
            for name, value in job.items()
            if value is not None
        },
        "arguments": {name: args.to_dict()[name] for name in study} | changed,
        "processes": args.world_size,
        "objective": {
            name: getattr(config, name)
            for name in (
                *("objective", "loss", "loss_parameters", "classification_loss"),
                *("classification_loss_parameters", "classification_weight", "pooling", "projection_dim"),
            )
        },
        "examples": examples,
        "labels": config.num_labels,
        "classifier": None if report is None else report.to_dict(),
        "seconds": None if seconds is None else round(seconds, 1),
        "hardware": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else "CPU, 1 thread"
        if torch.get_num_threads() == 1
        else f"CPU, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }
    return {name: value for name, value in description.items() if value is not None}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
