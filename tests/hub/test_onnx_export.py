"""Exported models give what the model gives, for batches and texts of any size, without torch."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, ViTImageProcessor

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.data import build_word_tokenizer
from hf_mlcl.hub import export_onnx, onnx_export

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
from tiny import TEXT, tiny_encoder, tiny_inputs  # noqa: E402

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
SLOW = ["roberta", "distilbert", "modernbert", "mpnet", "deberta-v2", "t5", "gpt2", "qwen2", "clip_text_model"]
SLOW += ["vit", "swin", "convnext", "dinov2", "mobilenet_v2", "clip_vision_model"]
WORDS = "wheat exports rose oil prices fell the bank raised interest".split()


class Tokenizer:
    """All that the export asks of a tokenizer; it lists an input that not every encoder takes."""

    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]

    def save_pretrained(self, folder):
        (Path(folder) / "tokenizer.json").write_text("{}")


def tiny_model(kind, **fields):
    cls = MLCLForSequenceClassification if kind in TEXT else MLCLForImageClassification
    model = cls.from_encoder(tiny_encoder(kind), labels=["a", "b", "c"], **fields)
    model.config.classifier_fitted, model.config.thresholds = True, [0.2, 0.3, 0.4]
    return model.eval()


def processor(kind):
    if kind in TEXT:
        return Tokenizer()
    height, width = tiny_inputs(kind)["pixel_values"].shape[2:]
    return ViTImageProcessor(size={"height": height, "width": width})


def session_of(folder):
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


def batch(kind, names, rows, length):
    """Inputs of these names; the last text is shorter than the others."""
    if kind not in TEXT:
        return tiny_inputs(kind, rows=rows, seed=rows)
    generator = torch.Generator().manual_seed(rows)
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[-1, (length + 1) // 2 :] = 0
    ids = torch.randint(5, 60, (rows, length), generator=generator)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: inputs[name] for name in names}


def check_equal(model, folder, kind, sizes=((1, 3), (2, 7), (5, 30))):
    session = session_of(folder)
    names = [one.name for one in session.get_inputs()]
    for rows, length in sizes:
        inputs = batch(kind, names, rows, length)
        with torch.inference_mode():
            expected = model(**inputs)
        outputs = session.run(["logits", "embeddings"], {name: value.numpy() for name, value in inputs.items()})
        for name, value in zip(("logits", "embeddings"), outputs, strict=True):
            check_near(value, expected[name].numpy())


def check_near(value, expected):
    """Equal to 1e-4, of the largest output where that is above 1, as the export itself checks."""
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A text model with a tokenizer of its own, as float32 and as int8."""
    tokenizer = build_word_tokenizer([" ".join(WORDS)], max_length=16)
    model, folder = tiny_model("bert"), tmp_path_factory.mktemp("exported")
    reports = {
        name: export_onnx(model, tokenizer, folder / name, quantize=quantize)
        for name, quantize in (("float32", None), ("int8", "int8"))
    }
    return model, tokenizer, folder, reports


def test_outputs_are_the_models_for_batches_of_any_size(exported):
    model, _, folder, reports = exported
    assert reports["float32"].difference <= 1e-4 and reports["float32"].quantized == 0
    check_equal(model, folder / "float32", "bert")


def test_the_folder_is_served_alone(exported):
    _, _, folder, _ = exported
    config = json.loads((folder / "float32" / "config.json").read_text())
    assert config["thresholds"] == [0.2, 0.3, 0.4] and list(config["id2label"].values()) == ["a", "b", "c"]
    assert {path.name for path in (folder / "float32").iterdir()} >= {"model.onnx", "tokenizer.json", "config.json"}
    assert not list((folder / "float32").glob("*.safetensors"))


