"""Which labels a step looks at, where there are too many for rows of zeros and ones. Imports torch only.

Label lists are int64 (N, K), padded with -1: the indices of the labels that each of N examples has, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ChosenLabels:
    """The labels that some examples have, and others that stand for all labels that none of them has.

    Attributes:
        present: (P,) int64, ascending: the labels that an example has. Their prototypes are positives, and anchors of
            losses that have prototypes as anchors.
        absent: (S,) int64: labels that none has, all of them or a random choice. Their prototypes are negatives.
        absent_weight: What each of these counts in a denominator, (L - P) / S: on average over choices, the
            denominator is that with all L - P.
    """

    present: Tensor
    absent: Tensor
    absent_weight: float

    @property
    def rows(self) -> Tensor:
        """(P + S,) int64, the rows of the table of prototypes that a loss needs, in its order."""
        return torch.cat([self.present, self.absent])

    def multi_hot(self, label_ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Label lists (N, K) -> (N, P), 1 where an example has a present label; other labels count nowhere."""
        number = self.present.shape[0]
        columns = torch.searchsorted(self.present, label_ids.contiguous()).clamp(max=max(number - 1, 0))
        if number:
            columns = torch.where(self.present[columns] == label_ids, columns, number)
        multi_hot = torch.zeros(label_ids.shape[0], number + 1, dtype=dtype, device=label_ids.device)
        return multi_hot.scatter_(1, columns, 1)[:, :number]


def choose_labels(
    label_ids: Tensor, num_labels: int, sample_size: int | None = None, generator: torch.Generator | None = None
) -> ChosenLabels:
    """The labels present in a batch and, of those absent from it, all or a uniformly random choice.

    Time and memory grow with the labels present and chosen, not with the number of labels.

    Args:
        label_ids: (N, K) int64 label lists, padded with -1. With references (a queue), those of the batch suffice:
            then a prototype whose label only references have is a positive of nothing and, unless it is among the
            absent ones drawn, no negative either. Give those of the references, too, to have them all.
        num_labels: L, the number of labels there are.
        sample_size: S, how many of the absent labels to draw, without replacement; all where None or not fewer.
        generator: For the draw; by default the global one of the device. Processes that share a batch must draw alike.

    Raises:
        ValueError: for `label_ids` of another dtype, `num_labels` below a label (on a CPU) or a `sample_size` below 1.
    """
    check_label_ids(label_ids, num_labels)
    if sample_size is not None and sample_size < 1:
        raise ValueError(f"sample_size: expected a number of at least 1, got {sample_size}")
    present = label_ids[label_ids >= 0].unique()
    number = num_labels - present.shape[0]
    size = number if sample_size is None else min(sample_size, number)
    ranks = _distinct(size, number, label_ids.device, generator)
    # The absent label of rank r is r plus the number of present labels below it.
    steps = present - torch.arange(present.shape[0], device=present.device)
    absent = ranks + torch.searchsorted(steps, ranks, right=True)
    return ChosenLabels(present, absent, number / size if size else 1.0)


def _distinct(size: int, below: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """A uniformly random set of `size` different integers from 0 to `below` - 1."""
    if size == below:
        return torch.arange(below, device=device)
    if 2 * size > below:
        return torch.randperm(below, device=device, generator=generator)[:size]
    # Draws until enough differ: by symmetry every set is equally likely. The whole range is never touched.
    drawn = torch.empty(0, dtype=torch.int64, device=device)
    while drawn.shape[0] < size:
        more = torch.randint(below, (size - drawn.shape[0],), device=device, generator=generator)
        drawn = torch.cat([drawn, more]).unique()
    return drawn


def check_label_ids(
    label_ids: Tensor, num_labels: int | None = None, rows: int | None = None, name: str = "label_ids"
) -> None:
    """Raises ValueError unless these are label lists of `rows` examples: int64 (rows, K) from 0 to num_labels - 1, no
    label twice in a row, padded with -1. Values are read on CPU tensors only, and not while compiling."""
    expected = f"{name}: expected int64 label lists of shape ({'N' if rows is None else rows}, K), padded with -1"
    if not isinstance(label_ids, Tensor):
        raise ValueError(f"{expected}, got {type(label_ids).__name__}")
    if label_ids.dtype != torch.int64 or label_ids.ndim != 2 or rows not in (None, label_ids.shape[0]):
        raise ValueError(f"{expected}, got {label_ids.dtype} of shape {tuple(label_ids.shape)}")
    if label_ids.device.type != "cpu" or torch.compiler.is_compiling() or not label_ids.numel():
        return
    lowest, highest = label_ids.min().item(), label_ids.max().item()
    if lowest < -1 or (num_labels is not None and highest >= num_labels):
        bound = "" if num_labels is None else f" and below {num_labels}"
        raise ValueError(f"{expected}, of labels from 0{bound}, got {lowest if lowest < -1 else highest}")
    ascending = label_ids.sort(dim=1).values
    twice = (ascending[:, 1:] == ascending[:, :-1]) & (ascending[:, 1:] >= 0)
    if twice.any():
        raise ValueError(f"{expected}, got label {ascending[:, 1:][twice][0].item()} twice in a row")
