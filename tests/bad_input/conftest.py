"""A user's working material, made once: data, tiny encoders, trained and untrained models, a checkpoint."""

import json
import shutil
from types import SimpleNamespace

import pytest
from clear_line import check_line, contents
from hypothesis import HealthCheck, settings
from PIL import Image
from tiny import save_image_encoder, save_text_encoder

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.cli import main

settings.register_profile(
    "bad_input",
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("bad_input")

LABELS = ["red", "green", "blue"]
WORDS = "apple leaf sky rose grass sea".split()


def _text_rows(rows):
    return "text,labels\n" + "".join(
        f"{WORDS[row % 6]} {WORDS[row % 5]},{LABELS[row % 3]};{LABELS[row % 2]}\n" for row in range(rows)
    )


def _fitted(model):
    model.config.classifier_fitted = True
    return model


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Paths by name: `data`, `images`, encoders, models (`unfitted` has no classifier), `out` to write to."""
    root = tmp_path_factory.mktemp("world")
    (root / "data").mkdir()
    for name, rows in (("train", 48), ("validation", 18), ("test", 18)):
        (root / "data" / f"{name}.csv").write_text(_text_rows(rows))
    (root / "images" / "train").mkdir(parents=True)
    lines = []
    for number in range(16):
        Image.new("RGB", (16, 16), LABELS[number % 3]).save(root / "images" / "train" / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "labels": [LABELS[number % 3]]}))
    (root / "images" / "train" / "metadata.jsonl").write_text("\n".join(lines))

    tokenizer = save_text_encoder(root / "encoder", [" ".join(WORDS)], max_length=16)
    processor = save_image_encoder(root / "image_encoder", size=16)
    text = {"labels": LABELS, "projection_dim": 8}
    models = {
        "unfitted": MLCLForSequenceClassification.from_encoder(str(root / "encoder"), **text),
        "model": _fitted(MLCLForSequenceClassification.from_encoder(str(root / "encoder"), **text)),
        "pairs": _fitted(MLCLForSequenceClassification.from_encoder(str(root / "encoder"), **text, text_pairs=True)),
        "image_model": _fitted(MLCLForImageClassification.from_encoder(str(root / "image_encoder"), **text)),
    }
    for name, model in models.items():
        model.save_pretrained(root / name)
        (processor if name == "image_model" else tokenizer).save_pretrained(root / name)
    shutil.copytree(root / "model", root / "out")  # where trainings are told to write: a model is there already
    (root / "empty_folder").mkdir()
    (root / "a_file").write_text("a file\n")
    paths = {path.name: path for path in root.iterdir()}
    return SimpleNamespace(**paths, root=root, tokenizer=tokenizer, processor=processor)


@pytest.fixture
def command_fails(world, capfd):
    """Runs `hf-mlcl` with arguments that must end in status 2 and one clear line, and touch no file there is."""

    def run(arguments, pattern):
        before = contents(world.root)
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert ended.value.code == 2
        assert "Traceback" not in captured.err + captured.out
        lines = [line for line in captured.err.splitlines() if line.startswith("hf-mlcl: error: ")]
        assert len(lines) == 1 and captured.err.rstrip().endswith(lines[0]), captured.err
        check_line(lines[0].removeprefix("hf-mlcl: error: "), pattern)
        after = contents(world.root)
        assert {path: after.get(path) for path in before} == before

    return run
