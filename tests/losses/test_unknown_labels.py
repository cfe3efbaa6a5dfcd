import pytest
import torch
from batches import (
    CLASSIFICATION,
    CONTRASTIVE,
    DIFFERENTIABLE,
    LABELS,
    assert_equals_loops,
    batch,
    each,
    value_and_gradients,
)
from naive import classification_loss

from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES, build_loss, kernel, label_sets

WITHOUT_PROTOTYPES = [v for v in CONTRASTIVE if not build_loss(v[0]).uses_prototypes]


def with_unknown(labels, share=0.25, seed=0, dtype=torch.float64):
    """Some labels unknown, as -100 and as NaN; row 3 wholly, rows 0 (known to have none) and 4 not at all."""
    generator = torch.Generator().manual_seed(seed)
    unknown = torch.rand(labels.shape, generator=generator) < share
    as_nan = torch.rand(labels.shape, generator=generator) < 0.5
    if len(labels) > 4:
        unknown[[0, 4]], unknown[3] = False, True
    labels = labels.to(dtype).masked_fill(unknown, -100)
    return labels.masked_fill(unknown & as_nan, float("nan")) if dtype.is_floating_point else labels


def logits_and_labels(share=0.25, dtype=torch.float64, rows=8, labels=5, scale=2.0):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(rows, labels, generator=generator, dtype=torch.float64)
    multi_hot = (torch.rand(rows, labels, generator=generator) < 0.4).long()
    return logits.to(dtype).requires_grad_(), with_unknown(multi_hot, share)


@each(CONTRASTIVE)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_contrastive_losses_equal_naive_loops(name, parameters, share):
    loss = build_loss(name, temperature=0.2, **parameters)
    for seed in range(3):
        embeddings, labels, prototypes = batch(seed=seed)
        assert_equals_loops(name, parameters, embeddings, with_unknown(labels, share, seed), prototypes, loss)


@each(CLASSIFICATION)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_classification_losses_equal_naive_loops(name, parameters, share):
    logits, labels = logits_and_labels(share)
    value = build_loss(name, **parameters)(logits, labels)
    expected = classification_loss(name, logits.tolist(), labels.tolist(), **parameters)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient[(labels != 0) & (labels != 1)].eq(0).all() and gradient.isfinite().all()


@each(CONTRASTIVE)
def test_contrastive_losses_take_no_notice_of_a_wholly_unlabelled_example(name, parameters):
    embeddings, labels, prototypes = batch()
    labels, others = with_unknown(labels), torch.arange(len(labels)) != 3
    loss = build_loss(name, **parameters)
    value, gradients = value_and_gradients(loss, embeddings, labels, prototypes)
    assert gradients[0][3].eq(0).all()
    rest = value_and_gradients(lambda e, y, p: loss(e[others], y[others], p), embeddings, labels, prototypes)
    torch.testing.assert_close((value, gradients), rest)


@each(CLASSIFICATION)
def test_classification_losses_take_no_notice_of_a_wholly_unlabelled_example(name, parameters):
    logits, labels = logits_and_labels()
    others = torch.arange(len(labels)) != 3
    loss = build_loss(name, **parameters)
    value, rest = loss(logits, labels), loss(logits[others], labels[others])
    torch.testing.assert_close(value, rest)
    torch.testing.assert_close(*(torch.autograd.grad(v, logits)[0] for v in (value, rest)))


@each(WITHOUT_PROTOTYPES)
def test_a_label_unknown_in_all_examples_might_as_well_not_exist(name, parameters):
    embeddings, labels, prototypes = batch()
    labels = with_unknown(labels)
    labels[:, 2] = -100
    loss = build_loss(name, **parameters)
    kept = torch.arange(LABELS) != 2
    torch.testing.assert_close(
        value_and_gradients(loss, embeddings, labels, prototypes),
        value_and_gradients(loss, embeddings, labels[:, kept], prototypes),
    )


@each(CLASSIFICATION)
def test_a_label_unknown_in_all_examples_changes_no_score_of_others(name, parameters):
    logits, labels = logits_and_labels()
    labels[:, 2] = -100
    kept = torch.arange(labels.shape[1]) != 2
    loss = build_loss(name, **parameters)
    value, rest = loss(logits, labels), loss(logits[:, kept], labels[:, kept])
    torch.testing.assert_close(value, rest)
    torch.testing.assert_close(*(torch.autograd.grad(v, logits)[0] for v in (value, rest)))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_nan_is_minus_100_in_any_dtype(dtype):
    embeddings, labels, prototypes = batch()
    logits = torch.randn(labels.shape, generator=torch.Generator().manual_seed(1))
    for name in [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES]:
        inputs = (embeddings, prototypes) if name in CONTRASTIVE_LOSSES else (logits,)
        first, last = (
            build_loss(name)(inputs[0], y, *inputs[1:])
            for y in (with_unknown(labels), with_unknown(labels.to(torch.int8), dtype=torch.int8).to(dtype))
        )
        assert first == last


@each(CONTRASTIVE)
def test_masking_nothing_changes_nothing(name, parameters, monkeypatch):
    """Where values are not read (accelerators), labels without unknown entries go the way of those with them."""
    embeddings, labels, prototypes = batch()
    loss = build_loss(name, **parameters)
    expected = value_and_gradients(loss, embeddings, labels, prototypes)
    monkeypatch.setattr(label_sets, "check_labels", lambda *_: True)
    torch.testing.assert_close(value_and_gradients(loss, embeddings, labels, prototypes), expected)


