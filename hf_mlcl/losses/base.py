"""What contrastive losses share: anchors, references, and the way from labels to the kernel. Imports torch only."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .checks import check_number, check_vectors
from .comparison import all_label_ids, compare_ids, compare_rows
from .kernel import AnchorGroup, PairBlock, weighted_contrast
from .label_choice import ChosenLabels, choose_labels
from .label_sets import Comparison, LabelPairs, LabelSets
from .references import References


class _Normalize(torch.autograd.Function):
    """What autograd would make of the formula, in fewer passes over the vectors."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        inverse = torch.where(norms > 0, 1 / norms.clamp(min=torch.finfo(vectors.dtype).tiny), 0)
        directions = vectors * inverse
        ctx.save_for_backward(directions, inverse)
        return directions

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        directions, inverse = ctx.saved_tensors
        along = (directions * gradient).sum(dim=1, keepdim=True)
        return torch.addcmul(gradient, directions, along, value=-1) * inverse


def normalize(vectors: Tensor) -> Tensor:
    """L2-normalised rows; a zero row stays zero and gets a zero gradient instead of a huge one.

    So does a row whose squares under- or overflow, in float32 one shorter than about 1e-20 or longer than 1e19.
    """
    return _Normalize.apply(vectors)


class ContrastiveLoss(nn.Module):
    """Weighted contrast between examples; a subclass says which pairs are positives and how much.

    Called as `loss(embeddings, labels, prototypes=None)`, or with label lists as `loss(embeddings, label_ids=...,
    prototypes=...)`; computed in float32 (float64 for float64 embeddings), also under autocast.

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
        label_ids: (B, K) int64 label lists, padded with -1, in place of `labels`: for so many labels that rows of
            zeros and ones are too large. No entry can be unknown. `prototypes` are those of all labels or of `chosen`.
        chosen: With `label_ids`: what `choose_labels` returned for them. `prototypes` are then the rows `chosen.rows`
            of the table, (P + S, d); the S absent labels stand for all that the batch does not have. To be given
            where the loss is compiled, as making a choice reads values.
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
        labels: Tensor | None = None,
        prototypes: Tensor | None = None,
        *,
        label_ids: Tensor | None = None,
        chosen: ChosenLabels | None = None,
        references: References | None = None,
    ) -> Tensor:
        check_vectors("embeddings", embeddings)
        if not self.uses_prototypes:
            prototypes = None
        elif prototypes is None:
            raise ValueError(f"prototypes: expected a tensor of shape (L, d) for {type(self).__name__}, got None")
        else:
            check_vectors("prototypes", prototypes, columns=embeddings.shape[1])
        if not self.examples_are_references:
            references = None
        if references is not None:
            references.check(embeddings)

        with torch.autocast(embeddings.device.type, enabled=False):
            examples = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            absent_weight = 1.0
            if label_ids is None:
                if labels is None:
                    raise ValueError("labels: expected multi-hot labels or label_ids, got neither")
                if chosen is not None:
                    raise ValueError("chosen: expected label_ids with it, got labels")
                columns = None if prototypes is None else prototypes.shape[0]
                compared = compare_rows(labels, examples, columns, references)
            elif labels is not None:
                raise ValueError("label_ids: expected labels or label_ids, got both")
            else:
                prototypes, chosen = _rows_and_choice(prototypes, label_ids, chosen, embeddings.shape[0], references)
                compared, absent_weight = compare_ids(label_ids, examples, chosen, references), chosen.absent_weight
            return self._contrast(examples, prototypes, compared, references, absent_weight)

    def _contrast(
        self,
        examples: Tensor,
        prototypes: Tensor | None,
        compared: Comparison,
        references: References | None,
        absent_weight: float,
    ) -> Tensor:
        """The loss on examples (B, d) and prototypes, of labels present and then of absent ones (P + S, d)."""
        present = compared.anchors.positives.shape[1]
        others = examples if references is None else references.embeddings.detach().to(examples)
        if not self.examples_are_references:
            others = others[:0]
        everything = [others] if prototypes is None else [others, prototypes.to(examples)]
        anchors = None
        if others is not examples:
            with_prototypes = prototypes is not None and self.prototypes_are_anchors
            anchors = normalize(torch.cat([examples, everything[1][:present]]) if with_prototypes else examples)
        vectors = normalize(torch.cat(everything) if prototypes is not None else others)

        denominator_weights = None
        if self.example_weight != 1 or absent_weight != 1:
            denominator_weights = vectors.new_ones(vectors.shape[0])
            denominator_weights[: others.shape[0]] = self.example_weight
            if prototypes is not None:
                denominator_weights[others.shape[0] + present :] = absent_weight
        return weighted_contrast(
            anchors,
            vectors,
            self.anchor_groups(compared),
            temperature=self.temperature,
            denominator_weights=denominator_weights,
            normalizer=self.normalizer(compared.anchors),
            drop_repulsion=self.drop_repulsion,
            constant_references=0 if references is None else others.shape[0],
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in vars(self).items() if isinstance(value, float))


def _rows_and_choice(
    prototypes: Tensor | None,
    label_ids: Tensor,
    chosen: ChosenLabels | None,
    examples: int,
    references: References | None,
) -> tuple[Tensor | None, ChosenLabels]:
    """The prototypes of chosen labels, and the choice; where none was made, all labels that there are."""
    every_id = all_label_ids(label_ids, examples, references)
    if chosen is not None:
        number = chosen.present.shape[0] + chosen.absent.shape[0]
        if prototypes is not None and prototypes.shape[0] != number:
            got = f"got {prototypes.shape[0]} rows"
            raise ValueError(f"prototypes: expected the {number} rows `chosen.rows` of the table, {got}")
        if label_ids.device.type == "cpu" and not torch.compiler.is_compiling():
            own = label_ids[label_ids >= 0]
            if not torch.isin(own, chosen.present.to(own.device)).all():
                raise ValueError("chosen: expected a choice with every label of label_ids, got one that lacks some")
        return prototypes, chosen
    if prototypes is None:
        return None, ChosenLabels(every_id[every_id >= 0].unique(), every_id.new_empty(0), 1.0)
    chosen = choose_labels(every_id, prototypes.shape[0])
    return prototypes[chosen.rows.to(prototypes.device)], chosen


def positive_or_one(sums: Tensor) -> Tensor:
    """Sums to divide by: 0 becomes 1."""
    return torch.where(sums > 0, sums, 1)
