"""`Labels`: the same label sets from rows, pairs, ids and columns, from the file to the batch."""

import tracemalloc

import numpy as np
import pytest
import torch
from datasets import Dataset, Image, List, Value
from PIL import Image as PILImage

from hf_mlcl.data import (
    LabelAwareSampler,
    Labels,
    MultiLabelCollator,
    iterative_split,
    load_multilabel_dataset,
    prepare_images,
)
from hf_mlcl.data import labels as module
from hf_mlcl.data.collator import padded_ids
from hf_mlcl.data.labels import add_label_column

MANY = 100_000


def whole_rows(rows=50, labels=30, seed=0):
    """Rows of 1 and 0; examples 3 and 7 are unlabelled, 5 has no label."""
    dense = (np.random.default_rng(seed).random((rows, labels)) < 0.1).astype(int)
    dense[5] = 0
    dense[[3, 7]] = -100
    return dense


def partly_missing(rows=30, labels=9, seed=0):
    """Rows of 1, 0 and -100, of which 2 and 8 are unlabelled."""
    dense = np.random.default_rng(seed).choice([0, 1, -100], (rows, labels), p=[0.6, 0.3, 0.1])
    dense[[2, 8]] = -100
    return dense


@pytest.mark.parametrize("form", [
    lambda rows: rows,
    lambda rows: rows.tolist(),
    lambda rows: np.where(rows == -100, np.nan, rows),
    lambda rows: [None if (row == -100).all() else row.tolist() for row in rows],
    lambda rows: [[None if value == -100 else value for value in row] for row in rows.tolist()],
    lambda rows: torch.tensor(rows).to(torch.bfloat16),
    lambda rows: rows.astype(np.int8),
    lambda rows: np.where(rows == -100, np.nan, rows).astype(np.float16),
    lambda rows: Dataset.from_dict({"labels": [[None if v == -100 else v == 1 for v in row] for row in rows]}),
    lambda rows: Dataset.from_dict({"labels": rows.tolist()}),
    lambda rows: Dataset.from_dict({"labels": [None if (row == -100).all() else row for row in rows.astype(float)]}),
    lambda rows: add_label_column(Dataset.from_dict({"text": [""] * len(rows)}), Labels.of(rows), as_ids=False),
    lambda rows: Labels.of(rows),
    lambda rows: Labels.concatenate([Labels.of(rows[:4]), Labels.of(rows[4:])]),
    lambda rows: Labels.from_pairs(*np.nonzero(rows == 1), rows.shape, None, np.nonzero(rows == -100)),
])  # fmt: skip
@pytest.mark.parametrize("rows", [partly_missing(), whole_rows()])
def test_labels_of_any_form_are_those_of_their_rows(form, rows):
    labels = Labels.of(form(rows), rows.shape[1])
    assert labels.shape == rows.shape and len(labels) == len(rows) and not labels.known
    assert np.array_equal(labels.rows(), rows) and labels.rows().dtype == np.int8
    assert np.array_equal(np.asarray(labels), rows) and np.array_equal(labels.rows([7, 1]), rows[:, [7, 1]])
    assert np.array_equal(labels.rows(slice(4, 9)), rows[:, 4:9])
    assert np.array_equal(labels.unlabelled, (rows == -100).all(1))
    assert np.array_equal(labels.counts(), (rows == 1).sum(0))
    assert np.array_equal(labels.known_counts(), (rows != -100).sum(0))
    assert np.array_equal(np.stack(labels.pairs()), np.stack(np.nonzero(rows == 1)))
    for number in range(len(rows)):
        ids = labels.ids(number)
        assert ids is None if labels.unlabelled[number] else ids.tolist() == np.flatnonzero(rows[number] == 1).tolist()
    for some in (np.array([5, 2, 2]), rows[:, 0] == 1, slice(3, 20, 2), []):
        assert np.array_equal(labels[some].rows(), rows[some])


