"""Orders for batches that labels share: all examples once, two carriers of a label, chance, seeds, time."""

import numpy as np
import pytest
import torch

from hf_mlcl.data import LabelAwareSampler


def power_law(rows, labels, mean, seed=0):
    """Multi-hot labels, label l with a probability proportional to 1 / (l + 1), `mean` labels an example."""
    chance = mean / np.arange(1, labels + 1) / (1 / np.arange(1, labels + 1)).sum()
    return np.random.default_rng(seed).random((rows, labels)) < np.minimum(chance, 0.5)


def order(labels, size, seed=0):
    return list(LabelAwareSampler(labels, size, torch.Generator().manual_seed(seed)))


def batches(numbers, size):
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def single_carriers(labels, numbers, size):
    """Share of the labels of whole batches that one example alone carries, of those with two in the data set."""
    counts = np.array([labels[batch].sum(0) for batch in batches(numbers, size) if len(batch) == size])
    counts = counts[:, labels.sum(0) > 1]
    return (counts == 1).sum() / (counts > 0).sum()


def without_positives(labels, numbers, size):
    """Share of the labelled examples of whole batches that share no label with another one."""
    alone = anchors = 0
    for batch in batches(numbers, size):
        sets = labels[batch].astype(int)
        shared = sets @ sets.T > 0
        if len(batch) == size:
            anchors += shared.diagonal().sum()
            alone += (shared.sum(1) == 1).sum()
    return alone / anchors


@pytest.mark.parametrize("size", [1, 2, 7, 64, 200, 201, 500])
def test_every_example_comes_once(size):
    labels = power_law(200, 30, 2.0)
    sampler = LabelAwareSampler(labels, size, torch.Generator().manual_seed(1))
    assert len(sampler) == 200
    for _ in range(2):
        assert sorted(sampler) == list(range(200))


def test_the_order_depends_on_the_generator_alone():
    labels = power_law(300, 20, 2.0)
    first = order(labels, 16, seed=3)
    torch.manual_seed(99)
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    assert order(labels, 16, seed=3) == first != order(labels, 16, seed=4)
    assert torch.random.get_rng_state().equal(state[0]) and (np.random.get_state()[1] == state[1]).all()
    sampler = LabelAwareSampler(labels, 16, torch.Generator().manual_seed(3))
    assert list(sampler) == first != list(sampler)


@pytest.mark.parametrize("carriers", [2, 4])
def test_labels_with_an_even_number_of_carriers_are_never_carried_once(carriers):
    """Where examples have one label and batches an even size, two carriers are possible in all of them."""
    labels = np.eye(40, dtype=bool)[np.random.default_rng(0).permutation(np.repeat(np.arange(40), carriers))]
    for size in (2, 8, 10, 20):
        assert single_carriers(labels, order(labels, size), size) == 0
        assert without_positives(labels, order(labels, size), size) == 0


@pytest.mark.parametrize(
    ("labels", "mean", "size", "factor"), [(90, 1.2, 32, 50), (300, 3.0, 64, 10), (1000, 10.0, 256, 5)]
)
def test_single_carriers_are_a_small_part_of_those_of_a_random_order(labels, mean, size, factor):
    sets = power_law(3000, labels, mean)
    random = np.random.default_rng(0).permutation(3000).tolist()
    aware = order(sets, size)
    assert single_carriers(sets, aware, size) < single_carriers(sets, random, size) / factor
    assert without_positives(sets, aware, size) <= without_positives(sets, random, size) / 10


def test_a_label_with_one_carrier_and_unknown_labels_change_nothing():
    labels = power_law(200, 40, 2.0).astype(np.int8)
    unknown = np.where((labels == 0) & (np.random.default_rng(1).random(labels.shape) < 0.3), -100, labels)
    assert order(unknown, 16) == order(labels, 16)
    more = np.concatenate([labels, np.eye(200, dtype=np.int8)[:, :50]], axis=1)
    assert order(more, 16) == order(labels, 16)


def test_every_example_is_dropped_as_often_as_others():
    """The incomplete batch is made of random examples, with and without rare labels."""
    labels = power_law(70, 12, 1.5)
    left = np.zeros(70)
    for seed in range(600):
        left[order(labels, 32, seed)[64:]] += 1
    assert left.sum() == 600 * 6 and left.min() > 0
    assert left.max() < 4 * left.mean()
    rare = labels[:, 4:].any(1)
    assert 0.5 < left[rare].mean() / left[~rare].mean() < 2


def test_nothing_to_share_and_empty_data():
    assert sorted(order(np.zeros((5, 3), dtype=bool), 2)) == [0, 1, 2, 3, 4]
    assert order(np.zeros((0, 3), dtype=bool), 2) == []
