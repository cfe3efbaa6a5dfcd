"""Missing labels (-100, NaN) are in no threshold, calibration, classifier or score; 1, 2 and 5,000 labels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hf_mlcl.evaluation import (
    compute_metrics,
    fit_calibration,
    fit_classifier,
    fit_linear_evaluation,
    per_label_metrics,
    reliability_curve,
    tune_thresholds,
)
from hf_mlcl.evaluation.logistic_regression import fit_logistic_regression
from hf_mlcl.evaluation.probe import NUM_FOLDS, deal_folds


def make_case(num_examples=150, num_labels=6, missing=0.4, seed=0, feature_dim=5):
    """Features, logits and labels as int8 with -100, all depending on each other."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((num_examples, feature_dim)).astype(np.float32)
    logits = features @ generator.standard_normal((feature_dim, num_labels)) - 0.7
    labels = (logits + generator.standard_normal(logits.shape) > 0).astype(np.int8)
    labels[generator.random(labels.shape) < missing] = -100
    return features, logits, labels


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def assert_same(first, second, exactly=True):
    """Equal fields of two results."""
    for name, value in vars(first).items():
        compare = np.testing.assert_array_equal if exactly else np.testing.assert_allclose
        compare(np.array(list(value.values()) if isinstance(value, dict) else value, dtype=float),
                np.array(list(v.values()) if isinstance(v := vars(second)[name], dict) else v, dtype=float),
                **({} if exactly else {"rtol": 1e-5, "atol": 1e-6}), err_msg=name)  # fmt: skip


def classifier(features, logits, labels):
    fit = fit_classifier(features, labels, features, labels)
    return SimpleNamespace(
        weight=fit.weight,
        bias=fit.bias,
        thresholds=fit.thresholds.per_label,
        strengths=fit.strengths,
        logits=np.asarray(fit.validation_logits),
        labels=np.asarray(fit.validation_labels),
    )


FITS = {
    "thresholds": lambda features, logits, labels: tune_thresholds(sigmoid(logits), labels),
    "calibration": lambda features, logits, labels: fit_calibration(logits, labels),
    "reliability": lambda features, logits, labels: reliability_curve(sigmoid(logits), labels),
    "classifier": classifier,
    "linear": lambda features, logits, labels: fit_linear_evaluation(
        features, labels, features, labels, num_epochs=2, batch_size=32, progress=False
    ),
}


@pytest.mark.parametrize("fit", FITS)
def test_forms_of_missing_agree(fit):
    features, logits, labels = make_case()
    expected = FITS[fit](features, logits, labels)
    nan = np.where(labels == -100, np.nan, labels)
    for form in (nan, nan.tolist(), labels.astype(float), torch.from_numpy(nan).to(torch.bfloat16)):
        assert_same(FITS[fit](features, logits, form), expected)


@pytest.mark.parametrize("fit", FITS)
def test_unlabelled_examples_change_nothing(fit):
    features, logits, labels = make_case()
    before = FITS[fit](features, logits, labels)
    places = np.array([0, 7, 7, 150])
    wider = [
        np.insert(array, places, value, axis=0) for array, value in ((features, 3.0), (logits, 9.0), (labels, -100))
    ]
    assert_same(FITS[fit](*wider), before, exactly=fit not in ("calibration", "reliability"))


@pytest.mark.parametrize("fit", ["thresholds", "calibration", "reliability"])
def test_logits_of_missing_entries_change_nothing(fit):
    features, logits, labels = make_case()
    other = np.where(labels == -100, -3 * logits + 5, logits)
    before, after = (FITS[fit](features, values, labels) for values in (logits, other))
    assert_same(after, before, exactly=fit != "calibration")


# --- classifiers ---


def study(features, labels):
    fit = fit_linear_evaluation(features, labels, *make_case(missing=0.2)[::2], num_epochs=2, progress=False)
    return fit.weight, fit.bias


def regressions(features, labels):
    weight, bias = fit_logistic_regression(features, labels, [3.0])
    return weight[0], bias[0]


@pytest.mark.parametrize("fit", [study, regressions])
def test_what_is_missing_of_one_label_changes_no_other(fit):
    features, _, labels = make_case(missing=0.2)
    hidden = labels.copy()
    hidden[:100, 2] = -100
    before, after = (np.column_stack(fit(features, one)) for one in (labels, hidden))
    others = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(after[others], before[others], rtol=1e-4, atol=1e-5)
    assert np.abs(after[2] - before[2]).max() > 0.01


def test_a_label_missing_in_training_gets_the_log_odds_of_a_positive():
    features, _, labels = make_case()
    labels[:, 4] = -100
    fit = fit_linear_evaluation(features, labels, features, labels, num_epochs=2, progress=False)
    positives, known = (labels == 1).sum(), (labels != -100).sum()
    assert (fit.weight[4] == 0).all() and np.isfinite(fit.weight).all()
    assert fit.bias[4] == pytest.approx(np.log((positives + 0.5) / (known - positives + 0.5)), rel=1e-5)


