"""Training on images: augmentation that depends on the epoch, and resuming with it."""

import multiprocessing
import os

import pytest
import torch
from tiny import tiny_encoder
from toy import same
from transformers import ViTImageProcessor

from hf_mlcl import MLCLForImageClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import RandAugment, digit_canvases, prepare_images
from hf_mlcl.data.collator import Numbered
from hf_mlcl.data.sampler import Views
from hf_mlcl.training.dataset_rows import default_workers


def trainer_on_images(folder, seed=0, **options):
    data = digit_canvases(24, 16, 1)
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    return MLCLTrainer(
        model=MLCLForImageClassification.from_encoder(tiny_encoder("vit", seed), labels=data.label_names),
        args=MLCLTrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=8,
            save_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **{"num_train_epochs": 3, "save_strategy": "steps", **options},
        ),
        train_dataset=prepare_images(data.splits["train"], processor, augmentation=RandAugment()),
        eval_dataset=prepare_images(data.splits["validation"], processor),
        processing_class=processor,
    )


def test_resuming_is_bit_identical_and_evaluations_change_no_augmentation(tmp_path):
    """They take features of training images, of no epoch."""
    measured = {"eval_strategy": "steps", "eval_steps": 4, "dataloader_num_workers": 0}
    whole = trainer_on_images(tmp_path)
    whole.train()
    for checkpoint, options in ((2, {}), (4, measured), (None, measured)):
        other = trainer_on_images(tmp_path / "again", seed=0 if checkpoint is None else 9, **options)
        other.train(resume_from_checkpoint=checkpoint and str(tmp_path / f"checkpoint-{checkpoint}"))
        assert same(dict(other.model.state_dict()), dict(whole.model.state_dict()))


def test_every_epoch_is_told_and_augments_anew(tmp_path):
    trainer = trainer_on_images(tmp_path)
    data, epochs, first = trainer.train_dataset, [], []
    set_epoch = data.set_epoch

    def recorded(epoch):
        set_epoch(epoch)
        epochs.append(epoch)
        first.append(torch.stack([data[i]["pixel_values"] for i in range(4)]))

    data.set_epoch = recorded
    trainer.train()
    assert sorted(set(epochs)) == [0, 1, 2]
    pictures = dict(zip(epochs, first, strict=True))
    assert not pictures[0].equal(pictures[1]) and not pictures[1].equal(pictures[2])


def test_features_are_of_plain_images(tmp_path):
    trainer = trainer_on_images(tmp_path)
    augmented, _ = trainer.features(trainer.train_dataset)
    plain, _ = trainer.features(trainer.train_dataset.without_augmentation())
    assert (augmented == plain).all()


def test_the_best_checkpoint_is_really_loaded(tmp_path):
    """Its weights are stored under older names than the model's own."""
    trainer = trainer_on_images(tmp_path)
    trainer.train()
    trainer.state.best_model_checkpoint = str(tmp_path / "checkpoint-1")
    trainer._load_best_model()
    best = MLCLForImageClassification.from_pretrained(tmp_path / "checkpoint-1")
    assert same(dict(trainer.model.state_dict()), dict(best.state_dict()))


@pytest.mark.parametrize(
    ("cores", "processes", "method", "workers"),
    [
        (1, 1, "fork", 0),
        (4, 1, "fork", 3),
        (64, 1, "fork", 4),
        (8, 2, "fork", 3),
        (2, 4, "fork", 0),
        (4, 1, "forkserver", 0),  # the default of Python 3.14 on Linux
    ],
)
def test_images_are_prepared_by_spare_cores(cores, processes, method, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: method)
    rows = digit_canvases(24, 16, 1).splits["train"]
    images = prepare_images(rows, ViTImageProcessor(size={"height": 16, "width": 16}))
    # Views and positions are wrapped around images; a plain dataset holds tokens.
    assert [default_workers(data) for data in (images, Numbered(Views(images, 2)), rows)] == [workers, workers, 0]


def test_workers_change_nothing_but_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "fork")
    trained = []
    for options, workers in (({}, 2), ({"dataloader_num_workers": 0}, 0)):
        trainer = trainer_on_images(tmp_path, save_strategy="no", num_train_epochs=2, **options)
        assert trainer.get_train_dataloader().num_workers == workers
        trainer.train()
        trained.append(dict(trainer.model.state_dict()))
    assert same(*trained)
