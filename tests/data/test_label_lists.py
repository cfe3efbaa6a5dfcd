"""Labels as lists of ids: the same sets as multi-hot rows, from the column to the batch."""

import tracemalloc

import numpy as np
import pytest
import torch
from datasets import Dataset, Image, List, Value
from PIL import Image as PILImage

from hf_mlcl.data import (
    LabelAwareSampler,
    LabelLists,
    Labels,
    MultiLabelCollator,
    iterative_split,
    load_multilabel_dataset,
    prepare_images,
    read_label_lists,
)
from hf_mlcl.data import labels as module
from hf_mlcl.data.collator import padded_ids
from hf_mlcl.data.label_lists import add_label_lists

MANY = 100_000


def some_lists(rows=50, labels=30, seed=0):
    """Lists and the multi-hot rows they stand for; examples 3 and 7 are unlabelled, 5 has no label."""
    rng = np.random.default_rng(seed)
    dense = rng.random((rows, labels)) < 0.1
    unlabelled = np.isin(np.arange(rows), [3, 7])
    dense[unlabelled | (np.arange(rows) == 5)] = False
    lists = LabelLists.from_pairs(*np.nonzero(dense), (rows, labels), unlabelled)
    return lists, np.where(unlabelled[:, None], -100, dense)


def test_lists_are_the_rows_they_stand_for():
    lists, dense = some_lists()
    assert lists.shape == dense.shape and len(lists) == len(dense)
    assert np.array_equal(lists.rows(), dense) and np.array_equal(lists.rows(slice(4, 9)), dense[:, 4:9])
    assert np.array_equal(lists.counts(), (dense == 1).sum(0))
    assert np.array_equal(lists[np.array([9, 3, 0])].rows(), dense[[9, 3, 0]])
    assert np.array_equal(lists[dense[:, 2] == 1].rows(), dense[dense[:, 2] == 1])
    assert lists.ids(3) is None and lists.ids(5).tolist() == []
    assert lists.ids(10).tolist() == np.flatnonzero(dense[10]).tolist()


def test_order_and_repetition_of_pairs_do_not_matter():
    twice = LabelLists.from_pairs(np.array([1, 0, 1, 1]), np.array([4, 2, 0, 4]), (2, 5))
    assert [twice.ids(row).tolist() for row in (0, 1)] == [[2], [0, 4]] and twice.counts().tolist() == [1, 0, 1, 0, 1]


def test_the_column_comes_back():
    lists, dense = some_lists()
    split = add_label_lists(Dataset.from_dict({"text": list(map(str, range(50)))}), lists)
    assert split.features["label_ids"] == List(Value("int32")) and split[3]["label_ids"] is None
    assert np.array_equal(read_label_lists(split, 30).rows(), dense)
    assert np.array_equal(read_label_lists(split.select([9, 3, 0]), 30).rows(), dense[[9, 3, 0]])
    padded = Dataset.from_dict({"label_ids": [[2, -1], [0, 1]]})
    assert read_label_lists(padded).rows().tolist() == [[False, False, True], [True, True, False]]


def partly_missing(rows=30, labels=9, seed=0):
    """Rows of 1, 0 and -100, of which 2 and 8 are unlabelled."""
    rng = np.random.default_rng(seed)
    dense = rng.choice([0, 1, -100], (rows, labels), p=[0.6, 0.3, 0.1])
    dense[[2, 8]] = -100
    return dense


