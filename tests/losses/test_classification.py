import numpy as np
import pytest
import torch
from batches import CLASSIFICATION, each
from naive import classification_loss

from hf_mlcl.losses import build_loss

variants = each(CLASSIFICATION)


def batch(dtype=torch.float64, scale=2.0):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(8, 5, generator=generator, dtype=torch.float64)
    labels = (torch.rand(8, 5, generator=generator) < 0.4).long()
    labels[0], labels[1] = 0, 1
    return logits.to(dtype).requires_grad_(), labels


@variants
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equals_naive_loops(name, parameters, dtype):
    logits, labels = batch(dtype)
    value = build_loss(name, **parameters)(logits, labels)
    expected = classification_loss(name, logits.tolist(), labels.tolist(), **parameters)
    assert value.item() == pytest.approx(expected, rel=1e-12 if dtype == torch.float64 else 1e-5)


@variants
def test_gradcheck(name, parameters):
    logits, labels = batch()
    loss = build_loss(name, **parameters)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits)


@variants
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_autocast_equals_float32_and_large_logits_stay_finite(name, parameters, scale):
    logits, labels = batch(torch.float32, scale)
    loss = build_loss(name, **parameters)
    value = loss(logits, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(logits, labels).item() == pytest.approx(value.item(), rel=1e-3)
    assert value.isfinite() and torch.autograd.grad(value, logits)[0].isfinite().all()


@variants
def test_order_of_examples_and_labels_changes_nothing(name, parameters):
    logits, labels = batch()
    loss = build_loss(name, **parameters)
    torch.testing.assert_close(loss(logits.flip(0, 1), labels.flip(0, 1)), loss(logits, labels))


@variants
def test_better_logits_cost_less_and_empty_batches_nothing(name, parameters):
    logits, labels = batch()
    loss = build_loss(name, **parameters)
    assert loss(logits + 4 * (2 * labels - 1), labels) < loss(logits, labels)
    empty = loss(logits[:0], labels[:0])
    assert empty.item() == 0 and torch.autograd.grad(empty, logits)[0].eq(0).all()


@pytest.mark.parametrize("form", [list, tuple, torch.tensor, np.array], ids=["list", "tuple", "tensor", "array"])
def test_bce_takes_a_weight_for_each_label(form):
    logits, labels = batch()
    weights = [1.0, 2.0, 3.0, 4.0, 5.0]
    reference = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights, dtype=torch.float64))
    torch.testing.assert_close(
        build_loss("bce", pos_weight=form(weights))(logits, labels), reference(logits, labels.double())
    )
    with pytest.raises(ValueError, match="pos_weight: expected 1 or 5 numbers, got 2"):
        build_loss("bce", pos_weight=[1.0, 2.0])(logits, labels)


@variants
def test_wrong_input_is_named(name, parameters):
    logits, labels = batch()
    loss = build_loss(name, **parameters)
    with pytest.raises(ValueError, match=r"labels: .*\(8, 5\), got shape \(8, 4\)"):
        loss(logits, labels[:, :4])
    with pytest.raises(ValueError, match="got the value -1"):
        loss(logits, torch.where(labels > 0, labels, -1))
    with pytest.raises(ValueError, match="logits: expected a floating-point tensor"):
        loss(labels, labels)
