"""Labels as lists train as rows do, 100,000 of them, too; missing labels are left out of training, fits and scores."""

import itertools

import datasets
import numpy as np
import pytest
import torch
from toy import NUM_LABELS, TIMES, toy_dataset, toy_model, toy_trainer, with_lists
from transformers import AutoConfig, AutoModel

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.evaluation import compute_metrics
from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES, LabelSets
from hf_mlcl.training.dataset_rows import count_labels, dataset_labels, has_known_labels, without_unlabelled
from hf_mlcl.training.step import label_lists


def with_labels(data, labels, dtype="int8"):
    """The same texts with other labels, as `-100` in an int8 column or NaN in a float column."""
    if dtype == "float32":
        labels = np.where(labels == -100, np.nan, labels.astype(np.float32))
    feature = datasets.List(datasets.Value(dtype), length=NUM_LABELS)
    return data.remove_columns("labels").add_column("labels", labels.tolist(), feature=feature)


def masked(data, share=0.33, every=6, dtype="int8"):
    """The data with a share of the labels missing, and those of every so many examples."""
    labels = np.asarray(data["labels"]).astype(np.int8)
    labels[np.random.default_rng(len(labels)).random(labels.shape) < share] = -100
    labels[::every] = -100
    return with_labels(data, labels, dtype)


def trainer_of(data, validation, folder, **options):
    return toy_trainer(folder, train=data, validation=validation, **{"model": toy_model().double(), **options})


