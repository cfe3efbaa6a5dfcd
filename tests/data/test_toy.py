"""The embedded data sets: long tails, disjoint digits, labels that can be learned from the text."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Image, List, Value
from transformers import AutoTokenizer

from hf_mlcl.data import Labels
from hf_mlcl.data.toy import build_word_tokenizer, digit_canvases, generated_corpus


def cells_of(image) -> list[np.ndarray]:
    """The digits on a canvas of 40 x 40, shrunk to 8 x 8 again; each lies in a quarter of its own."""
    canvas = np.asarray(image)[..., 0]
    digits = []
    for top, left in ((0, 0), (0, 20), (20, 0), (20, 20)):
        quarter = canvas[top : top + 20, left : left + 20]
        if quarter.any():
            digits.append(quarter)
    return digits


def test_digit_canvases_have_long_tails_and_as_many_digits_as_they_say():
    data = digit_canvases(1500, 50, 60)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 1500, "validation": 50, "test": 60}
    assert data.label_names == [str(digit) for digit in range(10)] and data.task == "vision"
    train = data.splits["train"]
    assert train.features["image"] == Image() and train.features["labels"] == List(Value("bool"), length=10)
    counts = Labels.of(train).counts()
    assert counts.argmax() == 0 and 15 < counts[0] / counts[9] < 40 and counts.min() > 0
    labels = Labels.of(train).rows()
    assert labels.any(axis=1).all() and labels.sum(axis=1).max() > 2
    first = train[0]["image"]
    assert first.mode == "RGB" and first.size == (40, 40)
    for row in range(50):
        assert labels[row].sum() <= len(cells_of(train[row]["image"])) <= 4


@pytest.mark.parametrize("make", [digit_canvases, generated_corpus])
def test_same_seed_same_data(make):
    first, again, other = (make(30, 5, 5, seed=seed).splits["test"] for seed in (1, 1, 2))
    column = first.column_names[0]
    as_is = [
        str(split.cast_column("image", Image(decode=False))[:] if column == "image" else split[:])
        for split in (first, again, other)
    ]
    assert as_is[0] == as_is[1] != as_is[2]


def test_corpus_labels_are_long_tailed_and_correlated():
    data = generated_corpus(3000, 10, 10)
    labels = Labels.of(data.splits["train"]).rows().astype(float)
    counts = labels.sum(axis=0)
    assert labels.shape[1] == len(set(data.label_names)) == 36
    assert counts.max() / counts.min() > 10 and counts.min() >= 10
    together = labels.T @ labels
    topic = np.arange(36) % 6
    same = (topic[:, None] == topic[None]) & ~np.eye(36, dtype=bool)
    assert together[same].mean() > 5 * together[topic[:, None] != topic[None]].mean()
    assert [name.split("/")[0] for name in data.label_names[:6]] == [
        name.split("/")[0] for name in data.label_names[6:12]
    ]


def test_word_tokenizer_round_trip(tmp_path):
    tokenizer = build_word_tokenizer(["Alpha beta beta", "gamma"], max_length=6)
    assert tokenizer("beta ALPHA nothing")["input_ids"] == [2, 4, tokenizer.vocab["alpha"], 1, 3]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id) == (
        0,
        1,
        2,
        3,
    )
    assert set(tokenizer("beta")) == {"input_ids", "attention_mask"}
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("beta Alpha gamma")["input_ids"] == tokenizer("beta Alpha gamma")["input_ids"]
    assert loaded.model_max_length == 6 and len(loaded("beta " * 20, truncation=True)["input_ids"]) == 6
