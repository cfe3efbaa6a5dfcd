"""Flags of the data on the command line: text pairs, unknown labels, images that cannot be read."""

import csv
import json
import shutil

import pytest
from test_cli import fails, text_arguments
from transformers import pipeline

from hf_mlcl.cli import main
from hf_mlcl.models import MLCLConfig

QUICK = ["--max_steps", "2", "--loss", "zlpr", "--classifier", "trained"]


@pytest.fixture(scope="module")
def pairs(text_data, tmp_path_factory):
    """A csv of text pairs: the words of a text in two columns; some labels are unknown."""
    path = tmp_path_factory.mktemp("pairs") / "train.csv"
    with (text_data / "train.csv").open() as source, path.open("w", newline="") as file:
        rows = list(csv.DictReader(source))
        names = sorted({name for row in rows for name in row["labels"].split(";") if name})
        writer = csv.writer(file)
        writer.writerow(["first", "second", *names])
        for number, row in enumerate(rows):
            words, has = row["text"].split(), row["labels"].split(";")
            labels = ["-100" if (number + k) % 7 == 0 else int(name in has) for k, name in enumerate(names)]
            writer.writerow([" ".join(words[::2]), " ".join(words[1::2]), *labels])
    return path


@pytest.fixture(scope="module")
def pair_model(pairs, text_encoder, tmp_path_factory):
    """A text model trained on pairs by the command line."""
    output = tmp_path_factory.mktemp("out") / "model"
    columns = ["--text_column", "first", "--text_pair_column", "second"]
    main(["train", *text_arguments(pairs, text_encoder, output, *columns, *QUICK)])
    return output


def test_a_model_of_pairs_knows_it_and_is_asked_with_pairs(pair_model, pairs, capsys, tmp_path):
    assert MLCLConfig.from_pretrained(pair_model).text_pairs
    capsys.readouterr()
    main(["predict", str(pair_model), "--text", "a b", "--text_pair", "c", "--min_labels", "6", "--json"])
    single = json.loads(capsys.readouterr().out)
    assert single["input"] == "a b" and single["input_pair"] == "c"
    rows = tmp_path / "rows.csv"
    rows.write_text("x,y\na b,c\nc,a b\n")
    many = ["predict", str(pair_model), "--file", str(rows), "--min_labels", "6", "--json"]
    main([*many, "--column", "x", "--pair_column", "y"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["input_pair"] for line in lines] == ["c", "a b"]
    scores = {label["label"]: label["score"] for label in lines[0]["labels"]}
    assert scores == pytest.approx({label["label"]: label["score"] for label in single["labels"]}, abs=1e-5)
    answers = pipeline("text-classification", model=str(pair_model), top_k=None)([{"text": "a b", "text_pair": "c"}])
    assert {answer["label"]: answer["score"] for answer in answers[0]} == pytest.approx(scores, abs=1e-5)
    columns = ["--text_column", "first", "--text_pair_column", "second"]
    main(["evaluate", str(pair_model), "--dataset", str(pairs), "--split", "train", *columns])
    assert 0 < json.loads(capsys.readouterr().out.splitlines()[-1])["map"] <= 1


@pytest.fixture(scope="module")
def damaged(image_data, tmp_path_factory):
    """The image folder with one image cut off."""
    folder = tmp_path_factory.mktemp("damaged") / "images"
    shutil.copytree(image_data, folder)
    bad = folder / "train" / "5.png"
    bad.write_bytes(bad.read_bytes()[:60])
    return folder


def train_on(folder, encoder, output, *more):
    return ["train", *text_arguments(folder, encoder, output, "--task", "vision", "--num_train_epochs", "1", *more)]


def test_damaged_images_stop_the_training_or_are_left_out(damaged, image_encoder, tmp_path, capsys, caplog):
    for workers in ("0", "1"):
        message = fails(capsys, *train_on(damaged, image_encoder, tmp_path / "a", "--dataloader_num_workers", workers))
        assert "5.png" in message and "cannot be decoded" in message
    main(train_on(damaged, image_encoder, tmp_path / "m", "--corrupt_images", "skip"))
    assert "1 of 64" in caplog.text and "5.png" in caplog.text
    assert json.loads((tmp_path / "m" / "run.json").read_text())["examples"] == {"train": 63, "validation": 24}
    page = ["app", tmp_path / "m", "--dataset", damaged, "--space", tmp_path / "space"]
    assert "cannot be decoded" in fails(capsys, *page)
    main([*map(str, page), "--corrupt_images", "skip"])


def test_a_flag_of_the_other_kind_of_inputs_is_refused_also_where_the_columns_tell_the_task(
    text_data, text_encoder, tmp_path, capsys
):
    flags = ["train", "--dataset", text_data, "--encoder", text_encoder, "--output_dir", tmp_path / "out"]
    assert fails(capsys, *flags, "--image_size", "8") == "image_size is not for the task 'text', got 8"
