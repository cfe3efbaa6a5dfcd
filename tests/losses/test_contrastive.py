"""Contrastive losses: values, gradients, invariances; with missing labels; contrasted with keys of a queue."""

import dataclasses
import functools
import itertools

import pytest
import torch
from batches import (
    CONTRASTIVE,
    DIFFERENTIABLE,
    LABELS,
    assert_equals_loops,
    batch,
    each,
    given,
    queue_of,
    settings,
    value_and_gradients,
    with_missing,
)
from naive import contrastive_loss, contrastive_weights

from hf_mlcl.losses import CONTRASTIVE_LOSSES, Keys, build_loss, kernel, label_sets
from hf_mlcl.losses.base import normalize
from hf_mlcl.losses.checks import check_labels
from hf_mlcl.losses.label_sets import Comparison, LabelSets

variants = each(CONTRASTIVE)
COMPARING = [variant for variant in CONTRASTIVE if variant[0] != "proto"]
WITHOUT_PROTOTYPES = [variant for variant in CONTRASTIVE if not build_loss(variant[0]).uses_prototypes]

# --- values and gradients ---


@variants
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equals_naive_loops(name, parameters, dtype):
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 1e-2)
    loss = build_loss(name, temperature=0.2, **parameters)
    # The value is computed in float32 whatever the input, so only the gradients are as coarse as their own type.
    assert_equals_loops(name, parameters, *batch(dtype=dtype), loss, min(tolerance, 1e-5), tolerance)


@variants
@pytest.mark.parametrize("share", [0, 0.05, 0.3, 0.7])
@pytest.mark.parametrize("setting", ["plain", "keys"])
def test_equals_naive_loops_with_missing_labels_and_keys(name, parameters, share, setting):
    loss = build_loss(name, temperature=0.2, **parameters)
    for seed in range(3 if share else 1):
        *tensors, keys = given(setting, seed=seed, share=share)
        assert_equals_loops(name, parameters, *tensors, loss, keys=keys)


@pytest.mark.parametrize("name", CONTRASTIVE_LOSSES)
@pytest.mark.parametrize("share", [0, 0.25])
@pytest.mark.parametrize(("labels", "tolerance"), [(1, 1e-12), (2, 1e-12), (5000, 1e-5)])
def test_few_and_many_labels(name, labels, share, tolerance):
    dtype = torch.float64 if labels < 5 else torch.float32
    embeddings, multi_hot, prototypes = batch(6, labels, dimension=3, dtype=dtype, density=min(0.35, 4 / labels))
    multi_hot[1, 5:] = 0  # an example with every label would take the loops minutes
    multi_hot[5] = multi_hot[4]
    tensors = (embeddings, with_missing(multi_hot, share), prototypes)
    assert_equals_loops(name, {}, *tensors, build_loss(name), tolerance, tolerance)


@variants
@pytest.mark.parametrize("rows", [0, 1])
def test_batches_of_none_and_one(name, parameters, rows):
    embeddings, _, prototypes = batch(rows=rows)
    labels = torch.ones(rows, LABELS)
    value, gradients = value_and_gradients(build_loss(name, **parameters), embeddings, labels, prototypes)
    inputs = (embeddings.tolist(), labels.tolist(), prototypes.tolist())
    expected = contrastive_loss(name, *inputs, **parameters)[0] if rows else 0
    assert value.item() == pytest.approx(expected, abs=1e-12)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", ["supcon_any", "supcon_all", "base", "mulsupcon"])
def test_single_label_data_is_supcon(name):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(16, 8, dtype=torch.float64, generator=generator).requires_grad_()
    classes = torch.arange(16) % 4  # every class occurs, so mulsupcon counts no label without a positive
    ours = build_loss(name, temperature=0.1)(embeddings, torch.nn.functional.one_hot(classes, 4))
    theirs = losses.SupConLoss(temperature=0.1)(embeddings, classes)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, embeddings), torch.autograd.grad(theirs, embeddings))


