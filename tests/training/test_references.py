import functools
import sys
from pathlib import Path

import pytest
import torch
from rank_cases import CASES, EXAMPLES, LABELS, LOSSES, Model, examples, loss_of, part_sizes
from ranks import folder_of_ranks

from hf_mlcl.losses import CONTRASTIVE_LOSSES, build_loss
from hf_mlcl.training.random_state import preserved_random_state
from hf_mlcl.training.step import gather_references

sys.path.append(str(Path(__file__).resolve().parents[1] / "losses"))

from batches import loop_value_and_gradients  # noqa: E402
from naive import classification_loss  # noqa: E402


@functools.cache
def union(name, accumulation, unknown, none_at_first):
    """Value and gradients of a loss on one process that holds the examples of all, by the naive loops."""
    model, loss, total = Model(name), build_loss(name), 0.0
    for step in range(int(none_at_first), accumulation):
        inputs, labels = examples(step, unknown)
        vectors, prototypes = model(inputs)
        if name in CONTRASTIVE_LOSSES:
            used = [vectors] if prototypes is None else [vectors, prototypes]
            unused = torch.zeros(LABELS, vectors.shape[1], dtype=torch.float64)
            value, gradients = loop_value_and_gradients(name, {}, vectors, labels, [*used, unused][1], 0.1)
            torch.autograd.backward(used, [gradient / accumulation for gradient in gradients[: len(used)]])
        else:
            value = classification_loss(name, vectors.tolist(), labels.tolist())
            (loss_of(loss, vectors, labels, prototypes) / accumulation).backward()
        total += value / accumulation
    return total, {key: torch.zeros_like(p) if p.grad is None else p.grad for key, p in model.named_parameters()}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_value_and_gradients_over_processes_are_those_of_the_union(tmp_path_factory, processes, name):
    results = torch.load(folder_of_ranks(tmp_path_factory, "loss_job.py", processes) / "losses.pt")
    for parts, accumulation, unknown in CASES:
        values, gradients = results[name, parts, accumulation, unknown]
        nothing = sum(part_sizes(parts, processes, 0)) == 0
        expected, expected_gradients = union(name, accumulation, unknown, nothing)
        case = f"{parts}, accumulation {accumulation}, unknown labels {unknown}"
        assert values.tolist() == pytest.approx([expected] * processes, rel=1e-6, abs=1e-12), case
        assert gradients.keys() == expected_gradients.keys()
        largest = max(gradient.abs().max() for gradient in expected_gradients.values())
        assert largest > 0 or (nothing and accumulation == 1), case
        for key, gradient in gradients.items():
            assert (gradient - expected_gradients[key]).abs().max() <= 1e-6 * largest, f"{case}: {key}"


@pytest.mark.parametrize("processes", [2, 4])
def test_each_embedding_is_moved_once(tmp_path_factory, processes):
    results = torch.load(folder_of_ranks(tmp_path_factory, "loss_job.py", processes) / "losses.pt")
    part, longest = EXAMPLES // processes, max(part_sizes("unequal", processes, 0))
    assert results["moved", "equal"] == [(part, 4), (part, LABELS)]
    assert results["moved", "unequal"] == [(1,), (longest, 4), (longest, LABELS)]


def test_one_process_gathers_nothing():
    embeddings, logits, labels = torch.randn(3, 2), torch.randn(3, 4), torch.ones(3, 4)
    gathered = gather_references(embeddings, logits, labels=labels)
    assert all(found is given for found, given in zip(gathered, (embeddings, logits, labels), strict=True))


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
