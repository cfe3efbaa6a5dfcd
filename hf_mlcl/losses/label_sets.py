"""`LabelSets`: the labels of a batch, from multi-hot rows or from lists of ids, and how two sets compare.

Imports torch only. A label of an example is 1 (it has it), 0 (it does not) or missing: -100 or NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .checks import UNKNOWN, check_ids, check_label_ids, check_labels, check_vectors


@dataclass(frozen=True, eq=False)
class LabelSets:
    """The label sets of B examples, as 0 and 1 in floating point.

    Among very many labels only those that an example of the batch has get a column. All others, or a random sample of
    them, have a prototype alone, which is a negative of every example.

    Attributes:
        positives: (B, P) 1 where an example is known to have the label.
        unknown: (B, P) 1 where it is unknown whether it has it; None where nothing is.
        sizes: (B,) number of labels that an example is known to have.
        num_labels: L, the number of labels there are.
        ids: (P + S,) int64, the labels that have a column, ascending, then those that have a prototype alone; None
            where every label has a column.
        absent_weight: What each of the S counts in a denominator, (L - P) / S: on average over samples, the
            denominator is that with all L - P.
        unlabelled: (B,) bool, of lists with examples of which nothing is known: which these are.

    Example:
        >>> LabelSets.from_rows(torch.tensor([[1, 0, 1], [0, 0, -100]])).sizes
        tensor([2., 0.])
        >>> LabelSets.from_ids(torch.tensor([[7, 900], [7, -1]]), num_labels=1000).positives
        tensor([[1., 1.],
                [1., 0.]])
    """

    positives: Tensor
    unknown: Tensor | None
    sizes: Tensor
    num_labels: int
    ids: Tensor | None = None
    absent_weight: float = 1.0
    unlabelled: Tensor | None = None

    @classmethod
    def from_rows(
        cls, labels: Tensor, rows: int | None = None, columns: int | None = None, name: str = "labels"
    ) -> LabelSets:
        """From multi-hot labels (`rows`, `columns`), bool, int or float, -100 or NaN where missing.

        Raises:
            ValueError: For another shape or other values.
        """
        masked = check_labels(labels, rows, columns, name)
        positives = (labels > 0 if masked else labels).float()
        unknown = ((labels == UNKNOWN) | (labels != labels)).float() if masked else None
        return cls(positives, unknown, positives.sum(dim=1), labels.shape[1])

    @classmethod
    def from_ids(
        cls,
        label_ids: Tensor,
        num_labels: int,
        *,
        sample_size: int | None = None,
        generator: torch.Generator | None = None,
        others: Tensor | None = None,
    ) -> LabelSets:
        """From lists of label ids; time and memory grow with the labels of the batch, not with all there are.

        Args:
            label_ids: (B, K) int64, no label twice in a row, padded with -1; a row of -100 where nothing is known.
            num_labels: L, the number of labels there are.
            sample_size: S, how many of the labels that no example has are drawn, without replacement; by default all.
            generator: For the draw; by default the global one of the device. Processes that share a batch must draw
                alike.
            others: (R, K') label ids of keys, whose labels are to have a column, too. Without, a prototype whose label
                only keys have is a positive of nothing.

        Raises:
            ValueError: For `label_ids` of another dtype or with ids that do not exist, or a `sample_size` below 1.
        """
        check_label_ids(label_ids, num_labels)
        if sample_size is not None and sample_size < 1:
            raise ValueError(f"sample_size must be at least 1, got {sample_size}")
        every = label_ids.flatten() if others is None else torch.cat([label_ids.flatten(), others.flatten()])
        present = every[every >= 0].unique()
        number = num_labels - present.shape[0]
        size = number if sample_size is None else min(sample_size, number)
        ranks = _distinct(size, number, label_ids.device, generator)
        # The absent label of rank r is r plus the number of present labels below it.
        steps = present - torch.arange(present.shape[0], device=present.device)
        absent = ranks + torch.searchsorted(steps, ranks, right=True)
        sets = cls(ranks, None, ranks, num_labels, torch.cat([present, absent]), number / size if size else 1.0)
        return sets._with_columns(label_ids, present)

    def _with_columns(self, label_ids: Tensor, present: Tensor) -> LabelSets:
        number = present.shape[0]
        columns = torch.searchsorted(present, label_ids.contiguous()).clamp(max=max(number - 1, 0))
        if number:
            columns = torch.where(present[columns] == label_ids, columns, number)
        positives = torch.zeros(label_ids.shape[0], number + 1, device=label_ids.device)
        positives = positives.scatter_(1, columns, 1)[:, :number]
        sizes = (label_ids >= 0).sum(dim=1).float()  # a label without a column counts, too
        unlabelled = (label_ids[:, :1] == UNKNOWN).any(dim=1)
        if not unlabelled.any():
            return replace(self, positives=positives, sizes=sizes, unknown=None, unlabelled=None)
        unknown = unlabelled[:, None].float().expand(-1, number)
        return replace(self, positives=positives, sizes=sizes, unknown=unknown, unlabelled=unlabelled)

    def like(self, labels: Tensor, rows: int, name: str) -> LabelSets:
        """The sets of other examples in the same form and columns, from rows (R, L) or lists (R, K) as these are."""
        if self.ids is None:
            return LabelSets.from_rows(labels, rows, self.positives.shape[1], name)
        check_label_ids(labels, self.num_labels, rows, name)
        return self._with_columns(labels.to(self.ids.device), self.ids[: self.positives.shape[1]])

    def to(self, like: Tensor) -> LabelSets:
        """On the device and in the dtype of a tensor."""
        moved = {
            name: value.to(like.device, like.dtype)
            for name in ("positives", "unknown", "sizes")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **moved)

    def __len__(self) -> int:
        return self.positives.shape[0]

    def __getitem__(self, rows: slice) -> LabelSets:
        """The label sets of some of the examples."""
        names = ("positives", "unknown", "sizes", "unlabelled")
        parts = {name: value[rows] for name in names if (value := getattr(self, name)) is not None}
        return replace(self, **parts)

    def rows(self) -> Tensor:
        """Multi-hot rows (B, L), -100 where missing, as losses on logits need them."""
        positives, unknown = self.positives, self.unknown
        if self.ids is not None:
            positives = positives.new_zeros(len(self), self.num_labels)
            positives[:, self.ids[: self.positives.shape[1]]] = self.positives
            # In lists an example is unlabelled as a whole or not at all.
            unknown = None if self.unlabelled is None else self.unlabelled[:, None]
        return positives if unknown is None else positives.masked_fill(unknown > 0, UNKNOWN)


def _distinct(size: int, below: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """A uniformly random set of `size` different integers from 0 to `below` - 1."""
    if size == below:
        return torch.arange(below, device=device)
    if 2 * size > below:
        return torch.randperm(below, device=device, generator=generator)[:size]
    # Draws until enough differ: by symmetry every set is equally likely. The whole range is never touched.
    drawn = torch.empty(0, dtype=torch.int64, device=device)
    while drawn.shape[0] < size:
        more = torch.randint(below, (size - drawn.shape[0],), device=device, generator=generator)
        drawn = torch.cat([drawn, more]).unique()
    return drawn


@dataclass(frozen=True, eq=False)
class Keys:
    """What the examples of a batch are contrasted with instead of each other, such as a memory queue.

    Keys with the dataset index of an anchor, which are the anchor itself or older copies of it, are neither positives
    of it nor in its denominator.

    Attributes:
        embeddings: (R, d) floating-point vectors, not normalised. They get no gradient.
        labels: Their labels in the form of the batch's: multi-hot (R, L), or lists of ids (R, K).
        ids: (R,) int64 index of each key in the dataset, -1 where it has none.
        anchor_ids: (B,) int64 index of each example of the batch in the dataset, -1 where it has none.

    Example:
        >>> from hf_mlcl.losses import build_loss
        >>> embeddings, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1, 0], [0, 1]])
        >>> ids = torch.arange(4)
        >>> keys = Keys(embeddings.repeat(2, 1), labels.repeat(2, 1), ids, anchor_ids=ids[:2])
        >>> print(f"{build_loss('base', temperature=1.0)(embeddings, labels, keys=keys):.3f}")
        0.551
    """

    embeddings: Tensor
    labels: Tensor
    ids: Tensor
    anchor_ids: Tensor

    def check(self, embeddings: Tensor) -> None:
        """Raises ValueError unless these are keys for a batch of `embeddings` (B, d)."""
        check_vectors("keys.embeddings", self.embeddings, columns=embeddings.shape[1])
        check_ids("keys.ids", self.ids, self.embeddings.shape[0])
        check_ids("keys.anchor_ids", self.anchor_ids, embeddings.shape[0])


@dataclass(frozen=True, eq=False)
class Comparison:
    """Whose label sets are compared: B examples as anchors, R examples as references.

    Attributes:
        anchors: Label sets of the anchors.
        references: Label sets of the references; the anchors' own where examples are compared with each other.
        ids: Two tensors, (B,) and (R,), equal where anchor and reference are the same example, which are not
            compared. None where anchor i is reference i.
    """

    anchors: LabelSets
    references: LabelSets
    ids: tuple[Tensor, Tensor] | None = None

    def pairs(self, rows: slice) -> LabelPairs:
        """Some anchors with all references."""
        return LabelPairs(self.anchors[rows], self.references)

    def same(self, rows: slice) -> Tensor | None:
        """(n, R) bool, which references are the anchors `rows` themselves; None where that is the diagonal."""
        return None if self.ids is None else self.ids[0][rows, None] == self.ids[1]


class LabelPairs:
    """The label sets of n anchors and M references compared pair by pair, each pair on the labels known in both.

    Counts stay exact: products of 0 and 1 sum to integers below 2**24. Unknown labels cost two further products.

    Attributes:
        anchors: Label sets of the anchors.
        references: Label sets of the references.
        common: (n, M) |Y_i ∩ Y_j|, the number of labels in common.
        anchor_sizes: |Y_i| among the labels known in j: (n, M), or (n, 1) where nothing is unknown.
        reference_sizes: |Y_j| among the labels known in i: (n, M), or (M,).
        possible: (n, M) number of labels that one of the two has and the other may have; None where nothing is
            unknown. A label unknown in both is compared in neither way.
    """

    def __init__(self, anchors: LabelSets, references: LabelSets) -> None:
        self.anchors, self.references = anchors, references
        self.common = anchors.positives @ references.positives.T
        self.anchor_sizes = anchors.sizes[:, None]
        self.reference_sizes = references.sizes
        self.possible: Tensor | None = None
        if anchors.unknown is not None and references.unknown is not None:
            unknown_in_reference = anchors.positives @ references.unknown.T
            unknown_in_anchor = anchors.unknown @ references.positives.T
            self.anchor_sizes = self.anchor_sizes - unknown_in_reference
            self.reference_sizes = self.reference_sizes - unknown_in_anchor
            self.possible = unknown_in_reference + unknown_in_anchor

    def union(self) -> Tensor:
        """(n, M) |Y_i ∪ Y_j|, the number of labels that at least one of the two has."""
        return self.anchor_sizes + self.reference_sizes - self.common

    def equal(self) -> Tensor:
        """(n, M) whether the two have the same labels among those known in both."""
        return (self.common == self.anchor_sizes) & (self.common == self.reference_sizes)

    def half_known(self) -> Tensor:
        """(n, M) number of labels known in one of the two and unknown in the other."""
        first, second = self.anchors.unknown, self.references.unknown
        if first is None or second is None:
            return torch.zeros_like(self.common)
        return first.sum(dim=1, keepdim=True) + second.sum(dim=1) - 2 * first @ second.T
