"""Loading from files, folders and the Hub: columns, splits, carving, caches, and one clear line for every mistake."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path

import numpy as np
import pandas
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PILImage

from hf_mlcl.data import Labels, load_multilabel_dataset, multi_hot
from hf_mlcl.data.sources import split_of_path

CSV = "text,labels\nhello,a;b\nworld,b\nempty,\n"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test here may try the network, with the libraries' offline mode switched off."""
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args)  # counted, because the libraries swallow what is raised here
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    yield
    assert not tried


def load(path, **arguments):
    return load_multilabel_dataset(str(path), **{"task": "text", "validation_fraction": 0, **arguments})


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(name: str, number: int = 2):
    return Dataset.from_dict(
        {"text": [f"{name} {row}" for row in range(number)], "labels": [["a"], ["b"]] * (number // 2)}
    )


FILES = {
    "a.csv": CSV,
    "semicolon.csv": "text;labels\nhello;a,b\nworld;b\nempty;\n",
    "tabs.tsv": "text\tlabels\nhello\ta|b\nworld\tb\nempty\t\n",
    "mark.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "index.csv": ",text,labels\n0,hello,a;b\n1,world,b\n2,empty,\n",
    "a.jsonl": (
        '{"text":"hello","labels":["a","b"]}\n{"labels":["b"],"text":"world","more":3}\n{"text":"empty","labels":[]}\n'
    ),
    "a.json": '[{"text":"hello","labels":["a","b"]},{"text":"world","labels":["b"]},{"text":"empty","labels":[]}]',
    "columns.csv": "text,a,b\nhello,1,1\nworld,0,1\nempty,,0\n",
}


@pytest.mark.parametrize("name", FILES)
def test_every_file_format_gives_the_same_split(tmp_path, name):
    data = load(write(tmp_path / name, FILES[name]))
    assert data.label_names == ["a", "b"] and data.task == "text" and data.name == name.split(".")[0]
    train = data.splits["train"]
    assert list(data.splits) == ["train"]
    assert train.features == Features({"text": Value("string"), "labels": List(Value("bool"), length=2)})
    assert list(train["text"]) == ["hello", "world", "empty"]
    assert np.array_equal(Labels.of(train).rows(), multi_hot([[0, 1], [1], []], 2))


def test_csv_keeps_labels_and_texts_that_look_like_nulls_and_quoted_separators(tmp_path):
    data = load(write(tmp_path / "a.csv", 'text,labels\n"say ""hi"", NA\nnow",NA\nnull,None;NA\n'))
    assert list(data.splits["train"]["text"]) == ['say "hi", NA\nnow', "null"]
    assert data.label_names == ["NA", "None"]


def test_types_do_not_depend_on_the_first_block_of_a_csv(tmp_path):
    body = "".join(f"{row},{row % 3}\n" for row in range(12_000)) + "words,1;2\n"
    data = load(write(tmp_path / "a.csv", "text,labels\n" + body))
    assert data.label_names == ["0", "1", "2"]
    assert Labels.of(data.splits["train"]).rows()[-1].tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train.parquet", "dev.parquet", "test.parquet"], ["train", "validation", "test"]),
        (["train/0.parquet", "valid/0.parquet"], ["train", "validation"]),
        (["data/train-0-of-2.parquet", "data/train-1-of-2.parquet", "data/val.parquet"], ["train", "validation"]),
        (["part-0.parquet", "part-1.parquet"], ["train"]),
    ],
)  # fmt: skip
def test_folders_are_read_split_by_split(tmp_path, files, expected):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        rows_of(name).to_parquet(str(tmp_path / name))
    write(tmp_path / "README.md", "# about")
    write(tmp_path / ".cache" / "test.parquet", "rubbish")
    splits = load(tmp_path).splits
    assert list(splits) == expected
    assert sum(len(split) for split in splits.values()) == 2 * len(files)