@each(CLASSIFICATION)
def test_masking_no_score_changes_nothing(name, parameters, monkeypatch):
    logits, labels = logits_and_labels(share=0)
    labels[3] = 1
    loss = build_loss(name, **parameters)
    expected = loss(logits, labels)
    monkeypatch.setattr(label_sets, "check_labels", lambda *_: True)
    torch.testing.assert_close(loss(logits, labels), expected)


@each(DIFFERENTIABLE)
def test_gradcheck_of_contrastive_losses(name, parameters):
    embeddings, labels, prototypes = batch(rows=7, dimension=4)
    labels, loss = with_unknown(labels), build_loss(name, temperature=0.5, **parameters)
    assert torch.autograd.gradcheck(lambda e, p: loss(e, labels, p), (embeddings, prototypes))


@each(CLASSIFICATION)
def test_gradcheck_of_classification_losses(name, parameters):
    logits, labels = logits_and_labels()
    loss = build_loss(name, **parameters)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits)


@each(CONTRASTIVE)
def test_blocks_of_rows_equal_one_block(name, parameters, monkeypatch):
    embeddings, labels, prototypes = batch(rows=13)
    labels, loss = with_unknown(labels), build_loss(name, **parameters)
    whole = value_and_gradients(loss, embeddings, labels, prototypes)
    monkeypatch.setattr(kernel, "rows_per_block", lambda *_: 4)
    torch.testing.assert_close(value_and_gradients(loss, embeddings, labels, prototypes), whole)


@each(CONTRASTIVE)
def test_autocast_equals_float32_with_coarse_labels(name, parameters):
    embeddings, labels, prototypes = batch(rows=32, dimension=16, dtype=torch.float32)
    labels, loss = with_unknown(labels, dtype=torch.bfloat16), build_loss(name, **parameters)
    expected = value_and_gradients(loss, embeddings, labels, prototypes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(value_and_gradients(loss, embeddings, labels, prototypes), expected)


@each(CONTRASTIVE)
@pytest.mark.parametrize("value", [-100, float("nan")])
def test_a_batch_of_unknown_labels_alone_counts_zero(name, parameters, value):
    embeddings, labels, prototypes = batch()
    loss = build_loss(name, **parameters)
    half = torch.where(torch.arange(LABELS) < 3, value, 0.0)  # and none of those that are known
    for unknown in (torch.full(labels.shape, value), half.expand(labels.shape)):
        loss_value, gradients = value_and_gradients(loss, embeddings, unknown, prototypes)
        assert loss_value.item() == 0 and all(gradient.eq(0).all() for gradient in gradients)


@each(CLASSIFICATION)
@pytest.mark.parametrize("value", [-100, float("nan")])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_scores_of_unknown_labels_alone_cost_zero(name, parameters, value, scale):
    logits, labels = logits_and_labels(dtype=torch.float32, scale=scale)
    loss = build_loss(name, **parameters)(logits, torch.full(labels.shape, value))
    assert loss.item() == 0 and torch.autograd.grad(loss, logits)[0].eq(0).all()
    logits, labels = logits.detach().clone(), with_unknown(torch.ones(labels.shape))
    logits[3] = torch.inf  # an overflow where no label is known
    assert build_loss(name, **parameters)(logits.requires_grad_(), labels).isfinite()


@each(CONTRASTIVE)
def test_an_example_known_to_have_no_label_stays_a_negative(name, parameters):
    embeddings, labels, prototypes = batch()
    labels = with_unknown(labels)
    labels[5] = labels[4]  # a positive pair of every loss
    _, (gradient, _) = value_and_gradients(build_loss(name, **parameters), embeddings, labels, prototypes)
    examples_repel = name != "proto" and parameters.get("beta") != 0
    assert labels[0].eq(0).all() and gradient[0].any() == examples_repel


@pytest.mark.parametrize(
    ("name", "parameters"), [*[(n, {}) for n in CONTRASTIVE_LOSSES], ("mscwrg", {"alpha": -1.0})], ids=str
)
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


@each(CONTRASTIVE)
@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("share", [0, 0.25])
def test_one_and_two_labels(name, parameters, labels, share):
    embeddings, multi_hot, prototypes = batch(rows=6, labels=labels)
    loss = build_loss(name, **parameters)
    assert_equals_loops(name, parameters, embeddings, with_unknown(multi_hot, share), prototypes, loss)


@pytest.mark.parametrize("name", CONTRASTIVE_LOSSES)
def test_5000_labels(name):
    embeddings, multi_hot, prototypes = batch(6, 5000, dimension=3, dtype=torch.float32, density=4 / 5000)
    multi_hot[1, 5:] = 0  # an example with every label would take the loops minutes
    multi_hot[5] = multi_hot[4]
    assert_equals_loops(name, {}, embeddings, with_unknown(multi_hot), prototypes, build_loss(name), 1e-5, 1e-5)


@each(CLASSIFICATION)
@pytest.mark.parametrize("labels", [1, 2, 5000])
@pytest.mark.parametrize("share", [0, 0.25])
def test_few_and_many_scores(name, parameters, labels, share):
    logits, targets = logits_and_labels(share, rows=6, labels=labels)
    value = build_loss(name, **parameters)(logits, targets)
    expected = classification_loss(name, logits.tolist(), targets.tolist(), **parameters)
    assert value.item() == pytest.approx(expected, rel=1e-10)
