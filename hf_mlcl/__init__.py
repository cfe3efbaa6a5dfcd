"""Contrastive multi-label learning for any Hugging Face text or vision encoder.

Importing the package has its models known to transformers' Auto classes, and its pipelines read their inputs as
training did. What it exports is imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registration import register_when_imported

if TYPE_CHECKING:
    from .evaluation import compute_metrics
    from .losses import build_loss, register_loss
    from .models import MLCLConfig, MLCLForImageClassification, MLCLForSequenceClassification
    from .training import MLCLTrainer, MLCLTrainingArguments, MultiLabelClassifier

__version__ = "0.1.0"

_HOMES = {
    "MLCLConfig": "models",
    "MLCLForImageClassification": "models",
    "MLCLForSequenceClassification": "models",
    "MLCLTrainer": "training",
    "MLCLTrainingArguments": "training",
    "MultiLabelClassifier": "training",
    "build_loss": "losses",
    "compute_metrics": "evaluation",
    "register_loss": "losses",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_when_imported()

__all__ = [
    "MLCLConfig",
    "MLCLForImageClassification",
    "MLCLForSequenceClassification",
    "MLCLTrainer",
    "MLCLTrainingArguments",
    "MultiLabelClassifier",
    "build_loss",
    "compute_metrics",
    "register_loss",
]
