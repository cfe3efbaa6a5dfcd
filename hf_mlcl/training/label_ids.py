"""Batches of label lists, padded with -1, rows of -100 where nothing is known. Imports torch, data and losses."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hf_mlcl.data.label_lists import LABEL_IDS
from hf_mlcl.data.labels import UNKNOWN_LABEL
from hf_mlcl.losses import ChosenLabels, References


def labels_name(inputs: Mapping[str, Any]) -> str | None:
    """What the labels of a batch are called: `label_ids` for lists, `labels` for rows, None where it has none."""
    return next((name for name in (LABEL_IDS, "labels") if inputs.get(name) is not None), None)


def multi_hot_rows(label_ids: Tensor, num_labels: int) -> Tensor:
    """Label lists (B, K) -> float32 (B, num_labels), rows of -100 where nothing is known."""
    # One column more, which takes the padding and is cut off.
    rows = torch.zeros(label_ids.shape[0], num_labels + 1, device=label_ids.device)
    rows.scatter_(1, torch.where(label_ids < 0, num_labels, label_ids), 1.0)
    return rows[:, :num_labels].masked_fill_(label_ids[:, :1] == UNKNOWN_LABEL, UNKNOWN_LABEL)


def label_lists(rows: Tensor) -> Tensor:
    """Multi-hot rows (B, L), -100 or NaN where unknown -> label lists (B, K).

    Raises:
        ValueError: an example of which only some labels are unknown, which no list can say.
    """
    unknown = (rows == UNKNOWN_LABEL) | (rows != rows)
    if (unknown.any(dim=1) & ~unknown.all(dim=1)).any():
        raise ValueError(
            "prototype_sample_size: expected examples of which all labels are known, or none, got one with some "
            "unknown labels"
        )
    examples, ids = (rows > 0).nonzero(as_tuple=True)
    counts = torch.bincount(examples, minlength=len(rows))
    lists = ids.new_full((len(rows), max(1, int(counts.max())) if len(rows) else 1), -1)
    lists[examples, torch.arange(len(ids), device=ids.device) - (counts.cumsum(0) - counts)[examples]] = ids
    return lists.masked_fill(unknown.all(dim=1, keepdim=True), UNKNOWN_LABEL)


def known_examples(vectors: list[Tensor], label_ids: Tensor) -> tuple[list[Tensor], Tensor]:
    """Vectors (B, ...) and label lists (B, K) of the examples of which something is known; others count nowhere."""
    known = label_ids[:, 0] != UNKNOWN_LABEL
    if known.all():
        return vectors, label_ids
    return [rows[known] for rows in vectors], label_ids[known]


def equally_long(label_ids: Tensor) -> Tensor:
    """Label lists padded to the longest of all processes, which gathering needs."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return label_ids
    longest = torch.tensor(label_ids.shape[1], device=label_ids.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    return torch.nn.functional.pad(label_ids, (0, int(longest) - label_ids.shape[1]), value=-1)


def of_present_labels(label_ids: Tensor, references: References | None) -> tuple[Tensor, References | None]:
    """Multi-hot rows (B, P) of the labels that a batch has, and references with such rows."""
    present = label_ids[label_ids >= 0].unique()
    columns = ChosenLabels(present, present[:0], 1.0)
    rows = columns.multi_hot(label_ids, torch.float32)
    if references is None or references.label_ids is None:
        return rows, references
    return rows, replace(references, labels=columns.multi_hot(references.label_ids, torch.float32))
