"""What contrastive losses share: anchors, references, and the way from labels to the kernel. Imports torch only."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .checks import check_labels, check_number, check_vectors
from .kernel import AnchorGroup, PairBlock, weighted_contrast
from .label_sets import Comparison, LabelPairs, LabelSets
from .references import References


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

    With `references` the examples of the batch are contrasted with other examples, such as momentum keys and a memory
    queue, in place of each other; prototypes stay references, and where they are anchors (`reg`, `mscwrg`) they are
    contrasted with these references, too, and with each other. `proto`, which compares no examples, ignores them.

    Args:
        embeddings: (B, d) floating-point vectors, not normalised.
        labels: (B, L) multi-hot labels, bool, int or float; -100 or NaN where unknown. An example known to have no
            label is no anchor but a negative.
        prototypes: (L, d) label vectors, not normalised; ignored by losses that have no use for them.
        references: What to contrast the batch with; by default its own examples.

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

    @property
    def example_weight(self) -> float:
        """Weight of each example in the denominator; that of a prototype is 1."""
        return 1.0

    def affinity(self, pairs: LabelPairs) -> Tensor:
        """How alike two label sets are: n anchors, R examples as references -> (n, R)."""
        raise TypeError(f"{type(self).__name__} defines no affinity")

    def weights(self, pair_affinity: Tensor, pairs: LabelPairs) -> tuple[Tensor, ...]:
        """Affinities (n, R) -> positive weights on the examples (n, R) and, in losses that use them, on the
        prototypes (n, L); by default the rows are normalised to sum 1."""
        return (pair_affinity / positive_or_one(pair_affinity.sum(dim=1, keepdim=True)),)

    def could_be_positive(self, pairs: LabelPairs, possible: Tensor) -> Tensor:
        """Which pairs (n, R) without a weight unknown labels could turn into positives; by default, where one of the
        two has a label that the other may have: `possible` (n, R) counts these."""
        return possible > 0

    def normalizer(self, labels: LabelSets) -> Tensor | None:
        """What the sum over anchors is divided by; None is the number of anchors with a positive."""
        return None

    def example_rows(self, rows: slice, compared: Comparison) -> list[PairBlock]:
        """The pairs of the examples `rows` as anchors with the references and, where used, the prototypes."""
        pairs, same = compared.pairs(rows), compared.same(rows)
        pair_affinity = self.affinity(pairs)
        if same is None:
            pair_affinity.diagonal(offset=rows.start).zero_()
        else:
            pair_affinity = pair_affinity.masked_fill(same, 0)
        weights = self.weights(pair_affinity, pairs)
        left_out = [same, None]
        if pairs.possible is not None and pairs.anchors.unknown is not None:
            could_be_positive = (weights[0] == 0) & self.could_be_positive(pairs, pairs.possible)
            left_out = [could_be_positive if same is None else could_be_positive | same, pairs.anchors.unknown > 0]
        return list(zip(weights, left_out, strict=False))

    def anchor_groups(self, compared: Comparison) -> list[AnchorGroup]:
        """The anchors: examples, and in some losses prototypes."""
        own = 0 if compared.ids is None and self.examples_are_references else None
        return [AnchorGroup(compared.anchors.positives.shape[0], partial(self.example_rows, compared=compared), own)]

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        prototypes: Tensor | None = None,
        *,
        references: References | None = None,
    ) -> Tensor:
        check_vectors("embeddings", embeddings)
        columns = None
        if self.uses_prototypes:
            if prototypes is None:
                raise ValueError(f"prototypes: expected a tensor of shape (L, d) for {type(self).__name__}, got None")
            check_vectors("prototypes", prototypes, columns=embeddings.shape[1])
            columns = prototypes.shape[0]
        masked = check_labels(labels, embeddings.shape[0], columns)
        if not self.examples_are_references:
            references = None
        if references is not None:
            masked |= references.check(embeddings, labels)

        device = embeddings.device
        with torch.autocast(device.type, enabled=False):
            dtype = torch.promote_types(embeddings.dtype, torch.float32)
            anchors = others = normalize(embeddings.to(dtype))
            label_sets = LabelSets.from_labels(labels.to(device), dtype, masked)
            compared = Comparison(label_sets, label_sets)
            if references is not None:
                others = normalize(references.embeddings.detach().to(device, dtype))
                other_sets = LabelSets.from_labels(references.labels.to(device), dtype, masked)
                compared = Comparison(label_sets, other_sets, references.comparable_ids(device))
            if not self.examples_are_references:
                others = others[:0]
            everything = others
            if self.uses_prototypes and prototypes is not None:
                vectors = normalize(prototypes.to(dtype))
                everything = torch.cat([others, vectors])
                anchors = torch.cat([anchors, vectors]) if self.prototypes_are_anchors else anchors
            denominator_weights = None
            if self.example_weight != 1:
                denominator_weights = everything.new_ones(everything.shape[0])
                denominator_weights[: others.shape[0]] = self.example_weight
            return weighted_contrast(
                anchors,
                everything,
                self.anchor_groups(compared),
                temperature=self.temperature,
                denominator_weights=denominator_weights,
                normalizer=self.normalizer(label_sets),
                drop_repulsion=self.drop_repulsion,
                constant_references=0 if references is None else others.shape[0],
            )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in vars(self).items() if isinstance(value, float))


def positive_or_one(sums: Tensor) -> Tensor:
    """Sums to divide by: 0 becomes 1."""
    return torch.where(sums > 0, sums, 1)
