"""Tiny encoders and data sets on disk, as a user has them."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, ViTImageProcessor

from hf_mlcl.data import build_word_tokenizer, digit_canvases, generated_corpus


@pytest.fixture(scope="session")
def text_data(tmp_path_factory):
    """A folder with train.csv and test.csv, labels as one delimited string."""
    folder = tmp_path_factory.mktemp("corpus")
    data = generated_corpus(200, 1, 60, num_labels=6, num_topics=2, imbalance=3)
    for name in ("train", "test"):
        rows = data.splits[name]
        names = [";".join(np.array(data.label_names)[np.array(row)]) for row in rows["labels"]]
        lines = ["text,labels", *(f"{text},{labels}" for text, labels in zip(rows["text"], names, strict=True))]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory, text_data):
    """A folder with a tiny BERT and a word-level tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = build_word_tokenizer((text_data / "train.csv").read_text().splitlines(), max_length=32)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = AutoConfig.for_model("bert", **sizes, vocab_size=len(tokenizer), max_position_embeddings=32)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def image_data(tmp_path_factory):
    """An image folder with metadata.jsonl for training and for validation."""
    folder = tmp_path_factory.mktemp("images")
    data = digit_canvases(64, 24, 1)
    for name in ("train", "validation"):
        (folder / name).mkdir()
        rows = []
        for number, row in enumerate(data.splits[name]):
            row["image"].save(folder / name / f"{number}.png")
            labels = [label for label, carried in zip(data.label_names, row["labels"], strict=True) if carried]
            rows.append(json.dumps({"file_name": f"{number}.png", "labels": labels}))
        (folder / name / "metadata.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="session")
def image_encoder(tmp_path_factory):
    """A folder with a tiny ResNet and an image processor."""
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    AutoModel.from_config(AutoConfig.for_model("resnet", **sizes)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 40, "width": 40}).save_pretrained(folder)
    return folder
