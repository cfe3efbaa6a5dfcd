"""The named contrastive losses, each a rule that turns label sets into positive weights. Imports torch only.

Sources: "Multi-Label Contrastive Learning: A Comprehensive Study" (Audibert, Gauffre, Amini, arXiv 2412.00101) for
`proto`, `base`, `mscwrg` and `reg`; "Exploring Contrastive Learning for Long-Tailed Multi-Label Text Classification"
(same authors, arXiv 2404.08720) for `msc`; "Supervised Contrastive Learning" (Khosla et al., arXiv 2004.11362) for the
SupCon family; "MulSupCon" (Zhang & Wu, arXiv 2402.01613). The values agree with the authors' public code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import affinity
from .checks import check_labels, check_number, check_vectors
from .kernel import PairRows, weighted_contrast
from .label_sets import LabelPairs, LabelSets


def normalize(vectors: Tensor) -> Tensor:
    """L2-normalised rows; a zero row stays zero and gets a zero gradient instead of a huge one."""
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors * torch.where(norms > 0, 1 / norms.clamp(min=torch.finfo(vectors.dtype).tiny), 0)


class ContrastiveLoss(nn.Module):
    """Weighted contrast between examples; a subclass says which pairs are positives and how much.

    Called as `loss(embeddings, labels, prototypes=None)`; computed in float32 (float64 for float64 embeddings), also
    under autocast.

    Unknown labels are masked. Two examples are compared on the labels known in both. A pair with no positive weight
    that an unknown label could turn into a positive is left out of the denominator; so is an example and the prototype
    of a label unknown in it. A label unknown in both examples says nothing about them. Every count of labels and of
    anchors is one of known positives. So an example all of whose labels are unknown might as well not be there, and a
    column unknown in all examples neither (but its prototype stays a negative of other prototypes).

    Args:
        embeddings: (B, d) floating-point vectors, not normalised.
        labels: (B, L) multi-hot labels, bool, int or float; -100 or NaN where unknown. An example known to have no
            label is no anchor but a negative.
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

    def example_rows(self, rows: slice, labels: LabelSets) -> tuple[Tensor, Tensor | None]:
        """Positive weights (n, references) of the examples `rows`, and the pairs that are left out, if any."""
        pairs = LabelPairs(labels.rows(rows), labels)
        pair_affinity = self.affinity(pairs)
        pair_affinity.diagonal(offset=rows.start).zero_()
        weights = self.weights(pair_affinity, pairs)
        if labels.unknown is None or pairs.possible is None:
            return weights, None
        left_out = (weights[:, : labels.positives.shape[0]] == 0) & self.could_be_positive(pairs, pairs.possible)
        return weights, torch.cat([left_out, labels.unknown[rows] > 0], dim=1) if self.uses_prototypes else left_out

    def affinity(self, pairs: LabelPairs) -> Tensor:
        """How alike two label sets are: n anchors, B examples -> (n, B)."""
        raise TypeError(f"{type(self).__name__} defines no affinity")

    def weights(self, pair_affinity: Tensor, pairs: LabelPairs) -> Tensor:
        """Affinities (n, B) -> positive weights (n, references); by default the rows are normalised to sum 1."""
        return pair_affinity / _positive_or_one(pair_affinity.sum(dim=1, keepdim=True))

    def could_be_positive(self, pairs: LabelPairs, possible: Tensor) -> Tensor:
        """Which pairs (n, B) without a weight unknown labels could turn into positives; by default, where one of the
        two has a label that the other may have: `possible` (n, B) counts these."""
        return possible > 0

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
                raise ValueError(f"prototypes: expected a tensor of shape (L, d) for {type(self).__name__}, got None")
            check_vectors("prototypes", prototypes, columns=embeddings.shape[1])
            masked = check_labels(labels, embeddings.shape[0], prototypes.shape[0])
        else:
            masked = check_labels(labels, embeddings.shape[0])

        with torch.autocast(embeddings.device.type, enabled=False):
            dtype = torch.promote_types(embeddings.dtype, torch.float32)
            targets = LabelSets.from_labels(labels.to(embeddings.device), dtype, masked)
            examples = normalize(embeddings.to(dtype))
            vectors = (
                examples[:0] if not self.uses_prototypes or prototypes is None else normalize(prototypes.to(dtype))
            )
            everything = torch.cat([examples, vectors]) if self.uses_prototypes else examples
            return weighted_contrast(
                everything if self.prototypes_are_anchors else examples,
                everything if self.examples_are_references else vectors,
                self._pair_rows(targets),
                temperature=self.temperature,
                denominator_weights=self.denominator_weights(targets.positives),
                normalizer=self.normalizer(targets.positives),
                exclude_self=self.examples_are_references,
                drop_repulsion=self.drop_repulsion,
            )

    def _pair_rows(self, labels: LabelSets) -> PairRows:
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

    def example_rows(self, rows: slice, labels: LabelSets) -> tuple[Tensor, Tensor | None]:
        positives = labels.positives[rows]
        left_out = None if labels.unknown is None else labels.unknown[rows] > 0
        return positives / _positive_or_one(positives.sum(dim=1, keepdim=True)), left_out

    def normalizer(self, labels: Tensor) -> Tensor:
        return _labelled(labels)


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

    def __init__(self, temperature: float = 0.1, threshold: float = 0.5) -> None:
        super().__init__(temperature)
        self.threshold = check_number("threshold", threshold, 0, 1)

    def affinity(self, pairs: LabelPairs) -> Tensor:
        jaccard = affinity.jaccard(pairs)
        return torch.where(jaccard >= self.threshold, jaccard, 0)

    def weights(self, pair_affinity: Tensor, pairs: LabelPairs) -> Tensor:
        return pair_affinity / (pair_affinity > 0).sum(dim=1, keepdim=True).clamp(min=1)

    def could_be_positive(self, pairs: LabelPairs, possible: Tensor) -> Tensor:
        highest = (pairs.common + possible) / (pairs.union() + possible).clamp(min=1)
        return (possible > 0) & (highest >= self.threshold)


