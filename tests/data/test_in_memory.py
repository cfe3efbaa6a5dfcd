"""Data that is in memory already: the same splits and labels as from a file, and a line for what is neither."""

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hf_mlcl.data import encode_labels, load_multilabel_dataset

TEXTS = [f"text {number}" for number in range(30)]
LABELS = [[["oil", "gas"], [], ["corn"]][number % 3] for number in range(30)]
COLUMNS = {"text": TEXTS, "labels": LABELS}


def load(data, **options):
    return load_multilabel_dataset(data, task="text", **options)


@pytest.mark.parametrize(
    "data",
    [
        COLUMNS,
        datasets.Dataset.from_dict(COLUMNS),
        pd.DataFrame(COLUMNS),
        pd.DataFrame(COLUMNS, index=range(30, 0, -1)),
        {"train": pd.DataFrame(COLUMNS)},
        datasets.DatasetDict(train=datasets.Dataset.from_dict(COLUMNS)),
        datasets.Dataset.from_dict(COLUMNS).data.table,
    ],
    ids=["columns", "Dataset", "DataFrame", "its index", "mapping", "DatasetDict", "arrow"],
)
def test_the_same_as_from_a_file(data, tmp_path):
    pd.DataFrame(COLUMNS).to_json(tmp_path / "news.jsonl", orient="records", lines=True)
    expected, found = load(str(tmp_path / "news.jsonl")), load(data)
    assert found.label_names == expected.label_names == ["corn", "gas", "oil"]
    for name in ("train", "validation"):
        assert found.splits[name].to_dict() == expected.splits[name].to_dict()


def test_splits_are_known_by_any_name():
    parts = {"training": pd.DataFrame(COLUMNS), "dev": datasets.Dataset.from_dict(COLUMNS)}
    assert list(load(parts).splits) == ["train", "validation"]
    assert list(load(COLUMNS, splits=["test"]).splits) == ["test"]


def test_missing_cells_of_a_frame_are_missing():
    frame = pd.DataFrame({"text": [None, *TEXTS[1:]], "oil": [1, 0, np.nan] * 10, "gas": [True, False, True] * 10})
    data = load(frame, label_column="oil,gas", validation_fraction=0)
    assert data.splits["train"]["text"][0] == ""
    assert data.splits["train"]["labels"][:3] == [[1, 1], [0, 0], [-100, 1]]


def test_images_in_memory():
    images = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    data = load_multilabel_dataset({"image": images, "labels": [["a"], ["b"]]}, task="vision", validation_fraction=0)
    assert [image.getpixel((0, 0)) for image in data.splits["train"]["image"]] == [(255, 0, 0), (0, 0, 255)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([TEXTS, LABELS], "dataset must be .*got a list$"),
        (None, "dataset must be .*got None$"),
        ({}, "dataset must be .*a mapping of nothing$"),
        ({"text": "one text", "labels": LABELS}, "dataset must be .*a mapping of list, str$"),
        ({"text": TEXTS, "labels": LABELS[:3]}, "dataset: columns must be equally long, .*30.*3"),
        ({"text": [1, *TEXTS[1:]], "labels": LABELS}, "dataset: column 'text' cannot be read: "),
        (datasets.Dataset.from_dict(COLUMNS).to_iterable_dataset(), "dataset must be .*a stream"),
        (pd.DataFrame([TEXTS, TEXTS], index=["text", "text"]).T, "dataset: two columns"),
        ({"train": pd.DataFrame(COLUMNS), "training": pd.DataFrame(COLUMNS)}, "dataset: .*several splits"),
    ],
)
def test_a_line_says_what_it_is_and_not_what_it_holds(data, message):
    with pytest.raises(ValueError, match=message) as error:
        load(data)
    assert "\n" not in str(error.value) and "text 29" not in str(error.value)


def test_a_revision_has_no_use():
    with pytest.raises(ValueError, match="revision: "):
        load(COLUMNS, revision="main")


@pytest.mark.parametrize(
    ("values", "names", "rows"),
    [
        ([["oil", "gas"], [], ["gas"]], ["gas", "oil"], [[1, 1], [0, 0], [1, 0]]),
        ([{"oil", "gas"}, set(), ("gas",)], ["gas", "oil"], [[1, 1], [0, 0], [1, 0]]),
        (["oil;gas", "", "gas"], ["gas", "oil"], [[1, 1], [0, 0], [1, 0]]),
        ([["oil"], None], ["oil"], [[1], [-100]]),
    ],
)
def test_names_become_rows(values, names, rows):
    found, order = encode_labels(values)
    assert order == names and found.tolist() == rows and found.dtype == np.int8


def test_names_become_rows_in_the_order_that_is_given():
    rows, names = encode_labels([["gas"], ["oil"]], label_names=["oil", "gas", "corn"])
    assert names == ["oil", "gas", "corn"] and rows.tolist() == [[0, 1, 0], [1, 0, 0]]
    with pytest.raises(ValueError, match="'tin'"):
        encode_labels([["tin"]], label_names=["oil"])


@pytest.mark.parametrize("wrong", ["oil", {"oil": 1}, 3, [["oil"], [1]]])
def test_what_is_no_list_of_labels_is_named(wrong):
    with pytest.raises(ValueError, match="labels must be "):
        encode_labels(wrong)
