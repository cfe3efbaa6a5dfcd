"""The models under `transformers.Trainer` as it comes, without anything else of this package."""

import copy

import datasets
import pytest
import torch
from tiny import tiny_encoder
from toy import NUM_LABELS, KeepGradients, toy_dataset, toy_model, toy_trainer
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, default_data_collator

from hf_mlcl import MLCLForImageClassification, compute_metrics

UNUSED = {"contrastive": {"classifier"}, "joint": set(), "classification": {"projection", "prototypes"}}


def stock_trainer(folder, model, tokenizer=None, train=None, callbacks=None, **arguments):
    defaults = {"per_device_train_batch_size": 8, "max_steps": 3, "learning_rate": 1e-3, "weight_decay": 0.1}
    defaults |= {"save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    return Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **(defaults | arguments)),
        train_dataset=toy_dataset(24) if train is None else train,
        eval_dataset=toy_dataset(12, seed=1),
        data_collator=None if tokenizer is None else DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=compute_metrics,
        callbacks=callbacks,
    )


@pytest.mark.parametrize("objective", ["contrastive", "joint", "classification"])
def test_stock_trainer_trains_what_the_objective_uses_and_leaves_the_rest(objective, tokenizer, tmp_path):
    model = toy_model(objective=objective)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = stock_trainer(tmp_path, model, tokenizer, eval_strategy="epoch")
    trainer.train()
    after = model.state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    # Without freeze_unused_parameters: a parameter without gradient is not decayed either.
    still = {name.split(".")[0] for name in before if after[name].equal(before[name])}
    assert still == UNUSED[objective]
    evaluation = next(entry for entry in trainer.state.log_history if "eval_loss" in entry)
    assert 0 <= evaluation["eval_macro_f1"] <= 1

    prediction = trainer.predict(trainer.eval_dataset)
    assert prediction.predictions.shape == (12, NUM_LABELS)
    fitting = toy_trainer(tmp_path, model=trainer.model)
    fitting.fit_classifier()
    assert trainer.model.config.classifier_fitted


@pytest.mark.parametrize("objective", ["contrastive", "classification"])
def test_accumulating_equal_micro_batches_gives_the_gradient_of_one(objective, tokenizer, tmp_path):
    model, eight = toy_model(dropout=0.0, objective=objective), toy_dataset(8)
    gradients = []
    for steps in (1, 4):
        keep = KeepGradients()
        stock_trainer(
            tmp_path,
            copy.deepcopy(model),
            tokenizer,
            train=datasets.concatenate_datasets([eight] * steps),
            callbacks=[keep],
            gradient_accumulation_steps=steps,
            max_steps=1,
            max_grad_norm=0,
            train_sampling_strategy="sequential",
        ).train()
        gradients += keep.steps
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["bool", "int64", "float32"])
def test_multi_hot_labels_of_any_type_give_the_same_loss(kind, tokenizer, tmp_path):
    features = toy_dataset(8).features.copy()
    features["labels"] = datasets.List(datasets.Value(kind), length=NUM_LABELS)
    batches = [
        DataCollatorWithPadding(tokenizer)([rows[index] for index in range(8)])
        for rows in (toy_dataset(8), toy_dataset(8).cast(features))
    ]
    model = toy_model(objective="joint").eval()
    assert model(**batches[1]).loss.item() == pytest.approx(model(**batches[0]).loss.item(), abs=1e-6)


def test_stock_trainer_trains_images_with_the_default_collator(tmp_path):
    generator = torch.Generator().manual_seed(0)
    rows = [
        {"pixel_values": torch.randn(3, 16, 16, generator=generator), "labels": [index % 2, 1, 0]}
        for index in range(16)
    ]
    assert default_data_collator(rows)["labels"].dtype == torch.int64
    model = MLCLForImageClassification.from_encoder(tiny_encoder("vit"), labels=3)
    trainer = stock_trainer(tmp_path, model, train=rows, max_steps=2, logging_steps=1)
    trainer.train()
    assert all(entry["loss"] > 0 for entry in trainer.state.log_history if "loss" in entry)
