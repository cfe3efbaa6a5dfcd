"""Classification losses: values, gradients and invariances, with missing labels."""

import numpy as np
import pytest
import torch
from batches import CLASSIFICATION, each, with_missing
from naive import classification_loss

from hf_mlcl.losses import build_loss, label_sets

variants = each(CLASSIFICATION)


def batch(dtype=torch.float64, scale=2.0, rows=8, labels=5, share=0.0):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(rows, labels, generator=generator, dtype=torch.float64)
    multi_hot = (torch.rand(rows, labels, generator=generator) < 0.4).long()
    multi_hot[0], multi_hot[1] = 0, 1
    return logits.to(dtype).requires_grad_(), with_missing(multi_hot, share) if share else multi_hot


@variants
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("share", [0, 0.05, 0.3, 0.7])
def test_equals_naive_loops(name, parameters, dtype, share):
    logits, labels = batch(dtype, share=share)
    value = build_loss(name, **parameters)(logits, labels)
    expected = classification_loss(name, logits.tolist(), labels.tolist(), **parameters)
    assert value.item() == pytest.approx(expected, rel=1e-12 if dtype == torch.float64 else 1e-5)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient[(labels != 0) & (labels != 1)].eq(0).all() and gradient.isfinite().all()


@variants
@pytest.mark.parametrize("labels", [1, 2, 5000])
@pytest.mark.parametrize("share", [0, 0.25])
def test_few_and_many_labels(name, parameters, labels, share):
    logits, targets = batch(rows=6, labels=labels, share=share)
    expected = classification_loss(name, logits.tolist(), targets.tolist(), **parameters)
    assert build_loss(name, **parameters)(logits, targets).item() == pytest.approx(expected, rel=1e-10)


@variants
@pytest.mark.parametrize("share", [0, 0.25])
def test_gradcheck(name, parameters, share):
    logits, labels = batch(share=share)
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
def test_order_of_examples_and_labels_changes_nothing_and_better_logits_cost_less(name, parameters):
    logits, labels = batch()
    loss = build_loss(name, **parameters)
    torch.testing.assert_close(loss(logits.flip(0, 1), labels.flip(0, 1)), loss(logits, labels))
    assert loss(logits + 4 * (2 * labels - 1), labels) < loss(logits, labels)
    empty = loss(logits[:0], labels[:0])
    assert empty.item() == 0 and torch.autograd.grad(empty, logits)[0].eq(0).all()


@variants
@pytest.mark.parametrize("part", ["example", "label"])
def test_what_is_wholly_missing_is_not_there(name, parameters, part):
    logits, labels = batch(share=0.25)
    labels[:, 2] = -100
    kept = (torch.arange(8) != 3, slice(None)) if part == "example" else (slice(None), torch.arange(5) != 2)
    loss = build_loss(name, **parameters)
    value, rest = loss(logits, labels), loss(logits[kept], labels[kept])
    torch.testing.assert_close(value, rest)
    torch.testing.assert_close(*(torch.autograd.grad(v, logits)[0] for v in (value, rest)))


@variants
def test_masking_nothing_and_nan_as_a_number_change_nothing(name, parameters, monkeypatch):
    logits, labels = batch()
    loss, missing = build_loss(name, **parameters), with_missing(labels)
    expected, masked = loss(logits, labels), loss(logits, missing)
    for dtype in (torch.int8, torch.int64, torch.float16, torch.bfloat16):
        assert loss(logits, missing.nan_to_num(-100).to(dtype)) == masked
    monkeypatch.setattr(label_sets, "check_labels", lambda *_: True)
    torch.testing.assert_close(loss(logits, labels), expected)


@variants
@pytest.mark.parametrize("value", [-100, float("nan")])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_missing_labels_alone_cost_zero(name, parameters, value, scale):
    logits, labels = batch(torch.float32, scale)
    loss = build_loss(name, **parameters)(logits, torch.full(labels.shape, value))
    assert loss.item() == 0 and torch.autograd.grad(loss, logits)[0].eq(0).all()
    logits, labels = logits.detach().clone(), with_missing(torch.ones(labels.shape))
    logits[3] = torch.inf  # an overflow where no label is known
    assert build_loss(name, **parameters)(logits.requires_grad_(), labels).isfinite()


@pytest.mark.parametrize("form", [list, tuple, torch.tensor, np.array], ids=["list", "tuple", "tensor", "array"])
def test_bce_takes_a_weight_for_each_label(form):
    logits, labels = batch()
    weights = [1.0, 2.0, 3.0, 4.0, 5.0]
    reference = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights, dtype=torch.float64))
    expected = reference(logits, labels.double())
    torch.testing.assert_close(build_loss("bce", pos_weight=form(weights))(logits, labels), expected)
    with pytest.raises(ValueError, match="pos_weight: .*got 2"):
        build_loss("bce", pos_weight=[1.0, 2.0])(logits, labels)
