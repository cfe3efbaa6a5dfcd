"""What anchors are compared with: the examples of all processes, gathered with gradient. Imports torch only."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _GatherEmbeddings(torch.autograd.Function):
    """All-gather whose backward gives each process the gradient of its own rows, times the number of processes.

    Every process computes the whole loss, so the gradient it holds for its own rows is already complete; data-parallel
    training then averages parameters' gradients over processes, which the factor undoes. Parameters used after the
    gather (prototypes) have the complete gradient everywhere, and the average leaves it as it is.
    """

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor) -> Tensor:
        ctx.rows = embeddings.shape[0]
        return gather_rows(embeddings)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        start = dist.get_rank() * ctx.rows
        return gradient[start : start + ctx.rows] * dist.get_world_size()


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenates the equally many rows of all processes, in the order of their ranks, without gradient."""
    gathered = rows.new_empty(dist.get_world_size() * rows.shape[0], *rows.shape[1:])
    dist.all_gather_into_tensor(gathered, rows.contiguous())
    return gathered


def gather_references(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The references of a step: embeddings (B, d) with gradient and labels (B, L) of all processes.

    Every process must hold equally many rows. In one process the arguments come back as they are.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return embeddings, labels
    return _GatherEmbeddings.apply(embeddings), gather_rows(labels)


def positive_statistics(labels: Tensor) -> dict[str, Tensor]:
    """How many positives a batch offers: labels (B, L) -> scalars for the log.

    `positives_per_anchor` counts the other examples that share a label with a labelled example, on average;
    `anchors_without_positives` is the share of labelled examples for which there is none.
    """
    targets = labels.float()
    positives = (targets @ targets.T > 0).float().fill_diagonal_(0).sum(1)
    anchors = targets.sum(1) > 0
    count = anchors.sum().clamp(min=1)
    return {
        "positives_per_anchor": (positives * anchors).sum() / count,
        "anchors_without_positives": (anchors & (positives == 0)).sum() / count,
    }
