"""Scores of logits against labels, as the Trainer wants them. Imports numpy and, when used, the metric's module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import as_array, as_matrix, as_vector, sigmoid, split_labels
from .calibration import expected_calibration_error
from .label_blocks import LabelScores
from .many_labels import label_list_scores


def compute_metrics(
    eval_prediction: Any, *, thresholds: Any = None, train_label_counts: Any = None
) -> dict[str, float]:
    """All numbers of `multilabel_scores` for logits; can be given to `Trainer(compute_metrics=...)` as it is.

    The scores of decisions (`macro_f1`, `hamming_loss`, ...) use `thresholds`. Added are `macro_f1_at_half` and
    `micro_f1_at_half` (every threshold 0.5) and `ece` (`expected_calibration_error`).

    Args:
        eval_prediction: a `transformers.EvalPrediction` or a pair (logits, labels); logits N x L, or a tuple of model
            outputs with the logits first; labels N x L multi-hot, -100 or NaN where unknown. Unknown ones count in no
            score. Of too many labels for arrays: `LinearScores` and `LabelLists`.
        thresholds: a number or L numbers; on probabilities; 0.5 if absent.
        train_label_counts: L numbers, how often each label occurs in the training set; adds the head, medium and tail
            scores.

    Raises:
        ValueError: arrays of wrong shape or values.
    """
    # Imported here: the metric's file imports `evaluate`, which imports transformers.
    from ..metrics.multilabel_f1.multilabel_f1 import multilabel_scores

    logits, labels = _logits_and_labels(eval_prediction)
    if isinstance(logits, LabelScores):
        found = label_list_scores(logits, labels, thresholds=thresholds, train_label_counts=train_label_counts)
        found["ece"] = expected_calibration_error(logits, labels)
        return {name: float(value) for name, value in found.items() if not name.startswith("per_label_")}
    probabilities, labels = _probabilities_and_labels(logits, labels)
    scores = multilabel_scores(
        labels, probabilities=probabilities, thresholds=thresholds, train_label_counts=train_label_counts
    )
    at_half = scores if thresholds is None else multilabel_scores(labels, probabilities >= 0.5)
    scores["macro_f1_at_half"], scores["micro_f1_at_half"] = at_half["macro_f1"], at_half["micro_f1"]
    scores["ece"] = expected_calibration_error(probabilities, labels)
    return {name: float(value) for name, value in scores.items()}


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
        labels: N x L multi-hot, -100 or NaN where unknown; `LabelLists` beside `LinearScores`.
        thresholds: a number or L numbers; 0.5 if absent.
        train_label_counts: L whole numbers.
        label_names: L names.

    Raises:
        ValueError: arrays of wrong shape or values.
    """
    from ..metrics.multilabel_f1.multilabel_f1 import multilabel_scores

    if isinstance(logits, LabelScores):
        scores = label_list_scores(logits, labels, thresholds=thresholds, rankings=False)
    else:
        probabilities, truth = _probabilities_and_labels(logits, labels)
        scores = multilabel_scores(truth, probabilities=probabilities, thresholds=thresholds, per_label=True)
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


def _probabilities_and_labels(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    scores = as_matrix("logits", logits)
    truth = as_array("labels", labels)
    split_labels("labels", truth, rows=scores.shape[0], columns=scores.shape[1])  # only for its errors
    return sigmoid(scores), truth
