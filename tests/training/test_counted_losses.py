"""Losses that know the counts of the training set: who counts, and what stays when a model is saved or trained on."""

import numpy as np
import pytest
import torch
from toy import NUM_LABELS, losses, same, toy_dataset, toy_model, toy_trainer, with_lists

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.losses import CLASSIFICATION_LOSSES, build_loss, register_loss

BATCH = {"input_ids": torch.tensor([[1, 10, 20], [1, 11, 20]]), "attention_mask": torch.ones(2, 3).long()}
LABELS = torch.tensor([[1, 0, 1, 0, 0], [1, 1, 0, 0, 0]])


def partly_missing(rows=48):
    """Texts of which some labels are missing, and the labels."""
    data = toy_dataset(rows)
    labels = np.array(data["labels"], dtype=np.int8)
    labels[np.random.default_rng(0).random(labels.shape) < 0.3] = -100
    labels[5] = -100
    return data.remove_columns("labels").add_column("labels", labels.tolist()), labels


def counts_of(labels):
    """The counts by loops: known positives, known labels."""
    columns = [[value for value in column if value != -100] for column in labels.T.tolist()]
    return {"label_counts": [sum(column) for column in columns], "num_examples": [len(column) for column in columns]}


@pytest.mark.parametrize("objective", [None, "joint"])
def test_the_trainer_counts_what_is_known_and_a_saved_model_keeps_it(objective, tmp_path):
    data, labels = partly_missing()
    given = {"loss": "db", "loss_kwargs": {"mu": 0.3}}
    if objective == "joint":
        given = {"objective": "joint", "classification_loss": "db", "classification_loss_kwargs": {"mu": 0.3}}
    trainer = toy_trainer(tmp_path, train=data, **given)
    expected = build_loss("db", mu=0.3, **counts_of(labels))
    logits = torch.linspace(-2, 2, 2 * NUM_LABELS).reshape(2, -1)
    assert trainer.model.classification_loss(logits, LABELS) == expected(logits, LABELS)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    model = MLCLForSequenceClassification.from_pretrained(tmp_path / "model")
    assert model.classification_loss(logits, LABELS) == expected(logits, LABELS)
    assert model.config.classification_loss_parameters == {"mu": 0.3}  # the counts are no setting
    toy_trainer(tmp_path, model=model, train=toy_dataset(16))  # of other examples
    other = build_loss("db", mu=0.3, label_counts=np.sum(toy_dataset(16)["labels"], 0), num_examples=16)
    assert model.classification_loss(logits, LABELS) == other(logits, LABELS)


def test_lists_of_labels_are_counted_alike(tmp_path):
    rows, lists = (
        toy_trainer(tmp_path, model=toy_model(dropout=0.0), train=data, loss="db")
        for data in (toy_dataset(), with_lists(toy_dataset()))
    )
    for trainer in (rows, lists):
        trainer.train()
    assert rows.model.config.num_train_examples == lists.model.config.num_train_examples == 48
    assert losses(rows) == pytest.approx(losses(lists))


@pytest.mark.parametrize("loss", ["db", "cb_focal", "two_way"])
def test_a_resumed_run_and_a_cached_gradient_give_the_same(loss, tmp_path):
    whole = toy_trainer(tmp_path, loss=loss, save_strategy="steps", save_steps=3)
    whole.train()
    resumed = toy_trainer(tmp_path, loss=loss)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert same(dict(whole.model.state_dict()), dict(resumed.model.state_dict()))
    plain, cached = (
        toy_trainer(tmp_path, model=toy_model(dropout=0.0), loss=loss, gradient_cache_chunk_size=chunk)
        for chunk in (None, 3)
    )
    for trainer in (plain, cached):
        trainer.train()
    assert losses(plain) == pytest.approx(losses(cached), rel=1e-4)


def test_of_a_stream_the_counts_are_given(tmp_path):
    stream = toy_dataset().to_iterable_dataset()
    with pytest.raises(ValueError, match="label_counts"):
        toy_trainer(tmp_path, train=stream, loss="db", max_steps=2).train()
    counts = counts_of(np.array(toy_dataset()["labels"], dtype=int))
    trainer = toy_trainer(tmp_path, train=stream, loss="db", max_steps=2, loss_kwargs=counts)
    trainer.train()
    rows = toy_trainer(tmp_path, loss="db", loss_kwargs=counts)
    assert trainer.model.classification_loss.counts.positives.equal(rows.model.classification_loss.counts.positives)


