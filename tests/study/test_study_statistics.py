"""The statistics of a study against scores of repeated examples, scipy, and what they must say of known cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare, t

from hf_mlcl import compute_metrics
from hf_mlcl.evaluation.arrays import sigmoid
from hf_mlcl.study import statistics
from hf_mlcl.study.statistics import (
    SCORES,
    Predictions,
    best_if_distinguishable,
    bootstrap,
    difference,
    ranks,
)


def predictions(seed: int, skill: float = 1.0, examples: int = 60, labels: int = 7, missing: bool = False, truth=None):
    rng = np.random.default_rng(seed)
    truth = rng.random((examples, labels)) < np.linspace(0.0, 0.5, labels) if truth is None else truth
    # Rounded, so that scores are equal now and then.
    logits = np.round(skill * (2.0 * truth - 1) + rng.normal(size=truth.shape), 1)
    values = truth.astype(np.int8)
    if missing:
        values[rng.random(truth.shape) < 0.2] = -100
        values[:, 3] = -100
    return Predictions(logits, sigmoid(logits) >= 0.4, values)


@pytest.mark.parametrize("missing", [False, True])
def test_weights_are_repeated_examples(missing):
    one = predictions(0, missing=missing)
    rng = np.random.default_rng(1)
    weights = np.concatenate([np.ones((1, 60)), rng.multinomial(60, np.full(60, 1 / 60), size=8)])
    found = one.resampled(weights)
    share = (one.labels == 1).any(axis=0).sum() / (one.labels >= 0).any(axis=0).sum()
    for values, counts in zip(found, weights.astype(int), strict=True):
        rows = np.repeat(np.arange(60), counts)
        expected = compute_metrics((one.scores[rows], one.labels[rows]), thresholds=0.4)
        # Of the labels that are there, and as many of all as in the whole split.
        expected["macro_f1"] = expected["macro_f1_present"] * share
        assert values == pytest.approx([expected[name] for name in SCORES], abs=1e-5)
    whole = compute_metrics((one.scores, one.labels), thresholds=0.4)
    assert found[0] == pytest.approx([whole[name] for name in SCORES], abs=1e-5)


def test_the_bootstrap_pairs_seeds_and_examples():
    """A row against itself differs by nothing in any resample, whatever its scores."""
    of = {seed: predictions(0, truth=None) for seed in (1, 2)}
    scores = bootstrap({"one": of, "same": dict(of)}, resamples=50)
    for found in difference(scores["one"], scores["same"]):
        assert (found.mean, found.low, found.high, found.p) == pytest.approx((0, 0, 0, 1), abs=1e-6)
    assert best_if_distinguishable(scores, 0) is None


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_resamples_are_the_same_in_blocks_of_any_size(monkeypatch, block):
    rows = {"one": {seed: predictions(0) for seed in (1, 2)}}
    whole = bootstrap(rows, resamples=20)["one"]
    monkeypatch.setattr(statistics, "BLOCK", block)
    found = bootstrap(rows, resamples=20)["one"]
    assert found.shape == (2, 21, 3) and found == pytest.approx(whole, abs=1e-6)


def test_a_clear_difference_is_found_and_its_sign_turns_with_the_rows():
    truth = np.random.default_rng(5).random((200, 6)) < 0.3
    rows = {
        name: {seed: predictions(10 * seed + place, skill, truth=truth) for seed in (1, 2, 3)}
        for place, (name, skill) in enumerate({"good": 2.0, "poor": 0.3, "none": 0.0}.items())
    }
    scores = bootstrap(rows, resamples=300)
    there, back = difference(scores["good"], scores["poor"]), difference(scores["poor"], scores["good"])
    for one, other in zip(there, back, strict=True):
        assert one.low > 0 and one.p < 0.02
        assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))
    assert [best_if_distinguishable(scores, place) for place in range(3)] == ["good"] * 3


def test_of_equal_rows_few_intervals_leave_zero_out():
    """The 95 % interval of rows that are equally good holds 0 in about 95 of 100 studies; 40 of them are tried."""
    outside = 0
    for trial in range(40):
        truth = np.random.default_rng(trial).random((120, 5)) < 0.3
        rows = {
            name: {seed: predictions(1000 * trial + 10 * seed + place, truth=truth) for seed in (1, 2, 3)}
            for place, name in enumerate("ab")
        }
        scores = bootstrap(rows, resamples=200)
        found = difference(scores["a"], scores["b"])[0]
        outside += not found.low <= 0 <= found.high
    assert outside <= 8


def test_an_interval_lies_around_its_mean_where_labels_are_rare():
    """A label whose few positives are drawn twice ranks better, and one whose positives are not drawn is left out."""
    truth = np.zeros((150, 300), dtype=bool)
    truth[np.arange(300) % 150, np.arange(300)] = True
    rows = {
        name: {seed: predictions(10 * seed + place, skill, truth=truth) for seed in (1, 2, 3)}
        for place, (name, skill) in enumerate({"good": 1.5, "poor": 0.5}.items())
    }
    scores = bootstrap(rows, resamples=200)
    for found in difference(scores["good"], scores["poor"]):
        assert found.low < found.mean < found.high


@pytest.mark.parametrize("number", [2, 3, 5])
def test_the_interval_of_few_seeds_is_students(number):
    """Examples that are all alike leave the seeds' part; drawn with replacement, it would be too narrow by far."""
    labels = np.tile(np.array([1, 1, 0, 0, 0], dtype=np.int8), (30, 1))
    decisions = [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 1, 1, 0], [1, 0, 0, 0, 0], [0, 1, 1, 0, 0]][:number]
    decisions = [np.tile(np.array(row, dtype=bool), (30, 1)) for row in decisions]
    runs = {seed: Predictions(one.astype(float), one, labels) for seed, one in enumerate(decisions)}
    scores = bootstrap({"row": runs}, resamples=50)["row"]
    found = difference(scores, np.zeros_like(scores))[0]
    single = [one.resampled(np.ones((1, 30)))[0, 0] for one in runs.values()]
    expected = t.interval(0.95, number - 1, np.mean(single), np.std(single, ddof=1) / np.sqrt(number))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(single), *expected), rel=1e-5)


