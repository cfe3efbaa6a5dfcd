import functools
import itertools

import pytest
import torch
from batches import CONTRASTIVE, DIFFERENTIABLE, LABELS, assert_equals_loops, batch, each, value_and_gradients
from naive import contrastive_loss, contrastive_weights

from hf_mlcl.losses import CONTRASTIVE_LOSSES, build_loss, kernel
from hf_mlcl.losses.base import normalize
from hf_mlcl.losses.checks import check_labels
from hf_mlcl.losses.label_sets import Comparison, LabelSets

variants = each(CONTRASTIVE)


@variants
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equals_naive_loops(name, parameters, dtype):
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 1e-2)
    loss = build_loss(name, temperature=0.2, **parameters)
    # The value is computed in float32 whatever the input, so only the gradients are as coarse as their own type.
    assert_equals_loops(name, parameters, *batch(dtype=dtype), loss, min(tolerance, 1e-5), tolerance)


@variants
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_equals_float32_at_small_temperature(name, parameters, dtype):
    embeddings, labels, prototypes = batch(rows=32, dimension=64, dtype=torch.float32, seed=4)
    loss = build_loss(name, temperature=0.01, **parameters)
    value, gradients = value_and_gradients(loss, embeddings, labels, prototypes)
    with torch.autocast("cpu", dtype=dtype):
        cast_value, cast_gradients = value_and_gradients(loss, embeddings, labels, prototypes)
    assert cast_value.dtype == torch.float32
    assert cast_value.item() == pytest.approx(value.item(), rel=1e-3)
    for gradient, reference in zip(cast_gradients, gradients, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-3 * reference.abs().max().item())


@variants
def test_order_of_batch_and_labels_and_rotation_change_nothing(name, parameters):
    embeddings, labels, prototypes = batch()
    loss = build_loss(name, **parameters)
    value, (gradient, prototype_gradient) = value_and_gradients(loss, embeddings, labels, prototypes)
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    columns = torch.randperm(LABELS, generator=torch.Generator().manual_seed(2))
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]
    moved = value_and_gradients(
        loss, embeddings[rows] @ rotation, labels[rows][:, columns], prototypes[columns] @ rotation
    )
    torch.testing.assert_close(moved[0], value)
    # `grad` flows back through the indexing and the rotation, so the original gradients must come out again.
    e, p = embeddings.detach().requires_grad_(), prototypes.detach().requires_grad_()
    again = torch.autograd.grad(
        loss(e[rows] @ rotation, labels[rows][:, columns], p[columns] @ rotation), [e, p], allow_unused=True
    )
    torch.testing.assert_close(again[0], gradient)
    torch.testing.assert_close(torch.zeros_like(p) if again[1] is None else again[1], prototype_gradient)


@variants
def test_length_of_vectors_changes_nothing(name, parameters):
    embeddings, labels, prototypes = batch()
    loss = build_loss(name, **parameters)
    torch.testing.assert_close(loss(embeddings * 7, labels, prototypes * 0.1), loss(embeddings, labels, prototypes))


@variants
def test_blocks_of_rows_equal_one_block(name, parameters, monkeypatch):
    embeddings, labels, prototypes = batch(rows=13)
    loss = build_loss(name, **parameters)
    whole = value_and_gradients(loss, embeddings, labels, prototypes)
    monkeypatch.setattr(kernel, "rows_per_block", lambda *_: 4)
    torch.testing.assert_close(value_and_gradients(loss, embeddings, labels, prototypes), whole)


@each(DIFFERENTIABLE)
def test_gradcheck(name, parameters):
    embeddings, labels, prototypes = batch(rows=7, dimension=4)
    loss = build_loss(name, temperature=0.5, **parameters)
    assert torch.autograd.gradcheck(lambda e, p: loss(e, labels, p), (embeddings, prototypes))


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0])
def test_reg_never_pushes_a_positive_away(alpha):
    embeddings, labels, prototypes = batch(rows=12, seed=5)
    _, by_pair = contrastive_loss(
        "mscwrg", embeddings.tolist(), labels.tolist(), prototypes.tolist(), 1.0, alpha=alpha
    )
    weights = contrastive_weights("reg", labels.tolist(), {"alpha": alpha})[1]
    assert any(by_pair[pair] > 0 for pair in weights), "this batch must hold positives that mscwrg pushes away"

    # The kernel on free similarities: with references = identity, dL/danchor is dL/ds itself.
    loss = build_loss("reg", temperature=1.0, alpha=alpha)
    size = len(labels) + LABELS
    similarities = torch.randn(
        size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    label_sets = LabelSets.from_rows(labels).to(similarities)
    value = kernel.weighted_contrast(
        similarities,
        torch.eye(size, dtype=torch.float64),
        loss.anchor_groups(Comparison(label_sets, label_sets)),
        temperature=1.0,
        drop_repulsion=True,
    )
    (gradient,) = torch.autograd.grad(value, similarities)
    positives = torch.tensor(list(weights))
    assert (gradient[positives[:, 0], positives[:, 1]] <= 0).all()
    negatives = torch.ones(size, size, dtype=torch.bool).fill_diagonal_(False)
    negatives[positives[:, 0], positives[:, 1]] = False
    assert (gradient[negatives] >= 0).all() and gradient.diagonal().eq(0).all()


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


@variants
def test_batch_without_labels_counts_zero(name, parameters):
    embeddings, labels, prototypes = batch()
    value, gradients = value_and_gradients(build_loss(name, **parameters), embeddings, labels * 0, prototypes)
    assert value.item() == 0 and all(gradient.eq(0).all() for gradient in gradients)


@variants
@pytest.mark.parametrize("rows", [0, 1])
def test_batches_of_none_and_one(name, parameters, rows):
    embeddings, _, prototypes = batch(rows=rows)
    labels = torch.ones(rows, LABELS)
    value, gradients = value_and_gradients(build_loss(name, **parameters), embeddings, labels, prototypes)
    expected = (
        contrastive_loss(name, embeddings.tolist(), labels.tolist(), prototypes.tolist(), **parameters)[0]
        if rows
        else 0
    )
    assert value.item() == pytest.approx(expected, abs=1e-12)
    assert all(gradient.isfinite().all() for gradient in gradients)


@variants
def test_example_known_to_have_no_label_is_a_negative_and_no_anchor(name, parameters):
    embeddings, labels, prototypes = batch()
    labels[0] = 0
    loss = build_loss(name, **parameters)
    _, (gradient, _) = value_and_gradients(loss, embeddings, labels, prototypes)
    if name == "proto" or parameters.get("beta") == 0:
        assert gradient[0].eq(0).all()  # other examples are no references of these losses
    else:
        assert gradient[0].abs().max() > 0
        towards = torch.zeros_like(embeddings)
        towards[0] = embeddings.detach()[1]  # towards an anchor that has every label: the loss must rise
        step = 1e-4
        assert loss(embeddings + step * towards, labels, prototypes) > loss(
            embeddings - step * towards, labels, prototypes
        )


@variants
def test_zero_and_huge_embeddings_stay_finite(name, parameters):
    embeddings, labels, prototypes = batch(dtype=torch.float32)
    with torch.no_grad():
        embeddings[3] = 0
        embeddings[4] *= 1e18
        embeddings[5] = embeddings[6]
    value, gradients = value_and_gradients(
        build_loss(name, temperature=0.005, **parameters), embeddings, labels, prototypes
    )
    assert value.isfinite() and all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[0][3].eq(0).all()


@variants
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64], ids=str)
def test_any_label_dtype(name, parameters, dtype):
    embeddings, labels, prototypes = batch()
    loss = build_loss(name, **parameters)
    assert loss(embeddings, labels.to(dtype), prototypes) == loss(embeddings, labels, prototypes)


