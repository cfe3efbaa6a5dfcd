"""Label-aware batches and several views: what is compared shares labels, in every micro-step, again each epoch."""

import numpy as np
import pytest
import torch
from distributed_job import paired_examples
from toy import NUM_LABELS, toy_dataset, toy_model, toy_trainer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"views": 2},
        {"dataloader_num_workers": 1},
        {"gradient_accumulation_steps": 2},
        {"queue_size": 9, "views": 2},
    ],
)
def test_every_batch_of_a_step_has_two_carriers_of_each_label(options, tmp_path):
    trainer = toy_trainer(tmp_path, train=paired_examples(40), label_aware_batches=True, **options)
    loader, views = trainer.get_train_dataloader(), options.get("views", 1)
    epochs = []
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == 5
        for batch in batches:
            counts = batch["labels"][:8].sum(0)
            assert batch["labels"].shape[0] == 8 * views and (counts != 1).all() and counts.sum() == 8
        epochs.append([number for batch in batches for number in batch["input_ids"][:8, 1].tolist()])
    first, second = epochs
    assert sorted(first) == sorted(second) == list(range(40)) and first != second


def logged_shares(trainer):
    trainer.train()
    return [log["anchors_without_positives"] for log in trainer.state.log_history if "loss" in log]


def test_the_log_shows_the_difference(tmp_path):
    labels = np.eye(NUM_LABELS, dtype=bool)[np.arange(40) % NUM_LABELS].tolist()
    data = toy_dataset(40).remove_columns("labels").add_column("labels", labels)
    aware, plain = (
        toy_trainer(tmp_path, train=data, label_aware_batches=aware, per_device_train_batch_size=4)
        for aware in (True, False)
    )
    assert np.mean(logged_shares(aware)) == 0 < np.mean(logged_shares(plain))


def weights(folder, **options):
    trainer = toy_trainer(folder, max_steps=3, model=toy_model(dropout=0.0), **options)
    trainer.train()
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def test_seeds_choose_the_order(tmp_path):
    aware, again, other = (weights(tmp_path, label_aware_batches=True, data_seed=seed) for seed in (1, 1, 2))
    assert aware.equal(again) and not aware.equal(other)


def test_a_batch_has_all_views_and_every_anchor_a_positive(tmp_path):
    trainer = toy_trainer(tmp_path, views=2)
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].shape[0] == 16 and batch["input_ids"][:8].equal(batch["input_ids"][8:])
    assert batch["labels"][:8].equal(batch["labels"][8:])
    assert set(logged_shares(trainer)) == {0}
    assert trainer.state.max_steps == 2 * 48 // 8  # a step still takes as many examples as without views
    assert len(trainer.train_dataset) == 48


def test_one_view_is_training_as_ever_and_two_are_not(tmp_path):
    plain, one, two = (weights(tmp_path, **options) for options in ({}, {"views": 1}, {"views": 2}))
    assert plain.equal(one) and not plain.equal(two)


def test_mistakes_are_named(tmp_path):
    stream, rows = toy_dataset().to_iterable_dataset(), torch.utils.data.Subset(toy_dataset(), range(16))
    for train, option in (
        (stream, {"label_aware_batches": True}),
        (rows, {"label_aware_batches": True}),
        (stream, {"views": 2}),
    ):
        (name,) = option
        with pytest.raises(ValueError, match=f"^{name}"):
            toy_trainer(tmp_path, train=train, max_steps=2, **option).train()
