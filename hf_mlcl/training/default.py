"""What is trained where nobody names a loss: what measured best, see benchmarks/recipe.md."""

import re
from collections.abc import Sequence
from typing import Any

_CLASSIFICATION_WEIGHTS = {"text": 1.0, "vision": 0.3}


def objective(task: str) -> dict[str, Any]:
    """`reg` and `zlpr` together: fields of `MLCLTrainingArguments`."""
    return {"objective": "joint", "classification_weight": _CLASSIFICATION_WEIGHTS[task]}


def prototype_init(task: str, label_names: Sequence[str]) -> str:
    """How prototypes start: for texts from the names of the labels, where these are no numbers, which say nothing."""
    return "label_names" if names_are_texts(task, label_names) else "xavier"


def names_are_texts(task: str, label_names: Sequence[str]) -> bool:
    """Whether the encoder can read the names of the labels: a text encoder, unless they are numbers."""
    return task == "text" and not all(re.fullmatch(r"(LABEL_)?\d+", name) for name in label_names)
