"""`KeyQueue`: past embeddings that a batch is contrasted with, and the slow copy of the model that may make them.

Sources: "Momentum Contrast for Unsupervised Visual Representation Learning" (He et al., arXiv 1911.05722); with label
sets, "Exploring Contrastive Learning for Long-Tailed Multi-Label Text Classification" (arXiv 2404.08720).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hf_mlcl.data.collator import DATASET_INDEX
from hf_mlcl.losses import Keys
from hf_mlcl.losses.checks import UNKNOWN


class KeyQueue:
    """The keys, labels and dataset indices of the last examples of all processes, the oldest first; empty at first.

    Keys are embeddings without gradient. An example is never contrasted with a key of itself, however old.

    Args:
        size: How many keys of past batches it holds at most; the keys of the batch come before them.
        encoder: Makes the keys of a batch; without one they are the embeddings of the model.
    """

    def __init__(self, size: int, encoder: MomentumEncoder | None = None) -> None:
        self.size, self.encoder = size, encoder
        self.rows: tuple[Tensor, ...] = ()  # keys (Q, d), labels (Q, L) int8 or lists (Q, K) int64, indices (Q,)

    def keys_and_indices(self, outputs: Any, inputs: Mapping[str, Any]) -> list[Tensor]:
        """Keys (B, d) of this process's examples and their dataset indices (B,)."""
        if DATASET_INDEX not in inputs:
            raise ValueError(
                f"the memory queue needs the {DATASET_INDEX!r} of each example in the batch, which holds only "
                f"{', '.join(inputs)}"
            )
        embeddings = outputs.embeddings
        keys = embeddings.detach() if self.encoder is None else self.encoder.keys(inputs).to(embeddings.dtype)
        return [keys, inputs[DATASET_INDEX]]

    def join(self, keys: Tensor, indices: Tensor, *, labels: Tensor) -> Keys:
        """What a batch of all processes is contrasted with: its own keys, which join the queue, and those before them.

        Args:
            keys: (B, d).
            indices: (B,) int64 indices in the dataset.
            labels: Multi-hot (B, L), kept as int8, or (B, K) ids, int64.
        """
        new = keys, labels if labels.dtype == torch.int64 else _compact(labels), indices
        joined = tuple(map(_joined, new, self.rows)) if self.rows else new
        self.push(*new)
        return Keys(joined[0], joined[1], joined[2], anchor_ids=indices)

    def push(self, *new: Tensor) -> None:
        """Appends rows; the oldest beyond `size` leave."""
        old = self.rows or tuple(rows[:0] for rows in new)
        kept = max(0, self.size - len(new[0]))
        self.rows = tuple(
            _joined(rows[max(0, len(rows) - kept) :], added[max(0, len(added) - self.size) :].detach())
            for rows, added in zip(old, new, strict=True)
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        encoder = self.encoder
        return {"queue": self.rows, "momentum_encoder": None if encoder is None else encoder.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state_dict`."""
        if state["queue"]:
            self.push(*state["queue"])
        if self.encoder is not None and state["momentum_encoder"] is not None:
            self.encoder.model.load_state_dict(state["momentum_encoder"])


class MomentumEncoder:
    """A copy of a model that follows it slowly: after every step, weights = m * weights + (1 - m) * the model's.

    Its batch statistics are the model's. It is in evaluation mode: keys have no noise of dropout, and making them
    draws no random numbers. (MoCo's key encoder trains on, for the sake of batch normalisation.)

    Args:
        model: The model itself, loaded, without what data parallelism wraps around it.
        momentum: m.
        parts: Cuts a batch into the model's inputs, part by part.
        autocast: The context of forward passes.
    """

    def __init__(
        self,
        model: nn.Module,
        momentum: float,
        parts: Callable[[Mapping[str, Any]], Sequence[dict[str, Any]]],
        autocast: Callable[[], Any],
    ) -> None:
        self.momentum, self.parts, self.autocast = momentum, parts, autocast
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
    def keys(self, inputs: Mapping[str, Any]) -> Tensor:
        """Embeddings (B, d) of a batch."""
        with self.autocast():
            return torch.cat([self.model(**part).embeddings for part in self.parts(inputs)])


def _joined(first: Tensor, second: Tensor) -> Tensor:
    """One after the other; lists of label ids that are not equally long are padded."""
    longest = max(first.shape[-1], second.shape[-1])
    if first.ndim == 2 and first.shape[1] != second.shape[1]:
        first, second = (nn.functional.pad(rows, (0, longest - rows.shape[1]), value=-1) for rows in (first, second))
    return torch.cat([first, second])


def _compact(labels: Tensor) -> Tensor:
    """Labels (B, L) as int8: 1, 0, and -100 where missing."""
    unknown = (labels == UNKNOWN) | (labels != labels)
    return torch.where(unknown, UNKNOWN, (labels > 0).to(torch.int8)).to(torch.int8)
