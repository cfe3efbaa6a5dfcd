"""The Trainer on several gloo processes of one machine against one process with the examples of all."""

import pytest
import torch
from rank_trainer import OBJECTIVES, STEPS, SaveGradients, WithUnknownLabels, image_batch, image_model
from ranks import folder_of_ranks
from toy import toy_dataset, toy_model, toy_trainer, with_lists
from transformers.trainer_pt_utils import BatchRebalanceSampler


def assert_same_gradients(found, model):
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 1e-6 * largest, name


@pytest.mark.parametrize(("accumulation", "unknown", "sampling"), STEPS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_those_of_the_whole_batch(
    tmp_path_factory, objective, accumulation, unknown, sampling, tmp_path
):
    folder = folder_of_ranks(tmp_path_factory, "distributed_job.py", 2)
    found = torch.load(folder / f"{objective}-{accumulation}-{unknown}-{sampling}.pt")
    model = toy_model(dropout=0.0, objective=objective).double().train()
    model.freeze_unused_parameters()
    data, collate = toy_dataset(8 * accumulation), toy_trainer(tmp_path, model=toy_model()).data_collator
    collate = WithUnknownLabels(collate) if unknown else collate
    for step in range(accumulation):
        batch = collate([data[i] for i in range(8 * step, 8 * step + 8)])
        if unknown and step == 0:
            first, second = ((labels >= 0).sum() for labels in batch["labels"].split(4))
            assert first != second, "the two processes must know unequally many labels"
        (model(**batch).loss / accumulation).backward()
    assert_same_gradients(found, model)


def test_gradients_with_frozen_batch_norm_are_those_of_the_whole_batch(tmp_path_factory):
    found = torch.load(folder_of_ranks(tmp_path_factory, "distributed_job.py", 2) / "images.pt")
    model = image_model().train()
    model.freeze_unused_parameters()
    model(**image_batch()).loss.backward()
    assert_same_gradients(found, model)


def test_batch_statistics_are_those_that_are_saved(tmp_path_factory):
    """In all processes, which measure with them, and let a momentum encoder follow them."""
    folder = folder_of_ranks(tmp_path_factory, "distributed_job.py", 2)
    whole, *others = (
        torch.load(folder / f"statistics-{name}-{rank}.pt") for name in ("whole", "resumed") for rank in (0, 1)
    )
    for other in others:
        assert all(tensor.equal(other[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("sample_size", [None, 1])
def test_lists_of_two_processes_are_those_of_one(tmp_path_factory, sample_size, tmp_path):
    """Lists of processes are not equally long; absent labels drawn are the same."""
    folder = folder_of_ranks(tmp_path_factory, "distributed_job.py", 2)
    (lists, scores), (others, _) = (torch.load(folder / f"lists-{sample_size}-{rank}.pt") for rank in (0, 1))
    assert lists.shape[1] != others.shape[1]
    keep = SaveGradients(tmp_path / "gradients.pt")
    trainer = toy_trainer(
        tmp_path,
        model=toy_model(dropout=0.0).double(),
        train=with_lists(toy_dataset(8)),
        callbacks=[keep],
        max_steps=1,
        max_grad_norm=0,
        train_sampling_strategy="sequential",
        prototype_sample_size=sample_size,
    )
    trainer.train()
    found, expected = torch.load(folder / f"lists-{sample_size}.pt"), torch.load(tmp_path / "gradients.pt")
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 1e-6 * largest, name
    again = trainer.evaluate(with_lists(toy_dataset(30, seed=1)))
    names = [name for name in scores if "f1" in name or "map" in name]
    assert {name: again[name] for name in names} == pytest.approx({name: scores[name] for name in names}, abs=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_classifier_is_fitted_on_all_examples(tmp_path_factory, objective, tmp_path):
    folder = folder_of_ranks(tmp_path_factory, "distributed_job.py", 2)
    state, metrics = torch.load(folder / f"{objective}-fitted.pt", weights_only=False)
    model = toy_model(dropout=0.0, objective=objective).double()
    model.load_state_dict(state)
    trainer = toy_trainer(tmp_path, model=model, train=toy_dataset(8), per_device_train_batch_size=4)
    trainer.fit_classifier()
    torch.testing.assert_close(model.classifier.weight, state["classifier.weight"], rtol=1e-4, atol=1e-5)
    again = trainer.evaluate()
    scores = [name for name in metrics if "f1" in name]
    assert {name: again[name] for name in scores} == pytest.approx({name: metrics[name] for name in scores})


def test_rebalanced_batches_are_unequal():
    """What makes `batch_rebalance` a case of its own above."""
    lengths = [len(ids) for ids in toy_dataset(8)["input_ids"]]
    parts = [next(iter(BatchRebalanceSampler(lengths, 8, dp_size=2, grad_accum=1, rank=rank))) for rank in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(8)) and len(parts[0]) != len(parts[1])


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_no_example_comes_twice_in_an_epoch(tmp_path_factory, processes):
    """A repeated example would count as a positive of itself; what would repeat some is refused."""
    folder = folder_of_ranks(tmp_path_factory, "distributed_job.py", processes)
    ranks = [torch.load(folder / f"epochs-{rank}.pt") for rank in range(processes)]
    whole_steps = 23 // (2 * processes)
    for epoch in range(2):
        batches = [seen[epoch] for seen, _ in ranks]
        numbers = [number for batches_of_rank in batches for batch in batches_of_rank for number in batch]
        assert len(numbers) == len(set(numbers)) == whole_steps * 2 * processes
        assert all([len(batch) for batch in batches_of_rank] == [2] * whole_steps for batches_of_rank in batches)
    for _, (no_drop_last, stream) in ranks:
        assert "dataloader_drop_last: expected True on several processes" in no_drop_last
        assert "train_dataset: expected one with a length on several processes, got a stream" in stream
