"""References other than the batch itself: momentum keys and a memory queue. Imports torch only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import check_ids, check_vectors


@dataclass(frozen=True, eq=False)
class References:
    """What the examples of a batch are contrasted with instead of each other, such as momentum keys and a queue.

    An anchor's own key and older copies of it, all references with its data set index, have weight 0: they are no
    positives of it and stay out of its denominator.

    Args:
        embeddings: (R, d) floating-point vectors, not normalised. They get no gradient. A queue that is not full gives
            its filled part alone.
        labels: (R, L) multi-hot labels where the batch has such; -100 or NaN where unknown.
        ids: (R,) int64 index of each reference in the data set, -1 where it has none.
        anchor_ids: (B,) int64 index of each example of the batch in the data set, -1 where it has none.
        label_ids: (R, K) int64 label lists, padded with -1, where the batch has such.
    """

    embeddings: Tensor
    labels: Tensor | None
    ids: Tensor
    anchor_ids: Tensor
    label_ids: Tensor | None = None

    def check(self, embeddings: Tensor) -> None:
        """Raises ValueError unless these are references for a batch of `embeddings` (B, d)."""
        check_vectors("references.embeddings", self.embeddings, columns=embeddings.shape[1])
        check_ids("references.ids", self.ids, self.embeddings.shape[0])
        check_ids("references.anchor_ids", self.anchor_ids, embeddings.shape[0])

    def comparable_ids(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Indices of anchors (B,) and references (R,) that are equal where both are the same example."""
        anchor_ids = self.anchor_ids.to(device)
        return torch.where(anchor_ids < 0, -2, anchor_ids), self.ids.to(device)