@pytest.mark.parametrize("form", [
    lambda rows: rows,
    lambda rows: rows.tolist(),
    lambda rows: np.where(rows == -100, np.nan, rows),
    lambda rows: [None if (row == -100).all() else row.tolist() for row in rows],
    lambda rows: [[None if value == -100 else value for value in row] for row in rows.tolist()],
    lambda rows: torch.tensor(rows).to(torch.bfloat16),
    lambda rows: Dataset.from_dict({"labels": rows.tolist()}),
    lambda rows: Dataset.from_dict({"labels": [None if (row == -100).all() else row for row in rows.astype(float)]}),
    lambda rows: Labels.of(rows),
])  # fmt: skip
def test_labels_of_any_form_are_those_of_their_rows(form):
    dense = partly_missing()
    labels = Labels.of(form(dense), 9)
    assert np.array_equal(labels.rows(), dense) and labels.rows().dtype == np.int8 and not labels.known
    assert np.array_equal(np.asarray(labels), dense) and np.array_equal(labels.rows([7, 1]), dense[:, [7, 1]])
    assert np.flatnonzero(labels.unlabelled).tolist() == [2, 8]
    assert np.array_equal(labels.counts(), (dense == 1).sum(0))
    assert np.array_equal(labels.known_counts(), (dense != -100).sum(0))
    assert np.array_equal(np.stack(labels.pairs()), np.stack(np.nonzero(dense == 1)))
    assert np.array_equal(Labels.concatenate([labels[:4], labels[4:]]).rows(), dense)
    for some in (np.array([5, 2, 2]), dense[:, 0] == 1, slice(3, 20, 2)):
        assert np.array_equal(labels[some].rows(), dense[some])


