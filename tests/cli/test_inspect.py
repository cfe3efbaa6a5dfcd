import json
import sys

import pytest
import torch
from test_cli import fails
from transformers import AutoImageProcessor, AutoTokenizer

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.cli import main
from hf_mlcl.data import load_multilabel_dataset

pytest.importorskip("matplotlib")


def save_model(folder, encoder, data, task, **fields):
    """A model as training leaves it, but with random heads: what it says is not looked at here."""
    torch.manual_seed(0)
    names = load_multilabel_dataset(str(data), task=task).label_names
    kind = MLCLForSequenceClassification if task == "text" else MLCLForImageClassification
    model = kind.from_encoder(str(encoder), labels=names, projection_dim=16, **fields)
    model.config.trained = model.config.classifier_fitted = True
    model.config.thresholds = [0.5] * len(names)
    model.save_pretrained(folder)
    (AutoTokenizer if task == "text" else AutoImageProcessor).from_pretrained(str(encoder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text_model(text_data, text_encoder, tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("inspected"), text_encoder, text_data, "text")


@pytest.mark.slow
def test_a_text_model_is_inspected(text_model, text_data, capsys):
    (text_model / "run.json").write_text(
        json.dumps({"arguments": {"per_device_train_batch_size": 20}, "processes": 2})
    )
    main(["inspect", str(text_model), "--dataset", str(text_data), "--max_length", "16", "--neighbours", "3"])
    folder = text_model / "inspection"
    assert str(folder) in capsys.readouterr().out
    numbers = json.loads((folder / "inspection.json").read_text())
    assert numbers["about"]["split"] == "test" and numbers["about"]["examples"] == 60
    gradients = numbers["gradients"]  # of the training split, in batches as large as training had them
    assert (gradients["batch_size"], gradients["batches"]) == (40, 5)
    assert numbers["about"]["gradient_split"] == "train" and numbers["neighbours"]["k"] == 3
    page = (folder / "report.html").read_text()
    assert str(text_model.parent) not in page and text_model.name in page
    main(["evaluate", str(text_model), "--dataset", str(text_data), "--max_length", "16"])
    evaluated = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    for name in ("macro_f1", "micro_f1", "map"):
        assert numbers["metrics"][name] == pytest.approx(evaluated[name], abs=1e-6)


def test_another_model_of_the_same_labels_is_shown_beside(image_data, image_encoder, tmp_path, capsys):
    model, before = (
        save_model(tmp_path / name, image_encoder, image_data, "vision", objective=objective)
        for name, objective in (("model", "classification"), ("before", "contrastive"))
    )
    given = [str(model), "--dataset", str(image_data), "--split", "validation", "--image_size", "32"]
    main(["inspect", *given, "--before", str(before)])
    numbers = json.loads((model / "inspection" / "inspection.json").read_text())
    assert numbers["before"]["neighbours"]["space"] == "embeddings" != numbers["neighbours"]["space"]
    assert "<p>Before training</p>" in (model / "inspection" / "report.html").read_text()
    other = MLCLForImageClassification.from_pretrained(before)
    other.config.label_names = [*other.config.label_names[:-1], "another"]
    other.save_pretrained(before)
    assert "--before: the labels" in fails(capsys, "inspect", *given, "--before", before)


def test_an_image_model_is_inspected(image_data, image_encoder, tmp_path):
    """The classification objective, and a data set without the training split beside the inspected one."""
    model = save_model(tmp_path / "model", image_encoder, image_data, "vision", objective="classification")
    options = ["--split", "validation", "--output", str(tmp_path / "out"), "--image_size", "32"]
    main(["inspect", str(model), "--dataset", str(image_data), *options])
    numbers = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert numbers["neighbours"]["space"] == "features" and numbers["gradients"] is None
    assert "data:image/jpeg;base64," in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_a_split_alone_gives_the_gradient_its_own_batches(text_model, text_data, tmp_path):
    (tmp_path / "test.csv").write_text((text_data / "test.csv").read_text())
    main(["inspect", str(text_model), "--dataset", str(tmp_path / "test.csv"), "--output", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "inspection.json").read_text())["about"]["gradient_split"] == "test"


def test_what_is_missing_is_said_in_one_line(text_model, text_data, capsys, monkeypatch):
    given = [text_model, "--dataset", text_data]
    assert "split" in fails(capsys, "inspect", *given, "--max_eval_samples", "1")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "hf_mlcl.inspection.plots")
    assert "pip install 'hf-mlcl[plots]'" in fails(capsys, "inspect", *given)
