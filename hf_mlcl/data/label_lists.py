"""Names of earlier versions for what is in `labels`."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset

from .labels import LABEL_IDS, Labels, add_label_column, too_large_for_rows

__all__ = ["LABEL_IDS", "LabelLists", "add_label_lists", "label_pairs", "too_large_for_rows"]

LabelLists = Labels


def label_pairs(labels: Any, name: str = "labels") -> tuple[np.ndarray, np.ndarray]:
    """Example and label of each label that an example is known to have."""
    return Labels.of(labels, name=name).pairs()


def add_label_lists(split: Dataset, labels: Labels) -> Dataset:
    """Add labels as the column `label_ids`."""
    return add_label_column(split, labels, as_ids=True)


def read_label_lists(split: Dataset, num_labels: int | None = None) -> Labels:
    """The column `label_ids` of a split."""
    return Labels.of(split.select_columns(LABEL_IDS), num_labels)