@pytest.mark.parametrize("name", CONTRASTIVE_LOSSES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, y, p: (e, torch.arange(len(y)), p), r"labels: .*got shape \(9,\), class indices"),
        (lambda e, y, p: (e, y[:-1], p), r"labels: expected .*\(9, .*got shape \(8, 6\)"),
        (lambda e, y, p: (e, y * 2, p), "values 0 and 1, or -100 or NaN where unknown, got the value 2"),
        (lambda e, y, p: (e, y - 1, p), "where unknown, got the value -1"),
        (lambda e, y, p: (e, y * float("inf"), p), "where unknown, got the value inf"),
        (lambda e, y, p: (e, y * -99.5, p), "where unknown, got the value -99.5"),
        (lambda e, y, p: (e, (y * -100).to(torch.uint8), p), "where unknown, got the value 156"),
        (lambda e, y, p: (e, y.tolist(), p), "labels: .*got list"),
        (lambda e, y, p: (e[0], y, p), r"embeddings: expected .*\(N, d\)"),
        (lambda e, y, p: (e.detach().long(), y, p), "embeddings: expected a floating-point tensor"),
    ],
)
def test_wrong_input_is_named(name, change, message):
    with pytest.raises(ValueError, match=message):
        build_loss(name)(*change(*batch()))


@pytest.mark.parametrize("name", ["proto", "msc", "mscwrg", "reg"])
def test_prototypes_are_demanded_and_checked(name):
    embeddings, labels, prototypes = batch()
    with pytest.raises(ValueError, match="prototypes"):
        build_loss(name)(embeddings, labels)
    with pytest.raises(ValueError, match=r"labels: .*\(9, 5\), got shape \(9, 6\)"):
        build_loss(name)(embeddings, labels, prototypes[:5])
    with pytest.raises(ValueError, match=r"prototypes: expected shape \(6, 5\), got \(6, 4\)"):
        build_loss(name)(embeddings, labels, prototypes[:, :4])


@pytest.mark.parametrize("name", ["base", "supcon_any", "supcon_all", "multisupcon", "mulsupcon"])
def test_unused_prototypes_are_ignored(name):
    embeddings, labels, prototypes = batch()
    assert build_loss(name)(embeddings, labels, prototypes) == build_loss(name)(embeddings, labels)


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
        label_sets = LabelSets.from_rows(labels.bool() if known else labels).to(embeddings)
        value = kernel.weighted_contrast(
            normalize(anchors).requires_grad_(),
            normalize(references),
            loss.anchor_groups(Comparison(label_sets, label_sets)),
            temperature=0.1,
            drop_repulsion=loss.drop_repulsion,
        )
        value.backward()
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(value > 0)


def test_value_without_gradient_is_the_same():
    embeddings, labels, prototypes = batch()
    for name, parameters in CONTRASTIVE:
        loss = build_loss(name, **parameters)
        with torch.no_grad():
            value = loss(embeddings, labels, prototypes)
        torch.testing.assert_close(value, loss(embeddings, labels, prototypes).detach())


def test_second_derivatives_raise():
    embeddings, labels, prototypes = batch()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(build_loss("mscwrg")(embeddings, labels, prototypes), embeddings, create_graph=True)


def test_gradient_scales_with_the_incoming_gradient():
    embeddings, labels, prototypes = batch()
    loss = functools.partial(build_loss("reg"), embeddings, labels, prototypes)
    single, triple = (torch.autograd.grad(factor * loss(), embeddings)[0] for factor in (1, 3))
    torch.testing.assert_close(triple, 3 * single)


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
