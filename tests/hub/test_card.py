import json
from types import SimpleNamespace

import yaml

from hf_mlcl import MLCLConfig
from hf_mlcl.hub import build_model_card

CLASSIFIER = {
    "linear_evaluation": True,
    "grid_points": {},
    "averaging_gap": 0.0,
    "ece_before": 0.02,
    "ece_after": 0.01,
    "global_threshold": 0.31,
}
RUN = {
    "job": {"encoder": "org/encoder", "dataset": "org/data", "task": "text"},
    "arguments": {"learning_rate": 5e-5},
    "processes": 1,
    "objective": {"pooling": "cls"},
    "examples": {"train": 10, "test": 5},
    "classifier": CLASSIFIER,
    "seconds": 3.2,
    "hardware": "CPU, 1 threads",
}
METRICS = {"validation": {"macro_f1": 0.5, "map": 0.4}, "test": {"macro_f1": 0.4567, "map": 0.3}}


def build(**fields):
    model = SimpleNamespace(config=MLCLConfig(num_labels=3, **fields))
    return build_model_card(model, METRICS, json.loads(json.dumps(RUN)), name="me/model")


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
    assert "0.0200 before and 0.0100 after" in text and "0.310" in text and "None" not in text


def test_objectives_are_named():
    joint = build(objective="joint", loss_parameters={"temperature": 0.2}).text
    assert "the contrastive loss `reg` (temperature 0.2) plus 0.3 times the loss `zlpr`" in joint
    assert "trained with" in joint and "`bce`" in build(objective="classification", classification_loss="bce").text
