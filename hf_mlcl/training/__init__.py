"""Training: arguments, the Trainer, and what anchors are compared with."""

from .arguments import MLCLTrainingArguments
from .classifier import ClassifierReport
from .trainer import MLCLTrainer

__all__ = ["ClassifierReport", "MLCLTrainer", "MLCLTrainingArguments"]
