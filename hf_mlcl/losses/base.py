"""What contrastive losses share: anchors, references, and the way from labels to the kernel. Imports torch only."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .checks import check_number, check_vectors
from .kernel import AnchorGroup, PairBlock, weighted_contrast
from .label_sets import Comparison, Keys, LabelPairs, LabelSets


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

    Called as `loss(embeddings, labels, prototypes=None)`; computed in float32 (float64 for float64 embeddings), also
    under autocast.

    Missing labels are masked. Two examples are compared on the labels known in both. A pair with no positive weight
    that a missing label could turn into a positive is left out of the denominator; so is an example and the prototype
    of a label missing in it. A label missing in both examples says nothing about them. Every count of labels and of
    anchors is one of known positives. So an example all of whose labels are missing might as well not be there, and a
    column missing in all examples neither (but its prototype stays a negative of other prototypes).

    With `keys` the examples of the batch are contrasted with other examples, such as a memory queue, in place of each
    other; prototypes stay references, and where they are anchors (`reg`, `mscwrg`) they are contrasted with the keys,
    too, and with each other. `proto`, which compares no examples, ignores them.

    Args:
        temperature: Divisor of the cosine similarities.
        learnable_temperature: Whether the temperature is trained, from `temperature` on, as the parameter
            `log_temperature`; of `reg` by the same gradient as its vectors.

    Attributes:
        statistics: With `count_positives` set, of the last call: `positives_per_anchor`, how many other examples share
            a label with a labelled example, on average, and `anchors_without_positives`, the share of labelled
            examples for which there is none.

    Example:
        >>> class SameNumber(ContrastiveLoss):
        ...     def affinity(self, pairs):  # positives have as many labels as the anchor
        ...         return (pairs.anchor_sizes == pairs.reference_sizes).float()
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> labels = torch.tensor([[1, 0], [0, 1], [1, 1]])
        >>> print(f"{SameNumber(temperature=1.0)(embeddings, labels):.3f}")
        1.108
    """

    uses_prototypes = False
    prototypes_are_anchors = False
    examples_are_references = True
    drop_repulsion = False

    count_positives = False
    log_temperature: nn.Parameter | None

    def __init__(self, temperature: float = 0.1, learnable_temperature: bool = False) -> None:
        super().__init__()
        self.temperature = check_number("temperature", temperature, 0, open_low=True)
        if not isinstance(learnable_temperature, bool):
            raise ValueError(f"learnable_temperature must be True or False, got {learnable_temperature!r}")
        self.log_temperature = nn.Parameter(torch.empty(())) if learnable_temperature else None
        self.reset_parameters()
        self.statistics: dict[str, Tensor] = {}
        self._positives: Tensor | None = None

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sets a learnable temperature back to `temperature`."""
        if self.log_temperature is not None:
            self.log_temperature.fill_(math.log(self.temperature))

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
        if self._positives is not None:
            self._count_positives(pairs, same, rows.start)
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

    def _count_positives(self, pairs: LabelPairs, same: Tensor | None, start: int) -> None:
        assert self._positives is not None
        shared = pairs.common > 0
        if same is None:
            shared.diagonal(offset=start).fill_(False)
        else:
            shared &= ~same
        self._positives[start : start + len(shared)] = shared.sum(dim=1)

    def anchor_groups(self, compared: Comparison) -> list[AnchorGroup]:
        """The anchors: examples, and in some losses prototypes."""
        own = 0 if compared.ids is None and self.examples_are_references else None
        return [AnchorGroup(compared.anchors.positives.shape[0], partial(self.example_rows, compared=compared), own)]

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | LabelSets,
        prototypes: Tensor | nn.Module | None = None,
        *,
        keys: Keys | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (B, d) floating-point vectors, not normalised.
            labels: (B, L) multi-hot labels, bool, int or float, -100 or NaN where missing; or `LabelSets`. An example
                known to have no label is no anchor but a negative.
            prototypes: (L, d) label vectors, not normalised, or a module that looks up some of them, such as an
                `nn.Embedding`; ignored by losses that have no use for them.
            keys: What to contrast the batch with; by default its own examples.

        Returns:
            A scalar; 0 with zero gradients for a batch without a positive pair.

        Raises:
            ValueError: For wrong shapes or values, or where a loss that needs prototypes gets none.
        """
        check_vectors("embeddings", embeddings)
        columns = prototypes.shape[0] if self.uses_prototypes and isinstance(prototypes, Tensor) else None
        sets = LabelSets.of(labels, embeddings.shape[0], columns)
        if len(sets) != embeddings.shape[0]:
            raise ValueError(f"labels: got {len(sets)} label sets for {embeddings.shape[0]} embeddings")
        vectors: Any = prototypes
        if not self.uses_prototypes:
            vectors = None
        elif prototypes is None:
            raise ValueError(f"prototypes: {type(self).__name__} needs a tensor of shape (L, d), got None")
        elif isinstance(prototypes, nn.Module):
            ids = torch.arange(sets.num_labels, device=embeddings.device) if sets.ids is None else sets.ids
            vectors = prototypes(ids)
        else:
            check_vectors("prototypes", prototypes, rows=sets.num_labels, columns=embeddings.shape[1])
            vectors = prototypes if sets.ids is None else prototypes[sets.ids.to(prototypes.device)]
        if keys is not None and self.examples_are_references:
            keys.check(embeddings)
        else:
            keys = None
        with torch.autocast(embeddings.device.type, enabled=False):
            examples = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            return self._contrast(examples, vectors, self._compared(sets, examples, keys), keys)

    def _compared(self, sets: LabelSets, examples: Tensor, keys: Keys | None) -> Comparison:
        own = sets.to(examples)
        if keys is None:
            return Comparison(own, own)
        others = sets.like(keys.labels, keys.embeddings.shape[0], "keys.labels").to(examples)
        if (own.unknown is None) != (others.unknown is None):
            own, others = (
                each if each.unknown is not None else replace(each, unknown=torch.zeros_like(each.positives))
                for each in (own, others)
            )
        anchor_ids = keys.anchor_ids.to(examples.device)
        return Comparison(own, others, (torch.where(anchor_ids < 0, -2, anchor_ids), keys.ids.to(examples.device)))

    def _contrast(
        self, examples: Tensor, prototypes: Tensor | None, compared: Comparison, keys: Keys | None
    ) -> Tensor:
        """The loss on examples (B, d) and prototypes, of labels with a column and then of others (P + S, d)."""
        # Of all examples at once: small tensors kept block by block would pin the memory of large ones between them.
        counted = self.count_positives and self.examples_are_references
        self._positives = examples.new_zeros(examples.shape[0]) if counted else None
        self.statistics = {}
        present, absent_weight = compared.anchors.positives.shape[1], compared.anchors.absent_weight
        others = examples if keys is None else keys.embeddings.detach().to(examples)
        if not self.examples_are_references:
            others = others[:0]
        everything = [others] if prototypes is None else [others, prototypes.to(examples)]
        anchors, with_prototypes = None, prototypes is not None and self.prototypes_are_anchors
        if others is not examples:
            anchors = normalize(torch.cat([examples, everything[1][:present]]) if with_prototypes else examples)
        vectors = normalize(torch.cat(everything) if prototypes is not None else others)
        temperature = self.temperature
        if self.log_temperature is not None:
            # In the anchors its gradient comes of itself. CLIP, too, keeps it from falling below 0.01.
            if anchors is None:
                anchors = vectors[: others.shape[0] + (present if with_prototypes else 0)]
            anchors, temperature = anchors / self.log_temperature.exp().clamp(min=0.01), 1.0

        denominator_weights = None
        if self.example_weight != 1 or absent_weight != 1:
            denominator_weights = vectors.new_ones(vectors.shape[0])
            denominator_weights[: others.shape[0]] = self.example_weight
            if prototypes is not None:
                denominator_weights[others.shape[0] + present :] = absent_weight
        loss = weighted_contrast(
            anchors,
            vectors,
            self.anchor_groups(compared),
            temperature=temperature,
            denominator_weights=denominator_weights,
            normalizer=self.normalizer(compared.anchors),
            drop_repulsion=self.drop_repulsion,
            constant_references=0 if keys is None else others.shape[0],
        )
        if self._positives is not None:
            positives, are_anchors = self._positives, compared.anchors.sizes > 0
            number = are_anchors.sum().clamp(min=1)
            self.statistics = {
                "positives_per_anchor": (positives * are_anchors).sum() / number,
                "anchors_without_positives": (are_anchors & (positives == 0)).sum() / number,
            }
        return loss

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in vars(self).items() if isinstance(value, float))


def positive_or_one(sums: Tensor) -> Tensor:
    """Sums to divide by: 0 becomes 1."""
    return torch.where(sums > 0, sums, 1)
