"""What is contrasted with beside the batch: a queue of past keys, and a momentum encoder that makes keys.

Source: "Momentum Contrast for Unsupervised Visual Representation Learning" (He et al., arXiv 1911.05722); with label
sets, "Exploring Contrastive Learning for Long-Tailed Multi-Label Text Classification" (arXiv 2404.08720).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Queue:
    """The keys, labels and data set indices of the last examples, the oldest first; empty at first.

    Args:
        size: How many it holds at most.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows: tuple[Tensor, ...] = ()  # keys (Q, d), labels (Q, L) int8 or lists (Q, K) int64, indices (Q,)

    def joined(self, *new: Tensor) -> tuple[Tensor, ...]:
        """The new rows, then those of the queue."""
        return tuple(map(_joined, new, self.rows)) if self.rows else new

    def push(self, *new: Tensor) -> None:
        """Appends rows; the oldest beyond `size` leave."""
        old = self.rows or tuple(rows[:0] for rows in new)
        kept = max(0, self.size - len(new[0]))
        self.rows = tuple(
            _joined(rows[max(0, len(rows) - kept) :], added[max(0, len(added) - self.size) :].detach())
            for rows, added in zip(old, new, strict=True)
        )


def _joined(first: Tensor, second: Tensor) -> Tensor:
    """One after the other; label lists that are not equally long are padded."""
    longest = max(first.shape[-1], second.shape[-1])
    if first.ndim == 2 and first.shape[1] != second.shape[1]:
        first, second = (nn.functional.pad(rows, (0, longest - rows.shape[1]), value=-1) for rows in (first, second))
    return torch.cat([first, second])


class MomentumEncoder:
    """A copy of a model that follows it slowly: after every step, weights = m * weights + (1 - m) * the model's.

    Its batch statistics are the model's. It is in evaluation mode: keys have no noise of dropout, and making them
    draws no random numbers. (MoCo's key encoder trains on, for the sake of batch normalisation.)

    Args:
        model: The model itself, loaded, without what data parallelism wraps around it.
        momentum: m.
    """

    def __init__(self, model: nn.Module, momentum: float) -> None:
        self.momentum = momentum
        self.model = copy.deepcopy(model)
        # accelerate's autocast is a `forward` of the instance, which in a copy would still run the original.
        for name in ("forward", "_original_forward"):
            self.model.__dict__.pop(name, None)
        self.model.requires_grad_(False)
        self.model.eval()

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """One step towards the model."""
        for weight, other in zip(self.model.parameters(), model.parameters(), strict=True):
            weight.lerp_(other, 1 - self.momentum)
        for statistic, current in zip(self.model.buffers(), model.buffers(), strict=True):
            statistic.copy_(current)

    @torch.no_grad()
    def keys(self, parts: list[dict[str, Any]]) -> Tensor:
        """Embeddings (B, d) of a batch that comes in parts."""
        return torch.cat([self.model(**part).embeddings for part in parts])


def compact_labels(labels: Tensor) -> Tensor:
    """Labels (B, L) as int8: 1, 0, and -100 where unknown."""
    unknown = (labels == -100) | (labels != labels)
    return torch.where(unknown, -100, (labels > 0).to(torch.int8)).to(torch.int8)