def test_the_guides_server_predicts_what_the_model_predicts_without_torch(exported, tmp_path):
    model, tokenizer, folder, _ = exported
    texts = ["wheat exports rose", "the bank raised interest " * 20, "oil"]
    guide = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text()
    script = guide.partition("cat > serve.py <<'EOF'\n")[2].partition("\nEOF")[0]
    barred = "import sys\nfor name in ('torch', 'transformers', 'hf_mlcl'): sys.modules[name] = None\n"
    (tmp_path / "serve.py").write_text(barred + script)
    done = subprocess.run(
        [sys.executable, "serve.py", str(folder / "float32"), *texts], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    inputs = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    for line, expected in zip(done.stdout.splitlines(), model.predict_labels(**inputs), strict=True):
        given = json.loads(line)
        assert set(given) == {row["label"] for row in expected}
        assert all(given[row["label"]] == pytest.approx(row["score"], abs=1e-4) for row in expected)


def test_int8_quantizes_every_matrix_of_the_encoder_and_no_head(exported):
    model, _, folder, reports = exported
    linear = [module for module in model.encoder.modules() if isinstance(module, torch.nn.Linear)]
    assert reports["int8"].quantized == len(linear)
    types = {one.name: one.data_type for one in onnx.load(folder / "int8" / "model.onnx").graph.initializer}
    heads = [kind for name, kind in types.items() if "classifier" in name or "projection" in name]
    assert heads and set(heads) == {onnx.TensorProto.FLOAT}
    assert list(types.values()).count(onnx.TensorProto.UINT8) >= len(linear)  # integers of 8 bits, 128 stands for 0
    sizes = [(folder / name / "model.onnx").stat().st_size for name in ("float32", "int8")]
    assert sizes[1] < sizes[0]


def test_int8_is_near_and_one_text_changes_no_other(exported):
    _, _, folder, _ = exported
    sessions = [session_of(folder / name) for name in ("float32", "int8")]
    inputs = batch("bert", [one.name for one in sessions[0].get_inputs()], 6, 7)
    feed = {name: value.numpy() % 15 for name, value in inputs.items()}  # the tokenizer's words
    float32, int8 = (session.run(["logits"], feed)[0] for session in sessions)
    assert 0 < np.abs(float32 - int8).max() < 0.05
    alone = sessions[1].run(["logits"], {name: value[:1] for name, value in feed.items()})[0]
    assert np.abs(alone - int8[:1]).max() < 0.01


def test_what_cannot_be_is_one_line(tmp_path):
    model = tiny_model("resnet")
    with pytest.raises(ValueError, match="^quantize: expected one of int8, got 'int4'"):
        export_onnx(model, processor("resnet"), tmp_path, quantize="int4")
    with pytest.raises(ValueError, match="^quantize: expected an encoder of matrix products.*got 'resnet'"):
        export_onnx(model, processor("resnet"), tmp_path, quantize="int8")
    model.config.classifier_fitted = False
    with pytest.raises(ValueError, match="^model: expected a fitted classifier, got an untrained one"):
        export_onnx(model, processor("resnet"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"onnxscript.*pip install 'hf-mlcl\[onnx\]'"):
        export_onnx(tiny_model("resnet"), processor("resnet"), tmp_path)


def test_the_packages_leave_logging_as_it_was():
    root, quantizer = logging.getLogger(), logging.getLogger("onnxruntime.quantization.a_quantizer")
    before = (root.level, list(root.handlers))
    with onnx_export._quiet():
        root.addHandler(logging.NullHandler())  # as the quantizer does when it is imported
        root.setLevel(logging.INFO)
        assert not quantizer.isEnabledFor(logging.INFO)
    assert (root.level, root.handlers) == before


def test_an_encoder_that_torch_cannot_export_is_one_line(tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("the first line\nand many more") from ValueError("no rule for aten::odd\nnor others")

    def finds_no_room(*arguments, **options):
        raise RuntimeError("failed") from OSError(28, "No space left on device")

    monkeypatch.setattr(torch.onnx, "export", finds_no_room)
    with pytest.raises(OSError, match="No space left on device"):
        export_onnx(tiny_model("resnet"), processor("resnet"), tmp_path)
    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(ValueError, match="^model: expected an encoder that torch can export, got 'resnet': no rule"):
        export_onnx(tiny_model("resnet"), processor("resnet"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", SLOW)
def test_every_kind_of_encoder_gives_what_it_gave(kind, tmp_path):
    model = tiny_model(kind)
    assert export_onnx(model, processor(kind), tmp_path).difference <= 1e-4
    check_equal(model, tmp_path, kind)


def test_an_image_model_gives_what_it_gave(tmp_path):
    model = tiny_model("resnet")
    export_onnx(model, processor("resnet"), tmp_path)
    check_equal(model, tmp_path, "resnet")
    assert (tmp_path / "preprocessor_config.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "vit"])
def test_int8_of_decoders_and_vision_transformers(kind, tmp_path):
    model = tiny_model(kind)
    assert export_onnx(model, processor(kind), tmp_path, quantize="int8").quantized >= 8
    session = session_of(tmp_path)
    inputs = batch(kind, [one.name for one in session.get_inputs()], 3, 9)
    (logits,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, model(**inputs).logits.numpy(), rtol=0, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_weights_too_large_for_one_file_lie_beside_it(quantize, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_ONE_FILE", 0)
    model = tiny_model("bert")
    export_onnx(model, Tokenizer(), tmp_path, quantize=quantize)
    assert {path.name for path in tmp_path.glob("model.onnx*")} == {"model.onnx", "model.onnx.data"}
    if quantize is None:
        check_equal(model, tmp_path, "bert")
    monkeypatch.undo()
    export_onnx(model, Tokenizer(), tmp_path)
    assert {path.name for path in tmp_path.glob("model.onnx*")} == {"model.onnx"}


@pytest.mark.slow
def test_an_adapter_is_merged(tmp_path):
    peft = pytest.importorskip("peft")
    tiny_encoder("bert").save_pretrained(tmp_path / "encoder")
    model = MLCLForSequenceClassification.from_encoder(str(tmp_path / "encoder"), labels=3)
    model.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False))
    model.config.classifier_fitted = True
    inputs = batch("bert", Tokenizer.model_input_names, 4, 7)
    with torch.inference_mode():
        expected = model.eval()(**inputs).logits.numpy()
    export_onnx(model, Tokenizer(), tmp_path / "onnx")
    feed = {name: value.numpy() for name, value in inputs.items()}
    np.testing.assert_allclose(session_of(tmp_path / "onnx").run(["logits"], feed)[0], expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_pretrained_image_encoder(shared_folder, tmp_path):
    source = str(shared_folder / "weights" / "mobilenet_v2_1.0_224")
    model = MLCLForImageClassification.from_encoder(source, labels=53).eval()
    model.config.classifier_fitted = True
    prepared = AutoImageProcessor.from_pretrained(source)
    export_onnx(model, prepared, tmp_path)
    session = session_of(tmp_path)
    pixels = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for rows in (1, 4):
        with torch.inference_mode():
            expected = model(pixel_values=pixels[:rows])
        outputs = session.run(["logits", "embeddings"], {"pixel_values": pixels[:rows].numpy()})
        for name, value in zip(("logits", "embeddings"), outputs, strict=True):
            check_near(value, expected[name].numpy())
