"""Training in label-aware batches: what is compared shares labels, in every micro-step, again each epoch."""

import numpy as np
import pytest
import torch
from rank_trainer import paired_examples
from ranks import folder_of_ranks
from toy import NUM_LABELS, toy_dataset, toy_model, toy_trainer

from hf_mlcl import MLCLTrainingArguments


def numbers_of(trainer):
    """The examples of each batch of an epoch."""
    return [batch["input_ids"][:, 1].tolist() for batch in trainer.get_train_dataloader()]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"views": 2},
        {"dataloader_num_workers": 1},
        {"gradient_accumulation_steps": 2},
        {"queue_size": 9},
        {"queue_size": 9, "views": 2},
    ],
)
def test_every_batch_of_a_step_has_two_carriers_of_each_label(options, tmp_path):
    trainer = toy_trainer(tmp_path, train=paired_examples(40), label_aware_batches=True, **options)
    loader = trainer.get_train_dataloader()
    assert len(loader) == 5
    for batch in loader:
        counts = batch["labels"][:8].sum(0)
        assert batch["labels"].shape[0] == 8 * options.get("views", 1) and (counts != 1).all() and counts.sum() == 8


def test_all_examples_come_once_an_epoch_in_another_order(tmp_path):
    trainer = toy_trainer(tmp_path, train=paired_examples(40), label_aware_batches=True)
    first, second = (sum(numbers_of(trainer), []) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(40)) and first != second


def test_the_log_shows_the_difference(tmp_path):
    share = {}
    labels = np.eye(NUM_LABELS, dtype=bool)[np.arange(40) % NUM_LABELS].tolist()
    data = toy_dataset(40).remove_columns("labels").add_column("labels", labels)
    for aware in (False, True):
        trainer = toy_trainer(
            tmp_path, train=data, label_aware_batches=aware, num_train_epochs=1, per_device_train_batch_size=4
        )
        trainer.train()
        logs = [log["anchors_without_positives"] for log in trainer.state.log_history if "loss" in log]
        share[aware] = np.mean(logs)
    assert share[True] == 0 < share[False]


def test_seeds_choose_the_order(tmp_path):
    def weights(**options):
        trainer = toy_trainer(tmp_path, max_steps=3, model=toy_model(dropout=0.0), **options)
        trainer.train()
        return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])

    aware = weights(label_aware_batches=True, data_seed=1)
    assert aware.equal(weights(label_aware_batches=True, data_seed=1))
    assert not aware.equal(weights(label_aware_batches=True, data_seed=2))
    assert weights().equal(weights(label_aware_batches=False))


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_batches_of_all_processes_share_labels_together(tmp_path_factory, processes):
    folder = folder_of_ranks(tmp_path_factory, "distributed_job.py", processes)
    ranks = [torch.load(folder / f"label-aware-{rank}.pt") for rank in range(processes)]
    for epoch in range(2):
        steps = [torch.cat(parts) for parts in zip(*(rank[epoch] for rank in ranks), strict=True)]
        assert len(steps) == 40 // (2 * processes)
        counts = torch.stack([labels.sum(0) for labels in steps])
        assert counts.sum() == 40 and (counts != 1).all()
    own = torch.stack([labels.sum(0) for rank in ranks for labels in rank[0]])
    assert (own <= 2).all()


def test_mistakes_are_named(tmp_path):
    for strategy in ("group_by_length", "batch_rebalance", "sequential"):
        with pytest.raises(
            ValueError, match=f"train_sampling_strategy: expected 'random' beside .*, got '{strategy}'"
        ):
            MLCLTrainingArguments(
                output_dir=str(tmp_path), label_aware_batches=True, train_sampling_strategy=strategy, use_cpu=True
            )
    stream = toy_dataset().to_iterable_dataset()
    with pytest.raises(ValueError, match="label_aware_batches: expected a train_dataset with a length, got a stream"):
        toy_trainer(tmp_path, train=stream, max_steps=2, label_aware_batches=True)
    rows = torch.utils.data.Subset(toy_dataset(), range(16))
    with pytest.raises(
        ValueError, match="label_aware_batches: expected a train_dataset with a column or .* got Subset"
    ):
        toy_trainer(tmp_path, train=rows, label_aware_batches=True).train()
