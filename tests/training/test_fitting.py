"""The classifier in the Trainer: held-out scores of the validation examples, protocols, and the encoder as it is."""

import json

import numpy as np
import pytest
import torch
from toy import NUM_LABELS, same, toy_dataset, toy_model, toy_trainer, with_lists

from hf_mlcl import MLCLForSequenceClassification, compute_metrics
from hf_mlcl.evaluation import fit_classifier, fit_linear_evaluation
from hf_mlcl.training import trainer as trainer_module
from hf_mlcl.training.classifier import compare_encoders, fit_probe


def test_validation_examples_are_measured_by_classifiers_that_have_not_seen_them(tmp_path):
    trainer = toy_trainer(tmp_path, train_rows=64)
    report = trainer.fit_classifier()
    assert report.refit and report.protocol == "logistic_regression" and report.thresholds == "balanced"
    json.dumps(report.to_dict())
    assert trainer.model.config.classifier_refitted
    own = compute_metrics(
        (trainer.predict(trainer.eval_dataset).predictions, np.asarray(trainer.eval_dataset["labels"])),
        thresholds=trainer.model.config.thresholds,
    )
    metrics = trainer.evaluate()
    for name, value in report.validation.items():
        assert metrics[f"eval_{name}"] == value
    assert own["map"] > metrics["eval_map"]  # 30 examples of noise: those fitted on are ranked better
    assert trainer.evaluate(trainer.eval_dataset)["eval_map"] == metrics["eval_map"]
    assert trainer.evaluate({"a": trainer.eval_dataset})["eval_a_map"] == metrics["eval_map"]
    assert trainer.predict(trainer.eval_dataset).metrics["test_map"] == metrics["eval_map"]
    copy = toy_dataset(30, seed=1)  # other objects are other examples
    assert trainer.evaluate(copy)["eval_map"] == pytest.approx(own["map"])
    trainer.fit_classifier(refit=False)
    assert not trainer.model.config.classifier_refitted and trainer.held_out_scores(trainer.eval_dataset) is None


def test_held_out_scores_reach_a_function_of_the_user(tmp_path, log):
    trainer = toy_trainer(tmp_path, train_rows=64)
    trainer.compute_metrics = lambda prediction: {"best": float(np.max(prediction.predictions))}
    trainer.fit_classifier()
    held_out = trainer.held_out_scores(trainer.eval_dataset)
    assert trainer.evaluate()["eval_best"] == pytest.approx(np.asarray(held_out.logits).max())
    trainer.preprocess_logits_for_metrics = lambda logits, labels: logits[:, :1]
    trainer.evaluate()
    assert "too good" in log.text and "refit=False" in log.text


def test_held_out_scores_are_those_of_the_classifier_that_was_fitted(tmp_path, log):
    trainer = toy_trainer(tmp_path)
    trainer.fit_classifier()
    kept = trainer.evaluate()["eval_map"]
    with torch.no_grad():
        trainer.model.classifier.weight.mul_(-1)
    assert trainer.held_out_scores(trainer.eval_dataset) is None
    assert trainer.evaluate()["eval_map"] < kept / 2 and "too good" in log.text


def test_a_loaded_model_says_that_its_validation_scores_are_too_good(tmp_path, log):
    trainer = toy_trainer(tmp_path, train_rows=64)
    trainer.fit_classifier()
    trainer.save_model()
    loaded = toy_trainer(tmp_path / "again", model=MLCLForSequenceClassification.from_pretrained(tmp_path))
    loaded.evaluate()
    assert "fitted on its training and validation examples" in log.text
    loaded.create_model_card()
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == {}


def test_inputs_of_examples_are_not_mixed_with_held_out_scores(tmp_path, log):
    trainer = toy_trainer(tmp_path, include_for_metrics=["inputs"])
    rows = []
    trainer.compute_metrics = lambda prediction: rows.append(prediction) or {}
    trainer.fit_classifier()
    trainer.evaluate()
    assert len(rows[0].predictions) == len(rows[0].inputs) and "too good" in log.text


