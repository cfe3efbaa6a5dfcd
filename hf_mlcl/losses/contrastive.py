"""The named contrastive losses, each a rule that turns label sets into positive weights. Imports torch only.

Sources: "Multi-Label Contrastive Learning: A Comprehensive Study" (Audibert, Gauffre, Amini, arXiv 2412.00101) for
`proto`, `base`, `mscwrg` and `reg`; "Exploring Contrastive Learning for Long-Tailed Multi-Label Text Classification"
(same authors, arXiv 2404.08720) for `msc`; "Supervised Contrastive Learning" (Khosla et al., arXiv 2004.11362) for the
SupCon family; "MulSupCon" (Zhang & Wu, arXiv 2402.01613). The values agree with the authors' public code.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from . import affinity
from .base import ContrastiveLoss, positive_or_one
from .checks import check_number
from .kernel import AnchorGroup, PairBlock
from .label_sets import Comparison, LabelPairs, LabelSets


class ProtoLoss(ContrastiveLoss):
    """Contrasts each example with the label prototypes only, W_ij = 1/|Y_i| for its own labels (arXiv 2412.00101)."""

    uses_prototypes = True
    examples_are_references = False

    def example_rows(self, rows: slice, compared: Comparison) -> list[PairBlock]:
        labels = compared.anchors[rows]
        weights = labels.positives / positive_or_one(labels.sizes[:, None])
        return [(weights, None if labels.unknown is None else labels.unknown > 0)]

    def normalizer(self, labels: LabelSets) -> Tensor:
        return (labels.sizes > 0).sum()


class JaccardSupConLoss(ContrastiveLoss):
    """SupCon with positives weighted by the Jaccard index of the label sets (`base` of arXiv 2412.00101)."""

    def affinity(self, pairs: LabelPairs) -> Tensor:
        return affinity.jaccard(pairs)


class SupConAnyLoss(ContrastiveLoss):
    """SupCon whose positives share at least one label (after arXiv 2004.11362)."""

    def affinity(self, pairs: LabelPairs) -> Tensor:
        return affinity.shares_any(pairs)


class SupConAllLoss(ContrastiveLoss):
    """SupCon whose positives have the same label set (after arXiv 2004.11362).

    A pair that agrees on all labels known in both, with another label known in one of the two only, is left out.
    """

    def affinity(self, pairs: LabelPairs) -> Tensor:
        return affinity.shares_all(pairs)

    def could_be_positive(self, pairs: LabelPairs, possible: Tensor) -> Tensor:
        return pairs.equal() & (pairs.half_known() > 0)


class MultiSupConLoss(ContrastiveLoss):
    """SupCon whose positives have a Jaccard index of at least `threshold` and are weighted by it.

    A pair below the threshold that would reach it if every label that may be in common was in common is left out.
    """

    def __init__(self, temperature: float = 0.1, threshold: float = 0.5, learnable_temperature: bool = False) -> None:
        super().__init__(temperature, learnable_temperature)
        self.threshold = check_number("threshold", threshold, 0, 1)

    def affinity(self, pairs: LabelPairs) -> Tensor:
        jaccard = affinity.jaccard(pairs)
        return torch.where(jaccard >= self.threshold, jaccard, 0)

    def weights(self, pair_affinity: Tensor, pairs: LabelPairs) -> tuple[Tensor, ...]:
        return (pair_affinity / (pair_affinity > 0).sum(dim=1, keepdim=True).clamp(min=1),)

    def could_be_positive(self, pairs: LabelPairs, possible: Tensor) -> Tensor:
        highest = (pairs.common + possible) / (pairs.union() + possible).clamp(min=1)
        return (possible > 0) & (highest >= self.threshold)


class MulSupConLoss(ContrastiveLoss):
    """One SupCon term for each label of an anchor, averaged over all (anchor, label) pairs (arXiv 2402.01613)."""

    def affinity(self, pairs: LabelPairs) -> Tensor:
        return affinity.shares_any(pairs)

    def weights(self, pair_affinity: Tensor, pairs: LabelPairs) -> tuple[Tensor, ...]:
        balanced, _ = affinity.label_balanced_weights(pair_affinity, pairs, prototypes=False)
        return (balanced * pairs.anchors.sizes[:, None],)

    def normalizer(self, labels: LabelSets) -> Tensor:
        return labels.sizes.sum()


class MSCLoss(ContrastiveLoss):
    """Label-balanced contrast with examples, f_ij = 1/|Y_i ∪ Y_j|, which weigh `beta` in the denominator, and with the
    prototypes of the anchor's labels, f = 1: W_ij = 1/|Y_i| Σ_l f_ij / Σ_k f_ik [l ∈ Y_k] over the common labels l, so
    that each label of an anchor pulls equally (arXiv 2404.08720)."""

    uses_prototypes = True

    def __init__(self, temperature: float = 0.1, beta: float = 0.1, learnable_temperature: bool = False) -> None:
        super().__init__(temperature, learnable_temperature)
        self.beta = check_number("beta", beta, 0)

    def affinity(self, pairs: LabelPairs) -> Tensor:
        # Two empty label sets have an empty union; they share no label, so their weight is 0 whatever stands here.
        return 1 / pairs.union().clamp(min=1)

    def weights(self, pair_affinity: Tensor, pairs: LabelPairs) -> tuple[Tensor, ...]:
        return affinity.label_balanced_weights(pair_affinity, pairs, prototypes=True)

    def normalizer(self, labels: LabelSets) -> Tensor:
        return (labels.sizes > 0).sum()

    @property
    def example_weight(self) -> float:
        return self.beta


class MSCWRGLoss(ContrastiveLoss):
    """Label-balanced contrast in which prototypes are anchors, too: W_ij = 1/|Y_i| Σ_l f_ij / Σ_k f_ik [l ∈ Y_k] over
    the common labels l, with f_ij = (|Y_i ∩ Y_j| / |Y_j|)^alpha; the gradient is the value's (arXiv 2412.00101)."""

    uses_prototypes = True
    prototypes_are_anchors = True

    def __init__(self, temperature: float = 0.1, alpha: float = 1.0, learnable_temperature: bool = False) -> None:
        super().__init__(temperature, learnable_temperature)
        self.alpha = check_number("alpha", alpha, -float("inf"))

    def affinity(self, pairs: LabelPairs) -> Tensor:
        return affinity.covered_share(pairs, self.alpha)

    def weights(self, pair_affinity: Tensor, pairs: LabelPairs) -> tuple[Tensor, ...]:
        return affinity.label_balanced_weights(pair_affinity, pairs, prototypes=True)

    def could_be_positive(self, pairs: LabelPairs, possible: Tensor) -> Tensor:
        # With negative alpha, one label of the reference that the anchor is known to lack settles it.
        unsettled = pairs.reference_sizes == pairs.common if self.alpha < 0 else True
        return (possible > 0) & unsettled

    def prototype_rows(self, rows: slice, labels: LabelSets) -> list[PairBlock]:
        """The pairs of the prototypes `rows` as anchors with the examples, f = |Y_j|^-alpha where these have the
        label. Prototypes are no positives of each other."""
        sizes = labels.sizes.clamp(min=1)
        share = (sizes == 1).to(sizes) if self.alpha < 0 else sizes**-self.alpha
        pair_affinity = labels.positives.T[rows] * share
        weights = pair_affinity / positive_or_one(pair_affinity.sum(dim=1, keepdim=True))
        return [(weights, None if labels.unknown is None else labels.unknown.T[rows] > 0)]

    def anchor_groups(self, compared: Comparison) -> list[AnchorGroup]:
        references, prototypes = compared.references.positives.shape
        pair_rows = partial(self.prototype_rows, labels=compared.references)
        return [*super().anchor_groups(compared), AnchorGroup(prototypes, pair_rows, own=references)]


class RegLoss(MSCWRGLoss):
    """The study's own loss: W_ij = 1/|Y_i| Σ_l f_ij / Σ_k f_ik [l ∈ Y_k] over the common labels l, with
    f_ij = (|Y_i ∩ Y_j| / |Y_j|)^alpha; prototypes are anchors, too. Of the gradient of a positive pair only the pull
    is kept, dL/ds_ij = min(r_i sigma_ij - W_ij, 0), with r_i = Σ_j W_ij and the softmax sigma_ij: that is `mscwrg`
    without the part that pushes positives away (arXiv 2412.00101).

    Its gradient is not the gradient of its value: do not gradcheck it and do not select models by it.
    """

    drop_repulsion = True
