"""Thresholds: the documented formula, the limits of the rules, rare and absent labels, what it is there to prevent."""

import numpy as np
import pytest

from hf_mlcl.evaluation import tune_thresholds
from hf_mlcl.evaluation.thresholds import Thresholds, _candidate_logits

RULES = {"balanced": (200, 10, 100), "macro": (20, 2, 100), "micro": None}  # k, n and m


def long_tailed(num_examples, seed, num_labels=80, distortion=0.0, separations=(2.0, 5.0)):
    """Probabilities of labels whose frequency falls with the rank, from 0.4 to nearly 0.

    `distortion` is how far, in logits, the model of each label is off (0: calibrated); `separations` between which
    positives and negatives differ, in deviations.
    """
    generator = np.random.default_rng(seed)
    rate = 0.4 / np.arange(1, num_labels + 1) ** 1.5
    separation = np.random.default_rng(99).uniform(*separations, num_labels)
    labels = generator.random((num_examples, num_labels)) < rate
    evidence = generator.standard_normal((num_examples, num_labels)) + separation * labels
    logits = separation * evidence - separation**2 / 2 + np.log(rate / (1 - rate))
    logits += distortion * np.random.default_rng(98).standard_normal(num_labels)
    return 1 / (1 + np.exp(-logits)), labels


def f1_scores(probabilities, labels, thresholds):
    predicted = probabilities >= thresholds
    hits, sizes = (predicted & labels).sum(axis=0), predicted.sum(axis=0) + labels.sum(axis=0)
    return 2 * hits.sum() / sizes.sum(), (2 * hits / np.maximum(sizes, 1)).mean()


def mean_f1_scores(rules, num_seeds, **options):
    """Micro- and Macro-F1 on held-out examples of thresholds tuned on 600, averaged over generated data."""
    scores = {rule: [] for rule in rules}
    for seed in range(num_seeds):
        validation, held_out = long_tailed(600, 2 * seed, **options), long_tailed(3000, 2 * seed + 1, **options)
        for rule in rules:
            scores[rule].append(f1_scores(*held_out, tune_thresholds(*validation, rule=rule).per_label))
    return tuple({rule: np.mean(pairs, axis=0)[average] for rule, pairs in scores.items()} for average in (0, 1))


def naive_thresholds(probabilities, labels):
    """Each label alone: the first of its scores with the best F1; without a positive, the lowest of all."""
    thresholds = []
    for scores, truth in zip(probabilities.T, labels.T, strict=True):
        candidates = np.unique(scores)
        hits = np.array([(truth & (scores >= limit)).sum() for limit in candidates])
        sizes = np.array([(scores >= limit).sum() for limit in candidates]) + truth.sum()
        thresholds.append(candidates[np.argmax(2 * hits / sizes)])
    return np.array(thresholds)


def candidates_of(probabilities, labels):
    return (1 / (1 + np.exp(-_candidate_logits(probabilities[labels])))).tolist()


def documented_f1(limit, probabilities, labels, known, frequencies, k, n, m):
    """F1(t) of the docstring, one per label."""
    doublings = np.round(8 * np.log2(frequencies + 1)) / 8  # to an eighth of a doubling
    alike = np.exp(-((doublings[:, None] - doublings) ** 2) / 2)
    positives, mass = labels.sum(axis=0), (probabilities * known).sum(axis=0)
    ours = m * known.any(axis=0) * (np.abs(np.log2((mass + 1) / (positives + 1))) <= 2)
    totals = []
    for part, expected in ((labels, probabilities), (known & ~labels, 1 - probabilities)):
        counts, sums = (((probabilities >= limit) * each).sum(axis=0) for each in (part, expected * known))
        total = counts + k * (alike @ counts) / (alike @ positives) + n * counts.sum() / positives.sum()
        totals.append(total + ours * sums / np.maximum(mass, 1e-12))
    return 2 * totals[0] / (sum(totals) + positives + k + n + ours)


FREQUENCIES = {
    "validation": None,
    "training": np.array([900, 310, 170, 96, 99, 41, 40, 7, 3, 0]),
    # Rounded to an eighth of a doubling, the first four are one frequency, and the next four another.
    "nearly equal": np.array([1000, 1020, 990, 1010, 100, 101, 99, 102, 0, 1]),
}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("frequencies", FREQUENCIES)
@pytest.mark.parametrize("rule", ["balanced", "macro"])
def test_thresholds_have_the_best_f1_of_the_documented_formula(rule, frequencies, missing):
    probabilities, labels = long_tailed(120, seed=6, num_labels=10, distortion=1.0, separations=(1.0, 3.0))
    known = np.random.default_rng(0).random(labels.shape) < (0.7 if missing else 2)
    known[:, 5] &= not missing
    labels &= known
    counts = FREQUENCIES[frequencies]
    tuned = tune_thresholds(probabilities, np.where(known, labels, -100), rule=rule, train_label_counts=counts)
    data = probabilities, labels, known, labels.sum(axis=0) if counts is None else counts, *RULES[rule]
    best = np.max([documented_f1(limit, *data) for limit in candidates_of(probabilities, labels)], axis=0)
    found = [documented_f1(limit, *data)[label] for label, limit in enumerate(tuned.per_label)]
    assert found == pytest.approx(best, rel=1e-9)
    assert not labels.any(axis=0).all() and len(np.unique(tuned.per_label)) >= 3


