"""Thresholds: the limits of the rule, rare and absent labels, and what it is there to prevent."""

import numpy as np
import pytest

from hf_mlcl.evaluation import Thresholds, tune_thresholds
from hf_mlcl.evaluation.thresholds import _candidate_logits, _counts_at_least


def long_tailed(num_examples, seed, num_labels=80, distortion=0.0):
    """Probabilities of labels whose frequency falls with the rank, from 0.4 to nearly 0.

    `distortion` is how far, in logits, the model of each label is off (0: calibrated).
    """
    generator = np.random.default_rng(seed)
    rate = 0.4 / np.arange(1, num_labels + 1) ** 1.5
    separation = np.random.default_rng(99).uniform(2.0, 5.0, num_labels)
    labels = generator.random((num_examples, num_labels)) < rate
    evidence = generator.standard_normal((num_examples, num_labels)) + separation * labels
    logits = separation * evidence - separation**2 / 2 + np.log(rate / (1 - rate))
    logits += distortion * np.random.default_rng(98).standard_normal(num_labels)
    return 1 / (1 + np.exp(-logits)), labels


def f1_scores(probabilities, labels, thresholds):
    predicted = probabilities >= thresholds
    hits, sizes = (predicted & labels).sum(axis=0), predicted.sum(axis=0) + labels.sum(axis=0)
    return 2 * hits.sum() / sizes.sum(), (2 * hits / np.maximum(sizes, 1)).mean()


def naive_thresholds(probabilities, labels):
    """Each label alone: the first of its scores with the best F1; without a positive, the lowest of all."""
    thresholds = []
    for scores, truth in zip(probabilities.T, labels.T, strict=True):
        candidates = np.unique(scores)
        hits = np.array([(truth & (scores >= limit)).sum() for limit in candidates])
        sizes = np.array([(scores >= limit).sum() for limit in candidates]) + truth.sum()
        thresholds.append(candidates[np.argmax(2 * hits / sizes)])
    return np.array(thresholds)


def test_labels_absent_from_validation_do_not_ruin_micro_f1():
    validation, held_out = long_tailed(600, seed=0), long_tailed(3000, seed=1)
    assert (~validation[1].any(axis=0)).sum() >= 10
    tuned = tune_thresholds(*validation)
    half_micro, _ = f1_scores(*held_out, 0.5)
    global_micro, _ = f1_scores(*held_out, tuned.global_threshold)
    naive_micro, _ = f1_scores(*held_out, naive_thresholds(*validation))
    micro, _ = f1_scores(*held_out, tuned.per_label)
    assert naive_micro < half_micro - 0.2
    assert micro > max(half_micro, global_micro) - 0.01


def test_default_prior_serves_labels_that_need_their_own_threshold():
    """Averaged over generated data: Micro-F1 above that without prior, Macro-F1 above that of one global threshold."""
    options = {"default": {}, "alone": {"prior_positives": 0}, "global": {"prior_positives": 1e9}}
    scores = {name: [] for name in options}
    for seed in range(6):
        validation = long_tailed(600, seed=2 * seed, distortion=2.0)
        held_out = long_tailed(3000, seed=2 * seed + 1, distortion=2.0)
        for name, option in options.items():
            scores[name].append(f1_scores(*held_out, tune_thresholds(*validation, **option).per_label))
    micro, macro = ({name: np.mean(results, axis=0)[i] for name, results in scores.items()} for i in (0, 1))
    assert micro["default"] > micro["alone"] + 0.02 and micro["default"] > micro["global"] + 0.01
    assert macro["default"] > macro["global"] + 0.003


def test_without_prior_each_label_gets_its_own_best_candidate():
    probabilities, labels = long_tailed(300, seed=3, num_labels=12)
    tuned = tune_thresholds(probabilities, labels, prior_positives=0)
    candidates = 1 / (1 + np.exp(-_candidate_logits(probabilities[labels])))
    for label in range(12):
        f1 = [f1_scores(probabilities[:, [label]], labels[:, [label]], limit)[0] for limit in candidates]
        got = f1_scores(probabilities[:, [label]], labels[:, [label]], tuned.per_label[label])[0]
        assert got == pytest.approx(max(f1)) or not labels[:, label].any()


def test_huge_prior_gives_the_global_threshold_which_is_best_for_micro_f1():
    probabilities, labels = long_tailed(300, seed=4)
    tuned = tune_thresholds(probabilities, labels, prior_positives=1e12)
    assert (tuned.per_label == tuned.global_threshold).all()
    candidates = 1 / (1 + np.exp(-_candidate_logits(probabilities[labels])))
    best = max(f1_scores(probabilities, labels, limit)[0] for limit in candidates)
    assert f1_scores(probabilities, labels, tuned.global_threshold)[0] == pytest.approx(best)


