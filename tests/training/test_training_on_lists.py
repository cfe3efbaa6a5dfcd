"""Training on label lists equals training on multi-hot rows, and 100,000 labels train."""

import datasets
import numpy as np
import pytest
import torch
from toy import NUM_LABELS, toy_dataset, toy_model, toy_trainer, with_lists
from transformers import AutoConfig, AutoModel

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.data import Labels
from hf_mlcl.evaluation import LinearScores
from hf_mlcl.losses import LabelSets
from hf_mlcl.training.dataset_rows import count_labels, has_known_labels, without_unlabelled
from hf_mlcl.training.step import label_lists

TIMES = ("runtime", "per_second", "preparation_time", "epoch")


def without_some(dataset):
    """The data set with unlabelled examples."""
    rows = [[-100] * NUM_LABELS if n % 5 == 0 else row for n, row in enumerate(np.array(dataset["labels"]).tolist())]
    rows = np.array(rows, dtype=np.int8).tolist()
    feature = datasets.List(datasets.Value("int8"), length=NUM_LABELS)
    return dataset.remove_columns("labels").add_column("labels", rows, feature=feature)


def trainer_of(data, validation, folder, **options):
    trainer = toy_trainer(folder, model=toy_model().double(), train=data, **options)
    trainer.eval_dataset = validation
    return trainer


def close(found, expected, tolerance=1e-6):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if not name.endswith(TIMES):
            assert found[name] == pytest.approx(value, abs=tolerance), name


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
        data, validation = without_some(data), without_some(validation)
    for train, held_out in ((data, validation), (with_lists(data), with_lists(validation))):
        trainer = trainer_of(train, held_out, tmp_path, max_steps=3, **CASES[name])
        trainer.train()
        trained = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        report = trainer.fit_classifier().to_dict()
        results.append((trained, trainer.state.log_history, trainer.evaluate(), report, trainer.model))
    (state, logs, scores, report, model), (same_state, same_logs, same_scores, same_report, same_model) = results
    for key, value in state.items():
        torch.testing.assert_close(same_state[key], value, rtol=1e-6, atol=1e-8, msg=key)
    for log, same_log in zip(logs, same_logs, strict=True):
        close(same_log, log, 1e-5)  # logits of lists are float32, those of rows here float64
    close(same_scores, scores, 1e-5)
    assert same_report.pop("strengths") == report.pop("strengths")
    comparison, same_comparison = report.pop("comparison"), same_report.pop("comparison")
    for when in ("before", "after"):
        close(same_comparison[when], comparison[when], 1e-5)
    close(same_report.pop("validation"), report.pop("validation"), 1e-5)
    close(same_report, report)
    assert same_model.config.train_label_counts == model.config.train_label_counts
    assert same_model.config.thresholds == pytest.approx(model.config.thresholds, abs=1e-5)


def test_a_classifier_is_calibrated_and_predictions_are_made_when_asked_for(tmp_path):
    data, validation = toy_dataset(), toy_dataset(30, seed=1)
    found = []
    for train, held_out in ((data, validation), (with_lists(data), with_lists(validation))):
        trainer = trainer_of(train, held_out, tmp_path, max_steps=2, objective="joint")
        trainer.train()
        trainer.fit_classifier(linear_evaluation=False)
        found.append((trainer.predict(held_out), trainer.core_model.config.thresholds))
    (rows, thresholds), (lists, same_thresholds) = found
    assert isinstance(lists.predictions, LinearScores) and isinstance(lists.label_ids, Labels)
    assert np.asarray(lists.predictions) == pytest.approx(rows.predictions, abs=1e-5)
    assert np.array_equal(np.asarray(lists.label_ids), rows.label_ids == 1)
    assert same_thresholds == pytest.approx(thresholds, abs=1e-5)
    assert lists.predictions.top_k(2)[1].shape == (30, 2)


