"""Classification losses: values, gradients and invariances, with missing labels."""

import numpy as np
import pytest
import torch
from batches import CLASSIFICATION, each, with_counts, with_missing
from naive import classification_loss

from hf_mlcl.losses import build_loss, label_sets

variants = each(CLASSIFICATION)
COUNTS = ("label_counts", "num_examples")


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
    parameters = with_counts(name, parameters, 5)
    value = build_loss(name, **parameters)(logits, labels)
    expected = classification_loss(name, logits.tolist(), labels.tolist(), **parameters)
    assert value.item() == pytest.approx(expected, rel=1e-12 if dtype == torch.float64 else 1e-5)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient[(labels != 0) & (labels != 1)].eq(0).all() and gradient.isfinite().all()


@variants
@pytest.mark.parametrize("labels", [1, 2, 5000])
@pytest.mark.parametrize("share", [0, 0.25])
def test_few_and_many_labels(name, parameters, labels, share):
    parameters = with_counts(name, parameters, labels)
    logits, targets = batch(rows=6, labels=labels, share=share)
    expected = classification_loss(name, logits.tolist(), targets.tolist(), **parameters)
    assert build_loss(name, **parameters)(logits, targets).item() == pytest.approx(expected, rel=1e-10)


@variants
@pytest.mark.parametrize("share", [0, 0.25])
def test_gradcheck(name, parameters, share):
    logits, labels = batch(share=share)
    loss = build_loss(name, **with_counts(name, parameters, 5))
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits)


@variants
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_autocast_equals_float32_and_large_logits_stay_finite(name, parameters, scale):
    logits, labels = batch(torch.float32, scale)
    loss = build_loss(name, **with_counts(name, parameters, 5))
    value = loss(logits, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(logits, labels).item() == pytest.approx(value.item(), rel=1e-3)
    assert value.isfinite() and torch.autograd.grad(value, logits)[0].isfinite().all()


@variants
def test_order_of_examples_and_labels_changes_nothing_and_better_logits_cost_less(name, parameters):
    logits, labels = batch()
    parameters = with_counts(name, parameters, 5)
    loss = build_loss(name, **parameters)
    flipped = build_loss(name, **{key: value[::-1] if key in COUNTS else value for key, value in parameters.items()})
    torch.testing.assert_close(flipped(logits.flip(0, 1), labels.flip(0, 1)), loss(logits, labels))
    assert loss(logits + 4 * (2 * labels - 1), labels) < loss(logits, labels)
    empty = loss(logits[:0], labels[:0])
    assert empty.item() == 0 and torch.autograd.grad(empty, logits)[0].eq(0).all()


@variants
@pytest.mark.parametrize("part", ["example", "label"])
def test_what_is_wholly_missing_is_not_there(name, parameters, part):
    logits, labels = batch(share=0.25)
    labels[:, 2] = -100
    kept = (torch.arange(8) != 3, slice(None)) if part == "example" else (slice(None), torch.arange(5) != 2)
    parameters = with_counts(name, parameters, 5)
    loss = other = build_loss(name, **parameters)
    if part == "label":
        counts = {key: value[:2] + value[3:] for key, value in parameters.items() if key in COUNTS}
        other = build_loss(name, **parameters | counts)
    value, rest = loss(logits, labels), other(logits[kept], labels[kept])
    if name == "cb_focal":  # its weights sum to the number of labels, whatever is known of a batch
        rest = rest * loss.numbers()[0, 0] / other.numbers()[0, 0]
    torch.testing.assert_close(value, rest)
    torch.testing.assert_close(*(torch.autograd.grad(v, logits)[0] for v in (value, rest)))


@variants
def test_masking_nothing_and_nan_as_a_number_change_nothing(name, parameters, monkeypatch):
    logits, labels = batch()
    loss, missing = build_loss(name, **with_counts(name, parameters, 5)), with_missing(labels)
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
    loss = build_loss(name, **with_counts(name, parameters, 5))
    cost = loss(logits, torch.full(labels.shape, value))
    assert cost.item() == 0 and torch.autograd.grad(cost, logits)[0].eq(0).all()
    logits, labels = logits.detach().clone(), with_missing(torch.ones(labels.shape))
    logits[3] = torch.inf  # an overflow where no label is known
    assert loss(logits.requires_grad_(), labels).isfinite()


@pytest.mark.parametrize("form", [list, tuple, torch.tensor, np.array], ids=["list", "tuple", "tensor", "array"])
def test_bce_takes_a_weight_for_each_label(form):
    logits, labels = batch()
    weights = [1.0, 2.0, 3.0, 4.0, 5.0]
    reference = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights, dtype=torch.float64))
    expected = reference(logits, labels.double())
    torch.testing.assert_close(build_loss("bce", pos_weight=form(weights))(logits, labels), expected)
    with pytest.raises(ValueError, match="pos_weight: .*got 2"):
        build_loss("bce", pos_weight=[1.0, 2.0])(logits, labels)


# --- losses that know the counts of the training set ---


