"""Missing references (-100, NaN) count in no score: loops over the known entries, and what must change nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlcl.metrics.multilabel_f1.multilabel_f1 import multilabel_scores

KS = (1, 2, 4)


def make_case(seed, num_examples=25, num_labels=7, missing=0.3):
    """References as float with NaN where missing, tied probabilities, thresholds and training counts.

    Some examples and some labels are wholly missing, some labels are known to be absent.
    """
    generator = np.random.default_rng(seed)
    references = (generator.random((num_examples, num_labels)) < 0.35).astype(float)
    references[:, generator.random(num_labels) < 0.15] = 0
    references[generator.random(references.shape) < missing] = np.nan
    references[generator.random(num_examples) < 0.15] = np.nan
    references[:, generator.random(num_labels) < 0.15] = np.nan
    if np.isnan(references).all():
        references[0, 0] = 1
    probabilities = np.round(generator.random(references.shape), 1)
    options = {
        "thresholds": generator.random(num_labels),
        "train_label_counts": generator.integers(0, 200, num_labels),
    }
    return references, probabilities, options


def mean(values):
    return sum(values) / len(values) if values else 0.0


def ratio(hits, count):
    return hits / count if count else 0.0


def scores_of(pairs):
    """Precision, recall, F1 of (truth, predicted) pairs."""
    hits = sum(t and p for t, p in pairs)
    predicted, positive = sum(p for _, p in pairs), sum(t for t, _ in pairs)
    return ratio(hits, predicted), ratio(hits, positive), ratio(2 * hits, predicted + positive)


def average_precision(pairs):
    """Of (truth, score) pairs: each positive's share of positives among the scores that are at least its own."""
    truths, scores = (np.array(values) for values in zip(*pairs, strict=True)) if pairs else ([], [])
    return mean([truths[scores >= score].mean() for truth, score in pairs if truth])


def naive_scores(references, probabilities, thresholds, train_label_counts, ks=KS):
    """Every score by loops over lists of what is known, as the documentation words it."""
    num_examples, num_labels = references.shape
    known = [[i for i in range(num_examples) if not math.isnan(references[i, j])] for j in range(num_labels)]
    labels = [j for j in range(num_labels) if known[j]]
    columns = {
        j: [(bool(references[i, j]), bool(probabilities[i, j] >= thresholds[j])) for i in known[j]] for j in labels
    }
    support = {j: sum(t for t, _ in columns[j]) for j in labels}
    per_label = {j: scores_of(columns[j]) for j in labels}
    result = {}
    for index, kind in enumerate(("precision", "recall", "f1")):
        values = {j: per_label[j][index] for j in labels}
        result[f"macro_{kind}"] = mean(list(values.values()))
        result[f"micro_{kind}"] = scores_of(sum(columns.values(), []))[index]
        weights = sum(support.values())
        result[f"weighted_{kind}"] = ratio(sum(values[j] * support[j] for j in labels), weights)
        result[f"per_label_{kind}"] = [values.get(j, 0.0) for j in range(num_labels)]
    result["macro_f1_present"] = mean([per_label[j][2] for j in labels if support[j]])
    decisions = sum(columns.values(), [])
    result["hamming_loss"] = mean([t != p for t, p in decisions])
    ranked = {j: [(bool(references[i, j]), probabilities[i, j]) for i in known[j]] for j in labels}
    precisions = {j: average_precision(ranked[j]) for j in labels if support[j]}
    result["map"] = mean(list(precisions.values()))
    result["per_label_average_precision"] = [precisions.get(j, 0.0) for j in range(num_labels)]
    result["micro_map"] = average_precision(sum(ranked.values(), []))
    result["per_label_support"] = [support.get(j, 0) for j in range(num_labels)]
    result["per_label_known"] = [len(rows) for rows in known]
    for name, inside in (
        ("head", lambda count: count > 100),
        ("medium", lambda count: 20 <= count <= 100),
        ("tail", lambda count: count < 20),
    ):
        group = [j for j in labels if inside(train_label_counts[j])]
        if group:
            result[f"macro_f1_{name}"] = mean([per_label[j][2] for j in group])
            result[f"num_labels_{name}"] = len(group)

    rows = []
    for i in range(num_examples):
        own = [j for j in range(num_labels) if not math.isnan(references[i, j])]
        if not own:
            continue
        truth = {j: bool(references[i, j]) for j in own}
        pairs = [(truth[j], bool(probabilities[i, j] >= thresholds[j])) for j in own]
        row = dict(zip(("samples_precision", "samples_recall", "samples_f1"), scores_of(pairs), strict=True))
        row["subset_accuracy"] = all(t == p for t, p in pairs)
        row["lrap"] = average_precision([(truth[j], probabilities[i, j]) for j in own]) if any(truth.values()) else 1.0
        lowest = min((probabilities[i, j] for j in own if truth[j]), default=math.inf)
        row["coverage_error"] = sum(probabilities[i, j] >= lowest for j in own)
        order = sorted(own, key=lambda j: (-probabilities[i, j], j))
        for k in ks:
            found = [truth[j] for j in order[:k]]
            row[f"precision_at_{k}"] = sum(found) / min(k, len(own))
            row[f"recall_at_{k}"] = ratio(sum(found), sum(truth.values()))
            gain = sum(t / math.log2(place + 2) for place, t in enumerate(found))
            best = sum(1 / math.log2(place + 2) for place in range(min(k, sum(truth.values()))))
            row[f"ndcg_at_{k}"] = ratio(gain, best)
        rows.append(row)
    return result | {name: mean([row[name] for row in rows]) for name in rows[0]}


