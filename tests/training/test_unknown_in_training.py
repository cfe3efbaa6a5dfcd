"""Training, the classifier and the metrics with unknown labels: they work, and see what is known alone."""

import copy

import datasets
import numpy as np
import pytest
import torch
from toy import NUM_LABELS, toy_dataset, toy_model, toy_trainer

from hf_mlcl.evaluation import compute_metrics, fit_calibration, tune_thresholds
from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES
from hf_mlcl.training.dataset_rows import count_labels, dataset_labels, has_known_labels, without_unlabelled


def with_labels(data, labels, dtype="int8"):
    """The same texts with other labels, as `-100` in an int8 column or NaN in a float column."""
    if dtype == "float32":
        labels = np.where(labels == -100, np.nan, labels.astype(np.float32))
    feature = datasets.List(datasets.Value(dtype), length=NUM_LABELS)
    return data.remove_columns("labels").add_column("labels", labels.tolist(), feature=feature)


def partly_known(rows, seed, dtype="int8"):
    """The toy data with a third of the labels unknown and every sixth example unlabelled."""
    data = toy_dataset(rows, seed=seed)
    labels = np.asarray(data["labels"]).astype(np.int8)
    labels[np.random.default_rng(seed).random(labels.shape) < 0.33] = -100
    labels[::6] = -100
    return with_labels(data, labels, dtype)


@pytest.mark.parametrize("loss", [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES])
def test_every_loss_trains_and_the_classifier_is_fitted(loss, tmp_path):
    trainer = toy_trainer(tmp_path, loss=loss, max_steps=2, train=partly_known(48, 0))
    trainer.eval_dataset = partly_known(30, 1)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(np.isfinite(value) for entry in logged for value in entry.values())
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())
    before = trainer.evaluate()  # by the probe, or the head that the loss has trained
    trainer.fit_classifier()
    after = trainer.evaluate()
    for metrics in (before, after):
        assert all(np.isfinite(value) for value in metrics.values())
    assert trainer.model.config.train_label_counts == (np.array(trainer.train_dataset["labels"]) == 1).sum(0).tolist()


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_features_keep_what_is_unknown_and_the_order_of_the_data(dtype, tmp_path):
    trainer = toy_trainer(tmp_path, per_device_eval_batch_size=7)
    data = partly_known(30, 1, dtype)
    features, labels = trainer.features(data)
    expected = np.asarray(partly_known(30, 1)["labels"])
    assert labels.dtype == np.int8 and (labels == expected).all()
    plain, known = trainer.features(toy_dataset(30, seed=1))
    assert known.dtype == bool and (plain == features).all()
    assert (labels[labels != -100] == known[labels != -100]).all()


def test_metrics_are_those_of_the_known_entries_whatever_is_hidden(tmp_path):
    trainer = toy_trainer(tmp_path)
    trainer.fit_classifier()
    whole, partial = toy_dataset(30, seed=1), partly_known(30, 1)
    prediction, masked = trainer.predict(whole), trainer.predict(partial)
    np.testing.assert_array_equal(prediction.predictions, masked.predictions)
    known = np.asarray(partial["labels"]) != -100
    assert 0 < known.sum() < known.size and not known.any(axis=1).all()
    truth = np.asarray(whole["labels"])
    predicted = 1 / (1 + np.exp(-prediction.predictions.astype(float))) >= trainer.model.config.thresholds
    pairs = truth[known], predicted[known]
    hits = (pairs[0] & pairs[1]).sum()
    assert masked.metrics["test_micro_f1"] == pytest.approx(2 * hits / (pairs[0].sum() + pairs[1].sum()))
    assert masked.metrics["test_hamming_loss"] == pytest.approx((pairs[0] != pairs[1]).mean())
    f1 = [
        2 * (truth & predicted)[rows, label].sum() / max(truth[rows, label].sum() + predicted[rows, label].sum(), 1)
        for label, rows in enumerate(known.T)
    ]
    assert masked.metrics["test_macro_f1"] == pytest.approx(np.mean(f1))
    expected = compute_metrics(
        (prediction.predictions, np.where(known, truth, np.nan)),
        thresholds=trainer.model.config.thresholds,
        train_label_counts=trainer.model.config.train_label_counts,
    )
    assert {name: masked.metrics[f"test_{name}"] for name in expected} == pytest.approx(expected)


