"""Real data sets: loaded as they are stored, split in proportion, and prepared for real encoders."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet
import pytest
from datasets import Features
from transformers import AutoImageProcessor, AutoTokenizer

from hf_mlcl.data import (
    Labels,
    MultiLabelCollator,
    RandAugment,
    load_multilabel_dataset,
    multi_hot,
    prepare_images,
    prepare_text,
)

SETS = {"reuters21578": ("text", 90), "goemotions": ("text", 28), "arxiv": ("text", 36), "clothing": ("vision", 53)}


@pytest.mark.parametrize("name", SETS)
def test_labels_equal_the_stored_ids(shared_folder, name):
    task, num_labels = SETS[name]
    folder = shared_folder / "data" / name
    if not folder.is_dir():
        pytest.skip(f"needs the data set {name}")
    data = load_multilabel_dataset(str(folder), task=task)
    assert list(data.splits) == ["train", "validation", "test"] and len(data.label_names) == num_labels
    for split, rows in data.splits.items():
        stored = pyarrow.parquet.read_table(folder / f"{split}.parquet")
        assert np.array_equal(Labels.of(rows).rows(), multi_hot(stored["labels"].to_pylist(), num_labels))
        assert list(rows["id"][:5]) == stored["id"].to_pylist()[:5]
        names = Features.from_arrow_schema(stored.schema)["labels"].feature.names
        assert names == data.label_names


def test_text_for_a_real_encoder(shared_folder, minilm_folder):
    folder = shared_folder / "data" / "goemotions"
    if not folder.is_dir():
        pytest.skip("needs the data set goemotions")
    data = load_multilabel_dataset(str(folder), task="text", max_train_samples=300, max_eval_samples=50)
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder)
    prepared = prepare_text(data.splits["train"], tokenizer, max_length=16)
    batch = MultiLabelCollator(tokenizer, 28)([prepared[row] for row in range(8)])
    assert batch["input_ids"].shape[1] <= 16 and batch["labels"].shape == (8, 28)
    assert np.array_equal(batch["labels"].numpy(), Labels.of(data.splits["train"]).rows()[:8])


def test_images_for_a_real_encoder(shared_folder):
    folder, weights = shared_folder / "data" / "clothing", shared_folder / "weights" / "mobilenet_v2_1.0_224"
    if not (folder.is_dir() and weights.is_dir()):
        pytest.skip("needs the data set clothing and the weights mobilenet_v2_1.0_224")
    data = load_multilabel_dataset(str(folder), task="vision", max_train_samples=40)
    processor = AutoImageProcessor.from_pretrained(weights)
    prepared = prepare_images(data.splits["train"], processor, image_size=96, augmentation=RandAugment())
    batch = MultiLabelCollator(processor, 53)(prepared.__getitems__(range(16)))
    assert batch["pixel_values"].shape == (16, 3, 96, 96) and batch["pixel_values"].abs().max() <= 1
