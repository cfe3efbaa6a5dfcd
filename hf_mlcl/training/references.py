"""What anchors are compared with: the examples of all processes, gathered with gradient. Imports the losses."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hf_mlcl.losses import References
from hf_mlcl.losses.kernel import rows_per_block


class _Gather(torch.autograd.Function):
    """All-gather whose backward gives each process the gradient of its own rows, times the number of processes.

    Every process computes the whole loss, so the gradient it holds for its own rows is already complete, and the
    backward pass needs no communication; data-parallel training then averages parameters' gradients over processes,
    which the factor undoes. Parameters used after the gather (prototypes) have the complete gradient everywhere, and
    the average leaves it as it is.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int] | None) -> Tensor:
        rank = dist.get_rank()
        ctx.start, ctx.rows = rank * rows.shape[0] if sizes is None else sum(sizes[:rank]), rows.shape[0]
        return gather_rows(rows, sizes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.start : ctx.start + ctx.rows] * dist.get_world_size(), None


def gather_rows(rows: Tensor, sizes: list[int] | None = None) -> Tensor:
    """Concatenates the rows of all processes, in the order of their ranks, without gradient.

    Args:
        rows: (N, ...) of one dtype on all processes.
        sizes: How many rows each process has; None where all have equally many. Shorter parts travel padded.
    """
    sizes = [rows.shape[0]] * dist.get_world_size() if sizes is None else sizes
    longest = max(sizes)
    if longest == 0:
        return rows.detach()
    padding = rows.new_zeros(longest - rows.shape[0], *rows.shape[1:])
    parts = [rows.new_empty(longest, *rows.shape[1:]) for _ in sizes]
    # The call that fills one tensor has another name in recent releases of torch, and the old one warns.
    dist.all_gather(parts, torch.cat([rows, padding]))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def gather_references(*vectors: Tensor, labels: Tensor, equal_parts: bool = True) -> tuple[Tensor, ...]:
    """The references of a step: vectors (B, ...) with gradient, such as embeddings or logits, and labels (B, L) of all
    processes, in the order of their ranks.

    Every process then computes the whole loss: its value is that of the union of all parts, and so is the gradient of
    every parameter under data-parallel training, which averages over processes. That holds for means over examples or
    known labels, too, of which each process may hold another number. In one process the arguments come back as they
    are.

    Args:
        vectors: (B, ...) tensors; each is moved once.
        labels: (B, L) labels of one dtype on all processes.
        equal_parts: Whether B is the same on all processes. Where it is not, or may be 0, the sizes are exchanged
            first, for which the device is waited for.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return (*vectors, labels)
    sizes = None
    if not equal_parts:
        size = torch.tensor([labels.shape[0]], device=labels.device)
        sizes = gather_rows(size).tolist()
    return (*(_Gather.apply(rows, sizes) for rows in vectors), gather_rows(labels, sizes))


def positive_statistics(labels: Tensor, references: References | None = None) -> dict[str, Tensor]:
    """How many positives a batch offers: labels (B, L), -100 or NaN where unknown -> scalars for the log.

    `positives_per_anchor` counts the other examples that share a label with a labelled example, on average;
    `anchors_without_positives` is the share of labelled examples for which there is none. The other examples are those
    of the batch, or the `references` given.
    """
    targets = others = (labels > 0).float()
    anchor_ids = ids = torch.arange(len(targets), device=targets.device)
    if references is not None:
        anchor_ids, ids = references.comparable_ids(labels.device)
        assert references.labels is not None
        others = (references.labels > 0).float()
    positives = targets.new_zeros(len(targets))
    # As the kernel does, some anchors at a time: the matrix of all pairs may be larger than all else.
    size = rows_per_block(max(1, len(others)), targets.device)
    for start in range(0, len(targets), size):
        rows = slice(start, start + size)
        shared = targets[rows] @ others.T > 0
        positives[rows] = (shared & (anchor_ids[rows, None] != ids)).sum(1).float()
    anchors = targets.sum(1) > 0
    count = anchors.sum().clamp(min=1)
    return {
        "positives_per_anchor": (positives * anchors).sum() / count,
        "anchors_without_positives": (anchors & (positives == 0)).sum() / count,
    }
