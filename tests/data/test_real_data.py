"""Real data sets: loaded as they are stored, split in proportion, and prepared for real encoders."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet
import pytest
from datasets import Features

from hf_mlcl.data import Labels, load_multilabel_dataset, multi_hot

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
