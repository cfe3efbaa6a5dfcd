import copy

import numpy as np
import pytest
import torch
from toy import NUM_LABELS, toy_dataset, toy_model, toy_trainer, with_lists
from transformers import TrainerCallback

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES
from hf_mlcl.training.trainer import count_labels


def parameters(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("loss", [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES])
def test_every_loss_trains_what_it_should(loss, tmp_path):
    trainer = toy_trainer(tmp_path, loss=loss, max_steps=3)
    before = parameters(trainer.model)
    trainer.train()
    moved = {
        name.split(".")[0] for name, tensor in trainer.model.state_dict().items() if not tensor.equal(before[name])
    }
    if loss in CLASSIFICATION_LOSSES:
        assert moved == {"encoder", "classifier"}
    elif loss in ("base", "supcon_any", "supcon_all", "multisupcon", "mulsupcon"):
        assert moved == {"encoder", "projection"}
    else:
        assert moved == {"encoder", "projection", "prototypes"}
    assert not trainer.model.training


@pytest.mark.parametrize("objective", ["contrastive", "joint", "classification"])
def test_training_lowers_the_loss_and_finds_the_labels(objective, tmp_path):
    trainer = toy_trainer(
        tmp_path,
        train_rows=320,
        objective=objective,
        learning_rate=5e-3,
        num_train_epochs=6,
        per_device_train_batch_size=32,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    trainer.fit_classifier()
    metrics = trainer.evaluate()
    assert metrics["eval_macro_f1"] > 0.8 and metrics["eval_micro_f1"] > 0.8


class KeepGradients(TrainerCallback):
    def __init__(self):
        self.kept = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.kept = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("objective", ["contrastive", "joint", "classification"])
def test_accumulation_is_the_mean_over_micro_batches(objective, tmp_path):
    model = toy_model(dropout=0.0, objective=objective)
    data = toy_dataset(16)
    collator = toy_trainer(tmp_path, model=copy.deepcopy(model)).data_collator
    reference = copy.deepcopy(model).train()
    reference.freeze_unused_parameters()
    losses = [reference(**collator([data[i] for i in range(start, start + 4)])).loss for start in range(0, 16, 4)]
    torch.stack(losses).mean().backward()

    keep = KeepGradients()
    trainer = toy_trainer(
        tmp_path,
        model=model,
        train=data,
        callbacks=[keep],
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        max_steps=1,
        max_grad_norm=0,
        train_sampling_strategy="sequential",
    )
    trainer.train()
    expected = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    assert keep.kept.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(keep.kept[name], gradient, rtol=1e-5, atol=1e-7)
    logged = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    assert logged == pytest.approx(torch.stack(losses).mean().item(), abs=1e-4)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


@pytest.mark.parametrize("objective", ["contrastive", "joint"])
@pytest.mark.parametrize("checkpoint", [2, 6, 9])
def test_resuming_is_bit_identical(objective, checkpoint, tmp_path):
    """Checkpoints in the middle of an epoch, at its end and later; with dropout, evaluation and accumulation."""
    arguments = {
        "objective": objective,
        "save_strategy": "steps",
        "save_steps": 1,
        "eval_strategy": "epoch",
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 2,
    }
    whole = toy_trainer(tmp_path / "whole", **arguments)
    whole.train()
    part = toy_trainer(tmp_path / "part", callbacks=[StopAt(checkpoint)], **arguments)
    part.train()
    resumed = toy_trainer(tmp_path / "part", model=toy_model(seed=99), **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "part" / f"checkpoint-{checkpoint}"))
    assert resumed.state.global_step == whole.state.global_step == 12
    for name, tensor in whole.model.state_dict().items():
        assert resumed.model.state_dict()[name].equal(tensor), name


def test_resuming_with_accumulation_is_bit_identical(tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 1, "gradient_accumulation_steps": 2, "num_train_epochs": 3}
    whole = toy_trainer(tmp_path / "whole", **arguments)
    whole.train()
    resumed = toy_trainer(tmp_path / "again", model=toy_model(seed=99), **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    for name, tensor in whole.model.state_dict().items():
        assert resumed.model.state_dict()[name].equal(tensor), name


def test_evaluation_leaves_training_as_it_is(tmp_path):
    runs = []
    for extra in ({}, {"eval_strategy": "steps", "eval_steps": 2}):
        runs.append(toy_trainer(tmp_path, max_steps=6, **extra))
        runs[-1].train()
    for name, tensor in runs[0].model.state_dict().items():
        assert runs[1].model.state_dict()[name].equal(tensor), name


def test_evaluation_sees_every_example(tmp_path):
    """The Trainer applies `dataloader_drop_last` to evaluation as well and would drop the last 6 of 30 examples."""
    trainer = toy_trainer(tmp_path, per_device_eval_batch_size=8)
    prediction = trainer.predict(toy_dataset(30, seed=1))
    assert prediction.predictions.shape == (30, NUM_LABELS) and trainer.args.dataloader_drop_last


@pytest.mark.parametrize("name", ["features", "embeddings"])
def test_vectors_come_in_the_order_of_the_data(name, tmp_path):
    trainer = toy_trainer(tmp_path, model=toy_model().eval(), per_device_eval_batch_size=7)
    data = toy_dataset(30, seed=1)
    vectors, labels = getattr(trainer, name)(data)
    batch = trainer.data_collator([data[i] for i in range(30)])
    with torch.no_grad():
        expected = trainer.model(batch["input_ids"], batch["attention_mask"])[name]
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    assert (labels == np.asarray(data["labels"])).all()


@pytest.mark.parametrize("name", ["features", "embeddings"])
@pytest.mark.parametrize("form", [list, lambda data: data], ids=["list", "dataset"])
def test_vectors_of_examples_with_lists_are_those_with_rows(form, name, tmp_path):
    data, trainer = toy_dataset(8), toy_trainer(tmp_path)
    expected, rows = getattr(trainer, name)(data)
    vectors, labels = getattr(trainer, name)(form(with_lists(data)))
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(labels.rows(), rows)


@pytest.mark.parametrize("name", ["features", "embeddings"])
def test_vectors_of_examples_without_labels_are_refused(name, tmp_path):
    data = toy_dataset(8).remove_columns("labels")
    with pytest.raises(ValueError, match="dataset: .*neither labels nor label_ids"):
        getattr(toy_trainer(tmp_path), name)(data)


def test_the_probe_scores_and_leaves_the_model_alone(tmp_path):
    trainer = toy_trainer(tmp_path)
    before = parameters(trainer.model)
    metrics = trainer.evaluate()
    assert 0 < metrics["eval_macro_f1"] <= 1 and metrics["eval_map"] > 0
    assert all(tensor.equal(before[name]) for name, tensor in trainer.model.state_dict().items())
    assert trainer.model.config.thresholds is None and not trainer.model.config.classifier_fitted
    predicted = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval").metrics
    assert predicted["eval_macro_f1"] == metrics["eval_macro_f1"]


def test_best_model_by_macro_f1_in_the_contrastive_stage(tmp_path):
    trainer = toy_trainer(
        tmp_path,
        eval_strategy="epoch",
        save_strategy="epoch",
        num_train_epochs=3,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
    )
    trainer.train()
    scores = [entry["eval_macro_f1"] for entry in trainer.state.log_history if "eval_macro_f1" in entry]
    assert len(scores) == 3 and trainer.state.best_metric == max(scores)


def test_fitted_classifier_is_saved_and_predicts(tmp_path):
    trainer = toy_trainer(tmp_path, train_rows=160, learning_rate=5e-3, num_train_epochs=3)
    trainer.train()
    report = trainer.fit_classifier()
    assert report.linear_evaluation and sum(report.strengths.values()) == NUM_LABELS
    config = trainer.model.config
    assert config.classifier_fitted and len(config.thresholds) == NUM_LABELS
    assert config.train_label_counts == np.asarray(trainer.train_dataset["labels"]).sum(0).tolist()
    test = toy_dataset(30, seed=2)
    metrics = trainer.evaluate(test)
    trainer.save_model()
    loaded = MLCLForSequenceClassification.from_pretrained(tmp_path)
    batch = trainer.data_collator([test[i] for i in range(30)])
    labels = batch.pop("labels")
    predicted = torch.zeros(30, NUM_LABELS)
    for row, found in enumerate(loaded.predict_labels(**batch)):
        for label in found:
            predicted[row, config.label2id[label["label"]]] = 1
    hits = 2 * (predicted * labels).sum() / (predicted.sum() + labels.sum())
    assert hits.item() == pytest.approx(metrics["eval_micro_f1"], abs=1e-6)


def test_trained_head_is_kept_on_request(tmp_path):
    trainer = toy_trainer(tmp_path, objective="joint", max_steps=3)
    trainer.train()
    assert trainer.model.config.classifier_fitted  # the objective has trained it
    ratio = trainer.model.classifier.weight.clone()
    report = trainer.fit_classifier(linear_evaluation=False)
    ratio = trainer.model.classifier.weight / ratio  # calibration scales each row by one number
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3, atol=1e-3)
    assert not report.linear_evaluation and report.protocol is None and not report.refit


def test_more_contrastive_training_unfits_the_classifier(tmp_path):
    trainer = toy_trainer(tmp_path, max_steps=2)
    trainer.fit_classifier()
    assert trainer.model.config.classifier_fitted
    trainer.train()
    assert not trainer.model.config.classifier_fitted and trainer.model.config.thresholds is None


@pytest.mark.parametrize("arguments", [{}, {"gradient_cache_chunk_size": 3}, {"momentum": 0.9, "loss": "msc"}])
@pytest.mark.parametrize("objective", ["contrastive", "joint"])
def test_logits_are_made_in_training_where_the_objective_uses_them(objective, arguments, tmp_path):
    trainer = toy_trainer(tmp_path, objective=objective, max_steps=2, **arguments)
    training = []
    classifier = trainer.model.classifier
    classifier.register_forward_hook(lambda *_: training.append(trainer.model.training))
    trainer.train()
    assert any(training) == (objective == "joint")
    trainer.evaluate(trainer.train_dataset)
    assert not training[-1]


@pytest.mark.parametrize("chunk", [None, 3])
def test_a_model_with_a_forward_of_its_own_is_trained(chunk, tmp_path):
    class OfTheUser(MLCLForSequenceClassification):
        def forward(self, input_ids, attention_mask, labels=None):
            return super().forward(input_ids, attention_mask, labels=labels)

    model = toy_model()
    model.__class__ = OfTheUser
    trainer = toy_trainer(tmp_path, model=model, max_steps=2, gradient_cache_chunk_size=chunk)
    assert trainer.train().global_step == 2 and trainer.evaluate()["eval_macro_f1"] >= 0


def test_logs_hold_the_parts_and_the_positives(tmp_path):
    trainer = toy_trainer(tmp_path, objective="joint", max_steps=4, logging_steps=2)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 2
    for entry in logs:
        assert entry["loss"] == pytest.approx(entry["contrastive_loss"] + 0.3 * entry["classification_loss"], abs=1e-3)
        assert 0 <= entry["anchors_without_positives"] <= 1 and 0 <= entry["positives_per_anchor"] <= 7


def test_head_learning_rate_reaches_heads_only(tmp_path):
    trainer = toy_trainer(tmp_path, head_learning_rate=0.5, objective="joint")
    optimizer = trainer.create_optimizer()
    heads = {id(p) for n, p in trainer.model.named_parameters() if not n.startswith("encoder.")}
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(trainer.model.parameters()))
    assert all(rate == (0.5 if key in heads else 1e-3) for key, rate in rates.items())
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert id(trainer.model.prototypes.weight) in decayed and id(trainer.model.classifier.bias) not in decayed


