"""Data files and folders that are empty, broken, of another encoding, or hold other columns and labels."""

import json

import pytest
from clear_line import check_line, needs_permissions, raises_a_clear_line
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hf_mlcl.data import load_multilabel_dataset, prepare_images

GOOD = "text,labels\n" + "".join(f"text {row},{'ab'[row % 2]};c\n" for row in range(12))
PARQUET = object()  # stands for the bytes of a good parquet file


def lines(*rows):
    return "\n".join(map(json.dumps, rows)) + "\n"


def labelled(*cells):
    return lines(*({"text": f"t{number}", "labels": cell} for number, cell in enumerate(cells)))


# Files of a folder (name: content), options of the loader, and what the line says. One file alone is given itself.
CASES = {
    # the file
    "empty csv": ({"a.csv": ""}, {}, "dataset"),
    "header only": ({"a.csv": "text,labels\n"}, {}, "dataset"),
    "one row": ({"a.csv": "text,labels\na,b\n"}, {}, "validation_fraction"),
    "a row with more fields": ({"a.csv": GOOD + "a, b and c,x,y\n"}, {}, "dataset"),
    "broken quotes": ({"a.csv": 'text,labels\n"a,b\nc,d\n'}, {}, "dataset"),
    "a column twice": ({"a.csv": "text,labels,labels\na,b,c\n"}, {}, "dataset"),
    "binary csv": ({"a.csv": bytes(range(256)) * 4}, {}, "dataset"),
    "utf-16 csv": ({"a.csv": GOOD.encode("utf-16")}, {}, "dataset"),
    "latin-1 csv": ({"a.csv": GOOD.replace("text 3", "t\u00e9xt").encode("latin-1")}, {}, "dataset"),
    "latin-1 json": ({"a.jsonl": b"{\"text\": \"t\xe9xt\", \"labels\": [\"a\"]}\n"}, {}, "dataset: .*not UTF-8"),
    "broken json": ({"a.json": '[{"text": "a", "lab'}, {}, "dataset"),
    "json of a number": ({"a.json": "3"}, {}, "dataset"),
    "json of texts": ({"a.json": '["a", "b"]'}, {}, "label_column"),
    "binary parquet": ({"a.parquet": bytes(range(256))}, {}, "dataset"),
    "truncated parquet": ({"a.parquet": (PARQUET, -20)}, {}, "dataset"),
    "another ending": ({"a.xlsx": GOOD}, {}, "dataset"),
    "no data files": ({"a.txt": GOOD, "b.pdf": "x"}, {}, "dataset"),
    "files of two formats": ({"train.csv": GOOD, "test.json": "[]"}, {}, "dataset"),
    "broken saved data set": ({"state.json": "{}", "dataset_info.json": "{}"}, {}, "dataset: "),
    # splits
    "no training split": ({"test.csv": GOOD, "validation.csv": GOOD}, {}, "dataset"),
    "a split that is not there": ({"train.csv": GOOD, "test.csv": GOOD}, {"splits": ["validation"]}, "splits"),
    "an empty split": ({"train.csv": GOOD, "test.csv": "text,labels\n"}, {}, "dataset"),
    "splits with other columns": ({"train.csv": GOOD, "test.csv": "body,labels\na,b\n"}, {}, "text_column"),
    "another type in a split": (
        {"train.jsonl": labelled(["a"], ["b"]), "test.jsonl": labelled([1], [2])},
        {},
        "label column 'labels'",
    ),
    # columns
    "no text column": ({"a.csv": "x,labels\na,b\n"}, {}, "text_column"),
    "no label column": ({"a.csv": "text,x\na,b\n"}, {}, "label_column"),
    "a text column that is not there": ({"a.csv": GOOD}, {"text_column": "txet"}, "text_column"),
    "one of the label columns is not there": ({"a.csv": "text,a,b\nx,0,1\n"}, {"label_column": "a,c"}, "label_column"),
    "texts as 0/1 columns": ({"a.csv": "text,a,b\nx,0,maybe\n"}, {"label_column": "a,b"}, "label_column"),
    "numbers as texts": ({"a.jsonl": lines({"text": 3, "labels": ["a"]})}, {"text_column": "text"}, "text_column"),
    "one column for both": ({"a.csv": GOOD}, {"text_column": "text", "label_column": "text"}, "label_column"),
    # labels
    "all labels blank": ({"a.csv": "text,labels\na,\nb, \n"}, {}, "label column 'labels'"),
    "two delimiters": ({"a.csv": "text,labels\nx,a;b\ny,a|b\n"}, {}, "label column 'labels'"),
    "a broken printed list": ({"a.csv": "text,labels\nx,['a'\\]\ny,[b]\n"}, {}, "label column 'labels'"),
    "another width than the model's": ({"a.jsonl": labelled([1, 1, 0], [0, 0, 1])}, {"label_names": ["a", "b"]}, "label column 'labels'"),
    # arguments
    "label names twice": ({"a.csv": GOOD}, {"label_names": ["a", "a "]}, "label_names"),
    "no label names": ({"a.csv": GOOD}, {"label_names": []}, "label_names"),
    "another task": ({"a.csv": GOOD}, {"task": "audio"}, "task"),
    "a fraction of 1": ({"a.csv": GOOD}, {"validation_fraction": 1.0}, "validation_fraction"),
    "no samples": ({"a.csv": GOOD}, {"max_train_samples": 0}, "max_train_samples"),
    "a negative seed": ({"a.csv": GOOD}, {"seed": -1}, "seed"),
    "a list of label columns": ({"a.csv": GOOD}, {"label_column": ["labels"]}, "label_column"),
    "a revision of a file": ({"a.csv": GOOD}, {"revision": "v1"}, "revision"),
}  # fmt: skip