@each(DIFFERENTIABLE)
@settings
def test_gradcheck_also_of_the_temperature(name, parameters, setting):
    embeddings, labels, prototypes, keys = given(setting, rows=8, dimension=4)
    loss = build_loss(name, temperature=0.5, learnable_temperature=True, **parameters)

    def value(e, p, log_temperature):
        given = {"log_temperature": log_temperature}
        return torch.func.functional_call(loss, given, (e, labels, p), {} if keys is None else {"keys": keys})

    temperature = torch.tensor(-0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, (embeddings, prototypes, temperature))


@variants
@settings
def test_a_learnable_temperature_starts_as_the_number(name, parameters, setting):
    learnable = build_loss(name, temperature=0.3, learnable_temperature=True, **parameters).double()
    expected = value_and_gradients(build_loss(name, temperature=0.3, **parameters), *given(setting))
    torch.testing.assert_close(value_and_gradients(learnable, *given(setting)), expected, rtol=1e-6, atol=1e-6)


@variants
@settings
def test_blocks_of_rows_equal_one_block(name, parameters, setting, monkeypatch):
    loss = build_loss(name, **parameters)
    whole = value_and_gradients(loss, *given(setting, rows=13))
    monkeypatch.setattr(kernel, "rows_per_block", lambda *_: 4)
    torch.testing.assert_close(value_and_gradients(loss, *given(setting, rows=13)), whole)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0])
def test_reg_never_pushes_a_positive_away(alpha):
    embeddings, labels, prototypes = batch(rows=12, seed=5)
    _, by_pair = contrastive_loss(
        "mscwrg", embeddings.tolist(), labels.tolist(), prototypes.tolist(), 1.0, alpha=alpha
    )
    weights = contrastive_weights("reg", labels.tolist(), {"alpha": alpha})[1]
    assert any(by_pair[pair] > 0 for pair in weights), "this batch must hold positives that mscwrg pushes away"

    # The kernel on free similarities: with references = identity, dL/danchor is dL/ds itself.
    loss, size = build_loss("reg", temperature=1.0, alpha=alpha), len(labels) + LABELS
    generator = torch.Generator().manual_seed(0)
    similarities = torch.randn(size, size, dtype=torch.float64, generator=generator).requires_grad_()
    sets = LabelSets.from_rows(labels).to(similarities)
    value = kernel.weighted_contrast(
        similarities,
        torch.eye(size, dtype=torch.float64),
        loss.anchor_groups(Comparison(sets, sets)),
        temperature=1.0,
        drop_repulsion=True,
    )
    (gradient,) = torch.autograd.grad(value, similarities)
    positives = torch.tensor(list(weights))
    assert (gradient[positives[:, 0], positives[:, 1]] <= 0).all()
    negatives = torch.ones(size, size, dtype=torch.bool).fill_diagonal_(False)
    negatives[positives[:, 0], positives[:, 1]] = False
    assert (gradient[negatives] >= 0).all() and gradient.diagonal().eq(0).all()


# --- invariances ---


@variants
def test_order_of_batch_and_labels_rotation_and_length_change_nothing(name, parameters):
    embeddings, labels, prototypes = batch()
    loss = build_loss(name, **parameters)
    value, (gradient, prototype_gradient) = value_and_gradients(loss, embeddings, labels, prototypes)
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    columns = torch.randperm(LABELS, generator=torch.Generator().manual_seed(2))
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]

    def moved(e, y, p):
        return loss(e[rows] @ rotation, y[rows][:, columns], p[columns] @ rotation)

    # `grad` flows back through the indexing and the rotation, so the original gradients must come out again.
    again = value_and_gradients(moved, embeddings, labels, prototypes)
    torch.testing.assert_close(again, (value, [gradient, prototype_gradient]))
    torch.testing.assert_close(loss(embeddings * 7, labels, prototypes * 0.1), value)


