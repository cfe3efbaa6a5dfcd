"""Encoders whose folders hold more or less than expected: decoders, encoder-decoders, dual models."""

import json

import pytest
import torch
from test_cli import text_arguments
from transformers import AutoConfig, AutoModel, CLIPModel, T5Model, ViTImageProcessor

from hf_mlcl.cli import main
from hf_mlcl.data import build_word_tokenizer

CLIP = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
ENCODERS = {
    "gpt2": (AutoModel.from_config, {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 32}, "last", "gpt2"),
    "t5": (T5Model, {"d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2}, "mean", "t5"),
    "clip": (
        CLIPModel,
        {"text_config": CLIP | {"vocab_size": 60}, "vision_config": CLIP | {"image_size": 40, "patch_size": 8}},
        "pooled",
        "clip_vision_model",
    ),
}


@pytest.mark.parametrize("kind", ["gpt2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("t5", "clip"))])
def test_the_part_that_encodes_is_trained_and_predicts(kind, text_data, image_data, tmp_path, capsys):
    build, sizes, pooling, part = ENCODERS[kind]
    processor = ViTImageProcessor(size={"height": 40, "width": 40})
    if kind != "clip":
        processor = build_word_tokenizer((text_data / "train.csv").read_text().splitlines(), max_length=32)
        sizes = sizes | {"vocab_size": len(processor)}
    if kind == "gpt2":  # decoders come without a pad token
        processor.eos_token, processor.pad_token = processor.sep_token, None
    torch.manual_seed(0)
    build(AutoConfig.for_model(kind, **sizes)).save_pretrained(tmp_path / kind)
    processor.save_pretrained(tmp_path / kind)
    task, data = ("vision", image_data) if kind == "clip" else ("text", text_data)
    more = ["--task", task, "--num_train_epochs", "1"]
    main(["train", *text_arguments(data, tmp_path / kind, tmp_path / "out", *more)])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["pooling"] == pooling and config["encoder_config"]["model_type"] == part
    if kind == "gpt2":
        (tmp_path / "texts.txt").write_text("a\na much longer text\n")
        capsys.readouterr()
        main(["predict", str(tmp_path / "out"), "--file", str(tmp_path / "texts.txt"), "--json"])
        assert len(capsys.readouterr().out.splitlines()) == 2
