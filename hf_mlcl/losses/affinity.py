"""Label sets -> how alike two examples are (affinity f_ij) and positive weights W_ij. Imports torch only.

Every function takes the pairs of n anchors and M references and returns (n, M).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .label_sets import LabelPairs


def jaccard(pairs: LabelPairs) -> Tensor:
    """|Y_i ∩ Y_j| / |Y_i ∪ Y_j|; 0 where both label sets are empty."""
    return pairs.common / pairs.union().clamp(min=1)


def shares_any(pairs: LabelPairs) -> Tensor:
    """1 where the two label sets intersect."""
    return (pairs.common > 0).to(pairs.common)


def shares_all(pairs: LabelPairs) -> Tensor:
    """1 where the two label sets are equal and not empty, and no label is known in one of the two only."""
    same = pairs.equal() & (pairs.common > 0)
    if pairs.possible is not None:
        same &= pairs.half_known() == 0
    return same.to(pairs.common)


def covered_share(pairs: LabelPairs, alpha: float) -> Tensor:
    """(|Y_i ∩ Y_j| / |Y_j|)^alpha where the sets overlap; for negative alpha its limit 1[∅ ≠ Y_j ⊆ Y_i]."""
    if alpha == 0:
        return shares_any(pairs)
    share = pairs.common / pairs.reference_sizes.clamp(min=1)
    return (share == 1).to(share) if alpha < 0 else share.pow_(alpha)


def label_balanced_weights(affinity: Tensor, pairs: LabelPairs, prototypes: bool) -> tuple[Tensor, Tensor]:
    """Positive weights in which each label of the anchor pulls equally much, however many references carry it.

    W_ij = (1/|Y_i|) Σ_{l ∈ Y_i ∩ Y_j} f_ij / N_il with N_il = Σ_j f_ij Y_jl, over known labels alone.

    Args:
        affinity: (n, M) affinities f_ij between examples, 0 for an anchor itself.
        pairs: The pairs of the n anchors and M references.
        prototypes: Whether the L prototypes are references as well, each with affinity 1 to the anchors that carry it.

    Returns:
        Weights on the examples (n, M) and the weights `Y_il / (|Y_i| N_il)` that prototypes get (n, L).
    """
    anchor_labels, reference_labels = pairs.anchors.positives, pairs.references.positives
    label_mass = affinity @ reference_labels
    if prototypes:
        label_mass = label_mass + anchor_labels
    sizes = pairs.anchors.sizes[:, None].clamp(min=1)
    # A label that only the anchor itself carries has no mass, and no positive.
    share = torch.where(label_mass > 0, anchor_labels / (sizes * label_mass), 0)
    return (share @ reference_labels.T).mul_(affinity), share
