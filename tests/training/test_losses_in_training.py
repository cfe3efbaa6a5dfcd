"""Losses of a training: parameters from the arguments, losses of the user's own, and a temperature that is trained."""

import copy
import json

import pytest
import torch
from distributed_job import held_trainer, temperature_trainer, trained
from peft import LoraConfig
from toy import relative_difference, same, toy_model, toy_trainer

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES, build_loss, loss_parameters, register_loss


class DiceLoss(torch.nn.Module):
    """A loss on logits with a parameter."""

    def __init__(self, smooth=1.0):
        super().__init__()
        self.smooth = smooth
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, logits, labels):
        scores = (self.scale * logits).sigmoid()
        return 1 - (2 * (scores * labels.clamp(min=0)).sum() + self.smooth) / (
            scores.sum() + labels.sum() + self.smooth
        )


class PullLoss(torch.nn.Module):
    """A loss on embeddings that is no ContrastiveLoss."""

    def forward(self, embeddings, labels, prototypes):
        return (embeddings - labels.clamp(min=0) @ prototypes).square().mean()


@pytest.mark.parametrize("loss", [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES])
def test_every_parameter_of_every_loss_is_reached_from_the_arguments(loss, tmp_path):
    others = {"temperature": 0.3, "learnable_temperature": True, "pos_weight": 2.0, "alpha": 0.5}
    others |= {"prior_bias": True, "label_counts": [7, 8, 9, 5, 6], "num_examples": 99}
    values = {name: others.get(name, default and default / 2) for name, default in loss_parameters(loss).items()}
    for given in (values, json.dumps(values)):
        model = toy_trainer(tmp_path, loss=loss, loss_kwargs=given).model
        kind = "" if loss in CONTRASTIVE_LOSSES else "classification_"
        own = getattr(model, f"{kind or 'contrastive_'}loss")
        assert type(own) is type(build_loss(loss)) and getattr(model.config, f"{kind}loss_parameters") == values
        assert all(getattr(own, name, value) == value for name, value in values.items())
        if "label_counts" in values:  # and not those of the training set
            assert own.counts.positives.tolist() == [7, 8, 9, 5, 6]
    both = {"classification_loss": "focal", "classification_loss_kwargs": {"gamma": 1.5}}
    if loss in CONTRASTIVE_LOSSES:
        model = toy_trainer(tmp_path, objective="joint", loss=loss, loss_kwargs=values, **both).model
        assert model.classification_loss.gamma == 1.5 and model.config.loss_parameters == values


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize(
    ("loss", "objective", "expected"),
    [
        (DiceLoss(0.5), None, "classification"),
        (DiceLoss(), "joint", "joint"),
        (PullLoss(), None, "contrastive"),
        (PullLoss(), "joint", "joint"),
        (build_loss("msc", beta=0.3), None, "contrastive"),
    ],
)
def test_a_loss_of_ones_own_is_trained_by(loss, objective, expected, chunk, tmp_path):
    loss = copy.deepcopy(loss)
    trainer = toy_trainer(tmp_path, own=loss, objective=objective, gradient_cache_chunk_size=chunk)
    config = trainer.model.config
    assert config.objective == expected
    assert loss in (trainer.model.contrastive_loss, trainer.model.classification_loss)
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    moved = {name for name, tensor in trainer.model.state_dict().items() if not tensor.equal(before[name])}
    assert any(name.startswith("encoder") for name in moved)
    assert ("classification_loss.scale" in moved) == isinstance(loss, DiceLoss), "parameters of a loss are trained"
    trainer.fit_classifier()
    assert trainer.evaluate()["eval_macro_f1"] > 0


