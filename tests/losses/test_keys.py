"""Examples contrasted with keys instead of each other."""

import dataclasses

import pytest
import torch
from batches import CONTRASTIVE, DIFFERENTIABLE, LABELS, assert_equals_loops, batch, each, value_and_gradients

from hf_mlcl.losses import CONTRASTIVE_LOSSES, Keys, build_loss, kernel


def queue_of(labels, rows=14, dimension=5, seed=7, dtype=torch.float64):
    """References of which some are the anchors themselves, some older copies of them, and some of no known example."""
    embeddings, reference_labels, _ = batch(rows, labels.shape[1], dimension, seed, dtype)
    reference_labels = reference_labels.to(labels.dtype)
    ids = torch.arange(rows) + 100
    ids[:3], ids[3], ids[-2:] = torch.tensor([5, 6, 7]), 5, -1
    anchor_ids = torch.arange(len(labels))
    anchor_ids[-1] = -1
    reference_labels[:4] = labels[[5, 6, 7, 5]]
    return Keys(embeddings.detach(), reference_labels, ids, anchor_ids)


def themselves(embeddings, labels):
    ids = torch.arange(len(labels))
    return Keys(embeddings.detach(), labels, ids, ids)


def some_unknown(labels, seed=0):
    unknown = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < 0.25
    return labels.double().masked_fill(unknown, float("nan"))


@each(CONTRASTIVE)
@pytest.mark.parametrize("masked", ["nothing", "batch", "references", "both"])
def test_equals_naive_loops(name, parameters, masked):
    embeddings, labels, prototypes = batch()
    references = queue_of(labels)
    if masked in ("batch", "both"):
        labels = some_unknown(labels)
    if masked in ("references", "both"):
        references = dataclasses.replace(references, labels=some_unknown(references.labels, seed=1))
    loss = build_loss(name, temperature=0.2, **parameters)
    assert_equals_loops(name, parameters, embeddings, labels, prototypes, loss, keys=references)


@each([variant for variant in CONTRASTIVE if variant[0] != "proto"])
def test_the_batch_as_its_own_references_is_the_batch(name, parameters):
    """Value and pull on the anchors; examples get no gradient as references, so the half of it stays away."""
    embeddings, labels, prototypes = batch()
    loss = build_loss(name, **parameters)
    keys = embeddings.detach().clone().requires_grad_()
    value = loss(embeddings, labels, prototypes, keys=themselves(embeddings, labels))
    torch.testing.assert_close(value, loss(embeddings, labels, prototypes))
    assert_equals_loops(name, parameters, embeddings, labels, prototypes, loss, keys=themselves(keys, labels))


def test_proto_compares_no_examples():
    embeddings, labels, prototypes = batch()
    loss = build_loss("proto")
    alone = value_and_gradients(loss, embeddings, labels, prototypes)
    torch.testing.assert_close(value_and_gradients(loss, embeddings, labels, prototypes, keys=queue_of(labels)), alone)


@each(DIFFERENTIABLE)
def test_gradcheck(name, parameters):
    embeddings, labels, prototypes = batch(rows=8, dimension=4)
    references = queue_of(labels, rows=6, dimension=4)
    loss = build_loss(name, temperature=0.5, **parameters)
    assert torch.autograd.gradcheck(lambda e, p: loss(e, labels, p, keys=references), (embeddings, prototypes))


# Prototypes as anchors are contrasted with every copy, so losses that have these do notice.
@each([variant for variant in CONTRASTIVE if variant[0] not in ("mscwrg", "reg")])
def test_copies_of_an_anchor_change_nothing_for_it(name, parameters):
    """An example's own key and older copies are neither positives nor in its denominator."""
    embeddings, labels, prototypes = batch(rows=4)
    references = queue_of(torch.cat([labels, labels]))
    only = Keys(references.embeddings, references.labels, references.ids, torch.tensor([5]))
    fewer = Keys(*(field[only.ids != 5] for field in (only.embeddings, only.labels, only.ids)), only.anchor_ids)
    anchor = embeddings[3:4].detach().requires_grad_()
    loss = build_loss(name, **parameters)
    few, many = (value_and_gradients(loss, anchor, labels[3:4], prototypes, keys=r) for r in (fewer, only))
    torch.testing.assert_close(few, many)


@each(CONTRASTIVE)
def test_blocks_of_rows_equal_one_block(name, parameters, monkeypatch):
    embeddings, labels, prototypes = batch(rows=13)
    labels, loss = some_unknown(labels), build_loss(name, **parameters)
    references = queue_of(labels)
    whole = value_and_gradients(loss, embeddings, labels, prototypes, keys=references)
    monkeypatch.setattr(kernel, "rows_per_block", lambda *_: 4)
    torch.testing.assert_close(value_and_gradients(loss, embeddings, labels, prototypes, keys=references), whole)


@each(CONTRASTIVE)
def test_no_references_and_one(name, parameters):
    embeddings, labels, prototypes = batch()
    references = queue_of(labels)
    loss = build_loss(name, **parameters)
    for rows in (slice(0, 0), slice(5, 6)):
        fields = (references.embeddings[rows], references.labels[rows], references.ids[rows], references.anchor_ids)
        assert_equals_loops(name, parameters, embeddings, labels, prototypes, loss, keys=Keys(*fields))


@pytest.mark.parametrize("name", [name for name in CONTRASTIVE_LOSSES if name != "proto"])
@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("embeddings", lambda x: x[:, :2], r"keys.embeddings: expected shape \(N, 5\), got \(14, 2\)"),
        ("labels", lambda x: x[:, :2], r"keys.labels: .*\(14, 6\), got shape \(14, 2\)"),
        ("labels", lambda x: x * 3, "keys.labels: .* got the value 3"),
        ("ids", lambda x: x[:2], r"keys.ids: expected int64 .* \(14,\), got torch.int64 of shape \(2,\)"),
        ("anchor_ids", lambda x: x.int(), r"keys.anchor_ids: expected int64 .* \(9,\), got torch.int32"),
    ],
)
def test_wrong_references_are_named(name, field, change, message):
    embeddings, labels, prototypes = batch()
    references = queue_of(labels)
    references = dataclasses.replace(references, **{field: change(getattr(references, field))})
    with pytest.raises(ValueError, match=message):
        build_loss(name)(embeddings, labels, prototypes, keys=references)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_keys_of_another_dtype(dtype):
    embeddings, labels, prototypes = batch(labels=LABELS, dtype=torch.float32)
    references = queue_of(labels, dtype=dtype)
    for name in CONTRASTIVE_LOSSES:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = build_loss(name)(embeddings, labels, prototypes, keys=references)
        assert value.dtype == torch.float32 and value.isfinite()
