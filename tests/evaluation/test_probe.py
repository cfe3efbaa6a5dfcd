"""The closed-form probe: leave-one-out equals refitting, and it is worth its thresholds."""

import numpy as np
import pytest

from hf_mlcl.evaluation import fit_probe


def make_data(num_examples, feature_dim, num_labels=4, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((num_examples, feature_dim)) * generator.uniform(0.1, 5, feature_dim) + 3
    weight = generator.standard_normal((feature_dim, num_labels)) / np.sqrt(feature_dim)
    noise = 0.3 * generator.standard_normal((num_examples, num_labels))
    return features, ((features - 3) @ weight + noise > 0.8).astype(int)


def ridge(features, labels, strength, deviation):
    """Weights and intercepts of ridge regression with a free intercept, by its normal equations."""
    mean = features.mean(axis=0)
    scaled = (features - mean) / deviation
    base = labels.mean(axis=0)
    gram = scaled.T @ scaled + strength * np.eye(scaled.shape[1])
    weight = np.linalg.solve(gram, scaled.T @ (labels - base)).T / deviation
    return weight, base - weight @ mean


@pytest.mark.parametrize("shape", [(25, 6), (12, 40), (20, 20)])
@pytest.mark.parametrize("standardize", [True, False])
def test_leave_one_out_equals_refitting_without_each_example(shape, standardize):
    features, labels = make_data(*shape)
    probe = fit_probe(features, labels, standardize=standardize)
    deviation = features.std(axis=0) if standardize else np.ones(shape[1])
    for left_out in range(shape[0]):
        kept = np.arange(shape[0]) != left_out
        weight, bias = ridge(features[kept], labels[kept], probe.strength, deviation)
        score = features[left_out] @ weight.T + bias
        np.testing.assert_allclose(probe.leave_one_out_logits[left_out], 4 * (score - 0.5), atol=1e-7)


@pytest.mark.parametrize("shape", [(25, 6), (12, 40)])
def test_weights_are_those_of_ridge_regression(shape):
    features, labels = make_data(*shape)
    probe = fit_probe(features, labels)
    weight, bias = ridge(features, labels, probe.strength, features.std(axis=0))
    np.testing.assert_allclose(probe.weight, 4 * weight, atol=1e-8)
    np.testing.assert_allclose(probe.bias, 4 * (bias - 0.5), atol=1e-7)


def test_strength_rises_with_noise_and_has_the_lowest_leave_one_out_error():
    features, labels = make_data(60, 10)
    chosen = fit_probe(features, labels)
    noise = fit_probe(features, np.random.default_rng(5).integers(0, 2, labels.shape))
    assert noise.strength > chosen.strength
    scores = chosen.leave_one_out_logits / 4 + 0.5
    for factor in (0.1, 10):
        errors = []
        for left_out in range(60):
            kept = np.arange(60) != left_out
            weight, bias = ridge(features[kept], labels[kept], chosen.strength * factor, features.std(axis=0))
            errors.append(labels[left_out] - features[left_out] @ weight.T - bias)
        assert ((labels - scores) ** 2).sum() <= np.square(errors).sum() + 1e-9


def test_scores_new_examples_well_and_scaling_a_feature_changes_nothing():
    features, labels = make_data(600, 30)
    probe = fit_probe(features[:300], labels[:300])
    probabilities = 1 / (1 + np.exp(-(features[300:] @ probe.weight.T + probe.bias)))
    predicted, truth = probabilities >= probe.thresholds, labels[300:] == 1
    assert 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()) > 0.8
    factors = np.geomspace(1e-3, 1e3, 30)
    scaled = fit_probe(features[:300] * factors, labels[:300])
    np.testing.assert_allclose(scaled.weight * factors, probe.weight, atol=1e-7)


def test_constant_features_and_absent_labels():
    features, labels = make_data(30, 5)
    features[:, 2] = 0.1
    labels[:, 1] = 0
    probe = fit_probe(features, labels)
    assert (probe.weight[:, 2] == 0).all() and np.isfinite(probe.weight).all()
    np.testing.assert_allclose(features @ probe.weight[1] + probe.bias[1], -2, atol=1e-9)
    nothing = fit_probe(np.ones((4, 3)), np.eye(4)[:, :2])
    assert (nothing.weight == 0).all() and np.isfinite(nothing.thresholds).all()
    np.testing.assert_allclose(nothing.bias, 4 * (0.25 - 0.5))


def test_mistakes_raise_one_line():
    with pytest.raises(ValueError, match="features: expected at least 2 examples with a known label, got 1"):
        fit_probe([[1.0]], [[1]])
    with pytest.raises(ValueError, match=r"labels: expected shape \(2, any width\)"):
        fit_probe(np.eye(2), np.eye(3))