@pytest.mark.parametrize("rule", ["balanced", "macro"])
def test_labels_that_no_training_example_has_are_not_given_to_all_examples(rule):
    """Their scores are all the same: of the labels like them, all of which are so, giving them all has the best F1."""
    probabilities, labels = long_tailed(600, seed=2, num_labels=300)
    labels[:, 100:] = np.random.default_rng(0).random((600, 200)) < 0.002
    probabilities[:, 100:] = 0.002
    counts = np.where(np.arange(300) < 100, labels.sum(axis=0) * 5, 0)
    tuned = tune_thresholds(probabilities, labels, rule=rule, train_label_counts=counts)
    assert (tuned.per_label[100:] > 0.002).all()


@pytest.mark.parametrize("rule", RULES)
def test_frequencies_are_those_of_the_validation_set_by_default(rule):
    probabilities, labels = long_tailed(300, seed=3, num_labels=12)
    default = tune_thresholds(probabilities, labels, rule=rule)
    given = tune_thresholds(probabilities, labels, rule=rule, train_label_counts=labels.sum(axis=0))
    other = tune_thresholds(probabilities, labels, rule=rule, train_label_counts=np.arange(12) ** 3)
    np.testing.assert_array_equal(given.per_label, default.per_label)
    assert default.global_threshold == given.global_threshold == other.global_threshold
    assert (other.per_label != default.per_label).any() or rule == "micro"


def test_micro_is_one_threshold_which_is_best_for_micro_f1():
    probabilities, labels = long_tailed(300, seed=4)
    tuned = tune_thresholds(probabilities, labels, rule="micro")
    assert (tuned.per_label == tuned.global_threshold).all()
    best = max(f1_scores(probabilities, labels, limit)[0] for limit in candidates_of(probabilities, labels))
    assert f1_scores(probabilities, labels, tuned.global_threshold)[0] == pytest.approx(best)
    for rule in ("balanced", "macro"):
        assert tune_thresholds(probabilities, labels, rule=rule).global_threshold == tuned.global_threshold


@pytest.mark.parametrize("rule", ["balanced", "macro"])
def test_very_many_positives_decide_alone(rule):
    """The prior is worth some hundred positives: the best threshold of a label with thousands is its own."""
    probabilities, labels = (np.tile(array, (400, 1)) for array in long_tailed(60, seed=3, num_labels=3))
    tuned = tune_thresholds(probabilities, labels, rule=rule)
    limits = candidates_of(probabilities, labels)
    for label in np.flatnonzero(labels.sum(axis=0) > 1000):
        pair = probabilities[:, [label]], labels[:, [label]]
        best = max(f1_scores(*pair, limit)[0] for limit in limits)
        assert f1_scores(*pair, tuned.per_label[label])[0] == pytest.approx(best, abs=0.01)
    assert (labels.sum(axis=0) > 1000).sum() >= 2 and len(np.unique(tuned.per_label)) == 3


@pytest.mark.parametrize("rule", ["balanced", "macro"])
def test_among_equally_good_thresholds_the_nearest_to_the_common_one_is_taken(rule):
    """The last label has the same F1 at any threshold between its scores, and no other label is about as frequent."""
    labels = np.arange(200)[:, None] < [100, 4]
    probabilities = np.where(labels, [0.9, 1.0], [0.7, 0.0])
    tuned = tune_thresholds(probabilities, labels, rule=rule, train_label_counts=[10**6, 50])
    assert 0.7 < tuned.global_threshold < 0.9 and tuned.per_label[1] == tuned.global_threshold


# --- what it is there to prevent ---


@pytest.mark.parametrize("rule", RULES)
def test_labels_absent_from_validation_do_not_ruin_micro_f1(rule):
    validation, held_out = long_tailed(600, seed=0), long_tailed(3000, seed=1)
    assert (~validation[1].any(axis=0)).sum() >= 10
    half_micro, _ = f1_scores(*held_out, 0.5)
    naive_micro, _ = f1_scores(*held_out, naive_thresholds(*validation))
    micro, _ = f1_scores(*held_out, tune_thresholds(*validation, rule=rule).per_label)
    assert naive_micro < half_micro - 0.5
    assert micro > half_micro - 0.03


def test_balanced_lies_between_macro_and_micro_in_both_scores():
    micro, macro = mean_f1_scores(RULES, 12, num_labels=40, separations=(1.0, 3.0))
    assert micro["micro"] > micro["balanced"] + 0.005 and micro["balanced"] > micro["macro"] + 0.005
    assert macro["macro"] > macro["balanced"] + 0.005 and macro["balanced"] > macro["micro"] + 0.015


