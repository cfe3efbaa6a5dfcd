"""The classifier on features: what it chooses, that no example scores itself, and odd but legal data."""

import numpy as np
import pytest

from hf_mlcl.evaluation import (
    classifier,
    compute_metrics,
    fit_classifier,
    fit_logistic_regression,
    tune_thresholds,
)
from hf_mlcl.evaluation.classifier import RELATIVE_STRENGTHS, choose_strengths, deal_folds


def make_data(num_examples=300, feature_dim=12, num_labels=8, seed=0, noise=1.0):
    """Labels from common to rare that depend on the features and on chance."""
    weight = np.random.default_rng(99).standard_normal((feature_dim, num_labels)) / feature_dim**0.5
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((num_examples, feature_dim)).astype(np.float32)
    scores = features @ weight + noise * generator.standard_normal((num_examples, num_labels))
    return features, scores > np.linspace(0, 2.8, num_labels)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def test_without_refit_it_is_regression_on_the_training_examples():
    (features, labels), (held, held_labels) = make_data(), make_data(120, seed=1)
    fit = fit_classifier(features, labels, held, held_labels, refit=False)
    for label, strength in enumerate(fit.strengths):
        weights, biases = fit_logistic_regression(features, labels, [strength])
        np.testing.assert_allclose(fit.weight[label], weights[0, label], rtol=1e-3, atol=1e-4)
        assert fit.bias[label] == pytest.approx(biases[0, label], abs=1e-3)
    logits = (held @ fit.weight.T + fit.bias).astype(np.float64)
    np.testing.assert_allclose(fit.validation_logits, logits, atol=1e-4)
    counts = labels.sum(axis=0)
    expected = tune_thresholds(sigmoid(fit.validation_logits.astype(float)), held_labels, train_label_counts=counts)
    np.testing.assert_array_equal(fit.thresholds.per_label, expected.per_label)


def test_refitted_weights_are_those_of_all_examples():
    (features, labels), (held, held_labels) = make_data(), make_data(120, seed=1)
    fit = fit_classifier(features, labels, held, held_labels)
    both, both_labels = np.concatenate([features, held]), np.concatenate([labels, held_labels])
    # The deviations of the training examples go on to say how strong the penalty of a feature is.
    deviation = features.std(axis=0)
    for label, strength in enumerate(fit.strengths):
        scaled, other = both / deviation, both.std(axis=0) / deviation
        assert np.abs(other - 1).max() < 0.1
        weights, _ = fit_logistic_regression(scaled, both_labels, [strength])
        ours = fit.weight[label] * deviation
        np.testing.assert_allclose(ours, weights[0, label], atol=0.05)


