"""`compute_metrics` is the metric's own code behind logits."""

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from hf_mlcl.evaluation import compute_metrics, per_label_metrics
from hf_mlcl.evaluation.compute_metrics import decision_scores, expected_calibration_error
from hf_mlcl.metrics.multilabel_f1.multilabel_f1 import multilabel_scores

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.standard_normal((60, 5)).astype(np.float32)
LABELS = (LOGITS + GENERATOR.standard_normal((60, 5)) > 0.5).astype(np.float32)
PROBABILITIES = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
THRESHOLDS = np.linspace(0.2, 0.8, 5)


@pytest.mark.parametrize("missing", [False, True])
def test_equals_the_metric_with_the_given_thresholds_and_at_half(missing):
    labels = np.where(np.random.default_rng(1).random((60, 5)) < 0.3 * missing, -100, LABELS)
    labels[::10], labels[:, 1] = (-100, -100) if missing else (labels[::10], labels[:, 1])
    counts = [5, 30, 300, 2, 50]
    scores = compute_metrics((LOGITS, labels), thresholds=THRESHOLDS, train_label_counts=counts)
    options = {"thresholds": THRESHOLDS, "train_label_counts": counts}
    expected = multilabel_scores(labels, probabilities=PROBABILITIES, **options)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    at_half = multilabel_scores(labels, PROBABILITIES >= 0.5)
    assert scores["macro_f1_at_half"] == at_half["macro_f1"] and scores["micro_f1_at_half"] == at_half["micro_f1"]
    assert scores["ece"] == pytest.approx(expected_calibration_error(PROBABILITIES, labels))
    rows = per_label_metrics(LOGITS, labels, THRESHOLDS)
    assert [row["known"] for row in rows] == (labels != -100).sum(0).tolist()
    assert np.mean([row["f1"] for row in rows if row["known"]]) == pytest.approx(scores["macro_f1"])
    assert all(type(value) is float for value in scores.values())
    assert {"macro_f1", "micro_f1", "hamming_loss", "map", "lrap", "macro_f1_tail"} <= set(scores)


@pytest.mark.parametrize(
    "prediction",
    [
        EvalPrediction(predictions=LOGITS, label_ids=LABELS),
        EvalPrediction(predictions=(LOGITS, np.zeros((60, 9))), label_ids=LABELS),
        (torch.from_numpy(LOGITS).requires_grad_(), torch.from_numpy(LABELS).bool()),
        ((LOGITS, None), LABELS),
        (LOGITS.tolist(), LABELS.tolist()),
    ],
)
def test_forms_of_predictions_agree(prediction):
    assert compute_metrics(prediction) == compute_metrics((LOGITS, LABELS))


def test_per_label_metrics_average_to_the_macro_scores():
    names = ["a", "b", "c", "d", "e"]
    rows = per_label_metrics(LOGITS, LABELS, THRESHOLDS, [1, 2, 3, 4, 5], names)
    scores = compute_metrics((LOGITS, LABELS), thresholds=THRESHOLDS)
    assert [row["label"] for row in rows] == names and [row["train_count"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["support"] for row in rows] == LABELS.sum(axis=0).tolist()
    assert [row["threshold"] for row in rows] == THRESHOLDS.tolist()
    assert np.mean([row["f1"] for row in rows]) == pytest.approx(scores["macro_f1"])
    assert np.mean([row["average_precision"] for row in rows]) == pytest.approx(scores["map"])
    plain = per_label_metrics(LOGITS, LABELS)
    assert [row["label"] for row in plain] == [0, 1, 2, 3, 4] and "train_count" not in plain[0]


def test_decision_scores_are_those_of_all_scores():
    scores = decision_scores((LOGITS, LABELS), THRESHOLDS)
    expected = compute_metrics((LOGITS, LABELS), thresholds=THRESHOLDS)
    numbers = {name for name in scores if not name.startswith("per_label")}
    assert {"macro_f1", "micro_f1", "hamming_loss"} <= numbers and "map" not in numbers
    assert all(scores[name] == expected[name] for name in numbers)