def test_only_asked_splits_are_read_and_nothing_is_carved(tmp_path):
    write(tmp_path / "train.parquet", b"rubbish")
    rows_of("test").to_parquet(str(tmp_path / "test.parquet"))
    data = load_multilabel_dataset(str(tmp_path), task="text", splits=["test"], label_names=["c", "b", "a"])
    assert list(data.splits) == ["test"] and data.label_names == ["c", "b", "a"]
    assert np.array_equal(Labels.of(data.splits["test"]).rows(), multi_hot([[2], [1]], 3))
    with pytest.raises(ValueError, match="splits: .*train, test.* validation"):
        load(tmp_path, splits=["dev"])


def test_single_file_is_the_asked_split_unless_its_name_says_another(tmp_path):
    assert list(load(write(tmp_path / "new.csv", CSV), splits=["test"]).splits) == ["test"]
    with pytest.raises(ValueError, match="splits: .*'train.csv'.*'train'.*'test'"):
        load(write(tmp_path / "train.csv", CSV), splits=["test"])


def test_saved_datasets_are_read(tmp_path):
    DatasetDict({"train": rows_of("a"), "dev": rows_of("b")}).save_to_disk(str(tmp_path / "saved"))
    assert list(load(tmp_path / "saved").splits) == ["train", "validation"]


def test_missing_validation_is_carved_from_train_with_all_rare_labels_left_in_train(tmp_path):
    labels = [["common"]] * 60 + [["half"]] * 39 + [["rare"]]
    Dataset.from_dict({"id": list(range(100)), "text": ["x"] * 100, "labels": labels}).to_parquet(
        str(tmp_path / "train.parquet")
    )
    data = load_multilabel_dataset(str(tmp_path), task="text")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 90, "validation": 10}
    ids = list(data.splits["train"]["id"]) + list(data.splits["validation"]["id"])
    assert sorted(ids) == list(range(100))
    assert data.label_names == ["common", "half", "rare"]
    assert Labels.of(data.splits["validation"]).rows().sum(axis=0).tolist() == [6, 4, 0]
    again = load_multilabel_dataset(str(tmp_path), task="text", max_train_samples=20, max_eval_samples=3)
    assert (len(again.splits["train"]), len(again.splits["validation"])) == (20, 3)
    assert set(again.splits["validation"]["id"]) <= set(data.splits["validation"]["id"])
    assert again.label_names == data.label_names
    other = load_multilabel_dataset(str(tmp_path), task="text", seed=1)
    assert set(other.splits["validation"]["id"]) != set(data.splits["validation"]["id"])


def test_null_texts_are_empty_and_other_columns_are_dropped(tmp_path):
    Dataset.from_dict({"body": ["a", None], "labels": [["q"], None], "n": [1, 2]}).to_parquet(
        str(tmp_path / "a.parquet")
    )
    split = load(tmp_path).splits["train"]
    assert set(split.column_names) == {"text", "labels"} and list(split["text"]) == ["a", ""]


def test_columns_are_recognised_or_named(tmp_path):
    path = write(tmp_path / "a.csv", "id,sentence,other,topics,l_a,l_b\n7,s,o,x;y,1,0\n8,t,p,x,0,1\n")
    split = load(path).splits["train"]
    assert list(split["text"]) == ["s", "t"] and list(split["id"]) == ["7", "8"]
    named = load(path, text_column="other", label_column="l_*")
    assert named.label_names == ["l_a", "l_b"] and list(named.splits["train"]["text"]) == ["o", "p"]
    assert load(path, label_column="l_b, l_a").label_names == ["l_b", "l_a"]


def test_the_task_is_what_the_columns_hold_unless_it_is_said(tmp_path):
    def task(content, **arguments):
        return load(write(tmp_path / "a.csv", content), **{"task": None, **arguments}).task

    PILImage.new("RGB", (2, 2)).save(tmp_path / "x.png")
    assert task("text,labels\nhello,a\n") == "text"
    assert task("file_name,labels\nx.png,a\n") == "vision"
    assert task("file_name,labels\nnotes.txt,a\n", text_column="file_name") == "text"
    assert task("path,text,labels\n/index.html,hello,a\n") == "text"
    captioned = "image,text,labels\nx.png,a caption,a\n"
    assert task(captioned) == "vision"
    assert task(captioned, task="text") == task(captioned, text_column="text") == "text"
    assert task("id,photo_of,labels\n1,x.png,a\n", image_column="photo_of") == "vision"
    with pytest.raises(ValueError, match="text_column: name one of"):
        task("other,labels\nhello,a\n")