class MulSupConLoss(ContrastiveLoss):
    """One SupCon term for each label of an anchor, averaged over all (anchor, label) pairs (arXiv 2402.01613)."""

    def affinity(self, pairs: LabelPairs) -> Tensor:
        return affinity.shares_any(pairs)

    def weights(self, pair_affinity: Tensor, pairs: LabelPairs) -> Tensor:
        balanced, _ = affinity.label_balanced_weights(pair_affinity, pairs, prototypes=False)
        return balanced * pairs.anchors.positives.sum(dim=1, keepdim=True)

    def normalizer(self, labels: Tensor) -> Tensor:
        return labels.sum()


class MSCLoss(ContrastiveLoss):
    """Label-balanced contrast with examples, weighing `beta` in the denominator, and prototypes (arXiv 2404.08720)."""

    uses_prototypes = True

    def __init__(self, temperature: float = 0.1, beta: float = 0.1) -> None:
        super().__init__(temperature)
        self.beta = check_number("beta", beta, 0)

    def affinity(self, pairs: LabelPairs) -> Tensor:
        # Two empty label sets have an empty union; they share no label, so their weight is 0 whatever stands here.
        return 1 / pairs.union().clamp(min=1)

    def weights(self, pair_affinity: Tensor, pairs: LabelPairs) -> Tensor:
        return torch.cat(affinity.label_balanced_weights(pair_affinity, pairs, prototypes=True), dim=1)

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

    def affinity(self, pairs: LabelPairs) -> Tensor:
        return affinity.covered_share(pairs, self.alpha)

    def weights(self, pair_affinity: Tensor, pairs: LabelPairs) -> Tensor:
        return torch.cat(affinity.label_balanced_weights(pair_affinity, pairs, prototypes=True), dim=1)

    def could_be_positive(self, pairs: LabelPairs, possible: Tensor) -> Tensor:
        # With negative alpha, one label of the reference that the anchor is known to lack settles it.
        unsettled = pairs.reference_sizes == pairs.common if self.alpha < 0 else True
        return (possible > 0) & unsettled

    def prototype_rows(self, rows: slice, labels: LabelSets) -> tuple[Tensor, Tensor | None]:
        """Positive weights (n, B + L) of the prototypes `rows`, f = |Y_j|^-alpha on the examples with that label, and
        the pairs that are left out, if any."""
        sizes = labels.positives.sum(dim=1).clamp(min=1)
        share = (sizes == 1).to(sizes) if self.alpha < 0 else sizes**-self.alpha
        pair_affinity = labels.positives.T[rows] * share
        on_examples = pair_affinity / _positive_or_one(pair_affinity.sum(dim=1, keepdim=True))
        on_prototypes = on_examples.new_zeros(on_examples.shape[0], labels.positives.shape[1])
        weights = torch.cat([on_examples, on_prototypes], dim=1)
        if labels.unknown is None:
            return weights, None
        return weights, torch.cat([labels.unknown.T[rows], on_prototypes], dim=1) > 0

    def _pair_rows(self, labels: LabelSets) -> PairRows:
        examples = labels.positives.shape[0]

        def rows_of(rows: slice) -> tuple[Tensor, Tensor | None]:
            parts = []
            if rows.start < examples:
                parts.append(self.example_rows(slice(rows.start, min(rows.stop, examples)), labels))
            if rows.stop > examples:
                first = max(rows.start, examples) - examples
                parts.append(self.prototype_rows(slice(first, rows.stop - examples), labels))
            if len(parts) == 1:
                return parts[0]
            (above, left_out_above), (below, left_out_below) = parts
            weights = torch.cat([above, below])
            if left_out_above is None or left_out_below is None:
                return weights, None
            return weights, torch.cat([left_out_above, left_out_below])

        return rows_of


class RegLoss(MSCWRGLoss):
    """The study's own loss: `mscwrg` without the part of the gradient that pushes positives away (arXiv 2412.00101).

    Its gradient is not the gradient of its value: do not gradcheck it and do not select models by it.
    """

    drop_repulsion = True
