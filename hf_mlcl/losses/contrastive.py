"""The named contrastive losses, each a rule that turns label sets into positive weights. Imports torch only.

Sources: "Multi-Label Contrastive Learning: A Comprehensive Study" (Audibert, Gauffre, Amini, arXiv 2412.00101) for
`proto`, `base`, `mscwrg` and `reg`; "Exploring Contrastive Learning for Long-Tailed Multi-Label Text Classification"
(same authors, arXiv 2404.08720) for `msc`; "Supervised Contrastive Learning" (Khosla et al., arXiv 2004.11362) for the
SupCon family; "MulSupCon" (Zhang & Wu, arXiv 2402.01613). The values agree with the authors' public code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import affinity
from .checks import check_labels, check_number, check_vectors
from .kernel import weighted_contrast


def normalize(vectors: Tensor) -> Tensor:
    """L2-normalised rows; a zero row stays zero and gets a zero gradient instead of a huge one."""
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors * torch.where(norms > 0, 1 / norms.clamp(min=torch.finfo(vectors.dtype).tiny), 0)


class ContrastiveLoss(nn.Module):
    """Weighted contrast between examples; a subclass says which pairs are positives and how much.

    Called as `loss(embeddings, labels, prototypes=None)`; computed in float32 (float64 for float64 embeddings), also
    under autocast.

    Args:
        embeddings: (B, d) floating-point vectors, not normalised.
        labels: (B, L) multi-hot labels, bool, int or float. An example without a label is no anchor but a negative.
        prototypes: (L, d) label vectors, not normalised; ignored by losses that have no use for them.

    Returns:
        A scalar; 0 with zero gradients for a batch without a positive pair.

    Raises:
        ValueError: For wrong shapes or values, or where a loss that needs prototypes gets none.
    """

    uses_prototypes = False
    prototypes_are_anchors = False
    examples_are_references = True
    drop_repulsion = False

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = check_number("temperature", temperature, 0, open_low=True)

    def example_rows(self, rows: slice, labels: Tensor) -> Tensor:
        """Positive weights (n, references) of the examples `rows`; `labels` is (B, L) in floating point."""
        pair_affinity = self.affinity(labels[rows], labels)
        pair_affinity.diagonal(offset=rows.start).zero_()
        return self.weights(pair_affinity, labels[rows], labels)

    def affinity(self, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        """How alike two label sets are: (n, L), (B, L) -> (n, B)."""
        raise TypeError(f"{type(self).__name__} defines no affinity")

    def weights(self, pair_affinity: Tensor, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        """Affinities (n, B) -> positive weights (n, references); by default the rows are normalised to sum 1."""
        return pair_affinity / _positive_or_one(pair_affinity.sum(dim=1, keepdim=True))

    def normalizer(self, labels: Tensor) -> Tensor | None:
        """What the sum over anchors is divided by; None is the number of anchors with a positive."""
        return None

    def denominator_weights(self, labels: Tensor) -> Tensor | None:
        """Weight (references,) of each reference in the denominator; None is 1 for all."""
        return None

    def forward(self, embeddings: Tensor, labels: Tensor, prototypes: Tensor | None = None) -> Tensor:
        check_vectors("embeddings", embeddings)
        if self.uses_prototypes:
            if prototypes is None:
                raise ValueError(f"prototypes: {type(self).__name__} needs prototypes of shape (L, d), got None")
            check_vectors("prototypes", prototypes, columns=embeddings.shape[1])
            check_labels(labels, embeddings.shape[0], prototypes.shape[0])
        else:
            check_labels(labels, embeddings.shape[0])

        with torch.autocast(embeddings.device.type, enabled=False):
            dtype = torch.promote_types(embeddings.dtype, torch.float32)
            targets = labels.to(device=embeddings.device, dtype=dtype)
            examples = normalize(embeddings.to(dtype))
            vectors = (
                examples[:0] if not self.uses_prototypes or prototypes is None else normalize(prototypes.to(dtype))
            )
            everything = torch.cat([examples, vectors]) if self.uses_prototypes else examples
            return weighted_contrast(
                everything if self.prototypes_are_anchors else examples,
                everything if self.examples_are_references else vectors,
                self._positive_rows(targets),
                temperature=self.temperature,
                denominator_weights=self.denominator_weights(targets),
                normalizer=self.normalizer(targets),
                exclude_self=self.examples_are_references,
                drop_repulsion=self.drop_repulsion,
            )

    def _positive_rows(self, labels: Tensor) -> Callable[[slice], Tensor]:
        return lambda rows: self.example_rows(rows, labels)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in vars(self).items() if isinstance(value, float))


def _positive_or_one(sums: Tensor) -> Tensor:
    return torch.where(sums > 0, sums, 1)


def _labelled(labels: Tensor) -> Tensor:
    return (labels.sum(dim=1) > 0).sum()


class ProtoLoss(ContrastiveLoss):
    """Contrasts each example with the label prototypes only; its own labels pull equally (arXiv 2412.00101)."""

    uses_prototypes = True
    examples_are_references = False

    def example_rows(self, rows: slice, labels: Tensor) -> Tensor:
        return labels[rows] / _positive_or_one(labels[rows].sum(dim=1, keepdim=True))

    def normalizer(self, labels: Tensor) -> Tensor:
        return _labelled(labels)


class JaccardSupConLoss(ContrastiveLoss):
    """SupCon with positives weighted by the Jaccard index of the label sets (`base` of arXiv 2412.00101)."""

    def affinity(self, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        return affinity.jaccard(anchor_labels, labels)


class SupConAnyLoss(ContrastiveLoss):
    """SupCon whose positives share at least one label (after arXiv 2004.11362)."""

    def affinity(self, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        return affinity.shares_any(anchor_labels, labels)


class SupConAllLoss(ContrastiveLoss):
    """SupCon whose positives have the same label set (after arXiv 2004.11362)."""

    def affinity(self, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        return affinity.shares_all(anchor_labels, labels)


class MultiSupConLoss(ContrastiveLoss):
    """SupCon whose positives have a Jaccard index of at least `threshold` and are weighted by it."""

    def __init__(self, temperature: float = 0.1, threshold: float = 0.5) -> None:
        super().__init__(temperature)
        self.threshold = check_number("threshold", threshold, 0, 1)

    def affinity(self, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        jaccard = affinity.jaccard(anchor_labels, labels)
        return torch.where(jaccard >= self.threshold, jaccard, 0)

    def weights(self, pair_affinity: Tensor, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        return pair_affinity / (pair_affinity > 0).sum(dim=1, keepdim=True).clamp(min=1)


class MulSupConLoss(ContrastiveLoss):
    """One SupCon term for each label of an anchor, averaged over all (anchor, label) pairs (arXiv 2402.01613)."""

    def affinity(self, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        return affinity.shares_any(anchor_labels, labels)

    def weights(self, pair_affinity: Tensor, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        balanced, _ = affinity.label_balanced_weights(pair_affinity, anchor_labels, labels, prototypes=False)
        return balanced * anchor_labels.sum(dim=1, keepdim=True)

    def normalizer(self, labels: Tensor) -> Tensor:
        return labels.sum()


class MSCLoss(ContrastiveLoss):
    """Label-balanced contrast with examples, weighing `beta` in the denominator, and prototypes (arXiv 2404.08720)."""

    uses_prototypes = True

    def __init__(self, temperature: float = 0.1, beta: float = 0.1) -> None:
        super().__init__(temperature)
        self.beta = check_number("beta", beta, 0)

    def affinity(self, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        # Two empty label sets have an empty union; they share no label, so their weight is 0 whatever stands here.
        return 1 / affinity.union(anchor_labels, labels).clamp(min=1)

    def weights(self, pair_affinity: Tensor, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        return torch.cat(affinity.label_balanced_weights(pair_affinity, anchor_labels, labels, prototypes=True), dim=1)

    def normalizer(self, labels: Tensor) -> Tensor:
        return _labelled(labels)

    def denominator_weights(self, labels: Tensor) -> Tensor:
        return torch.cat([labels.new_full((labels.shape[0],), self.beta), labels.new_ones(labels.shape[1])])


class MSCWRGLoss(ContrastiveLoss):
    """Label-balanced contrast in which prototypes are anchors too; the gradient is the value's (arXiv 2412.00101)."""

    uses_prototypes = True
    prototypes_are_anchors = True

    def __init__(self, temperature: float = 0.1, alpha: float = 1.0) -> None:
        super().__init__(temperature)
        self.alpha = check_number("alpha", alpha, -float("inf"))

    def affinity(self, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        return affinity.covered_share(anchor_labels, labels, self.alpha)

    def weights(self, pair_affinity: Tensor, anchor_labels: Tensor, labels: Tensor) -> Tensor:
        return torch.cat(affinity.label_balanced_weights(pair_affinity, anchor_labels, labels, prototypes=True), dim=1)

    def prototype_rows(self, rows: slice, labels: Tensor) -> Tensor:
        """Positive weights (n, B + L) of the prototypes `rows`: f = |Y_j|^-alpha on the examples with that label."""
        sizes = labels.sum(dim=1).clamp(min=1)
        share = (sizes == 1).to(sizes) if self.alpha < 0 else sizes**-self.alpha
        pair_affinity = labels.T[rows] * share
        on_examples = pair_affinity / _positive_or_one(pair_affinity.sum(dim=1, keepdim=True))
        return torch.cat([on_examples, on_examples.new_zeros(on_examples.shape[0], labels.shape[1])], dim=1)

    def _positive_rows(self, labels: Tensor) -> Callable[[slice], Tensor]:
        examples = labels.shape[0]

        def rows_of(rows: slice) -> Tensor:
            parts = []
            if rows.start < examples:
                parts.append(self.example_rows(slice(rows.start, min(rows.stop, examples)), labels))
            if rows.stop > examples:
                first = max(rows.start, examples) - examples
                parts.append(self.prototype_rows(slice(first, rows.stop - examples), labels))
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return rows_of


class RegLoss(MSCWRGLoss):
    """The study's own loss: `mscwrg` without the part of the gradient that pushes positives away (arXiv 2412.00101).

    Its gradient is not the gradient of its value: do not gradcheck it and do not select models by it.
    """

    drop_repulsion = True
