"""Label sets with unknown entries, and how two of them compare. Imports torch only.

A label of an example is 1 (it has it), 0 (it does not) or unknown: -100 or NaN. Unknown entries say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNKNOWN = -100


@dataclass(eq=False)
class LabelSets:
    """The label sets of B examples, as 0 and 1 in floating point.

    Args:
        positives: (B, L) 1 where an example is known to have the label.
        unknown: (B, L) 1 where it is unknown whether it has it; None where nothing is.
        sizes: (B,) number of labels that an example is known to have; by default counted.
    """

    positives: Tensor
    unknown: Tensor | None = None
    sizes: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.sizes is None:
            self.sizes = self.positives.sum(dim=1)

    @classmethod
    def from_labels(cls, labels: Tensor, dtype: torch.dtype, masked: bool) -> LabelSets:
        """From labels (B, L) of 0, 1 and, where `masked`, also -100 and NaN."""
        if not masked:
            return cls(labels.to(dtype))
        return cls((labels > 0).to(dtype), ((labels == UNKNOWN) | (labels != labels)).to(dtype))

    def rows(self, rows: slice) -> LabelSets:
        """The label sets of some of the examples."""
        return LabelSets(self.positives[rows], None if self.unknown is None else self.unknown[rows], self.sizes[rows])


@dataclass(frozen=True, eq=False)
class Comparison:
    """Whose label sets are compared: B examples as anchors, R examples as references.

    Args:
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
        return LabelPairs(self.anchors.rows(rows), self.references)

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
