"""Which split each figure of the classifier comes from: compared with a plain computation on exactly these rows."""

import numpy as np
import pytest
import torch
from toy import toy_dataset, toy_trainer, with_lists

from hf_mlcl import compute_metrics
from hf_mlcl.evaluation import LinearScores, fit_calibration, fit_classifier, fit_linear_evaluation, tune_thresholds
from hf_mlcl.evaluation.arrays import sigmoid
from hf_mlcl.training.classifier import fit_probe


def unlike(rows, seed, share):
    """A data set in which every second label of the examples is wrong in `share` of them, and frequency differs."""
    data = toy_dataset(rows, seed=seed)
    labels = np.asarray(data["labels"])
    labels[:, ::2] ^= np.random.default_rng(seed).random((rows, 1)) < share
    return data.remove_columns("labels").add_column("labels", labels.tolist())


def unlike_trainer(folder, form=lambda data: data, **arguments):
    """Training labels that follow from the texts, and validation labels that often do not."""
    return toy_trainer(folder, train=form(unlike(64, 0, 0.0)), validation=form(unlike(64, 1, 0.4)), **arguments)


def linear(features, weight, bias):
    return features @ np.asarray(weight).T + np.asarray(bias)


def classifier_of(trainer):
    return trainer.model.classifier.weight.detach().numpy(), trainer.model.classifier.bias.detach().numpy()


@pytest.mark.parametrize("refit", [True, False])
def test_logistic_regression_takes_each_split_for_what_it_is(refit, tmp_path):
    trainer = unlike_trainer(tmp_path)
    train, validation = trainer.features(trainer.train_dataset), trainer.features(trainer.eval_dataset)
    expected = fit_classifier(*train, *validation, refit=refit)
    report = trainer.fit_classifier(refit=refit)
    np.testing.assert_allclose(classifier_of(trainer)[0], expected.weight, atol=1e-4)
    np.testing.assert_allclose(trainer.model.config.thresholds, expected.thresholds.per_label, atol=1e-6)
    limits = tune_thresholds(
        sigmoid(expected.validation_logits), validation[1], train_label_counts=train[1].sum(axis=0)
    )
    np.testing.assert_allclose(expected.thresholds.per_label, limits.per_label)
    plain = compute_metrics((expected.validation_logits, validation[1]), thresholds=limits.per_label)
    assert report.ece_after == pytest.approx(plain["ece"], abs=1e-5)
    assert report.global_threshold == pytest.approx(limits.global_threshold)
    measured = trainer.evaluate()
    for name, value in report.validation.items():
        assert value == pytest.approx(plain[name]) and measured[f"eval_{name}"] == pytest.approx(value, abs=1e-3)
    # Of the training examples the model's own logits: nobody has held-out scores of them.
    own = compute_metrics((linear(train[0], *classifier_of(trainer)), train[1]), thresholds=limits.per_label)
    assert trainer.evaluate(trainer.train_dataset)["eval_map"] == pytest.approx(own["map"])
    assert abs(own["map"] - plain["map"]) > 0.1  # a split in the place of the other would show


@pytest.mark.parametrize("form", [lambda data: data, with_lists], ids=["rows", "lists"])
@pytest.mark.parametrize("protocol", ["study", "trained"])
def test_what_is_calibrated_is_calibrated_on_validation_examples(protocol, form, tmp_path):
    trainer = unlike_trainer(tmp_path, form, **({"objective": "classification"} if protocol == "trained" else {}))
    splits = [trainer.features(data) for data in (trainer.train_dataset, trainer.eval_dataset)]
    (_, train_labels), (validation, labels) = [(rows, np.asarray(given)) for rows, given in splits]
    if protocol == "trained":
        good = fit_classifier(*splits[0], *splits[1], refit=False)
        weight, bias = 3 * good.weight, 3 * good.bias + np.linspace(-2, 2, len(good.bias), dtype=np.float32)
        with torch.no_grad():  # as if it had been trained, far from calibrated: 0.5 becomes something else
            for parameter, values in zip(trainer.model.classifier.parameters(), (weight, bias), strict=True):
                parameter.copy_(torch.from_numpy(values))
        trainer.model.config.classifier_fitted = True
        report = trainer.fit_classifier(linear_evaluation=False)
    else:
        fit = fit_linear_evaluation(*splits[0], *splits[1], seed=trainer.args.seed, progress=False)
        weight, bias = fit.weight, fit.bias
        report = trainer.fit_classifier(protocol="study")
        assert report.protocol == "study" and sum(report.grid_points.values()) == labels.shape[1]
        assert report.averaging_gap == pytest.approx(fit.averaging_gap)
    assert not report.refit and not trainer.model.config.classifier_refitted
    raw = linear(validation, weight, bias)
    calibration = fit_calibration(raw, labels)
    calibrated = raw * calibration.scale + calibration.shift
    limits = tune_thresholds(sigmoid(calibrated), labels, train_label_counts=train_labels.sum(axis=0))
    config = trainer.model.config
    np.testing.assert_allclose(linear(validation, *classifier_of(trainer)), calibrated, atol=1e-3)
    np.testing.assert_allclose(config.thresholds, limits.per_label, atol=0.01)
    assert report.global_threshold == pytest.approx(limits.global_threshold, abs=0.01)
    errors = [compute_metrics((logits, labels))["ece"] for logits in (raw, calibrated)]
    assert [report.ece_before, report.ece_after] == pytest.approx(errors, abs=1e-3) and errors[1] < errors[0]
    # What the uncalibrated classifier decided at 0.5, on examples that nothing was chosen by.
    test = form(unlike(200, 2, 0.3))
    features, truth = trainer.features(test)
    plain = compute_metrics((linear(features, weight, bias), np.asarray(truth)))
    logits = linear(features, *classifier_of(trainer))
    other = compute_metrics((logits, np.asarray(truth)), thresholds=limits.per_label)
    measured = trainer.evaluate(test)
    for name in ("macro_f1", "micro_f1", "hamming_loss"):
        assert measured[f"eval_{name}_uncalibrated"] == pytest.approx(plain[name], abs=1e-3)
        assert measured[f"eval_{name}"] == pytest.approx(other[name], abs=5e-3)
    assert np.abs(np.array(config.uncalibrated_half) - 0.5).max() > 0.05
    np.testing.assert_allclose(config.uncalibrated_half, sigmoid(calibration.shift), atol=1e-3)


@pytest.mark.parametrize("form", [lambda data: data, with_lists], ids=["rows", "lists"])
def test_the_probe_knows_the_training_examples_alone(form, tmp_path):
    trainer = unlike_trainer(tmp_path, form)
    probe = fit_probe(*trainer.features(trainer.train_dataset), device="cpu")
    features, labels = trainer.features(trainer.eval_dataset)
    expected = compute_metrics(
        (linear(features, probe.weight, probe.bias), np.asarray(labels)), thresholds=probe.thresholds.per_label
    )
    prediction = trainer.predict(trainer.eval_dataset)
    assert isinstance(prediction.predictions, LinearScores) == (form is with_lists)  # never all of them at once
    kept = np.array(prediction.predictions)
    # Rounding may move one of the 320 decisions into another bin of the calibration error.
    for name, near in (("map", 1e-4), ("macro_f1", 1e-4), ("ece", 0.01)):
        assert prediction.metrics[f"test_{name}"] == pytest.approx(expected[name], abs=near)
    trainer.fit_classifier()  # scores that were given out stay those of the classifier that gave them
    np.testing.assert_array_equal(np.array(prediction.predictions), kept)
    assert compute_metrics((kept, np.asarray(labels)))["map"] == pytest.approx(expected["map"])
