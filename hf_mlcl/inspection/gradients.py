"""The gradient of a contrastive loss, pair by pair: what pulls, what pushes, what `reg` removes. Imports losses.

For a loss L = sum over anchors i and references j of pair terms (see `hf_mlcl.losses.kernel`), with similarities s_ij
= cosine / temperature, positive weights W_ij, r_i their sum, and the share sigma_ij of a reference in the denominator:

    dL/ds_ij = (r_i D_ij sigma_ij - W_ij) / n

A step against the gradient brings a pair closer where this is negative (pull) and apart where it is positive (push).
`reg` sets it to 0 where a positive would be pushed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_mlcl.evaluation.plots import GROUPS
from hf_mlcl.losses import ContrastiveLoss
from hf_mlcl.losses.base import normalize
from hf_mlcl.losses.checks import check_vectors
from hf_mlcl.losses.kernel import AnchorGroup
from hf_mlcl.losses.label_sets import Comparison, LabelSets

BINS = np.linspace(-1, 1, 41)
OVERLAPS = ("0", "1", "2", "3 or more")
FORCES = ("pull", "push", "repulsion")


@dataclass(frozen=True, eq=False)
class PairGradients:
    """What a contrastive loss does to each pair of A anchors and R references, in float64.

    Anchors and references are examples, prototypes, or examples followed by prototypes, as the loss has them.

    Attributes:
        anchors, references: (A, d) and (R, d) unit vectors.
        temperature: of the loss.
        weights: (A, R) positive weights W; a pair is a positive where its weight is above 0.
        shares: (A, R) D sigma; rows sum to 1, or to 0 for anchors without a positive, which have no gradient.
        gradients: (A, R) dL/ds, what training follows: for `reg` without the repulsion of positives.
        repulsion: (A, R) the part of dL/ds that pushes positives apart, 0 for negatives: removed by `reg`, contained
            in `gradients` of every other loss.
        removes_repulsion: whether the loss removes it.
        compared: (A, R) bool, the pairs that the loss looks at: of anchors with a positive, not an anchor with
            itself, not left out because of unknown labels.
        anchor_labels, reference_labels: (A, L) and (R, L), 1 where known to have the label; a prototype has its own.
        example_anchors, example_references: how many of the anchors and references are examples.
    """

    anchors: Tensor
    references: Tensor
    temperature: float
    weights: Tensor
    shares: Tensor
    gradients: Tensor
    repulsion: Tensor
    removes_repulsion: bool
    compared: Tensor
    anchor_labels: Tensor
    reference_labels: Tensor
    example_anchors: int
    example_references: int

    @property
    def cosines(self) -> Tensor:
        """(A, R) cosine similarities; s of the formulas is cosine / temperature."""
        return self.anchors @ self.references.T


def _all_pairs(groups: Sequence[AnchorGroup], similarities: Tensor) -> tuple[Tensor, Tensor]:
    """Positive weights (A, R) of all pairs, and which (A, R) are left out or are an anchor with itself."""
    weights, excluded, first = torch.zeros_like(similarities), torch.zeros_like(similarities, dtype=torch.bool), 0
    for group in groups:
        rows, column = slice(first, first + group.size), 0
        for block, left_out in group.pair_rows(slice(0, group.size)):
            columns = slice(column, column + block.shape[1])
            weights[rows, columns] = block
            if left_out is not None:
                excluded[rows, columns] = left_out
            column = columns.stop
        if group.own is not None:
            excluded[rows].diagonal(offset=group.own).fill_(True)
        first = rows.stop
    return weights, excluded


@torch.no_grad()
def pair_gradients(
    loss: nn.Module, embeddings: Tensor, labels: Tensor, prototypes: Tensor | None = None
) -> PairGradients:
    """The gradient that `loss(embeddings, labels, prototypes)` has for each pair; all pairs at once, so for one batch.

    Args:
        loss: a contrastive loss of `hf_mlcl.losses`.
        embeddings: (B, d) floating point, not normalised.
        labels: (B, L) multi-hot, -100 or NaN where unknown.
        prototypes: (L, d), for losses that use them.

    Raises:
        ValueError: no contrastive loss, or tensors that it does not take.
    """
    if not isinstance(loss, ContrastiveLoss):
        raise ValueError(f"loss: {type(loss).__name__} is no contrastive loss")
    check_vectors("embeddings", embeddings)
    sets = LabelSets.from_rows(labels, embeddings.shape[0]).to(embeddings.double())
    examples, number = normalize(embeddings.double()), embeddings.shape[0]
    vectors = examples[:0]
    if loss.uses_prototypes:
        if prototypes is None:
            raise ValueError(f"prototypes: {type(loss).__name__} needs a tensor of shape (L, d)")
        check_vectors("prototypes", prototypes, rows=labels.shape[1], columns=embeddings.shape[1])
        vectors = normalize(prototypes.double())
    everything = torch.cat([examples, vectors])
    own_labels = torch.eye(len(vectors), labels.shape[1], dtype=torch.float64, device=labels.device)
    all_labels = torch.cat([sets.positives, own_labels])
    anchors = slice(0, None if loss.prototypes_are_anchors else number)
    references = slice(0 if loss.examples_are_references else number, None)

    similarities = everything[anchors] @ everything[references].T / loss.temperature
    weights, excluded = _all_pairs(loss.anchor_groups(Comparison(sets, sets)), similarities)
    logits = similarities.masked_fill(excluded, -torch.inf)
    if loss.examples_are_references:
        logits[:, :number] += math.log(loss.example_weight) if loss.example_weight else -torch.inf
    row_sums = weights.sum(dim=1, keepdim=True)
    has_positive = row_sums > 0
    shares = torch.where(has_positive, torch.softmax(torch.where(has_positive, logits, 0), dim=1), 0)
    normalizer = loss.normalizer(sets)
    scale = 1 / (has_positive.sum() if normalizer is None else normalizer).clamp(min=1).double()
    gradients = (row_sums * shares - weights) * scale
    repulsion = torch.where(weights > 0, gradients.clamp(min=0), 0)
    return PairGradients(
        anchors=everything[anchors],
        references=everything[references],
        temperature=loss.temperature,
        weights=weights,
        shares=shares,
        gradients=gradients - repulsion if loss.drop_repulsion else gradients,
        repulsion=repulsion,
        removes_repulsion=loss.drop_repulsion,
        compared=has_positive & ((logits > -torch.inf) | (weights > 0)),
        anchor_labels=all_labels[anchors],
        reference_labels=all_labels[references],
        example_anchors=number,
        example_references=number if loss.examples_are_references else 0,
    )


def summarise_gradients(batches: Sequence[PairGradients], groups: Any) -> dict[str, Any]:
    """Sums of pulls and pushes over batches, by all that a pair can be told apart by.

    Every part holds, as a mean over the batches, `pull` (what brings positives together, a number of at least 0),
    `push` (what drives negatives apart), `repulsion` (what would drive positives apart: removed by `reg`, at work in
    other losses) and `pairs`. For each anchor pull = push + repulsion, removed or not.

    Args:
        batches: what `pair_gradients` gave for each batch.
        groups: (L,) 0 for head labels, 1 for medium, 2 for tail: `frequency_groups`.

    Returns:
        `total` (with `positives`, the number of positive pairs, and `repelled`, how many of them are repelled);
        `kinds`: by "anchor - reference"; `overlaps`: pairs of two examples by the number of labels in common;
        `similarity`: sums (40) by bins of the cosine (`edges`), positives and negatives apart; `labels`: arrays (L,),
        each force shared equally among the labels that a positive pair has in common, or among those of a negative
        reference; `groups`: the sums of head, medium and tail, with `labels` and `occurrences` (examples that have
        them); `removes_repulsion`, `batches`, `temperature`.

    Raises:
        ValueError: no batch.
    """
    if not batches:
        raise ValueError("batches: there are none")
    first, number = batches[0], len(batches)
    similarity = {name: np.zeros(len(BINS) - 1) for name in (*FORCES, "positives", "negatives")}
    by_label = {name: np.zeros(first.anchor_labels.shape[1]) for name in (*FORCES, "occurrences")}
    total: dict[str, float] = {}
    kinds: dict[str, dict[str, float]] = {}
    overlaps: dict[str, dict[str, float]] = {name: {} for name in OVERLAPS}
    for batch in batches:
        positive = batch.weights > 0
        negative = batch.compared & ~positive
        forces = {
            "pull": torch.where(positive, (-batch.gradients).clamp(min=0), 0),
            "push": torch.where(negative, batch.gradients, 0),
            "repulsion": batch.repulsion,
        }
        common = batch.anchor_labels @ batch.reference_labels.T
        examples = slice(0, batch.example_anchors), slice(0, batch.example_references)

        def add(part: dict[str, float], chosen: Tensor, **more: Tensor) -> None:
            for name, values in {**forces, "pairs": batch.compared, **more}.items():  # noqa: B023  # called at once
                part[name] = part.get(name, 0.0) + float((values * chosen).sum()) / number

        add(total, torch.ones_like(positive), positives=positive, repelled=batch.repulsion > 0)
        sides = [
            {"example": (0, examples_end), "prototype": (examples_end, len(side))}
            for side, examples_end in ((batch.anchors, examples[0].stop), (batch.references, examples[1].stop))
        ]
        for (anchor, rows), (reference, columns) in itertools.product(*(side.items() for side in sides)):
            chosen = torch.zeros_like(positive)
            chosen[slice(*rows), slice(*columns)] = True
            if chosen.any():
                add(kinds.setdefault(f"{anchor} - {reference}", {}), chosen)
        between = torch.zeros_like(positive)
        between[examples] = True
        for size, part in enumerate(overlaps.values()):
            chosen = between & batch.compared & (common.clamp(max=len(OVERLAPS) - 1) == size)
            add(part, chosen, cosine=batch.cosines)
        cosines = batch.cosines.clamp(-1, 1).cpu().numpy()
        for name, values in {**forces, "positives": positive.double(), "negatives": negative.double()}.items():
            similarity[name] += np.histogram(cosines, BINS, weights=values.cpu().numpy())[0] / number
        for name, force in forces.items():
            if name == "push":
                sizes = batch.reference_labels.sum(dim=1).clamp(min=1)
                share = (force / sizes).sum(dim=0) @ batch.reference_labels
            else:
                share = (batch.anchor_labels * ((force / common.clamp(min=1)) @ batch.reference_labels)).sum(dim=0)
            by_label[name] += share.cpu().numpy() / number
        by_label["occurrences"] += batch.anchor_labels[examples[0]].sum(dim=0).cpu().numpy() / number
    for part in overlaps.values():
        part["cosine"] /= part["pairs"] or 1.0
    members = np.asarray(groups)
    by_group = {
        name: {key: float(values[members == index].sum()) for key, values in by_label.items()}
        | {"labels": int((members == index).sum())}
        for index, name in enumerate(GROUPS)
    }
    return {
        "total": total,
        "kinds": kinds,
        "overlaps": overlaps,
        "similarity": {"edges": BINS.tolist()} | {name: values.tolist() for name, values in similarity.items()},
        "labels": {name: values.tolist() for name, values in by_label.items()},
        "groups": by_group,
        "removes_repulsion": first.removes_repulsion,
        "batches": number,
        "temperature": first.temperature,
    }
