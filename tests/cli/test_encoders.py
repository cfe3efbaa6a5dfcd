"""Encoders whose folders hold more or less than expected: decoders, encoder-decoders, dual models."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModel, CLIPModel, T5Model, ViTImageProcessor

from hf_mlcl.cli import main
from hf_mlcl.data import build_word_tokenizer

QUICK = "--num_train_epochs 1 --per_device_train_batch_size 16 --use_cpu --report_to none --save_strategy no".split()


def train(task, encoder, dataset, output):
    main(
        [
            "train",
            "--task",
            task,
            "--encoder",
            str(encoder),
            "--dataset",
            str(dataset),
            "--output_dir",
            str(output),
            *QUICK,
        ]
    )
    return json.loads((output / "config.json").read_text())


def test_a_decoder_without_a_pad_token_is_trained_and_predicts(text_data, tmp_path, capsys):
    folder, output = tmp_path / "gpt2", tmp_path / "out"
    tokenizer = build_word_tokenizer((text_data / "train.csv").read_text().splitlines(), max_length=32)
    tokenizer.eos_token, tokenizer.pad_token = tokenizer.sep_token, None
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model("gpt2", **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = train("text", folder, text_data, output)
    assert config["pooling"] == "last"
    capsys.readouterr()
    main(["predict", str(output), "--text", "a", "--text", "a much longer text", "--json"])
    assert len(capsys.readouterr().out.splitlines()) >= 1


@pytest.mark.slow
def test_t5_is_trained_by_its_encoder(text_data, tmp_path):
    folder = tmp_path / "t5"
    tokenizer = build_word_tokenizer((text_data / "train.csv").read_text().splitlines(), max_length=32)
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": len(tokenizer)}
    T5Model(AutoConfig.for_model("t5", **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = train("text", folder, text_data, tmp_path / "out")
    assert config["pooling"] == "mean" and config["encoder_config"]["model_type"] == "t5"


@pytest.mark.slow
def test_clip_is_trained_by_its_vision_half(image_data, tmp_path):
    folder = tmp_path / "clip"
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vision = sizes | {"image_size": 40, "patch_size": 8}
    CLIPModel(
        AutoConfig.for_model("clip", text_config=sizes | {"vocab_size": 60}, vision_config=vision)
    ).save_pretrained(folder)
    ViTImageProcessor(size={"height": 40, "width": 40}).save_pretrained(folder)
    config = train("vision", folder, image_data, tmp_path / "out")
    assert config["pooling"] == "pooled" and config["encoder_config"]["model_type"] == "clip_vision_model"
