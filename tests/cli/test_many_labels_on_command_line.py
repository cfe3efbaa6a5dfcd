"""The command line with so many labels that they are lists: the same numbers and predictions as with rows."""

from test_cli import fails, text_arguments

from hf_mlcl import MLCLConfig
from hf_mlcl.cli import main
from hf_mlcl.data import labels


def test_pictures_and_reports_need_rows(text_data, text_encoder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(labels, "MAX_ROW_LABELS", 5)
    arguments = text_arguments(text_data, text_encoder, tmp_path / "out", "--max_steps", "1")
    assert fails(capsys, "train", *arguments, "--pictures", "true").startswith("--pictures ")
    main(["train", *arguments, "--prototype_sample_size", "2"])
    assert MLCLConfig.from_pretrained(tmp_path / "out").objective == "contrastive"
    assert fails(capsys, "inspect", tmp_path / "out", "--dataset", text_data).startswith("dataset: ")
    space = ["app", str(tmp_path / "out"), "--space", str(tmp_path / "space")]
    assert fails(capsys, *space, "--dataset", text_data).startswith("dataset: ")
    main(space)
