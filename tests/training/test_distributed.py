"""The Trainer on several gloo processes of one machine against one process with the examples of all."""

import pytest
import torch
from distributed_job import (
    OBJECTIVES,
    STEPS,
    WRAPPED,
    WithUnknownLabels,
    adapted_model,
    image_model,
    images,
    stack,
    step,
    store_encoder,
    trained,
)
from toy import COLLATE, relative_difference, same, step_gradients, toy_dataset, toy_model, toy_trainer, with_lists


@pytest.mark.parametrize(("accumulation", "unknown", "sampling"), STEPS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_those_of_the_whole_batch(ranks, objective, accumulation, unknown, sampling):
    model, data = toy_model(dropout=0.0, objective=objective).double(), toy_dataset(8 * accumulation)
    expected = step_gradients(model, data, accumulation, WithUnknownLabels(COLLATE) if unknown else COLLATE)
    assert relative_difference(ranks(f"{objective}-{accumulation}-{unknown}-{sampling}"), expected) <= 1e-6


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_of_adapters_are_those_of_the_whole_batch(ranks, objective, tmp_path):
    model = adapted_model(store_encoder(tmp_path / "encoder"), objective)
    assert relative_difference(ranks(f"adapter-{objective}"), step_gradients(model, toy_dataset(8))) <= 1e-6


def test_gradients_with_frozen_batch_norm_are_those_of_the_whole_batch(ranks):
    assert relative_difference(ranks("images"), step_gradients(image_model(), images(), collate=stack)) <= 1e-6


def test_batch_statistics_are_those_that_are_saved(ranks):
    """In all processes, which measure with them, and let a momentum encoder follow them."""
    whole, *others = (ranks(f"statistics-{name}-{rank}") for name in ("whole", "resumed") for rank in (0, 1))
    assert all(same(other, whole) for other in others)


@pytest.mark.parametrize("sample_size", [None, 1])
def test_lists_of_two_processes_are_those_of_one(ranks, sample_size, tmp_path):
    """Lists of processes are not equally long; absent labels drawn are the same."""
    (shape, found, scores), (other_shape, *_) = (ranks(f"lists-{sample_size}-{rank}") for rank in (0, 1))
    assert shape[1] != other_shape[1]
    model, data = toy_model(dropout=0.0).double(), with_lists(toy_dataset(8))
    options = {"per_device_train_batch_size": 8, "prototype_sample_size": sample_size}
    trainer, expected = step(tmp_path, model, data, **options)
    assert relative_difference(found, expected) <= 1e-6
    again = trainer.evaluate(with_lists(toy_dataset(30, seed=1)))
    names = [name for name in scores if "f1" in name or "map" in name]
    assert {name: again[name] for name in names} == pytest.approx({name: scores[name] for name in names}, abs=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_classifier_is_fitted_on_all_examples(ranks, objective, tmp_path):
    state, metrics = ranks(f"{objective}-fitted")
    model = toy_model(dropout=0.0, objective=objective).double()
    model.load_state_dict(state)
    trainer = toy_trainer(tmp_path, model=model, train=toy_dataset(8), per_device_train_batch_size=4)
    trainer.fit_classifier()
    torch.testing.assert_close(model.classifier.weight, state["classifier.weight"], rtol=1e-4, atol=1e-5)
    again = trainer.evaluate()
    scores = [name for name in metrics if "f1" in name]
    assert {name: again[name] for name in scores} == pytest.approx({name: metrics[name] for name in scores})


def test_one_wrapped_process_caches_gradients(ranks, tmp_path):
    expected = trained(toy_trainer(tmp_path, model=toy_model(dropout=0.0), **WRAPPED))
    for name, tensor in ranks("wrapped", processes=1).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_no_example_comes_twice_in_an_epoch_and_batches_share_labels(ranks, processes):
    """A repeated example would count as a positive of itself; what would repeat some is refused."""
    seen, refused, aware = zip(*(ranks(f"epochs-{rank}", processes) for rank in range(processes)), strict=True)
    whole_steps = 23 // (2 * processes)
    for epoch in range(2):
        batches = [of_rank[epoch] for of_rank in seen]
        numbers = [number for batches_of_rank in batches for batch in batches_of_rank for number in batch]
        assert len(numbers) == len(set(numbers)) == whole_steps * 2 * processes
        assert all([len(batch) for batch in batches_of_rank] == [2] * whole_steps for batches_of_rank in batches)
        steps = [torch.cat(parts) for parts in zip(*(of_rank[epoch] for of_rank in aware), strict=True)]
        counts = torch.stack([labels.sum(0) for labels in steps])
        assert len(steps) == 40 // (2 * processes) and counts.sum() == 40 and (counts != 1).all()
    for no_drop_last, stream in refused:
        assert "dataloader_drop_last" in no_drop_last and "train_dataset" in stream
