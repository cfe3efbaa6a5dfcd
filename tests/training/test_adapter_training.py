"""Training with an adapter: objectives, classifier, best model, exact resume, gradient checkpointing, wrappers."""

import peft
import pytest
import torch
from test_resume import EVERY_STEP, assert_same_end, numbered
from toy import SIZES, toy_dataset, toy_trainer
from transformers import AutoConfig, AutoModel, EarlyStoppingCallback

from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer
from hf_mlcl.models.adapters_mlcl import HEAD_MODULES


@pytest.fixture
def toy(tmp_path):
    """Builds a model on a stored encoder; one seed gives one model."""

    def make(seed=0, **fields):
        folder = tmp_path / "encoder"
        if not folder.exists():
            torch.manual_seed(0)
            AutoModel.from_config(AutoConfig.for_model("bert", **SIZES, pad_token_id=0)).save_pretrained(folder)
        torch.manual_seed(seed)
        return MLCLForSequenceClassification.from_encoder(str(folder), labels=5, **fields)

    return make


def with_lora(model, seed=3):
    torch.manual_seed(seed)
    model.add_adapter(peft.LoraConfig(r=4, lora_dropout=0.1))
    return model


def states(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("objective", ["contrastive", "joint", "classification"])
def test_trains_fits_saves_and_loads(toy, objective, tmp_path):
    model = with_lora(toy(objective=objective))
    trainer = toy_trainer(tmp_path / "out", model=model, eval_strategy="epoch", num_train_epochs=1)
    before = states(model)
    trainer.train()
    trainer.fit_classifier()
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed and all("lora_" in name or "modules_to_save.default" in name for name in changed)
    assert {name.split(".")[0] for name in changed} >= {"encoder", "classifier"}
    metrics = trainer.evaluate(toy_dataset(30, seed=2))
    trainer.save_model(str(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("model*.safetensors"))
    loaded = MLCLForSequenceClassification.from_pretrained(tmp_path / "out")
    assert loaded.config.thresholds == model.config.thresholds and loaded.config.classifier_fitted
    again = toy_trainer(tmp_path / "again", model=loaded).evaluate(toy_dataset(30, seed=2))
    for name in ("eval_macro_f1", "eval_map", "eval_loss"):
        assert again[name] == metrics[name]


@pytest.mark.parametrize("objective", ["contrastive", "joint"])
def test_resuming_is_bit_identical(toy, objective, tmp_path):
    arguments = {**EVERY_STEP, "objective": objective, "num_train_epochs": 2, "load_best_model_at_end": True}
    arguments |= {"metric_for_best_model": "macro_f1", "eval_strategy": "steps", "eval_steps": 1}

    def run(folder, seed, checkpoint=None):
        model = with_lora(toy())
        for parameter in model.parameters():  # what the resumed run starts from must not matter
            parameter.data.add_(seed * parameter.requires_grad)
        trainer = toy_trainer(folder, model=model, callbacks=[EarlyStoppingCallback(4)], **arguments)
        trainer.train(resume_from_checkpoint=checkpoint)
        return trainer

    whole = run(tmp_path / "whole", 0)
    found = numbered(tmp_path / "whole")
    assert not list((tmp_path / "whole").glob("checkpoint-*/model*.safetensors"))
    for checkpoint in (found[1], found[-1]):
        assert_same_end(run(tmp_path / checkpoint.name, 9, str(checkpoint)), whole)


def test_checkpoints_of_another_adapter_are_refused(toy, tmp_path):
    saved = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    toy_trainer(tmp_path / "lora", model=with_lora(toy()), **saved).train()
    toy_trainer(tmp_path / "full", model=toy(), **saved).train()
    wider = toy()
    wider.add_adapter(peft.LoraConfig(r=8))
    for model, run in ((wider, "lora"), (toy(), "lora"), (with_lora(toy()), "full")):
        with pytest.raises(ValueError, match="^resume_from_checkpoint: "):
            toy_trainer(tmp_path / "other", model=model, max_steps=2).train(
                resume_from_checkpoint=str(tmp_path / run / "checkpoint-1")
            )


@pytest.mark.parametrize("named", [None, ["projection", "prototypes", "classifier"]])
def test_a_wrapped_model_trains_and_loses_no_head(toy, named, tmp_path):
    model = toy()
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query"], modules_to_save=named))
    trainer = toy_trainer(tmp_path / "out", model=wrapped, max_steps=3, objective="joint")
    assert trainer.model is model and trainer.core_model is model
    before = states(model)
    trainer.train()
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == {"encoder", "projection", "prototypes", "classifier"}
    trainer.save_model(str(tmp_path / "out"))
    loaded = MLCLForSequenceClassification.from_pretrained(tmp_path / "out")
    batch = {"input_ids": torch.tensor([[1, 12, 25]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    expected = model(**batch)
    assert all(loaded(**batch)[name].equal(expected[name]) for name in ("logits", "embeddings", "prototypes"))
    # The wrapper is the same model still.
    torch.testing.assert_close(wrapped.merge_and_unload()(**batch).logits, expected.logits, rtol=0, atol=1e-5)


def test_heads_that_would_be_lost_in_a_wrapper_are_refused(toy, tmp_path):
    wrapped = peft.get_peft_model(toy(), peft.LoraConfig(target_modules="all-linear"))
    with pytest.raises(ValueError, match="^target_modules: .*projection.hidden"):
        toy_trainer(tmp_path, model=wrapped)
    heads = list(HEAD_MODULES)
    wrapped = peft.get_peft_model(toy(), peft.LoraConfig(target_modules="all-linear", modules_to_save=heads))
    assert toy_trainer(tmp_path, model=wrapped).core_model.has_adapter


def test_the_trainer_adds_the_adapter(toy, tmp_path):
    base = toy_trainer(tmp_path, model=toy())
    arguments = {"args": base.args, "train_dataset": toy_dataset(), "processing_class": base.processing_class}
    trainer = MLCLTrainer(model=toy(), peft_config=peft.LoraConfig(r=2), **arguments)
    assert trainer.core_model.has_adapter
    made = MLCLTrainer(model_init=lambda: toy(), peft_config=peft.LoraConfig(r=2), **arguments)
    made.train()
    assert made.core_model.has_adapter
    with pytest.raises(ValueError, match="^model: "):
        prompts = peft.PromptTuningConfig(
            task_type="SEQ_CLS", num_virtual_tokens=2, token_dim=32, num_layers=1, num_attention_heads=2
        )
        MLCLTrainer(model=peft.get_peft_model(toy(), prompts), **arguments)


def test_head_learning_rate_reaches_the_heads_that_are_trained(toy, tmp_path):
    trainer = toy_trainer(tmp_path, model=with_lora(toy()), head_learning_rate=0.5)
    trainer.model.freeze_unused_parameters()
    optimizer = trainer.create_optimizer()
    heads = {id(p) for group in optimizer.param_groups if group["lr"] == 0.5 for p in group["params"]}
    expected = {
        id(p)
        for name, p in trainer.model.named_parameters()
        if p.requires_grad and name.split(".")[0] in ("projection", "prototypes")
    }
    assert heads == expected