def test_groups_of_like_length_leave_features_in_the_order_of_the_data(tmp_path):
    trainer = toy_trainer(tmp_path, learning_rate=0.0, max_steps=1, train_sampling_strategy="group_by_length")
    plain = toy_trainer(tmp_path)
    np.testing.assert_allclose(*(one.features(one.eval_dataset)[0] for one in (trainer, plain)), atol=1e-5)
    trainer.train()
    comparison = trainer.fit_classifier().comparison
    assert comparison["after"] == pytest.approx(comparison["before"])


def test_label_lists_have_held_out_scores_too(tmp_path):
    rows, lists = toy_trainer(tmp_path), toy_trainer(tmp_path, train=with_lists(toy_dataset(48)))
    lists.eval_dataset = with_lists(lists.eval_dataset)
    for trainer in (rows, lists):
        trainer.fit_classifier()
    expected, found = rows.evaluate(), lists.evaluate()
    for name in ("eval_micro_f1", "eval_macro_f1", "eval_map", "eval_lrap", "eval_ece"):
        assert found[name] == pytest.approx(expected[name], abs=1e-6), name


def test_the_study_s_protocol_is_its_linear_evaluation(tmp_path):
    trainer = toy_trainer(tmp_path, seed=3)
    train, validation = trainer.features(trainer.train_dataset), trainer.features(trainer.eval_dataset)
    report = trainer.fit_classifier(protocol="study")
    expected = fit_linear_evaluation(*train, *validation, seed=3, progress=False)
    direction = trainer.model.classifier.weight.detach().numpy()
    scale = np.linalg.norm(direction, axis=1) / np.linalg.norm(expected.weight, axis=1)
    np.testing.assert_allclose(direction, expected.weight * scale[:, None], rtol=1e-4, atol=1e-6)
    assert report.protocol == "study" and sum(report.grid_points.values()) == NUM_LABELS and not report.refit
    assert report.averaging_gap == pytest.approx(expected.averaging_gap)
    assert not trainer.model.config.classifier_refitted


def test_rules_of_the_thresholds(tmp_path):
    trainer = toy_trainer(tmp_path)
    trainer.fit_classifier(thresholds="micro")
    assert len(set(trainer.model.config.thresholds)) == 1
    trainer.fit_classifier(thresholds="macro")
    assert len(set(trainer.model.config.thresholds)) > 1
    for name, value in (("thresholds", "f1"), ("protocol", "grid")):
        with pytest.raises(ValueError, match=f"{name}: .*{value}"):
            trainer.fit_classifier(**{name: value})


@pytest.mark.parametrize("objective", ["contrastive", "classification"])
def test_no_epochs_keep_the_encoder_and_fit_its_classifier(tmp_path, objective):
    trainer = toy_trainer(tmp_path, num_train_epochs=0, objective=objective, train_rows=5)  # less than a batch
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    output = trainer.train()
    assert output.global_step == 0 and not trainer.model.config.classifier_fitted and not trainer.model.training
    trainer.fit_classifier()
    after = trainer.model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed == {"classifier.weight", "classifier.bias"}
    trainer.save_model()
    assert MLCLForSequenceClassification.from_pretrained(tmp_path).config.classifier_fitted
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_an_untrained_model_s_card_says_so_and_a_trained_one_s_does_not(tmp_path):
    trainer = toy_trainer(tmp_path, max_steps=1, save_strategy="steps", save_steps=1)
    trainer.fit_classifier()
    trainer.save_model()
    trainer.create_model_card()
    assert "the encoder as it is" in (tmp_path / "README.md").read_text()
    trainer.train()
    trainer.save_model()
    model = MLCLForSequenceClassification.from_pretrained(tmp_path)
    again = toy_trainer(tmp_path, model=model, num_train_epochs=0)
    with pytest.raises(ValueError, match="resume_from_checkpoint: .*num_train_epochs 0"):
        again.train(resume_from_checkpoint=True)
    again.train()
    again.fit_classifier()
    again.save_model()
    again.create_model_card()
    assert "contrastive loss `reg`" in (tmp_path / "README.md").read_text()


def test_a_training_that_made_the_encoder_worse_is_told(tmp_path, log):
    trainer = toy_trainer(tmp_path, train_rows=96, learning_rate=1e-3, max_steps=3)
    trainer.train()
    with torch.no_grad():  # as if it had diverged
        for parameter in trainer.model.encoder.parameters():
            parameter.mul_(0).add_(0.01)
    report = trainer.fit_classifier()
    assert report.comparison["after"]["map"] < report.comparison["before"]["map"]
    assert report.comparison["worse"] and "Training did not help" in log.text
    trainer.create_model_card()
    assert "Training did not help; " in (tmp_path / "README.md").read_text()


