"""Arrays, `Labels`, linear and stored scores give the same, whatever the blocks, without an array of all of them."""

from functools import partial

import numpy as np
import pytest
import torch

from hf_mlcl.data.labels import Labels
from hf_mlcl.evaluation import (
    LinearScores,
    compute_metrics,
    fit_calibration,
    fit_classifier,
    fit_linear_evaluation,
    logistic_regression,
    per_label_metrics,
    probe,
    reliability_curve,
    tune_thresholds,
)
from hf_mlcl.evaluation import scores as scores_module
from hf_mlcl.evaluation.scores import StoredScores


def problem(rows=60, num_labels=40, seed=0, unlabelled=True, tied=False):
    """Linear scores and labels, and both as arrays; some labels have no positive, some examples no label."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 6)).astype(np.float32)
    weight, bias = rng.normal(size=(num_labels, 6)), rng.normal(size=num_labels) - 2
    if tied:
        features, weight, bias = features.round(), weight.round(), bias.round()
    truth = rng.normal(size=(rows, num_labels)) + features @ weight.T + bias > 1.5
    truth &= rng.random(num_labels) < 0.7
    truth[:3] = False
    missing = np.isin(np.arange(rows), [1, 7, 8]) & unlabelled
    truth[missing] = False
    scores = LinearScores(features, weight.astype(np.float32), bias.astype(np.float32))
    labels = Labels.from_pairs(*np.nonzero(truth), truth.shape, missing)
    return scores, labels, np.asarray(scores), np.asarray(labels)


def flat(result):
    """All numbers of a result."""
    if isinstance(result, list):
        return np.concatenate([flat(row) for row in result])
    values = (result if isinstance(result, dict) else vars(result)).values()
    return np.concatenate([np.ravel(value) for value in values]).astype(float)


OPTIONS = {"thresholds": np.random.default_rng(1).random(40), "train_label_counts": np.arange(40) ** 2 % 150}
FUNCTIONS = {
    "metrics": lambda scores, labels: compute_metrics((scores, labels)),
    "metrics with options": lambda scores, labels: compute_metrics((scores, labels), **OPTIONS),
    "per label": lambda scores, labels: per_label_metrics(scores, labels, **OPTIONS),
    "calibration": fit_calibration,
}
OF_PROBABILITIES = {
    "reliability": reliability_curve,
    "balanced": tune_thresholds,
    "macro": partial(tune_thresholds, rule="macro", train_label_counts=np.arange(40) ** 2),
    "micro": partial(tune_thresholds, rule="micro"),
}


@pytest.mark.parametrize("function", [*FUNCTIONS, *OF_PROBABILITIES])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("form", ["linear", "stored", "labels alone"])
def test_scores_in_blocks_give_what_arrays_give(function, form, tied, monkeypatch):
    scores, labels, logits, rows = problem(tied=tied)
    of_probabilities = function in OF_PROBABILITIES
    compute = OF_PROBABILITIES[function] if of_probabilities else FUNCTIONS[function]
    array = 1 / (1 + np.exp(-logits.astype(float))) if of_probabilities else logits
    expected = flat(compute(array, rows))
    monkeypatch.setattr(scores_module, "_MAX_NUMBERS", 300)
    given = {"linear": scores, "stored": StoredScores(logits.T.copy()), "labels alone": array}[form]
    np.testing.assert_allclose(flat(compute(given, labels)), expected, rtol=1e-5, atol=1e-6)


def test_without_a_positive():
    scores, _, logits, _ = problem()
    nothing = Labels.from_pairs(np.zeros(0, int), np.zeros(0, int), scores.shape)
    assert compute_metrics((scores, nothing)) == pytest.approx(compute_metrics((logits, np.zeros(scores.shape, bool))))
    assert (tune_thresholds(scores, nothing).per_label == 0.5).all()
    fit = fit_linear_evaluation(scores.features, nothing, scores.features, nothing, num_epochs=2, progress=False)
    assert len(set(fit.chosen)) == 1 and np.isfinite(fit.weight).all()


def test_scores_of_tensors_and_of_diverged_classifiers():
    scores, labels, *_ = problem()
    tensors = (torch.from_numpy(array) for array in (scores.features, scores.weight, scores.bias))
    assert np.array_equal(np.asarray(LinearScores(*tensors)), np.asarray(scores))
    weight = scores.weight.copy()
    weight[3, 2] = np.nan
    with pytest.raises(ValueError, match="weight: .*nan"):
        compute_metrics((LinearScores(scores.features, weight, scores.bias), labels))


@pytest.mark.parametrize("scale", [1, 1000])
def test_calibrated_scores(scale):
    scores, labels, logits, _ = problem()
    scores = LinearScores(scores.features, scale * scores.weight, scale * scores.bias)
    fitted = fit_calibration(scores, labels)
    applied = fitted.apply(scores)
    assert isinstance(applied, LinearScores) and applied.shape == scores.shape
    expected = fitted.apply(scale * logits)
    for found, values in ((applied, expected), (applied[[5, 2]], expected[[5, 2]])):
        np.testing.assert_allclose(np.asarray(found), values, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.columns(np.array([7, 3])), values[:, [7, 3]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("numbers", [2**26, 5 * 24 * 32])
def test_study_of_labels_is_that_of_arrays(numbers, monkeypatch):
    (train, labels, _, rows), (held_out, others, _, other_rows) = problem(), problem(rows=50, seed=1)
    options = {"num_epochs": 3, "batch_size": 32, "progress": False}
    expected = fit_linear_evaluation(train.features, rows, held_out.features, other_rows, **options)
    monkeypatch.setattr(probe, "_MAX_GRID_NUMBERS", numbers)
    found = fit_linear_evaluation(train.features, labels, held_out.features, others, **options)
    np.testing.assert_allclose(flat(found), flat(expected), rtol=1e-5, atol=1e-6)
    assert not others.counts().all()  # some labels choose no grid point


# Numbers of a block of problems, and of scores that are kept in memory: all at once; and a few labels and a file.
SIZES = {"one block": (2**24, 2**26), "blocks and a file": (9000, 100)}


def classifiers(monkeypatch, sizes, unlabelled=True, **options):
    """`fit_classifier` of labels, with such sizes, and of arrays, in one block and in memory."""
    scores, labels, _, rows = problem(rows=240, unlabelled=unlabelled)
    train, held_out = np.flatnonzero(np.arange(240) % 2), np.flatnonzero(np.arange(240) % 2 == 0)
    features, held_features = scores.features[train], scores.features[held_out]
    expected = fit_classifier(features, rows[train], held_features, rows[held_out], **options)
    monkeypatch.setattr(logistic_regression, "_MAX_NUMBERS", SIZES[sizes][0])
    monkeypatch.setattr(probe, "_MAX_KEPT", SIZES[sizes][1])
    return fit_classifier(features, labels[train], held_features, labels[held_out], **options), expected


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("unlabelled", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_classifier_of_labels_is_that_of_arrays(sizes, unlabelled, refit, monkeypatch):
    found, expected = classifiers(monkeypatch, sizes, unlabelled, refit=refit)
    np.testing.assert_array_equal(found.strengths, expected.strengths)
    assert len(set(found.strengths)) > 2
    for name in ("weight", "bias", "thresholds", "validation_logits"):
        one, other = (getattr(fit, name) for fit in (found, expected))
        values = (flat(one), flat(other)) if name == "thresholds" else (np.asarray(one), np.asarray(other))
        np.testing.assert_allclose(*values, atol=3e-4, err_msg=name)
    np.testing.assert_array_equal(np.asarray(found.validation_labels), np.asarray(expected.validation_labels))
    assert isinstance(found.validation_logits.by_label, np.memmap) == (sizes == "blocks and a file")


def test_best_labels_are_those_of_a_stable_sort():
    scores, _, logits, _ = problem(tied=True)
    for k in (1, 5, 40, 90):
        values, ids = scores.top_k(k)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        assert np.array_equal(ids, order) and np.array_equal(values, np.take_along_axis(logits, order, 1))


def test_arrays_above_a_gibibyte_are_not_made():
    scores = LinearScores(np.zeros((2**10, 1), np.float32), np.zeros((2**18 + 1, 1), np.float32), np.zeros(2**18 + 1))
    with pytest.raises(ValueError, match="1 GiB"):
        np.asarray(scores)
