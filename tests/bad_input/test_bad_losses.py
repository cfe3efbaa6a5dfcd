"""`build_loss` and the losses: names, parameters and tensors that make no sense."""

import math

import pytest
import torch
from clear_line import check_line, raises_a_clear_line
from hypothesis import given
from hypothesis import strategies as st
from test_bad_command_line import edits, misspelt, suggestion

from hf_mlcl import build_loss
from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES, loss_parameters

NAMES = [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES]

BUILD_CASES = [
    ("regg", {}, "loss: expected one of .*'regg' .did you mean 'reg'"),
    ("Reg", {}, "loss: expected one of .*'Reg' .did you mean 'reg'"),
    ("supcon", {}, "loss: expected one of .*'supcon' .did you mean "),
    ("zplr", {}, "loss: expected one of .*'zplr' .did you mean 'zlpr'"),
    ("", {}, "loss: expected one of .*got ''"),
    (None, {}, "loss: expected one of .*got None"),
    (3, {}, "loss: expected one of .*got 3"),
    (["reg"], {}, "loss: expected one of .*got \\['reg'\\]"),
    ("reg", {"tempurature": 1}, "loss 'reg': expected parameters among .*'tempurature' .did you mean 'temperature'"),
    ("reg", {"beta": 0.1}, "loss 'reg': expected parameters among temperature, alpha, got 'beta'"),
    ("bce", {"temperature": 0.1}, "loss 'bce': expected parameters among pos_weight, got 'temperature'"),
    ("zlpr", {"gamma": 0.1}, "loss 'zlpr': expected .*no parameters.*got 'gamma'"),
    ("reg", {"temperature": 0}, "temperature: expected .*got 0"),
    ("reg", {"temperature": "0.1"}, "temperature: expected .*got '0.1'"),
    ("reg", {"temperature": True}, "temperature: expected .*got True"),
    ("reg", {"temperature": None}, "temperature: expected .*got None"),
    ("reg", {"temperature": [0.1]}, "temperature: expected .*got \\[0.1\\]"),
    ("reg", {"temperature": 1j}, "temperature: expected .*got 1j"),
    ("reg", {"alpha": math.inf}, "alpha: expected .*got inf"),
    ("msc", {"beta": -0.1}, "beta: expected .*got -0.1"),
    ("multisupcon", {"threshold": 1.5}, "threshold: expected .*got 1.5"),
    ("focal", {"gamma": -1}, "gamma: expected .*got -1"),
    ("focal", {"alpha": 2}, "alpha: expected .*got 2"),
    ("asymmetric", {"clip": -0.1}, "clip: expected .*got -0.1"),
    ("asymmetric", {"gamma_negative": math.nan}, "gamma_negative: expected .*got nan"),
    ("bce", {"pos_weight": 0}, "pos_weight: expected .*got 0"),
    ("bce", {"pos_weight": [1, -1]}, "pos_weight: expected .*got -1"),
    ("bce", {"pos_weight": []}, "pos_weight: expected .*got"),
    ("bce", {"pos_weight": "heavy"}, "pos_weight: expected .*got"),
    ("bce", {"pos_weight": {1}}, "pos_weight: expected .*got"),
]


def vectors(rows=4, columns=3, **options):
    return torch.ones(rows, columns, **options)


