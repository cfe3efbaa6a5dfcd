"""Unknown labels (-100, NaN) are in no threshold, calibration, classifier or score; 1, 2 and 5,000 labels."""

import time

import numpy as np
import pytest
import torch

from hf_mlcl.evaluation import (
    compute_metrics,
    expected_calibration_error,
    fit_calibration,
    fit_linear_evaluation,
    fit_probe,
    per_label_metrics,
    reliability_curve,
    tune_thresholds,
)
from hf_mlcl.evaluation.arrays import split_labels
from hf_mlcl.evaluation.calibration import _LABEL_PRECISION, _POOL_PRECISION, _Decisions
from hf_mlcl.evaluation.linear_evaluation import _Labelled, initial_parameters, train_grid
from hf_mlcl.metrics.multilabel_f1.multilabel_f1 import multilabel_scores


def make_case(num_examples=150, num_labels=6, unknown=0.4, seed=0, feature_dim=5):
    """Features, logits and labels as int8 with -100, all depending on each other."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((num_examples, feature_dim)).astype(np.float32)
    logits = features @ generator.standard_normal((feature_dim, num_labels)) - 0.7
    labels = (logits + generator.standard_normal(logits.shape) > 0).astype(np.int8)
    labels[generator.random(labels.shape) < unknown] = -100
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


FITS = {
    "thresholds": lambda features, logits, labels: tune_thresholds(sigmoid(logits), labels),
    "calibration": lambda features, logits, labels: fit_calibration(logits, labels),
    "reliability": lambda features, logits, labels: reliability_curve(sigmoid(logits), labels),
    "probe": lambda features, logits, labels: fit_probe(features, labels),
    "linear": lambda features, logits, labels: fit_linear_evaluation(
        features, labels, features, labels, num_epochs=2, batch_size=32, progress=False
    ),
}


@pytest.mark.parametrize("fit", FITS)
def test_forms_of_unknown_agree(fit):
    features, logits, labels = make_case()
    expected = FITS[fit](features, logits, labels)
    nan = np.where(labels == -100, np.nan, labels)
    for form in (nan, nan.tolist(), labels.astype(float), torch.from_numpy(nan).to(torch.bfloat16)):
        assert_same(FITS[fit](features, logits, form), expected)


@pytest.mark.parametrize("fit", FITS)
def test_known_labels_of_any_type_agree_with_bool(fit):
    features, logits, labels = make_case(unknown=0)
    expected = FITS[fit](features, logits, labels == 1)
    for form in (labels, labels.astype(np.uint8), labels.astype(np.float16)):
        assert_same(FITS[fit](features, logits, form), expected)


@pytest.mark.parametrize("fit", ["thresholds", "calibration", "reliability", "linear"])
def test_unlabelled_examples_change_nothing(fit):
    features, logits, labels = make_case()
    before = FITS[fit](features, logits, labels)
    places = np.array([0, 7, 7, 150])
    wider = [
        np.insert(array, places, value, axis=0) for array, value in ((features, 3.0), (logits, 9.0), (labels, -100))
    ]
    assert_same(FITS[fit](*wider), before, exactly=fit not in ("calibration", "reliability"))


def test_unlabelled_examples_change_no_probe_and_are_scored_by_it():
    features, _, labels = make_case()
    before = fit_probe(features, labels)
    wider = np.insert(features, 3, 2.5, axis=0)
    after = fit_probe(wider, np.insert(labels, 3, -100, axis=0))
    for name in ("weight", "bias", "thresholds", "strength"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    np.testing.assert_array_equal(np.delete(after.leave_one_out_logits, 3, axis=0), before.leave_one_out_logits)
    np.testing.assert_allclose(after.leave_one_out_logits[3], wider[3] @ before.weight.T + before.bias)


@pytest.mark.parametrize("fit", ["thresholds", "calibration", "reliability"])
def test_logits_of_unknown_entries_change_nothing(fit):
    features, logits, labels = make_case()
    other = np.where(labels == -100, -3 * logits + 5, logits)
    before, after = (FITS[fit](features, values, labels) for values in (logits, other))
    assert_same(after, before, exactly=fit != "calibration")


@pytest.mark.parametrize("prior", [0.0, 5.0])
def test_thresholds_have_the_best_documented_f1_over_the_known_entries(prior):
    _, logits, labels = make_case()
    probabilities, known, truth = sigmoid(logits), labels != -100, labels == 1
    tuned = tune_thresholds(probabilities, labels, prior_positives=prior)

    def smoothed(limit):
        predicted = (probabilities >= limit) & known
        hits, false, positives = (predicted & truth).sum(0), (predicted & ~truth).sum(0), truth.sum(0)
        hits = hits + prior * hits.sum() / truth.sum()
        false = false + prior * (predicted & ~truth).sum() / truth.sum()
        return 2 * hits / (hits + false + positives + prior)

    table = np.array([smoothed(limit) for limit in np.linspace(0.001, 0.999, 400)])
    for label in range(6):
        assert smoothed(tuned.per_label[label])[label] >= table[:, label].max() - 1e-9


def test_calibration_is_the_minimum_over_the_known_entries():
    from scipy.optimize import minimize

    _, logits, labels = make_case(num_examples=60, num_labels=3)
    fitted, known = fit_calibration(logits, labels), labels != -100

    def best(values, targets, centre, precision):
        def value(point):
            moved = np.exp(point[0]) * values + point[1]
            return (np.logaddexp(0, moved) - targets * moved).sum() + 0.5 * (precision * (point - centre) ** 2).sum()

        return minimize(value, centre, tol=1e-12).x

    unit = np.sqrt((logits[known] ** 2).mean())
    pool = best(logits[known] / unit, labels[known], np.array([np.log(unit), 0.0]), _POOL_PRECISION)
    for label in range(3):
        rows = known[:, label]
        scale, shift = best(logits[rows, label] / unit, labels[rows, label], pool, _LABEL_PRECISION)
        np.testing.assert_allclose(
            [fitted.scale[label] * unit, fitted.shift[label]], [np.exp(scale), shift], atol=1e-4
        )
    assert fitted.ece_before == pytest.approx(
        expected_calibration_error(sigmoid(logits[known])[:, None], labels[known][:, None])
    )


def test_labels_with_no_known_negative_or_nothing_known_get_the_pools_calibration():
    _, logits, labels = make_case()
    labels[:, 1], labels[:, 2] = np.where(labels[:, 1] == 0, -100, labels[:, 1]), -100
    fitted = fit_calibration(logits, labels)
    assert fitted.scale[1] == fitted.scale[2] and fitted.shift[1] == fitted.shift[2]
    assert len(np.unique(fitted.scale)) == 5
    tuned = tune_thresholds(sigmoid(logits), labels)
    assert tuned.per_label[2] == tuned.global_threshold


def test_error_is_that_of_the_known_entries_in_one_column():
    _, logits, labels = make_case()
    known = labels != -100
    column = sigmoid(logits)[known][:, None], labels[known][:, None]
    assert expected_calibration_error(sigmoid(logits), labels) == expected_calibration_error(*column)
    assert reliability_curve(sigmoid(logits), labels).counts.sum() == known.sum()


@pytest.mark.parametrize("mask", ["example by example", "none"])
def test_masked_derivatives_equal_finite_differences(mask):
    _, logits, labels = make_case(num_examples=20, num_labels=3)
    known = None if mask == "none" else labels != -100
    decisions = _Decisions(logits, (labels == 1).astype(float), known)
    point, centre = np.array([[0.3, -0.2, 0.1], [0.5, 0.0, -1.0]]), np.array([[0.0], [0.2]])
    gradient, _ = decisions.newton_step(point, centre, _LABEL_PRECISION)
    for index in range(2):
        moved = [point + sign * 1e-6 * (np.arange(2) == index)[:, None] for sign in (1, -1)]
        up, down = (decisions.objective(one, centre, _LABEL_PRECISION) for one in moved)
        np.testing.assert_allclose(gradient[index], (up - down) / 2e-6, rtol=1e-6, atol=1e-7)


# --- linear evaluation ---


def train_alone(features, labels, known, initial, rate, decay, num_epochs, batch_size, seed):
    """One grid point with torch's own loss and optimiser; unknown entries have weight 0 in the mean over B x L."""
    layer = torch.nn.Linear(features.shape[1], labels.shape[1], dtype=features.dtype)
    with torch.no_grad():
        layer.weight.copy_(initial[:, :-1])
        layer.bias.copy_(initial[:, -1])
    num_steps = num_epochs * -(-len(features) // batch_size)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=rate, weight_decay=decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / num_steps)
    generator = torch.Generator().manual_seed(seed + 1)
    for _ in range(num_epochs):
        for batch in torch.randperm(len(features), generator=generator).split(batch_size):
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits
            loss(layer(features[batch]), labels[batch], weight=known[batch]).backward()
            optimizer.step()
            scheduler.step()
    return torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach()


def test_masked_grid_equals_single_trainings_with_a_masked_loss():
    features, _, labels = make_case(num_examples=70)
    grid = [(1.0, 0.1), (0.1, 1e-3)]
    inputs = torch.from_numpy(features).double()
    positive, known = torch.from_numpy(labels == 1), torch.from_numpy(labels != -100)
    data = _Labelled(inputs, positive, known)
    initial = initial_parameters(2, 6, 6, seed=1).double()
    solutions = train_grid(data, initial, grid, num_epochs=3, batch_size=32, seed=1, progress=False)
    for point, (rate, decay) in enumerate(grid):
        for index in range(2):
            alone = train_alone(inputs, positive.double(), known.double(), initial[index], rate, decay, 3, 32, 1)
            torch.testing.assert_close(solutions[point, index], alone, rtol=1e-10, atol=1e-10)


def test_what_is_unknown_of_one_label_changes_no_other_classifier():
    features, _, labels = make_case(unknown=0.2)
    hidden = labels.copy()
    hidden[:100, 2] = -100
    fits = [
        fit_linear_evaluation(features, one, features, labels, num_epochs=2, batch_size=32, progress=False)
        for one in (labels, hidden)
    ]
    same = np.flatnonzero((fits[0].weight == fits[1].weight).all(axis=1) & (fits[0].bias == fits[1].bias))
    assert same.tolist() == [0, 1, 3, 4, 5]


def test_the_grid_point_is_chosen_on_known_validation_entries():
    features, _, labels = make_case(unknown=0)
    validation, logits, _ = make_case(seed=1, unknown=0)
    truth = (logits > 0).astype(np.int8)
    known = np.random.default_rng(0).random(truth.shape) < 0.5
    masked = np.where(known, truth, -100)
    fit = fit_linear_evaluation(features, labels, validation, masked, num_epochs=3, batch_size=32, progress=False)
    for point in range(8):
        single = fit_linear_evaluation(
            features, labels, validation, truth, num_epochs=3, batch_size=32, progress=False,
            learning_rates=[fit.grid[point][0]], weight_decays=[fit.grid[point][1]],
        )  # fmt: skip
        predicted = (validation @ single.weight.T + single.bias >= 0) & known
        f1 = 2 * (predicted & (truth == 1)).sum(0) / np.maximum(predicted.sum(0) + ((truth == 1) & known).sum(0), 1)
        np.testing.assert_allclose(fit.validation_f1[point], f1)
    assert (fit.validation_f1[fit.chosen, range(6)] == fit.validation_f1.max(axis=0)).all()


def test_a_label_unknown_in_training_gets_the_log_odds_of_a_positive():
    features, _, labels = make_case()
    labels[:, 4] = -100
    fit = fit_linear_evaluation(features, labels, features, labels, num_epochs=2, progress=False)
    positives, known = (labels == 1).sum(), (labels != -100).sum()
    assert (fit.weight[4] == 0).all() and np.isfinite(fit.weight).all()
    assert fit.bias[4] == pytest.approx(np.log((positives + 0.5) / (known - positives + 0.5)), rel=1e-5)


@pytest.mark.parametrize("numbers", [6 * 24 * 32, 2**26])
def test_blocks_of_labels_give_the_same_classifier(numbers, monkeypatch):
    data = make_case(num_labels=13)
    whole = FITS["linear"](*data)
    monkeypatch.setattr("hf_mlcl.evaluation.linear_evaluation._MAX_NUMBERS", numbers)
    assert_same(FITS["linear"](*data), whole, exactly=False)


# --- probe ---


def ridge(features, targets, strength, deviation):
    """Ridge regression with a free intercept, by its normal equations: weights and intercepts."""
    mean = features.mean(axis=0)
    scaled = (features - mean) / deviation
    base = targets.mean(axis=0)
    weight = np.linalg.solve(scaled.T @ scaled + strength * np.eye(scaled.shape[1]), scaled.T @ (targets - base)).T
    return weight / deviation, base - (weight / deviation) @ mean


def test_probe_is_ridge_regression_on_targets_filled_with_the_mean_of_the_known():
    features, _, labels = make_case(num_examples=40, feature_dim=15)
    features = features.astype(np.float64)
    probe = fit_probe(features, labels)
    known = labels != -100
    filled = np.where(known, labels, (labels * known).sum(0) / known.sum(0))
    weight, bias = ridge(features, filled, probe.strength, features.std(axis=0))
    np.testing.assert_allclose(probe.weight, 4 * weight, atol=1e-8)
    np.testing.assert_allclose(probe.bias, 4 * (bias - 0.5), atol=1e-8)
    errors = {}
    for factor in (0.1, 1, 10):
        scores = np.empty(labels.shape)
        for left_out in range(40):
            kept = np.arange(40) != left_out
            weight, bias = ridge(features[kept], filled[kept], factor * probe.strength, features.std(axis=0))
            scores[left_out] = weight @ features[left_out] + bias
        if factor == 1:
            np.testing.assert_allclose(probe.leave_one_out_logits, 4 * (scores - 0.5), atol=1e-7)
        errors[factor] = ((labels - scores)[known] ** 2).sum()
    assert errors[1] <= min(errors.values())
    expected = tune_thresholds(sigmoid(probe.leave_one_out_logits), labels).per_label
    np.testing.assert_array_equal(probe.thresholds, expected)


def test_probe_of_half_known_labels_still_ranks_well_and_an_unknown_label_counts_as_absent():
    features, logits, labels = make_case(num_examples=600, unknown=0.5)
    labels[:, 3] = -100
    probe = fit_probe(features[:400], labels[:400])
    assert (probe.weight[3] == 0).all() and probe.bias[3] == -2
    scores = features[400:] @ probe.weight.T + probe.bias
    for label in (0, 1, 2, 4, 5):
        assert np.corrcoef(scores[:, label], logits[400:, label])[0, 1] > 0.95


# --- metrics ---


def test_metrics_are_those_of_the_metric_module():
    _, logits, labels = make_case()
    labels[:, 1], labels[::10] = -100, -100
    options = {"thresholds": np.linspace(0.2, 0.7, 6), "train_label_counts": [5, 10, 30, 70, 200, 300]}
    scores = compute_metrics((logits, labels), **options)
    expected = multilabel_scores(labels, probabilities=sigmoid(logits), **options)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert scores["macro_f1_at_half"] == multilabel_scores(labels, logits >= 0)["macro_f1"]
    assert scores["ece"] == expected_calibration_error(sigmoid(logits), labels)
    rows = per_label_metrics(logits, labels, options["thresholds"])
    assert [row["known"] for row in rows] == (labels != -100).sum(0).tolist()
    assert [row["support"] for row in rows] == (labels == 1).sum(0).tolist()
    assert np.mean([row["f1"] for row in rows if row["known"]]) == pytest.approx(scores["macro_f1"])


def test_labels_are_split_into_what_is_positive_and_what_is_known():
    positive, known = split_labels("labels", [[1, float("nan")], [-100, 0]])
    assert positive.tolist() == [[True, False], [False, False]] and known.tolist() == [[True, False], [False, True]]
    for labels in ([[1, 0]], np.ones((1, 1), dtype=np.uint8), np.zeros((2, 2), dtype=bool)):
        assert split_labels("labels", labels)[1] is None


@pytest.mark.parametrize("fit", FITS)
def test_nothing_known_and_other_values_raise_one_line(fit):
    features, logits, labels = make_case(num_examples=20)
    with pytest.raises(ValueError, match="labels: expected at least one known entry, got only unknown ones"):
        FITS[fit](features, logits, np.full(labels.shape, -100))
    with pytest.raises(ValueError, match="labels: expected 0, 1, or -100 or NaN where unknown, got -1"):
        FITS[fit](features, logits, np.where(labels == 1, -1, labels))


# --- sizes ---


@pytest.mark.parametrize("num_labels", [1, 2, 5000])
@pytest.mark.parametrize("unknown", [0.0, 0.5])
@pytest.mark.parametrize("fit", [*FITS, "metrics", "per label"])
def test_few_and_many_labels(fit, unknown, num_labels):
    features, logits, labels = make_case(num_examples=12, num_labels=num_labels, unknown=unknown, feature_dim=3)
    labels[:2, 0] = [0, 1]
    if fit == "metrics":
        assert all(np.isfinite(value) for value in compute_metrics((logits, labels)).values())
    elif fit == "per label":
        assert len(per_label_metrics(logits, labels)) == num_labels
    elif fit == "linear":
        result = fit_linear_evaluation(features, labels, features, labels, num_epochs=1, progress=False)
        assert result.weight.shape == (num_labels, 3) and np.isfinite(result.weight).all()
    else:
        result = FITS[fit](features, logits, labels)
        sizes = {"thresholds": "per_label", "calibration": "scale", "probe": "bias"}
        assert fit not in sizes or getattr(result, sizes[fit]).shape == (num_labels,)
        assert all(np.isfinite(value).all() for value in vars(result).values())


@pytest.mark.slow
@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_5000_labels_of_2000_examples_take_seconds(unknown):
    """Processor time: metrics, thresholds and calibration took 14, 1 and 15 s on one thread of a shared server."""
    _, logits, labels = make_case(num_examples=2000, num_labels=5000, unknown=unknown)
    started = time.process_time()
    compute_metrics((logits, labels))
    fit_calibration(logits, labels)
    tune_thresholds(sigmoid(logits), labels)
    assert time.process_time() - started < 120