def test_known_labels_are_bool():
    labels = Labels.of(np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert labels.known and labels.rows().dtype == bool and labels.known_counts().tolist() == [2, 2]
    both = Labels.concatenate([labels, Labels.of([[0, None]])])
    assert both.rows().tolist() == [[1, 0], [0, 0], [0, -100]] and both[:2].known
    assert Labels.of(np.zeros((0, 3))).shape == (0, 3)
    split = add_label_column(Dataset.from_dict({"text": ["a", "b"]}), labels, as_ids=False)
    assert split.features["labels"] == List(Value("bool"), length=2) and Labels.of(split.select([])).shape == (0, 2)
    for feature in (List(Value("bool"), length=2), List(Value("int64"))):
        nulls = Dataset.from_dict({"labels": [[0, 1], None]}).cast_column("labels", feature)
        assert Labels.of(nulls).rows().tolist() == [[0, 1], [-100, -100]]


def test_order_and_repetition_of_pairs_do_not_matter():
    twice = Labels.from_pairs(np.array([1, 0, 1, 1]), np.array([4, 2, 0, 4]), (2, 5))
    assert [twice.ids(row).tolist() for row in (0, 1)] == [[2], [0, 4]] and twice.counts().tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("values", [
    [[2, 0]], [[0.5, 1]], [1, 0], [[1, 0], [1]], [["a"]], "text", None, 3, np.zeros((2, 2, 2)), [[0, 1, 1]],
    *({"labels": values} for values in ([["a"]], [3], [[0, 2]], [[0, 1], [1]], [[0.5, 1]], [None, None])),
    *({"label_ids": values} for values in ([["a"]], [[1.5]], [[3], [12]], [[3], [-2]])),
    {"text": ["a"]},
], ids=repr)  # fmt: skip
def test_what_is_no_multi_hot_labels_is_refused(values):
    with pytest.raises(ValueError, match="label"):
        Labels.of(Dataset.from_dict(values) if isinstance(values, dict) else values, 2)


def test_only_small_rows_become_an_array():
    assert not Labels.from_pairs([0], [1], (107_374, 10_000)).too_large
    large = Labels.from_pairs([0], [1], (107_375, 10_000))
    assert large.too_large and Labels.from_pairs([0], [1], (1, 10_001)).too_large
    with pytest.raises(ValueError, match="1 GiB"):
        np.asarray(large)


def test_a_column_of_ids_comes_back():
    rows = whole_rows()
    split = add_label_column(Dataset.from_dict({"text": list(map(str, range(50)))}), Labels.of(rows), as_ids=True)
    assert split.features["label_ids"] == List(Value("int32")) and split[3]["label_ids"] is None
    assert np.array_equal(Labels.of(split, 30).rows(), rows)
    assert np.array_equal(Labels.of(split.select([9, 3, 0]), 30).rows(), rows[[9, 3, 0]])
    padded = Dataset.from_dict({"label_ids": [[2, -1], [0, 1]]})
    assert Labels.of(padded).rows().tolist() == [[False, False, True], [True, True, False]]
    padded = np.array([[2, -1], [0, 1], [-100, -100]])
    assert Labels.from_padded(padded, 3).rows().tolist() == [[0, 0, 1], [1, 1, 0], [-100] * 3]


def test_splits_and_orders_are_those_of_the_rows():
    rows = whole_rows(200, 12)
    lists = Labels.of(rows)
    for part, expected in zip(iterative_split(lists, 0.2, 1), iterative_split(rows, 0.2, 1), strict=True):
        assert np.array_equal(part, expected)
    orders = [list(LabelAwareSampler(labels, 16, torch.Generator().manual_seed(0))) for labels in (lists, rows)]
    assert orders[0] == orders[1]


@pytest.mark.parametrize("labels", [
    [["b", "a"], [], None, ["c", "b"], ["a", "c", "a"]],
    [[7, 2], [], None, [11, 7], [2, 11, 2]],
    [[True, True, False], [False, False, False], None, [False, True, True], [True, False, True]],
])  # fmt: skip
def test_a_dataset_of_many_labels_has_lists_of_ids(labels, monkeypatch, tmp_path):
    Dataset.from_dict({"text": list("vwxyz"), "labels": labels}).to_parquet(tmp_path / "train.parquet")
    splits = []
    for limit in (3, 2):
        monkeypatch.setattr(module, "MAX_ROW_LABELS", limit)
        splits.append(load_multilabel_dataset(str(tmp_path), task="text", validation_fraction=0).splits["train"])
    rows, lists = splits
    assert rows.column_names == ["text", "labels"] and lists.column_names == ["text", "label_ids"]
    assert np.array_equal(Labels.of(rows).rows(), Labels.of(lists, 3).rows()) and lists[2]["label_ids"] is None


def test_a_hundred_thousand_labels_load_in_little_memory(tmp_path):
    """Texts with 10 labels each, some of them frequent; dense rows would take 300 MB."""
    rng = np.random.default_rng(0)
    ids = np.where(rng.random((3000, 10)) < 0.3, rng.integers(0, 20, (3000, 10)), rng.integers(0, MANY, (3000, 10)))
    cells = [[f"L{number}" for number in row] for row in ids.tolist()]
    split = Dataset.from_dict({"text": [f"text {number}" for number in range(3000)], "labels": cells})
    split.to_parquet(tmp_path / "train.parquet")
    tracemalloc.start()
    data = load_multilabel_dataset(str(tmp_path), task="text", label_names=[f"L{number}" for number in range(MANY)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    train, validation = data.splits["train"], data.splits["validation"]
    assert set(train.column_names) == {"text", "label_ids"} and len(validation) == 300
    assert train[0]["label_ids"] == sorted(set(ids[int(train[0]["text"].split()[1])].tolist()))
    assert Labels.of(train, MANY).shape == (2700, MANY)


def test_images_have_ids_too():
    rows = whole_rows(8, 8)
    split = Dataset.from_dict({"image": [PILImage.new("RGB", (4, 4))] * 8}).cast_column("image", Image())
    split = add_label_column(split, Labels.of(rows), as_ids=True)
    images = prepare_images(split, lambda images, return_tensors: {"pixel_values": torch.zeros(len(images), 3, 4, 4)})
    width = images.labels.shape[1]  # of the largest id
    assert np.array_equal(images.select([5, 3]).labels.rows(), rows[[5, 3], :width])
    batch = MultiLabelCollator(None, 8)([images[number] for number in range(8)])
    assert batch["label_ids"][3].unique().tolist() == [-100]
    assert [set(row.tolist()) - {-1} for row in batch["label_ids"][:3]] == [set(np.flatnonzero(r)) for r in rows[:3]]


def test_padded_ids_are_sorted_and_single():
    lists = [np.array([9, -1, 4, 9]), np.array([-1]), None]
    assert padded_ids(lists, 10).tolist() == [[4, 9], [-1, -1], [-100, -100]]
    assert padded_ids([np.array([])], 10).tolist() == [[-1]]
    with pytest.raises(ValueError, match="row 1 of the batch: .*from 0 to 9, got 10"):
        padded_ids([None, np.array([10])], 10)


def test_columns_are_those_of_the_rows():
    """An example of which only labels that are left out were known is unlabelled."""
    rows = np.random.default_rng(0).choice([0, 1, -100], (40, 6), p=[0.6, 0.2, 0.2]).astype(np.int8)
    rows[3] = [-100, 1, -100, -100, 0, 1]
    chosen = np.array([0, 2, 3])
    found = Labels.of(rows).columns(chosen)
    assert np.array_equal(found.rows(), rows[:, chosen]) and found.unlabelled[3]
    known = Labels.of(rows == 1).columns(chosen)
    assert known.known and np.array_equal(known.rows(), rows[:, chosen] == 1)