@variants
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_equals_float32_at_small_temperature_and_with_coarse_labels(name, parameters, dtype):
    embeddings, labels, prototypes = batch(rows=32, dimension=64, dtype=torch.float32, seed=4)
    loss = build_loss(name, temperature=0.01, **parameters)
    for given_labels in (labels, with_missing(labels, dtype=dtype)):
        value, gradients = value_and_gradients(loss, embeddings, given_labels, prototypes)
        with torch.autocast("cpu", dtype=dtype):
            cast_value, cast_gradients = value_and_gradients(loss, embeddings, given_labels, prototypes)
        assert cast_value.dtype == torch.float32
        assert cast_value.item() == pytest.approx(value.item(), rel=1e-3)
        for gradient, reference in zip(cast_gradients, gradients, strict=True):
            torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-3 * reference.abs().max().item())


@variants
def test_zero_and_huge_embeddings_stay_finite(name, parameters):
    embeddings, labels, prototypes = batch(dtype=torch.float32)
    with torch.no_grad():
        embeddings[3] = 0
        embeddings[4] *= 1e18
        embeddings[5] = embeddings[6]
    loss = build_loss(name, temperature=0.005, **parameters)
    value, gradients = value_and_gradients(loss, embeddings, labels, prototypes)
    assert value.isfinite() and all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[0][3].eq(0).all()


@variants
def test_any_label_dtype(name, parameters):
    embeddings, labels, prototypes = batch()
    loss = build_loss(name, **parameters)
    expected, masked = (loss(embeddings, y, prototypes) for y in (labels, with_missing(labels)))
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64):
        assert loss(embeddings, labels.to(dtype), prototypes) == expected
    for dtype in (torch.int8, torch.int64, torch.float16, torch.bfloat16, torch.float32):
        as_numbers = with_missing(labels.to(torch.int8), dtype=torch.int8).to(dtype)
        assert loss(embeddings, as_numbers, prototypes) == masked


@variants
def test_masking_nothing_changes_nothing(name, parameters, monkeypatch):
    """Where values are not read (accelerators), labels without missing entries go the way of those with them."""
    loss = build_loss(name, **parameters)
    expected = value_and_gradients(loss, *batch())
    monkeypatch.setattr(label_sets, "check_labels", lambda *_: True)
    torch.testing.assert_close(value_and_gradients(loss, *batch()), expected)


@variants
def test_a_wholly_unlabelled_example_is_not_there(name, parameters):
    embeddings, labels, prototypes, _ = given("missing")
    others, loss = torch.arange(len(labels)) != 3, build_loss(name, **parameters)
    value, gradients = value_and_gradients(loss, embeddings, labels, prototypes)
    assert gradients[0][3].eq(0).all()
    rest = value_and_gradients(lambda e, y, p: loss(e[others], y[others], p), embeddings, labels, prototypes)
    torch.testing.assert_close((value, gradients), rest)


@each(WITHOUT_PROTOTYPES)
def test_a_label_missing_in_all_examples_might_as_well_not_exist(name, parameters):
    embeddings, labels, prototypes, _ = given("missing")
    labels[:, 2] = -100
    loss, kept = build_loss(name, **parameters), torch.arange(LABELS) != 2
    torch.testing.assert_close(
        value_and_gradients(loss, embeddings, labels, prototypes),
        value_and_gradients(loss, embeddings, labels[:, kept], prototypes),
    )


@variants
def test_a_batch_without_known_labels_counts_zero(name, parameters):
    embeddings, labels, prototypes = batch()
    loss = build_loss(name, **parameters)
    half = torch.where(torch.arange(LABELS) < 3, -100, 0)  # and none of those that are known
    for y in (labels * 0, labels * 0 - 100, torch.full(labels.shape, torch.nan), half.expand(labels.shape)):
        value, gradients = value_and_gradients(loss, embeddings, y, prototypes)
        assert value.item() == 0 and all(gradient.eq(0).all() for gradient in gradients)