def test_known_labels_are_bool():
    labels = Labels.of(np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert labels.known and labels.rows().dtype == bool and labels.known_counts().tolist() == [2, 2]
    both = Labels.concatenate([labels, Labels.of([[0, None]])])
    assert both.rows().tolist() == [[1, 0], [0, 0], [0, -100]] and both[:2].known
    assert Labels.of(np.zeros((0, 3))).shape == (0, 3) and Labels.of([[1, 0], None]).unlabelled.tolist() == [
        False,
        True,
    ]


@pytest.mark.parametrize("values", [
    [[2, 0]], [[0.5, 1]], [1, 0], [[1, 0], [1]], [["a"]], "text", None, 3, np.zeros((2, 2, 2)), [[0, 1, 1]],
    Dataset.from_dict({"text": ["a"]}), Dataset.from_dict({"labels": [["a"]]}), Dataset.from_dict({"labels": [3]}),
], ids=repr)  # fmt: skip
def test_what_is_no_multi_hot_labels_is_refused(values):
    with pytest.raises(ValueError, match="labels"):
        Labels.of(values, 2)


def test_only_small_rows_become_an_array():
    assert not Labels.from_pairs([0], [1], (2**10, 10_000)).too_large
    large = Labels.from_pairs([0], [1], (2**20, 2**10 + 1))
    assert large.too_large and Labels.from_pairs([0], [1], (1, 10_001)).too_large
    with pytest.raises(ValueError, match="1 GiB"):
        np.asarray(large)


def test_splits_and_orders_are_those_of_the_rows():
    lists, dense = some_lists(200, 12)
    for part, expected in zip(iterative_split(lists, 0.2, 1), iterative_split(dense, 0.2, 1), strict=True):
        assert np.array_equal(part, expected)
    orders = [list(LabelAwareSampler(labels, 16, torch.Generator().manual_seed(0))) for labels in (lists, dense)]
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
        data = load_multilabel_dataset(str(tmp_path), task="text", validation_fraction=0)
        splits.append(data.splits["train"])
    rows, lists = splits
    assert rows.column_names == ["text", "labels"] and lists.column_names == ["text", "label_ids"]
    assert np.array_equal(Labels.of(rows).rows(), Labels.of(lists, 3).rows()) and lists[2]["label_ids"] is None


def test_lists_start_where_rows_would_fill_a_gibibyte():
    assert not module.too_large_for_rows(107_374, 10_000) and module.too_large_for_rows(107_375, 10_000)
    assert module.too_large_for_rows(1, 10_001)


def write(path, rows):
    """Texts with 10 of 100,000 labels each, some of them frequent."""
    rng = np.random.default_rng(0)
    ids = np.where(rng.random((rows, 10)) < 0.3, rng.integers(0, 20, (rows, 10)), rng.integers(0, MANY, (rows, 10)))
    cells = [[f"L{number}" for number in row] for row in ids.tolist()]
    Dataset.from_dict({"text": [f"text {number}" for number in range(rows)], "labels": cells}).to_parquet(path)
    return ids


def test_a_hundred_thousand_labels_load_in_little_memory(tmp_path):
    """Dense rows would take 300 MB."""
    ids = write(tmp_path / "train.parquet", 3000)
    names = [f"L{number}" for number in range(MANY)]
    tracemalloc.start()
    data = load_multilabel_dataset(str(tmp_path), task="text", label_names=names)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    train, validation = data.splits["train"], data.splits["validation"]
    assert set(train.column_names) == {"text", "label_ids"} and len(validation) == 300
    number = int(train[0]["text"].split()[1])
    assert train[0]["label_ids"] == sorted(set(ids[number].tolist()))
    assert read_label_lists(train, MANY).shape == (2700, MANY)


class Tokenizer:
    model_input_names = ["input_ids"]

    def pad(self, features, **_):
        return {"input_ids": torch.tensor([feature["input_ids"] for feature in features])}


def test_a_batch_holds_padded_ids():
    collate = MultiLabelCollator(Tokenizer(), 10)
    examples = [{"input_ids": [1], "label_ids": ids} for ids in ([4, 9], [], None, [0])]
    batch = collate(examples)
    assert batch["label_ids"].tolist() == [[4, 9], [-1, -1], [-100, -100], [0, -1]]
    repeated = collate([{"input_ids": [1], "label_ids": ids} for ids in ([9, -1, 4, 9], [-1])])
    assert repeated["label_ids"].tolist() == [[4, 9], [-1, -1]]
    assert batch["label_ids"].dtype == torch.int64 and "labels" not in batch
    assert collate([{"input_ids": [1], "label_ids": []}])["label_ids"].tolist() == [[-1]]
    with pytest.raises(ValueError, match="label_ids: row 0 of the batch: expected label ids from 0 to 9, got 0.5"):
        collate([{"input_ids": [1], "label_ids": [0.5]}])
    with pytest.raises(ValueError, match="label_ids: row 1 of the batch: expected label ids from 0 to 9, got 10"):
        collate([examples[0], {"input_ids": [1], "label_ids": [10]}])
    with pytest.raises(
        ValueError, match="label_ids: expected labels in all 2 examples of a batch or in none, got 1 without"
    ):
        collate([examples[0], {"input_ids": [1]}])


def test_images_have_lists_too():
    lists, dense = some_lists(6, 8)
    image = PILImage.new("RGB", (4, 4))
    split = add_label_lists(Dataset.from_dict({"image": [image] * 6}).cast_column("image", Image()), lists)

    def processor(images, return_tensors):
        return {"pixel_values": torch.zeros(len(images), 3, 4, 4)}

    images = prepare_images(split, processor)
    width = images.labels.shape[1]  # of the largest id
    assert np.array_equal(images.select([5, 3]).labels.rows(), dense[[5, 3], :width])
    batch = MultiLabelCollator(None, 8)([images[number] for number in range(6)])
    assert batch["label_ids"][3].unique().tolist() == [-100]
    assert [set(row.tolist()) - {-1} for row in batch["label_ids"][:3]] == [set(np.flatnonzero(d)) for d in dense[:3]]


@pytest.mark.parametrize(("column", "message"), [
    ([["a"]], "column 'label_ids': expected lists of label ids, got"),
    ([[1.5]], "column 'label_ids': expected lists of label ids, got"),
    ([[3], [12]], "column 'label_ids': expected label ids from 0 to 9, got 12"),
    ([[3], [-2]], "column 'label_ids': expected label ids from 0 to 9, got -2"),
])  # fmt: skip
def test_mistakes_are_named(column, message):
    with pytest.raises(ValueError, match=message):
        read_label_lists(Dataset.from_dict({"label_ids": column}), 10)
    with pytest.raises(ValueError, match="expected label ids from 0 to 9, got -5"):
        padded_ids([np.array([-5])], 10)
