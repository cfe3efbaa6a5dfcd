"""The look at a dataset: counts that a loop over the rows gives, and a line for everything odd."""

import json

import numpy as np
import pytest
from datasets import Dataset
from tiny import save_images, save_texts

from hf_mlcl.cli import main
from hf_mlcl.data import labels, load_multilabel_dataset, summarize
from hf_mlcl.data.summary import summary_lines

TRAIN = {
    "body": ["oil fell", "oil fell", "corn and wheat rose", "", "gas"],
    "tags": ["crude", "crude;gas", "corn;wheat", "", None],
}
TEST = {"body": ["oil fell", "new words"], "tags": ["crude", "gas"]}


@pytest.fixture
def summary():
    splits = {"train": Dataset.from_dict(TRAIN), "test": Dataset.from_dict(TEST)}
    return summarize(load_multilabel_dataset(splits, task="text", text_column="body", validation_fraction=0))


def test_counts_are_those_of_the_rows(summary):
    assert summary["labels"] == {
        "corn": {"train": 1, "test": 0},
        "crude": {"train": 2, "test": 1},
        "gas": {"train": 1, "test": 1},
        "wheat": {"train": 1, "test": 0},
    }
    train = summary["splits"]["train"]
    assert train["rows"] == 5 and train["unlabelled"] == train["without labels"] == train["empty"] == 1
    assert train["labels per example"] == 5 / 4 and train["most labels of an example"] == 2
    assert train["repeated"] == 1 and train["words"]["longest"] == 4
    assert summary["splits"]["test"]["also in"] == {"train": 1}
    assert sorted(map(tuple, summary["together"])) == [("corn", "wheat", 1), ("crude", "gas", 1)]
    assert json.loads(json.dumps(summary))["splits"] == summary["splits"]


def test_lines_say_what_was_recognised_and_what_is_odd(summary):
    lines = list(summary_lines(summary))
    assert lines[0] == "data: column 'body' is the text; labels from tags"
    assert "tags: 'crude' -> crude" in lines[1]
    marked = [line for line in lines if line.startswith("!")]
    odd = ("fewer than 5", "unlabelled", "without labels", "are empty", "are repeated", "1 of 2 rows are in train")
    for words in odd:
        assert any(words in line for line in marked), words


def test_columns_and_a_held_out_split_are_named():
    rows = {"text": [f"text {i}" for i in range(20)], "oil": [1, 0] * 10, "gas": [0, 1] * 10}
    data = load_multilabel_dataset(rows, task="text", label_column="oil,gas", validation_fraction=0.2)
    lines = list(summary_lines(summarize(data, inputs=False)))
    assert lines[0].endswith("labels from oil, gas") and "oil: 1 -> oil" in lines[1]
    assert next(line for line in lines if "held out" in line).split()[0] == "validation"


def test_the_command_gives_text_json_and_a_picture(tmp_path, capsys):
    save_texts(tmp_path)
    main(["data", str(tmp_path), "--picture", str(tmp_path / "counts.png")])
    assert "held out of the training split" in capsys.readouterr().out
    assert (tmp_path / "counts.png").stat().st_size > 1000
    main(["data", "--dataset", str(tmp_path), "--task", "text", "--json", "--validation_fraction", "0"])
    found = json.loads(capsys.readouterr().out)
    assert found["splits"]["train"]["rows"] == 200 and len(found["labels"]) == 6


def test_images_that_cannot_be_read_are_named(tmp_path, capsys):
    save_images(tmp_path, train=4, validation=2)
    (tmp_path / "train" / "2.png").write_bytes(b"no image")
    main(["data", str(tmp_path)])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "cannot be read" in line)
    assert line.startswith("! train: 1 images") and "2.png" in line


def test_many_labels_are_counted_without_rows(monkeypatch):
    monkeypatch.setattr(labels, "MAX_ROW_LABELS", 3)
    thrice = {name: 3 * values for name, values in TRAIN.items()}
    data = load_multilabel_dataset(thrice, task="text", text_column="body", validation_fraction=0)
    assert "label_ids" in data.splits["train"].column_names
    counts = [of["train"] for of in summarize(data)["labels"].values()]
    assert np.array_equal(counts, [3, 6, 3, 3])
