"""From labels in either form, of a batch and of its references, to the label sets compared. Imports torch only."""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import check_labels
from .label_choice import ChosenLabels, check_label_ids
from .label_sets import Comparison, LabelSets
from .references import References


def compare_rows(
    labels: Tensor, like: Tensor, columns: int | None, references: References | None = None
) -> Comparison:
    """The comparison of examples with labels (B, `columns`) with each other or with references.

    Args:
        labels: (B, L) multi-hot labels, -100 or NaN where unknown.
        like: (B, d) vectors of the device and dtype that label sets should have.
        columns: L where prototypes say what it is.
        references: What the examples are compared with, if not with each other.
    """
    masked = check_labels(labels, like.shape[0], columns)
    if references is None:
        label_sets = LabelSets.from_labels(labels.to(like.device), like.dtype, masked)
        return Comparison(label_sets, label_sets)
    if references.labels is None:
        raise ValueError("references.labels: expected multi-hot labels as the batch has, got None")
    masked |= check_labels(
        references.labels, references.embeddings.shape[0], labels.shape[1], name="references.labels"
    )
    label_sets, other_sets = (
        LabelSets.from_labels(each.to(like.device), like.dtype, masked) for each in (labels, references.labels)
    )
    return Comparison(label_sets, other_sets, references.comparable_ids(like.device))


def compare_ids(
    label_ids: Tensor, like: Tensor, chosen: ChosenLabels, references: References | None = None
) -> Comparison:
    """As `compare_rows`, from label lists (B, K); the columns of the label sets are the labels present."""
    label_sets = _label_sets(label_ids, like, chosen)
    if references is None:
        return Comparison(label_sets, label_sets)
    assert references.label_ids is not None
    other_sets = _label_sets(references.label_ids, like, chosen)
    return Comparison(label_sets, other_sets, references.comparable_ids(like.device))


def all_label_ids(label_ids: Tensor, rows: int, references: References | None) -> Tensor:
    """The checked label lists of a batch and of its references as one list of lists with a single label."""
    check_label_ids(label_ids, rows=rows)
    if references is None:
        return label_ids.reshape(-1, 1)
    if references.label_ids is None:
        raise ValueError("references.label_ids: expected label lists as the batch has, got None")
    check_label_ids(references.label_ids, rows=references.embeddings.shape[0], name="references.label_ids")
    return torch.cat([label_ids.flatten(), references.label_ids.to(label_ids.device).flatten()])[:, None]


def _label_sets(label_ids: Tensor, like: Tensor, chosen: ChosenLabels) -> LabelSets:
    label_ids = label_ids.to(chosen.present.device)
    positives = chosen.multi_hot(label_ids, like.dtype).to(like.device)
    # References may have labels that no column stands for: they count in the sizes of their sets.
    return LabelSets(positives, sizes=(label_ids >= 0).sum(dim=1).to(like.device, like.dtype))
