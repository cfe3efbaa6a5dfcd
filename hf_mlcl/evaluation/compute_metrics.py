"""Scores of logits against labels, as the Trainer wants them. Imports numpy and, when used, the metric's module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.labels import Labels
from .arrays import as_vector, check_positive
from .scores import Scores, scores_and_labels


def compute_metrics(
    eval_prediction: Any, *, thresholds: Any = None, train_label_counts: Any = None
) -> dict[str, float]:
    """All numbers of `multilabel_scores` for logits; can be given to `Trainer(compute_metrics=...)` as it is.

    The scores of decisions (`macro_f1`, `hamming_loss`, ...) use `thresholds`. Added are `macro_f1_at_half` and
    `micro_f1_at_half` (every threshold 0.5) and `ece` (`expected_calibration_error`). Missing labels count in no
    score. Rankings are those of logits: where sigmoids in float64 are equal to 1, logits still differ.

    Args:
        eval_prediction: a `transformers.EvalPrediction` or a pair (logits, labels); logits N x L, `LinearScores`, or a
            tuple of model outputs with the logits first; labels `Labels`, or N x L multi-hot, -100 or NaN where
            missing.
        thresholds: a number or L numbers; on probabilities; 0.5 if absent.
        train_label_counts: L numbers, how often each label occurs in the training set; adds the head, medium and tail
            scores.

    Raises:
        ValueError: arrays of wrong shape or values.

    Example:
        >>> scores = compute_metrics(([[2.0, -1.0], [-3.0, 0.5]], [[1, 0], [0, 1]]))
        >>> scores["macro_f1"], scores["map"], scores["hamming_loss"]
        (1.0, 1.0, 0.0)
    """
    scores, labels = scores_and_labels(*_logits_and_labels(eval_prediction))
    tried = [None] if thresholds is None else [thresholds, None]
    found = _block_scores(scores, labels, tried, train_label_counts=train_label_counts)
    result = found[0] | {f"{name}_at_half": found[-1][name] for name in ("macro_f1", "micro_f1")}
    result["ece"] = expected_calibration_error(scores, labels)
    return {name: float(value) for name, value in result.items() if not name.startswith("per_label_")}


def decision_scores(eval_prediction: Any, thresholds: Any = None) -> dict[str, Any]:
    """Those scores of `compute_metrics` that need decisions alone, and their arrays per label."""
    scores, labels = scores_and_labels(*_logits_and_labels(eval_prediction))
    return _block_scores(scores, labels, [thresholds], label_rankings=False, row_rankings=False)[0]


def per_label_metrics(
    logits: Any, labels: Any, thresholds: Any = None, train_label_counts: Any = None, label_names: Any = None
) -> list[dict[str, Any]]:
    """One dictionary per label, in their order.

    Keys: `label` (its name, or its id where `label_names` is absent), `threshold`, `f1`, `precision`, `recall`,
    `average_precision` (these four 0.0 where `support` is 0), `support` (examples known to have the label), `known`
    (examples of which it is known whether they have it) and, if counts are given, `train_count`. A label with `known`
    of 0 is in no average of `compute_metrics`.

    Args:
        logits: N x L, or `LinearScores`.
        labels: N x L multi-hot, -100 or NaN where missing, or `Labels`.
        thresholds: a number or L numbers; 0.5 if absent.
        train_label_counts: L whole numbers.
        label_names: L names.

    Raises:
        ValueError: arrays of wrong shape or values.

    Example:
        >>> rows = per_label_metrics([[2.0, -1.0], [1.0, 0.5]], [[1, 0], [0, 1]], label_names=["oil", "tin"])
        >>> [(row["label"], row["precision"]) for row in rows]
        [('oil', 0.5), ('tin', 1.0)]
    """
    [scores] = _block_scores(*scores_and_labels(logits, labels), [thresholds], row_rankings=False)
    num_labels = len(scores["per_label_f1"])
    names: Sequence[Any] = range(num_labels) if label_names is None else list(label_names)
    if len(names) != num_labels:
        raise ValueError(f"label_names: expected one name per label ({num_labels}), got {len(names)}")
    limits = np.broadcast_to(0.5 if thresholds is None else np.asarray(thresholds, dtype=np.float64), num_labels)
    table: dict[str, list[Any]] = {"label": list(names), "threshold": limits.tolist()}
    for key in ("f1", "precision", "recall", "average_precision", "support", "known"):
        table[key] = scores[f"per_label_{key}"].tolist()
    if train_label_counts is not None:
        counts = as_vector("train_label_counts", train_label_counts, num_labels)
        table["train_count"] = counts.astype(np.int64).tolist()
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def _block_scores(scores: Scores, labels: Labels, thresholds: list[Any], **options: Any) -> list[dict[str, Any]]:
    # Imported here: the metric's file imports `evaluate`, which takes a second.
    from ..metrics.multilabel_f1.multilabel_f1 import block_scores

    return block_scores(labels.matrix, labels.missing, scores, thresholds, **options)


def _logits_and_labels(eval_prediction: Any) -> tuple[Any, Any]:
    if hasattr(eval_prediction, "predictions") and hasattr(eval_prediction, "label_ids"):
        logits, labels = eval_prediction.predictions, eval_prediction.label_ids
    elif isinstance(eval_prediction, (tuple, list)) and len(eval_prediction) == 2:
        logits, labels = eval_prediction
    else:
        got = type(eval_prediction).__name__
        raise ValueError(f"eval_prediction: expected an EvalPrediction or a pair (logits, labels), got {got}")
    if labels is None:
        raise ValueError("eval_prediction: expected labels, got None")
    return (logits[0] if isinstance(logits, tuple) else logits), labels


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Known decisions in bins of equal width over [0, 1]; bins without one are left out.

    Attributes:
        mean_probability, positive_rate: float64, one per bin: the predicted and the observed share of positives.
        counts: int64, decisions per bin.
    """

    mean_probability: np.ndarray
    positive_rate: np.ndarray
    counts: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error."""
        gaps = np.abs(self.mean_probability - self.positive_rate)
        return float((self.counts * gaps).sum() / self.counts.sum())


def reliability_curve(probabilities: Any, labels: Any, *, num_bins: int = 15) -> ReliabilityCurve:
    """Observed against predicted share of positives, all N x L decisions pooled, those of missing labels left out.

    Args:
        probabilities: N x L numbers in [0, 1]; or `LinearScores` (of logits).
        labels: N x L multi-hot, -100 or NaN where missing, or `Labels`.

    Raises:
        ValueError: arrays of wrong shape or values, `num_bins` that is no whole number above 0.

    Example:
        >>> curve = reliability_curve([[0.1, 0.9], [0.2, 0.8]], [[0, 1], [0, -100]], num_bins=2)
        >>> curve.positive_rate.tolist(), curve.counts.tolist()
        ([0.0, 1.0], [2, 1])
    """
    check_positive("num_bins", num_bins, whole=True)
    scores, labels = scores_and_labels(probabilities, labels, "probabilities")
    total = np.zeros((3, num_bins))
    for _, columns, truth, known in scores.blocks(labels):
        values, positive = scores.probabilities(columns)[known].ravel(), truth[known].ravel()
        bins = np.minimum((values * num_bins).astype(np.int64), num_bins - 1)
        total += [np.bincount(bins, weights, num_bins) for weights in (None, values, positive)]
    counts, mass, positives = total[:, total[0] > 0]
    return ReliabilityCurve(mass / counts, positives / counts, counts.astype(np.int64))


def expected_calibration_error(probabilities: Any, labels: Any, *, num_bins: int = 15) -> float:
    """Expected calibration error over all n = NL decisions "has this example this label?", or over the known ones.

    ECE = sum over bins b of (n_b / n) * |mean probability in b - share of positives in b|, bins of equal width on the
    probability of the label (Naeini et al. 2015; Guo et al. 2017 with the probability in the place of the confidence).
    With many labels nearly all decisions are clear negatives in the first bin, so small values are normal: compare
    them for one dataset only. Arguments and errors as in `reliability_curve`.
    """
    return reliability_curve(probabilities, labels, num_bins=num_bins).error
