"""The heads on an encoder, what a model returns, and which labels scores choose. Imports torch and transformers.

Flat on purpose: this file travels with a checkpoint beside `modeling_mlcl.py`.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput


@dataclass
class MLCLOutput(ModelOutput):
    """What a forward pass returns.

    Args:
        loss: Scalar, given labels: the objective on this batch.
        logits: (B, L) scores of the labels; their sigmoid is the probability. None with `output_logits=False`.
        embeddings: (B, projection_dim) projections, not normalised.
        features: (B, feature_dim) pooled encoder outputs.
        prototypes: (L, projection_dim) label vectors, not normalised.
        hidden_states: As the encoder gives them, with `output_hidden_states=True`.
        attentions: As the encoder gives them, with `output_attentions=True`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    embeddings: Tensor | None = None
    features: Tensor | None = None
    prototypes: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class MLCLPrototypes(nn.Module):
    """One trainable vector a label: a module, so that adapters and sharding see it; its forward gives the vectors."""

    def __init__(self, num_labels: int, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_labels, dimension))

    def forward(self) -> Tensor:
        # A copy, not the parameter: data parallelism takes a parameter among the outputs for an unused one, and
        # sharding frees it after the forward pass.
        return self.weight.clone()


class MLCLProjection(nn.Module):
    """The study's projection head: Linear(h, h), ReLU, Linear(h, d)."""

    def __init__(self, feature_dim: int, projection_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(feature_dim, feature_dim)
        self.output = nn.Linear(feature_dim, projection_dim)

    def forward(self, features: Tensor) -> Tensor:
        return self.output(torch.relu(self.hidden(features)))


def spread_prototypes(embeddings: Tensor) -> Tensor:
    """Prototypes (L, d) from the embeddings (L, d) of the labels' names: centred, with the length Xavier gives.

    Embeddings of short texts lie in a narrow cone. Prototypes in it would all but coincide, and at the usual learning
    rates they move too little to leave it; without the labels' mean, what is left is how the labels differ.
    A label whose embedding is the mean of all, such as that of an unknown word among unknown words, gets zeros.
    """
    labels, dimension = embeddings.shape
    centred = embeddings - embeddings.mean(0) if labels > 1 else embeddings
    lengths = centred.norm(dim=1, keepdim=True)
    told_apart = lengths > 1e-4 * embeddings.norm(dim=1, keepdim=True)
    return torch.where(told_apart, centred / lengths, 0) * math.sqrt(2 * dimension / (labels + dimension))


@torch.no_grad()
def add_rows(head: nn.Linear | MLCLPrototypes, count: int) -> None:
    """Adds rows for new labels to prototypes (Xavier) or to a classifier (zero, with the score 0.01)."""
    weight = head.weight
    total, dimension = weight.shape[0] + count, weight.shape[1]
    if isinstance(head, nn.Linear):
        rows = weight.new_zeros(count, dimension)
        # The prior of rare labels from which focal loss starts (arXiv 1708.02002, 4.1).
        bias = torch.cat([head.bias, head.bias.new_full((count,), math.log(0.01 / 0.99))])
        head.bias, head.out_features = nn.Parameter(bias, requires_grad=head.bias.requires_grad), total
    else:
        bound = math.sqrt(6 / (total + dimension))
        rows = torch.empty(count, dimension).uniform_(-bound, bound).to(weight)
    head.weight = nn.Parameter(torch.cat([weight, rows]), requires_grad=weight.requires_grad)


def _limits(thresholds: Any, num_labels: int) -> Tensor:
    """Thresholds on probabilities, 1 or L numbers, as a float32 tensor; 0.5 for None. ValueError for anything else."""
    try:
        limits = torch.as_tensor(0.5 if thresholds is None else thresholds, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"threshold: expected 1 or {num_labels} numbers, got {thresholds!r}") from None
    if limits.ndim > 1 or limits.numel() not in (1, num_labels):
        raise ValueError(f"threshold: expected 1 or {num_labels} numbers, got {limits.numel()}")
    wrong = limits[~((limits >= 0) & (limits <= 1))]  # NaN too
    if wrong.numel():
        raise ValueError(f"threshold: expected numbers from 0 to 1, got {wrong[0].item():g}")
    return limits


def choose_labels(scores: Tensor, thresholds: Any, min_labels: int, top_k: int) -> list[list[int]]:
    """The labels of each row of scores (B, L): those that reach their thresholds (1 or L), best score first.

    At least `min_labels` of them, also below the thresholds, and at most `top_k`. ValueError for other thresholds.
    """
    limits = _limits(thresholds, scores.shape[1])
    chosen = []
    for row, passed in zip(scores, scores >= limits, strict=True):
        ids = passed.nonzero().flatten()  # mostly few of very many, so that not all are sorted
        missing = min_labels - len(ids)
        if missing > 0:
            others = row.masked_fill(passed, -torch.inf)
            best = (others >= others.topk(missing).values[-1]).nonzero().flatten()
            ids = torch.cat([ids, _best_first(best, others)[:missing]]).sort().values
        chosen.append(_best_first(ids, row)[:top_k].tolist())
    return chosen


def _best_first(ids: Tensor, row: Tensor) -> Tensor:
    """Ascending ids by falling score; among equal scores the lower id comes first."""
    return ids[row[ids].argsort(descending=True, stable=True)]
