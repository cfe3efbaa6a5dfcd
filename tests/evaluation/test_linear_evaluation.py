"""Linear evaluation: the batched problem equals single trainings, and the choices are those documented."""

import ast
import pathlib
import sys

import numpy as np
import pytest
import torch

import hf_mlcl.evaluation
from hf_mlcl.evaluation import fit_linear_evaluation, linear_evaluation
from hf_mlcl.evaluation.linear_evaluation import _choose_grid_points, _Labelled, initial_parameters, train_grid

GRID = [(1.0, 1.0), (1.0, 1e-4), (0.1, 0.1)]


def make_data(num_examples=75, feature_dim=6, num_labels=5, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((num_examples, feature_dim))
    weight = generator.standard_normal((feature_dim, num_labels))
    labels = features @ weight + 0.5 * generator.standard_normal((num_examples, num_labels)) > 1.0
    return features.astype(np.float32), labels.astype(np.int64)


def train_alone(features, labels, initial, learning_rate, weight_decay, num_epochs, batch_size, seed):
    """One grid point with torch's own layer, loss, optimiser and schedule; `initial` is (weight | bias)."""
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
            logits = layer(features[batch])
            torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[batch]).backward()
            optimizer.step()
            scheduler.step()
    return torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_batched_solution_equals_training_it_alone(dtype):
    features, labels = (torch.from_numpy(array).to(dtype) for array in make_data())
    initial = initial_parameters(3, 5, 7, seed=3).to(dtype)
    data = _Labelled(features, labels.bool(), None)
    solutions = train_grid(data, initial, GRID, num_epochs=4, batch_size=32, seed=3, progress=False)
    for point, (learning_rate, weight_decay) in enumerate(GRID):
        for index in range(3):
            alone = train_alone(features, labels, initial[index], learning_rate, weight_decay, 4, 32, 3)
            tolerance = 1e-10 if dtype == torch.float64 else 1e-5
            torch.testing.assert_close(solutions[point, index], alone, rtol=tolerance, atol=tolerance)


def test_result_is_the_documented_choice_among_averaged_single_trainings():
    features, labels = make_data()
    held_out, held_out_labels = make_data(seed=1)
    held_out_labels[:, 4] = 0
    rates, decays = (1.0, 0.1), (1.0, 0.01)
    fit = fit_linear_evaluation(
        features, labels, held_out, held_out_labels,
        learning_rates=rates, weight_decays=decays, num_epochs=3, batch_size=16, seed=5, progress=False,
    )  # fmt: skip
    tensors = torch.from_numpy(features), torch.from_numpy(labels).float()
    initial = initial_parameters(3, 5, 7, seed=5)
    assert fit.grid == [(1.0, 1.0), (1.0, 0.01), (0.1, 1.0), (0.1, 0.01)]
    gaps = np.zeros((4, len(held_out), 5))
    for point, (rate, decay) in enumerate(fit.grid):
        singles = [train_alone(*tensors, start, rate, decay, 3, 16, 5).numpy() for start in initial]
        mean = np.mean(singles, axis=0)
        logits = held_out @ mean[:, :-1].T + mean[:, -1]
        single_logits = [held_out @ single[:, :-1].T + single[:, -1] for single in singles]
        average = np.mean([1 / (1 + np.exp(-single)) for single in single_logits], axis=0)
        gaps[point] = np.abs(1 / (1 + np.exp(-logits)) - average)
        predicted = logits >= 0
        f1 = 2 * (predicted & (held_out_labels == 1)).sum(0) / np.maximum(predicted.sum(0) + held_out_labels.sum(0), 1)
        np.testing.assert_allclose(fit.validation_f1[point], f1)
        for label in np.flatnonzero(fit.chosen == point):
            np.testing.assert_allclose(fit.weight[label], mean[label, :-1], atol=1e-4)
            np.testing.assert_allclose(fit.bias[label], mean[label, -1], atol=1e-4)
    assert (fit.validation_f1[fit.chosen, range(5)][:4] == fit.validation_f1.max(axis=0)[:4]).all()
    assert fit.chosen[4] == fit.validation_f1[:, :4].mean(axis=1).argmax()
    taken = gaps[fit.chosen, :, np.arange(5)]
    assert fit.averaging_gap == pytest.approx({"max": taken.max(), "mean": taken.mean()}, abs=1e-4)
    assert fit.weight.dtype == fit.bias.dtype == np.float32


def test_initial_parameters_of_some_labels_are_those_of_all():
    every = torch.empty(3, 50, 7).uniform_(-(6**-0.5), 6**-0.5, generator=torch.Generator().manual_seed(2))
    assert initial_parameters(3, 50, 7, seed=2).equal(every)
    assert initial_parameters(3, 50, 7, seed=2, ids=np.array([4, 40, 9])).equal(every[:, [4, 40, 9]])


