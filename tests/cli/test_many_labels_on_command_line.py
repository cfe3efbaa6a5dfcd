"""The command line with so many labels that they are lists: the same numbers and predictions as with rows."""

import json

import numpy as np
import pytest
from test_cli import fails, text_arguments

from hf_mlcl.cli import main
from hf_mlcl.data import labels


def numbers(folder, name):
    return json.loads((folder / name).read_text())


def test_lists_train_evaluate_and_predict_as_rows_do(text_data, text_encoder, tmp_path, capsys, monkeypatch):
    printed = {}
    for name, limit in (("rows", 10_000), ("lists", 5)):
        monkeypatch.setattr(labels, "MAX_ROW_LABELS", limit)
        folder = tmp_path / name
        main(["train", *text_arguments(text_data, text_encoder, folder, "--max_steps", "6")])
        capsys.readouterr()
        main(["evaluate", str(folder), "--dataset", str(text_data), "--split", "test"])
        source = ["--file", str(text_data / "test.csv"), "--column", "text"]
        main(["predict", str(folder), *source, "--top_k", "2", "--json"])
        lines = capsys.readouterr().out.splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("{"))
        printed[name] = [json.loads(line) for line in lines[start:]]
    rows, other = tmp_path / "rows", tmp_path / "lists"
    for split in ("validation", "test"):
        expected, found = (numbers(folder, "metrics.json")[split] for folder in (rows, other))
        assert found == pytest.approx(expected, abs=1e-4)
        for row, same in zip(*(numbers(folder, "per_label.json")[split] for folder in (rows, other)), strict=True):
            assert same.pop("label") == row.pop("label") and same == pytest.approx(row, abs=1e-4)
    assert printed["lists"][0] == pytest.approx(printed["rows"][0], abs=1e-4)
    for row, same in zip(printed["rows"][1:], printed["lists"][1:], strict=True):
        assert [label["label"] for label in same["labels"]] == [label["label"] for label in row["labels"]]
        scores, same_scores = (np.array([label["score"] for label in one["labels"]]) for one in (row, same))
        np.testing.assert_allclose(same_scores, scores, atol=1e-5)


def test_pictures_and_reports_need_rows(text_data, text_encoder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(labels, "MAX_ROW_LABELS", 5)
    arguments = text_arguments(text_data, text_encoder, tmp_path / "out", "--max_steps", "1")
    assert fails(capsys, "train", *arguments, "--pictures", "true").startswith("--pictures: ")
    main(["train", *arguments, "--prototype_sample_size", "2"])
    assert fails(capsys, "inspect", tmp_path / "out", "--dataset", text_data).startswith("model: ")
    space = ["app", str(tmp_path / "out"), "--space", str(tmp_path / "space")]
    assert fails(capsys, *space, "--dataset", text_data).startswith("dataset: ")
    main(space)
