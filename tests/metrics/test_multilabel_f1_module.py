"""The metric as a module of `evaluate`: loading, configs, batches, mistakes, the copied folder, README and Space."""

import doctest
import os
import pathlib
import shutil
import subprocess
import sys

import evaluate
import numpy as np
import pytest

import hf_mlcl.metrics
from hf_mlcl.metrics.multilabel_f1.multilabel_f1 import multilabel_scores

FOLDER = pathlib.Path(hf_mlcl.metrics.__path__[0]) / "multilabel_f1"
REFERENCES = [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
PREDICTIONS = [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


@pytest.fixture
def load(tmp_path):
    return lambda config=None, path=FOLDER: evaluate.load(str(path), config, cache_dir=str(tmp_path))


@pytest.mark.parametrize("path", [FOLDER, FOLDER / "multilabel_f1.py"])
def test_default_config_is_multihot(load, path):
    metric = load(path=path)
    assert metric.name == "multilabel_f1" and metric.config_name == "multihot"
    assert metric.compute(predictions=PREDICTIONS, references=REFERENCES) == multilabel_scores(REFERENCES, PREDICTIONS)


def test_batches_and_single_examples_equal_one_call(load):
    metric = load()
    metric.add_batch(predictions=np.array(PREDICTIONS[:2]), references=np.array(REFERENCES[:2], dtype=bool))
    metric.add(prediction=PREDICTIONS[2], reference=REFERENCES[2])
    assert metric.compute() == multilabel_scores(REFERENCES, PREDICTIONS)
    # and the module can be used again
    assert metric.compute(predictions=REFERENCES, references=REFERENCES)["micro_f1"] == 1.0


def test_probabilities_keep_their_precision(load):
    probabilities = np.random.default_rng(0).random((3, 3))
    options = {"thresholds": probabilities[1], "train_label_counts": [1, 50, 500], "ks": (2,)}
    scores = load("probabilities").compute(predictions=probabilities, references=REFERENCES, **options)
    assert scores == multilabel_scores(REFERENCES, probabilities=probabilities, **options)
    assert "map" in scores and "precision_at_2" in scores


@pytest.mark.parametrize("missing", [-100, float("nan")])
@pytest.mark.parametrize("config", ["multihot", "probabilities"])
def test_missing_references_survive_every_way_in(load, config, missing):
    references = [[1, 0, missing], [missing] * 3, [0, missing, 1]]
    kind = "predictions" if config == "multihot" else "probabilities"
    expected = multilabel_scores(references, **{kind: PREDICTIONS}, per_label=True)
    expected = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in expected.items()}
    assert expected["per_label_known"] == [2, 1, 1]
    assert load(config).compute(predictions=PREDICTIONS, references=references, per_label=True) == expected
    dtype = np.int8 if missing == -100 else np.float32
    metric = load(config)
    metric.add_batch(predictions=np.array(PREDICTIONS[:1]), references=np.array(references[:1], dtype=dtype))
    metric.add(prediction=PREDICTIONS[1], reference=references[1])  # nothing known in a whole batch
    metric.add_batch(predictions=PREDICTIONS[2:], references=references[2:])
    assert metric.compute(per_label=True) == expected


def test_names_ids_and_multihot_agree(load):
    names = ["c", "a", "b"]
    expected = multilabel_scores(REFERENCES, PREDICTIONS)
    ids = [[np.flatnonzero(row).tolist() for row in rows] for rows in (PREDICTIONS, REFERENCES)]
    texts = [[[names[label] for label in row] for row in rows] for rows in ids]
    for predictions, references in (ids, texts, (texts[0], ids[1])):
        metric = load("labels")
        assert metric.compute(predictions=predictions, references=references, label_names=names) == expected
    assert load("labels").compute(predictions=ids[0], references=ids[1], label_names=range(3)) == expected


def test_labels_survive_empty_first_examples_and_numbers_as_names(load):
    metric = load("labels")
    metric.add_batch(predictions=[[], [2]], references=[[], [2]])
    assert metric.compute(label_names=["2", "1", "0"], per_label=True)["per_label_f1"] == [0.0, 0.0, 1.0]
    metric.add_batch(predictions=[[], ["2"]], references=[[], ["2"]])
    assert metric.compute(label_names=["2", "1", "0"], per_label=True)["per_label_f1"] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("config", "predictions", "references", "options", "message"),
    [
        ("multihot", [[1, 0]], [[1, 0], [1, 1]], {}, "1 and 2"),
        ("multihot", [[1], [1, 0]], [[1, 0]] * 2, {}, "predictions: "),
        ("multihot", [], [], {}, "predictions: .*at least one"),
        ("multihot", [[1]], None, {}, "references: "),
        ("probabilities", [[-3.0]], [[1]], {}, "need a sigmoid"),
        ("labels", [["a"]], [None], {}, "references: "),
        ("labels", ["ab"], [["a"]], {}, "predictions: .*'ab'"),
        ("labels", [[0.5]], [[1]], {}, "predictions: .*0.5"),
        ("labels", [["a"]], [[1]], {}, "label_names: "),
        ("labels", [[]], [[]], {}, "label_names: "),
        ("labels", [["x"]], [["a"]], {"label_names": ["a"]}, "predictions: .*'x'"),
        ("labels", [["a"]], [["a"]], {"label_names": ["a", "a"]}, "label_names: "),
    ],
)
def test_mistakes_are_named(load, config, predictions, references, options, message):
    with pytest.raises(ValueError, match=message):
        load(config).compute(predictions=predictions, references=references, **options)


def test_copied_folder_needs_nothing_of_the_package(tmp_path):
    copied = tmp_path / "elsewhere" / "multilabel_f1"
    shutil.copytree(FOLDER, copied, ignore=shutil.ignore_patterns("__pycache__"))
    program = f"""
import sys
sys.modules["hf_mlcl"] = None
import evaluate
metric = evaluate.load({str(copied)!r})
assert metric.compute(predictions=[[1, 0]], references=[[1, 0]])["micro_f1"] == 1.0
metric = evaluate.load({str(copied / "multilabel_f1.py")!r}, "probabilities")
metric.add_batch(predictions=[[0.9, 0.1]], references=[[1, 0]])
assert metric.compute()["map"] == 1.0
metric = evaluate.load({str(copied)!r}, "labels")
assert metric.compute(predictions=[["a"]], references=[["a"]])["macro_f1"] == 1.0
"""
    caches = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, **caches}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_readme_shows_what_really_comes_out(monkeypatch):
    monkeypatch.chdir(FOLDER.parent)
    result = doctest.testfile(str(FOLDER / "README.md"), module_relative=False)
    assert result.attempted >= 9 and result.failed == 0
