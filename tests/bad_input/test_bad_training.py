"""The Trainer, its collator, preparation, and checkpoints to resume from, given what does not fit."""

import math
import shutil

import datasets
import pytest
import torch
from clear_line import contents, raises_a_clear_line
from toy import Tokenizer, toy_dataset, toy_model, toy_trainer
from transformers import TrainingArguments

from hf_mlcl import MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import (
    RandAugment,
    encode_labels,
    iterative_split,
    multi_hot,
    prepare_images,
    prepare_text,
    preprocess_function,
    with_image_size,
)

ROWS = toy_dataset(16)


def without(column):
    return ROWS.remove_columns(column)


def labelled(*rows):
    ids = {"input_ids": [[1, 2]] * len(rows), "attention_mask": [[1, 1]] * len(rows)}
    return datasets.Dataset.from_dict({**ids, "labels": list(rows)})


def build(folder, **options):
    given = {"model": toy_model(), "processing_class": Tokenizer()} | options
    given.setdefault("args", MLCLTrainingArguments(output_dir=str(folder), report_to="none", use_cpu=True))
    return MLCLTrainer(**given)


TRAINER_CASES = {
    "stock arguments": (lambda f: build(f, args=TrainingArguments(output_dir=str(f))), "args"),
    "a stock model": (lambda f: build(f, model=toy_model().encoder), "model"),
    "no labels": (lambda f: toy_trainer(f, train=without("labels")).train(), "labels"),
    "labels of another width": (lambda f: toy_trainer(f, train=labelled(*[[1, 0, 1]] * 8)).train(), "labels"),
    "ragged labels": (lambda f: toy_trainer(f, train=labelled(*[[1] * 5] * 7, [1])).train(), "labels"),
    "the name of a data set": (lambda f: build(f, train_dataset="reuters"), "train_dataset"),
    "texts that are not prepared": (lambda f: build(f, train_dataset=TEXTS.select([0] * 64).rename_column("text", "words")).train(), "examples"),
    "no tokenizer to pad with": (lambda f: build(f, processing_class=None, train_dataset=toy_dataset(64)).train(), "processing_class"),
    "no data to fit on": (lambda f: build(f).fit_classifier(), "(train|eval)_dataset"),
    "no validation to fit on": (lambda f: build(f).fit_classifier(toy_dataset(16)), "eval_dataset"),
    "several validations to fit on": (lambda f: build(f).fit_classifier(ROWS, {"a": ROWS}), "eval_dataset"),
    "another projection": (lambda f: toy_trainer(f, projection_dim=7), "projection_dim"),
    "a loss of its own": (lambda f: build(f, compute_loss_func=lambda *_: 0), "compute_loss_func"),
    "a number as output_dir": (lambda f: MLCLTrainingArguments(output_dir=3), "output_dir"),
    "evaluation in parts": (lambda f: toy_trainer(f, batch_eval_metrics=True), "batch_eval_metrics"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(TRAINER_CASES))
def test_the_trainer_names_what_does_not_fit(case, tmp_path):
    call, message = TRAINER_CASES[case]
    raises_a_clear_line(lambda: call(tmp_path), message)


ARGUMENT_VALUES = {
    "learning_rate": ("fast", math.nan, -1),
    "head_learning_rate": (-1,),
    "per_device_train_batch_size": (2.5, 0),
    "num_train_epochs": ("many", -2),
    "max_steps": (0,),
    "save_steps": (None,),
    "warmup_steps": (-1,),
    "weight_decay": (-1,),
    "adam_beta1": (2,),
    "neftune_noise_alpha": (-1,),
    "seed": (2**40, -1, "x"),
    "views": (0,),
    "queue_size": (-1, 2.5),
    "momentum": (1.0, -0.1),
    "gradient_cache_chunk_size": (0, -1, 2.5, True),
    "prototype_sample_size": (0,),
    "temperature": ("hot", 0, -1.0, math.nan, math.inf),
    "alpha": (math.nan,),
    "bf16": ("perhaps",),
    "lr_scheduler_type": ("cosin",),
    "optim": ("magic",),
    "report_to": (["nobody"],),
    "eval_strategy": ("never",),
    "loss": ("regg",),
    "objective": ("all",),
    "classification_weight": (-0.5,),
    "label_smoothing_factor": (0.1,),
}
# What does not fit to other arguments or to the model.
ARGUMENT_CASES = [
    ({"loss": "bce", "objective": "joint"}, "loss"),
    ({"loss": "bce", "classification_loss": "zlpr"}, "classification_loss"),
    ({"loss": "bce", "temperature": 0.1}, "temperature"),
    ({"loss": "reg", "beta": 0.1}, "'beta'"),
    ({"classification_loss": "reg"}, "classification_loss"),
    ({"pooling": "mean"}, "pooling"),
    ({"projection_dim": 8}, "projection_dim"),
    ({"loss_kwargs": {"gamma": 1}}, "'gamma'"),
    ({"loss_kwargs": {"temperature": 1}, "temperature": 2}, "temperature"),
    ({"loss_kwargs": "{gamma"}, "loss_kwargs"),
    ({"loss": "focal", "loss_kwargs": {"gamma": -1}}, "gamma"),
    ({"prototype_sample_size": 2, "loss": "supcon_any"}, "prototype_sample_size"),
    ({"prototype_sample_size": 2, "loss": "bce"}, "prototype_sample_size"),
    ({"loss": "zlpr", "queue_size": 9}, "queue_size"),
    ({"loss": "zlpr", "momentum": 0.9}, "momentum"),
    ({"loss": "proto", "queue_size": 9}, "queue_size"),
    *(({"label_aware_batches": True, "train_sampling_strategy": name}, "train_sampling_strategy")
      for name in ("group_by_length", "batch_rebalance", "sequential")),
    *(({name: value}, name) for name, values in ARGUMENT_VALUES.items() for value in values),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), ARGUMENT_CASES, ids=[str(fields) for fields, _ in ARGUMENT_CASES])
