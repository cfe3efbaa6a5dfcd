"""`model_cards/template.md` is what the package writes. After a change: `python tests/hub/test_template.py`."""

import re
from pathlib import Path

import yaml

from hf_mlcl import MLCLConfig
from hf_mlcl.hub import RunResults
from hf_mlcl.hub.card import FIGURES, GROUPS, REPORTED

TEMPLATE = Path(__file__).resolve().parents[2] / "model_cards" / "template.md"


def template():
    """The card of a model of which everything is known, with words in the place of its numbers."""
    scores = dict.fromkeys([*REPORTED, *(f"macro_f1_{name}" for name in GROUPS)], 0.0)
    scores |= {f"num_labels_{name}": 1 for name in GROUPS}
    run = {
        "job": {"task": "text", "encoder": "ORGANISATION/ENCODER", "dataset": "ORGANISATION/DATASET"},
        "card": {"license": "LICENSE", "language": "LANGUAGE"},
        "arguments": {"learning_rate": "NUMBER", "num_train_epochs": "NUMBER", "seed": "NUMBER"},
        "examples": {"train": 0.0, "validation": 0.0, "test": 0.0},
        "classifier": {
            "linear_evaluation": True,
            "protocol": "logistic_regression",
            "refit": True,
            "thresholds": "balanced",
            **dict.fromkeys(("ece_after", "global_threshold"), 0.0),
        },
        "hardware": "HARDWARE",
        "seconds": 0.0,
    }
    config = MLCLConfig(num_labels=4, classifier_fitted=True)
    card = RunResults(run, {"validation": scores, "test": scores}).card(config, "USER/NAME", figures=list(FIGURES))
    text = re.sub(r"\b0\.0{2,4}\b|\b0\.0$|\b0\.0(?= (?:train|validation|test))", "NUMBER", str(card), flags=re.M)
    return re.sub(r"\b\d+ (labels|seconds)", r"NUMBER \1", text).replace("top_k=4", "top_k=NUMBER")


def test_template_is_what_the_package_writes():
    assert TEMPLATE.read_text(encoding="utf-8") == template()


def test_a_full_card_has_no_empty_field_and_all_sections():
    text = template()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert all(value not in (None, "", []) for value in metadata.values())
    headings = re.findall(r"^## (.+)$", text, flags=re.M)
    assert headings == [
        *("Use", "Results", "Pictures", "Loss", "Training", "Thresholds and calibration", "Limits", "Citation")
    ]
    assert not re.search(r"^## .+\n+(?:##|\Z)", text, flags=re.M)  # something below each heading


if __name__ == "__main__":
    TEMPLATE.write_text(template(), encoding="utf-8")
