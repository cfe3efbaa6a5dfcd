"""Batches that hold the edge cases, and the naive loops' gradients: what tests of the losses share."""

import dataclasses

import pytest
import torch
from naive import contrastive_loss

from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES, Keys, loss_parameters

CONTRASTIVE = [(name, {}) for name in CONTRASTIVE_LOSSES] + [
    ("msc", {"beta": 0.0}),
    ("msc", {"beta": 1.0}),
    ("multisupcon", {"threshold": 0.3}),
    *[(name, {"alpha": alpha}) for name in ("mscwrg", "reg") for alpha in (-1.0, 0.0, 0.5, 2.0)],
]
CLASSIFICATION = [(name, {}) for name in CLASSIFICATION_LOSSES] + [
    ("bce", {"pos_weight": 3.0}),
    ("focal", {"gamma": 0.5, "alpha": 0.3}),
    ("asymmetric", {"gamma_negative": 1, "gamma_positive": 0, "clip": 0}),
    ("asymmetric", {"gamma_negative": 0.5, "gamma_positive": 0.5, "clip": 0.2}),
    ("two_way", {"temperature": 0.5, "alpha": 0.3}),
    ("db", {"alpha": 0.0, "beta": 3.0, "mu": 0.2, "negative_scale": 5.0, "kappa": 0.3, "gamma": 0.5}),
    ("cb_focal", {"beta": 0.9, "gamma": 0.5}),
    ("cb_focal", {"beta": 0}),
]
DIFFERENTIABLE = [variant for variant in CONTRASTIVE if variant[0] != "reg"]
LABELS = 6


def each(variants):
    """Parametrizes a test over (name, parameters) of losses."""
    return pytest.mark.parametrize(("name", "parameters"), variants, ids=str)


def with_counts(name, parameters, labels):
    """The parameters of a loss, with the counts of a training set of so many labels where it asks for them.

    No example has the first label and all have the second; of some labels it is not known of every example.
    """
    positives = [(0, 40, 3, 17, 9, 28)[label % 6] for label in range(labels)]
    known = [(40, 40, 40, 35, 47, 60)[label % 6] for label in range(labels)]
    counts = {"label_counts": positives, "num_examples": known}
    return parameters | {key: value for key, value in counts.items() if key in loss_parameters(name)}


