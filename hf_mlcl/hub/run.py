"""The description of a run that is saved beside the model: arguments without secrets or paths, versions, time."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

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


def describe_run(job: Any, args: Any, model: Any, data: Any, report: Any, *, seconds: float) -> dict[str, Any]:
    """A JSON-ready description of what was trained on what, how, with which packages and how long."""
    # Not from a fresh object: making one resets accelerate's state, and with it the number of processes.
    defaults = {
        name: getattr(item.default, "value", item.default) for name, item in type(args).__dataclass_fields__.items()
    }
    changed = {
        name: value
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
    job_fields = {**asdict(job), "encoder": Path(job.encoder).name if Path(job.encoder).exists() else job.encoder}
    job_fields["dataset"] = data.name
    return {
        "job": {name: value for name, value in job_fields.items() if value is not None},
        "arguments": {name: args.to_dict()[name] for name in study} | changed,
        "processes": args.world_size,
        "objective": {
            name: getattr(config, name)
            for name in (
                *("objective", "loss", "loss_parameters", "classification_loss"),
                *("classification_loss_parameters", "classification_weight", "pooling", "projection_dim"),
            )
        },
        "examples": {name: len(split) for name, split in data.splits.items()},
        "labels": len(data.label_names),
        "classifier": report.to_dict(),
        "seconds": round(seconds, 1),
        "hardware": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
