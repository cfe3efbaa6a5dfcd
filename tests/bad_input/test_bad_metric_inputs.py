"""Metrics, thresholds, calibration, linear evaluation and classifier given arrays of wrong shapes, types or values."""

import math

import numpy as np
import pytest
from clear_line import check_line, raises_a_clear_line
from hypothesis import given
from hypothesis import strategies as st
from transformers import EvalPrediction

from hf_mlcl import compute_metrics
from hf_mlcl.data import LabelLists
from hf_mlcl.evaluation import (
    expected_calibration_error,
    fit_calibration,
    fit_classifier,
    fit_linear_evaluation,
    fit_logistic_regression,
    fold_calibration,
    per_label_metrics,
    reliability_curve,
    tune_thresholds,
)
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


def lists(labels):
    return LabelLists.from_pairs(*np.nonzero(labels), labels.shape)


CASES = {
    # compute_metrics
    "logits alone": (lambda: compute_metrics(LOGITS), "eval_prediction"),
    "three arrays": (lambda: compute_metrics((LOGITS, LABELS, LABELS)), "eval_prediction"),
    "None": (lambda: compute_metrics(None), "eval_prediction"),
    "labels None": (lambda: compute_metrics(EvalPrediction(LOGITS, None)), "eval_prediction"),
    "NaN logits": (lambda: compute_metrics((changed(LOGITS, math.nan), LABELS)), "(logits|predictions)"),
    "infinite logits": (lambda: compute_metrics((changed(LOGITS, math.inf), LABELS)), "(logits|predictions)"),
    "texts as logits": (lambda: compute_metrics((changed(LOGITS, "a"), LABELS)), "(logits|predictions)"),
    "logits of one axis": (lambda: compute_metrics((LOGITS[0], LABELS[0])), "(logits|labels)"),
    "fewer labels": (lambda: compute_metrics((LOGITS, LABELS[:, :2])), "labels"),
    "fewer rows": (lambda: compute_metrics((LOGITS[:2], LABELS)), "labels"),
    "no rows": (lambda: compute_metrics((LOGITS[:0], LABELS[:0])), "(logits|labels)"),
    "no labels": (lambda: compute_metrics((LOGITS[:, :0], LABELS[:, :0])), "(logits|labels)"),
    "class ids": (lambda: compute_metrics((LOGITS, LABELS * 2)), "labels"),
    "soft labels": (lambda: compute_metrics((LOGITS, LABELS * 0.5)), "labels"),
    "texts as labels": (lambda: compute_metrics((LOGITS, LABELS.astype(str))), "labels"),
    "names as labels": (lambda: compute_metrics((LOGITS, [["a"], ["b"]])), "labels"),
    "ragged labels": (lambda: compute_metrics((LOGITS, [[1, 0], [1]])), "labels"),
    "only unknown labels": (lambda: compute_metrics((LOGITS, np.full((4, 3), -100))), "labels"),
    "thresholds of another length": (lambda: compute_metrics((LOGITS, LABELS), thresholds=[0.5, 0.5]), "thresholds"),
    "NaN thresholds": (lambda: compute_metrics((LOGITS, LABELS), thresholds=math.nan), "thresholds"),
    "a text as threshold": (lambda: compute_metrics((LOGITS, LABELS), thresholds="half"), "thresholds"),
    "thresholds in percent": (lambda: compute_metrics((LOGITS, LABELS), thresholds=50), "thresholds"),
    "counts of another length": (
        lambda: compute_metrics((LOGITS, LABELS), train_label_counts=[1]),
        "train_label_counts",
    ),
    "negative counts": (
        lambda: compute_metrics((LOGITS, LABELS), train_label_counts=[1, 2, -3]),
        "train_label_counts",
    ),
    "names of another length": (lambda: per_label_metrics(LOGITS, LABELS, label_names=["a"]), "label_names"),
    # multilabel_scores
    "neither predictions nor probabilities": (lambda: multilabel_scores(LABELS), "predictions"),
    "probabilities above 1": (lambda: multilabel_scores(LABELS, probabilities=HALF * 3), "probabilities"),
    "negative probabilities": (lambda: multilabel_scores(LABELS, probabilities=-HALF), "probabilities"),
    "NaN probabilities": (lambda: multilabel_scores(LABELS, probabilities=changed(HALF, math.nan)), "probabilities"),
    "soft predictions": (lambda: multilabel_scores(LABELS, HALF), "predictions"),
    "unknown predictions": (lambda: multilabel_scores(LABELS, changed(LABELS, -100)), "predictions"),
    "predictions of another shape": (lambda: multilabel_scores(LABELS, LABELS[:2]), "predictions"),
    "thresholds beside predictions": (lambda: multilabel_scores(LABELS, LABELS, thresholds=0.5), "thresholds"),
    "k of 0": (lambda: multilabel_scores(LABELS, probabilities=HALF, ks=[0]), "ks"),
    "k of 1.5": (lambda: multilabel_scores(LABELS, probabilities=HALF, ks=[1.5]), "ks"),
    "k as a number": (lambda: multilabel_scores(LABELS, probabilities=HALF, ks=3), "ks"),
    "references of texts": (lambda: multilabel_scores([["a", "b"]], [[1, 0]]), "references"),
    "references of three axes": (lambda: multilabel_scores(LABELS[None], LABELS[None]), "references"),
    "references empty": (lambda: multilabel_scores([], []), "references"),
    # the evaluate module
    "another config": (lambda: MultilabelF1(config_name="multihots"), "config_name"),
    "an unknown option": (
        lambda: MultilabelF1().compute(predictions=LABELS, references=LABELS, threshold=1),
        "threshold",
    ),
    "other numbers of examples": (
        lambda: MultilabelF1().compute(predictions=LABELS[:2], references=LABELS),
        "predictions, references: expected .*2 and 4",
    ),
    "a name that is no label": (
        lambda: MultilabelF1(config_name="labels").compute(predictions=[["a"]], references=[["b"]], label_names=["b"]),
        "predictions",
    ),
    "names without a list": (
        lambda: MultilabelF1(config_name="labels").compute(predictions=["a"], references=["a"]),
        "predictions",
    ),
    # thresholds and calibration
    "logits as probabilities": (lambda: tune_thresholds(LOGITS * 3, LABELS), "probabilities"),
    "probabilities NaN": (lambda: tune_thresholds(changed(HALF, math.nan), LABELS), "probabilities"),
    "labels of other rows": (lambda: tune_thresholds(HALF, LABELS[:3]), "labels"),
    "another rule": (lambda: tune_thresholds(HALF, LABELS, rule="x"), "rule"),
    "frequencies of other labels": (
        lambda: tune_thresholds(HALF, LABELS, train_label_counts=[1, 2]),
        "train_label_counts",
    ),
    "NaN frequencies": (
        lambda: tune_thresholds(HALF, LABELS, train_label_counts=[1, math.nan, 2]),
        "train_label_counts",
    ),
    "calibration of NaN": (lambda: fit_calibration(changed(LOGITS, math.nan), LABELS), "logits"),
    "calibration of class ids": (lambda: fit_calibration(LOGITS, LABELS + 1), "labels"),
    "calibration of nothing": (lambda: fit_calibration([], []), "logits"),
    "calibration None": (lambda: fit_calibration(None, LABELS), "logits"),
    "no bins": (lambda: expected_calibration_error(HALF, LABELS, num_bins=0), "num_bins"),
    "half a bin": (lambda: reliability_curve(HALF, LABELS, num_bins=1.5), "num_bins"),
    "weight of other labels": (
        lambda: fold_calibration(np.ones((2, 5)), np.ones(3), fit_calibration(LOGITS, LABELS)),
        "weight",
    ),
    "bias of other labels": (
        lambda: fold_calibration(np.ones((3, 5)), np.ones(2), fit_calibration(LOGITS, LABELS)),
        "bias",
    ),
    # linear evaluation
    "features NaN": (lambda: train(changed(FEATURES, math.nan)), "train_features"),
    "features of one axis": (lambda: train(FEATURES[0]), "train_features"),
    "features of other rows": (lambda: train(FEATURES[:2]), "train_labels"),
    "validation of another size": (lambda: train(validation=FEATURES[:, :4]), "validation_features"),
    "validation of other labels": (lambda: train(validation_labels=LABELS[:, :2]), "validation_labels"),
    "class ids in training": (lambda: train(labels=LABELS * 3), "train_labels"),
    "no learning rates": (lambda: train(learning_rates=[]), "learning_rates, weight_decays: expected at least one"),
    "learning rate 0": (lambda: train(learning_rates=[0]), "learning_rates"),
    "negative weight decay": (lambda: train(weight_decays=[-1]), "weight_decays"),
    # logistic regression and classifier
    "regression of NaN": (lambda: regress(changed(FEATURES, math.nan)), "features"),
    "regression of texts": (lambda: regress(changed(FEATURES, "a")), "features"),
    "regression of other rows": (lambda: regress(FEATURES[:2]), "labels"),
    "regression of class ids": (lambda: regress(labels=LABELS * 3), "labels"),
    "regression of unknown labels": (lambda: regress(labels=np.full((4, 3), -100)), "labels"),
    "a strength of 0": (lambda: regress(strengths=[1.0, 0]), "strengths"),
    "a negative strength": (lambda: regress(strengths=[-2.0]), "strengths"),
    "an infinite strength": (lambda: regress(strengths=[math.inf]), "strengths"),
    "a text as strengths": (lambda: regress(strengths="weak"), "strengths"),
    "classifier of NaN": (lambda: classify(changed(FEATURES, math.nan)), "train_features"),
    "classifier of NaN in validation": (
        lambda: classify(validation=changed(FEATURES, math.nan)),
        "validation_features",
    ),
    "classifier of other rows": (lambda: classify(FEATURES[:2]), "train_labels"),
    "classifier of features of one axis": (lambda: classify(FEATURES[0]), "train_features"),
    "classifier of validation features of another size": (
        lambda: classify(validation=FEATURES[:, :4]),
        "validation_features",
    ),
    "classifier of other validation labels": (lambda: classify(validation_labels=LABELS[:, :2]), "validation_labels"),
    "classifier of lists of other validation labels": (
        lambda: classify(labels=lists(LABELS), validation_labels=lists(LABELS[:, :2])),
        "validation_labels",
    ),
    "classifier of lists of other rows": (
        lambda: classify(labels=lists(LABELS[:2]), validation_labels=lists(LABELS)),
        "labels",
    ),
    "classifier of class ids": (lambda: classify(labels=LABELS + 1), "train_labels"),
    "classifier of unknown validation labels": (
        lambda: classify(validation_labels=np.full((4, 3), -100)),
        "validation_labels",
    ),
    "classifier of another rule": (lambda: classify(thresholds="x"), "thresholds"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_array_that_is_wrong_is_named(case):
    call, message = CASES[case]
    raises_a_clear_line(call, message)


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
        check_line(str(error), "")
