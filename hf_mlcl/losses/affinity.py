"""Label sets -> how alike two examples are (affinity f_ij) and positive weights W_ij. Imports torch only.

Every function takes multi-hot labels in floating point: `anchor_labels` (n, L) and `reference_labels` (M, L), and
returns (n, M). Counts stay exact: 0/1 products sum to integers below 2**24.
"""

from __future__ import annotations

import torch
from torch import Tensor


def overlap(anchor_labels: Tensor, reference_labels: Tensor) -> Tensor:
    """|Y_i ∩ Y_j|, the number of labels in common."""
    return anchor_labels @ reference_labels.T


def union(anchor_labels: Tensor, reference_labels: Tensor) -> Tensor:
    """|Y_i ∪ Y_j|, the number of labels that at least one of the two has."""
    sizes = anchor_labels.sum(dim=1, keepdim=True) + reference_labels.sum(dim=1)
    return sizes - overlap(anchor_labels, reference_labels)


def jaccard(anchor_labels: Tensor, reference_labels: Tensor) -> Tensor:
    """|Y_i ∩ Y_j| / |Y_i ∪ Y_j|; 0 where both label sets are empty."""
    common = overlap(anchor_labels, reference_labels)
    sizes = anchor_labels.sum(dim=1, keepdim=True) + reference_labels.sum(dim=1)
    return common / (sizes - common).clamp(min=1)


def shares_any(anchor_labels: Tensor, reference_labels: Tensor) -> Tensor:
    """1 where the two label sets intersect."""
    return (overlap(anchor_labels, reference_labels) > 0).to(anchor_labels)


def shares_all(anchor_labels: Tensor, reference_labels: Tensor) -> Tensor:
    """1 where the two label sets are equal and not empty."""
    common = overlap(anchor_labels, reference_labels)
    equal = (common == anchor_labels.sum(dim=1, keepdim=True)) & (common == reference_labels.sum(dim=1))
    return (equal & (common > 0)).to(anchor_labels)


def covered_share(anchor_labels: Tensor, reference_labels: Tensor, alpha: float) -> Tensor:
    """(|Y_i ∩ Y_j| / |Y_j|)^alpha where the sets overlap; for negative alpha its limit 1[∅ ≠ Y_j ⊆ Y_i]."""
    common = overlap(anchor_labels, reference_labels)
    share = common / reference_labels.sum(dim=1).clamp(min=1)
    return (share == 1).to(share) if alpha < 0 else torch.where(common > 0, share**alpha, 0)


def label_balanced_weights(
    affinity: Tensor, anchor_labels: Tensor, reference_labels: Tensor, prototypes: bool
) -> tuple[Tensor, Tensor]:
    """Positive weights in which each label of the anchor pulls equally much, however many references carry it.

    W_ij = (1/|Y_i|) Σ_{l ∈ Y_i ∩ Y_j} f_ij / N_il with N_il = Σ_j f_ij Y_jl.

    Args:
        affinity: (n, M) affinities f_ij between examples, 0 for an anchor itself.
        anchor_labels: (n, L) multi-hot labels.
        reference_labels: (M, L) multi-hot labels.
        prototypes: Whether the L prototypes are references as well, each with affinity 1 to the anchors that carry it.

    Returns:
        Weights on the examples (n, M) and the weights `Y_il / (|Y_i| N_il)` that prototypes get (n, L).
    """
    label_mass = affinity @ reference_labels
    if prototypes:
        label_mass = label_mass + anchor_labels
    sizes = anchor_labels.sum(dim=1, keepdim=True).clamp(min=1)
    # A label that only the anchor itself carries has no mass, and no positive.
    share = torch.where(label_mass > 0, anchor_labels / (sizes * label_mass), 0)
    return affinity * (share @ reference_labels.T), share