def test_unfitted_model_without_training_data_is_named(tmp_path):
    trainer = toy_trainer(tmp_path)
    trainer.train_dataset = None
    with pytest.raises(ValueError, match="train_dataset: expected one to score an unfitted classifier"):
        trainer.evaluate()
    with pytest.raises(ValueError, match="train_dataset: expected one labelled dataset, got NoneType"):
        trainer.fit_classifier()


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="expected at most the 5 training examples in one step, got 8"):
        toy_trainer(tmp_path, train_rows=5)
    with pytest.raises(ValueError, match="linear_evaluation: expected True after contrastive training"):
        toy_trainer(tmp_path).fit_classifier(linear_evaluation=False)
    with pytest.raises(ValueError, match="model must be an MLCL model, got Linear"):
        toy_trainer(tmp_path, model=torch.nn.Linear(2, 2))
    unlabelled = toy_trainer(tmp_path, train=toy_dataset(16).remove_columns("labels"))
    with pytest.raises(ValueError, match="neither labels nor label_ids"):
        unlabelled.train()


def test_count_labels_of_other_data_sets():
    class WithLabels(torch.utils.data.Dataset):
        labels = np.array([[True, False], [True, True]])

    assert count_labels(WithLabels()) == [2, 1]
    assert count_labels(torch.utils.data.TensorDataset(torch.zeros(2))) is None
