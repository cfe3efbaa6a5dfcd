"""What some losses know of the training set: how many examples have each label. Imports torch only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

COUNTS_ARE_MISSING = (
    "{name}: expected the counts of the training set, got None; MLCLTrainer counts the labels of a train_dataset with "
    "a length, otherwise give label_counts, and num_examples where the loss takes them, among the loss's parameters"
)


class LabelCounts:
    """How many training examples have each label, and of how many it is known; float64 on the CPU.

    Args:
        label_counts: For each label the number of training examples known to have it; None where nobody has counted.
        num_examples: The number of training examples, or for each label of those in which it is known.

    Raises:
        ValueError: For what is no list of whole numbers of at least 0, or counts above the number of examples.

    Example:
        >>> counts = LabelCounts([50, 5, 0], 100)
        >>> counts.at_least_one().tolist()
        [50.0, 5.0, 1.0]
        >>> [round(value, 3) for value in counts.log_odds().tolist()]
        [0.0, -2.944, -4.605]
    """

    def __init__(self, label_counts: Any = None, num_examples: Any = None) -> None:
        self.positives = None if label_counts is None else _whole_numbers("label_counts", label_counts)
        self.examples = None if num_examples is None else _whole_numbers("num_examples", num_examples)
        if self.positives is None or self.examples is None:
            return
        labels, numbers = self.positives.numel(), self.examples.numel()
        if numbers not in (1, labels):
            raise ValueError(f"num_examples: expected 1 or {labels} numbers, as label_counts has, got {numbers}")
        if (self.positives > self.examples).any():
            label = int((self.positives > self.examples).nonzero()[0])
            of = self.examples.expand(labels)[label]
            raise ValueError(f"label_counts: label {label} has {self.positives[label]:g} of {of:g} examples")

    def at_least_one(self) -> Tensor:
        """The numbers of examples (L,), 1 for a label that none has."""
        if self.positives is None:
            raise ValueError(COUNTS_ARE_MISSING.format(name="label_counts"))
        return self.positives.clamp(min=1)

    def log_odds(self) -> Tensor:
        """log(n_l / (N_l - n_l)) (L,), with 1 in place of a 0: a label that no or every example has stays finite."""
        positives = self.at_least_one()
        if self.examples is None:
            raise ValueError(COUNTS_ARE_MISSING.format(name="num_examples"))
        return (positives / (self.examples - self.positives).clamp(min=1)).log()  # type: ignore[operator]


def _whole_numbers(name: str, values: Any) -> Tensor:
    values = values.tolist() if hasattr(values, "tolist") else values
    numbers = list(values) if isinstance(values, (list, tuple)) else [values]
    if not numbers:
        raise ValueError(f"{name}: expected at least one number, got none")
    for number in numbers:
        if type(number) is not int or number < 0:
            raise ValueError(f"{name}: expected whole numbers of at least 0, got {number!r}")
    # On the CPU also where a model is built without data, on the device "meta".
    return torch.tensor(numbers, dtype=torch.float64, device="cpu")
