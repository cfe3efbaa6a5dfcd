"""Iterative stratification and random subsets: sizes, proportions, rare labels, determinism."""

from __future__ import annotations

import numpy as np
import pytest

from hf_mlcl.data import iterative_split
from hf_mlcl.data.splits import random_subset


def long_tailed_labels(num_rows: int = 2000, num_labels: int = 25, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((num_rows, num_labels)) < 0.4 / np.arange(1, num_labels + 1)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3, 0.5])
def test_parts_are_disjoint_complete_ascending_and_of_the_asked_size(fraction):
    labels = long_tailed_labels()
    train, held = iterative_split(labels, fraction, seed=0)
    assert len(held) == round(fraction * len(labels))
    assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(len(labels)))
    assert (np.diff(train) > 0).all() and (np.diff(held) > 0).all()


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_label_proportions_are_several_times_closer_than_in_random_splits(fraction):
    labels = long_tailed_labels()
    _, held = iterative_split(labels, fraction, seed=0)
    expected = fraction * labels.sum(axis=0)
    rng = np.random.default_rng(0)
    random = [rng.permutation(len(labels))[: len(held)] for _ in range(20)]
    deviation = np.abs(labels[held].sum(axis=0) - expected).mean()
    random_deviation = np.mean([np.abs(labels[rows].sum(axis=0) - expected).mean() for rows in random])
    assert deviation < random_deviation / 3


def test_every_label_keeps_a_training_example_even_when_most_rows_are_held_out():
    labels = long_tailed_labels(300, 60)
    single = np.zeros((300, 3), dtype=bool)
    single[[7, 8, 9], [0, 1, 2]] = True  # three labels with one example each
    labels = np.hstack([labels, single])
    for fraction in (0.1, 0.5, 0.9):
        train, held = iterative_split(labels, fraction, seed=1)
        assert not labels[held][:, -3:].any()
        assert (labels[train].any(axis=0) == labels.any(axis=0)).all()


def test_rows_without_labels_are_spread_over_both_parts():
    labels = np.vstack(
        [long_tailed_labels(500, 5) | [True, False, False, False, False], np.zeros((500, 5), dtype=bool)]
    )
    _, held = iterative_split(labels, 0.2, seed=0)
    assert abs((held >= 500).sum() - 100) <= 3
    only_empty = iterative_split(np.zeros((10, 3)), 0.2, seed=0)
    assert [len(part) for part in only_empty] == [8, 2]


def test_global_random_state_is_neither_read_nor_changed():
    labels = long_tailed_labels(200, 6)
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first = iterative_split(labels, 0.1, seed=0)[1]
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(1)
    assert np.array_equal(iterative_split(labels, 0.1, seed=0)[1], first)


def test_random_subset_is_uniform_ascending_and_seeded():
    assert random_subset(5, None, 0) is None
    assert random_subset(5, 5, 0) is None
    subset = random_subset(1000, 100, 0)
    assert (np.diff(subset) > 0).all() and len(subset) == 100
    assert np.array_equal(subset, random_subset(1000, 100, 0))
    counts = sum(np.bincount(random_subset(20, 5, seed), minlength=20) for seed in range(800))
    assert counts.min() > 150 and counts.max() < 250  # 200 expected each
