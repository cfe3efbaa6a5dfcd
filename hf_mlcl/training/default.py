"""What is trained where nobody names a loss: what measured best, see benchmarks/recipe.md."""

import re
from collections.abc import Sequence

# `reg` and `zlpr` together, equally weighted.
OBJECTIVE = {"objective": "joint", "classification_weight": 1.0}


def prototype_init(task: str, label_names: Sequence[str]) -> str:
    """How prototypes start: for texts from the names of the labels, where these are no numbers, which say nothing."""
    numbers = all(re.fullmatch(r"(LABEL_)?\d+", name) for name in label_names)
    return "label_names" if task == "text" and not numbers else "xavier"