def labels(rows=4, columns=2):
    return torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0]])[:rows].repeat(1, (columns + 1) // 2)[:, :columns]


# What is called with what, and what the line says.
TENSOR_CASES = {
    "embeddings as a list": (("reg", [[1.0]], labels(), vectors(2)), "embeddings: expected .*got list"),
    "embeddings of integers": (("reg", vectors().long(), labels(), vectors(2)), "embeddings: expected .*torch.int64"),
    "embeddings of three axes": (
        ("reg", torch.ones(4, 2, 3), labels(), vectors(2)),
        "embeddings: expected .*\\(4, 2, 3\\)",
    ),
    "embeddings None": (("base", None, labels()), "embeddings: expected .*NoneType"),
    "no prototypes": (("reg", vectors(), labels()), "prototypes: expected .*\\(L, d\\) .*got None"),
    "prototypes of another size": (
        ("reg", vectors(), labels(), vectors(2, 5)),
        "prototypes: expected .*got \\(2, 5\\)",
    ),
    "prototypes of other labels": (
        ("msc", vectors(), labels(), vectors(3)),
        "labels: expected .*\\(4, 3\\).*\\(4, 2\\)",
    ),
    "prototypes of integers": (("proto", vectors(), labels(), vectors(2).int()), "prototypes: expected .*torch.int32"),
    "labels of other rows": (("base", vectors(), labels(3)), "labels: expected .*\\(4, .*got shape \\(3, 2\\)"),
    "class indices": (
        ("base", vectors(), torch.tensor([0, 1, 1, 0])),
        "labels: expected .*got shape \\(4,\\), class indices",
    ),
    "labels as a list": (("base", vectors(), [[1, 0]]), "labels: expected .*got list"),
    "labels None": (("base", vectors(), None), "labels: expected .*label_ids, got neither"),
    "labels of complex numbers": (("base", vectors(), labels().to(torch.complex64)), "labels: expected .*complex64"),
    "soft labels": (("base", vectors(), labels() * 0.5), "labels: expected .*got the value 0.5"),
    "class ids in rows": (("base", vectors(), labels() * 2), "labels: expected .*got the value 2"),
    "labels of -1": (("base", vectors(), labels() - 1), "labels: expected .*got the value -1"),
    "infinite labels": (("base", vectors(), labels() * math.inf), "labels: expected .*got the value"),
    "uint8 156": (("base", vectors(), labels().to(torch.uint8) * 156), "labels: expected .*got the value 156"),
    "logits of integers": (("bce", vectors(4, 2).long(), labels()), "logits: expected .*torch.int64"),
    "logits of one axis": (("zlpr", vectors(4, 2)[0], labels()), "logits: expected .*\\(2,\\)"),
    "labels of another width": (("focal", vectors(4, 3), labels()), "labels: expected .*\\(4, 3\\).*\\(4, 2\\)"),
    "pos_weight of other labels": (
        ("bce", vectors(4, 2), labels(), [1, 2, 3]),
        "pos_weight: expected 1 or 2 numbers, got 3",
    ),
    "NaN embeddings": (("reg", vectors() * math.nan, labels(), vectors(2)), None),
}


@pytest.mark.parametrize(("name", "parameters", "message"), BUILD_CASES, ids=[str(case[:2]) for case in BUILD_CASES])
def test_build_loss_names_what_is_wrong(name, parameters, message):
    raises_a_clear_line(lambda: build_loss(name, **parameters), message)


@pytest.mark.parametrize("case", list(TENSOR_CASES))
def test_a_loss_names_the_tensor_that_is_wrong(case):
    (name, *tensors), message = TENSOR_CASES[case]
    options = {"pos_weight": tensors.pop()} if name == "bce" and len(tensors) == 3 else {}
    if (
        message is None
    ):  # numbers that have gone wrong show as a NaN loss, as everywhere in torch; reading them would wait
        assert not build_loss(name, **options)(*tensors).isfinite()
    else:
        raises_a_clear_line(lambda: build_loss(name, **options)(*tensors), message)


@given(
    st.sampled_from([name for name in NAMES if len(name) > 3]),
    st.integers(0, 20),
    st.sampled_from(["drop", "double", "swap"]),
)
def test_a_misspelt_loss_is_answered_with_the_right_one(name, position, how):
    wrong = misspelt(f"--{name}", position, how)[2:]
    if wrong in (*NAMES, "mscrg"):
        return
    with pytest.raises(ValueError) as error:
        build_loss(wrong)
    check_line(str(error.value), f"loss: expected one of .*got '{wrong}'")
    nearest = suggestion(str(error.value))
    assert nearest == name or edits(wrong, nearest) == 1


@given(st.data(), st.sampled_from([name for name in NAMES if loss_parameters(name)]), st.integers(0, 20))
def test_a_misspelt_parameter_is_answered_with_the_right_one(data, name, position):
    parameter = data.draw(st.sampled_from(sorted(loss_parameters(name))))
    wrong = misspelt(f"--{parameter}", position, "drop")[2:]
    with pytest.raises(ValueError) as error:
        build_loss(name, **{wrong: 1.0})
    check_line(str(error.value), f"loss '{name}': expected parameters among .*got '{wrong}'")
    assert suggestion(str(error.value)) == parameter


SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64])


@given(st.sampled_from(NAMES), SHAPES, DTYPES, SHAPES, DTYPES, st.sampled_from([0, 1, 0.5, 2, -1]))
def test_tensors_of_any_shape_and_type_give_a_scalar_or_one_clear_line(
    name, shape, dtype, label_shape, label_dtype, value
):
    inputs, targets = torch.ones(shape, dtype=dtype), torch.full(label_shape, value).to(label_dtype)
    try:
        loss = (
            build_loss(name)(inputs, targets, torch.ones(2, 3))
            if name in CONTRASTIVE_LOSSES
            else build_loss(name)(inputs, targets)
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
    if (value is None and loss_parameters(name)[parameter] is None) or parameter == "pos_weight":
        return
    with pytest.raises(ValueError) as error:
        build_loss(name, **{parameter: value})
    check_line(str(error.value), f"{parameter}: expected a finite number.*got ")
