"""Label lists give what arrays give, without an array of all examples and labels."""

import numpy as np
import pytest
import torch

from hf_mlcl.data import LabelLists
from hf_mlcl.evaluation import (
    LinearScores,
    classifier,
    compute_metrics,
    expected_calibration_error,
    fit_calibration,
    fit_classifier,
    fit_linear_evaluation,
    linear_evaluation,
    logistic_regression,
    per_label_metrics,
    reliability_curve,
    tune_thresholds,
)
from hf_mlcl.evaluation import label_blocks as module
from hf_mlcl.evaluation.label_blocks import StoredScores

RULES = ["balanced", "macro", "micro"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few labels or examples, so that there are many."""
    monkeypatch.setattr(module, "_MAX_NUMBERS", 300)


def problem(rows=60, num_labels=40, seed=0, unlabelled=True, tied=False):
    """Scores and lists, and the same as arrays; some labels have no positive, some examples no label."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 6)).astype(np.float32)
    weight, bias = rng.normal(size=(num_labels, 6)), rng.normal(size=num_labels) - 2
    if tied:
        features, weight, bias = features.round(), weight.round(), bias.round()
    chance = rng.random(num_labels) < 0.7
    truth = (rng.normal(size=(rows, num_labels)) + features @ weight.T + bias > 1.5) & chance
    truth[:3] = False
    missing = np.isin(np.arange(rows), [1, 7, 8]) & unlabelled
    truth[missing] = False
    scores = LinearScores(features, weight.astype(np.float32), bias.astype(np.float32))
    lists = LabelLists.from_pairs(*np.nonzero(truth), truth.shape, missing)
    return scores, lists, np.asarray(scores), np.asarray(lists)


def same(found, expected, tolerance=1e-6):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=tolerance), name


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("unlabelled", [False, True])
@pytest.mark.parametrize("thresholds", [None, 0.3, "each"])
def test_metrics_are_those_of_arrays(thresholds, unlabelled, tied):
    scores, lists, logits, labels = problem(unlabelled=unlabelled, tied=tied)
    rng = np.random.default_rng(1)
    options = {"thresholds": rng.random(40) if thresholds == "each" else thresholds}
    options["train_label_counts"] = rng.integers(0, 150, 40)
    same(compute_metrics((scores, lists), **options), compute_metrics((logits, labels), **options))
    names = [f"label {number}" for number in range(40)]
    for row, expected in zip(
        per_label_metrics(scores, lists, **options, label_names=names),
        per_label_metrics(logits, labels, **options, label_names=names),
        strict=True,
    ):
        assert row.pop("label") == expected.pop("label")
        same(row, expected)


def test_a_classifier_that_has_diverged_is_no_score():
    scores, lists, _, _ = problem()
    weight = scores.weight.copy()
    weight[3, 2] = np.nan
    with pytest.raises(ValueError, match="weight: expected finite numbers, got nan"):
        compute_metrics((LinearScores(scores.features, weight, scores.bias), lists))


def test_scores_of_tensors():
    scores, *_ = problem()
    tensors = (torch.from_numpy(array) for array in (scores.features, scores.weight, scores.bias))
    assert np.array_equal(np.asarray(LinearScores(*tensors)), np.asarray(scores))


def test_metrics_without_a_positive():
    scores, _, logits, _ = problem()
    nothing = LabelLists.from_pairs(np.zeros(0, int), np.zeros(0, int), scores.shape)
    same(compute_metrics((scores, nothing)), compute_metrics((logits, np.zeros(scores.shape, bool))))


def test_calibration_error_is_that_of_arrays():
    scores, lists, logits, labels = problem()
    probabilities = 1 / (1 + np.exp(-logits.astype(float)))
    assert expected_calibration_error(scores, lists) == pytest.approx(
        expected_calibration_error(probabilities, labels), abs=1e-9
    )
    curve, expected = reliability_curve(scores, lists), reliability_curve(probabilities, labels)
    assert np.array_equal(curve.counts, expected.counts) and curve.counts.dtype == np.int64


