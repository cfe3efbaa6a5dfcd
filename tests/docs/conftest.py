"""What stands in the place of the words in the guides: tiny encoders and data sets on disk, and a shell."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, ViTImageProcessor

from hf_mlcl.data import build_word_tokenizer, digit_canvases, generated_corpus

NAMES = ["grain", "wheat", "crude", "trade", "interest", "ship"]


def _texts(folder):
    data = generated_corpus(200, 1, 60, num_labels=len(NAMES), num_topics=2, imbalance=3)
    for split in ("train", "test"):
        rows = data.splits[split]
        cells = [";".join(np.array(NAMES)[np.array(row)]) for row in rows["labels"]]
        lines = ["text,labels", *(f"{text},{cell}" for text, cell in zip(rows["text"], cells, strict=True))]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")


def _images(folder):
    data = digit_canvases(80, 24, 16)
    for split, rows in data.splits.items():
        (folder / split).mkdir()
        lines = []
        for number, row in enumerate(rows):
            row["image"].save(folder / split / f"{number}.png")
            labels = [name for name, carried in zip(data.label_names, row["labels"], strict=True) if carried]
            lines.append(json.dumps({"file_name": f"{number}.png", "labels": labels}))
        (folder / split / "metadata.jsonl").write_text("\n".join(lines))


def _text_encoder(folder, texts):
    tokenizer = build_word_tokenizer([*NAMES, *texts], max_length=128)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = AutoConfig.for_model("bert", **sizes, vocab_size=len(tokenizer), max_position_embeddings=128)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _image_encoder(folder):
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    AutoModel.from_config(AutoConfig.for_model("resnet", **sizes)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 40, "width": 40}).save_pretrained(folder)


@pytest.fixture(scope="session")
def substitutes(tmp_path_factory):
    """Word in a guide -> what it is here. A guide that needs another word fails until it has an entry."""
    folder = tmp_path_factory.mktemp("guides")
    places = {name: folder / name for name in ("texts", "images", "text-encoder", "image-encoder")}
    for place in places.values():
        place.mkdir()
    _texts(places["texts"])
    _images(places["images"])
    _text_encoder(places["text-encoder"], (places["texts"] / "train.csv").read_text().splitlines())
    _image_encoder(places["image-encoder"])
    words = {
        "path/or/hub-id": "texts",
        "sentence-transformers/all-MiniLM-L6-v2": "text-encoder",
        "IMAGE_ENCODER": "image-encoder",
        "IMAGES": "images",
        "ENCODER": "text-encoder",
        "DATASET": "texts",
        "photo.jpg": "images/test/0.png",
    }
    return {word: str(folder / place) for word, place in words.items()}
