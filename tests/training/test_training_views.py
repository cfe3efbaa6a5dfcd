"""Training with several views: every labelled example has a positive, and resuming stays exact."""

import pytest
import torch
from toy import toy_dataset, toy_model, toy_trainer

from hf_mlcl import MLCLTrainingArguments


def test_a_batch_has_all_views_and_every_anchor_a_positive(tmp_path):
    trainer = toy_trainer(tmp_path, views=2)
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].shape[0] == 16 and batch["input_ids"][:8].equal(batch["input_ids"][8:])
    assert batch["labels"][:8].equal(batch["labels"][8:])
    trainer.train()
    logs = [log for log in trainer.state.log_history if "anchors_without_positives" in log]
    assert logs and all(log["anchors_without_positives"] == 0 for log in logs)
    assert trainer.state.max_steps == 2 * 48 // 8  # a step still takes as many examples as without views
    assert len(trainer.train_dataset) == 48


def test_one_view_is_training_as_ever_and_two_are_not(tmp_path):
    weights = []
    for views in (None, 1, 2):
        options = {} if views is None else {"views": views}
        trainer = toy_trainer(tmp_path, max_steps=2, **options)
        trainer.train()
        weights.append(torch.cat([parameter.flatten() for parameter in trainer.model.parameters()]))
    assert weights[0].equal(weights[1]) and not weights[0].equal(weights[2])


def test_resuming_is_bit_identical(tmp_path):
    whole = toy_trainer(tmp_path / "whole", views=2, max_steps=8)
    whole.train()
    options = {"views": 2, "max_steps": 8, "save_strategy": "steps", "save_steps": 3}
    toy_trainer(tmp_path / "parts", **options).train()
    resumed = toy_trainer(tmp_path / "parts", model=toy_model(seed=5), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-3"))
    for name, parameter in whole.model.named_parameters():
        assert parameter.equal(dict(resumed.model.named_parameters())[name]), name


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="views: expected an integer of at least 1, got 0"):
        MLCLTrainingArguments(output_dir=str(tmp_path), views=0, use_cpu=True)
    trainer = toy_trainer(tmp_path, train=toy_dataset().to_iterable_dataset(), max_steps=2, views=2)
    with pytest.raises(ValueError, match="views: expected a dataset with positions, got IterableDataset"):
        trainer.train()
