"""Metrics, thresholds, calibration, linear evaluation and classifier given arrays of wrong shapes, types or values."""

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


def changed(array, value):
    array = array.astype(object if isinstance(value, str) else float)
    array[1, 1] = value
    return array


def train(features=FEATURES, labels=LABELS, validation=FEATURES, validation_labels=LABELS, **options):
    return fit_linear_evaluation(features, labels, validation, validation_labels, **options)


def regress(features=FEATURES, labels=LABELS, strengths=(1.0,)):
    return fit_logistic_regression(features, labels, strengths)


def classify(features=FEATURES, labels=LABELS, validation=FEATURES, validation_labels=LABELS, **options):
    return fit_classifier(features, labels, validation, validation_labels, **options)


def measure(**options):
    return compute_metrics((LOGITS, LABELS), **options)


CASES = {
    # compute_metrics
    "logits alone": (lambda: compute_metrics(LOGITS), "eval_prediction: .*ndarray"),
    "three arrays": (lambda: compute_metrics((LOGITS, LABELS, LABELS)), "eval_prediction: .*tuple"),
    "None": (lambda: compute_metrics(None), "eval_prediction: .*NoneType"),
    "labels None": (lambda: compute_metrics(EvalPrediction(LOGITS, None)), "eval_prediction: .*labels"),
    "NaN logits": (lambda: compute_metrics((changed(LOGITS, math.nan), LABELS)), "logits: .*nan"),
    "infinite logits": (lambda: compute_metrics((changed(LOGITS, math.inf), LABELS)), "logits: .*inf"),
    "texts as logits": (lambda: compute_metrics((changed(LOGITS, "a"), LABELS)), "logits: .*numbers"),
    "logits of one axis": (lambda: compute_metrics((LOGITS[0], LABELS[0])), "logits: .*\\(3,\\)"),
    "fewer labels": (lambda: compute_metrics((LOGITS, LABELS[:, :2])), "labels: .*\\(4, 2\\)"),
    "fewer rows": (lambda: compute_metrics((LOGITS[:2], LABELS)), "labels: .*\\(4, 3\\)"),
    "no rows": (lambda: compute_metrics((LOGITS[:0], LABELS[:0])), "logits: .*empty"),
    "no labels": (lambda: compute_metrics((LOGITS[:, :0], LABELS[:, :0])), "logits: .*empty"),
    "class ids": (lambda: compute_metrics((LOGITS, LABELS * 2)), "labels: .*2"),
    "soft labels": (lambda: compute_metrics((LOGITS, LABELS * 0.5)), "labels: .*0.5"),
    "texts as labels": (lambda: compute_metrics((LOGITS, LABELS.astype(str))), "labels: "),
    "names as labels": (lambda: compute_metrics((LOGITS, [["a"], ["b"]])), "labels: "),
    "ragged labels": (lambda: compute_metrics((LOGITS, [[1, 0], [1]])), "labels: "),
    "only missing labels": (lambda: compute_metrics((LOGITS, np.full((4, 3), -100))), "labels: .*known"),
    "thresholds of another length": (lambda: measure(thresholds=[0.5, 0.5]), "thresholds: .*\\(3\\).*\\(2,\\)"),
    "NaN thresholds": (lambda: measure(thresholds=math.nan), "thresholds: .*nan"),
    "a text as threshold": (lambda: measure(thresholds="half"), "thresholds: .*numbers"),
    "thresholds in percent": (lambda: measure(thresholds=50), "thresholds: .*50"),
    "counts of another length": (lambda: measure(train_label_counts=[1]), "train_label_counts: .*\\(1,\\)"),
    "negative counts": (lambda: measure(train_label_counts=[1, 2, -3]), "train_label_counts: .*-3"),
    "names of another length": (lambda: per_label_metrics(LOGITS, LABELS, label_names=["a"]), "label_names: .*3.*1"),
    # multilabel_scores
    "neither predictions nor probabilities": (lambda: multilabel_scores(LABELS), "predictions: .*probabilities"),
    "probabilities above 1": (lambda: multilabel_scores(LABELS, None, HALF * 3), "probabilities: .*1.5"),
    "negative probabilities": (lambda: multilabel_scores(LABELS, None, -HALF), "probabilities: .*-0.5"),
    "NaN probabilities": (lambda: multilabel_scores(LABELS, None, changed(HALF, math.nan)), "probabilities: .*nan"),
    "soft predictions": (lambda: multilabel_scores(LABELS, HALF), "predictions: .*0.5"),
    "missing predictions": (lambda: multilabel_scores(LABELS, changed(LABELS, -100)), "predictions: .*-100"),
    "predictions of another shape": (lambda: multilabel_scores(LABELS, LABELS[:2]), "predictions: .*\\(2, 3\\)"),
    "thresholds beside predictions": (lambda: multilabel_scores(LABELS, LABELS, thresholds=0.5), "thresholds: "),
    "k of 0": (lambda: multilabel_scores(LABELS, None, HALF, ks=[0]), "ks: .*0"),
    "k of 1.5": (lambda: multilabel_scores(LABELS, None, HALF, ks=[1.5]), "ks: .*1.5"),
    "k as a number": (lambda: multilabel_scores(LABELS, None, HALF, ks=3), "ks: .*3"),
    "references of texts": (lambda: multilabel_scores([["a", "b"]], [[1, 0]]), "references: .*numbers"),
    "references of three axes": (lambda: multilabel_scores(LABELS[None], LABELS), "references: .*\\(1, 4, 3\\)"),
    "references of class ids": (lambda: multilabel_scores(LABELS * 2, LABELS), "references: .*2"),
    "infinite references": (lambda: multilabel_scores(changed(LABELS, math.inf), LABELS), "references: .*inf"),
    "references empty": (lambda: multilabel_scores([], []), "references: .*\\(0,\\)"),
    # the evaluate module
    "another config": (lambda: MultilabelF1(config_name="multihots"), "config_name: .*'multihots'"),
    "an option that does not exist": (
        lambda: MultilabelF1().compute(predictions=LABELS, references=LABELS, threshold=1),
        "threshold: ",
    ),
    # thresholds and calibration
    "logits as probabilities": (lambda: tune_thresholds(LOGITS * 3, LABELS), "probabilities: .*sigmoid"),
    "probabilities NaN": (lambda: tune_thresholds(changed(HALF, math.nan), LABELS), "probabilities: .*nan"),
    "labels of other rows": (lambda: tune_thresholds(HALF, LABELS[:3]), "labels: .*\\(3, 3\\)"),
    "another rule": (lambda: tune_thresholds(HALF, LABELS, rule="x"), "^rule: .*'x'"),
    "frequencies of other labels": (
        lambda: tune_thresholds(HALF, LABELS, train_label_counts=[1, 2]),
        "train_label_counts: .*\\(3\\).*\\(2,\\)",
    ),
    "NaN frequencies": (
        lambda: tune_thresholds(HALF, LABELS, train_label_counts=[1, math.nan, 2]),
        "train_label_counts: .*nan",
    ),
    "calibration of NaN": (lambda: fit_calibration(changed(LOGITS, math.nan), LABELS), "logits: .*nan"),
    "calibration of class ids": (lambda: fit_calibration(LOGITS, LABELS + 1), "labels: .*2"),
    "calibration of nothing": (lambda: fit_calibration([], []), "logits: .*empty"),
    "calibration None": (lambda: fit_calibration(None, LABELS), "logits: "),
    "other logits to calibrate": (
        lambda: fit_calibration(LOGITS, LABELS).apply(LOGITS[:, :2]),
        "logits: .*\\(4, 2\\)",
    ),
    "no bins": (lambda: reliability_curve(HALF, LABELS, num_bins=0), "num_bins: .*0"),
    "half a bin": (lambda: reliability_curve(HALF, LABELS, num_bins=1.5), "num_bins: .*1.5"),
    "weight of other labels": (
        lambda: fold_calibration(np.ones((2, 5)), np.ones(3), fit_calibration(LOGITS, LABELS)),
        "weight: .*\\(2, 5\\)",
    ),
    "bias of other labels": (
        lambda: fold_calibration(np.ones((3, 5)), np.ones(2), fit_calibration(LOGITS, LABELS)),
        "bias: .*\\(3\\).*\\(2,\\)",
    ),
    # the study's protocol
    "no learning rates": (lambda: train(learning_rates=[]), "learning_rates, weight_decays: "),
    "learning rate 0": (lambda: train(learning_rates=[0]), "learning_rates: .*0"),
    "negative weight decay": (lambda: train(weight_decays=[-1]), "weight_decays: .*-1"),
    "no epoch": (lambda: train(num_epochs=0), "num_epochs: .*0"),
    # logistic regression
    "regression of NaN": (lambda: regress(changed(FEATURES, math.nan)), "^features: .*nan"),
    "regression of texts": (lambda: regress(changed(FEATURES, "a")), "^features: .*numbers"),
    "regression of other rows": (lambda: regress(FEATURES[:2]), "^labels: .*\\(4, 3\\)"),
    "regression of class ids": (lambda: regress(labels=LABELS * 3), "^labels: .*3"),
    "regression of missing labels": (lambda: regress(labels=np.full((4, 3), -100)), "^labels: .*known"),
    "a strength of 0": (lambda: regress(strengths=[1.0, 0]), "^strengths: .*0"),
    "a negative strength": (lambda: regress(strengths=[-2.0]), "^strengths: .*-2.0"),
    "an infinite strength": (lambda: regress(strengths=[math.inf]), "^strengths: .*inf"),
    "a text as strengths": (lambda: regress(strengths="weak"), "^strengths: .*'w'"),
    "another rule of thresholds": (lambda: classify(thresholds="x"), "^thresholds: .*'x'"),
}
PROBES = {
    "features NaN": ({"features": changed(FEATURES, math.nan)}, "^train_features: .*nan"),
    "validation features NaN": ({"validation": changed(FEATURES, math.nan)}, "^validation_features: .*nan"),
    "features of one axis": ({"features": FEATURES[0]}, "^train_features: .*\\(5,\\)"),
    "features of other rows": ({"features": FEATURES[:2]}, "^train_labels: .*\\(4, 3\\)"),
    "validation features of another size": ({"validation": FEATURES[:, :4]}, "^validation_features: .*5.*\\(4, 4\\)"),
    "other validation labels": ({"validation_labels": LABELS[:, :2]}, "^validation_labels: .*\\(4, 2\\)"),
    "other validation labels in a container": (
        {"validation_labels": Labels.of(LABELS[:, :2])},
        "^validation_labels: .*\\(4, 2\\)",
    ),
    "class ids": ({"labels": LABELS * 3}, "^train_labels: .*3"),
    "missing validation labels": ({"validation_labels": np.full((4, 3), -100)}, "^validation_labels: .*known"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_array_that_is_wrong_is_named(case):
    call, message = CASES[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("case", list(PROBES))
@pytest.mark.parametrize("fit", ["classifier", "study"])
def test_the_array_of_a_probe_that_is_wrong_is_named(fit, case):
    options, message = PROBES[case]
    with pytest.raises(ValueError, match=message):
        (classify if fit == "classifier" else train)(**options)


VALUES = st.one_of(
    st.none(),
    st.text("a1", max_size=2),
    st.integers(-200, 200),
    st.floats(),
    st.booleans(),
    st.just(np.datetime64("2020-01-01")),
)
ARRAYS = st.one_of(VALUES, st.lists(VALUES, max_size=3), st.lists(st.lists(VALUES, max_size=3), max_size=3))


@given(
    ARRAYS, ARRAYS, st.sampled_from([compute_metrics, tune_thresholds, fit_calibration, multilabel_scores, regress])
)
def test_arrays_of_anything_are_measured_or_answered_with_one_clear_line(first, second, function):
    try:
        function((first, second)) if function is compute_metrics else function(first, second)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1 and ": " in str(error)
