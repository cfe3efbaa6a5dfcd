"""Training: arguments, the Trainer, and what anchors are compared with."""

from .arguments import MLCLTrainingArguments
from .estimator import MultiLabelClassifier
from .interruption import Interrupted, SaveOnSignal
from .step import gather_references
from .trainer import MLCLTrainer

__all__ = [
    "Interrupted",
    "MLCLTrainer",
    "MLCLTrainingArguments",
    "MultiLabelClassifier",
    "SaveOnSignal",
    "gather_references",
]
