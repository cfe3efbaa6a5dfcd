"""The command line on data with unknown labels: -100 in 0/1 columns, and a split of which nothing is known."""

import json

import numpy as np
from test_cli import fails, text_arguments

from hf_mlcl.cli import main

NAMES = ("red", "green", "blue")


def write_split(path, rows, unknown, seed):
    """Texts that name their labels; a share of the entries is -100."""
    generator = np.random.default_rng(seed)
    lines = ["text," + ",".join(NAMES)]
    for labels in generator.random((rows, 3)) < 0.5:
        text = " ".join(["some", "text", *(name for name, carried in zip(NAMES, labels, strict=True) if carried)])
        entries = np.where(generator.random(3) < unknown, -100, labels)
        lines.append(",".join([text, *map(str, entries)]))
    path.write_text("\n".join(lines) + "\n")


def arguments(data, encoder, output):
    return ["train", *text_arguments(data, encoder, output, "--label_column", ",".join(NAMES), "--max_steps", "2")]


def test_nothing_known_of_the_validation_split_stops_before_training_and_of_the_test_split_does_not(
    tmp_path, text_encoder, capsys, caplog
):
    write_split(tmp_path / "train.csv", 48, 0.3, seed=0)
    write_split(tmp_path / "validation.csv", 24, 1.0, seed=1)
    assert "validation split" in fails(capsys, *arguments(tmp_path, text_encoder, tmp_path / "out"))
    write_split(tmp_path / "validation.csv", 24, 0, seed=1)
    (tmp_path / "test.csv").write_text("text\nsome text red\nsome text blue\n")
    main(arguments(tmp_path, text_encoder, tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()).keys() == {"validation"}
    assert "split 'test' has no labels" in caplog.text
