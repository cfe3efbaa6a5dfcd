import pytest
import torch

from hf_mlcl.losses import (
    CLASSIFICATION_LOSSES,
    CONTRASTIVE_LOSSES,
    build_loss,
    loss_class,
    loss_parameters,
    loss_summary,
    register_loss,
)


def test_defaults_are_the_table_of_the_study():
    temperature = {"temperature": 0.1, "learnable_temperature": False}
    counts = {"label_counts": None, "num_examples": None}
    assert {name: loss_parameters(name) for name in [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES]} == {
        "reg": temperature | {"alpha": 1.0},
        "mscwrg": temperature | {"alpha": 1.0},
        "msc": temperature | {"beta": 0.1},
        "proto": temperature,
        "base": temperature,
        "supcon_any": temperature,
        "supcon_all": temperature,
        "multisupcon": temperature | {"threshold": 0.5},
        "mulsupcon": temperature,
        "bce": {"pos_weight": None, "prior_bias": False} | counts,
        "focal": {"gamma": 2.0, "alpha": None},
        "asymmetric": {"gamma_negative": 4.0, "gamma_positive": 1.0, "clip": 0.05},
        "zlpr": {},
        "two_way": {"temperature": 4.0, "alpha": 1.0},
        "db": {"alpha": 0.1, "beta": 10.0, "mu": 0.9, "negative_scale": 2.0, "kappa": 0.05, "gamma": 2.0} | counts,
        "cb_focal": {"beta": 0.9999, "gamma": 2.0, "label_counts": None},
    }


def test_a_loss_of_ones_own_gets_a_name():
    class Dice(torch.nn.Module):
        def __init__(self, smooth=1.0):
            super().__init__()
            self.smooth = smooth

        def forward(self, logits, labels):
            return (logits * labels).sum() * self.smooth

    class Pull(torch.nn.Module):
        def forward(self, embeddings, labels, prototypes):
            return -(embeddings * (labels.float() @ prototypes)).sum()

    try:
        register_loss("dice", Dice)
        register_loss("pull", Pull)
        assert build_loss("dice", smooth=2).smooth == 2 and loss_parameters("dice") == {"smooth": 1.0}
        assert "dice" in CLASSIFICATION_LOSSES and "pull" in CONTRASTIVE_LOSSES
        register_loss("dice", Pull)  # once more, as a notebook's cell is run again
        assert "dice" in CONTRASTIVE_LOSSES and "dice" not in CLASSIFICATION_LOSSES
    finally:
        for losses in (CONTRASTIVE_LOSSES, CLASSIFICATION_LOSSES):
            losses.pop("dice", None), losses.pop("pull", None)
    for name, loss in (("reg", Dice), ("mscrg", Dice), ("", Dice), ("dice", Dice()), ("dice", len)):
        with pytest.raises(ValueError, match="register_loss"):
            register_loss(name, loss)


def test_mscrg_is_reg_and_every_loss_has_a_summary_of_its_own():
    assert loss_class("mscrg") is loss_class("reg")
    names = [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES]
    assert len({loss_summary(name) for name in names} - {""}) == len(names)


@pytest.mark.parametrize(
    ("name", "parameters", "near"), [("regg", {}, "reg"), ("reg", {"temprature": 0.1}, "temperature")]
)
def test_the_nearest_right_name_is_told(name, parameters, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        build_loss(name, **parameters)


def test_a_learnable_temperature_is_asked_for_by_true_or_false():
    with pytest.raises(ValueError, match="learnable_temperature"):
        build_loss("reg", learnable_temperature=1)
    assert build_loss("reg", temperature=0.2).log_temperature is None