def test_a_registered_loss_is_found_again_and_another_is_named(tmp_path):
    try:
        register_loss("DiceLoss", DiceLoss)
        trainer = toy_trainer(tmp_path / "run", loss="DiceLoss", loss_kwargs={"smooth": 0.5}, max_steps=3)
        trainer.train()
        trainer.save_model(str(tmp_path / "model"))
        model = MLCLForSequenceClassification.from_pretrained(tmp_path / "model")
        assert model.classification_loss.smooth == 0.5
        assert model.classification_loss.scale == trainer.model.classification_loss.scale != 1
    finally:
        CLASSIFICATION_LOSSES.pop("DiceLoss")
    model = MLCLForSequenceClassification.from_pretrained(tmp_path / "model")  # predicts all the same
    inputs = {"input_ids": torch.tensor([[1, 10, 20]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    torch.testing.assert_close(model(**inputs).logits, trainer.model(**inputs).logits)
    with pytest.raises(ValueError, match="DiceLoss"):
        model(**inputs, labels=torch.zeros(1, 5))


def test_a_changed_configuration_is_followed():
    model = toy_model()
    inputs = {"input_ids": torch.tensor([[1, 10, 20], [1, 11, 20]]), "attention_mask": torch.ones(2, 3).long()}
    labels = torch.tensor([[1, 0, 1, 0, 0], [1, 1, 0, 0, 0]])
    model.eval()
    first = model(**inputs, labels=labels).loss
    model.config.loss, model.config.loss_parameters = "base", {"temperature": 0.5}
    second = model(**inputs, labels=labels)
    assert second.loss != first
    assert second.loss == build_loss("base", temperature=0.5)(second.embeddings, labels)


def test_a_loaded_model_has_the_weights_of_its_loss(tmp_path):
    loss = {"classification_loss": "bce", "classification_loss_parameters": {"pos_weight": [1.0, 2.0, 3.0, 4.0, 5.0]}}
    model = toy_model(objective="classification", **loss).eval()
    model.save_pretrained(tmp_path / "model")
    again = MLCLForSequenceClassification.from_pretrained(tmp_path / "model")
    batch = {"input_ids": torch.tensor([[1, 10, 20]]), "labels": torch.tensor([[1, 0, 1, 0, 0]])}
    assert again(**batch).loss == model(**batch).loss


# --- a temperature that is trained ---


@pytest.mark.filterwarnings("error:Converting a tensor")
def test_the_temperature_is_optimised_logged_saved_and_not_decayed(tmp_path):
    trainer = temperature_trainer(tmp_path, save_strategy="steps", save_steps=2, weight_decay=1.0)
    trainer.train()
    temperature = trainer.model.contrastive_loss.log_temperature.exp().item()
    assert temperature != pytest.approx(0.2, rel=1e-3)
    logged = [entry["temperature"] for entry in trainer.state.log_history if "temperature" in entry]
    assert logged[-1] == pytest.approx(temperature, abs=1e-3)
    groups = trainer.optimizer.param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert id(trainer.model.contrastive_loss.log_temperature) not in decayed
    trainer.save_model(str(tmp_path / "model"))
    model = MLCLForSequenceClassification.from_pretrained(tmp_path / "model")
    assert model.contrastive_loss.log_temperature.exp().item() == pytest.approx(temperature)
    again = temperature_trainer(tmp_path)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same(dict(again.model.state_dict()), dict(trainer.model.state_dict()))


@pytest.mark.parametrize("chunk", [None, 2])
def test_the_temperature_is_that_of_held_chunks_and_of_two_processes(ranks, chunk, tmp_path):
    expected = trained(temperature_trainer(tmp_path))
    assert relative_difference(ranks(f"temperature-{chunk}"), expected) < 1e-6
    if chunk is not None:
        held = trained(held_trainer(tmp_path, 3, trainer=temperature_trainer))
        found = trained(temperature_trainer(tmp_path, gradient_cache_chunk_size=3))
        assert relative_difference(found, held) < 1e-6


def test_where_a_temperature_cannot_be_trained_is_said(tmp_path):
    toy_model().save_pretrained(tmp_path / "model")
    model = MLCLForSequenceClassification.from_pretrained(tmp_path / "model")
    model.add_adapter(LoraConfig(r=2))
    with pytest.raises(ValueError, match="learnable_temperature"):
        toy_trainer(tmp_path, model=model, loss_kwargs={"learnable_temperature": True})
