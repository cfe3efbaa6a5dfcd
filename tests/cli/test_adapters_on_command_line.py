"""`hf-mlcl train --lora_r` and `--peft_config`: a folder with an adapter that all other commands take."""

import json

import pytest
from test_cli import text_arguments

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.cli import main


@pytest.fixture(scope="module")
def adapter(text_data, text_encoder, tmp_path_factory):
    """An adapter trained by the command line, into a folder that held a whole model."""
    folder = tmp_path_factory.mktemp("adapter") / "model"
    folder.mkdir()
    for old in ("model.safetensors", "config.json"):
        (folder / old).write_text("{}")
    more = ["--lora_r", "4", "--lora_target_modules", "query,value", "--num_train_epochs", "2"]
    main(["train", *text_arguments(text_data, text_encoder, folder, *more)])
    return folder


def test_the_folder_is_an_adapter(adapter):
    names = {path.name for path in adapter.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert "model.safetensors" not in names
    saved = json.loads((adapter / "adapter_config.json").read_text())
    assert saved["r"] == 4 and saved["lora_alpha"] == 8 and set(saved["target_modules"]) == {"query", "value"}
    assert json.loads((adapter / "run.json").read_text())["job"]["lora_r"] == 4
    card = (adapter / "README.md").read_text()
    assert "MLCLForSequenceClassification.from_pretrained" in card and "library_name: peft" in card
    assert str(adapter.parent) not in card and "AutoModel" not in card


def test_other_commands_take_it(adapter, text_data, capsys):
    main(["evaluate", str(adapter), "--dataset", str(text_data)])
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert measured == pytest.approx(json.loads((adapter / "metrics.json").read_text())["test"])
    main(["predict", str(adapter), "--text", "some words", "--min_labels", "1", "--json"])
    assert json.loads(capsys.readouterr().out)["labels"]


def test_any_configuration_from_a_file(text_data, text_encoder, tmp_path):
    file = tmp_path / "adapter.json"
    file.write_text(json.dumps({"peft_type": "IA3", "target_modules": ["key", "value"], "feedforward_modules": []}))
    out = tmp_path / "out"
    main(["train", *text_arguments(text_data, text_encoder, out, "--max_steps", "1", "--peft_config", str(file))])
    model = MLCLForSequenceClassification.from_pretrained(out)
    assert model.peft_config["default"].peft_type == "IA3"
