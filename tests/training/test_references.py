import pytest
import torch

from hf_mlcl.training.random_state import preserved_random_state
from hf_mlcl.training.references import gather_references, positive_statistics


def test_one_process_gathers_nothing():
    embeddings, labels = torch.randn(3, 2), torch.ones(3, 4)
    gathered = gather_references(embeddings, labels)
    assert gathered[0] is embeddings and gathered[1] is labels


def test_positive_statistics_equal_loops():
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    sets = [{i for i, value in enumerate(row) if value} for row in labels.tolist()]
    counts = [sum(bool(a & b) for j, b in enumerate(sets) if j != i) for i, a in enumerate(sets) if a]
    statistics = positive_statistics(labels)
    assert statistics["positives_per_anchor"].item() == pytest.approx(sum(counts) / len(counts))
    assert statistics["anchors_without_positives"].item() == pytest.approx(counts.count(0) / len(counts))
    assert all(value == 0 for value in positive_statistics(labels * 0).values())


def test_preserved_random_state():
    import random

    import numpy as np

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    with preserved_random_state():
        draw()
    first = draw()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    assert draw() == first