def test_metrics_of_the_user_get_arrays(tmp_path):
    """And what they make of the logits of a batch is left alone."""
    validation = with_lists(toy_dataset(30, seed=1))
    trainer = trainer_of(with_lists(toy_dataset()), validation, tmp_path)
    seen = []

    def metrics(prediction):
        seen.append((prediction.predictions, prediction.label_ids))
        return {}

    trainer.compute_metrics = metrics
    trainer.evaluate()
    trainer.preprocess_logits_for_metrics = lambda logits, labels: logits.topk(2).indices
    trainer.evaluate()
    (logits, labels), (best, lists) = seen
    assert type(logits) is type(labels) is np.ndarray and logits.shape == labels.shape == (30, NUM_LABELS)
    assert best.shape == (30, 2) and set(lists[0].tolist()) - {-1, -100} == set(np.flatnonzero(labels[0]))


def test_features_in_a_file_keep_the_order_of_lists(tmp_path):
    data = with_lists(without_some(toy_dataset()))
    for memory in (4.0, 0.0):
        trainer = trainer_of(data, None, tmp_path, max_feature_memory=memory, per_device_eval_batch_size=4)
        features, lists = trainer.features(data)
        assert isinstance(features, np.memmap) == (memory == 0)
        assert [None if ids is None else ids.tolist() for ids in map(lists.ids, range(48))] == data["label_ids"][:]


def test_all_absent_prototypes_sampled_is_the_full_loss(tmp_path):
    """With rows and with lists; and fewer of them are the same ones in both."""
    states = {}
    for size in (None, NUM_LABELS, 1):
        for lists in (False, True):
            data = with_lists(toy_dataset()) if lists else toy_dataset()
            options = {"prototype_sample_size": size, "per_device_train_batch_size": 2, "max_steps": 3}
            trainer = trainer_of(data, None, tmp_path, **options)
            trainer.train()
            states[size, lists] = trainer.model.state_dict()
    for key, expected in states[None, False].items():
        for case in ((None, True), (NUM_LABELS, False), (NUM_LABELS, True)):
            torch.testing.assert_close(states[case][key], expected, rtol=1e-6, atol=1e-8, msg=f"{case} {key}")
        torch.testing.assert_close(states[1, False][key], states[1, True][key], rtol=1e-6, atol=1e-8)
    assert not torch.allclose(states[1, True]["prototypes.weight"], states[None, True]["prototypes.weight"])


@pytest.mark.parametrize(("options", "message"), [
    ({"prototype_sample_size": 0}, "prototype_sample_size: expected an integer of at least 1, got 0"),
    (
        {"prototype_sample_size": 2, "loss": "supcon_any"},
        "prototype_sample_size=2 .* 'supcon_any', which has no prototypes",
    ),
    (
        {"prototype_sample_size": 2, "loss": "bce"},
        "prototype_sample_size=2 .* objective 'classification'",
    ),
])  # fmt: skip
def test_a_sample_without_prototypes_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        toy_trainer(tmp_path, **options)


def test_unlabelled_examples_of_lists_are_known_as_such():
    data = datasets.Dataset.from_dict({"label_ids": [[1], None, [], [1, 0]]})
    assert count_labels(data, 4) == [1, 2, 0, 0] and count_labels(data) == [1, 2]
    assert without_unlabelled(data)["label_ids"][:] == [[1], [], [1, 0]] and has_known_labels(data)
    feature = datasets.Features({"label_ids": datasets.List(datasets.Value("int32"))})
    assert not has_known_labels(datasets.Dataset.from_dict({"label_ids": [None, None]}, features=feature))


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


def test_another_number_of_labels_is_named(tmp_path):
    data = toy_dataset(8).remove_columns("labels").add_column("label_ids", [[NUM_LABELS]] * 8)
    with pytest.raises(ValueError, match=f"expected label ids from 0 to {NUM_LABELS - 1}, got {NUM_LABELS}"):
        toy_trainer(tmp_path, model=toy_model(), train=data, max_steps=1).train()