def test_training_arguments_name_the_wrong_field(fields, message, tmp_path):
    options = {"output_dir": str(tmp_path)} | fields
    raises_a_clear_line(lambda: toy_trainer(options.pop("output_dir"), **options), message)


TEXTS = datasets.Dataset.from_dict({"text": ["a", "b"], "labels": [[True, False], [False, True]]})
NUMBERS = datasets.Dataset.from_dict({"text": [1, 2]})

PREPARATION_CASES = {
    "a name as tokenizer": (lambda w: prepare_text(TEXTS, "bert"), "tokenizer"),
    "texts without the column": (lambda w: prepare_text(TEXTS.rename_column("text", "body"), w.tokenizer), "column 'text'"),
    "numbers as texts": (lambda w: prepare_text(NUMBERS, w.tokenizer), "column 'text'"),
    "max_length of the special tokens": (lambda w: prepare_text(TEXTS, w.tokenizer, max_length=2), "max_length"),
    "no label column": (
        lambda w: preprocess_function(w.tokenizer, ["a"], label_column="tags")({"text": ["x"]}),
        "label_column",
    ),
    "no text column": (lambda w: preprocess_function(w.tokenizer)({"body": ["x"]}), "text_column"),
    "images without the column": (lambda w: prepare_images(TEXTS, w.processor), "column 'image'"),
    "corrupt images ignored": (lambda w: prepare_images(TEXTS, w.processor, corrupt_images="ignore"), "corrupt_images"),
    "images of no pixel": (lambda w: with_image_size(w.processor, 0), "image_size"),
    "too much augmentation": (lambda w: RandAugment(magnitude=31), "magnitude"),
    "ids beyond the labels": (lambda w: multi_hot([[0], [2]], 2), "ids"),
    "a split of everything": (lambda w: iterative_split(torch.ones(3, 2).numpy(), 1.0, 0), "fraction"),
    "a column that is not there": (lambda w: encode_labels({"train": TEXTS}, ["tags"]), "tags"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(PREPARATION_CASES))
def test_preparation_names_what_is_wrong(case, world):
    call, message = PREPARATION_CASES[case]
    raises_a_clear_line(lambda: call(world), message)


# --- checkpoints ---


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A complete checkpoint of the toy model."""
    folder = tmp_path_factory.mktemp("toy")
    toy_trainer(folder, max_steps=1, save_strategy="steps", save_steps=1).train()
    return folder / "checkpoint-1"


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


# What is done to the checkpoint, what is resumed from (None: the checkpoint), and what the line says.
RESUME_CASES = {
    "a folder that is not there": (
        None,
        "checkpoint-9",
        "checkpoint-9",
    ),
    "the folder above": (None, "", "trainer_state.json is missing"),
    "a broken state": (cut("trainer_state.json"), None, "trainer_state.json is cut short"),
    "a state that is a list": (write("trainer_state.json", "[]"), None, "trainer_state.json holds no state"),
    "a binary state": (
        lambda folder: (folder / "trainer_state.json").write_bytes(b"\xff\xfe\0"),
        None,
        "trainer_state.json",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), None, "the weights are missing"),
    "cut weights": (cut("model.safetensors"), None, "model.safetensors is cut short"),
    "a cut optimizer": (cut("optimizer.pt"), None, "optimizer.pt is cut short"),
    "a garbage schedule": (write("scheduler.pt", "x" * 99), None, "scheduler.pt is cut short"),
    "a saving that was interrupted": (write("checkpoint-is-incomplete.txt", ""), None, "its saving was interrupted"),
    "a number": (None, 7, "7"),
}


@pytest.mark.parametrize("case", list(RESUME_CASES))
def test_a_checkpoint_that_cannot_be_resumed_from(case, checkpoint, tmp_path):
    damage, wanted, message = RESUME_CASES[case]
    shutil.copytree(checkpoint, tmp_path / "checkpoint-1")
    if damage is not None:
        damage(tmp_path / "checkpoint-1")
    held = contents(tmp_path)
    source = tmp_path / "checkpoint-1" if wanted is None else wanted if isinstance(wanted, int) else tmp_path / wanted
    trainer = toy_trainer(tmp_path, max_steps=2)
    resume = source if isinstance(source, int) else str(source)
    raises_a_clear_line(lambda: trainer.train(resume_from_checkpoint=resume), f"resume_from_checkpoint.*{message}")
    assert contents(tmp_path) == held
