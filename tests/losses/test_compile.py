"""Every loss compiles into one graph, and the graph gives what the loss gives."""

import itertools

import pytest
import torch
from batches import batch, value_and_gradients, with_counts

from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES, Keys, build_loss, kernel


def assert_compiles(loss, backend, embeddings, labels, prototypes, **keywords):
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    expected = value_and_gradients(loss, embeddings, labels, prototypes, **keywords)
    torch.testing.assert_close(
        value_and_gradients(compiled, embeddings, labels, prototypes, **keywords), expected, rtol=1e-5, atol=1e-5
    )


SLOW = itertools.product([*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES], ["aot_eager", "inductor"])


@pytest.mark.parametrize(
    ("name", "backend"), [("reg", "eager"), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_every_loss_is_one_graph(name, backend, monkeypatch):
    embeddings, labels, prototypes = batch(dtype=torch.float32)
    loss = build_loss(name, **with_counts(name, {}, labels.shape[1]))
    if name in CLASSIFICATION_LOSSES:
        return assert_compiles(lambda e, y, p: loss(e @ p.T, y), backend, embeddings, labels, prototypes)
    # Integers may hold unknown labels: values are not read while compiling, so the masks are computed.
    assert_compiles(loss, backend, embeddings, labels, prototypes)
    monkeypatch.setattr(kernel, "rows_per_block", lambda *_: 5)  # several blocks
    assert_compiles(loss, backend, embeddings, labels.bool(), prototypes)
    ids = torch.arange(len(labels))
    references = Keys(embeddings.detach().flip(0), labels.flip(0), ids.flip(0), ids)
    assert_compiles(loss, backend, embeddings, labels, prototypes, keys=references)
