"""Contrastive multi-label learning for any Hugging Face text or vision encoder.

Importing the package registers its models with transformers' Auto classes, and pipelines that read their inputs as
training did; the Trainer is imported when first used.
"""

from typing import TYPE_CHECKING, Any

from .losses import build_loss
from .models import MLCLConfig, MLCLForImageClassification, MLCLForSequenceClassification

if TYPE_CHECKING:
    from .evaluation import compute_metrics
    from .training import MLCLTrainer, MLCLTrainingArguments

__version__ = "0.1.0"

_LAZY = {"MLCLTrainer": "training", "MLCLTrainingArguments": "training", "compute_metrics": "evaluation"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "MLCLConfig",
    "MLCLForImageClassification",
    "MLCLForSequenceClassification",
    "MLCLTrainer",
    "MLCLTrainingArguments",
    "build_loss",
    "compute_metrics",
]
