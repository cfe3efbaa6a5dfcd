"""Which labels are hard, how they fail, which are predicted instead of which, and which go together too often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from hf_mlcl.evaluation import per_label_metrics
from hf_mlcl.evaluation.arrays import as_matrix, sigmoid, split_labels

POSITIVE_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
NEGATIVE_QUANTILES = (0.5, 0.9, 0.99)


def label_difficulty(
    logits: Any, labels: Any, thresholds: Any = None, train_label_counts: Any = None, label_names: Any = None
) -> list[dict[str, Any]]:
    """One dictionary per label, in their order: the keys of `per_label_metrics` and how the label fails.

    Added keys:
        `predicted`: for how many known examples the label is predicted.
        `missed`, `wrong`: how many positives are not found, and how many predictions are wrong.
        `failure`: "missed" where it is missed at least twice as often as wrong, "over-predicted" for the reverse,
            "both", "none", or "absent" without a positive.
        `best_f1`: F1 of the threshold that is best on these very examples, the most that another threshold could give.
        `f1_everywhere`: F1 of predicting the label for every example, which needs no scores at all.
        `positive_margins`, `negative_margins`: quantiles (10, 25, 50, 75, 90 %; 50, 90, 99 %) over known positives and
            negatives of the logit minus that of the threshold; None without any.

    Args:
        logits: N x L.
        labels: N x L multi-hot, -100 or NaN where unknown; unknown entries count nowhere.
        thresholds: a number or L numbers in (0, 1), on probabilities; 0.5 if absent.
        train_label_counts: L whole numbers.
        label_names: L names.

    Raises:
        ValueError: arrays of wrong shape or values.
    """
    rows = per_label_metrics(logits, labels, thresholds, train_label_counts, label_names)
    scores = as_matrix("logits", logits)
    truth, known = split_labels("labels", labels, rows=scores.shape[0], columns=scores.shape[1])
    limits = np.array([row["threshold"] for row in rows])
    predicted = (sigmoid(scores) >= limits) & known
    for index, row in enumerate(rows):
        positives, seen = truth[:, index], known[:, index]
        hit = predicted[:, index]
        row["predicted"] = int(hit.sum())
        row["missed"], row["wrong"] = int((positives & ~hit).sum()), int((hit & ~positives).sum())
        row["failure"] = _failure(row)
        row["best_f1"] = best_f1(scores[seen, index], positives[seen])
        share = positives[seen].mean() if seen.any() else 0.0
        row["f1_everywhere"] = float(2 * share / (1 + share))
        margins = scores[:, index] - _logit(limits[index])
        row["positive_margins"] = _quantiles(margins[positives], POSITIVE_QUANTILES)
        row["negative_margins"] = _quantiles(margins[seen & ~positives], NEGATIVE_QUANTILES)
    return rows


def best_f1(scores: np.ndarray, positives: np.ndarray) -> float:
    """The F1 of the best threshold on scores (N,) for the bool positives (N,); 0 without a positive."""
    if not positives.any():
        return 0.0
    precision, recall, _ = precision_recall_curve(positives, scores)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-300)).max())


def hardest_labels(rows: list[dict[str, Any]], limit: int) -> list[int]:
    """Indices of at most `limit` labels by rising F1, those with more positives first.

    Left out are labels without a positive, and those that training never saw: nothing could be learnt of them.
    """
    seen = [index for index, row in enumerate(rows) if row["support"] and row["f1"] < 1 and row.get("train_count", 1)]
    return sorted(seen, key=lambda index: (rows[index]["f1"], -rows[index]["support"]))[:limit]


def _failure(row: dict[str, Any]) -> str:
    missed, wrong = row["missed"], row["wrong"]
    if not row["support"]:
        return "absent"
    if not missed + wrong:
        return "none"
    return "missed" if missed >= 2 * wrong else "over-predicted" if wrong >= 2 * missed else "both"


def _logit(probability: float) -> float:
    clipped = min(max(probability, 1e-7), 1 - 1e-7)
    return float(np.log(clipped / (1 - clipped)))


def _quantiles(values: np.ndarray, shares: tuple[float, ...]) -> list[float] | None:
    return [float(value) for value in np.quantile(values, shares)] if len(values) else None


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
        return _first_pairs(self.excess, rows, columns, limit)


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
        return _first_pairs(ratio, rows, columns, limit)


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


def _first_pairs(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, limit: int) -> list[tuple[int, int]]:
    order = np.argsort(-values[rows, columns], kind="stable")[:limit]
    return list(zip(rows[order].tolist(), columns[order].tolist(), strict=True))


def _decisions(predictions: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    predicted = as_matrix("predictions", predictions)
    truth, known = split_labels("labels", labels, rows=predicted.shape[0], columns=predicted.shape[1])
    return predicted > 0, truth, known


def _counting(mask: np.ndarray) -> np.ndarray:
    # Products of float32 0/1 run on BLAS and stay exact below 2**24 examples.
    return mask.astype(np.float32)