@variants
@pytest.mark.parametrize("setting", ["plain", "missing"])
def test_an_example_known_to_have_no_label_is_a_negative_and_no_anchor(name, parameters, setting):
    embeddings, labels, prototypes, _ = given(setting)
    labels[5] = labels[4]  # a positive pair of every loss
    loss = build_loss(name, **parameters)
    _, (gradient, _) = value_and_gradients(loss, embeddings, labels, prototypes)
    assert labels[0].eq(0).all()
    if name == "proto" or parameters.get("beta") == 0:
        assert gradient[0].eq(0).all()  # other examples are no references of these losses
        return
    assert gradient[0].abs().max() > 0
    if setting == "plain":
        towards = torch.zeros_like(embeddings)
        towards[0] = 1e-4 * embeddings.detach()[1]  # an anchor that has every label: the loss must rise
        assert loss(embeddings + towards, labels, prototypes) > loss(embeddings - towards, labels, prototypes)


@each([*[(name, {}) for name in CONTRASTIVE_LOSSES], ("mscwrg", {"alpha": -1.0})])
def test_what_two_examples_may_share_does_not_part_them(name, parameters):
    """An example that may have the label of the only other one is neither drawn to it nor pushed away."""
    embeddings, prototypes = torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[:2]
    # 0 and 1 share a label, so 0 is an anchor; 2 may have the label, is known not to, or has it.
    rows = {"may": [-100.0, 0], "not": [0, 0], "has": [1, 0]}
    slopes = {}
    for case, row in rows.items():
        moving = embeddings[2].clone().requires_grad_()
        loss = build_loss(name, temperature=1.0, **parameters)
        labels = torch.tensor([[1.0, 0], [1, 0], row])
        loss(torch.cat([embeddings[:2], moving[None]]), labels, prototypes).backward()
        slopes[case] = moving.grad[0].item()
    assert slopes["may"] == 0
    if name != "proto":
        assert slopes["not"] > 0 > slopes["has"] - 1e-12


# --- keys ---


@each(COMPARING)
def test_the_batch_as_its_own_keys_is_the_batch(name, parameters):
    """Value and pull on the anchors; examples get no gradient as keys, so the half of it stays away."""
    embeddings, labels, prototypes = batch()
    loss, ids = build_loss(name, **parameters), torch.arange(len(labels))
    keys = Keys(embeddings.detach().clone(), labels, ids, ids)
    value = loss(embeddings, labels, prototypes, keys=keys)
    torch.testing.assert_close(value, loss(embeddings, labels, prototypes))
    assert_equals_loops(name, parameters, embeddings, labels, prototypes, loss, keys=keys)


# Prototypes as anchors are contrasted with every copy, so losses that have these do notice.
@each([variant for variant in CONTRASTIVE if variant[0] not in ("mscwrg", "reg")])
def test_copies_of_an_anchor_change_nothing_for_it(name, parameters):
    """An example's own key and older copies are neither positives nor in its denominator."""
    embeddings, labels, prototypes = batch(rows=4)
    keys = dataclasses.replace(queue_of(torch.cat([labels, labels])), anchor_ids=torch.tensor([5]))
    fewer = Keys(*(field[keys.ids != 5] for field in (keys.embeddings, keys.labels, keys.ids)), keys.anchor_ids)
    anchor = embeddings[3:4].detach().requires_grad_()
    few, many = (
        value_and_gradients(build_loss(name, **parameters), anchor, labels[3:4], prototypes, k) for k in (fewer, keys)
    )
    torch.testing.assert_close(few, many)


@variants
def test_no_keys_and_one(name, parameters):
    *tensors, keys = given("keys")
    loss = build_loss(name, **parameters)
    for rows in (slice(0, 0), slice(5, 6)):
        fields = (keys.embeddings[rows], keys.labels[rows], keys.ids[rows], keys.anchor_ids)
        assert_equals_loops(name, parameters, *tensors, loss, keys=Keys(*fields))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_keys_of_another_dtype(dtype):
    embeddings, labels, prototypes = batch(labels=LABELS, dtype=torch.float32)
    for name in CONTRASTIVE_LOSSES:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = build_loss(name)(embeddings, labels, prototypes, keys=queue_of(labels, dtype=dtype))
        assert value.dtype == torch.float32 and value.isfinite()


