"""Names of earlier versions for what is in `labels`."""

from __future__ import annotations

import numpy as np
from datasets import Dataset

from .labels import LABEL_IDS, Labels, too_large_for_rows

__all__ = ["LABEL_IDS", "LabelLists", "label_counts", "label_matrix", "read_label_lists", "too_large_for_rows"]

LabelLists = Labels


def label_matrix(split: Dataset) -> np.ndarray:
    """The labels of a split as rows (N, L)."""
    return Labels.of(split).rows()


def label_counts(split: Dataset) -> np.ndarray:
    """Number of examples known to have each label."""
    return Labels.of(split).counts()


def read_label_lists(split: Dataset, num_labels: int | None = None) -> Labels:
    """The labels of a split with the column `label_ids`."""
    return Labels.of(split, num_labels)