def test_one_label_is_a_single_column_with_a_comma(tmp_path):
    path = write(tmp_path / "a.csv", "text,spam\nx,1\ny,0\nz,\n")
    data = load(path, label_column="spam,")
    assert data.label_names == ["spam"] and Labels.of(data.splits["train"]).rows().tolist() == [
        [True],
        [False],
        [False],
    ]
    assert load(path, label_column="spam").label_names == ["0", "1"]  # ids
    again = load(path, label_names=["spam"])  # as for a model that knows its label
    assert np.array_equal(Labels.of(again.splits["train"]).rows(), Labels.of(data.splits["train"]).rows())


def test_an_empty_field_says_not_and_a_missing_one_says_nothing(tmp_path, caplog):
    csv = "text,a,b\nx,1,\ny,-100,0\nz,NaN,1\n"
    data = load(write(tmp_path / "a.csv", csv))
    assert Labels.of(data.splits["train"]).rows().tolist() == [[1, 0], [-100, 0], [-100, 1]]
    assert data.splits["train"].features["labels"] == List(Value("int8"), length=2)
    jsonl = '{"text":"x","a":1}\n{"text":"y","a":null,"b":0}\n{"text":"z","b":1}\n'
    assert Labels.of(load(write(tmp_path / "b.jsonl", jsonl)).splits["train"]).rows().tolist() == [
        [1, -100], [-100, 0], [-100, 1],
    ]  # fmt: skip
    names = '{"text":"x","labels":["a"]}\n{"text":"y"}\n{"text":"z","labels":[]}\n'
    caplog.clear()
    assert Labels.of(load(write(tmp_path / "c.jsonl", names)).splits["train"]).rows().tolist() == [[1], [-100], [0]]
    assert "split 'train': of 3 rows 1 are unlabelled and 0 have some unknown labels" in caplog.text


def test_columns_of_labels_with_other_values_are_refused_and_features_are_left_out(tmp_path, caplog):
    rows = [("x", "0", "1"), ("y", "1", "0"), ("z", "0", "1"), ("w", "1", "1")]

    def write_with(values):
        lines = ["text,a,b,more", *(",".join((*row, value)) for row, value in zip(rows, values, strict=True))]
        return write(tmp_path / "a.csv", "\n".join(lines) + "\n")

    for wrong, values in (("-1", "0,1,-1,"), ("-1.0", "-1.0,,,"), ("0.5", "0,1,0,0.5"), ("maybe", "0,1,maybe,0")):
        path = write_with(values.split(","))
        row = values.split(",").index(wrong)
        with pytest.raises(ValueError, match=f"'more' holds '{wrong}' in row {row} of split"):
            load(path)
        assert load(path, label_column="a,b").label_names == ["a", "b"]  # the way out that the message tells
    for values, said in (("30,1,41,0", True), ("0,1,2,3", True), ("0.9,0.8,0.7,0.7", False), (",,,some note", False)):
        caplog.clear()
        assert load(write_with(values.split(","))).label_names == ["a", "b"]
        assert ("'more'" in caplog.text) == said
    assert load(write_with("NA,1,,0".split(","))).splits["train"]["labels"][0] == [0, 1, -100]


def test_splits_may_lack_label_columns_but_not_have_others(tmp_path, caplog):
    write(tmp_path / "train.csv", "id,text,a,b,c\n1,x,0,1,1\n2,y,1,0,0\n")
    write(tmp_path / "test.csv", "id,text\n7,z\n")
    for arguments in ({}, {"label_column": "a,b,c"}):
        data = load(tmp_path, **arguments)
        assert data.label_names == ["a", "b", "c"] and data.splits["test"]["labels"][0] == [-100, -100, -100]
        assert "split 'test' has no labels" in caplog.text
    write(tmp_path / "test.csv", "text,a,b\nz,1,0\n")
    caplog.clear()
    assert load(tmp_path).splits["test"]["labels"][0] == [1, 0, -100]
    assert "split 'test': labels without a column are unknown there: c" in caplog.text
    for header in ("text,a,b,C", "text,a,b,c,d"):
        write(tmp_path / "test.csv", f"{header}\nz{',1' * header.count(',')}\n")
        with pytest.raises(ValueError, match=f"label_column: .*'{header[-1]}'"):
            load(tmp_path)