def batch(rows=9, labels=LABELS, dimension=5, seed=0, dtype=torch.float64, density=0.35):
    """A batch with an example without any label, one with every label, and a label that occurs once."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(rows, dimension, generator=generator, dtype=torch.float64).to(dtype)
    prototypes = torch.randn(labels, dimension, generator=generator, dtype=torch.float64).to(dtype)
    multi_hot = (torch.rand(rows, labels, generator=generator) < density).long()
    multi_hot[:, -1] = 0
    if rows > 3:
        multi_hot[0], multi_hot[1], multi_hot[2, -1] = 0, 1, 1
        multi_hot[1, -1] = 0
    return embeddings.requires_grad_(), multi_hot, prototypes.requires_grad_()


def with_missing(labels, share=0.25, seed=0, dtype=torch.float64):
    """Some labels missing, as -100 and as NaN; row 3 wholly, rows 0 (known to have none) and 4 not at all."""
    generator = torch.Generator().manual_seed(seed)
    missing = torch.rand(labels.shape, generator=generator) < share
    as_nan = torch.rand(labels.shape, generator=generator) < 0.5
    if len(labels) > 4:
        missing[[0, 4]], missing[3] = False, True
    labels = labels.to(dtype).masked_fill(missing, -100)
    return labels.masked_fill(missing & as_nan, float("nan")) if dtype.is_floating_point else labels


def queue_of(labels, rows=14, dimension=5, seed=7, dtype=torch.float64):
    """Keys of which some are the anchors themselves, some older copies of them, and some of no known example."""
    embeddings, key_labels, _ = batch(rows, labels.shape[1], dimension, seed, dtype)
    key_labels = key_labels.to(labels.dtype)
    ids = torch.arange(rows) + 100
    ids[:3], ids[3], ids[-2:] = torch.tensor([5, 6, 7]), 5, -1
    anchor_ids = torch.arange(len(labels))
    anchor_ids[-1] = -1
    key_labels[:4] = labels[[5, 6, 7, 5]]
    return Keys(embeddings.detach(), key_labels, ids, anchor_ids)


# The share of missing labels, and whether the examples are contrasted with keys.
SETTINGS = {"plain": (0, False), "missing": (0.25, False), "keys": (0, True), "missing, keys": (0.25, True)}
settings = pytest.mark.parametrize("setting", SETTINGS)


def given(setting, rows=9, dimension=5, seed=0, share=None):
    """Embeddings, labels, prototypes and keys."""
    usual, with_keys = SETTINGS[setting]
    share = usual if share is None else share
    embeddings, labels, prototypes = batch(rows, dimension=dimension, seed=seed)
    keys = queue_of(labels, dimension=dimension) if with_keys else None
    if share:
        labels = with_missing(labels, share, seed)
        if keys is not None:
            keys = dataclasses.replace(keys, labels=with_missing(keys.labels, share, seed=1))
    return embeddings, labels, prototypes, keys


def value_and_gradients(loss, embeddings, labels, prototypes, keys=None):
    keywords = {} if keys is None else {"keys": keys}
    value = loss(embeddings, labels, prototypes, **keywords)
    gradients = torch.autograd.grad(value, [embeddings, prototypes], allow_unused=True)
    gradients = [
        torch.zeros_like(x) if g is None else g for g, x in zip(gradients, (embeddings, prototypes), strict=True)
    ]
    return value, gradients


def loop_value_and_gradients(name, parameters, embeddings, labels, prototypes, temperature, keys=None):
    """The naive loops; the chain rule from dL/ds to the vectors through autograd on the similarities alone."""
    others = {}
    if keys is not None and name != "proto":
        anchor_ids, ids = keys.anchor_ids.tolist(), keys.ids.tolist()
        others = {
            "others": keys.embeddings.tolist(),
            "other_labels": keys.labels.tolist(),
            "same": {(i, j) for i, a in enumerate(anchor_ids) for j, b in enumerate(ids) if a == b >= 0},
        }
    value, by_pair = contrastive_loss(
        name, embeddings.tolist(), labels.tolist(), prototypes.tolist(), temperature, **others, **parameters
    )
    e, p = embeddings.detach().double().requires_grad_(), prototypes.detach().double().requires_grad_()
    examples = e[:0] if name == "proto" else (keys.embeddings.double() if others else e)
    anchor_vectors, reference_vectors = (
        torch.cat([torch.nn.functional.normalize(x) for x in (examples, p)]) for examples in (e, examples)
    )
    i, j = torch.tensor(list(by_pair), dtype=torch.long).reshape(-1, 2).unbind(1)
    by_similarity = torch.tensor(list(by_pair.values()), dtype=torch.float64)
    surrogate = (by_similarity * (anchor_vectors[i] * reference_vectors[j]).sum(1)).sum() / temperature
    return value, torch.autograd.grad(surrogate, [e, p])


def assert_equals_loops(
    name, parameters, embeddings, labels, prototypes, loss, rtol=1e-12, gradient_rtol=1e-12, keys=None
):
    """Checks a loss against the loops; the gradients relative to the largest entry."""
    value, gradients = value_and_gradients(loss, embeddings, labels, prototypes, keys)
    expected, expected_gradients = loop_value_and_gradients(
        name, parameters, embeddings, labels, prototypes, loss.temperature, keys
    )
    assert value.item() == pytest.approx(expected, rel=rtol, abs=1e-12 if rtol < 1e-9 else 1e-6)
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        scale = reference.abs().max().clamp(min=1e-3)
        assert (gradient.double() - reference).abs().max() / scale < gradient_rtol
