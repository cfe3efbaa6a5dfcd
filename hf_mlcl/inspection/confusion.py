"""Which labels are predicted instead of which, and which go together too often. Imports evaluation's array checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_mlcl.evaluation.arrays import as_matrix, split_labels


@dataclass(frozen=True, eq=False)
class Confusions:
    """Labels predicted where others were missed.

    A label a is missed by an example that has a and for which a is not predicted; a label b is wrong for an example
    that does not have b and for which b is predicted.

    Attributes:
        counts: int64 (L, L), [a, b]: how often b is wrong where a is missed.
        expected: float64 (L, L): how often by chance, (examples that miss a and lack b) x (wrong b / examples that
            lack b), as if missing a said nothing about b.
        misses: int64 (L,), how often each label is missed.
    """

    counts: np.ndarray
    expected: np.ndarray
    misses: np.ndarray

    @property
    def share(self) -> np.ndarray:
        """(L, L) counts / misses: of the examples that miss a, the share for which b is wrong."""
        return self.counts / np.maximum(self.misses, 1)[:, None]

    @property
    def excess(self) -> np.ndarray:
        """(L, L) counts - expected: how many more than by chance."""
        return self.counts - self.expected

    @property
    def lift(self) -> np.ndarray:
        """(L, L) (counts + 1) / (expected + 1): how many times as many as by chance, near 1 where there are few."""
        return (self.counts + 1) / (self.expected + 1)

    def pairs(self, limit: int) -> list[tuple[int, int]]:
        """At most `limit` pairs (a, b) that happen more often than by chance, those with the largest excess first."""
        rows, columns = np.nonzero((self.counts > 0) & (self.excess > 0))
        order = np.argsort(-self.excess[rows, columns], kind="stable")[:limit]
        return [(int(rows[place]), int(columns[place])) for place in order]


def confusions(predictions: Any, labels: Any) -> Confusions:
    """Counts, for each pair of labels (a, b), how often b is predicted in place of a; see `Confusions`.

    Args:
        predictions: N x L, 0 and 1.
        labels: N x L multi-hot, -100 or NaN where unknown; an unknown label is neither missed nor wrong.

    Raises:
        ValueError: arrays of wrong shape or values.
    """
    predicted, truth, known = _decisions(predictions, labels)
    absent = known & ~truth
    missed, wrong = _counting(truth & ~predicted), _counting(absent & predicted)
    rates = wrong.sum(axis=0) / np.maximum(absent.sum(axis=0), 1)
    counts = missed.T @ wrong
    expected = (missed.T @ _counting(absent)) * rates
    return Confusions(counts.astype(np.int64), expected, missed.sum(axis=0).astype(np.int64))


@dataclass(frozen=True, eq=False)
class CoPredictions:
    """Pairs of labels that are predicted together, against how often they occur together.

    Attributes:
        predicted: int64 (L, L), known examples for which both labels are predicted; the diagonal is each alone.
        occurring: int64 (L, L), examples that have both.
        prior: the pseudo-count k that both counts get.
    """

    predicted: np.ndarray
    occurring: np.ndarray
    prior: float

    @property
    def log_ratio(self) -> np.ndarray:
        """(L, L) log2((predicted + k) / (occurring + k)): 1 is twice as often, -1 half as often, near 0 for few."""
        return np.log2((self.predicted + self.prior) / (self.occurring + self.prior))

    def pairs(self, limit: int, *, more: bool) -> list[tuple[int, int]]:
        """At most `limit` pairs a < b predicted together more often (or less) than they occur, the farthest first."""
        ratio = np.triu(self.log_ratio if more else -self.log_ratio, k=1)
        rows, columns = np.nonzero(ratio > 1e-9)
        order = np.argsort(-ratio[rows, columns], kind="stable")[:limit]
        return [(int(rows[place]), int(columns[place])) for place in order]


def co_predictions(predictions: Any, labels: Any, prior: float = 5.0) -> CoPredictions:
    """Counts each pair of labels among predictions and among labels; see `CoPredictions`.

    Args:
        predictions: N x L, 0 and 1.
        labels: N x L multi-hot, -100 or NaN where unknown; a pair counts where both of its labels are known.
        prior: pseudo-count k of both counts.

    Raises:
        ValueError: arrays of wrong shape or values.
    """
    predicted, truth, known = _decisions(predictions, labels)
    both, having = _counting(predicted & known), _counting(truth)
    return CoPredictions((both.T @ both).astype(np.int64), (having.T @ having).astype(np.int64), prior)


def _decisions(predictions: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    predicted = as_matrix("predictions", predictions)
    truth, known = split_labels("labels", labels, rows=predicted.shape[0], columns=predicted.shape[1])
    return predicted > 0, truth, np.ones_like(truth) if known is None else known


def _counting(mask: np.ndarray) -> np.ndarray:
    # Products of float32 0/1 run on BLAS and stay exact below 2**24 examples.
    return mask.astype(np.float32)