@pytest.mark.parametrize("rule", ["balanced", "macro"])
def test_a_label_without_a_positive_gets_the_threshold_of_labels_about_as_frequent(rule):
    """Positives of frequent labels lie at 0.9, those of rare ones at 0.02; of a last label only negatives are seen."""
    generator = np.random.default_rng(0)
    labels = np.zeros((1000, 5), dtype=bool)
    labels[:400, 0] = labels[200:600, 1] = labels[:20, 2] = labels[500:520, 3] = True
    low = np.array([0.1, 0.1, 1e-3, 1e-3, 1e-3])
    probabilities = np.where(labels, [0.9, 0.9, 0.02, 0.02, 0.02], low) * generator.uniform(0.9, 1.1, labels.shape)
    as_rare, as_frequent = (
        tune_thresholds(probabilities, labels, rule=rule, train_label_counts=[4000, 4000, 200, 200, count]).per_label
        for count in (200, 4000)
    )
    assert as_rare[4] == as_rare[2] and 1.1e-3 < as_rare[4] < 0.018
    assert as_frequent[4] == as_frequent[0] and 0.11 < as_frequent[4] < 0.81
    np.testing.assert_array_equal(as_frequent[:4], as_rare[:4])


# --- values and forms ---


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_and_extreme_probabilities_stay_usable(value, rule):
    labels = np.array([[1, 0], [0, 0], [1, 1]])
    tuned = tune_thresholds(np.full((3, 2), value), labels, rule=rule)
    assert ((tuned.per_label > 0) & (tuned.per_label < 1)).all()
    hard = tune_thresholds(labels.astype(float), labels, rule=rule)
    assert f1_scores(labels.astype(np.float32), labels == 1, hard.per_label.astype(np.float32)) == (1.0, 1.0)


@pytest.mark.parametrize("rule", RULES)
def test_no_positive_at_all_gives_half(rule):
    tuned = tune_thresholds(np.full((4, 3), 0.2), np.zeros((4, 3)), rule=rule, train_label_counts=[5, 6, 7])
    assert isinstance(tuned, Thresholds) and tuned.global_threshold == 0.5 and (tuned.per_label == 0.5).all()


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_permuting_examples_or_labels_permutes_the_thresholds(rule, given):
    probabilities, labels = long_tailed(200, seed=8, num_labels=15, distortion=1.5, separations=(1.0, 3.0))
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 1000, 15)
    rows, columns = generator.permutation(200), generator.permutation(15)
    before, after = (
        tune_thresholds(scores, truth, rule=rule, train_label_counts=frequencies if given else None).per_label
        for scores, truth, frequencies in (
            (probabilities, labels, counts),
            (probabilities[rows][:, columns], labels[rows][:, columns], counts[columns]),
        )
    )
    np.testing.assert_array_equal(after, before[columns])
    assert len(np.unique(before)) >= 5 or rule == "micro"


def naive_wish(score, least, probabilities, truth):
    """All cuts of the sorted scores, tried one by one: the number of examples given, or None."""
    fitting = []
    for limit in np.unique(probabilities):
        given = probabilities >= limit
        hits = (given & truth).sum()
        value = hits / given.sum() if score == "precision" else hits / max(truth.sum(), 1)
        if hits and value >= least:
            fitting.append(given.sum())
    return None if not fitting else max(fitting) if score == "precision" else min(fitting)


@pytest.mark.parametrize("score", ["precision", "recall"])
@pytest.mark.parametrize(("least", "missing"), [(0.5, 0.1), (0.9, 0.0), (1.0, 0.1)])
def test_thresholds_reach_the_precision_or_recall_asked_for(score, least, missing):
    probabilities, labels = long_tailed(300, 3, num_labels=30, separations=(1.0, 3.0))
    probabilities = probabilities.round(3)  # with ties
    matrix = labels.astype(float)
    matrix[np.random.default_rng(0).random(matrix.shape) < missing] = np.nan
    matrix = matrix if missing else labels
    tuned = tune_thresholds(probabilities, matrix, rule=f"{score}={least}")
    fallback = tune_thresholds(probabilities, matrix).per_label
    seen = set()
    for label, limit in enumerate(tuned.per_label):
        known = ~np.isnan(matrix[:, label])
        scores, truth = probabilities[known, label], matrix[known, label] == 1
        expected = naive_wish(score, least, scores, truth)
        seen.add(expected is None)
        assert tuned.unreached[label] == (expected is None)
        assert limit == fallback[label] if expected is None else (scores >= limit).sum() == expected
    assert seen == {True, False}


def test_other_rules_ask_for_nothing_and_wrong_ones_are_named():
    probabilities, labels = long_tailed(200, 0, num_labels=4)
    assert not any(tune_thresholds(probabilities, labels, rule=rule).unreached.any() for rule in RULES)
    assert tune_thresholds(probabilities, np.zeros_like(labels), rule="recall=0.5").unreached.all()
    for wrong in ("precision", "precision=", "recall=0", "precision=1.1", "recall=nan", "f1=0.5", 0.9, None):
        with pytest.raises(
            ValueError, match=r"^rule: expected one of balanced, macro, micro, precision=P or recall=R"
        ):
            tune_thresholds(probabilities, labels, rule=wrong)
