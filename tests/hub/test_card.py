import json

import pytest
import yaml

from hf_mlcl import MLCLConfig
from hf_mlcl.hub import RunResults
from hf_mlcl.hub.card import CLASSIFICATION, CONTRASTIVE, MARK
from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES

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
    "arguments": {"learning_rate": 5e-5},
    "processes": 1,
    "objective": {"pooling": "cls"},
    "examples": {"train": 10, "test": 5},
    "classifier": CLASSIFIER,
    "seconds": 3.2,
    "hardware": "CPU, 1 thread",
}
METRICS = {"validation": {"macro_f1": 0.5, "map": 0.4}, "test": {"macro_f1": 0.4567, "map": 0.3}}


def build(**fields):
    config = MLCLConfig(num_labels=3, **({"classifier_fitted": True} | fields))
    return RunResults(json.loads(json.dumps(RUN)), METRICS).card(config, "me/model")


def test_metadata_name_model_data_and_test_metrics():
    metadata = yaml.safe_load(build().content.split("---")[1])
    assert metadata["base_model"] == "org/encoder" and metadata["datasets"] == ["org/data"]
    assert metadata["pipeline_tag"] == "text-classification" and "multi-label" in metadata["tags"]
    (entry,) = metadata["model-index"]
    values = {metric["type"]: metric["value"] for metric in entry["results"][0]["metrics"]}
    assert values == {"macro_f1": 0.4567, "map": 0.3}
    assert entry["results"][0]["dataset"]["split"] == "test"


def test_text_has_numbers_usage_and_no_empty_field():
    text = build().text
    assert "| Macro-F1 | 0.5000 | 0.4567 |" in text and 'from_pretrained("me/model")' in text
    assert "0.0100, 0.0200 before Platt scaling" in text and "0.310" in text and "None" not in text


@pytest.mark.parametrize(
    ("classifier", "said"),
    [
        ({}, "fitted once more on training and validation examples"),
        ({"refit": False, "thresholds": "balanced"}, "drawn towards labels that are about as frequent"),
        ({"protocol": "study", "refit": False, "thresholds": "macro"}, "by the linear evaluation of arXiv 2412.00101"),
        (
            {"protocol": None, "linear_evaluation": False, "refit": False},
            "The classifier was trained with the encoder (",
        ),
    ],
)
def test_the_card_says_how_the_classifier_came_about(classifier, said):
    config = MLCLConfig(num_labels=3, classifier_fitted=True)
    text = RunResults(RUN | {"classifier": CLASSIFIER | classifier}, METRICS).card(config).text
    assert said in text and "None" not in text


def test_a_card_of_an_older_version_s_run_is_written():
    old = {
        "linear_evaluation": True,
        "grid_points": {},
        "ece_before": 0.02,
        "ece_after": 0.01,
        "global_threshold": 0.3,
    }
    config = MLCLConfig(num_labels=3, classifier_fitted=True)
    assert "by the linear evaluation" in RunResults(RUN | {"classifier": old}, METRICS).card(config).text


def test_an_encoder_as_it_is_has_no_loss():
    config = MLCLConfig(num_labels=3, classifier_fitted=True, trained=False)
    text = RunResults(RUN | {"arguments": {"num_train_epochs": 0}}, METRICS).card(config).text
    assert "| num_train_epochs | 0 |" in text
    assert "the encoder as it is" in text and "## Loss" not in text


def test_training_says_how_data_were_prepared():
    text = build().text
    assert "| max_length | 48 |\n| learning_rate | 5e-05 |" in text and "augmentation" not in text


def test_objectives_are_named():
    joint = build(objective="joint", loss_parameters={"temperature": 0.2}).text
    assert "the contrastive loss `reg` (temperature 0.2) plus 0.3 times the loss `zlpr`" in joint
    assert "trained with" in joint and "`bce`" in build(objective="classification", classification_loss="bce").text


