"""Exported models give what the model gives, for batches and texts of any size, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TEXT, tiny_encoder, tiny_inputs
from transformers import ViTImageProcessor

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.data import build_word_tokenizer
from hf_mlcl.hub import export_onnx

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
SLOW = ["roberta", "distilbert", "modernbert", "mpnet", "deberta-v2", "t5", "gpt2", "qwen2", "clip_text_model"]
SLOW += ["vit", "swin", "convnext", "dinov2", "mobilenet_v2", "clip_vision_model"]


class Tokenizer:
    """All that the export asks of a tokenizer; it lists an input that not every encoder takes."""

    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]

    def save_pretrained(self, folder):
        (Path(folder) / "tokenizer.json").write_text("{}")


def tiny_model(kind):
    cls = MLCLForSequenceClassification if kind in TEXT else MLCLForImageClassification
    model = cls.from_encoder(tiny_encoder(kind), labels=["a", "b", "c"])
    model.config.classifier_fitted, model.config.thresholds = True, [0.2, 0.3, 0.4]
    return model.eval()


def processor(kind):
    if kind in TEXT:
        return Tokenizer()
    height, width = tiny_inputs(kind)["pixel_values"].shape[2:]
    return ViTImageProcessor(size={"height": height, "width": width})


def compare(model, folder, kind, tolerance=1e-4):
    """Outputs of the file and of the model for several sizes; the last text is shorter than the others."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    for rows, length in ((1, 3), (2, 7), (5, 30)):
        inputs = tiny_inputs(kind, rows=rows, seed=rows)
        if kind in TEXT:
            mask = torch.ones(rows, length, dtype=torch.long)
            mask[-1, (length + 1) // 2 :] = 0
            ids = torch.randint(5, 15, (rows, length), generator=torch.Generator().manual_seed(rows))
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
            inputs = {one.name: given[one.name] for one in session.get_inputs()}
        outputs = session.run(["logits", "embeddings"], {name: value.numpy() for name, value in inputs.items()})
        with torch.inference_mode():
            expected = model(**inputs)
        for name, found in zip(("logits", "embeddings"), outputs, strict=True):
            largest = max(1, expected[name].abs().max())
            np.testing.assert_allclose(found, expected[name].numpy(), rtol=0, atol=tolerance * largest)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A text model with a tokenizer of its own, as float32 and as int8."""
    tokenizer = build_word_tokenizer(["wheat exports rose oil prices fell the bank raised interest"], max_length=16)
    model, folder = tiny_model("bert"), tmp_path_factory.mktemp("exported")
    reports = {name: export_onnx(model, tokenizer, folder / str(name), quantize=name) for name in (None, "int8")}
    return model, tokenizer, folder, reports


def test_the_folder_gives_what_the_model_gives(exported):
    model, _, folder, reports = exported
    assert reports[None].difference <= 1e-4 and reports[None].quantized == 0
    compare(model, folder / "None", "bert")
    config = json.loads((folder / "None" / "config.json").read_text())
    assert config["thresholds"] == [0.2, 0.3, 0.4] and list(config["id2label"].values()) == ["a", "b", "c"]
    assert (folder / "None" / "tokenizer.json").is_file() and not list((folder / "None").glob("*.safetensors"))


def test_the_guides_server_predicts_what_the_model_predicts_without_torch(exported, tmp_path):
    model, tokenizer, folder, _ = exported
    texts = ["wheat exports rose", "the bank raised interest " * 20, "oil"]
    guide = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text()
    script = guide.partition("cat > serve.py <<'EOF'\n")[2].partition("\nEOF")[0]
    barred = "import sys\nfor name in ('torch', 'transformers', 'hf_mlcl'): sys.modules[name] = None\n"
    (tmp_path / "serve.py").write_text(barred + script)
    command = [sys.executable, "serve.py", str(folder / "None"), *texts]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    inputs = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    for line, expected in zip(done.stdout.splitlines(), model.predict_labels(**inputs), strict=True):
        assert json.loads(line) == pytest.approx({row["label"]: row["score"] for row in expected}, abs=1e-4)


def test_int8_quantizes_every_matrix_of_the_encoder_and_no_head(exported):
    model, _, folder, reports = exported
    linear = [module for module in model.encoder.modules() if isinstance(module, torch.nn.Linear)]
    assert reports["int8"].quantized == len(linear)
    types = {one.name: one.data_type for one in onnx.load(folder / "int8" / "model.onnx").graph.initializer}
    assert {kind for name, kind in types.items() if "classifier" in name or "projection" in name} == {
        onnx.TensorProto.FLOAT
    }
    assert list(types.values()).count(onnx.TensorProto.UINT8) >= len(linear)  # integers of 8 bits, 128 stands for 0
    compare(model, folder / "int8", "bert", tolerance=0.05)


def test_what_cannot_be_exported_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    model = tiny_model("resnet")

    def refused(error, match, **options):
        with pytest.raises(error, match=match):
            export_onnx(model, processor("resnet"), tmp_path, **options)
        assert list(tmp_path.iterdir()) == []

    refused(ValueError, "^quantize: .*'int4'", quantize="int4")
    refused(ValueError, "^quantize: .*'resnet'", quantize="int8")
    for cause, match in (
        (ValueError("no rule\nnor others"), "^model: .*'resnet'.* no rule$"),
        (OSError(28, "full"), "full"),
    ):

        def fails(*_, cause=cause, **__):
            raise RuntimeError("the first line\nand many more") from cause

        monkeypatch.setattr(torch.onnx, "export", fails)
        refused(type(cause), match)
    model.config.classifier_fitted = False
    refused(ValueError, "^model: .*fitted")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    refused(ImportError, r"onnxscript.*pip install 'hf-mlcl\[onnx\]'")


@pytest.mark.parametrize("kind", ["resnet", *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)])
def test_every_kind_of_encoder_gives_what_it_gave(kind, tmp_path):
    model = tiny_model(kind)
    assert export_onnx(model, processor(kind), tmp_path).difference <= 1e-4
    compare(model, tmp_path, kind)
    assert (tmp_path / "preprocessor_config.json").is_file() == (kind not in TEXT)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "vit"])
def test_int8_of_decoders_and_vision_transformers(kind, tmp_path):
    model = tiny_model(kind)
    assert export_onnx(model, processor(kind), tmp_path, quantize="int8").quantized >= 8
    compare(model, tmp_path, kind, tolerance=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_weights_too_large_for_one_file_lie_beside_it(quantize, tmp_path, monkeypatch):
    from torch.onnx._internal.exporter import _onnx_program

    model = tiny_model("bert")
    with monkeypatch.context() as patched:
        patched.setattr(_onnx_program, "_LARGE_MODEL_THRESHOLD", 0)
        export_onnx(model, Tokenizer(), tmp_path, quantize=quantize)
    assert {path.name for path in tmp_path.glob("model.onnx*")} == {"model.onnx", "model.onnx.data"}
    compare(model, tmp_path, "bert", tolerance=0.05 if quantize else 1e-4)
    export_onnx(model, Tokenizer(), tmp_path)
    assert {path.name for path in tmp_path.glob("model.onnx*")} == {"model.onnx"}


@pytest.mark.slow
def test_an_adapter_is_merged(tmp_path):
    peft = pytest.importorskip("peft")
    tiny_encoder("bert").save_pretrained(tmp_path / "encoder")
    model = MLCLForSequenceClassification.from_encoder(str(tmp_path / "encoder"), labels=3, classifier_fitted=True)
    model.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False))
    model.save_pretrained(tmp_path / "adapter")
    export_onnx(model, Tokenizer(), tmp_path / "onnx")
    compare(MLCLForSequenceClassification.from_pretrained(tmp_path / "adapter").eval(), tmp_path / "onnx", "bert")
