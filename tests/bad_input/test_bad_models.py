"""Configurations, encoders, saved models and arguments of model objects that make no sense."""

import json
import math
import shutil

import pytest
import torch
from clear_line import contents, raises_a_clear_line
from transformers import AutoModel, AutoModelForSequenceClassification

from hf_mlcl import MLCLConfig, MLCLForImageClassification, MLCLForSequenceClassification

CONFIG_CASES = [
    ({"id2label": {1: "a", 2: "b"}}, "id2label"),
    ({"id2label": {0: "a", "0": "b"}}, "id2label"),
    ({"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}}, "label2id"),
    ({"task": "audio"}, "task"),
    ({"objective": "Joint"}, "objective"),
    ({"projection_dim": 0}, "projection_dim"),
    ({"classification_weight": math.nan}, "classification_weight"),
    ({"thresholds": [0.5, math.nan]}, "thresholds"),
    ({"loss_parameters": [1]}, "loss_parameters"),
    ({"classification_loss_parameters": "gamma"}, "classification_loss_parameters"),
    ({"encoder_config": {"model_type": "brt"}}, "encoder_config"),
]


@pytest.mark.parametrize(("fields", "message"), CONFIG_CASES, ids=[str(fields) for fields, _ in CONFIG_CASES])
def test_a_configuration_names_the_wrong_field(fields, message):
    raises_a_clear_line(lambda: MLCLConfig(**fields), message)


TEXT, VISION = MLCLForSequenceClassification, MLCLForImageClassification
ENCODER_CASES = {
    "a Hub id while offline": (lambda w: TEXT.from_encoder("nobody/nothing", 3), "encoder"),
    "an image encoder for texts": (lambda w: TEXT.from_encoder(str(w.image_encoder), 3), "encoder"),
    "a text encoder for images": (lambda w: VISION.from_encoder(str(w.encoder), 3), "encoder"),
    "a number as encoder": (lambda w: TEXT.from_encoder(3, 3), "encoder"),
    "no labels": (lambda w: TEXT.from_encoder(str(w.encoder), []), "labels"),
    "zero labels": (lambda w: TEXT.from_encoder(str(w.encoder), 0), "labels"),
    "labels twice": (lambda w: TEXT.from_encoder(str(w.encoder), ["a", "b", "a"]), "labels"),
    "labels in one text": (lambda w: TEXT.from_encoder(str(w.encoder), "abc"), "labels"),
    "a misspelt field": (lambda w: TEXT.from_encoder(str(w.encoder), 3, projection=8), "from_encoder"),
    "a loss of the other kind": (lambda w: TEXT.from_encoder(str(w.encoder), 3, loss="zlpr"), "loss"),
    "pooling of nothing": (lambda w: TEXT.from_encoder(str(w.encoder), 3, pooling="sum"), "pooling"),
    "no pooler in the encoder": (lambda w: TEXT.from_encoder(AutoModel.from_pretrained(w.encoder, add_pooling_layer=False), 3, pooling="pooled"), "pooling"),
    "descriptions alone": (lambda w: TEXT.from_encoder(str(w.encoder), 3, label_descriptions={"a": "b"}), "label_descriptions"),
    "descriptions that are numbers": (lambda w: TEXT.from_encoder(w.encoder, ["a"], prototype_init="label_names", label_descriptions={"a": 3}), "label_descriptions"),
    "a model with a head": (lambda w: TEXT.from_encoder(AutoModelForSequenceClassification.from_pretrained(w.encoder), 3), "encoder"),
    "labels in a mapping": (lambda w: TEXT.from_encoder(w.encoder, {"a": 1}), "labels"),
    "the name of a tokenizer": (lambda w: TEXT.from_encoder(w.encoder, ["a"], prototype_init="label_names", tokenizer="bert"), "tokenizer"),
    "names for images": (lambda w: VISION.from_encoder(str(w.image_encoder), 3, prototype_init="label_names"), "prototype_init"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(ENCODER_CASES))
def test_from_encoder_names_what_is_wrong(case, world):
    call, message = ENCODER_CASES[case]
    raises_a_clear_line(lambda: call(world), message)


def config_of(folder, **changes):
    values = json.loads((folder / "config.json").read_text()) | changes
    return json.dumps({name: value for name, value in values.items() if value != "DROP"})


# What is written over the files of a trained model (None removes one), and what the line says.
FOLDER_CASES = {
    "no config": ({"config.json": None}, "config.json"),
    "a broken config": ({"config.json": lambda w: '{"model_type": "mlcl",'}, "config.json"),
    "a config of nothing": ({"config.json": lambda w: "{}"}, "without a model's config.json|model_type"),
    "another model": ({"config.json": lambda w: (w.encoder / "config.json").read_text()}, "model"),
    "the other task": ({"config.json": lambda w: config_of(w.model, task="vision")}, "task|image processor|encoder"),
    "no encoder": ({"config.json": lambda w: config_of(w.model, encoder_config="DROP")}, "encoder_config"),
    "an unknown encoder": ({"config.json": lambda w: config_of(w.model, encoder_config={"model_type": "brt"})}, "encoder_config"),
    "truncated weights": ({"model.safetensors": lambda w: (w.model / "model.safetensors").read_bytes()[:-200]}, "model.safetensors"),
    "weights of another model": ({"model.safetensors": lambda w: (w.image_model / "model.safetensors").read_bytes()}, "model"),
    "more labels than weights": ({"config.json": lambda w: config_of(w.model, id2label={str(n): f"l{n}" for n in range(5)}, label2id={})}, "model"),
    "no tokenizer": ({"tokenizer.json": None, "tokenizer_config.json": None}, "tokenizer"),
    "a label twice": ({"config.json": lambda w: config_of(w.model, id2label={"0": "b", "1": "a", "2": "a"}, label2id={})}, "labels"),
    "a pooler without weights": ({"config.json": lambda w: config_of(w.model, pooling="pooled")}, "model"),
    "a broken tokenizer": ({"tokenizer.json": lambda w: "{"}, "tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(FOLDER_CASES))
def test_a_model_whose_files_are_damaged(case, world, tmp_path, command_fails):
    changes, message = FOLDER_CASES[case]
    shutil.copytree(world.model, tmp_path / "model")
    damage(tmp_path / "model", changes, world)
    held = contents(tmp_path)
    command_fails(["predict", tmp_path / "model", "--text", "apple"], message)
    assert contents(tmp_path) == held


# The same for an encoder that is to be trained.
ENCODER_FOLDER_CASES = {
    "cut weights": ({"model.safetensors": lambda w: (w.encoder / "model.safetensors").read_bytes()[:-100]}, "model.safetensors: "),
    "weights of other shapes": ({"config.json": lambda w: config_of(w.encoder, hidden_size=20)}, "other shapes than its config.json says"),
    "broken modules": ({"modules.json": lambda w: '{"a": 1}'}, "encoder"),
}  # fmt: skip


def damage(folder, changes, world):
    for name, content in changes.items():
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            data = content(world)
            (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


@pytest.mark.parametrize("case", list(ENCODER_FOLDER_CASES))
def test_an_encoder_whose_files_are_damaged(case, world, tmp_path, command_fails):
    changes, message = ENCODER_FOLDER_CASES[case]
    shutil.copytree(world.encoder, tmp_path / "encoder")
    damage(tmp_path / "encoder", changes, world)
    base = ["train", "--task", "text", "--dataset", world.data, "--output_dir", world.out, "--use_cpu", "true"]
    command_fails(
        [*base, "--encoder", tmp_path / "encoder"],
        f"^encoder: .*{message.removeprefix('encoder: expected ')}",
    )


MODEL_CASES = {
    "predict": "{root}/none",
    "an encoder": "{encoder}",
    "data": "{data}",
    "a Hub id while offline": "nobody/nothing",
    "no id at all": "no body/no/thing",
}


@pytest.mark.parametrize("command", ["evaluate", "predict", "inspect"])
@pytest.mark.parametrize("case", list(MODEL_CASES))
def test_a_folder_that_is_no_trained_model(case, command, world, command_fails):
    source = MODEL_CASES[case].format_map(vars(world))
    more = ["--text", "a"] if command == "predict" else ["--dataset", world.data]
    command_fails([command, source, *more], "model")


INPUTS = {"input_ids": torch.zeros(2, 3, dtype=torch.long)}
CALL_CASES = {
    "top_k of 0": (lambda m: m.predict_labels(top_k=0, **INPUTS), "top_k"),
    "more labels than there are": (lambda m: m.predict_labels(min_labels=4, **INPUTS), "min_labels"),
    "a NaN threshold": (lambda m: m.predict_labels(threshold=math.nan, **INPUTS), "threshold"),
    "a text as threshold": (lambda m: m.predict_labels(threshold="0.5", **INPUTS), "threshold"),
    "two thresholds of three": (lambda m: m.predict_labels(threshold=[0.1, 0.2], **INPUTS), "threshold"),
    "no inputs": (lambda m: m.predict_labels(), "input_ids"),
    "token ids of one text": (lambda m: m.predict_labels(input_ids=INPUTS["input_ids"][0]), "input_ids"),
    "token ids of another tokenizer": (lambda m: m.predict_labels(input_ids=torch.tensor([[1, 10**6]])), "input_ids"),
    "a mask of another length": (lambda m: m.predict_labels(input_ids=INPUTS["input_ids"], attention_mask=torch.ones(2, 4)), r"attention_mask: .*\[2, 4\].*\[2, 3\]"),
    "a text that is too long": (lambda m: m.predict_labels(input_ids=torch.zeros(1, 600, dtype=torch.long)), "input_ids"),
    "labels of another width": (lambda m: m(labels=torch.ones(2, 4), **INPUTS), "labels"),
    "no new labels": (lambda m: m.add_labels([]), "names"),
    "a label that is there": (lambda m: m.add_labels(["red"]), "labels"),
    "a new label twice": (lambda m: m.add_labels(["new", "new"]), "labels"),
    "a number as label": (lambda m: m.add_labels([3]), "(labels|names)"),
    "a label that is there but for blanks": (lambda m: m.add_labels([" red\u2003"]), "labels"),
    "a new label in two forms of Unicode": (lambda m: m.add_labels(["\u00d6l", "O\u0308l"]), "labels"),
    "new labels in a set": (lambda m: m.add_labels({"x", "y"}), "names"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CALL_CASES))
def test_a_model_names_the_wrong_argument_and_stays_as_it_is(case, world):
    model = MLCLForSequenceClassification.from_pretrained(world.model)
    call, message = CALL_CASES[case]
    raises_a_clear_line(lambda: call(model), message)
    assert model.config.label_names == ["red", "green", "blue"] and not model.training
    assert len(model.classifier.weight) == len(model.prototypes.weight) == 3