def test_balanced_weights_make_positives_and_negatives_of_a_label_weigh_as_much():
    labels = (torch.rand(40, 5, generator=torch.Generator().manual_seed(1)) < 0.2).long()
    labels[0] = 1
    counts = {"label_counts": labels.sum(0).tolist(), "num_examples": 40}
    logits = torch.zeros(40, 5, dtype=torch.float64, requires_grad=True)
    build_loss("bce", pos_weight="balanced", **counts)(logits, labels).backward()
    torch.testing.assert_close(logits.grad.sum(0), torch.zeros(5, dtype=torch.float64))
    # A label that no or every training example has stays finite.
    extreme = build_loss("bce", pos_weight="balanced", label_counts=[0, 4, 1, 2, 3], num_examples=4)
    assert extreme(logits, labels).isfinite()
    with pytest.raises(ValueError, match="label_counts"):
        build_loss("bce", pos_weight="balanced")(logits, labels)


@pytest.mark.parametrize("name", ["db", "cb_focal"])
def test_a_rare_label_weighs_more_and_half_precision_does_not_round_the_counts(name):
    loss = build_loss(name, **with_counts(name, {}, 5) | {"label_counts": [30, 3, 30, 30, 30]})
    logits, labels = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True), torch.ones(1, 5)
    (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
    assert gradient[0, 1] < 2 * gradient[0, 0] < 0
    expected = loss(logits, labels)
    assert loss.half()(logits, labels) == expected and loss(logits.float(), labels).item() == pytest.approx(
        expected.item()
    )
    assert loss(logits, labels) == expected  # after other numbers in float32


def test_db_without_its_parts_is_the_focal_loss():
    logits, labels = batch(share=0.25)
    parts = {"alpha": 0.5, "mu": 1.0, "negative_scale": 1.0, "kappa": 0.0, "beta": 1e-12}  # weights 0.5 + 0.5
    loss = build_loss("db", **parts, label_counts=[3, 1, 4, 1, 5], num_examples=9)
    rows = labels.eq(1).any(1)  # of an example without a known label the weight is another
    torch.testing.assert_close(loss(logits[rows], labels[rows]), build_loss("focal")(logits[rows], labels[rows]))


def test_db_asks_for_a_higher_logit_of_a_rare_label_and_bears_with_its_negatives():
    counts = {"label_counts": [400, 4], "num_examples": 800}
    plain, shifted = (build_loss("db", kappa=kappa, gamma=0, **counts) for kappa in (0, 0.5))
    logits, labels = torch.zeros(1, 2), torch.eye(2)
    assert plain(logits, labels[:1]) > shifted(logits, labels[:1])  # the rare label is a negative
    assert plain(logits, labels[1:]) < shifted(logits, labels[1:])
    mild = build_loss("db", negative_scale=5.0, **counts)
    negatives = torch.zeros(1, 2)
    assert mild(logits - 3, negatives) < build_loss("db", negative_scale=1.0, **counts)(logits - 3, negatives)


def test_cb_focal_goes_from_the_focal_loss_to_inverse_counts():
    logits, labels = batch()
    counts = [50, 40, 30, 20, 10]
    loss = build_loss("cb_focal", beta=0, label_counts=counts)
    torch.testing.assert_close(loss(logits, labels), build_loss("focal")(logits, labels))
    weights = build_loss("cb_focal", beta=1 - 1e-12, label_counts=counts).numbers()[0]
    assert weights.sum().item() == pytest.approx(5)
    torch.testing.assert_close(weights / weights[0], 50 / torch.tensor(counts, dtype=torch.float64))


@pytest.mark.parametrize("name", ["db", "cb_focal"])
@pytest.mark.parametrize("form", [tuple, torch.tensor, np.array], ids=["tuple", "tensor", "array"])
def test_counts_come_in_any_form_and_their_lack_is_told(name, form):
    logits, labels = batch()
    parameters = with_counts(name, {}, 5)
    others = {key: form(value) for key, value in parameters.items()}
    assert build_loss(name, **others)(logits, labels) == build_loss(name, **parameters)(logits, labels)
    with pytest.raises(ValueError, match="label_counts"):
        build_loss(name)(logits, labels)
    with pytest.raises(ValueError, match="label_counts.* 4"):
        build_loss(name, **with_counts(name, {}, 4))(logits, labels)


def test_the_prior_bias_makes_the_scores_the_frequencies():
    counts = with_counts("bce", {}, 5)
    bias = build_loss("bce", prior_bias=True, **counts).initial_bias()
    within = [min(max(n, 1), N - 1) / N for n, N in zip(*counts.values(), strict=True)]  # no frequency is 0 or 1
    assert bias[2:].sigmoid().tolist() == pytest.approx(within[2:])
    assert bias.isfinite().all() and bias[0] == -bias[1] == pytest.approx(-np.log(40))
    assert build_loss("bce", **counts).initial_bias() is None
    with pytest.raises(ValueError, match="label_counts"):
        build_loss("bce", prior_bias=True).initial_bias()
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1]])  # the best constant logits
    start = build_loss("bce", prior_bias=True, label_counts=[3, 3, 1], num_examples=4).initial_bias()
    start = start.expand(4, 3).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(build_loss("bce")(start, labels), start)
    torch.testing.assert_close(gradient.sum(0), torch.zeros(3, dtype=torch.float64))


def test_an_example_count_holds_for_all_labels():
    logits, labels = batch()
    loss, each_label = (build_loss("db", label_counts=[9, 1, 2, 3, 4], num_examples=n) for n in (9, [9] * 5))
    assert loss(logits, labels) == each_label(logits, labels)
    with pytest.raises(ValueError, match="num_examples"):
        build_loss("db", label_counts=[1] * 5)(logits, labels)