def regression(features, labels, strength, like=None):
    """Logistic regression of one label by scikit-learn on its known rows, all rows (or `like`) standardised."""
    like = features if like is None else like
    mean, deviation, known = like.mean(axis=0), like.std(axis=0), labels != -100
    fit = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000)
    fit.fit(((features - mean) / deviation)[known], labels[known])
    weight = fit.coef_[0] / deviation
    return weight, fit.intercept_[0] - weight @ mean


@pytest.mark.parametrize("refit", [True, False])
def test_classifier_and_held_out_logits_are_fits_on_known_entries_without_the_example(refit):
    """Train and validation examples have missing entries; what is compared are single fits by scikit-learn."""
    features, _, labels = make_case(num_examples=220, num_labels=4)
    features, num_train = features.astype(float), 120
    fit = fit_classifier(
        features[:num_train], labels[:num_train], features[num_train:], labels[num_train:], refit=refit
    )
    rows = np.flatnonzero((labels != -100).any(axis=1))  # the others are in no fit
    features, labels, num_train = features[rows], labels[rows], (rows < num_train).sum()
    held_out = features[num_train:]
    folds = deal_folds(labels[num_train:] == 1, NUM_FOLDS) if refit else np.zeros(len(held_out), dtype=int)
    logits = np.asarray(fit.validation_logits)
    assert logits.shape == (len(held_out), 4) and set(fit.strengths) != {fit.strengths[0]}
    for label in range(4):

        def fitted(kept, label=label):
            return regression(features[kept], labels[kept, label], fit.strengths[label], features[:num_train])

        for fold in range(folds.max() + 1):
            taken = folds == fold
            kept = np.append(np.ones(num_train, bool), ~taken if refit else np.zeros(len(held_out), bool))
            weight, bias = fitted(kept)
            np.testing.assert_allclose(logits[taken, label], held_out[taken] @ weight + bias, atol=3e-4)
        weight, bias = fitted(np.arange(len(rows)) < (len(rows) if refit else num_train))
        np.testing.assert_allclose(fit.weight[label], weight, atol=3e-4)
        np.testing.assert_allclose(fit.bias[label], bias, atol=3e-4)
    counts, probabilities = (labels[:num_train] == 1).sum(axis=0), sigmoid(logits.astype(float))
    expected = tune_thresholds(probabilities, labels[num_train:], train_label_counts=counts)
    np.testing.assert_allclose(fit.thresholds.per_label, expected.per_label, rtol=1e-9)


def test_strengths_have_the_lowest_loss_over_the_known_validation_entries():
    """The documented rule by loops: the label's own losses, and those of 20 positives of labels about as frequent."""
    features, _, labels = make_case(num_examples=160, missing=0.5)
    labels[:, 1] = np.random.default_rng(1).permutation(labels[:, 1])  # features tell nothing about it
    labels[:, 2] = np.where(features[:, 0] > 0, 0, labels[:, 2])
    labels[:, 5] = np.where(np.arange(160) < 80, labels[:, 5], -100)
    rows = np.flatnonzero((labels != -100).any(axis=1))
    features, labels, held_out = features[rows], labels[rows], rows >= 80
    strengths = 5 * np.geomspace(0.008, 8.0, 7)
    weight, bias = fit_logistic_regression(features[~held_out], labels[~held_out], strengths)
    losses, positives, doublings = np.zeros((7, 6)), np.zeros(6), np.zeros(6)
    for label in range(6):
        known = held_out & (labels[:, label] != -100)
        positives[label] = (labels[known, label] == 1).sum()
        doublings[label] = np.round(8 * np.log2((labels[~held_out, label] == 1).sum() + 1)) / 8
        for number in range(7):
            logits = features[known] @ weight[number, label] + bias[number, label]
            losses[number, label] = (np.logaddexp(0, logits) - labels[known, label] * logits).sum()
    fit = fit_classifier(features[~held_out], labels[~held_out], features[held_out], labels[held_out])
    for label in range(6):
        alike = np.exp(-((doublings - doublings[label]) ** 2) / 2)
        total = losses[:, label] + 20 * (losses @ alike) / (positives @ alike)
        assert fit.strengths[label] == pytest.approx(strengths[total.argmin()])
    assert len(set(fit.strengths)) >= 2


# --- metrics ---


@pytest.mark.parametrize("num_labels", [1, 2, 5000])
@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("fit", [*FITS, "metrics"])
def test_few_and_many_labels(fit, missing, num_labels):
    features, logits, labels = make_case(num_examples=12, num_labels=num_labels, missing=missing, feature_dim=3)
    labels[:2, 0] = [0, 1]
    if fit == "metrics":
        assert len(per_label_metrics(logits, labels)) == num_labels
        result = SimpleNamespace(**compute_metrics((logits, labels)))
    else:
        result = FITS[fit](features, logits, labels)
    assert all(np.isfinite(value).all() for value in vars(result).values())