@pytest.mark.parametrize("name", [name for name in CONTRASTIVE_LOSSES if name != "proto"])
@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("embeddings", lambda x: x[:, :2]),
        ("labels", lambda x: x[:, :2]),
        ("labels", lambda x: x * 3),
        ("ids", lambda x: x[:2]),
        ("anchor_ids", lambda x: x.int()),
    ],
)
def test_wrong_keys_are_named(name, field, change):
    *tensors, keys = given("keys")
    keys = dataclasses.replace(keys, **{field: change(getattr(keys, field))})
    with pytest.raises(ValueError, match=f"keys.{field}: "):
        build_loss(name)(*tensors, keys=keys)


# --- what autograd and devices see ---


def test_nothing_reads_values_off_the_cpu():
    """On an accelerator reading a value would synchronise; the meta device, which has no values, raises instead."""
    embeddings, labels, prototypes = (tensor.detach().to("meta") for tensor in batch())
    masked = {dtype: check_labels(labels.to(dtype), *labels.shape) for dtype in (torch.bool, torch.uint8, torch.half)}
    assert masked == {torch.bool: False, torch.uint8: False, torch.half: True}
    for name, known in itertools.product(CONTRASTIVE_LOSSES, (True, False)):
        loss = build_loss(name)
        anchors = torch.cat([embeddings, prototypes]) if loss.prototypes_are_anchors else embeddings
        examples = torch.cat([embeddings, prototypes]) if loss.uses_prototypes else embeddings
        references = examples if loss.examples_are_references else prototypes
        sets = LabelSets.from_rows(labels.bool() if known else labels).to(embeddings)
        value = kernel.weighted_contrast(
            normalize(anchors).requires_grad_(),
            normalize(references),
            loss.anchor_groups(Comparison(sets, sets)),
            temperature=0.1,
            drop_repulsion=loss.drop_repulsion,
        )
        value.backward()
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(value > 0)


def test_no_gradient_a_scaled_gradient_and_no_second_derivative():
    embeddings, labels, prototypes = batch()
    for name, parameters in CONTRASTIVE:
        loss = functools.partial(build_loss(name, **parameters), embeddings, labels, prototypes)
        with torch.no_grad():
            value = loss()
        torch.testing.assert_close(value, loss().detach())
        single, triple = (torch.autograd.grad(factor * loss(), embeddings)[0] for factor in (1, 3))
        torch.testing.assert_close(triple, 3 * single)
        with pytest.raises(RuntimeError, match="no second derivative"):
            torch.autograd.grad(loss(), embeddings, create_graph=True)


@pytest.mark.parametrize("block_rows", [64, 2])
def test_positives_are_counted_as_loops_count_them(block_rows, monkeypatch):
    monkeypatch.setattr(kernel, "rows_per_block", lambda *_: block_rows)
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [-100, 1, -100]])
    sets = [{i for i, value in enumerate(row) if value == 1} for row in labels.tolist()]
    counts = [sum(bool(a & b) for j, b in enumerate(sets) if j != i) for i, a in enumerate(sets) if a]
    for name in CONTRASTIVE_LOSSES.keys() - {"proto"}:
        loss = build_loss(name)
        loss(torch.randn(6, 4), labels, torch.randn(3, 4))
        assert not loss.statistics, "only where asked for"
        loss.count_positives = True
        loss(torch.randn(6, 4), labels, torch.randn(3, 4))
        assert loss.statistics["positives_per_anchor"].item() == pytest.approx(sum(counts) / len(counts))
        assert loss.statistics["anchors_without_positives"].item() == pytest.approx(counts.count(0) / len(counts))
        for unlabelled in (labels * 0, torch.full(labels.shape, torch.nan)):
            loss(torch.randn(6, 4), unlabelled, torch.randn(3, 4))
            assert all(value == 0 for value in loss.statistics.values())