def test_unlabelled_examples_change_neither_probe_nor_classifier(tmp_path):
    """Inserted between labelled ones, in training and in validation data."""
    trainers = []
    for inserted in (False, True):
        parts = []
        for rows, seed in ((40, 0), (30, 1)):
            data, unlabelled = partly_known(rows, seed), with_labels(toy_dataset(9, seed=7), np.full((9, 5), -100))
            parts.append(datasets.concatenate_datasets([unlabelled, data, unlabelled]) if inserted else data)
        trainers.append(toy_trainer(tmp_path, model=toy_model(dropout=0.0), train=parts[0]))
        trainers[-1].eval_dataset = parts[1]
    probed = [trainer.evaluate() for trainer in trainers]
    names = [name for name in probed[0] if "f1" in name or "map" in name or name == "eval_ece"]
    assert {name: probed[1][name] for name in names} == pytest.approx({name: probed[0][name] for name in names})
    reports = [trainer.fit_classifier() for trainer in trainers]
    assert reports[1].strengths == reports[0].strengths
    torch.testing.assert_close(trainers[1].model.classifier.weight, trainers[0].model.classifier.weight)
    np.testing.assert_allclose(trainers[1].model.config.thresholds, trainers[0].model.config.thresholds, atol=1e-6)


def test_a_trained_head_is_calibrated_on_known_entries(tmp_path):
    trainer = toy_trainer(tmp_path, objective="joint", max_steps=2)
    trainer.train()
    data, trained = partly_known(30, 1), copy.deepcopy(trainer.model.classifier.state_dict())
    logits, labels = trainer.predict(data).predictions, np.asarray(data["labels"])
    trainer.fit_classifier(eval_dataset=data, linear_evaluation=False)
    calibration = fit_calibration(logits, labels)
    expected = trained["weight"].double() * torch.from_numpy(calibration.scale)[:, None]
    torch.testing.assert_close(trainer.model.classifier.weight.double(), expected, rtol=1e-4, atol=1e-6)
    thresholds = tune_thresholds(1 / (1 + np.exp(-calibration.apply(logits))), labels).per_label
    # A threshold lies between two scores; after two steps these are so close that rounding can exchange them.
    assert trainer.model.config.thresholds == pytest.approx(thresholds, abs=1e-3)


def test_counts_of_a_stream_are_those_of_known_labels(tmp_path):
    data = partly_known(48, 0)
    trainer = toy_trainer(tmp_path, train=data.to_iterable_dataset(), max_steps=1)
    trainer.fit_classifier()
    assert trainer.model.config.train_label_counts == (np.asarray(data["labels"]) == 1).sum(axis=0).tolist()


def test_rows_and_counts_look_at_known_labels():
    class WithLabels(torch.utils.data.Dataset):
        labels = np.array([[1, -100], [-100, -100], [np.nan, 1], [0, 1]])

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return index

    data = WithLabels()
    assert dataset_labels(data).rows().tolist() == [[1, -100], [-100, -100], [-100, 1], [0, 1]]
    assert count_labels(data) == [1, 2]
    assert list(without_unlabelled(data)) == [0, 2, 3] and has_known_labels(data)
    whole = toy_dataset(8)
    assert without_unlabelled(whole) is whole and has_known_labels(whole)
    unlabelled = with_labels(whole, np.full((8, NUM_LABELS), -100, dtype=np.int8))
    assert not has_known_labels(unlabelled) and without_unlabelled(unlabelled) is unlabelled
    other = torch.utils.data.TensorDataset(torch.zeros(2))
    assert without_unlabelled(other) is other and has_known_labels(other)


def test_nothing_known_is_one_line(tmp_path):
    unlabelled = with_labels(toy_dataset(16), np.full((16, NUM_LABELS), -100, dtype=np.int8))
    trainer = toy_trainer(tmp_path)
    with pytest.raises(ValueError, match="validation_labels: expected at least one known"):
        trainer.fit_classifier(eval_dataset=unlabelled)
    with pytest.raises(ValueError, match="labels: expected at least one known"):
        trainer.evaluate(unlabelled)
