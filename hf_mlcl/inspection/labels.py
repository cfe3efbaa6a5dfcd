"""Which labels are hard, and how they fail: by being missed or by being predicted too often. Imports evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mlcl.evaluation import per_label_metrics
from hf_mlcl.evaluation.arrays import as_matrix, sigmoid, split_labels

# Head, medium and tail, as in `multilabel_scores`: more than 100 training examples, 20 to 100, fewer than 20.
GROUPS = ("head", "medium", "tail")
_TAIL_BELOW, _HEAD_ABOVE = 20, 100

POSITIVE_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
NEGATIVE_QUANTILES = (0.5, 0.9, 0.99)


def frequency_groups(counts: Any) -> np.ndarray:
    """Training counts (L,) -> 0 for head labels (more than 100 examples), 1 for medium, 2 for tail (fewer than 20)."""
    values = np.asarray(counts)
    return np.where(values > _HEAD_ABOVE, 0, np.where(values < _TAIL_BELOW, 2, 1))


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
    known = np.ones_like(truth) if known is None else known
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
    order = np.argsort(-scores, kind="stable")
    hits = positives[order].cumsum()
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # equal scores pass together
    return float((2 * hits[ends] / (ends + 1 + hits[-1])).max())


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
