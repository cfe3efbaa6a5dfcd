"""Logistic regression: equal to scikit-learn's, whatever the labels, the shape and where features lie."""

import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from hf_mlcl.data.labels import Labels
from hf_mlcl.evaluation import logistic_regression
from hf_mlcl.evaluation.arrays import as_matrix
from hf_mlcl.evaluation.logistic_regression import Inputs, Problem, fit_logistic_regression

STRENGTHS = [0.1, 1.0, 10.0, 300.0]


def make_data(num_examples=150, feature_dim=20, num_labels=6, seed=0, noise=0.5):
    """Features of very different sizes around other means than 0; labels from common to a single positive."""
    generator = np.random.default_rng(seed)
    hidden = generator.standard_normal((num_examples, feature_dim))
    mixed = hidden @ generator.standard_normal((feature_dim, feature_dim)) * np.geomspace(0.1, 10, feature_dim) + 1
    scores = hidden @ generator.standard_normal((feature_dim, num_labels)) / feature_dim**0.5
    scores += noise * generator.standard_normal(scores.shape)
    labels = scores > np.linspace(-0.5, 1.5, num_labels)
    labels[:, -1] = scores[:, -1] == scores[:, -1].max()
    return mixed.astype(np.float32), labels


def scikit_learn(features, labels, strength, rows=None):
    """Weights and intercept of scikit-learn's regression on standardised features, in float64, to its last digits."""
    scaled = features.astype(np.float64)
    scaled = (scaled - scaled.mean(axis=0)) / scaled.std(axis=0)
    rows = np.ones(len(labels), bool) if rows is None else rows
    fit = LogisticRegression(C=1 / strength, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that rounding stops it before 1e-12
        fit.fit(scaled[rows], labels[rows])
    return fit.coef_[0], fit.intercept_[0]


def standardised(weight, bias, features):
    """Our solution for standardised features."""
    features, weight = features.astype(np.float64), weight.astype(np.float64)
    return weight * features.std(axis=0), bias + weight @ features.mean(axis=0)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("shape", [(150, 20), (30, 80), (60, 60), (400, 1)])
def test_every_label_and_strength_equals_scikit_learn(shape, missing):
    features, labels = make_data(*shape)
    known = np.random.default_rng(1).random(labels.shape) < (0.6 if missing else 2)
    known[:, -1] = True
    weights, biases = fit_logistic_regression(features, np.where(known, labels, -100), STRENGTHS)
    assert weights.shape == (4, 6, shape[1]) and weights.dtype == biases.dtype == np.float32
    for index, strength in enumerate(STRENGTHS):
        for label in range(6):
            expected = scikit_learn(features, labels[:, label], strength, known[:, label])
            found = standardised(weights[index, label], biases[index, label], features)
            np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
            assert found[1] == pytest.approx(expected[1], abs=1e-4)


def test_labels_that_all_or_none_have_get_their_log_odds():
    features, labels = make_data()
    labels[:, 0], labels[:, 1] = True, False
    weights, biases = fit_logistic_regression(features, labels, [1.0])
    assert (weights[0, :2] == 0).all()
    np.testing.assert_allclose(biases[0, :2], np.log([150.5 / 0.5, 0.5 / 150.5]), rtol=1e-5)
    missing = np.where(np.arange(6) == 2, -100, labels)
    weights, biases = fit_logistic_regression(features, missing, [1.0])
    positives, known = (missing == 1).sum(), (missing != -100).sum()
    assert (weights[0, 2] == 0).all()
    assert biases[0, 2] == pytest.approx(np.log((positives + 0.5) / (known - positives + 0.5)), rel=1e-5)


def test_features_that_do_not_vary_get_no_weight_and_change_nothing():
    features, labels = make_data()
    dead = np.random.default_rng(2).standard_normal((150, 1)).astype(np.float32) * 1e-9
    wider = np.concatenate([features, np.full((150, 1), 0.1, np.float32), dead], axis=1)
    weights, biases = fit_logistic_regression(wider, labels, [1.0])
    expected, expected_biases = fit_logistic_regression(features, labels, [1.0])
    assert (weights[..., -2:] == 0).all()
    np.testing.assert_allclose(weights[..., :-2], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(biases, expected_biases, atol=1e-3)
    constant = fit_logistic_regression(np.ones((4, 3)), np.eye(4)[:, :2], [1.0])
    assert (constant[0] == 0).all() and np.isfinite(constant[1]).all()


def test_shifting_and_scaling_features_changes_no_score():
    features, labels = make_data()
    moved = features * np.float32(0.01) - 5
    (weights, biases), (others, other_biases) = (
        fit_logistic_regression(each, labels, STRENGTHS) for each in (features, moved)
    )
    scores = np.einsum("nd,sld->nsl", features.astype(np.float64), weights) + biases
    others = np.einsum("nd,sld->nsl", moved.astype(np.float64), others) + other_biases
    np.testing.assert_allclose(others, scores, atol=5e-3)


def test_an_outlier_and_a_weak_penalty_are_solved_all_the_same():
    features, labels = make_data(300, 120, noise=1.0)
    features[7] *= 100
    weights, biases = fit_logistic_regression(features, labels, [0.01])
    for label in (0, 3):
        expected = scikit_learn(features, labels[:, label], 0.01)
        found = standardised(weights[0, label], biases[0, label], features)
        np.testing.assert_allclose(found[0], expected[0], atol=5e-3)


@pytest.mark.parametrize("missing", [False, True])
def test_features_in_a_file_and_labels_in_blocks_give_the_same(tmp_path, monkeypatch, missing):
    features, labels = make_data(seed=3)
    labels = np.where(np.random.default_rng(0).random(labels.shape) < 0.2 * missing, -100, labels)
    expected = fit_logistic_regression(features, labels, STRENGTHS)
    monkeypatch.setattr(logistic_regression, "_BLOCK_ROWS", 32)
    monkeypatch.setattr(logistic_regression, "_MAX_NUMBERS", 150 * 4 * 2)
    file = np.memmap(tmp_path / "features", np.float32, "w+", shape=features.shape)
    file[:] = features
    assert Inputs.of([as_matrix("file", file, dtype=np.float32)], device="cpu").rows is None
    for found, values in zip(fit_logistic_regression(file, labels, STRENGTHS), expected, strict=True):
        np.testing.assert_allclose(found, values, rtol=2e-3, atol=1e-4)


def test_the_same_twice_whatever_the_random_state():
    features, labels = make_data()
    first = fit_logistic_regression(features, labels, STRENGTHS)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    second = fit_logistic_regression(features, labels, STRENGTHS)
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_half_precision_around_it_changes_nothing():
    features, labels = make_data()
    expected = fit_logistic_regression(features, labels, [1.0])
    with torch.autocast("cpu", torch.bfloat16):
        found = fit_logistic_regression(features, labels, [1.0])
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


def test_variants_are_fitted_on_their_own_examples():
    features, labels = make_data()
    inputs = Inputs.of([features[:100], features[100:]], device="cpu")
    examples = np.random.default_rng(0).random((3, 150)) < 0.7
    problem = Problem(inputs, Labels.of(labels), examples)
    ids = np.array([3, 1])
    solutions = problem.solve(ids, torch.full((3, 2), 2.0))
    first = features[:100].astype(np.float64)  # the first part alone standardises
    scaled = (features - first.mean(axis=0)) / first.std(axis=0)
    weights, biases = inputs.original(solutions)
    for variant, rows in enumerate(examples):
        for place, label in enumerate(ids):
            truth = labels[rows, label]

            def loss(point, rows=rows, truth=truth):
                logits = scaled[rows] @ point[:-1] + point[-1]
                return (np.logaddexp(0, logits) - truth * logits).sum() + (point[:-1] ** 2).sum()

            best = minimize(loss, np.zeros(21), method="BFGS", tol=1e-9).x
            found = weights[variant, place] * first.std(axis=0)
            np.testing.assert_allclose(found, best[:-1], atol=1e-3)
            bias = biases[variant, place] + weights[variant, place].astype(np.float64) @ first.mean(axis=0)
            assert bias == pytest.approx(best[-1], abs=1e-3)


def test_a_penalty_around_another_centre_than_0_has_the_solution_of_a_general_optimiser():
    features, labels = make_data(60, 5, 3)
    with logistic_regression.full_precision("cpu"):
        inputs = Inputs.of([features], device="cpu")
        centre = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))
        centre[-1] = 0
        strengths = torch.tensor([[0.5], [20.0]]).expand(2, 3)
        found = Problem(inputs, Labels.of(labels)).solve(np.arange(3), strengths, centre=centre).double().numpy()
    rows = inputs.rows.double().numpy()
    for variant, strength in enumerate([0.5, 20.0]):
        for label in range(3):
            middle, signs = centre[:-1, variant, label].double().numpy(), np.where(labels[:, label], -1, 1)

            def objective(values, strength=strength, middle=middle, signs=signs):
                loss = np.logaddexp(0, signs * (rows @ values[:-1] + values[-1])).sum()
                return loss + strength / 2 * ((values[:-1] - middle) ** 2).sum()

            expected = minimize(objective, np.zeros(6), method="BFGS", options={"gtol": 1e-7}).x
            np.testing.assert_allclose(found[:, variant, label], expected, atol=2e-3, rtol=2e-3)