def close(found, expected, tolerance=1e-5):
    """Whether nested numbers are nearly the same, but for times."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        return all(
            close(found[name], value, tolerance)
            for name, value in expected.items()
            if not name.endswith((*TIMES, "epoch"))
        )
    return found == (pytest.approx(expected, abs=tolerance) if isinstance(expected, float) else expected)


# --- lists ---


def test_rows_are_those_of_the_ids():
    ids = torch.tensor([[2, 0, -1], [-1, -1, -1], [-100, -100, -100], [1, -1, -1], [1, -100, -100]])
    expected = [[1, 0, 1, 0], [0, 0, 0, 0], [-100] * 4, [0, 1, 0, 0], [0, 1, 0, 0]]
    rows = LabelSets.from_ids(ids, 4).rows()
    assert rows.tolist() == expected and LabelSets.from_ids(label_lists(rows), 4).rows().equal(rows)
    rows[2] = torch.nan
    assert label_lists(rows).tolist() == [[0, 2], [-1, -1], [-100, -100], [1, -1], [1, -1]]
    rows[0, 1] = -100
    with pytest.raises(ValueError, match="prototype_sample_size"):
        label_lists(rows)


CASES = {
    "contrastive": {"eval_strategy": "steps", "eval_steps": 2},
    "proto": {"loss": "proto"},
    "joint": {"objective": "joint", "label_aware_batches": True},
    "classification": {"loss": "bce"},
    "queue": {"queue_size": 20, "momentum": 0.5, "loss": "msc"},
    "cached": {"gradient_cache_chunk_size": 3, "objective": "joint"},
    "views": {"views": 2, "loss": "supcon_any"},
}


@pytest.mark.parametrize("unlabelled", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_lists_train_as_rows_do(name, unlabelled, tmp_path):
    results = []
    data, validation = toy_dataset(), toy_dataset(30, seed=1)
    if unlabelled:
        data, validation = masked(data, share=0, every=5), masked(validation, share=0, every=5)
    for form in (lambda rows: rows, with_lists):
        trainer = trainer_of(form(data), form(validation), tmp_path, max_steps=3, **CASES[name])
        trainer.train()
        trained = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        report, config = trainer.fit_classifier().to_dict(), trainer.model.config
        numbers = [*trainer.state.log_history, trainer.evaluate(), report, {"counts": config.train_label_counts}]
        results.append((trained, numbers, config.thresholds))
    (state, numbers, thresholds), (same_state, same_numbers, same_thresholds) = results
    torch.testing.assert_close(same_state, state, rtol=1e-6, atol=1e-8)
    for found, expected in zip(same_numbers, numbers, strict=True):
        assert close(found, expected)
    assert same_thresholds == pytest.approx(thresholds, abs=1e-5)


def test_metrics_of_the_user_get_arrays(tmp_path):
    """And what they make of the logits of a batch is left alone."""
    trainer, seen = trainer_of(with_lists(toy_dataset()), with_lists(toy_dataset(30, seed=1)), tmp_path), []
    trainer.compute_metrics = lambda prediction: seen.append((prediction.predictions, prediction.label_ids)) or {}
    trainer.evaluate()
    trainer.preprocess_logits_for_metrics = lambda logits, labels: logits.topk(2).indices
    trainer.evaluate()
    (logits, labels), (best, lists) = seen
    assert type(logits) is type(labels) is np.ndarray and logits.shape == labels.shape == (30, NUM_LABELS)
    assert best.shape == (30, 2) and set(lists[0].tolist()) - {-1, -100} == set(np.flatnonzero(labels[0]))


def test_a_sample_of_all_absent_labels_is_the_whole_objective(tmp_path):
    """With rows and with lists; and fewer of them are the same ones in both."""
    states = {}
    for size, form in itertools.product((None, NUM_LABELS, 1), (lambda rows: rows, with_lists)):
        options = {"prototype_sample_size": size, "per_device_train_batch_size": 2, "max_steps": 3}
        trainer = trainer_of(form(toy_dataset()), None, tmp_path, **options)
        trainer.train()
        states.setdefault(size == 1, []).append(dict(trainer.model.state_dict()))
    for expected, *others in states.values():
        for other in others:
            torch.testing.assert_close(other, expected, rtol=1e-6, atol=1e-8)
    whole, sampled = (states[sampled][0]["prototypes.weight"] for sampled in (False, True))
    assert not torch.allclose(whole, sampled)


def test_a_hundred_thousand_labels_train(tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    torch.manual_seed(0)
    encoder = AutoModel.from_config(AutoConfig.for_model("bert", **sizes, vocab_size=40, pad_token_id=0))
    model = MLCLForSequenceClassification.from_encoder(encoder, labels=100_000, projection_dim=8)
    rng = np.random.default_rng(0)
    ids = np.where(rng.random((16, 10)) < 0.3, rng.integers(0, 9, (16, 10)), rng.integers(0, 100_000, (16, 10)))
    data = toy_dataset(16).remove_columns("labels").add_column("label_ids", [sorted(set(row)) for row in ids.tolist()])
    before = model.prototypes.weight.detach().clone()
    options = {"label_aware_batches": True, "loss": "reg", "prototype_sample_size": 100}
    trainer = toy_trainer(tmp_path, model=model, train=data, max_steps=2, **options)
    trainer.train()
    moved = (model.prototypes.weight != before).any(1)
    assert moved[np.unique(ids)].all()
    assert sum(model.config.train_label_counts) == sum(len(set(row)) for row in ids.tolist())
    assert all(np.isfinite(log["loss"]) for log in trainer.state.log_history if "loss" in log)


# --- missing labels ---


@pytest.mark.parametrize("loss", [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES])
def test_every_loss_trains_and_the_classifier_is_fitted(loss, tmp_path):
    train, validation = masked(toy_dataset()), masked(toy_dataset(30, seed=1))
    trainer = trainer_of(train, validation, tmp_path, model=toy_model(), loss=loss, max_steps=2)
    trainer.train()
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    before = trainer.evaluate()  # by the probe, or the head that the loss has trained
    trainer.fit_classifier()
    for metrics in (*logged, before, trainer.evaluate()):
        assert all(np.isfinite(value) for value in metrics.values())
    assert trainer.model.config.train_label_counts == (np.array(train["labels"]) == 1).sum(0).tolist()


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_features_keep_what_is_missing_and_the_order_of_the_data(dtype, tmp_path):
    trainer, data = toy_trainer(tmp_path, per_device_eval_batch_size=7), toy_dataset(30, seed=1)
    features, labels = trainer.features(masked(data, dtype=dtype))
    assert labels.dtype == np.int8 and (labels == np.asarray(masked(data)["labels"])).all()
    plain, known = trainer.features(data)
    assert known.dtype == bool and (plain == features).all()
    for memory in (4.0, 0.0):  # and so in a file, with lists
        trainer = toy_trainer(tmp_path, max_feature_memory=memory, per_device_eval_batch_size=4)
        features, lists = trainer.features(with_lists(masked(data, share=0)))
        assert features == pytest.approx(plain, abs=1e-5)
        assert [row.tolist() for row in np.asarray(lists)[1:6]] == [row.tolist() for row in known[1:6]]


def test_metrics_are_those_of_the_known_entries_whatever_is_hidden(tmp_path):
    trainer, whole = toy_trainer(tmp_path), toy_dataset(30, seed=1)
    trainer.fit_classifier()
    partial = masked(whole)
    prediction, hidden = trainer.predict(whole), trainer.predict(partial)
    np.testing.assert_array_equal(prediction.predictions, hidden.predictions)
    config, known = trainer.model.config, np.asarray(partial["labels"]) != -100
    truth = np.asarray(whole["labels"])
    expected = compute_metrics(
        (prediction.predictions, np.where(known, truth, np.nan)),
        thresholds=config.thresholds,
        train_label_counts=config.train_label_counts,
    )
    assert {name: hidden.metrics[f"test_{name}"] for name in expected} == pytest.approx(expected)
    predicted = 1 / (1 + np.exp(-prediction.predictions.astype(float))) >= config.thresholds
    assert expected["hamming_loss"] == pytest.approx((truth != predicted)[known].mean())


@pytest.mark.parametrize("objective", ["contrastive", "classification"])
def test_unlabelled_examples_change_neither_probe_nor_classifier(objective, tmp_path):
    """Inserted between labelled ones, in training and in validation data; nor the calibration of a trained head."""
    trainers, unlabelled = [], with_labels(toy_dataset(9, seed=7), np.full((9, 5), -100))
    for inserted in (False, True):
        parts = [masked(toy_dataset(rows, seed)) for rows, seed in ((40, 0), (30, 1))]
        if inserted:
            parts = [datasets.concatenate_datasets([unlabelled, part, unlabelled]) for part in parts]
        model = toy_model(dropout=0.0, classifier_fitted=objective == "classification")
        trainers.append(trainer_of(*parts, tmp_path, model=model, objective=objective))
    probed = [trainer.evaluate() for trainer in trainers]
    names = [name for name in probed[0] if "f1" in name or "map" in name or name == "eval_ece"]
    assert {name: probed[1][name] for name in names} == pytest.approx({name: probed[0][name] for name in names})
    reports = [trainer.fit_classifier(linear_evaluation=objective == "contrastive") for trainer in trainers]
    assert close(reports[1].to_dict(), reports[0].to_dict())
    torch.testing.assert_close(trainers[1].model.classifier.weight, trainers[0].model.classifier.weight)
    np.testing.assert_allclose(trainers[1].model.config.thresholds, trainers[0].model.config.thresholds, atol=1e-6)


def test_rows_and_counts_look_at_known_labels():
    class WithLabels(torch.utils.data.Dataset):
        labels = np.array([[1, -100], [-100, -100], [np.nan, 1], [0, 1]])

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return index

    data = WithLabels()
    assert dataset_labels(data).rows().tolist() == [[1, -100], [-100, -100], [-100, 1], [0, 1]]
    assert count_labels(data) == ([1, 2], [2, 2])
    assert list(without_unlabelled(data)) == [0, 2, 3] and has_known_labels(data)
    whole = toy_dataset(8)
    assert without_unlabelled(whole) is whole and has_known_labels(whole)
    unlabelled = with_labels(whole, np.full((8, NUM_LABELS), -100, dtype=np.int8))
    assert not has_known_labels(unlabelled) and without_unlabelled(unlabelled) is unlabelled
    other = torch.utils.data.TensorDataset(torch.zeros(2))
    assert without_unlabelled(other) is other and has_known_labels(other)
    lists = datasets.Dataset.from_dict({"label_ids": [[1], None, [], [1, 0]]})
    assert count_labels(lists, 4) == ([1, 2, 0, 0], 3) and count_labels(lists) == ([1, 2], 3)
    assert without_unlabelled(lists)["label_ids"][:] == [[1], [], [1, 0]] and has_known_labels(lists)
    feature = datasets.Features({"label_ids": datasets.List(datasets.Value("int32"))})
    assert not has_known_labels(datasets.Dataset.from_dict({"label_ids": [None, None]}, features=feature))


def test_nothing_known_is_one_line(tmp_path):
    unlabelled, trainer = masked(toy_dataset(16), share=1), toy_trainer(tmp_path)
    for ask in (lambda: trainer.fit_classifier(eval_dataset=unlabelled), lambda: trainer.evaluate(unlabelled)):
        with pytest.raises(ValueError, match="labels: .*known"):
            ask()
