"""`compute_metrics` is the metric's own code behind logits."""

from functools import partial

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


def test_equals_the_metric_with_the_given_thresholds_and_at_half():
    counts = [5, 30, 300, 2, 50]
    scores = compute_metrics((LOGITS, LABELS), thresholds=THRESHOLDS, train_label_counts=counts)
    options = {"thresholds": THRESHOLDS, "train_label_counts": counts}
    expected = multilabel_scores(LABELS, probabilities=PROBABILITIES, **options)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    at_half = multilabel_scores(LABELS, PROBABILITIES >= 0.5)
    assert scores["macro_f1_at_half"] == at_half["macro_f1"] and scores["micro_f1_at_half"] == at_half["micro_f1"]
    assert scores["ece"] == pytest.approx(expected_calibration_error(PROBABILITIES, LABELS))
    assert all(type(value) is float for value in scores.values())
    assert {"macro_f1", "micro_f1", "hamming_loss", "map", "lrap", "macro_f1_tail"} <= set(scores)


def test_default_threshold_is_half():
    scores = compute_metrics((LOGITS, LABELS))
    assert scores["macro_f1"] == scores["macro_f1_at_half"] and scores["micro_f1"] == scores["micro_f1_at_half"]


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


def test_bfloat16_tensors_are_read():
    scores = compute_metrics((torch.from_numpy(LOGITS).to(torch.bfloat16), torch.from_numpy(LABELS)))
    assert scores["macro_f1"] == compute_metrics((LOGITS, LABELS))["macro_f1"]


def test_trainer_takes_it_as_it_is(tmp_path):
    """A plain Trainer on a one-layer model, with and without bound thresholds."""
    from transformers import Trainer, TrainingArguments

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(5, 5)

        def forward(self, inputs, labels=None):
            logits = self.layer(inputs)
            return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(logits, labels), "logits": logits}

    rows = [{"inputs": logits, "labels": labels} for logits, labels in zip(LOGITS, LABELS, strict=True)]
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True, disable_tqdm=True)
    model = Linear()
    for function in (compute_metrics, partial(compute_metrics, thresholds=THRESHOLDS)):
        trainer = Trainer(model=model, args=arguments, eval_dataset=rows, compute_metrics=function)
        scores = trainer.evaluate()
        expected = function((model.layer(torch.from_numpy(LOGITS)), LABELS))
        assert scores["eval_map"] == pytest.approx(expected["map"])
        assert scores["eval_macro_f1"] == pytest.approx(expected["macro_f1"])


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