def compute(references, probabilities, options):
    return multilabel_scores(references, probabilities=probabilities, ks=KS, per_label=True, **options)


def assert_equal(got, expected, exactly=False):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if exactly:
            np.testing.assert_array_equal(got[name], value, err_msg=name)
        else:
            np.testing.assert_allclose(got[name], value, atol=1e-12, err_msg=name)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    num_examples=st.integers(1, 12),
    num_labels=st.integers(4, 8),
    missing=st.sampled_from([0.0, 0.2, 0.5, 0.9]),
)
def test_every_score_equals_loops_over_the_known_entries(seed, num_examples, num_labels, missing):
    references, probabilities, options = make_case(seed, num_examples, num_labels, missing)
    assert_equal(compute(references, probabilities, options), naive_scores(references, probabilities, **options))


@pytest.mark.parametrize(("num_labels", "ks"), [(1, (1,)), (2, (1, 2)), (5000, KS)])
def test_few_and_many_labels_equal_loops(num_labels, ks):
    references, probabilities, options = make_case(0, 5, num_labels)
    references[0, 0] = 1
    expected = naive_scores(references, probabilities, **options, ks=ks)
    assert_equal(compute(references, probabilities, options), expected)


@pytest.mark.parametrize("seed", range(3))
def test_forms_of_missing_agree(seed):
    references, probabilities, options = make_case(seed)
    expected = compute(references, probabilities, options)
    filled = np.where(np.isnan(references), -100, references)
    mixed = references.copy()
    mixed[::2] = filled[::2]
    none = [[None if math.isnan(value) else int(value) for value in row] for row in references]
    forms = (filled, filled.astype(np.int8), filled.astype(np.int64), filled.astype(np.float16), mixed, none)
    for form in forms:
        assert_equal(compute(form, probabilities, options), expected, exactly=True)


@pytest.mark.parametrize("seed", range(3))
def test_predictions_for_missing_labels_change_nothing(seed):
    references, probabilities, options = make_case(seed)
    other = np.where(np.isnan(references), 1 - probabilities, probabilities)
    assert_equal(compute(references, other, options), compute(references, probabilities, options), exactly=True)
    decisions = probabilities >= options["thresholds"]
    scores = multilabel_scores(references, decisions ^ np.isnan(references))
    assert scores == multilabel_scores(references, decisions)


@pytest.mark.parametrize("seed", range(3))
def test_a_label_that_is_never_known_is_as_if_it_were_not_there(seed):
    references, probabilities, options = make_case(seed)
    before = compute(references, probabilities, options)
    wider = {name: np.insert(values, 3, 0.5, axis=0) for name, values in options.items()}
    after = compute(np.insert(references, 3, np.nan, axis=1), np.insert(probabilities, 3, 0.9, axis=1), wider)
    for name, value in before.items():
        if name.startswith("per_label_"):
            assert after[name][3] == 0
            np.testing.assert_array_equal(np.delete(after[name], 3), value)
        else:
            assert after[name] == pytest.approx(value), name
