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


CASES = [
    ("eval_prediction", lambda: compute_metrics(LOGITS)),
    ("eval_prediction", lambda: compute_metrics((LOGITS, LABELS, LABELS))),
    ("eval_prediction", lambda: compute_metrics(None)),
    ("eval_prediction", lambda: compute_metrics(EvalPrediction(LOGITS, None))),
    ("(logits|predictions)", lambda: compute_metrics((changed(LOGITS, math.nan), LABELS))),
    ("(logits|predictions)", lambda: compute_metrics((changed(LOGITS, math.inf), LABELS))),
    ("(logits|predictions)", lambda: compute_metrics((changed(LOGITS, "a"), LABELS))),
    ("(logits|labels)", lambda: compute_metrics((LOGITS[0], LABELS[0]))),
    ("labels", lambda: compute_metrics((LOGITS, LABELS[:, :2]))),
    ("labels", lambda: compute_metrics((LOGITS[:2], LABELS))),
    ("(logits|labels)", lambda: compute_metrics((LOGITS[:0], LABELS[:0]))),
    ("(logits|labels)", lambda: compute_metrics((LOGITS[:, :0], LABELS[:, :0]))),
    ("labels", lambda: compute_metrics((LOGITS, LABELS * 2))),
    ("labels", lambda: compute_metrics((LOGITS, LABELS * 0.5))),
    ("labels", lambda: compute_metrics((LOGITS, LABELS.astype(str)))),
    ("labels", lambda: compute_metrics((LOGITS, [["a"], ["b"]]))),
    ("labels", lambda: compute_metrics((LOGITS, [[1, 0], [1]]))),
    ("labels", lambda: compute_metrics((LOGITS, np.full((4, 3), -100)))),
    ("thresholds", lambda: compute_metrics((LOGITS, LABELS), thresholds=[0.5, 0.5])),
    ("thresholds", lambda: compute_metrics((LOGITS, LABELS), thresholds=math.nan)),
    ("thresholds", lambda: compute_metrics((LOGITS, LABELS), thresholds="half")),
    ("thresholds", lambda: compute_metrics((LOGITS, LABELS), thresholds=50)),
    ("train_label_counts", lambda: compute_metrics((LOGITS, LABELS), train_label_counts=[1])),
    ("train_label_counts", lambda: compute_metrics((LOGITS, LABELS), train_label_counts=[1, 2, -3])),
    ("label_names", lambda: per_label_metrics(LOGITS, LABELS, label_names=["a"])),
    ("predictions", lambda: multilabel_scores(LABELS)),
    ("probabilities", lambda: multilabel_scores(LABELS, probabilities=HALF * 3)),
    ("probabilities", lambda: multilabel_scores(LABELS, probabilities=-HALF)),
    ("probabilities", lambda: multilabel_scores(LABELS, probabilities=changed(HALF, math.nan))),
    ("predictions", lambda: multilabel_scores(LABELS, HALF)),
    ("predictions", lambda: multilabel_scores(LABELS, changed(LABELS, -100))),
    ("predictions", lambda: multilabel_scores(LABELS, LABELS[:2])),
    ("thresholds", lambda: multilabel_scores(LABELS, LABELS, thresholds=0.5)),
    ("ks", lambda: multilabel_scores(LABELS, probabilities=HALF, ks=[0])),
    ("ks", lambda: multilabel_scores(LABELS, probabilities=HALF, ks=[1.5])),
    ("ks", lambda: multilabel_scores(LABELS, probabilities=HALF, ks=3)),
    ("references", lambda: multilabel_scores([["a", "b"]], [[1, 0]])),
    ("references", lambda: multilabel_scores(LABELS[None], LABELS[None])),
    ("references", lambda: multilabel_scores([], [])),
    ("config_name", lambda: MultilabelF1(config_name="multihots")),
    ("threshold", lambda: MultilabelF1().compute(predictions=LABELS, references=LABELS, threshold=1)),
    ("predictions, references", lambda: MultilabelF1().compute(predictions=LABELS[:2], references=LABELS)),
    (
        "predictions",
        lambda: MultilabelF1(config_name="labels").compute(predictions=[["a"]], references=[["b"]], label_names=["b"]),
    ),
    ("predictions", lambda: MultilabelF1(config_name="labels").compute(predictions=["a"], references=["a"])),
    ("probabilities", lambda: tune_thresholds(LOGITS * 3, LABELS)),
    ("probabilities", lambda: tune_thresholds(changed(HALF, math.nan), LABELS)),
    ("labels", lambda: tune_thresholds(HALF, LABELS[:3])),
    ("rule", lambda: tune_thresholds(HALF, LABELS, rule="x")),
    ("train_label_counts", lambda: tune_thresholds(HALF, LABELS, train_label_counts=[1, 2])),
    ("train_label_counts", lambda: tune_thresholds(HALF, LABELS, train_label_counts=[1, math.nan, 2])),
    ("logits", lambda: fit_calibration(changed(LOGITS, math.nan), LABELS)),
    ("labels", lambda: fit_calibration(LOGITS, LABELS + 1)),
    ("logits", lambda: fit_calibration([], [])),
    ("logits", lambda: fit_calibration(None, LABELS)),
    ("num_bins", lambda: expected_calibration_error(HALF, LABELS, num_bins=0)),
    ("num_bins", lambda: reliability_curve(HALF, LABELS, num_bins=1.5)),
    ("weight", lambda: fold_calibration(np.ones((2, 5)), np.ones(3), fit_calibration(LOGITS, LABELS))),
    ("bias", lambda: fold_calibration(np.ones((3, 5)), np.ones(2), fit_calibration(LOGITS, LABELS))),
    ("train_features", lambda: train(changed(FEATURES, math.nan))),
    ("train_features", lambda: train(FEATURES[0])),
    ("train_labels", lambda: train(FEATURES[:2])),
    ("validation_features", lambda: train(validation=FEATURES[:, :4])),
    ("validation_labels", lambda: train(validation_labels=LABELS[:, :2])),
    ("train_labels", lambda: train(labels=LABELS * 3)),
    ("learning_rates, weight_decays", lambda: train(learning_rates=[])),
    ("learning_rates", lambda: train(learning_rates=[0])),
    ("weight_decays", lambda: train(weight_decays=[-1])),
    ("features", lambda: regress(changed(FEATURES, math.nan))),
    ("features", lambda: regress(changed(FEATURES, "a"))),
    ("labels", lambda: regress(FEATURES[:2])),
    ("labels", lambda: regress(labels=LABELS * 3)),
    ("labels", lambda: regress(labels=np.full((4, 3), -100))),
    ("strengths", lambda: regress(strengths=[1.0, 0])),
    ("strengths", lambda: regress(strengths=[-2.0])),
    ("strengths", lambda: regress(strengths=[math.inf])),
    ("strengths", lambda: regress(strengths="weak")),
    ("train_features", lambda: classify(changed(FEATURES, math.nan))),
    ("validation_features", lambda: classify(validation=changed(FEATURES, math.nan))),
    ("train_labels", lambda: classify(FEATURES[:2])),
    ("train_features", lambda: classify(FEATURES[0])),
    ("validation_features", lambda: classify(validation=FEATURES[:, :4])),
    ("validation_labels", lambda: classify(validation_labels=LABELS[:, :2])),
    ("validation_labels", lambda: classify(labels=lists(LABELS), validation_labels=lists(LABELS[:, :2]))),
    ("labels", lambda: classify(labels=lists(LABELS[:2]), validation_labels=lists(LABELS))),
    ("train_labels", lambda: classify(labels=LABELS + 1)),
    ("validation_labels", lambda: classify(validation_labels=np.full((4, 3), -100))),
    ("thresholds", lambda: classify(thresholds="x")),
]


@pytest.mark.parametrize(("name", "call"), CASES)
def test_the_array_that_is_wrong_is_named(name, call):
    raises_a_clear_line(call, name)


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
