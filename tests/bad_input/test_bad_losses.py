"""`build_loss` and the losses: names, parameters and tensors that make no sense."""

import math

import pytest
import torch
from clear_line import check_line, raises_a_clear_line
from hypothesis import given
from hypothesis import strategies as st

from hf_mlcl import build_loss
from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES, loss_parameters

NAMES = [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES]

BUILD_CASES = [
    ("regg", {}, "loss"),
    ("", {}, "loss"),
    (None, {}, "loss"),
    (["reg"], {}, "loss"),
    ("reg", {"tempurature": 1}, "loss 'reg'"),
    ("reg", {"beta": 0.1}, "'beta'"),
    ("reg", {"temperature": 0}, "temperature"),
    ("reg", {"temperature": "0.1"}, "temperature"),
    ("msc", {"beta": -0.1}, "beta"),
    ("multisupcon", {"threshold": 1.5}, "threshold"),
    ("focal", {"gamma": -1}, "gamma"),
    ("focal", {"alpha": 2}, "alpha"),
    ("asymmetric", {"clip": -0.1}, "clip"),
    ("bce", {"pos_weight": 0}, "pos_weight"),
    ("bce", {"pos_weight": [1, -1]}, "pos_weight"),
    ("bce", {"pos_weight": []}, "pos_weight"),
    ("bce", {"pos_weight": "balance"}, "pos_weight"),
    ("db", {"label_counts": []}, "label_counts"),
    ("db", {"label_counts": [1, -1]}, "label_counts"),
    ("db", {"label_counts": [0.5]}, "label_counts"),
    ("db", {"label_counts": [3, 4], "num_examples": 3}, "label_counts: .*label 1"),
    ("db", {"label_counts": [1, 1], "num_examples": [1, 1, 1]}, "num_examples"),
    ("cb_focal", {"beta": 1}, "beta"),
    ("bce", {"prior_bias": 1}, "prior_bias"),
]


def vectors(rows=4, columns=3, **options):
    return torch.ones(rows, columns, **options)


def labels(rows=4, columns=2):
    return torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0]])[:rows].repeat(1, (columns + 1) // 2)[:, :columns]


# What is called with what, and what the line says.
TENSOR_CASES = {
    "embeddings as a list": (("reg", [[1.0]], labels(), vectors(2)), "embeddings"),
    "embeddings of three axes": (("reg", torch.ones(4, 2, 3), labels(), vectors(2)), "embeddings"),
    "no prototypes": (("reg", vectors(), labels()), "prototypes"),
    "prototypes of another size": (("reg", vectors(), labels(), vectors(2, 5)), "prototypes"),
    "prototypes of other labels": (("msc", vectors(), labels(), vectors(3)), "labels"),
    "prototypes of integers": (("proto", vectors(), labels(), vectors(2).int()), "prototypes"),
    "labels of other rows": (("base", vectors(), labels(3)), "labels"),
    "labels None": (("base", vectors(), None), "labels"),
    "infinite labels": (("base", vectors(), labels() * math.inf), "labels"),
    "uint8 156": (("base", vectors(), labels().to(torch.uint8) * 156), "labels"),
    "logits of one axis": (("zlpr", vectors(4, 2)[0], labels()), "logits"),
    "labels of another width": (("focal", vectors(4, 3), labels()), "labels"),
}


@pytest.mark.parametrize(("name", "parameters", "message"), BUILD_CASES, ids=[str(case[:2]) for case in BUILD_CASES])
def test_build_loss_names_what_is_wrong(name, parameters, message):
    raises_a_clear_line(lambda: build_loss(name, **parameters), message)


@pytest.mark.parametrize("case", list(TENSOR_CASES))
def test_a_loss_names_the_tensor_that_is_wrong(case):
    (name, *tensors), message = TENSOR_CASES[case]
    raises_a_clear_line(lambda: build_loss(name)(*tensors), message)


def test_pos_weight_of_other_labels_is_named_and_nan_shows_as_a_nan_loss():
    raises_a_clear_line(lambda: build_loss("bce", pos_weight=[1, 2, 3])(vectors(4, 2), labels()), "pos_weight")
    assert not build_loss("reg")(vectors() * math.nan, labels(), vectors(2)).isfinite()  # reading them would wait


SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64])


@given(st.sampled_from(NAMES), SHAPES, DTYPES, SHAPES, DTYPES, st.sampled_from([0, 1, 0.5, 2, -1]))
def test_tensors_of_any_shape_and_type_give_a_scalar_or_one_clear_line(
    name, shape, dtype, label_shape, label_dtype, value
):
    inputs, targets = torch.ones(shape, dtype=dtype), torch.full(label_shape, value).to(label_dtype)
    try:
        counts = {"label_counts": [3] * (shape[-1] if shape else 1) or [3], "num_examples": 4}
        counts = {key: value for key, value in counts.items() if key in loss_parameters(name)}
        loss = (
            build_loss(name)(inputs, targets, torch.ones(2, 3))
            if name in CONTRASTIVE_LOSSES
            else build_loss(name, **counts)(inputs, targets)
        )
    except ValueError as error:
        check_line(str(error), "embeddings|logits|labels|prototypes")
    else:
        assert loss.ndim == 0
        assert inputs.ndim == targets.ndim == 2 and inputs.is_floating_point() and len(inputs) == len(targets)
        assert ((targets == 0) | (targets == 1)).all()


NONSENSE = st.one_of(
    st.none(), st.booleans(), st.text("ab1", max_size=3), st.sampled_from([math.nan, math.inf, -math.inf]),
    st.lists(st.floats(), max_size=2), st.binary(max_size=2), st.dictionaries(st.text("ab", max_size=2), st.integers(), max_size=1),
)  # fmt: skip


@given(st.data(), st.sampled_from([name for name in NAMES if loss_parameters(name)]), NONSENSE)
def test_a_parameter_that_is_no_finite_number_is_refused(data, name, value):
    parameter = data.draw(st.sampled_from(sorted(loss_parameters(name))))
    if (value is None and loss_parameters(name)[parameter] is None) or parameter in (
        "pos_weight",
        "learnable_temperature",
        "prior_bias",
    ):
        return
    with pytest.raises(ValueError) as error:
        build_loss(name, **{parameter: value})
    check_line(str(error.value), parameter)
