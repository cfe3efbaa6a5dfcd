"""The model card. `model_cards/template.md` is a full one; after a change: `python tests/hub/test_card.py`."""

import re
from pathlib import Path

import pytest
import yaml

from hf_mlcl import MLCLConfig
from hf_mlcl.hub import RunResults
from hf_mlcl.hub.card import FIGURES, GROUPS, MARK, REPORTED

TEMPLATE = Path(__file__).resolve().parents[2] / "model_cards" / "template.md"
CLASSIFIER = {
    "linear_evaluation": True,
    "protocol": "logistic_regression",
    "refit": True,
    "thresholds": "micro",
    "ece_before": 0.02,
    "ece_after": 0.01,
    "global_threshold": 0.31,
}
RUN = {
    "job": {"encoder": "org/encoder", "dataset": "org/data", "task": "text", "max_length": 48, "augmentation": "none"},
    "arguments": {"learning_rate": 5e-5, "num_train_epochs": 0},
    "examples": {"train": 10, "test": 5},
    "classifier": CLASSIFIER,
    "seconds": 3.2,
    "hardware": "CPU, 1 thread",
}
METRICS = {"validation": {"macro_f1": 0.5, "map": 0.4}, "test": {"macro_f1": 0.4567, "map": 0.3}}


def build(run=RUN, metrics=METRICS, adapter=None, figures=(), **fields):
    config = MLCLConfig(**{"num_labels": 3, "classifier_fitted": True} | fields)
    return RunResults(run, metrics).card(config, "me/model", adapter=adapter, figures=figures)


def metadata_of(card):
    return yaml.safe_load(card.content.split("---")[1])


def scores_of(card):
    (entry,) = metadata_of(card)["model-index"]
    return {metric["type"]: metric["value"] for metric in entry["results"][0]["metrics"]}


def template():
    """The card of a model of which everything is known, with words in the place of its numbers."""
    scores = dict.fromkeys([*REPORTED, *(f"macro_f1_{name}" for name in GROUPS)], 0.0)
    scores |= {f"num_labels_{name}": 1 for name in GROUPS}
    run = {
        "job": {"task": "text", "encoder": "ORGANISATION/ENCODER", "dataset": "ORGANISATION/DATASET"},
        "card": {"license": "LICENSE", "language": "LANGUAGE"},
        "arguments": {"learning_rate": "NUMBER", "num_train_epochs": "NUMBER", "seed": "NUMBER"},
        "examples": {"train": 0.0, "validation": 0.0, "test": 0.0},
        "classifier": CLASSIFIER
        | {"thresholds": "balanced", "ece_before": None, "ece_after": 0.0, "global_threshold": 0.0},
        "hardware": "HARDWARE",
        "seconds": 0.0,
    }
    config = MLCLConfig(num_labels=4, classifier_fitted=True)
    card = RunResults(run, {"validation": scores, "test": scores}).card(config, "USER/NAME", figures=list(FIGURES))
    text = re.sub(r"\b0\.0{2,4}\b|\b0\.0$|\b0\.0(?= (?:train|validation|test))", "NUMBER", str(card), flags=re.M)
    return re.sub(r"\b\d+ (labels|seconds)", r"NUMBER \1", text).replace("top_k=4", "top_k=NUMBER")


def test_the_template_is_a_full_card_without_an_empty_field_or_section():
    text = template()
    assert TEMPLATE.read_text(encoding="utf-8") == text
    assert all(value not in (None, "", []) for value in yaml.safe_load(text.split("---\n")[1]).values())
    assert len(re.findall(r"^## ", text, flags=re.M)) == 8 and not re.search(r"^## .+\n+(?:##|\Z)", text, flags=re.M)


