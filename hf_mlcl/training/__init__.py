"""Training: arguments, the Trainer, and what anchors are compared with."""

from .arguments import MLCLTrainingArguments
from .interruption import Interrupted, SaveOnSignal
from .step import gather_references
from .trainer import MLCLTrainer

__all__ = [
    "Interrupted",
    "MLCLTrainer",
    "MLCLTrainingArguments",
    "SaveOnSignal",
    "gather_references",
]
