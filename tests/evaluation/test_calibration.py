"""Calibration error against a loop, and the safety of the fitted calibration."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from hf_mlcl.evaluation import fit_calibration, reliability_curve
from hf_mlcl.evaluation.calibration import _LABEL_PRECISION, _Problem, fold_calibration
from hf_mlcl.evaluation.compute_metrics import expected_calibration_error


def make_case(num_examples=3000, seed=0):
    """True log-odds of 8 labels, and labels drawn from them; the last label never occurs, the one before always."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.standard_normal((num_examples, 8)) + np.linspace(-5, 1, 8)
    labels = generator.random(logits.shape) < 1 / (1 + np.exp(-logits))
    labels[:, 6], labels[:, 7] = True, False
    return logits, labels


def test_error_equals_a_loop_over_bins():
    generator = np.random.default_rng(0)
    probabilities, labels = generator.random((40, 7)), generator.integers(0, 2, (40, 7))
    probabilities[0, :3] = [0.0, 1.0, 1 / 3]
    expected = 0.0
    for index in range(6):
        inside = (probabilities >= index / 6) & ((probabilities < (index + 1) / 6) | (index == 5))
        if inside.any():
            expected += inside.sum() / 280 * abs(probabilities[inside].mean() - labels[inside].mean())
    assert expected_calibration_error(probabilities, labels, num_bins=6) == pytest.approx(expected)
    curve = reliability_curve(probabilities, labels, num_bins=6)
    assert curve.counts.sum() == 280 and len(curve.counts) == len(curve.mean_probability) == len(curve.positive_rate)


def test_error_of_calibrated_and_of_wrong_probabilities():
    logits, labels = make_case()
    probabilities = 1 / (1 + np.exp(-logits[:, :6]))
    assert expected_calibration_error(probabilities, labels[:, :6]) < 0.01
    assert expected_calibration_error(np.ones((5, 2)), np.zeros((5, 2))) == 1.0
    assert expected_calibration_error(labels.astype(float), labels) == 0.0


def test_undoes_a_distortion_on_other_data():
    logits, labels = make_case(20_000)  # enough for labels far from the pool to leave it
    scale, shift = np.linspace(0.5, 3.0, 6), np.linspace(-1.5, 1.5, 6)
    fitted = fit_calibration(logits[:, :6] * scale + shift, labels[:, :6])
    np.testing.assert_allclose(fitted.scale, 1 / scale, rtol=0.25)
    np.testing.assert_allclose(fitted.shift, -shift / scale, atol=0.7)
    new_logits, new_labels = (array[:, :6] for array in make_case(seed=1))
    distorted = new_logits * scale + shift
    before = expected_calibration_error(1 / (1 + np.exp(-distorted)), new_labels)
    after = expected_calibration_error(1 / (1 + np.exp(-fitted.apply(distorted))), new_labels)
    assert after < 0.2 * before and fitted.ece_after < 0.2 * fitted.ece_before


def test_labels_without_positives_or_without_negatives_get_the_pool():
    logits, labels = make_case(400)
    fitted = fit_calibration(logits, labels)
    assert fitted.scale[6] == fitted.scale[7] and fitted.shift[6] == fitted.shift[7]
    assert len(np.unique(fitted.scale)) == 7


def test_fewer_examples_keep_a_label_nearer_to_the_pool():
    logits, labels = make_case(100)
    logits = logits * np.linspace(0.3, 3.0, 8)
    distances = []
    for copies in (1, 10, 100):
        fitted = fit_calibration(np.tile(logits, (copies, 1)), np.tile(labels, (copies, 1)))
        parameters = np.stack([np.log(fitted.scale), fitted.shift])
        pool = parameters[:, [7]]  # this label never occurs
        distances.append(_LABEL_PRECISION @ (parameters - pool)[:, :6] ** 2)
    assert (distances[0] < distances[1]).all() and (distances[1] < distances[2]).all()


@pytest.mark.parametrize("missing", [False, True])
def test_minimum_is_where_the_gradient_vanishes_and_equals_a_general_optimiser(missing):
    logits, labels = make_case(200)
    known = np.random.default_rng(0).random(labels.shape) < (0.6 if missing else 2)
    centre = np.tile([[0.2], [-0.4]], 8)
    problem = _Problem(logits, labels.astype(float), known if missing else 1, centre, _LABEL_PRECISION)
    found = problem.minimum(centre)
    assert np.abs(problem.newton_step(found)[0]).max() < 1e-6

    for label in range(8):

        def value(point, label=label):
            moved = np.exp(point[0]) * logits[:, label] + point[1]
            penalty = 0.5 * (_LABEL_PRECISION * (point - centre[:, label]) ** 2).sum()
            return (known[:, label] * (np.logaddexp(0, moved) - labels[:, label] * moved)).sum() + penalty

        assert problem.objective(found)[label] == pytest.approx(value(found[:, label]))
        np.testing.assert_allclose(found[:, label], minimize(value, centre[:, label], tol=1e-12).x, atol=1e-4)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_separable_reversed_and_extreme_logits_stay_finite_and_in_order(size):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (60, 3)).astype(bool)
    logits = size * np.stack([labels[:, 0] - 0.5, 0.5 - labels[:, 1], generator.standard_normal(60)], axis=1)
    fitted = fit_calibration(logits, labels)
    assert (fitted.scale > 0).all() and np.isfinite(fitted.scale).all() and np.isfinite(fitted.shift).all()
    order = np.argsort(logits[:, 2], kind="stable")
    assert (np.diff(fitted.apply(logits)[order, 2]) >= 0).all()


def test_degenerate_data_stay_finite():
    for logits in (np.zeros((4, 2)), np.ones((1, 1)), np.full((3, 2), -50.0)):
        for value in (0, 1):
            fitted = fit_calibration(logits, np.full(logits.shape, value))
            assert (fitted.scale > 0).all() and np.isfinite(fitted.apply(logits)).all()


def test_folding_gives_the_calibrated_logits():
    generator = np.random.default_rng(0)
    features, weight, bias = generator.standard_normal((50, 4)), generator.standard_normal((3, 4)), np.arange(3.0)
    logits = features @ weight.T + bias
    calibration = fit_calibration(logits, generator.integers(0, 2, (50, 3)))
    new_weight, new_bias = fold_calibration(torch.from_numpy(weight).float(), bias, calibration)
    np.testing.assert_allclose(features @ new_weight.T + new_bias, calibration.apply(logits), atol=1e-5)
