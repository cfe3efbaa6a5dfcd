"""The Trainer, its collator, preparation, and checkpoints to resume from, given what does not fit."""

import json
import math
import shutil

import datasets
import pytest
import torch
from clear_line import contents, raises_a_clear_line
from toy import NUM_LABELS, Tokenizer, toy_dataset, toy_model, toy_trainer
from transformers import TrainingArguments

from hf_mlcl import MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import (
    Labels,
    MultiLabelCollator,
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
    "stock arguments": (lambda f: build(f, args=TrainingArguments(output_dir=str(f))), "args: expected MLCLTrainingArguments, got TrainingArguments"),
    "arguments as a mapping": (lambda f: build(f, args={"output_dir": str(f)}), "args: expected MLCLTrainingArguments, got dict"),
    "a stock model": (lambda f: build(f, model=toy_model().encoder), "model: expected an MLCL model, got BertModel"),
    "a name as model": (lambda f: build(f, model="bert"), "model: expected an MLCL model, got str"),
    "no model": (lambda f: build(f, model=None), "model: expected .*got None|model"),
    "fewer rows than a batch": (lambda f: build(f, train_dataset=ROWS), "per_device_train_batch_size: expected at most the 16 .*got 64"),
    "no labels": (lambda f: toy_trainer(f, train=without("labels")).train(), "labels.*: expected .*"),
    "labels of another width": (lambda f: toy_trainer(f, train=labelled(*[[1, 0, 1]] * 8)).train(), "labels: expected 5 values .*got 3"),
    "class ids": (lambda f: toy_trainer(f, train=labelled(*[[0, 1, 2, 3, 4]] * 8)).train(), "labels.*: expected .*got 2"),
    "one class id a row": (lambda f: toy_trainer(f, train=labelled(*[3] * 8)).train(), "labels.*: expected "),
    "ragged labels": (lambda f: toy_trainer(f, train=labelled(*[[1] * 5] * 7, [1])).train(), "labels.*: expected .*"),
    "names as labels": (lambda f: toy_trainer(f, train=labelled(*[["a", "b"]] * 8)).train(), "labels.*: expected "),
    "the name of a data set": (lambda f: build(f, train_dataset="reuters"), "train_dataset: expected a data set, got the text 'reuters'"),
    "rows that are numbers": (lambda f: build(f, train_dataset=list(range(64))).train(), "examples: expected mappings of columns to values, got int"),
    "texts that are not prepared": (lambda f: build(f, train_dataset=TEXTS.select([0] * 64)).train(), "examples: expected 'input_ids' .*labels"),
    "no tokenizer to pad with": (lambda f: build(f, processing_class=None, train_dataset=toy_dataset(64)).train(), "processing_class: expected the tokenizer, which pads texts of . to . tokens, got None"),
    "no optuna model": (lambda f: build(f, train_dataset=toy_dataset(64)).hyperparameter_search(), "model_init: expected .*got None"),
    "no training data to train on": (lambda f: build(f).train(), "train_dataset: expected |train_dataset"),
    "no data to fit on": (lambda f: build(f).fit_classifier(), "(train|eval)_dataset: expected .*NoneType"),
    "no validation to fit on": (lambda f: build(f).fit_classifier(toy_dataset(16)), "eval_dataset: expected .*NoneType"),
    "several validations to fit on": (lambda f: build(f).fit_classifier(ROWS, {"a": ROWS}), "eval_dataset: expected one .*dict"),
    "a classifier that nothing trained": (lambda f: build(f).fit_classifier(ROWS, ROWS, linear_evaluation=False), "linear_evaluation: expected True"),
    "evaluating without data": (lambda f: build(f).evaluate(), "(train|eval)_dataset: expected|eval_dataset"),
    "another pooling": (lambda f: toy_trainer(f, pooling="mean"), "pooling: expected 'cls'.*got 'mean'"),
    "another projection": (lambda f: toy_trainer(f, projection_dim=7), "projection_dim: expected 256.*got 7"),
    "a loss of its own": (lambda f: build(f, compute_loss_func=lambda *_: 0), "compute_loss_func: expected None"),
    "evaluation in parts": (lambda f: toy_trainer(f, batch_eval_metrics=True), "batch_eval_metrics: expected False"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(TRAINER_CASES))
def test_the_trainer_names_what_does_not_fit(case, tmp_path):
    call, message = TRAINER_CASES[case]
    raises_a_clear_line(lambda: call(tmp_path), message)


ARGUMENT_CASES = [
    ({"learning_rate": "fast"}, "learning_rate: expected .*'fast'"),
    ({"learning_rate": math.nan}, "learning_rate: expected .*nan"),
    ({"learning_rate": [1e-3]}, "learning_rate: expected .*\\[0.001\\]"),
    ({"per_device_train_batch_size": 2.5}, "per_device_train_batch_size: expected .*2.5"),
    ({"per_device_train_batch_size": True}, "per_device_train_batch_size: expected .*True"),
    ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps: expected .*0"),
    ({"num_train_epochs": -1}, "num_train_epochs: expected .*-1"),
    ({"max_steps": 0}, "max_steps: expected .*0"),
    ({"seed": 2**40}, "seed: expected .*1099511627776"),
    ({"data_seed": -1}, "data_seed: expected .*-1"),
    ({"views": 0}, "views: expected .*0"),
    ({"head_learning_rate": -1}, "head_learning_rate: expected .*-1"),
    ({"bf16": "perhaps"}, "bf16: expected .*'perhaps'"),
    ({"lr_scheduler_type": "cosin"}, "lr_scheduler_type: expected .*did you mean 'cosine'"),
    ({"report_to": ["nobody"]}, "report_to: expected .*'nobody'"),
    ({"eval_strategy": "never"}, "eval_strategy: expected .*never"),
    ({"save_strategy": "sometimes"}, "save_strategy: expected .*sometimes"),
    ({"output_dir": 3}, "output_dir: expected a folder, got 3"),
    ({"temperature": "hot"}, "temperature: expected .*'hot'"),
    ({"save_steps": None}, "save_steps: expected a value of type float, got None"),
    ({"bf16": None}, "bf16: expected a value of type bool, got None"),
    ({"optim": "magic"}, "optim: expected .*magic"),
]


@pytest.mark.parametrize(("fields", "message"), ARGUMENT_CASES, ids=[str(fields) for fields, _ in ARGUMENT_CASES])
def test_training_arguments_name_the_wrong_field(fields, message, tmp_path):
    options = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": "none"} | fields
    raises_a_clear_line(lambda: MLCLTrainingArguments(**options), message)


COLLATE = MultiLabelCollator(Tokenizer(), 2)
TOKENS = {"input_ids": [1, 2], "attention_mask": [1, 1]}
TEXTS = datasets.Dataset.from_dict({"text": ["a", "b"], "labels": [[True, False], [False, True]]})
NUMBERS = datasets.Dataset.from_dict({"text": [1, 2]})

PREPARATION_CASES = {
    "collator of no labels": (lambda w: MultiLabelCollator(Tokenizer(), 0), "num_labels: expected at least 1, got 0"),
    "batch of another width": (lambda w: COLLATE([TOKENS | {"labels": [1, 0, 1]}]), "labels: expected 2 values .*got 3"),
    "batch of class ids": (lambda w: COLLATE([TOKENS | {"labels": [0, 7]}]), "labels: row 0 .*: expected 0, 1 .*got 7"),
    "batch of one class id": (lambda w: COLLATE([TOKENS | {"labels": 1}]), "labels: expected 2 values .*shape \\(\\)"),
    "batch of names": (lambda w: COLLATE([TOKENS | {"labels": ["a", "b"]}]), "labels: .*expected "),
    "batch partly without labels": (lambda w: COLLATE([TOKENS, TOKENS | {"labels": [0, 1]}]), "labels: expected labels in all 2 .*got 1 without"),
    "batch without inputs": (lambda w: COLLATE([{"labels": [0, 1], "words": "a"}]), "examples: expected 'input_ids' .*words"),
    "batch of nothing": (lambda w: COLLATE([]), "examples: expected at least one"),
    "images of two sizes": (
        lambda w: COLLATE([{"pixel_values": torch.ones(3, s, s)} for s in (2, 3)]),
        "pixel_values: expected one size",
    ),
    "texts in a list": (lambda w: prepare_text([{"text": "a"}], w.tokenizer), "split: expected a Dataset .*got list"),
    "a name as tokenizer": (lambda w: prepare_text(TEXTS, "bert"), "tokenizer: expected a tokenizer, got str"),
    "no tokenizer": (lambda w: preprocess_function(None), "tokenizer: expected a tokenizer, got NoneType"),
    "texts without the column": (lambda w: prepare_text(TEXTS.rename_column("text", "body"), w.tokenizer), "column 'text': expected .*body"),
    "numbers as texts": (lambda w: prepare_text(NUMBERS, w.tokenizer), "column 'text': expected texts, got 1"),
    "max_length of the special tokens": (lambda w: prepare_text(TEXTS, w.tokenizer, max_length=2), "max_length: expected more than .*got 2"),
    "max_length as a text": (lambda w: prepare_text(TEXTS, w.tokenizer, max_length="9"), "max_length: expected .*'9'"),
    "max_length of 2.5": (lambda w: prepare_text(TEXTS, w.tokenizer, max_length=4.5), "max_length: expected .*4.5"),
    "no label column": (
        lambda w: preprocess_function(w.tokenizer, ["a"], label_column="tags")({"text": ["x"]}),
        "label_column: expected one of text, got 'tags'",
    ),
    "no text column": (lambda w: preprocess_function(w.tokenizer)({"body": ["x"]}), "text_column: expected one of body, got 'text'"),
    "an unknown label": (
        lambda w: preprocess_function(w.tokenizer, ["apple"])({"text": ["x"], "labels": [["aple"]]}),
        "column 'labels': expected one of .*'aple' .*.nearest: 'apple'",
    ),
    "an id of no label": (lambda w: preprocess_function(w.tokenizer, ["a"])({"text": ["x"], "labels": [[3]]}), "column 'labels': expected .*got 3"),
    "label names twice": (lambda w: preprocess_function(w.tokenizer, ["a", "a"]), "label_names: expected different names, got 'a'"),
    "images without the column": (lambda w: prepare_images(TEXTS, w.processor), "column 'image': expected .*text"),
    "corrupt images ignored": (lambda w: prepare_images(TEXTS, w.processor, corrupt_images="ignore"), "corrupt_images: expected .*'ignore'"),
    "images of no pixel": (lambda w: with_image_size(w.processor, 0), "image_size: expected at least 1 pixel, got 0"),
    "images of half a pixel": (lambda w: with_image_size(w.processor, 2.5), "image_size: expected .*got 2.5"),
    "no augmentation": (lambda w: RandAugment(num_ops=0), "num_ops: expected at least 1, got 0"),
    "too much augmentation": (lambda w: RandAugment(magnitude=31), "magnitude: expected 0 to 30, got 31"),
    "a split without labels": (lambda w: Labels.of(TEXTS.remove_columns("labels")), "column 'labels': expected .*text"),
    "ids beyond the labels": (lambda w: multi_hot([[0], [2]], 2), "ids: expected .*got 2 in row 1"),
    "a split of everything": (lambda w: iterative_split(torch.ones(3, 2).numpy(), 1.0, 0), "fraction: expected .*got 1.0"),
    "a split of class ids": (lambda w: iterative_split(torch.arange(3).numpy(), 0.5, 0), "labels: expected .*\\(3,\\)"),
    "a column that is not there": (lambda w: encode_labels({"train": TEXTS}, ["tags"]), "label_column: .*'tags'|label column 'tags': expected"),
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


def state_with(**changes):
    def change(folder):
        path = folder / "trainer_state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


# What is done to the checkpoint, what is resumed from (None: the checkpoint), and what the line says.
RESUME_CASES = {
    "a folder that is not there": (
        None,
        "checkpoint-9",
        "expected true or the folder of a checkpoint, got .*checkpoint-9",
    ),
    "a file": (write("file", ""), "checkpoint-1/file", "expected true or the folder of a checkpoint, got .*file"),
    "the folder above": (None, "", "expected a complete checkpoint, .*trainer_state.json is missing"),
    "no state": (lambda folder: (folder / "trainer_state.json").unlink(), None, "trainer_state.json is missing"),
    "a broken state": (cut("trainer_state.json"), None, "trainer_state.json is cut short"),
    "an empty state": (write("trainer_state.json", "{}"), None, "trainer_state.json holds no state"),
    "a state that is a list": (write("trainer_state.json", "[]"), None, "trainer_state.json holds no state"),
    "a binary state": (
        lambda folder: (folder / "trainer_state.json").write_bytes(b"\xff\xfe\0"),
        None,
        "trainer_state.json",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), None, "the weights are missing"),
    "cut weights": (cut("model.safetensors"), None, "model.safetensors is cut short"),
    "garbage weights": (write("model.safetensors", "x" * 99), None, "model.safetensors is cut short"),
    "a cut optimizer": (cut("optimizer.pt"), None, "optimizer.pt is cut short"),
    "a garbage schedule": (write("scheduler.pt", "x" * 99), None, "scheduler.pt is cut short"),
    "a saving that was interrupted": (write("checkpoint-is-incomplete.txt", ""), None, "its saving was interrupted"),
    "steps of another type": (state_with(global_step="many"), None, "trainer_state.json"),
    "a number": (None, 7, "expected true or the folder of a checkpoint, got 7"),
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
    raises_a_clear_line(lambda: trainer.train(resume_from_checkpoint=resume), f"resume_from_checkpoint: .*{message}")
    assert contents(tmp_path) == held


OTHER_MODELS = {
    "more labels": lambda: _other(NUM_LABELS + 2),
    "another projection": lambda: toy_model(projection_dim=8),
}


def _other(labels):
    from hf_mlcl import MLCLForSequenceClassification

    return MLCLForSequenceClassification.from_encoder(toy_model().encoder, labels=labels)


@pytest.mark.parametrize("case", list(OTHER_MODELS))
def test_a_checkpoint_of_another_model_is_refused(case, checkpoint, tmp_path):
    model = OTHER_MODELS[case]()
    trainer = build(
        tmp_path,
        model=model,
        train_dataset=labelled(*[[1, 0, 1, 0, 1, 0, 1][: len(model.config.label_names)]] * 16),
        args=MLCLTrainingArguments(
            output_dir=str(tmp_path), report_to="none", use_cpu=True, per_device_train_batch_size=8, max_steps=2
        ),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    call = lambda: trainer.train(resume_from_checkpoint=str(checkpoint))  # noqa: E731
    raises_a_clear_line(call, "resume_from_checkpoint: expected .*checkpoint-1")
    assert all(before[name].equal(value) for name, value in model.state_dict().items())