def test_no_validation_example_scores_itself():
    """With pure chance for labels, scores of examples a classifier was fitted on would rank them well."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((60, 200)).astype(np.float32)
    labels = generator.random((60, 4)) < 0.4
    held = generator.standard_normal((200, 200)).astype(np.float32)
    held_labels = generator.random((200, 4)) < 0.4
    fit = fit_classifier(features, labels, held, held_labels)
    own = compute_metrics((held @ fit.weight.T + fit.bias, held_labels))["map"]
    honest = compute_metrics((fit.validation_logits, held_labels))["map"]
    assert own > 0.8 and honest < 0.55


def test_changing_a_held_out_fold_leaves_its_scores():
    """The scores of a fold come from fits that know nothing of its labels, at given strengths."""
    (features, labels), (held, held_labels) = make_data(), make_data(100, seed=1)
    fit = classifier._Fit(
        classifier._Examples.of("train", features, labels),
        classifier._Examples.of("validation", held, held_labels),
        "cpu",
        False,
    )
    _, _, scores = fit.refitted()
    folds = deal_folds(held_labels, classifier.NUM_FOLDS)
    changed = held_labels.copy()
    changed[folds == 2] = ~changed[folds == 2]
    fit.positive = np.concatenate([labels, changed])
    _, _, others = fit.refitted()
    np.testing.assert_allclose(others[folds == 2], scores[folds == 2], atol=1e-4)
    assert np.abs(others - scores)[folds != 2].max() > 0.1


def test_the_strength_has_the_lowest_validation_loss_where_labels_are_frequent():
    (features, labels), (held, held_labels) = make_data(2000, noise=0.5), make_data(4000, seed=1, noise=0.5)
    fit = fit_classifier(features, labels, held, held_labels, refit=False)
    strengths = np.array(RELATIVE_STRENGTHS) * 12
    weights, biases = fit_logistic_regression(features, labels, strengths)
    logits = np.einsum("nd,sld->snl", held.astype(np.float64), weights) + biases[:, None]
    losses = (np.logaddexp(0, logits) - held_labels * logits).sum(axis=1)
    taken = np.abs(strengths[:, None] - fit.strengths).argmin(axis=0)
    assert (losses[taken, range(8)] <= losses.min(axis=0) * 1.01).all()


def test_rare_labels_take_the_strength_of_labels_about_as_frequent():
    losses = np.array([[10.0, 90, 90, 0.0], [90, 10, 10, 0.0]])
    support, counts, every = np.array([50, 50, 50, 0]), np.array([1000, 10, 10, 12]), np.arange(4)
    assert choose_strengths(losses, support, counts, every).tolist() == [0, 1, 1, 1]
    counts[3] = 900
    assert choose_strengths(losses, support, counts, every).tolist() == [0, 1, 1, 0]
    losses[:, 3], support[3] = [9.0, 3.0], 1  # one positive does not outweigh the others
    assert choose_strengths(losses, support, counts, every).tolist() == [0, 1, 1, 0]
    support[3], losses[:, 3] = 400, [4000, 1000]
    assert choose_strengths(losses, support, counts, every)[3] == 1


@pytest.mark.parametrize("dense", [True, False])
def test_folds_have_like_sizes_and_their_share_of_every_label(dense):
    from scipy import sparse

    labels = np.random.default_rng(0).random((203, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.0]
    folds = deal_folds(labels if dense else sparse.csc_array(labels), 5)
    assert sorted(np.bincount(folds)) == [40, 40, 41, 41, 41]
    rarest = np.argmin(np.where(labels, labels.sum(axis=0), 1000), axis=1)
    for label in range(5):
        counts = np.bincount(folds[labels[:, label] & (rarest == label)], minlength=5)
        assert np.ptp(counts) <= 1
    assert set(deal_folds(labels[:3], 5)) == {0, 1, 2}


def test_new_features_and_seeds_change_nothing_that_they_should_not():
    (features, labels), (held, held_labels) = make_data(), make_data(120, seed=1)
    first, second = (fit_classifier(features, labels, held, held_labels) for _ in range(2))
    assert (first.weight == second.weight).all() and (first.bias == second.bias).all()
    order = np.random.default_rng(0).permutation(8)
    other = fit_classifier(features, labels[:, order], held, held_labels[:, order])
    np.testing.assert_allclose(other.strengths, first.strengths[order])


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 1), (5, 1, 2), (1, 1, 1), (4, 2, 30), (40, 1, 1)],
    ids=lambda shape: "{} training, {} validation, {} labels".format(*shape),
)
@pytest.mark.parametrize("refit", [True, False])
def test_few_rows_and_few_labels_give_finite_numbers(shape, refit):
    rows, others, num_labels = shape
    generator = np.random.default_rng(0)
    features, held = generator.standard_normal((rows, 7)), generator.standard_normal((others, 7))
    labels, held_labels = generator.random((rows, num_labels)) < 0.4, generator.random((others, num_labels)) < 0.4
    fit = fit_classifier(features, labels, held, held_labels, refit=refit)
    for values in (fit.weight, fit.bias, fit.thresholds.per_label, fit.validation_logits):
        assert np.isfinite(values).all()


@pytest.mark.parametrize("known", ["train", "validation"])
def test_labels_known_in_one_part_alone(known):
    (features, labels), (held, held_labels) = make_data(), make_data(120, seed=1)
    parts = {"train": labels.astype(int), "validation": held_labels.astype(int)}
    other = "validation" if known == "train" else "train"
    parts[other][:, 3] = -100
    parts[other][:5] = -100  # examples without any known label are left out
    fit = fit_classifier(features, parts["train"], held, parts["validation"])
    assert np.isfinite(fit.weight).all() and np.isfinite(fit.thresholds.per_label).all()
    assert len(fit.validation_logits) == len(fit.validation_labels) == (120 if known == "validation" else 115)
    scores = held @ fit.weight.T + fit.bias
    # Refitted on both parts, a label known in one of them alone is still learned.
    assert compute_metrics((scores[:, [3]], held_labels[:, [3]]))["map"] > 2 * held_labels[:, 3].mean()


def test_features_in_files_give_the_same(tmp_path):
    arrays = [*make_data(), *make_data(120, seed=1)]
    files = [np.memmap(tmp_path / f"{k}", np.float32, "w+", shape=arrays[k].shape) for k in (0, 2)]
    for file, array in zip(files, arrays[::2], strict=True):
        file[:] = array
    expected = fit_classifier(*arrays)
    found = fit_classifier(files[0], arrays[1], files[1], arrays[3])
    np.testing.assert_allclose(found.weight, expected.weight, atol=1e-3)
    np.testing.assert_allclose(found.thresholds.per_label, expected.thresholds.per_label, atol=2e-2)


def test_mistakes_are_named():
    (features, labels), (held, held_labels) = make_data(20), make_data(10, seed=1)
    with pytest.raises(ValueError, match=r"validation_features: expected shape \(N, 12\), got shape \(10, 11\)"):
        fit_classifier(features, labels, held[:, 1:], held_labels)
    with pytest.raises(ValueError, match=r"validation_labels: expected shape \(10, 8\), got shape \(10, 7\)"):
        fit_classifier(features, labels, held, held_labels[:, 1:])
    with pytest.raises(ValueError, match="thresholds: expected one of balanced, macro, micro, got 'best'"):
        fit_classifier(features, labels, held, held_labels, thresholds="best")
