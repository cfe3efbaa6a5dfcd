"""A temperature that is trained: its gradient, where it starts, and that nothing else changes by it."""

import pytest
import torch
from batches import CONTRASTIVE, DIFFERENTIABLE, batch, each, value_and_gradients
from test_keys import queue_of

from hf_mlcl.losses import build_loss


@each(CONTRASTIVE)
@pytest.mark.parametrize("with_keys", [False, True])
def test_value_and_gradients_are_those_of_the_number(name, parameters, with_keys):
    embeddings, labels, prototypes = batch()
    keys = queue_of(labels) if with_keys else None
    learnable = build_loss(name, temperature=0.3, learnable_temperature=True, **parameters).double()
    expected = value_and_gradients(build_loss(name, temperature=0.3, **parameters), *batch(), keys=keys)
    torch.testing.assert_close(
        value_and_gradients(learnable, embeddings, labels, prototypes, keys=keys), expected, rtol=1e-6, atol=1e-6
    )


@each(DIFFERENTIABLE)
def test_gradient_of_the_temperature(name, parameters):
    embeddings, labels, prototypes = batch(rows=8, dimension=4)
    for keys in (None, queue_of(labels, rows=6, dimension=4)):
        loss = build_loss(name, temperature=0.5, learnable_temperature=True, **parameters).double()
        (gradient,) = torch.autograd.grad(loss(embeddings, labels, prototypes, keys=keys), [loss.log_temperature])
        step, values = 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                loss.log_temperature += sign * step
                values.append(loss(embeddings, labels, prototypes, keys=keys).item())
                loss.log_temperature -= sign * step
        assert gradient.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-7)


def test_what_else_is_wrong_is_named():
    with pytest.raises(ValueError, match="learnable_temperature"):
        build_loss("reg", learnable_temperature=1)
    assert build_loss("reg", temperature=0.2).log_temperature is None
    assert build_loss("reg", temperature=0.2, learnable_temperature=True).log_temperature.exp().item() == (
        pytest.approx(0.2)
    )