@pytest.mark.parametrize("prior", [0, 3.5, 1e6])
def test_labels_without_a_positive_get_exactly_the_global_threshold(prior):
    probabilities, labels = long_tailed(200, seed=5)
    tuned = tune_thresholds(probabilities, labels, prior_positives=prior)
    absent = ~labels.any(axis=0)
    assert absent.any() and (tuned.per_label[absent] == tuned.global_threshold).all()
    assert len(np.unique(tuned.per_label)) > 1 or prior == 1e6


def test_shrinkage_is_the_documented_formula():
    probabilities, labels = long_tailed(250, seed=6, num_labels=10)
    k = 4.0
    tuned = tune_thresholds(probabilities, labels, prior_positives=k)
    candidates = 1 / (1 + np.exp(-_candidate_logits(probabilities[labels])))

    def counts(limit):
        predicted = probabilities >= limit
        return (predicted & labels).sum(axis=0), (predicted & ~labels).sum(axis=0)

    def smoothed(limit):
        hits, false = counts(limit)
        hits = hits + k * hits.sum() / labels.sum()
        false = false + k * counts(limit)[1].sum() / labels.sum()
        return 2 * hits / (hits + false + labels.sum(axis=0) + k)

    table = np.array([smoothed(limit) for limit in candidates])
    for label in np.flatnonzero(labels.any(axis=0)):
        assert smoothed(tuned.per_label[label])[label] == pytest.approx(table[:, label].max())


def test_rare_label_with_small_probabilities_is_still_found():
    generator = np.random.default_rng(0)
    labels = np.zeros((1000, 2), dtype=bool)
    labels[:400, 0], labels[:60, 1] = True, True
    probabilities = np.where(labels, [0.9, 2e-4], [0.1, 1e-6]) * generator.uniform(0.8, 1.1, labels.shape)
    tuned = tune_thresholds(probabilities, labels)
    assert f1_scores(probabilities, labels, tuned.per_label) == (1.0, 1.0)


def test_counts_equal_comparisons():
    probabilities, labels = long_tailed(40, seed=7, num_labels=6)
    limits = np.sort(np.append(probabilities[:5, 0], [0.2, 0.7]))
    expected = np.array([((probabilities >= limit) & labels).sum(axis=0) for limit in limits]).T
    assert (_counts_at_least(probabilities, labels, limits) == expected).all()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_and_extreme_probabilities_stay_usable(value):
    labels = np.array([[1, 0], [0, 0], [1, 1]])
    tuned = tune_thresholds(np.full((3, 2), value), labels)
    assert ((tuned.per_label > 0) & (tuned.per_label < 1)).all()
    hard = tune_thresholds(labels.astype(float), labels)
    assert f1_scores(labels.astype(np.float32), labels == 1, hard.per_label.astype(np.float32)) == (1.0, 1.0)


def test_no_positive_at_all_gives_half():
    tuned = tune_thresholds(np.full((4, 3), 0.2), np.zeros((4, 3)))
    assert isinstance(tuned, Thresholds) and tuned.global_threshold == 0.5 and (tuned.per_label == 0.5).all()


def test_permuting_examples_or_labels_permutes_the_thresholds():
    probabilities, labels = long_tailed(200, seed=8, num_labels=15)
    generator = np.random.default_rng(0)
    rows, columns = generator.permutation(200), generator.permutation(15)
    before = tune_thresholds(probabilities, labels).per_label
    after = tune_thresholds(probabilities[rows][:, columns], labels[rows][:, columns]).per_label
    np.testing.assert_array_equal(after, before[columns])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.5, 1.5]], [[0, 1]]), r"probabilities: expected numbers in \[0, 1\], got 1.5"),
        (([[0.5, 0.5]], [[0]]), r"labels: expected shape \(1, 2\), got shape \(1, 1\)"),
        (([[0.5]], [[0.5]]), "labels: expected 0, 1, or -100 or NaN where unknown, got 0.5"),
        ((np.zeros((0, 2)), np.zeros((0, 2))), "probabilities: .* got an empty array"),
        (("abc", [[0]]), "probabilities: expected an array of numbers, got str"),
    ],
)
def test_mistakes_raise_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        tune_thresholds(*arguments)
    with pytest.raises(ValueError, match="prior_positives: expected a finite number of at least 0, got -1"):
        tune_thresholds([[0.5]], [[1]], prior_positives=-1)
