"""What version 0.1.0 saved, models, an adapter and a checkpoint, loads and predicts and trains on as it did."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.version import Version
from transformers import AutoTokenizer

import hf_mlcl

SAVED = Path(__file__).resolve().parent / "saved"
EXPECTED = json.loads((SAVED / "expected.json").read_text())


@pytest.fixture(scope="module")
def make():
    """The script that made the files: its model, data and arguments."""
    spec = importlib.util.spec_from_file_location("make_saved", SAVED / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_inputs():
    tokenizer = AutoTokenizer.from_pretrained(SAVED / "text")
    return tokenizer(["oil price", "the gold ship rose today"], padding=True, return_tensors="pt")


def assert_as_expected(make, model, inputs, name):
    for part, values in make.outputs(model, inputs).items():
        torch.testing.assert_close(torch.tensor(values), torch.tensor(EXPECTED[name][part]), atol=1e-5, rtol=1e-5)


def test_a_text_model_predicts_the_same(make):
    model = hf_mlcl.MLCLForSequenceClassification.from_pretrained(SAVED / "text")
    assert_as_expected(make, model, text_inputs(), "text")
    answers = model.predict_labels(**text_inputs())
    assert [[answer["label"] for answer in row] for row in answers] == EXPECTED["text"]["labels"]
    assert model.config.thresholds == EXPECTED["text"]["thresholds"]


def test_a_vision_model_predicts_the_same(make):
    model = hf_mlcl.MLCLForImageClassification.from_pretrained(SAVED / "vision")
    pixels = torch.arange(2 * 3 * 16 * 16).reshape(2, 3, 16, 16).sin()
    assert_as_expected(make, model, {"pixel_values": pixels}, "vision")


def test_an_adapter_predicts_the_same(make, monkeypatch):
    monkeypatch.chdir(SAVED.parents[1])
    model = hf_mlcl.MLCLForSequenceClassification.from_pretrained("tests/saved/adapter")
    assert_as_expected(make, model, text_inputs(), "adapter")


@pytest.mark.skipif(np.__version__ < "2", reason="transformers resumes no checkpoint of numpy 2 with numpy 1")
@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.13"), reason="older releases of torch draw other units for dropout"
)
def test_a_checkpoint_with_queue_and_momentum_trains_on_to_the_same_model(make, tmp_path):
    shutil.copytree(SAVED / "checkpoint", tmp_path / "checkpoint-4")
    tokenizer = AutoTokenizer.from_pretrained(SAVED / "text")
    trainer = make.trainer(make.text_model(tokenizer), tokenizer, tmp_path)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert_as_expected(make, trainer.model, text_inputs(), "resumed")


def test_a_refitted_classifier_scores_as_it_did(make, tmp_path):
    model = hf_mlcl.MLCLForSequenceClassification.from_pretrained(SAVED / "text")
    tokenizer = AutoTokenizer.from_pretrained(SAVED / "text")
    trainer = make.trainer(model, tokenizer, tmp_path)
    trainer.fit_classifier()
    metrics = trainer.evaluate()
    for name, value in EXPECTED["text"]["metrics"].items():
        assert metrics[name] == pytest.approx(value, abs=1e-6), name