@pytest.fixture(scope="session")
def parquet_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "good.parquet"
    Dataset.from_dict({"text": ["a"] * 50, "labels": [["x"]] * 50}).to_parquet(path)
    return path.read_bytes()


def load(folder, files, options, parquet=b""):
    for name, content in files.items():
        if isinstance(content, tuple):
            content = parquet[: content[1]]
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    source = folder / next(iter(files)) if len(files) == 1 else folder
    return load_multilabel_dataset(str(source), **({"task": "text"} | options))


@pytest.mark.parametrize("case", list(CASES))
def test_data_that_cannot_be_used(case, tmp_path, parquet_bytes):
    files, options, message = CASES[case]
    before = dict(files)
    raises_a_clear_line(lambda: load(tmp_path, files, options, parquet_bytes), message)
    assert {path.name for path in tmp_path.iterdir()} == before.keys()


SOURCE_CASES = {
    "an id while offline": ("nobody/nothing", "dataset"),
    "a file that is not there": ("none/data.csv", "dataset"),
    "a path that is not there": ("./none", "dataset"),
    "the empty name": ("", "dataset"),
    "rows": ([{"text": "a"}], "dataset"),
}


@pytest.mark.parametrize("case", list(SOURCE_CASES))
def test_a_source_that_is_not_there(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, message = SOURCE_CASES[case]
    raises_a_clear_line(lambda: load_multilabel_dataset(name, task="text"), message)


@needs_permissions
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "a.csv").write_text(GOOD)
    (tmp_path / "a.csv").chmod(0)
    raises_a_clear_line(lambda: load_multilabel_dataset(str(tmp_path / "a.csv"), task="text"), "permission denied")


# Files beside a good image `0.png`, and what the line says when the data set is loaded, prepared and its images read.
IMAGE_CASES = {
    "no metadata": ({}, "dataset"),
    "metadata without file_name": ({"metadata.jsonl": lines({"name": "0.png", "labels": ["a"]})}, "image_column"),
    "metadata without labels": ({"metadata.csv": "file_name,colour\n0.png,red\n"}, "label_column"),
    "an image that is not there": ({"metadata.csv": "file_name,labels\nnone.png,a\n"}, "image of row 0 .*none.png.*cannot be decoded"),
    "an empty cell": ({"metadata.jsonl": lines({"file_name": None, "labels": ["a"]}, {"file_name": "0.png", "labels": ["a"]})}, "image of row 0.*cannot be decoded"),
    "a text for an image": ({"metadata.csv": "file_name,labels\n1.png,a\n", "1.png": "no image"}, "image of row 0 .*1.png.*cannot be decoded"),
    "a truncated image": ({"metadata.csv": "file_name,labels\n1.png,a\n", "1.png": "TRUNCATED"}, "image of row 0 .*1.png.*cannot be decoded"),
    "a folder for an image": ({"metadata.csv": "file_name,labels\n.,a\n"}, "image of row 0.*cannot be decoded"),
}  # fmt: skip


@pytest.mark.parametrize("skip", [False, True], ids=["error", "skip"])
@pytest.mark.parametrize("case", list(IMAGE_CASES))
def test_images_that_cannot_be_used(case, skip, world, tmp_path):
    files, message = IMAGE_CASES[case]
    Image.effect_noise((32, 32), 50).convert("RGB").save(tmp_path / "0.png")
    for name, content in files.items():
        data = (tmp_path / "0.png").read_bytes()[:200] if content == "TRUNCATED" else content.encode()
        (tmp_path / name).write_bytes(data)

    def use():
        data = load_multilabel_dataset(str(tmp_path), task="vision", validation_fraction=0)
        return prepare_images(data.splits["train"], world.processor, corrupt_images="skip" if skip else "error")[0]

    if skip and case == "an empty cell":  # the other row can be used
        assert use()["pixel_values"].shape == (3, 16, 16)
    else:
        raises_a_clear_line(use, message)


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-200, 200),
    st.floats(),
    st.sampled_from(["", "a", "a;b", "[1", "\0", " ", "\u00e9"]),
)


@given(st.lists(st.one_of(CELLS, st.lists(CELLS, max_size=3)), min_size=1, max_size=4))
def test_label_cells_of_anything_are_read_or_answered_with_one_clear_line(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("cells") / "a.jsonl"
    path.write_text(labelled(*cells))
    try:
        data = load_multilabel_dataset(str(path), task="text", validation_fraction=0)
    except ValueError as error:
        check_line(str(error), "label|dataset")
    else:
        assert len(data.splits["train"]) == len(cells) and data.label_names