def test_a_training_that_helped_is_told_in_the_card_alone(tmp_path, log):
    trainer = toy_trainer(tmp_path, max_steps=3)
    with torch.no_grad():  # an encoder in which nothing is left of the tokens
        trainer.model.encoder.embeddings.word_embeddings.weight.mul_(1e-3)
    trainer.train()
    trainer.model.load_state_dict(toy_model().state_dict())
    report = trainer.fit_classifier()
    assert report.comparison["after"]["map"] > report.comparison["before"]["map"] + 0.1
    assert not report.comparison["worse"] and "did not help" not in log.text
    trainer.create_model_card()
    assert "The encoder before and after training: before, Micro-F1 " in (tmp_path / "README.md").read_text()


def test_the_encoder_is_compared_on_the_same_examples(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, "PROBE_EXAMPLES", 20)
    trainer = toy_trainer(tmp_path, learning_rate=0.0, max_steps=1)
    trainer.train()
    comparison = trainer.fit_classifier().comparison
    assert (comparison["train"], comparison["validation"]) == (20, 20)
    assert comparison["after"] == pytest.approx(comparison["before"])


def test_lists_without_the_last_label_are_compared(tmp_path):
    data = toy_dataset(48)
    labels = np.asarray(data["labels"])
    labels[:, -1] = False
    lists = with_lists(data.remove_columns("labels").add_column("labels", labels.tolist()))
    trainer = toy_trainer(tmp_path, train=lists, max_steps=1)
    trainer.eval_dataset = lists
    trainer.train()
    assert trainer.fit_classifier().comparison is not None


@pytest.mark.parametrize("change", ["other data", "nothing known", "nan"])
def test_what_cannot_be_compared_is_not(tmp_path, change):
    trainer = toy_trainer(tmp_path, max_steps=1)
    if change == "nothing known":
        unknown = [[-100] * NUM_LABELS] * 30
        trainer.eval_dataset = toy_dataset(30).remove_columns("labels").add_column("labels", unknown)
    if change == "nan":
        with torch.no_grad():
            trainer.model.encoder.embeddings.word_embeddings.weight[10] = torch.nan
        trainer._encoder_before()
        assert trainer._encoder_before() is None
        return
    trainer.train()
    assert (trainer._before is None) == (change == "nothing known")
    trainer.eval_dataset = toy_dataset(30, seed=5)
    assert trainer.fit_classifier().comparison is None


def test_measuring_the_encoder_before_training_changes_no_training(tmp_path, monkeypatch):
    trained = []
    for measured in (True, False):
        if not measured:
            monkeypatch.setattr(trainer_module.MLCLTrainer, "_encoder_before", lambda self: None)
        trainer = toy_trainer(tmp_path, max_steps=3)
        trainer.train()
        assert (trainer._before is None) != measured
        trained.append(dict(trainer.model.state_dict()))
    assert same(*trained)


@pytest.mark.parametrize(("macro_f1", "map_"), [(0.2, 0.4), (0.35, 0.45), (0.2, 0.55)])
def test_an_encoder_is_worse_by_the_mean_of_both_scores(macro_f1, map_):
    before, after = {"macro_f1": 0.3, "map": 0.4}, {"macro_f1": macro_f1, "map": map_}
    assert compare_encoders(before, after, (10, 5))["worse"] == (macro_f1 + map_ < 0.7)


def test_the_probe_leaves_a_quarter_of_the_examples_to_choose_by():
    generator = np.random.default_rng(0)
    features, labels = generator.standard_normal((41, 6)).astype(np.float32), generator.random((41, 3)) < 0.4
    probe = fit_probe(features, labels, "cpu")
    held = np.arange(41) % 4 == 3
    expected = fit_classifier(features[~held], labels[~held], features[held], labels[held])
    np.testing.assert_array_equal(probe.weight, expected.weight)
    assert np.isfinite(fit_probe(features[:2], labels[:2], "cpu").weight).all()
    with pytest.raises(ValueError, match="train_dataset: "):
        fit_probe(features[:1], labels[:1], "cpu")
