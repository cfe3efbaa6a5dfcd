"""Probes: what they choose, that no example scores itself, equality with single trainings, odd but legal data."""

import numpy as np
import pytest
import torch
from scipy import sparse

from hf_mlcl.evaluation import compute_metrics, fit_classifier, fit_linear_evaluation, probe
from hf_mlcl.evaluation.probe import choose_strengths, deal_folds, initial_parameters, train_grid


def make_data(num_examples=300, feature_dim=12, num_labels=8, seed=0, noise=1.0):
    """Labels from common to rare that depend on the features and on chance."""
    weight = np.random.default_rng(99).standard_normal((feature_dim, num_labels)) / feature_dim**0.5
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((num_examples, feature_dim)).astype(np.float32)
    scores = features @ weight + noise * generator.standard_normal((num_examples, num_labels))
    return features, scores > np.linspace(0, 2.8, num_labels)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def scores_of(fit):
    return np.asarray(fit.validation_logits)


def test_no_validation_example_scores_itself():
    """With pure chance for labels, scores of examples a classifier was fitted on would rank them well."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((60, 200)).astype(np.float32)
    labels = generator.random((60, 4)) < 0.4
    held = generator.standard_normal((200, 200)).astype(np.float32)
    held_labels = generator.random((200, 4)) < 0.4
    fit = fit_classifier(features, labels, held, held_labels)
    own = compute_metrics((held @ fit.weight.T + fit.bias, held_labels))["map"]
    honest = compute_metrics((scores_of(fit), held_labels))["map"]
    assert own > 0.8 and honest < 0.55


def test_rare_labels_take_the_strength_of_labels_about_as_frequent():
    losses = np.array([[10.0, 90, 90, 0.0], [90, 10, 10, 0.0]])
    support, counts, every = np.array([50, 50, 50, 0]), np.array([1000, 10, 10, 12]), np.arange(4)
    assert choose_strengths(losses, support, counts, every).tolist() == [0, 1, 1, 1]
    counts[3] = 900
    assert choose_strengths(losses, support, counts, every).tolist() == [0, 1, 1, 0]
    losses[:, 3], support[3] = [9.0, 3.0], 1  # one positive does not outweigh the others
    assert choose_strengths(losses, support, counts, every).tolist() == [0, 1, 1, 0]
    support[3], losses[:, 3] = 400, [4000, 1000]
    assert choose_strengths(losses, support, counts, every)[3] == 1


@pytest.mark.parametrize("dense", [True, False])
def test_folds_have_like_sizes_and_their_share_of_every_label(dense):
    labels = np.random.default_rng(0).random((203, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.0]
    folds = deal_folds(labels if dense else sparse.csc_array(labels), 5)
    assert sorted(np.bincount(folds)) == [40, 40, 41, 41, 41]
    rarest = np.argmin(np.where(labels, labels.sum(axis=0), 1000), axis=1)
    for label in range(5):
        counts = np.bincount(folds[labels[:, label] & (rarest == label)], minlength=5)
        assert np.ptp(counts) <= 1
    assert set(deal_folds(labels[:3], 5)) == {0, 1, 2}


def test_new_features_and_seeds_change_nothing_that_they_should_not():
    (features, labels), (held, held_labels) = make_data(), make_data(120, seed=1)
    first, second = (fit_classifier(features, labels, held, held_labels) for _ in range(2))
    assert (first.weight == second.weight).all() and (first.bias == second.bias).all()
    order = np.random.default_rng(0).permutation(8)
    other = fit_classifier(features, labels[:, order], held, held_labels[:, order])
    np.testing.assert_allclose(other.strengths, first.strengths[order])


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 1), (5, 1, 2), (1, 1, 1), (4, 2, 30), (40, 1, 1)],
    ids=lambda shape: "{} training, {} validation, {} labels".format(*shape),
)
@pytest.mark.parametrize("refit", [True, False])
def test_few_rows_and_few_labels_give_finite_numbers(shape, refit):
    rows, others, num_labels = shape
    generator = np.random.default_rng(0)
    features, held = generator.standard_normal((rows, 7)), generator.standard_normal((others, 7))
    labels, held_labels = generator.random((rows, num_labels)) < 0.4, generator.random((others, num_labels)) < 0.4
    fit = fit_classifier(features, labels, held, held_labels, refit=refit)
    for values in (fit.weight, fit.bias, fit.thresholds.per_label, scores_of(fit)):
        assert np.isfinite(values).all()


@pytest.mark.parametrize("known", ["train", "validation"])
def test_labels_known_in_one_part_alone(known):
    (features, labels), (held, held_labels) = make_data(), make_data(120, seed=1)
    parts = {"train": labels.astype(int), "validation": held_labels.astype(int)}
    other = "validation" if known == "train" else "train"
    parts[other][:, 3] = -100
    parts[other][:5] = -100  # examples without any known label are left out
    fit = fit_classifier(features, parts["train"], held, parts["validation"])
    assert np.isfinite(fit.weight).all() and np.isfinite(fit.thresholds.per_label).all()
    assert len(scores_of(fit)) == len(fit.validation_labels) == (120 if known == "validation" else 115)
    scores = held @ fit.weight.T + fit.bias
    # Refitted on both parts, a label known in one of them alone is still learned.
    assert compute_metrics((scores[:, [3]], held_labels[:, [3]]))["map"] > 2 * held_labels[:, 3].mean()


# --- the study's protocol ---

GRID = [(1.0, 1.0), (1.0, 1e-4), (0.1, 0.1)]


def study_data(num_examples=75, feature_dim=6, num_labels=5, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((num_examples, feature_dim))
    weight = generator.standard_normal((feature_dim, num_labels))
    labels = features @ weight + 0.5 * generator.standard_normal((num_examples, num_labels)) > 1.0
    return features.astype(np.float32), labels.astype(np.int64)


def train_alone(features, rows, initial, learning_rate, weight_decay, num_epochs, batch_size, seed):
    """One grid point with torch's own layer, loss, optimiser and schedule; `initial` is (weight | bias)."""
    labels, known = (rows == 1).to(features), (rows >= 0).to(features)
    layer = torch.nn.Linear(features.shape[1], labels.shape[1], dtype=features.dtype)
    with torch.no_grad():
        layer.weight.copy_(initial[:, :-1])
        layer.bias.copy_(initial[:, -1])
    num_steps = num_epochs * -(-len(features) // batch_size)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=learning_rate, weight_decay=weight_decay)
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


def all_initial(count, num_labels, width, seed):
    return initial_parameters(count, num_labels, width, seed, np.arange(num_labels))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_batched_solution_equals_training_it_alone(dtype, missing):
    features, labels = study_data()
    features, rows = torch.from_numpy(features).to(dtype), torch.from_numpy(labels.astype(bool))
    if missing:
        hidden = np.random.default_rng(1).random(labels.shape) < 0.3
        rows = torch.from_numpy(np.where(hidden, -100, labels).astype(np.int8))
    initial = all_initial(3, 5, 7, seed=3).to(dtype)
    solutions = train_grid(features, rows, initial, GRID, num_epochs=4, batch_size=32, seed=3, num_labels=5)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    for point, (learning_rate, weight_decay) in enumerate(GRID):
        for index in range(3):
            alone = train_alone(features, rows, initial[index], learning_rate, weight_decay, 4, 32, 3)
            torch.testing.assert_close(solutions[point, index], alone, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("missing", [False, True])
def test_result_is_the_documented_choice_among_averaged_single_trainings(missing):
    """The best F1, then the lowest cross-entropy, over known entries; the last label takes what is best for others."""
    features, labels = study_data()
    held_out, truth = study_data(seed=1)
    truth[:, 4] = 0
    known = np.random.default_rng(0).random(truth.shape) < (0.6 if missing else 2)
    rates, decays = (1.0, 0.1), (1.0, 0.01)
    fit = fit_linear_evaluation(
        features, labels, held_out, np.where(known, truth, -100),
        learning_rates=rates, weight_decays=decays, num_epochs=3, batch_size=16, seed=5, progress=False,
    )  # fmt: skip
    tensors = torch.from_numpy(features), torch.from_numpy(labels)
    assert fit.grid == [(1.0, 1.0), (1.0, 0.01), (0.1, 1.0), (0.1, 0.01)]
    f1, losses, gaps = np.zeros((3, 4, 5))
    for point, (rate, decay) in enumerate(fit.grid):
        singles = [train_alone(*tensors, start, rate, decay, 3, 16, 5).numpy() for start in all_initial(3, 5, 7, 5)]
        mean = np.mean(singles, axis=0)
        logits = held_out @ mean[:, :-1].T + mean[:, -1]
        average = np.mean([sigmoid(held_out @ single[:, :-1].T + single[:, -1]) for single in singles], axis=0)
        gaps[point] = np.abs(sigmoid(logits) - average).max(axis=0)
        predicted, positive = (logits >= 0) & known, (truth == 1) & known
        f1[point] = 2 * (predicted & positive).sum(0) / np.maximum(predicted.sum(0) + positive.sum(0), 1)
        losses[point] = ((np.logaddexp(0, logits) - truth * logits) * known).sum(0) / known.sum(0)
        for label in np.flatnonzero(fit.chosen == point):
            np.testing.assert_allclose(fit.weight[label], mean[label, :-1], atol=1e-4)
            np.testing.assert_allclose(fit.bias[label], mean[label, -1], atol=1e-4)
    expected = np.where(f1 == f1.max(axis=0), losses, np.inf).argmin(axis=0)
    shared = f1[:, :4].mean(axis=1)
    expected[4] = np.where(shared == shared.max(), losses[:, :4].mean(axis=1), np.inf).argmin()
    assert fit.chosen.tolist() == expected.tolist()
    assert fit.averaging_gap == pytest.approx(gaps[fit.chosen, range(5)].max(), abs=1e-4)
    assert fit.weight.dtype == fit.bias.dtype == np.float32


def test_initial_parameters_of_some_labels_are_those_of_all():
    every = torch.empty(3, 50, 7).uniform_(-(6**-0.5), 6**-0.5, generator=torch.Generator().manual_seed(2))
    assert initial_parameters(3, 50, 7, 2, np.array([4, 40, 9])).equal(every[:, [4, 40, 9]])


def test_same_seed_same_result_and_the_global_random_state_stays():
    data = (*study_data(), *study_data(seed=1))
    options = {"num_epochs": 2, "progress": False}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = fit_linear_evaluation(*data, **options)
    assert torch.equal(torch_state, torch.get_rng_state()) and (numpy_state == np.random.get_state()[1]).all()
    torch.manual_seed(123)
    second = fit_linear_evaluation(*data, **options)
    other = fit_linear_evaluation(*data, seed=1, **options)
    assert (first.weight == second.weight).all() and (first.bias == second.bias).all()
    assert not np.allclose(first.weight, other.weight)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("protocol", ["logistic_regression", "study"])
def test_features_in_files_give_the_same(tmp_path, monkeypatch, protocol, missing):
    monkeypatch.setattr(probe, "_ROWS", 32)
    arrays = [*study_data(), *study_data(seed=1)]
    arrays[1][::3, 1] = -100 if missing else 0
    files = [np.memmap(tmp_path / f"{k}", np.float32, "w+", shape=arrays[k].shape) for k in (0, 2)]
    for file, array in zip(files, arrays[::2], strict=True):
        file[:] = array

    def fit(features, labels, held_out, held_labels):
        if protocol == "study":
            options = {"num_epochs": 2, "progress": False}
            return fit_linear_evaluation(features, labels, held_out, held_labels, **options)
        return fit_classifier(features, labels, held_out, held_labels)

    expected, found = fit(*arrays), fit(files[0], arrays[1], files[1], arrays[3])
    tolerance = 0 if protocol == "study" else 1e-3
    np.testing.assert_allclose(found.weight, expected.weight, atol=tolerance)
    np.testing.assert_allclose(found.bias, expected.bias, atol=tolerance)


def test_a_strong_penalty_leaves_the_direction_of_the_name(monkeypatch):
    features, labels = make_data()
    held, held_labels = make_data(120, seed=1)
    names = np.random.default_rng(2).standard_normal((8, 12))
    monkeypatch.setattr(probe, "NAME_SCALES", (1.0,))
    monkeypatch.setattr(probe, "RELATIVE_STRENGTHS", (1e7,))
    fit = fit_classifier(features, labels, held, held_labels, name_features=names)
    deviation = features.std(axis=0)
    wanted = ((names - names.mean(axis=0)) / deviation) / deviation
    for weight, direction in zip(fit.weight, wanted, strict=True):
        assert weight @ direction / np.linalg.norm(weight) / np.linalg.norm(direction) == pytest.approx(1, abs=1e-3)
    assert (np.concatenate([features, held]) @ fit.weight.T).std(axis=0) == pytest.approx(1, abs=0.1)
    assert fit.drawn_to_name.all()


def test_names_that_say_something_help_labels_with_few_examples_and_others_do_no_harm():
    generator = np.random.default_rng(0)
    truth = generator.standard_normal((12, 30))
    parts = []
    for number, seed in ((80, 1), (80, 2), (4000, 3)):
        features = np.random.default_rng(seed).standard_normal((number, 30)).astype(np.float32)
        parts += [
            features,
            features @ truth.T / 30**0.5 + np.random.default_rng(seed + 9).normal(size=(number, 12)) > 2,
        ]
    train, (test, test_labels) = parts[:4], parts[4:]

    def score(names):
        fit = fit_classifier(*train, name_features=names)
        return compute_metrics((test @ fit.weight.T + fit.bias, test_labels))["map"], fit.drawn_to_name

    plain, drawn = score(None)
    assert not drawn.any()
    told, drawn = score(truth + generator.normal(size=truth.shape))
    assert told > plain + 0.03 and drawn.mean() > 0.5
    wrong, _ = score(generator.standard_normal(truth.shape))
    assert wrong > plain - 0.02


@pytest.mark.parametrize("names", [np.ones((8, 12)), np.zeros((8, 12))])
def test_names_that_are_all_alike_change_nothing(names):
    data = *make_data(), *make_data(120, seed=1)
    first, second = fit_classifier(*data), fit_classifier(*data, name_features=names)
    assert np.allclose(first.weight, second.weight, atol=1e-5) and not second.drawn_to_name.any()
