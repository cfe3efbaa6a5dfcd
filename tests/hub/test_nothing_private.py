"""Nothing of its maker's machine is in what is published, and nothing in names is obeyed by a terminal or a page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import save_text_encoder, tiny_encoder

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.cli import main
from hf_mlcl.hub import RunResults, published_files
from hf_mlcl.hub.space import _readme
from hf_mlcl.inspection.errors import co_predictions
from hf_mlcl.inspection.plots import plot_co_predictions
from hf_mlcl.messages import printable, shown

OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
RED, TURNED = "\x1b[31mred", "b\u202eeul\x9b2J"


def write_rows(path: Path, names: list[str], number: int = 24) -> None:
    words = ["rain", "sun", "wind", "snow"]
    lines = [{"text": " ".join(words[: 1 + n % 4]), "labels": [names[n % len(names)]]} for n in range(number)]
    path.write_text("\n".join(map(json.dumps, lines)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of local files, trained and exported by the commands."""
    place = tmp_path_factory.mktemp("secret-place")
    save_text_encoder(place / "encoder", ["rain sun wind snow"])
    (place / "data").mkdir()
    for split in ("train", "validation", "test"):
        write_rows(place / "data" / f"{split}.jsonl", [RED, TURNED])
    (place / "lora.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["query"]}))
    common = ["--task", "text", "--encoder", str(place / "encoder"), "--dataset", str(place / "data")]
    common += ["--max_steps", "2", "--per_device_train_batch_size", "8", "--use_cpu", "true", "--report_to", "none"]
    main(["train", *common, "--output_dir", str(place / "out")])
    main(["train", *common, "--output_dir", str(place / "adapter"), "--peft_config", str(place / "lora.json")])
    main(["export", str(place / "out")])
    main(["export", str(place / "out"), "--quantize", "int8", "--output_dir", str(place / "int8")])
    main(["app", str(place / "out"), "--dataset", str(place / "data"), "--space", str(place / "space")])
    return place


def test_no_byte_that_leaves_the_machine_names_a_place_on_it(trained):
    contents = {
        path.relative_to(trained).as_posix(): path.read_bytes()
        for folder in ("out/onnx", "int8", "space")
        for path in (trained / folder).rglob("*")
        if path.is_file()
    }
    for folder in ("out", "adapter"):
        for name, content in published_files(trained / folder).items():
            contents[f"{folder}/{name}"] = content if isinstance(content, bytes) else content.read_bytes()
    assert {"out/onnx/model.onnx", "int8/model.onnx", "out/run.json", "adapter/adapter_config.json"} <= set(contents)
    places = [str(trained), str(Path.home()) + "/", str(Path(__file__).resolve().parents[2]), sys.prefix]
    found = [(name, place) for name, content in contents.items() for place in places if place.encode() in content]
    assert not found
    assert json.loads(contents["adapter/run.json"])["job"]["peft_config"] == "lora.json"


def test_terminals_see_names_escaped(trained, capfd):
    (trained / "lines.txt").write_text("rain \x1b[2J sun\nwind\n")
    for arguments in (
        ["predict", str(trained / "out"), "--file", str(trained / "lines.txt"), "--min_labels", "2"],
        ["predict", str(trained / "out"), "--text", "rain\x9b1m", "--min_labels", "2", "--json"],
    ):
        main(arguments)
        out, err = capfd.readouterr()
        assert not OBEYED.search(out + err)
        assert "\\x1b[31mred" in out or "\\u001b[31mred" in out
    answer = json.loads(out)
    assert answer["input"] == "rain\x9b1m" and {row["label"] for row in answer["labels"]} == {RED, TURNED}
    write_rows(trained / "other.jsonl", ["\x1b[31mfar\x1b[0m"])
    with pytest.raises(SystemExit):
        main(["evaluate", str(trained / "out"), "--dataset", str(trained / "other.jsonl"), "--split", "train"])
    assert not OBEYED.search("".join(capfd.readouterr()))


def test_warnings_of_commands_are_escaped():
    code = (
        "import logging\nfrom hf_mlcl.cli import run_command\n"
        "run_command(lambda _: logging.getLogger('hf_mlcl.data').warning('column \\x1b[31m%s', 'x\\x9b'), [])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith("column \\x1b[31mx\\x9b")


def test_names_are_escaped_wherever_they_are_shown():
    assert printable("é 日本 a b") == "é 日本 a b" and printable("a\nb\tc\x7f") == "a\\nb\\tc\\x7f"
    assert printable("\udcff") == "\\udcff"
    assert shown([RED]) == "\\x1b[31mred"


def test_dollars_in_labels_are_no_formulas():
    names = ["$\\frac$", "under $10 or $20", "c"]
    labels = np.eye(3, dtype=np.int8)[np.arange(60) % 3]
    figure = plot_co_predictions(co_predictions(np.ones((60, 3), dtype=bool), labels), names)
    figure.canvas.draw()  # a formula that is none is an error
    drawn = {text.get_text() for axes in figure.axes for text in axes.get_yticklabels()}
    assert any(r"\$10 or" in text for text in drawn)


def test_a_card_has_no_markup_of_others():
    model = MLCLForSequenceClassification.from_encoder(tiny_encoder("bert"), labels=["a"])
    job = {"encoder": "enc<script>\n# other", "dataset": "x\x1b[1m", "augmentation": "a|b"}
    text = RunResults({"job": job, "arguments": {"seed": 1}}).card(model.config).text
    assert "<script>" not in text and "\n# other" not in text and "\x1b" not in text and "a\\|b" in text
    assert "<img" not in _readme("n<img src=x>\n# y", False).split("---")[2]


def test_code_beside_a_tokenizer_or_encoder_does_not_run(trained, tmp_path, capfd):
    folder = tmp_path / "model"
    shutil.copytree(trained / "out", folder, ignore=shutil.ignore_patterns("checkpoint-*", "onnx", "app"))
    settings = folder / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}, "tokenizer_class": "Own"}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | own))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nOwn = None\n")
    with pytest.raises(SystemExit):
        main(["predict", str(folder), "--text", "rain"])
    error = capfd.readouterr().err
    assert "error: model: " in error and "tokenizer" in error
    values = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="encoder: expected the folder or Hub id of a model"):
        MLCLForSequenceClassification.from_encoder(str(folder), labels=["a"])
    assert not (tmp_path / "ran").exists()