def test_ties_go_to_the_lower_cross_entropy_and_absent_labels_follow_the_others():
    f1 = np.array([[0.5, 0.9, 0.0], [0.5, 0.2, 0.0], [0.1, 0.8, 0.0]])
    cross_entropy = np.array([[0.3, 0.1, 0.1], [0.2, 0.1, 0.9], [0.1, 0.1, 0.1]])
    present = np.array([True, True, False])
    every = np.ones(3, dtype=bool)
    assert _choose_grid_points(f1, cross_entropy, present, every).tolist() == [1, 0, 0]
    assert _choose_grid_points(f1 * 0, cross_entropy, present & False, every).tolist() == [2, 2, 2]


def test_same_seed_same_result_and_the_global_random_state_stays():
    data = (*make_data(), *make_data(seed=1))
    options = {"num_epochs": 2, "progress": False}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = fit_linear_evaluation(*data, **options)
    assert torch.equal(torch_state, torch.get_rng_state()) and (numpy_state == np.random.get_state()[1]).all()
    torch.manual_seed(123)
    second = fit_linear_evaluation(*data, **options)
    other = fit_linear_evaluation(*data, seed=1, **options)
    assert (first.weight == second.weight).all() and (first.bias == second.bias).all()
    assert not np.allclose(first.weight, other.weight)


@pytest.mark.parametrize("unknown", [False, True])
def test_features_in_a_file_give_the_same_bits(tmp_path, monkeypatch, unknown):
    monkeypatch.setattr(linear_evaluation, "_ROWS", 32)
    arrays = [*make_data(), *make_data(seed=1)]
    if unknown:
        arrays[1][::3, 1] = -100
    files = [np.memmap(tmp_path / f"{k}", np.float32, "w+", shape=arrays[k].shape) for k in (0, 2)]
    for file, array in zip(files, arrays[::2], strict=True):
        file[:] = array
    options = {"num_epochs": 2, "progress": False}
    expected = fit_linear_evaluation(*arrays, **options)
    found = fit_linear_evaluation(files[0], arrays[1], files[1], arrays[3], **options)
    assert (found.weight == expected.weight).all() and (found.bias == expected.bias).all()
    assert (found.validation_f1 == expected.validation_f1).all() and found.averaging_gap == expected.averaging_gap


def test_learns_separable_labels_and_takes_tensors():
    features, labels = make_data(num_examples=400, seed=2)
    clean = torch.from_numpy(np.sign(features[:, :3]) > 0)
    tensors = torch.from_numpy(features).to(torch.float64).requires_grad_()
    fit = fit_linear_evaluation(tensors, clean, tensors, clean, num_epochs=20, progress=False)
    assert fit.validation_f1[fit.chosen, range(3)].min() > 0.97


def test_no_label_occurs():
    features, labels = make_data()
    fit = fit_linear_evaluation(features, labels * 0, features, labels * 0, num_epochs=2, progress=False)
    assert len(set(fit.chosen)) == 1 and np.isfinite(fit.weight).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": np.zeros((3, 2))}, r"train_labels: expected shape \(75, any width\), got shape \(3, 2\)"),
        ({"validation_features": np.zeros((3, 2))}, r"validation_features: expected shape \(N, 6\)"),
        ({"train_features": np.full((75, 6), np.nan)}, "train_features: expected finite numbers, got nan"),
        ({"validation_labels": np.full((75, 5), 2)}, "validation_labels: expected 0, 1, or -100 or NaN .* got 2"),
        ({"num_epochs": 0}, "num_epochs: expected a whole number above 0, got 0"),
        ({"learning_rates": ()}, "learning_rates, weight_decays: expected at least one"),
        ({"learning_rates": (0.0,)}, "learning_rates: expected a finite number above 0, got 0.0"),
    ],
)
def test_mistakes_raise_one_line(change, message):
    features, labels = make_data()
    names = ("train_features", "train_labels", "validation_features", "validation_labels")
    arguments = dict(zip(names, (features, labels, features, labels), strict=True)) | {"progress": False} | change
    with pytest.raises(ValueError, match=message):
        fit_linear_evaluation(**arguments)


def test_modules_import_only_what_works_on_arrays_when_loaded():
    folder = pathlib.Path(hf_mlcl.evaluation.__path__[0])
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                names = []
                if isinstance(node, ast.ImportFrom):
                    assert node.level == 1, f"{path.name} imports from outside its folder when it is loaded"
            for name in names:
                root = name.split(".")[0]
                assert root in {"numpy", "scipy", "torch", "tqdm"} | sys.stdlib_module_names, (
                    f"{path.name} imports {name}"
                )