def test_labels_without_a_column_are_unknown_and_named(tmp_path, caplog):
    path = write(tmp_path / "a.csv", "text,a,b\nx,1,0\ny,0,1\n")
    data = load(path, label_names=["b", "z", "a"])
    assert Labels.of(data.splits["train"]).rows().tolist() == [[0, -100, 1], [1, -100, 0]]
    assert "labels without a column are unknown: z" in caplog.text
    write(path, "text,a,b\nx,1,4\ny,0,1\n")
    with pytest.raises(ValueError, match="'b' holds '4' in row 0"):
        load(path, label_names=["a", "b"])


def test_quoted_names_with_commas_in_a_csv(tmp_path):
    csv = 'text,labels\nx,"""Arts, Crafts"",Books"\ny,Books\n'
    assert load(write(tmp_path / "a.csv", csv)).label_names == ["Arts, Crafts", "Books"]
    columns = 'text,"Arts, Crafts",Books\nx,1,0\ny,0,1\n'
    named = load(write(tmp_path / "b.csv", columns), label_column='Books,"Arts, Crafts"')
    assert named.label_names == ["Books", "Arts, Crafts"]
    assert Labels.of(named.splits["train"]).rows().tolist() == [[False, True], [True, False]]


def test_unlabelled_examples_stay_when_a_validation_split_is_carved(tmp_path):
    rows = {"text": [str(k) for k in range(40)], "labels": [["a"] if k % 2 else None for k in range(40)]}
    Dataset.from_dict(rows).to_parquet(str(tmp_path / "train.parquet"))
    splits = load(tmp_path, validation_fraction=0.25).splits
    both = np.concatenate([Labels.of(splits[name]).rows() for name in ("train", "validation")])
    assert (both == -100).sum() == 20 and (both == 1).sum() == 20
    assert (Labels.of(splits["validation"]).rows() == 1).sum() == 5


def test_images_from_metadata_in_each_split(tmp_path):
    for split, colour in (("train", 10), ("validation", 20)):
        for number in range(2):
            (tmp_path / split).mkdir(exist_ok=True)
            PILImage.new("RGB", (4, 3), (colour, number, 0)).save(tmp_path / split / f"blood-test-{number}.png")
        lines = [{"file_name": f"blood-test-{number}.png", "tags": ["a", "b"][: number + 1]} for number in range(2)]
        write(tmp_path / split / "metadata.jsonl", "\n".join(json.dumps(line) for line in lines))
    data = load(tmp_path, task="vision")
    assert list(data.splits) == ["train", "validation"]
    assert data.splits["train"].features["image"] == Image()
    assert data.splits["validation"][1]["image"].getpixel((0, 0)) == (20, 1, 0)
    assert data.splits["validation"][1]["labels"] == [True, True]