def test_metadata_and_text_name_encoder_data_and_the_scores_of_the_test_split():
    card = build()
    metadata = metadata_of(card)
    assert metadata["base_model"] == "org/encoder" and metadata["datasets"] == ["org/data"]
    assert metadata["pipeline_tag"] == "text-classification" and "multi-label" in metadata["tags"]
    assert scores_of(card) == {"macro_f1": 0.457, "map": 0.3}  # three digits: more are noise
    assert metadata["model-index"][0]["results"][0]["dataset"]["split"] == "test"
    assert "| Macro-F1 | 0.500 | 0.457 |" in card.text and "None" not in card.text
    for row in ("| max_length | 48 |", "| learning_rate | 5e-05 |", "| num_train_epochs | 0 |"):
        assert row in card.text
    assert "augmentation" not in card.text


def test_labels_have_their_f1_and_counts_the_most_frequent_first():
    rows = [{"label": f"l|{n}", "f1": 0.5, "support": n % 2, "train_count": n} for n in range(120)]
    results = RunResults(RUN, METRICS, {"validation": rows[:1], "test": rows})
    text = results.card(MLCLConfig(num_labels=120)).text
    table = [line for line in text.splitlines() if line.startswith("| l\\|")]
    assert table[0] == "| l\\|119 | 119 | 1 | 0.500 |" and table[1] == "| l\\|118 | 118 | 0 | – |"
    assert len(table) == 100 and "F1 of the 100 most frequent of 120 labels" in text and "test examples" in text


@pytest.mark.parametrize(
    "encoder, in_folder, base", [("minilm", True, None), ("bert", False, "bert"), ("me/x", None, "me/x")]
)
def test_an_encoder_from_a_folder_is_no_base_model_of_the_hub(encoder, in_folder, base):
    job = {"encoder": encoder, "dataset": "d", "task": "text"}
    card = build(RUN | {"job": job if in_folder is None else job | {"encoder_in_folder": in_folder}})
    assert metadata_of(card).get("base_model") == base
    assert ("from a folder" in card.text) == (base is None)


def test_what_is_not_known_has_no_place():
    card = build({}, {}, classifier_fitted=False)
    assert "## Results\n" not in card.text and "## Training\n" not in card.text and "None" not in card.text
    assert "The classifier was not fitted" in card.text
    assert set(metadata_of(card)) == {"library_name", "pipeline_tag", "tags", "model_name"}


@pytest.mark.parametrize("task, auto", [("text", "AutoTokenizer"), ("vision", "AutoImageProcessor")])
def test_examples_with_and_without_the_package_compile(task, auto):
    examples = [block.partition("```")[0] for block in build(task=task).text.split("```python\n")[1:]]
    for example in examples:
        compile(example, "card", "exec")
        assert auto in example and "me/model" in example
    assert len(examples) == 2 and "trust_remote_code=True" in examples[1] and "hf_mlcl" not in examples[1]


def test_an_adapter_s_card_says_how_to_load_it():
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "/somewhere/minilm"}
    card = build({"job": {"encoder": "user/minilm"}}, {}, adapter)
    data = card.data.to_dict()
    assert data["library_name"] == "peft" and data["base_model_relation"] == "adapter"
    assert {"peft", "lora", "hf-mlcl"} <= set(data["tags"])
    assert 'MLCLForSequenceClassification.from_pretrained("me/model")' in card.text
    assert "AutoModelFor" not in card.text and "/somewhere" not in card.text and "`minilm`" in card.text


def test_results_are_written_whole_or_not_at_all_and_a_card_of_ones_own_stays(tmp_path):
    MLCLConfig(num_labels=3).save_pretrained(tmp_path)
    results = RunResults(RUN, METRICS, {"test": [{"label": "a", "f1": 0.5}]})
    results.write(tmp_path)
    assert RunResults.read(tmp_path) == results and "0.457" in (tmp_path / "README.md").read_text()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError):
        RunResults({}, {"test": {"macro_f1": float("nan")}}).write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    own = before["README.md"].decode().replace(MARK, "My own.")
    (tmp_path / "README.md").write_text(own)
    RunResults().write(tmp_path)
    assert (tmp_path / "README.md").read_text() == own


if __name__ == "__main__":
    TEMPLATE.write_text(template(), encoding="utf-8")
