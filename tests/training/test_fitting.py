"""The classifier in the Trainer: held-out scores of the validation examples, protocols, and the encoder as it is."""

import json

import numpy as np
import pytest
import torch
from toy import COLLATE, NUM_LABELS, Tokenizer, same, toy_dataset, toy_model, toy_trainer, with_lists

from hf_mlcl import MLCLForSequenceClassification, compute_metrics
from hf_mlcl.data.toy import build_word_tokenizer
from hf_mlcl.evaluation import fit_classifier
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
    assert not trainer.model.config.classifier_refitted


def test_held_out_scores_reach_a_function_of_the_user(tmp_path, log):
    trainer = toy_trainer(tmp_path, train_rows=64)
    trainer.compute_metrics = lambda prediction: {"best": float(np.max(prediction.predictions))}
    trainer.fit_classifier()
    held_out = trainer.held_out_scores(trainer.eval_dataset)
    assert trainer.evaluate()["eval_best"] == pytest.approx(np.asarray(held_out.logits).max())
    trainer.preprocess_logits_for_metrics = lambda logits, labels: logits[:, :1]
    trainer.evaluate()
    assert "too good" in log.text and "refit=False" in log.text


def other_weights(trainer):
    with torch.no_grad():
        trainer.model.classifier.weight.mul_(-1)
    assert trainer.held_out_scores(trainer.eval_dataset) is None


def inputs_for_metrics(trainer):
    trainer.args.include_for_metrics = ["inputs"]
    trainer.compute_metrics = lambda given: {"n": len(given.predictions) / len(given.inputs)}


@pytest.mark.parametrize("change", [other_weights, inputs_for_metrics])
def test_where_held_out_scores_cannot_be_taken_scores_are_said_to_be_too_good(change, tmp_path, log):
    trainer = toy_trainer(tmp_path)
    trainer.fit_classifier()
    assert trainer.evaluate()["eval_map"] > 0 and "too good" not in log.text
    change(trainer)
    assert trainer.evaluate().get("eval_n", 1) == 1 and "too good" in log.text


def test_a_loaded_model_says_that_its_validation_scores_are_too_good(tmp_path, log):
    trainer = toy_trainer(tmp_path, train_rows=64)
    trainer.fit_classifier()
    trainer.save_model()
    loaded = toy_trainer(tmp_path / "again", model=MLCLForSequenceClassification.from_pretrained(tmp_path))
    loaded.evaluate()
    assert "fitted on its training and validation examples" in log.text
    loaded.create_model_card()
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == {}


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


def worse(model):
    for parameter in model.encoder.parameters():  # as if it had diverged
        parameter.mul_(0).add_(0.01)


def better(model):
    model.load_state_dict(toy_model().state_dict())


@pytest.mark.parametrize("change", [worse, better])
def test_whether_training_has_helped_is_told_in_the_card_and_the_worse_in_the_log(change, tmp_path, log):
    trainer = toy_trainer(tmp_path, train_rows=96, max_steps=3)
    if change is better:  # from an encoder in which nothing is left of the tokens
        trainer.model.encoder.embeddings.word_embeddings.weight.data.mul_(1e-3)
    trainer.train()
    with torch.no_grad():
        change(trainer.model)
    comparison = trainer.fit_classifier().comparison
    assert (comparison["after"]["map"] > comparison["before"]["map"] + 0.1) == (change is better)
    assert comparison["worse"] == ("Training did not help" in log.text) == (change is worse)
    trainer.create_model_card()
    expected = "Training did not help; " if change is worse else "The encoder before and after training: before, "
    assert expected in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("sampling", ["random", "group_by_length"])
def test_the_encoder_is_compared_on_the_same_examples(sampling, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, "PROBE_EXAMPLES", 20)
    trainer = toy_trainer(tmp_path, learning_rate=0.0, max_steps=1, train_sampling_strategy=sampling)
    plain = toy_trainer(tmp_path)
    np.testing.assert_allclose(*(one.features(one.eval_dataset)[0] for one in (trainer, plain)), atol=1e-5)
    trainer.train()
    comparison = trainer.fit_classifier().comparison
    assert (comparison["train"], comparison["validation"]) == (20, 20)
    assert comparison["after"] == pytest.approx(comparison["before"])


def test_lists_without_the_last_label_are_compared(tmp_path):
    data = toy_dataset(48)
    labels = [row[:-1] + [False] for row in data["labels"]]
    lists = with_lists(data.remove_columns("labels").add_column("labels", labels))
    trainer = toy_trainer(tmp_path, train=lists, validation=lists, max_steps=1)
    trainer.train()
    assert trainer.fit_classifier().comparison is not None


def test_what_cannot_be_compared_is_not(tmp_path):
    unknown = [[-100] * NUM_LABELS] * 30
    unlabelled = toy_dataset(30).remove_columns("labels").add_column("labels", unknown)
    for validation in (unlabelled, None):
        trainer = toy_trainer(tmp_path, validation=validation, max_steps=1)
        trainer.train()
        assert (trainer._before is None) == (validation is unlabelled)
        trainer.eval_dataset = toy_dataset(30, seed=5)
        assert trainer.fit_classifier().comparison is None
    with torch.no_grad():
        trainer.model.encoder.embeddings.word_embeddings.weight[10] = torch.nan
    assert trainer._encoder_before() is None


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


def test_the_names_of_the_labels_are_read_for_their_classifier(tmp_path, monkeypatch):
    words = ["oil", "wheat", "gold", "ship", "rate"]
    given = []

    def fit(*args, name_features=None, **options):
        given.append(name_features)
        return fit_classifier(*args, name_features=name_features, **options)

    monkeypatch.setattr("hf_mlcl.training.classifier.fit_classifier", fit)
    for names, tokenizer, read in (
        (words, build_word_tokenizer(words), True),
        (["0", "1", "2", "3", "4"], build_word_tokenizer(words), False),  # numbers say nothing
        (words, Tokenizer(), False),  # it only pads
    ):
        model = toy_model(dropout=0.0)
        model.config.label_names = names
        trainer = toy_trainer(tmp_path, model=model, processing_class=tokenizer, train_rows=64)
        trainer.data_collator = COLLATE  # one of the user's, which need not know what to do without labels
        tokenizer.model_max_length = int(1e30)  # as of encoders without a limit
        report = trainer.fit_classifier()
        assert tokenizer.model_max_length == int(1e30)
        assert (report.drawn_to_name is not None) == (given[-1] is not None) == read
        if read:
            inputs = tokenizer(words, return_tensors="pt")
            expected = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).features
            np.testing.assert_allclose(given[-1], expected.detach().numpy(), atol=1e-6)
            model.label_texts = ["rate", *words[1:]]  # descriptions
            trainer.fit_classifier()
            np.testing.assert_allclose(given[-1][0], expected.detach().numpy()[4], atol=1e-6)