def test_images_from_one_metadata_file_for_all_splits(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        PILImage.new("L", (4, 3), len(split)).save(tmp_path / split / "x.png")
    write(tmp_path / "metadata.csv", "file_name,cat,dog\ntrain/x.png,0,1\ntest/x.png,1,0\n")
    data = load(tmp_path, task="vision")
    assert data.label_names == ["cat", "dog"] and list(data.splits) == ["train", "test"]
    assert data.splits["test"][0]["image"].getpixel((0, 0)) == 4
    assert data.splits["test"][0]["labels"] == [True, False]


def test_image_bytes_without_hugging_face_metadata(tmp_path):
    file = io.BytesIO()
    PILImage.new("RGB", (2, 2), (1, 2, 3)).save(file, format="PNG")
    cell = {"bytes": file.getvalue(), "path": None}
    pandas.DataFrame({"picture": [cell, cell], "labels": [["a"], ["b"]]}).to_parquet(tmp_path / "a.parquet")
    split = load(tmp_path, task="vision").splits["train"]
    assert split[0]["image"].getpixel((0, 0)) == (1, 2, 3)


def test_hub_data_sets_are_loaded_with_configuration_and_revision(monkeypatch):
    calls = {}

    def load_dataset(path, **arguments):
        calls.update(arguments, path=path)
        return DatasetDict({"train": rows_of("a"), "dev": rows_of("b"), "extra": rows_of("c")})

    monkeypatch.setattr("hf_mlcl.data.sources.load_dataset", load_dataset)
    data = load("someone/things", config_name="raw", revision="main")
    assert calls == {"path": "someone/things", "name": "raw", "revision": "main"}
    assert list(data.splits) == ["train", "validation"] and data.name == "things"
    assert list(load("someone/things", splits=["extra"]).splits) == ["extra"]


def test_a_folder_whose_readme_lists_configurations_is_read_as_the_hub_reads_it(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: topics\n  data_files:\n  - {split: train, path: a/x.csv}\n"
        "  - {split: test, path: a/y.csv}\n- config_name: moods\n  data_files: b/*.csv\n---\n# data\n"
    )
    for name, column in {"a/x.csv": "topic", "a/y.csv": "topic", "b/x.csv": "mood"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text,{column}\nfirst,a;b\nsecond,b\n")
    options = {"task": "text", "label_delimiter": ";", "validation_fraction": 0}
    topics = load_multilabel_dataset(tmp_path, config_name="topics", label_column="topic", **options)
    assert set(topics.splits) == {"train", "test"} and topics.label_names == ["a", "b"]
    moods = load_multilabel_dataset(tmp_path, config_name="moods", label_column="mood", **options)
    assert set(moods.splits) == {"train"}
    with pytest.raises(ValueError, match="config_name: .*several; name one .*moods"):
        load_multilabel_dataset(tmp_path, **options)
    with pytest.raises(ValueError, match="dataset: .*README.md says .*'nope'"):
        load_multilabel_dataset(tmp_path, config_name="nope", **options)


@pytest.mark.parametrize(
    ("path", "split"),
    [("train.csv", "train"), ("data/test-00000-of-00001.parquet", "test"), ("val/a.json", "validation"),
     ("a.csv", None), ("my_dev.csv", "validation"), ("training_set.csv", "train"),
     ("trainer.csv", None), ("latest.csv", None)],
)  # fmt: skip
def test_split_of_path_reads_whole_words(path, split):
    assert split_of_path(Path(path)) == split


def test_the_most_frequent_labels_are_kept(tmp_path):
    """Of the whole training split, whatever its subset; an example may be left without labels."""
    rows = ["a;b;c", "b;c", "c", "d", "c;d", "b", ""]
    (tmp_path / "train.csv").write_text("\n".join(["text,labels", *(f"text,{row}" for row in rows)]) + "\n")
    (tmp_path / "test.csv").write_text("text,labels\ntext,a\ntext,a;b\n")
    options = {"task": "text", "label_delimiter": ";", "validation_fraction": 0}
    whole = load_multilabel_dataset(str(tmp_path), **options)
    data = load_multilabel_dataset(str(tmp_path), **options, max_labels=2)
    assert whole.label_names == list("abcd") and data.label_names == ["b", "c"]
    for split, kept in data.splits.items():
        assert np.array_equal(np.array(kept["labels"]), np.array(whole.splits[split]["labels"])[:, [1, 2]])
    small = load_multilabel_dataset(str(tmp_path), **options, max_labels=2, max_train_samples=1)
    assert small.label_names == ["b", "c"]
    assert load_multilabel_dataset(str(tmp_path), **options, max_labels=9).label_names == list("abcd")
    with pytest.raises(ValueError, match="max_labels"):
        load_multilabel_dataset(str(tmp_path), **options, max_labels=2, label_names=list("abcd"))


def test_evaluation_subsets_do_not_depend_on_the_seed(tmp_path):
    lines = ["text,labels", *(f"text {number},{number % 3}" for number in range(60))]
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    options = {"task": "text", "max_train_samples": 20, "max_eval_samples": 20}
    one, other = (load_multilabel_dataset(str(tmp_path), **options, seed=seed).splits for seed in (1, 2))
    assert one["test"]["text"] == other["test"]["text"] and one["validation"]["text"] == other["validation"]["text"]
    assert one["train"]["text"] != other["train"]["text"]
