"""A decoder as encoder: without a pad token, and with its last token as features."""

import json

import torch
from test_cli import text_arguments
from transformers import AutoConfig, AutoModel

from hf_mlcl.cli import main
from hf_mlcl.data import build_word_tokenizer


def test_a_decoder_is_trained_and_predicts(text_data, tmp_path, capsys):
    tokenizer = build_word_tokenizer((text_data / "train.csv").read_text().splitlines(), max_length=32)
    tokenizer.eos_token, tokenizer.pad_token = tokenizer.sep_token, None
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": len(tokenizer)}
    AutoModel.from_config(AutoConfig.for_model("gpt2", **sizes)).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    main(["train", *text_arguments(text_data, tmp_path / "gpt2", tmp_path / "out", "--num_train_epochs", "1")])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pooling"] == "last"
    (tmp_path / "texts.txt").write_text("a\na much longer text\n")
    capsys.readouterr()
    main(["predict", str(tmp_path / "out"), "--file", str(tmp_path / "texts.txt"), "--json"])
    assert len(capsys.readouterr().out.splitlines()) == 2