@pytest.mark.parametrize("objective", [None, "joint"])
def test_the_classifier_starts_at_the_frequencies_of_the_labels(objective, tmp_path):
    data, labels = partly_missing()
    given = {"loss": "bce", "loss_kwargs": {"prior_bias": True}}
    if objective == "joint":
        given = {
            "objective": "joint",
            "classification_loss": "bce",
            "classification_loss_kwargs": {"prior_bias": True},
        }
    frozen = {"learning_rate": 1e-12, "save_strategy": "steps", "save_steps": 3, "train": data}  # weights stay
    trainer = toy_trainer(tmp_path, **given, **frozen)
    assert not trainer.model.classifier.bias.any()  # before training
    trainer.train()
    frequencies = np.array([(column == 1).sum() / (column != -100).sum() for column in labels.T])
    assert trainer.model.classifier.bias.sigmoid().tolist() == pytest.approx(frequencies, abs=1e-5)


def test_a_trained_classifier_keeps_its_bias(tmp_path):
    prior = {"loss": "bce", "loss_kwargs": {"prior_bias": True}}
    whole = toy_trainer(tmp_path, **prior, save_strategy="steps", save_steps=3)
    whole.train()
    resumed = toy_trainer(tmp_path, **prior)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert same(dict(whole.model.state_dict()), dict(resumed.model.state_dict()))
    whole.save_model(str(tmp_path / "model"))
    model = MLCLForSequenceClassification.from_pretrained(tmp_path / "model")
    assert model.config.classification_loss_parameters == {"prior_bias": True}
    assert model.classifier.bias.equal(whole.model.classifier.bias)
    toy_trainer(tmp_path, model=model, learning_rate=1e-12).train()  # goes on, with the same loss
    torch.testing.assert_close(model.classifier.bias, whole.model.classifier.bias)


def test_a_classifier_on_a_contrastive_encoder_starts_at_the_frequencies_too(tmp_path):
    trainer = toy_trainer(tmp_path)
    trainer.train()
    trainer = toy_trainer(
        tmp_path, model=trainer.model, loss="bce", loss_kwargs={"prior_bias": True}, learning_rate=1e-12
    )
    trainer.train()
    frequencies = np.mean(toy_dataset()["labels"], axis=0)
    assert trainer.model.classifier.bias.sigmoid().tolist() == pytest.approx(frequencies, abs=1e-5)


def test_the_prior_of_a_stream_is_given(tmp_path):
    stream = toy_dataset().to_iterable_dataset()
    trainer = toy_trainer(tmp_path, train=stream, loss="bce", max_steps=2, loss_kwargs={"prior_bias": True})
    with pytest.raises(ValueError, match="label_counts"):
        trainer.train()
    given = {"prior_bias": True, "label_counts": [1] * 4, "num_examples": 10}
    with pytest.raises(ValueError, match="label_counts: .*5"):
        toy_trainer(tmp_path, train=stream, loss="bce", max_steps=2, loss_kwargs=given).train()


def test_added_labels_are_counted_with_the_others(tmp_path):
    trainer = toy_trainer(tmp_path, loss="db", train=partly_missing()[0])
    model = trainer.model
    model.add_labels(["new"])
    assert len(model.config.num_train_examples) == len(model.config.train_label_counts) == NUM_LABELS + 1
    model.build_losses()
    labels = torch.nn.functional.pad(LABELS, (0, 1))
    assert model.eval()(**BATCH, labels=labels).loss.isfinite()


def test_a_loss_of_ones_own_may_ask_for_the_counts(tmp_path):
    class Rare(torch.nn.Module):
        def __init__(self, label_counts=None):
            super().__init__()
            self.weights = 1 / torch.tensor(label_counts or [1.0])

        def forward(self, logits, labels):
            return (self.weights * (logits - labels).square()).mean()

    try:
        register_loss("rare", Rare)
        trainer = toy_trainer(tmp_path, loss="rare")
        assert trainer.model.classification_loss.weights.shape == (NUM_LABELS,)
    finally:
        CLASSIFICATION_LOSSES.pop("rare")