@pytest.mark.parametrize("counts", [None, np.arange(40) ** 2])
@pytest.mark.parametrize("rule", RULES)
def test_thresholds_are_those_of_arrays(rule, counts):
    scores, lists, logits, labels = problem()
    options = {"rule": rule, "train_label_counts": counts}
    found = tune_thresholds(scores, lists, **options)
    expected = tune_thresholds(1 / (1 + np.exp(-logits.astype(float))), labels, **options)
    assert len(np.unique(found.per_label)) > 4 or rule == "micro"
    assert found.per_label == pytest.approx(expected.per_label, abs=1e-6)
    assert found.global_threshold == pytest.approx(expected.global_threshold, abs=1e-6)
    nothing = LabelLists.from_pairs(np.zeros(0, int), np.zeros(0, int), scores.shape)
    assert (tune_thresholds(scores, nothing, **options).per_label == 0.5).all()


@pytest.mark.parametrize("scale", [1, 1000])
def test_calibration_is_that_of_arrays(scale):
    scores, lists, logits, labels = problem()
    scores, logits = LinearScores(scores.features, scale * scores.weight, scale * scores.bias), scale * logits
    found, expected = fit_calibration(scores, lists), fit_calibration(logits, labels)
    for name in ("scale", "shift", "ece_before", "ece_after"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6, abs=1e-6), name
    assert np.asarray(found.apply(scores)) == pytest.approx(expected.apply(logits), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("numbers", [2**26, 5 * 24 * 32])
def test_linear_evaluation_is_that_of_arrays(numbers, monkeypatch):
    monkeypatch.setattr(linear_evaluation, "_MAX_NUMBERS", numbers)
    (train, lists, _, labels), (held_out, other_lists, _, other_labels) = problem(), problem(rows=50, seed=1)
    options = {"num_epochs": 3, "batch_size": 32, "progress": False}
    found = fit_linear_evaluation(train.features, lists, held_out.features, other_lists, **options)
    expected = fit_linear_evaluation(train.features, labels, held_out.features, other_labels, **options)
    for name in ("weight", "bias", "chosen", "validation_f1"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-6), name
    assert found.averaging_gap == pytest.approx(expected.averaging_gap, abs=1e-6)
    assert not other_lists.counts().all()  # some labels choose no grid point


def test_linear_evaluation_without_a_validation_positive(monkeypatch):
    monkeypatch.setattr(linear_evaluation, "_MAX_NUMBERS", 5 * 24 * 32)
    scores, lists, *_ = problem()
    nothing = LabelLists.from_pairs(np.zeros(0, int), np.zeros(0, int), scores.shape)
    fit = fit_linear_evaluation(scores.features, lists, scores.features, nothing, num_epochs=2, progress=False)
    assert len(set(fit.chosen)) == 1 and np.isfinite(fit.weight).all()


# Numbers of a block of problems, and of scores that are kept in memory: all at once; and a few labels and a file.
SIZES = {"one block": (2**24, 2**26), "blocks and a file": (9000, 100)}


def classifiers(monkeypatch, sizes, unlabelled=True, **options):
    """`fit_classifier` of lists, with such sizes, and of arrays, in one block and in memory."""
    scores, lists, _, labels = problem(rows=240, unlabelled=unlabelled)
    train, held_out = np.flatnonzero(np.arange(240) % 2), np.flatnonzero(np.arange(240) % 2 == 0)
    train_features, features = scores.features[train], scores.features[held_out]
    expected = fit_classifier(train_features, labels[train], features, labels[held_out], **options)
    monkeypatch.setattr(logistic_regression, "_MAX_NUMBERS", SIZES[sizes][0])
    monkeypatch.setattr(classifier, "_MAX_KEPT", SIZES[sizes][1])
    return fit_classifier(train_features, lists[train], features, lists[held_out], **options), expected


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("unlabelled", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_classifier_is_that_of_arrays(sizes, unlabelled, refit, monkeypatch):
    found, expected = classifiers(monkeypatch, sizes, unlabelled, refit=refit)
    np.testing.assert_array_equal(found.strengths, expected.strengths)
    assert len(set(found.strengths)) > 2
    for name in ("weight", "bias"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-4), name
    assert found.thresholds.per_label == pytest.approx(expected.thresholds.per_label, abs=1e-4)
    assert found.thresholds.global_threshold == pytest.approx(expected.thresholds.global_threshold, abs=1e-4)
    assert np.asarray(found.validation_logits) == pytest.approx(expected.validation_logits, abs=3e-4)
    np.testing.assert_array_equal(np.asarray(found.validation_labels), expected.validation_labels)
    assert isinstance(found.validation_logits.by_label, np.memmap) == (sizes == "blocks and a file")


def test_small_blocks_of_the_classifier_are_blocks(monkeypatch):
    """What the test above relies on: labels are fitted in several blocks, and those that no example has not at all."""
    sizes = []

    def counted(self, ids, *arguments, **options):
        sizes.append(len(ids))
        return solve(self, ids, *arguments, **options)

    solve = logistic_regression.Problem.solve
    monkeypatch.setattr(logistic_regression.Problem, "solve", counted)
    classifiers(monkeypatch, "blocks and a file")
    whole, small = sizes[:2], sizes[2:]
    assert whole[0] == 40 > whole[1] and max(small) < 12 and sum(small) == sum(whole)


def stored(tied=False):
    """Scores kept label by label, lists, and both as arrays."""
    _, lists, logits, labels = problem(unlabelled=False, tied=tied)
    return StoredScores(logits.T.copy()), lists, logits, labels


@pytest.mark.parametrize("tied", [False, True])
def test_metrics_of_stored_scores_are_those_of_arrays(tied):
    scores, lists, logits, labels = stored(tied)
    assert scores.shape == logits.shape and np.asarray(scores).dtype == np.float32
    assert np.asarray(scores) == pytest.approx(logits, abs=1e-5)
    assert scores.columns(np.array([7, 3])) == pytest.approx(logits[:, [7, 3]], abs=1e-5)
    rng = np.random.default_rng(1)
    options = {"thresholds": rng.random(40), "train_label_counts": rng.integers(0, 150, 40)}
    same(compute_metrics((scores, lists), **options), compute_metrics((logits, labels), **options))
    for row, expected in zip(
        per_label_metrics(scores, lists, **options), per_label_metrics(logits, labels, **options), strict=True
    ):
        same(row, expected)
    probabilities = 1 / (1 + np.exp(-logits.astype(float)))
    for rule in RULES:
        found, expected = tune_thresholds(scores, lists, rule=rule), tune_thresholds(probabilities, labels, rule=rule)
        assert found.per_label == pytest.approx(expected.per_label, abs=1e-6)


def test_stored_scores_of_some_examples():
    scores, lists, logits, labels = stored()
    rows = np.array([3, 0, 9])
    assert len(scores) == len(logits) and (np.asarray(scores[rows]) == logits[rows]).all()
    unlabelled = LabelLists(lists.matrix, np.arange(len(lists)) < 5)
    same(compute_metrics((scores, unlabelled)), compute_metrics((logits[5:], labels[5:])))


def test_best_labels_are_those_of_a_stable_sort():
    scores, _, logits, _ = problem(tied=True)
    for k in (1, 5, 40, 90):
        values, ids = scores.top_k(k)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        assert np.array_equal(ids, order) and np.array_equal(values, np.take_along_axis(logits, order, 1))


def test_arrays_above_a_gibibyte_are_not_made():
    scores = LinearScores(np.zeros((2**10, 1), np.float32), np.zeros((2**18 + 1, 1), np.float32), np.zeros(2**18 + 1))
    with pytest.raises(ValueError, match="scores: expected an array of at most 1 GiB, got 1024 x 262145"):
        np.asarray(scores)
    lists = LabelLists.from_pairs(np.zeros(0, int), np.zeros(0, int), (2**13, 2**17 + 1))
    with pytest.raises(ValueError, match="labels: expected rows of at most 1 GiB, got 8192 x 131073 labels"):
        np.asarray(lists)


def test_mistakes_are_named():
    scores, lists, *_ = problem()
    with pytest.raises(ValueError, match="labels: expected label lists of 60 examples, got 2"):
        compute_metrics((scores, lists[np.array([0, 1])]))
    with pytest.raises(ValueError, match="at least one known entry, got only unlabelled"):
        compute_metrics((scores[[1, 7]], lists[np.array([1, 7])]))