def test_every_loss_has_its_formula_and_its_source_in_the_card():
    assert set(CONTRASTIVE) == set(CONTRASTIVE_LOSSES) - {"mscrg"} - _other_names(CONTRASTIVE_LOSSES)
    assert set(CLASSIFICATION) == set(CLASSIFICATION_LOSSES)
    text = build(loss="msc").text
    assert "1/|Yᵢ ∪ Yⱼ|" in text and "arXiv:2404.08720" in text and "zlpr" not in text


def _other_names(losses):
    """Names of a loss beside the first that it has."""
    first = {}
    for name, loss in losses.items():
        first.setdefault(loss, name)
    return set(losses) - set(first.values())


def test_head_medium_and_tail_have_a_table_with_their_sizes():
    groups = {"head": 0.8, "medium": 0.6, "tail": 0.3}
    metrics = {"test": METRICS["test"] | {f"macro_f1_{name}": value for name, value in groups.items()}}
    metrics["test"] |= {f"num_labels_{name}": 4.0 for name in groups}
    config = MLCLConfig(num_labels=12, classifier_fitted=True)
    card = RunResults(RUN, metrics).card(config)
    assert "| tail: fewer than 20 (4 labels) | 0.3000 |" in card.text
    assert "0.30 with fewer than 20" in card.text.replace("\n", " ")
    (entry,) = yaml.safe_load(card.content.split("---")[1])["model-index"]
    assert "macro_f1_tail" in [metric["type"] for metric in entry["results"][0]["metrics"]]


def test_what_is_not_known_has_no_place():
    config = MLCLConfig(num_labels=3)
    card = RunResults({}, {}).card(config)
    assert "## Results\n" not in card.text and "## Training\n" not in card.text and "None" not in card.text
    assert "The classifier was not fitted" in card.text
    metadata = yaml.safe_load(card.content.split("---")[1])
    assert set(metadata) == {"library_name", "pipeline_tag", "tags", "model_name"}


@pytest.mark.parametrize("task, auto", [("text", "AutoTokenizer"), ("vision", "AutoImageProcessor")])
def test_examples_with_and_without_the_package_compile(task, auto):
    text = build(task=task).text
    examples = [block.partition("```")[0] for block in text.split("```python\n")[1:]]
    for example in examples:
        compile(example, "card", "exec")
        assert auto in example
    assert len(examples) == 2 and "trust_remote_code=True" in examples[1] and "hf_mlcl" not in examples[1]


def test_pictures_that_are_there_are_shown():
    config = MLCLConfig(num_labels=3)
    text = RunResults({}, {}).card(config, figures=["reliability.png", "other.png"]).text
    assert "(figures/reliability.png)" in text and "other.png" not in text


def test_a_card_of_ones_own_stays(tmp_path):
    MLCLConfig(num_labels=3).save_pretrained(tmp_path)
    RunResults().write(tmp_path)
    written = (tmp_path / "README.md").read_text()
    assert MARK in written
    RunResults(metrics=METRICS).write(tmp_path)
    assert "0.4567" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text(written.replace(MARK, "My own."))
    RunResults(metrics=METRICS).write(tmp_path)
    assert "My own." in (tmp_path / "README.md").read_text()


def test_results_are_written_whole_or_not_at_all_and_read_again(tmp_path):
    MLCLConfig(num_labels=3).save_pretrained(tmp_path)
    results = RunResults(RUN, METRICS, {"test": [{"label": "a", "f1": 0.5}]})
    results.write(tmp_path)
    assert RunResults.read(tmp_path) == results
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError):
        RunResults({}, {"test": {"macro_f1": float("nan")}}).write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_card_of_an_adapter_says_how_to_load_it():
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "/somewhere/minilm"}
    config = MLCLConfig(classifier_fitted=True)
    card = RunResults({"job": {"encoder": "user/minilm"}}, {}).card(config, "user/name", adapter=adapter)
    data = card.data.to_dict()
    assert data["library_name"] == "peft" and data["base_model_relation"] == "adapter"
    assert {"peft", "lora", "hf-mlcl"} <= set(data["tags"])
    assert 'MLCLForSequenceClassification.from_pretrained("user/name")' in card.text
    assert "AutoModelFor" not in card.text and "/somewhere" not in card.text and "`minilm`" in card.text
