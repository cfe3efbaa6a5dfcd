"""Metrics, thresholds, calibration and classifiers given arrays of wrong shapes, types or values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import EvalPrediction

from hf_mlcl import compute_metrics
from hf_mlcl.data.labels import Labels
from hf_mlcl.evaluation import (
    fit_calibration,
    fit_classifier,
    fit_linear_evaluation,
    per_label_metrics,
    reliability_curve,
    tune_thresholds,
)
from hf_mlcl.evaluation.calibration import fold_calibration
from hf_mlcl.evaluation.logistic_regression import fit_logistic_regression
from hf_mlcl.metrics.multilabel_f1.multilabel_f1 import MultilabelF1, multilabel_scores

LABELS = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
LOGITS = np.linspace(-1, 1, 12).reshape(4, 3)
HALF = np.full((4, 3), 0.5)
FEATURES = np.linspace(0, 1, 20).reshape(4, 5)
MISSING = np.full((4, 3), -100)


def changed(array, value):
    array = array.astype(object if isinstance(value, str) else float)
    array[1, 1] = value
    return array


def regress(features=FEATURES, labels=LABELS, strengths=(1.0,)):
    return fit_logistic_regression(features, labels, strengths)


def fold(weight, bias):
    return fold_calibration(weight, bias, fit_calibration(LOGITS, LABELS))


# What is called, with what, and what the line says.
CASES = [
    (compute_metrics, [LOGITS], {}, "eval_prediction: .*ndarray"),
    (compute_metrics, [(LOGITS, LABELS, LABELS)], {}, "eval_prediction: .*tuple"),
    (compute_metrics, [EvalPrediction(LOGITS, None)], {}, "eval_prediction: .*labels"),
    (compute_metrics, [(changed(LOGITS, math.nan), LABELS)], {}, "logits: .*nan"),
    (compute_metrics, [(changed(LOGITS, "a"), LABELS)], {}, "logits: .*numbers"),
    (compute_metrics, [(LOGITS[0], LABELS[0])], {}, r"logits: .*\(3,\)"),
    (compute_metrics, [(LOGITS, LABELS[:, :2])], {}, r"labels: .*\(4, 2\)"),
    (compute_metrics, [(LOGITS[:0], LABELS[:0])], {}, "logits: .*empty"),
    (compute_metrics, [(LOGITS, LABELS * 2)], {}, "labels: .*2"),
    (compute_metrics, [(LOGITS, LABELS * 0.5)], {}, "labels: .*0.5"),
    (compute_metrics, [(LOGITS, LABELS.astype(str))], {}, "labels: "),
    (compute_metrics, [(LOGITS, [[1, 0], [1]])], {}, "labels: "),
    (compute_metrics, [(LOGITS, MISSING)], {}, "labels: .*known"),
    (compute_metrics, [(LOGITS, LABELS)], {"thresholds": [0.5, 0.5]}, r"thresholds: .*\(2,\)"),
    (compute_metrics, [(LOGITS, LABELS)], {"thresholds": math.nan}, "thresholds: .*nan"),
    (compute_metrics, [(LOGITS, LABELS)], {"thresholds": 50}, "thresholds: .*50"),
    (compute_metrics, [(LOGITS, LABELS)], {"train_label_counts": [1]}, r"train_label_counts: .*\(1,\)"),
    (compute_metrics, [(LOGITS, LABELS)], {"train_label_counts": [1, 2, -3]}, "train_label_counts: .*-3"),
    (per_label_metrics, [LOGITS, LABELS], {"label_names": ["a"]}, "label_names: .*3.*1"),
    (multilabel_scores, [LABELS], {}, "predictions: .*probabilities"),
    (multilabel_scores, [LABELS, None, HALF * 3], {}, "probabilities: .*1.5"),
    (multilabel_scores, [LABELS, None, changed(HALF, math.nan)], {}, "probabilities: .*nan"),
    (multilabel_scores, [LABELS, HALF], {}, "predictions: .*0.5"),
    (multilabel_scores, [LABELS, changed(LABELS, -100)], {}, "predictions: .*-100"),
    (multilabel_scores, [LABELS, LABELS[:2]], {}, r"predictions: .*\(2, 3\)"),
    (multilabel_scores, [LABELS, LABELS], {"thresholds": 0.5}, "thresholds: "),
    (multilabel_scores, [LABELS, None, HALF], {"ks": [0]}, "ks: .*0"),
    (multilabel_scores, [LABELS, None, HALF], {"ks": 3}, "ks: .*3"),
    (multilabel_scores, [[["a", "b"]], [[1, 0]]], {}, "references: .*numbers"),
    (multilabel_scores, [LABELS[None], LABELS], {}, r"references: .*\(1, 4, 3\)"),
    (MultilabelF1, [], {"config_name": "multihots"}, "config_name: .*'multihots'"),
    (MultilabelF1().compute, [], {"predictions": LABELS, "references": LABELS, "threshold": 1}, "threshold: "),
    (tune_thresholds, [LOGITS * 3, LABELS], {}, "probabilities: .*sigmoid"),
    (tune_thresholds, [HALF, LABELS[:3]], {}, r"labels: .*\(3, 3\)"),
    (tune_thresholds, [HALF, LABELS], {"rule": "x"}, "rule: .*'x'"),
    (tune_thresholds, [HALF, LABELS], {"train_label_counts": [1, math.nan, 2]}, "train_label_counts: .*nan"),
    (fit_calibration, [changed(LOGITS, math.nan), LABELS], {}, "logits: .*nan"),
    (fit_calibration, [[], []], {}, "logits: .*empty"),
    (fit_calibration, [None, LABELS], {}, "logits: "),
    (fit_calibration(LOGITS, LABELS).apply, [LOGITS[:, :2]], {}, r"logits: .*\(4, 2\)"),
    (reliability_curve, [HALF, LABELS], {"num_bins": 0}, "num_bins: .*0"),
    (fold, [np.ones((2, 5)), np.ones(3)], {}, r"weight: .*\(2, 5\)"),
    (fold, [np.ones((3, 5)), np.ones(2)], {}, r"bias: .*\(2,\)"),
    (regress, [changed(FEATURES, math.nan)], {}, "features: .*nan"),
    (regress, [FEATURES[:2]], {}, r"labels: .*\(4, 3\)"),
    (regress, [], {"labels": MISSING}, "labels: .*known"),
    (regress, [], {"strengths": [1.0, 0]}, "strengths: .*0"),
    (regress, [], {"strengths": "weak"}, "strengths: .*'w'"),
]


@pytest.mark.parametrize(("function", "arguments", "options", "message"), CASES)
def test_the_array_that_is_wrong_is_named(function, arguments, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        function(*arguments, **options)


@pytest.mark.parametrize("fit", [fit_classifier, fit_linear_evaluation])
@pytest.mark.parametrize(
    ("place", "array", "message"),
    [
        (0, changed(FEATURES, math.nan), "train_features: .*nan"),
        (0, FEATURES[0], r"train_features: .*\(5,\)"),
        (0, FEATURES[:2], r"train_labels: .*\(4, 3\)"),
        (1, LABELS * 3, "train_labels: .*3"),
        (2, changed(FEATURES, math.nan), "validation_features: .*nan"),
        (2, FEATURES[:, :4], r"validation_features: .*5.*\(4, 4\)"),
        (3, LABELS[:, :2], r"validation_labels: .*\(4, 2\)"),
        (3, Labels.of(LABELS[:, :2]), r"validation_labels: .*\(4, 2\)"),
        (3, MISSING, "validation_labels: .*known"),
    ],
)
def test_the_array_of_a_probe_that_is_wrong_is_named(fit, place, array, message):
    arrays = [FEATURES, LABELS, FEATURES, LABELS]
    arrays[place] = array
    with pytest.raises(ValueError, match=f"^{message}"):
        fit(*arrays)


@pytest.mark.parametrize("option", [{"learning_rates": []}, {"weight_decays": [-1]}, {"num_epochs": 0}])
def test_the_option_of_the_study_s_protocol_that_is_wrong_is_named(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        fit_linear_evaluation(FEATURES, LABELS, FEATURES, LABELS, **option)


VALUES = st.one_of(st.none(), st.text("a1", max_size=2), st.integers(-200, 200), st.floats(), st.booleans())
ARRAYS = st.one_of(VALUES, st.lists(VALUES, max_size=3), st.lists(st.lists(VALUES, max_size=3), max_size=3))
FUNCTIONS = [tune_thresholds, fit_calibration, multilabel_scores, regress, lambda a, b: compute_metrics((a, b))]


@given(ARRAYS, ARRAYS, st.sampled_from(FUNCTIONS))
def test_arrays_of_anything_are_measured_or_answered_with_one_clear_line(first, second, function):
    try:
        function(first, second)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1 and ": " in str(error)
