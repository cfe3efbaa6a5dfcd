import numpy as np
import pytest
import torch
from distributed_job import OBJECTIVES, step
from toy import (
    COLLATE,
    NUM_LABELS,
    losses,
    relative_difference,
    same,
    step_gradients,
    toy_dataset,
    toy_model,
    toy_trainer,
    with_lists,
)

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES


def parameters(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("frozen", [(), ("projection",)], ids=str)
@pytest.mark.parametrize("loss", [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES, "joint"])
def test_every_loss_trains_what_it_should_and_nothing_the_user_has_frozen(loss, frozen, tmp_path):
    model = toy_model()
    for name in frozen:
        getattr(model, name).requires_grad_(False)
    requires = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    trainer = toy_trainer(tmp_path, model, max_steps=3, **({"objective": loss} if loss == "joint" else {"loss": loss}))
    before = parameters(model)
    trainer.train()
    moved = {name.split(".")[0] for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
    heads = {"projection", "prototypes"}
    if loss in CLASSIFICATION_LOSSES:
        heads = {"classifier"}
    elif loss in ("base", "supcon_any", "supcon_all", "multisupcon", "mulsupcon"):
        heads = {"projection"}
    elif loss == "joint":
        heads |= {"classifier"}
    assert moved == {"encoder"} | heads - set(frozen)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == requires
    assert not model.training


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_lowers_the_loss_and_finds_the_labels(objective, tmp_path):
    arguments = {"learning_rate": 5e-3, "num_train_epochs": 6, "per_device_train_batch_size": 32}
    trainer = toy_trainer(tmp_path, train_rows=320, objective=objective, **arguments)
    trainer.train()
    assert np.mean(losses(trainer)[-10:]) < np.mean(losses(trainer)[:10])
    trainer.fit_classifier()
    metrics = trainer.evaluate()
    assert metrics["eval_macro_f1"] > 0.8 and metrics["eval_micro_f1"] > 0.8


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_accumulation_is_the_mean_over_micro_batches(objective, tmp_path):
    data, (model, reference) = toy_dataset(16), (toy_model(dropout=0.0, objective=objective) for _ in range(2))
    trainer, found = step(tmp_path, model, data, gradient_accumulation_steps=4)
    assert relative_difference(found, step_gradients(reference, data, accumulation=4)) < 1e-5
    batches = [COLLATE([data[i] for i in range(start, start + 4)]) for start in range(0, 16, 4)]
    mean = np.mean([reference(**batch).loss.item() for batch in batches])
    assert losses(trainer) == pytest.approx([mean], abs=1e-4)


def test_evaluation_leaves_training_as_it_is(tmp_path):
    runs = []
    for extra in ({}, {"eval_strategy": "steps", "eval_steps": 2}):
        runs.append(toy_trainer(tmp_path, max_steps=6, **extra))
        runs[-1].train()
    assert same(*(dict(run.model.state_dict()) for run in runs))


def test_evaluation_sees_every_example(tmp_path):
    """The Trainer applies `dataloader_drop_last` to evaluation as well and would drop the last 6 of 30 examples."""
    trainer = toy_trainer(tmp_path, per_device_eval_batch_size=8)
    prediction = trainer.predict(toy_dataset(30, seed=1))
    assert prediction.predictions.shape == (30, NUM_LABELS) and trainer.args.dataloader_drop_last


@pytest.mark.parametrize("name", ["features", "embeddings"])
def test_vectors_come_in_the_order_of_the_data_and_need_labels(name, tmp_path):
    trainer = toy_trainer(tmp_path, model=toy_model().eval(), per_device_eval_batch_size=7)
    data = toy_dataset(30, seed=1)
    vectors, labels = getattr(trainer, name)(data)
    batch = COLLATE([data[i] for i in range(30)])
    with torch.no_grad():
        expected = trainer.model(batch["input_ids"], batch["attention_mask"])[name]
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    assert (labels == np.asarray(data["labels"])).all()
    with pytest.raises(ValueError, match="dataset: .*labels"):
        getattr(trainer, name)(data.remove_columns("labels"))
    for lists in (with_lists(data), list(with_lists(data))):
        same_vectors, same_labels = getattr(trainer, name)(lists)
        np.testing.assert_allclose(same_vectors, vectors, rtol=1e-5, atol=1e-6)
        assert np.array_equal(same_labels.rows(), labels)


def test_the_probe_scores_and_leaves_the_model_alone(tmp_path):
    trainer = toy_trainer(tmp_path)
    before = parameters(trainer.model)
    metrics = trainer.evaluate()
    assert 0 < metrics["eval_macro_f1"] <= 1 and metrics["eval_map"] > 0
    assert same(dict(trainer.model.state_dict()), before)
    assert trainer.model.config.thresholds is None and not trainer.model.config.classifier_fitted
    predicted = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval").metrics
    assert predicted["eval_macro_f1"] == metrics["eval_macro_f1"]


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
    batch = COLLATE([test[i] for i in range(30)])
    labels = batch.pop("labels")
    predicted = torch.zeros(30, NUM_LABELS)
    for row, found in enumerate(loaded.predict_labels(**batch)):
        predicted[row, [config.label2id[label["label"]] for label in found]] = 1
    hits = 2 * (predicted * labels).sum() / (predicted.sum() + labels.sum())
    assert hits.item() == pytest.approx(metrics["eval_micro_f1"], abs=1e-6)


def test_a_trained_head_is_kept_on_request_and_more_contrastive_training_unfits_it(tmp_path):
    trainer = toy_trainer(tmp_path, objective="joint", max_steps=3)
    trainer.train()
    assert trainer.model.config.classifier_fitted  # the objective has trained it
    ratio = trainer.model.classifier.weight.clone()
    report = trainer.fit_classifier(linear_evaluation=False)
    ratio = trainer.model.classifier.weight / ratio  # calibration scales each row by one number
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3, atol=1e-3)
    assert not report.linear_evaluation and report.protocol is None and not report.refit
    toy_trainer(tmp_path, model=trainer.model, objective="contrastive", max_steps=1).train()
    assert not trainer.model.config.classifier_fitted and trainer.model.config.thresholds is None


@pytest.mark.parametrize("arguments", [{}, {"gradient_cache_chunk_size": 3}, {"momentum": 0.9, "loss": "msc"}])
@pytest.mark.parametrize("objective", ["contrastive", "joint"])
def test_logits_are_made_in_training_where_the_objective_uses_them(objective, arguments, tmp_path):
    trainer = toy_trainer(tmp_path, objective=objective, max_steps=2, **arguments)
    training = []
    trainer.model.classifier.register_forward_hook(lambda *_: training.append(trainer.model.training))
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


@pytest.mark.parametrize(("rate", "heads"), [(5e-5, 1e-3), (1e-5, 2e-4), (1e-4, 1e-3), (0.01, 0.01), (0.0, 0.0)])
def test_heads_learn_faster_than_a_pretrained_encoder(tmp_path, rate, heads):
    trainer = toy_trainer(tmp_path, learning_rate=rate, objective="joint")
    optimizer = trainer.create_optimizer()
    encoder = {id(parameter) for parameter in trainer.model.encoder.parameters()}
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {value for key, value in rates.items() if key in encoder} == {rate}
    of_heads = {value for key, value in rates.items() if key not in encoder}
    assert len(of_heads) == 1 and of_heads.pop() == pytest.approx(heads)


def test_an_unfitted_model_is_not_scored_without_training_data(tmp_path):
    trainer = toy_trainer(tmp_path)
    trainer.train_dataset = None
    with pytest.raises(ValueError, match="train_dataset: "):
        trainer.evaluate()


def test_fewer_examples_than_a_batch_are_one_batch(tmp_path):
    trainer = toy_trainer(tmp_path, train_rows=5, num_train_epochs=3)
    trainer.train()
    assert trainer.state.global_step == 3
    assert [len(batch["labels"]) for batch in trainer.get_train_dataloader()] == [5]
    trainer.train_dataset = toy_dataset(13)  # of more, the incomplete batch is dropped as ever
    assert [len(batch["labels"]) for batch in trainer.get_train_dataloader()] == [8]
