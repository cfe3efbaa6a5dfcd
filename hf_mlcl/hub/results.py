"""What a run was and what it measured: one object for `run.json`, `metrics.json`, `per_label.json` and the card."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard

from hf_mlcl.models import MLCLConfig

from .card import FIGURES, MARK, model_card
from .files import last_name

PACKAGES = ("hf-mlcl", "torch", "transformers", "accelerate", "datasets", "numpy")
# Where the run took place, not what it was: such values differ on every machine and may give away names and tokens.
PRIVATE = (
    *("dir", "path", "token", "hub", "push", "report", "run_name", "project", "resume", "trackio", "deepspeed"),
    "ddp",
)
# What a job says that cannot be a file or folder of this machine.
NO_SOURCES = ("label_delimiter",)
STUDIED = ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "weight_decay", "warmup_steps", "seed")
OBJECTIVE = (
    *("objective", "loss", "loss_parameters", "classification_loss", "classification_loss_parameters"),
    *("classification_weight", "pooling", "projection_dim"),
)
_TIMINGS = ("runtime", "_per_second", "model_preparation_time", "compilation_time")


def scores_only(metrics: dict[str, float] | None, prefix: str) -> dict[str, float]:
    """The scores among a Trainer's metrics, without their prefix, the loss of single batches, and times."""
    named = {name.removeprefix(f"{prefix}_"): value for name, value in (metrics or {}).items()}
    return {
        name: value for name, value in named.items() if name not in ("loss", "epoch") and not name.endswith(_TIMINGS)
    }


@dataclass
class RunResults:
    """Settings and results of a run, as they lie beside a saved model.

    Attributes:
        run: What was trained on what, how and how long (`run.json`): of `describe_run`. Its `card` may hold
            `license`, `language` and `tags` of the card.
        metrics: Name of a split to its scores (`metrics.json`).
        per_label: Name of a split to a row per label (`per_label.json`).

    Example:
        >>> RunResults(metrics={"test": {"macro_f1": 0.5}}).card(MLCLConfig(num_labels=3)).data.pipeline_tag
        'text-classification'
    """

    run: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    per_label: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> RunResults:
        """Those of a saved model; what has no file is empty."""
        return cls(**{name: _read(Path(folder) / f"{name}.json") for name in ("run", "metrics", "per_label")})

    def card(self, config: Any, name: str = ".", **options: Any) -> ModelCard:
        """The model card; see `hf_mlcl.hub.card.model_card`."""
        return model_card(config, self.run, self.metrics, name, per_label=self.per_label, **options)

    def card_of(self, folder: str | Path, name: str = ".") -> ModelCard:
        """The card of the model or adapter that is saved in a folder, with the pictures in its `figures`."""
        folder = Path(folder)
        figures = [path.name for path in folder.glob("figures/*")]
        config, adapter = MLCLConfig.from_pretrained(folder), _read(folder / "adapter_config.json")
        return self.card(config, name, figures=figures, adapter=adapter)

    def write(self, folder: str | Path) -> None:
        """Writes all of it beside a saved model, or nothing; `per_label.json` where there are rows.

        A card of somebody else's hand stays as it is.

        Raises:
            ValueError: For numbers that JSON has no word for.
        """
        folder = Path(folder)
        texts = {
            f"{name}.json": json.dumps(values, indent=2, allow_nan=False) + "\n"
            for name, values in (("run", self.run), ("metrics", self.metrics), ("per_label", self.per_label))
            if values or name != "per_label"
        }
        if writes_card(folder):
            texts["README.md"] = str(self.card_of(folder))
        for name, text in texts.items():
            (folder / f".{name}.tmp").write_text(text, encoding="utf-8")
        for name in texts:
            (folder / f".{name}.tmp").replace(folder / name)


def writes_card(folder: Path) -> bool:
    """Whether the card of a folder is this package's to write: there is none, or it has our mark."""
    card = folder / "README.md"
    return not card.is_file() or MARK in card.read_text(encoding="utf-8")


def remove_results(folder: str | Path) -> None:
    """Removes what tells of a model that is about to be replaced: scores, the run, pictures, and a card of ours."""
    folder = Path(folder)
    names = ["metrics.json", "per_label.json", "run.json", *(f"figures/{name}" for name in FIGURES)]
    for name in [*names, "README.md"] if writes_card(folder) else names:
        (folder / name).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def describe_run(
    args: Any,
    model: Any,
    *,
    job: dict[str, Any],
    examples: dict[str, int],
    report: Any = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """A JSON-ready description of a run, without secrets and paths of this machine.

    Args:
        args: The `TrainingArguments`.
        model: The trained model.
        job: What else was chosen: `task`, and as far as they are known `encoder`, `dataset`, the options of the data.
        examples: Name of a split to its number of examples.
        report: What `fit_classifier` returned; None where it was not called.
        seconds: Time of the whole run; None where it was not measured.
    """
    given, config = args.to_dict(), model.config
    # Not from a fresh object: making one resets accelerate's state, and with it the number of processes.
    defaults = {
        name: getattr(item.default, "value", item.default) for name, item in type(args).__dataclass_fields__.items()
    }
    changed = {
        name: last_name(value) if isinstance(value, str) else value
        for name, value in given.items()
        if isinstance(value, (bool, int, float, str))
        and value != defaults[name]
        and not any(word in name for word in PRIVATE)
    }
    if isinstance(job.get("encoder"), str):
        job = job | {"encoder_in_folder": Path(job["encoder"]).is_dir()}
    threads = torch.get_num_threads()
    description = {
        "job": {
            name: last_name(value) if isinstance(value, str) and name not in NO_SOURCES else value
            for name, value in job.items()
            if value is not None
        },
        "arguments": {name: given[name] for name in STUDIED} | changed,
        "processes": args.world_size,
        "objective": {name: getattr(config, name) for name in OBJECTIVE},
        "examples": examples,
        "labels": config.num_labels,
        "classifier": None if report is None else report.to_dict(),
        "seconds": None if seconds is None else round(seconds, 1),
        "hardware": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {threads} thread{'' if threads == 1 else 's'}",
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }
    return {name: value for name, value in description.items() if value is not None}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
