"""Flags of the data on the command line: text pairs, unknown labels, images that cannot be read."""

import csv
import json

import pytest
from PIL import Image
from transformers import pipeline

from hf_mlcl.cli import main
from hf_mlcl.models import MLCLConfig

QUIET = ["--report_to", "none", "--disable_tqdm", "true", "--use_cpu", "true", "--save_strategy", "no"]
QUICK = ["--max_steps", "2", "--per_device_train_batch_size", "8", "--loss", "zlpr", "--classifier", "trained", *QUIET]


def fails(capsys, *arguments):
    """Runs a command that must end with status 2 and one line on standard error; returns the line."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hf-mlcl: error: ")]
    assert exit_.value.code == 2 and len(lines) == 1
    return lines[0].removeprefix("hf-mlcl: error: ")


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
    main(["train", "--task", "text", "--encoder", str(text_encoder), "--dataset", str(pairs), *columns]
         + ["--output_dir", str(output), *QUICK])  # fmt: skip
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
    main(["evaluate", str(pair_model), "--dataset", str(pairs), "--split", "train"]
         + ["--text_column", "first", "--text_pair_column", "second"])  # fmt: skip
    assert 0 < json.loads(capsys.readouterr().out.splitlines()[-1])["map"] <= 1


def test_pairs_are_asked_for_and_refused_in_one_line(pair_model, pairs, capsys, tmp_path):
    rows = tmp_path / "rows.txt"
    rows.write_text("a\nb\n")
    predict = ["predict", pair_model]
    assert "--text_pair: expected the second text" in fails(capsys, *predict, "--text", "a")
    assert "--pair_column: expected the second text" in fails(capsys, *predict, "--file", rows)
    assert "expected a csv" in fails(capsys, *predict, "--file", rows, "--pair_column", "b")
    assert "expected beside --text" in fails(capsys, *predict, "--file", rows, "--text_pair", "b")
    assert "--text_pair_column: expected the second text" in fails(
        capsys, "evaluate", pair_model, "--dataset", pairs, "--split", "train"
    )


@pytest.fixture(scope="module")
def damaged(image_data, tmp_path_factory):
    """The image folder with one image cut off."""
    folder = tmp_path_factory.mktemp("damaged")
    for path in image_data.rglob("*"):
        target = folder / path.relative_to(image_data)
        target.mkdir(parents=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    bad = folder / "train" / "5.png"
    bad.write_bytes(bad.read_bytes()[:60])
    return folder


def train_on(folder, encoder, output):
    arguments = ["--task", "vision", "--encoder", str(encoder), "--dataset", str(folder), "--output_dir", str(output)]
    return ["train", *arguments, "--num_train_epochs", "1", *QUICK[2:]]


def test_damaged_images_stop_the_training_or_are_left_out(damaged, image_encoder, tmp_path, capsys, caplog):
    for workers in ("0", "1"):
        arguments = [*train_on(damaged, image_encoder, tmp_path / "a"), "--dataloader_num_workers", workers]
        assert "5.png') cannot be decoded" in fails(capsys, *arguments)
    main([*train_on(damaged, image_encoder, tmp_path / "b"), "--corrupt_images", "skip"])
    assert "corrupt images: 1 of 64 are left out: image of row" in caplog.text and "5.png" in caplog.text
    assert (tmp_path / "b" / "metrics.json").is_file()
    assert json.loads((tmp_path / "b" / "run.json").read_text())["examples"] == {"train": 63, "validation": 24}


def test_a_page_names_the_damaged_image(damaged, image_encoder, tmp_path, capsys):
    main([*train_on(damaged, image_encoder, tmp_path / "m"), "--corrupt_images", "skip"])
    page = ["app", tmp_path / "m", "--dataset", damaged, "--space", tmp_path / "space"]
    assert ": expected an image, got one that cannot be decoded" in fails(capsys, *page)
    main([*map(str, page), "--corrupt_images", "skip"])


def test_predicted_images_are_read_as_training_images_are(damaged, image_encoder, tmp_path, capsys):
    main([*train_on(damaged, image_encoder, tmp_path / "m"), "--corrupt_images", "skip"])
    picture = Image.open(damaged / "train" / "1.png").convert("RGB")
    picture.paste((255, 255, 255), (0, 0, 20, 20))
    picture.save(tmp_path / "plain.png")
    shown = picture.convert("RGBA")
    shown.paste((9, 9, 9, 0), (0, 0, 20, 20))
    shown.save(tmp_path / "clear.png")
    exif = picture.getexif()
    exif[0x0112] = 3  # upside down
    picture.rotate(180).save(tmp_path / "turned.png", exif=exif)
    capsys.readouterr()
    answers = []
    for name in ("plain", "clear", "turned"):
        image = str(tmp_path / f"{name}.png")
        main(["predict", str(tmp_path / "m"), "--image", image, "--min_labels", "10", "--json"])
        answers.append(json.loads(capsys.readouterr().out)["labels"])
    assert answers[0] == answers[1] == answers[2]