def test_the_interval_of_one_seed_is_that_of_its_examples():
    scores = bootstrap({name: {1: predictions(1, skill)} for name, skill in (("a", 1.0), ("b", 0.9))}, resamples=400)
    values = (scores["a"] - scores["b"])[0]
    for score, found in enumerate(difference(scores["a"], scores["b"])):
        away = np.abs(values[1:, score] - np.median(values[1:, score]))
        assert (found.high - found.low) / 2 == pytest.approx(np.quantile(away, 0.95), rel=0.05)
        beyond = (away >= abs(found.mean)).mean()
        assert found.p == pytest.approx(beyond, abs=0.01)


def test_what_an_example_does_in_one_seed_alone_is_counted_once():
    """Rows that only noise tells apart, anew for each seed: their spread over seeds already holds that noise."""
    rng = np.random.default_rng(0)
    truth = rng.random((400, 5)) < 0.3
    rows = {
        name: {seed: predictions(100 * seed + k, truth=truth) for seed in range(40)} for k, name in enumerate("ab")
    }
    scores = bootstrap(rows, resamples=300)
    values = (scores["a"] - scores["b"])[:, 0, 0]
    found = difference(scores["a"], scores["b"])[0]
    low, high = t.interval(0.95, 39, values.mean(), values.std(ddof=1) / np.sqrt(40))
    assert found.high - found.low == pytest.approx(high - low, rel=0.2)


def test_test_splits_that_differ_by_seed_are_resampled_by_themselves():
    rows = {name: {seed: predictions(seed, skill) for seed in (1, 2)} for name, skill in (("a", 2.0), ("b", 0.1))}
    scores = bootstrap(rows, resamples=50)
    mean = np.mean([rows["a"][seed].resampled(np.ones((1, 60)))[0] for seed in (1, 2)], axis=0)
    assert scores["a"][:, 0].mean(axis=0) == pytest.approx(mean)
    other = {**rows, "c": {1: predictions(3), 2: predictions(2)}}
    with pytest.raises(ValueError, match="'c' with seed 1"):
        bootstrap(other)
    with pytest.raises(ValueError, match="no seed"):
        bootstrap({"a": {1: predictions(1)}, "b": {2: predictions(2)}})


def test_ranks():
    pytest.importorskip("scikit_posthocs")
    values = pd.DataFrame(np.random.default_rng(0).random((5, 4)), columns=list("abcd"))
    values["a"] += 1
    found = ranks(values)
    assert found.average["a"] == 1 and found.average.sum() == pytest.approx(1 + 2 + 3 + 4)
    assert found.friedman == pytest.approx(friedmanchisquare(*values.to_numpy().T).pvalue)
    assert (found.nemenyi.to_numpy() == found.nemenyi.to_numpy().T).all()
    assert ranks(values[["a", "b"]]).friedman is None


def test_pairs_are_told_apart_only_where_not_all_rows_are_alike():
    pytest.importorskip("scikit_posthocs")
    rng = np.random.default_rng(0)
    trials = [pd.DataFrame(rng.random((4, 8)) + np.linspace(0, spread, 8)) for spread in np.linspace(0, 1, 30)]
    found = [ranks(values) for values in trials]
    assert {one.friedman >= 0.05 for one in found} == {True, False}
    for one in found:
        assert one.friedman < 0.05 or (one.nemenyi.to_numpy() == 1).all()
    tied = ranks(pd.DataFrame(0.5, index=range(3), columns=list("abc")))
    assert tied.friedman == 1 and (tied.nemenyi.to_numpy() == 1).all() and set(tied.average) == {2}


def test_scores_that_differ_by_rounding_tie():
    assert ranks(pd.DataFrame({"a": [0.3, 0.1], "b": [0.1 + 0.2, 0.1]})).average.to_dict() == {"a": 1.5, "b": 1.5}
