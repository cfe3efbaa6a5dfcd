"""Configurations, encoders, saved models and arguments of model objects that make no sense."""

import json
import math
import shutil

import pytest
import torch
from clear_line import check_line, contents, raises_a_clear_line
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForSequenceClassification

from hf_mlcl import MLCLConfig, MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.models.configuration_mlcl import OBJECTIVES, POOLINGS, PROTOTYPE_INITS, TASKS

CONFIG_CASES = [
    ({"id2label": {"a": 0, "b": 1}}, "id2label"),
    ({"id2label": {1: "a", 2: "b"}}, "id2label"),
    ({"id2label": {0: "a", "0": "b"}}, "id2label"),
    ({"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}}, "label2id"),
    ({"task": "audio"}, "task"),
    ({"objective": "Joint"}, "objective"),
    ({"pooling": "first"}, "pooling"),
    ({"prototype_init": "zero"}, "prototype_init"),
    ({"projection_dim": 0}, "projection_dim"),
    ({"feature_dim": -1}, "feature_dim"),
    ({"classification_weight": math.nan}, "classification_weight"),
    ({"classification_weight": -1}, "classification_weight"),
    ({"thresholds": ["a"]}, "thresholds"),
    ({"thresholds": [0.5, math.nan]}, "thresholds"),
    ({"thresholds": 0.5}, "thresholds"),
    ({"loss_parameters": [1]}, "loss_parameters"),
    ({"classification_loss_parameters": "gamma"}, "classification_loss_parameters"),
    ({"encoder_config": {}}, "encoder_config"),
    ({"encoder_config": {"model_type": "brt"}}, "encoder_config"),
]


@pytest.mark.parametrize(("fields", "message"), CONFIG_CASES, ids=[str(fields) for fields, _ in CONFIG_CASES])
def test_a_configuration_names_the_wrong_field(fields, message):
    raises_a_clear_line(lambda: MLCLConfig(**fields), message)


CHOICES = {"task": TASKS, "objective": OBJECTIVES, "pooling": POOLINGS, "prototype_init": PROTOTYPE_INITS}
CHECKED = [*CHOICES, "projection_dim", "feature_dim", "classification_weight", "thresholds", "loss_parameters"]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.text("acls", max_size=4),
    st.lists(st.floats(), max_size=2),
)


@given(st.sampled_from(CHECKED), VALUES)
def test_a_field_of_any_value_is_taken_or_answered_with_one_clear_line(name, value):
    try:
        config = MLCLConfig(**{name: value})
    except ValueError as error:
        check_line(str(error), name)
    else:
        assert name not in CHOICES or getattr(config, name) in CHOICES[name]
        assert name != "projection_dim" or value >= 1


TEXT, VISION = MLCLForSequenceClassification, MLCLForImageClassification
ENCODER_CASES = {
    "a folder that is not there": (lambda w: TEXT.from_encoder(str(w.root / "none"), 3), "encoder"),
    "a file": (lambda w: TEXT.from_encoder(str(w.a_file), 3), "encoder"),
    "an empty folder": (lambda w: TEXT.from_encoder(str(w.empty_folder), 3), "encoder"),
    "a Hub id while offline": (lambda w: TEXT.from_encoder("nobody/nothing", 3), "encoder"),
    "an image encoder for texts": (lambda w: TEXT.from_encoder(str(w.image_encoder), 3), "encoder"),
    "a text encoder for images": (lambda w: VISION.from_encoder(str(w.encoder), 3), "encoder"),
    "a trained model": (lambda w: TEXT.from_encoder(str(w.model), 3), "encoder"),
    "a number as encoder": (lambda w: TEXT.from_encoder(3, 3), "encoder"),
    "None as encoder": (lambda w: TEXT.from_encoder(None, 3), "encoder"),
    "no labels": (lambda w: TEXT.from_encoder(str(w.encoder), []), "labels"),
    "zero labels": (lambda w: TEXT.from_encoder(str(w.encoder), 0), "labels"),
    "negative labels": (lambda w: TEXT.from_encoder(str(w.encoder), -2), "labels"),
    "labels twice": (lambda w: TEXT.from_encoder(str(w.encoder), ["a", "b", "a"]), "labels"),
    "labels in one text": (lambda w: TEXT.from_encoder(str(w.encoder), "abc"), "labels"),
    "numbers as labels": (lambda w: TEXT.from_encoder(str(w.encoder), [1, 2]), "labels"),
    "labels None": (lambda w: TEXT.from_encoder(str(w.encoder), None), "labels"),
    "a misspelt field": (lambda w: TEXT.from_encoder(str(w.encoder), 3, projection=8), "from_encoder"),
    "a loss of the other kind": (lambda w: TEXT.from_encoder(str(w.encoder), 3, loss="zlpr"), "loss"),
    "a contrastive loss for the logits": (lambda w: TEXT.from_encoder(str(w.encoder), 3, classification_loss="reg"), "classification_loss"),
    "an unknown loss": (lambda w: TEXT.from_encoder(str(w.encoder), 3, loss="regg"), "loss"),
    "pooling of nothing": (lambda w: TEXT.from_encoder(str(w.encoder), 3, pooling="sum"), "pooling"),
    "no pooler in the encoder": (lambda w: TEXT.from_encoder(AutoModel.from_pretrained(w.encoder, add_pooling_layer=False), 3, pooling="pooled"), "pooling"),
    "descriptions alone": (lambda w: TEXT.from_encoder(str(w.encoder), 3, label_descriptions={"a": "b"}), "label_descriptions"),
    "descriptions that are numbers": (lambda w: TEXT.from_encoder(w.encoder, ["a"], prototype_init="label_names", label_descriptions={"a": 3}), "label_descriptions"),
    "a model with a head": (lambda w: TEXT.from_encoder(AutoModelForSequenceClassification.from_pretrained(w.encoder), 3), "encoder"),
    "labels in a mapping": (lambda w: TEXT.from_encoder(w.encoder, {"a": 1}), "labels"),
    "labels without an order": (lambda w: TEXT.from_encoder(w.encoder, {"a", "b"}), "labels"),
    "half a label": (lambda w: TEXT.from_encoder(w.encoder, 2.5), "labels"),
    "another type": (lambda w: TEXT.from_encoder(w.encoder, 3, dtype="float99"), "encoder"),
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
    "an empty config": ({"config.json": lambda w: ""}, "config.json"),
    "a broken config": ({"config.json": lambda w: '{"model_type": "mlcl",'}, "config.json"),
    "a config that is a list": ({"config.json": lambda w: "[]"}, "config.json|mapping"),
    "a config of nothing": ({"config.json": lambda w: "{}"}, "without a model's config.json|model_type"),
    "a binary config": ({"config.json": lambda w: b"\x00\xff\xfe"}, "config.json"),
    "another model": ({"config.json": lambda w: (w.encoder / "config.json").read_text()}, "model"),
    "another task": ({"config.json": lambda w: config_of(w.model, task="audio")}, "task"),
    "the other task": ({"config.json": lambda w: config_of(w.model, task="vision")}, "task|image processor|encoder"),
    "no encoder": ({"config.json": lambda w: config_of(w.model, encoder_config="DROP")}, "encoder_config"),
    "an unknown encoder": ({"config.json": lambda w: config_of(w.model, encoder_config={"model_type": "brt"})}, "encoder_config"),
    "no weights": ({"model.safetensors": None}, "model.safetensors"),
    "empty weights": ({"model.safetensors": lambda w: b""}, "model.safetensors"),
    "garbage weights": ({"model.safetensors": lambda w: b"garbage" * 99}, "model.safetensors"),
    "truncated weights": ({"model.safetensors": lambda w: (w.model / "model.safetensors").read_bytes()[:-200]}, "model.safetensors"),
    "weights of another model": ({"model.safetensors": lambda w: (w.image_model / "model.safetensors").read_bytes()}, "model"),
    "more labels than weights": ({"config.json": lambda w: config_of(w.model, id2label={str(n): f"l{n}" for n in range(5)}, label2id={})}, "model"),
    "no tokenizer": ({"tokenizer.json": None, "tokenizer_config.json": None}, "tokenizer"),
    "an empty tokenizer": ({"tokenizer.json": lambda w: "{}"}, "model"),
    "a label twice": ({"config.json": lambda w: config_of(w.model, id2label={"0": "b", "1": "a", "2": "a"}, label2id={})}, "labels"),
    "thresholds of texts": ({"config.json": lambda w: config_of(w.model, thresholds=[0.1, "x", 0.2])}, "thresholds"),
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
    "no weights": ({"model.safetensors": None}, "model.safetensors"),
    "weights of other shapes": ({"config.json": lambda w: config_of(w.encoder, hidden_size=20)}, "other shapes than its config.json says"),
    "a config that is a list": ({"config.json": lambda w: "[]"}, "encoder"),
    "a text for a size": ({"config.json": lambda w: config_of(w.encoder, hidden_size="x")}, "'hidden_size'"),
    "an empty tokenizer": ({"tokenizer.json": lambda w: "{}"}, "encoder"),
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
        f"^encoder: expected .*{message.removeprefix('encoder: expected ')}",
    )


MODEL_CASES = {
    "predict": "{root}/none",
    "a file": "{a_file}",
    "an empty folder": "{empty_folder}",
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


@pytest.mark.parametrize("command", ["evaluate", "predict", "inspect"])
def test_a_model_without_a_fitted_classifier(command, world, command_fails):
    more = ["--text", "a"] if command == "predict" else ["--dataset", world.data]
    command_fails([command, world.unfitted, *more], "fit_classifier")


INPUTS = {"input_ids": torch.zeros(2, 3, dtype=torch.long)}
CALL_CASES = {
    "top_k of 0": (lambda m: m.predict_labels(top_k=0, **INPUTS), "top_k"),
    "top_k of 1.5": (lambda m: m.predict_labels(top_k=1.5, **INPUTS), "top_k"),
    "top_k True": (lambda m: m.predict_labels(top_k=True, **INPUTS), "top_k"),
    "more labels than there are": (lambda m: m.predict_labels(min_labels=4, **INPUTS), "min_labels"),
    "min_labels of None": (lambda m: m.predict_labels(min_labels=None, **INPUTS), "min_labels"),
    "a NaN threshold": (lambda m: m.predict_labels(threshold=math.nan, **INPUTS), "threshold"),
    "a threshold in percent": (lambda m: m.predict_labels(threshold=50, **INPUTS), "threshold"),
    "a negative threshold": (lambda m: m.predict_labels(threshold=-0.1, **INPUTS), "threshold"),
    "a text as threshold": (lambda m: m.predict_labels(threshold="0.5", **INPUTS), "threshold"),
    "two thresholds of three": (lambda m: m.predict_labels(threshold=[0.1, 0.2], **INPUTS), "threshold"),
    "a matrix of thresholds": (lambda m: m.predict_labels(threshold=[[0.1, 0.2, 0.3]], **INPUTS), "threshold"),
    "no inputs": (lambda m: m.predict_labels(), "input_ids"),
    "token ids as a list": (lambda m: m.predict_labels(input_ids=[[1, 2]]), "input_ids"),
    "token ids of one text": (lambda m: m.predict_labels(input_ids=INPUTS["input_ids"][0]), "input_ids"),
    "token ids that are fractions": (lambda m: m.predict_labels(input_ids=torch.ones(2, 3)), "input_ids"),
    "token ids of another tokenizer": (lambda m: m.predict_labels(input_ids=torch.tensor([[1, 10**6]])), "input_ids"),
    "negative token ids": (lambda m: m.predict_labels(input_ids=torch.tensor([[1, -1]])), "input_ids"),
    "a mask of another length": (lambda m: m.predict_labels(input_ids=INPUTS["input_ids"], attention_mask=torch.ones(2, 4)), r"attention_mask: expected the shape of input_ids, \[2, 3\], got \[2, 4\]"),
    "a text that is too long": (lambda m: m.predict_labels(input_ids=torch.zeros(1, 600, dtype=torch.long)), "input_ids"),
    "class ids as labels": (lambda m: m(labels=torch.tensor([0, 1]), **INPUTS), "labels"),
    "labels of another width": (lambda m: m(labels=torch.ones(2, 4), **INPUTS), "labels"),
    "soft labels": (lambda m: m(labels=torch.full((2, 3), 0.5), **INPUTS), "labels"),
    "no new labels": (lambda m: m.add_labels([]), "names"),
    "a label that is there": (lambda m: m.add_labels(["red"]), "labels"),
    "a label that is there but for blanks": (lambda m: m.add_labels(["red "]), "labels"),
    "a new label twice": (lambda m: m.add_labels(["new", "new"]), "labels"),
    "a blank label": (lambda m: m.add_labels([" "]), "(labels|names)"),
    "a number as label": (lambda m: m.add_labels([3]), "(labels|names)"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CALL_CASES))
def test_a_model_names_the_wrong_argument_and_stays_as_it_is(case, world):
    model = MLCLForSequenceClassification.from_pretrained(world.model)
    call, message = CALL_CASES[case]
    raises_a_clear_line(lambda: call(model), message)
    assert model.config.label_names == ["red", "green", "blue"] and not model.training
    assert len(model.classifier.weight) == len(model.prototypes.weight) == 3
