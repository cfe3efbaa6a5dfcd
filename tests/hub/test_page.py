"""The page to try a model: what it says is what the model says, and it runs as a Space without the package."""

import base64
import copy
import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from peft import LoraConfig
from PIL import Image
from tiny import save_text_encoder, tiny_encoder
from transformers import AutoModel, ViTImageProcessor

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.data import digit_canvases, generated_corpus, prepare_images, prepare_text
from hf_mlcl.hub import Page
from hf_mlcl.hub.space import write_index, write_space


def fitted(model, limit=0.5):
    model.config.classifier_fitted = True
    model.config.thresholds = [limit] * model.config.num_labels
    return model.eval()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Model, tokenizer, training rows, and the folder of the model with an index."""
    folder = tmp_path_factory.mktemp("text")
    data = generated_corpus(60, 1, 1, num_labels=6)
    rows = data.splits["train"]
    tokenizer = save_text_encoder(folder / "encoder", rows["text"])
    encoder = AutoModel.from_pretrained(folder / "encoder")
    with torch.no_grad():
        encoder.get_input_embeddings().weight *= 50  # so that random words are not all alike
    names = ["<b>bold</b>", *data.label_names[1:]]
    model = fitted(MLCLForSequenceClassification.from_encoder(encoder, labels=names, pooling="mean"))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prepared = prepare_text(rows, tokenizer)
    assert write_index(model, tokenizer, rows, prepared, folder / "app" / "index.safetensors")
    return model, tokenizer, rows, prepared, folder


def given_labels(rows):
    return {name for name, _, _, given in rows if given}


def test_the_page_gives_the_labels_of_the_model_and_the_nearest_examples(text):
    model, tokenizer, rows, _, folder = text
    page = Page(model, tokenizer, folder / "app" / "index.safetensors", "name")
    for row in range(5):
        inputs = tokenizer([rows["text"][row]], truncation=True, return_tensors="pt")
        expected = {label["label"] for label in model.predict_labels(**inputs)[0]}
        labels, nearest, points = page.answer(rows["text"][row])
        assert given_labels(labels) == expected
        # A training example is its own nearest and lies on its point.
        similarity, own, shown = nearest[0]
        assert similarity == pytest.approx(1, abs=2e-3) and shown in " ".join(rows["text"][row].split())
        assert own == ", ".join(name for name, has in zip(page.labels, rows["labels"][row], strict=True) if has)
        assert points["text"].iloc[-6] == shown[:80] and points["text"].iloc[-1] == ""
        here, near = points[points["label"] == "your input"], points[points["label"] == "nearest"]
        assert len(near) == 5 and np.allclose(here[["x", "y"]], near[["x", "y"]].iloc[:1], atol=1e-2)
    alone = Page(model, tokenizer)
    assert alone.answer("wheat")[1:] == ([], None)
    for nothing in (None, "  "):
        with pytest.raises(ValueError, match="nothing is given"):
            alone.answer(nothing)


def test_examples_are_embedded_again_only_for_another_model_rows_or_lengths(text, tmp_path):
    model, tokenizer, rows, prepared, _ = text
    path = tmp_path / "index.safetensors"
    model, shorter, fewer = copy.deepcopy(model), copy.deepcopy(tokenizer), rows.select(range(30))
    shorter.model_max_length = 4
    assert write_index(model, tokenizer, rows, prepared, path)
    assert not write_index(model, tokenizer, rows, prepared, path)
    assert write_index(model, tokenizer, fewer, prepare_text(fewer, tokenizer), path)
    with torch.no_grad():
        model.projection.output.weight.neg_()  # which leaves sums of absolute values as they are
    assert write_index(model, tokenizer, fewer, prepare_text(fewer, tokenizer), path)
    model.config.pooling = "max"
    assert write_index(model, tokenizer, fewer, prepare_text(fewer, tokenizer), path)
    assert write_index(model, shorter, fewer, prepare_text(fewer, shorter), path)
    path.write_bytes(b"damaged")
    assert write_index(model, shorter, fewer, prepare_text(fewer, shorter), path)


def test_images_are_shown_as_pictures(tmp_path):
    data = digit_canvases(12, 1, 1)
    rows, processor = data.splits["train"], ViTImageProcessor(size={"height": 40, "width": 40})
    options = {"labels": data.label_names, "objective": "classification"}
    model = fitted(MLCLForImageClassification.from_encoder(tiny_encoder("resnet"), **options))
    write_index(model, processor, rows, prepare_images(rows, processor), tmp_path / "index.safetensors")
    page = Page(model, processor, tmp_path / "index.safetensors")
    assert page.index["space"] == "features"  # no projection was trained
    labels, nearest, points = page.answer(rows[3]["image"])
    pixels = processor([rows[3]["image"].convert("RGB")], return_tensors="pt")
    assert given_labels(labels) == {label["label"] for label in model.predict_labels(**pixels)[0]}
    assert len(nearest) == 5 and nearest[0][0] == pytest.approx(1, abs=2e-3)
    thumbnail = base64.b64decode(re.search('base64,(.*)"', nearest[0][2])[1])
    assert Image.open(io.BytesIO(thumbnail)).size == (40, 40)
    near = f'<img alt="" src="{points["image"].iloc[-6]}">'  # under the mouse on the map
    assert near == nearest[0][2] and points["image"].iloc[-1] == ""
    page.build()


@pytest.mark.slow
def test_a_space_answers_where_the_package_is_absent(text, tmp_path):
    model, tokenizer, rows, _, folder = text
    write_space(folder, tmp_path / "space", "News: labels", folder / "app" / "index.safetensors")
    names = {path.relative_to(tmp_path / "space").as_posix() for path in (tmp_path / "space").rglob("*")}
    assert {"app.py", "README.md", "requirements.txt", "index.safetensors", "model/model.safetensors"} <= names
    metadata = yaml.safe_load((tmp_path / "space" / "README.md").read_text().split("---")[1])
    assert metadata["title"] == "News: labels" and metadata["sdk"] == "gradio" and metadata["app_file"] == "app.py"
    code = (
        "import sys\nsys.modules['hf_mlcl'] = None\nfrom app import Page\n"
        f"import json\nprint(json.dumps(Page.load('.').answer({rows['text'][0]!r})[:2]))"
    )
    options = {"cwd": tmp_path / "space", "env": {**os.environ, "HF_HOME": str(tmp_path / "home")}}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    expected = Page(model, tokenizer, folder / "app" / "index.safetensors").answer(rows["text"][0])
    assert json.loads(done.stdout.splitlines()[-1]) == list(expected[:2])


def test_the_space_of_an_adapter_holds_a_whole_model(text, tmp_path):
    """A Space has neither the encoder of this machine nor peft."""
    model, tokenizer, rows, _, _ = text
    model.encoder.save_pretrained(tmp_path / "encoder")
    adapted = MLCLForSequenceClassification.from_encoder(
        str(tmp_path / "encoder"), labels=model.config.label_names, pooling="mean"
    )
    adapted.add_adapter(LoraConfig(r=2, init_lora_weights=False))
    fitted(adapted).save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    write_space(tmp_path / "adapter", tmp_path / "space", "name")
    shutil.rmtree(tmp_path / "encoder")
    names = {path.name for path in (tmp_path / "space" / "model").iterdir()}
    assert "model.safetensors" in names and not any(name.startswith("adapter_") for name in names)
    loaded = MLCLForSequenceClassification.from_pretrained(tmp_path / "space" / "model")
    inputs = tokenizer(rows["text"][:3], padding=True, return_tensors="pt")
    with torch.inference_mode():
        assert torch.allclose(loaded(**inputs).logits, adapted(**inputs).logits, atol=1e-5)


def test_without_gradio_one_line_says_what_to_install(text, monkeypatch):
    model, tokenizer, *_ = text
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"^the page needs the package gradio: pip install 'hf-mlcl\[app\]'$"):
        Page(model, tokenizer).build()


@pytest.mark.slow
def test_gradios_client_gets_the_same_answer(text):
    pytest.importorskip("gradio")
    from gradio_client import Client

    model, tokenizer, rows, _, folder = text
    page = Page(model, tokenizer, folder / "app" / "index.safetensors", "name")
    application, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    try:
        client = Client(address, verbose=False)
        shown = client.predict(rows["text"][0], api_name="/label")
        expected = page.answer(rows["text"][0])
        assert [table["data"] for table in shown[:2]] == [list(part) for part in expected[:2]]
    finally:
        application.blocks.close()
