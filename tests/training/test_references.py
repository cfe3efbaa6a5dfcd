"""Losses over the examples of all processes are those of the union, in value and gradients."""

import random

import numpy as np
import pytest
import torch
from batches import loop_value_and_gradients
from loss_job import CASES, EXAMPLES, LABELS, LOSSES, PARTS, counts_for, examples, value_of
from naive import classification_loss

from hf_mlcl.losses import CONTRASTIVE_LOSSES
from hf_mlcl.training.random_state import RandomState, preserved_random_state
from hf_mlcl.training.step import gather_references


def union(name, unknown):
    """Value and gradients of a loss on one process that holds the examples of all, by the naive loops."""
    vectors, labels, prototypes = examples(name, unknown)
    if name in CONTRASTIVE_LOSSES:
        value, gradients = loop_value_and_gradients(name, {}, vectors, labels, prototypes, 0.1)
        return value, *gradients
    value = classification_loss(name, vectors.tolist(), labels.tolist(), **counts_for(name))
    value_of(name, vectors.requires_grad_(), labels, prototypes).backward()
    return value, vectors.grad, torch.zeros_like(prototypes)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_value_and_gradients_over_processes_are_those_of_the_union(ranks, processes, name):
    results = ranks("losses", processes, "loss_job.py")
    for parts, unknown in CASES:
        values, *gradients = results[name, parts, unknown]
        if parts == "none":
            assert values.eq(0).all() and all(gradient.eq(0).all() for gradient in gradients)
            continue
        value, *expected = union(name, unknown)
        assert values.tolist() == pytest.approx([value] * processes, rel=1e-6, abs=1e-12), (parts, unknown)
        torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("processes", [2, 4])
def test_each_embedding_is_moved_once(ranks, processes):
    results = ranks("losses", processes, "loss_job.py")
    part, longest = EXAMPLES // processes, max(PARTS["unequal"][processes])
    assert results["moved", "equal"] == [(part, 4), (part, LABELS)]
    assert results["moved", "unequal"] == [(1,), (longest, 4), (longest, LABELS)]


def test_one_process_gathers_nothing():
    embeddings, logits, labels = torch.randn(3, 2), torch.randn(3, 4), torch.ones(3, 4)
    gathered = gather_references(embeddings, logits, labels=labels)
    assert all(found is given for found, given in zip(gathered, (embeddings, logits, labels), strict=True))


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_random_states_are_drawn_from_once_more_and_then_go_on():
    state = RandomState(torch.device("cpu"))
    with preserved_random_state():
        first = draw()
    assert draw() == first
    second, before_third = draw(), RandomState(torch.device("cpu"))
    third = draw()
    with before_third.replayed():
        assert draw() == third
    fourth = draw()
    with state.replayed():
        assert (draw(), draw(), draw(), draw()) == (first, second, third, fourth)
