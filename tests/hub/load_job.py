"""Loads what `push_job.py` has published where hf_mlcl cannot be imported: by the code that came with the model.

python load_job.py FOLDER    # writes what it saw to FOLDER/loaded.json, or offline.json with HF_HUB_OFFLINE=1
"""

import json
import os
import sys
from pathlib import Path

FOLDER, OFFLINE = Path(sys.argv[1]), bool(os.environ.get("HF_HUB_OFFLINE"))


class Absent:
    """As if the package were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_mlcl":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())

import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

INPUTS = {"input_ids": torch.arange(3, 19).view(2, 8), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
TRUST = {"trust_remote_code": True}
seen = {}


def differences(source, **kwargs):
    """The largest difference to the logits of the model that was published, and the class."""
    model = AutoModelForSequenceClassification.from_pretrained(source, **TRUST, **kwargs)
    with torch.inference_mode():
        logits = model(**INPUTS).logits
    return (logits - torch.load(FOLDER / "logits.pt")).abs().max().item(), type(model).__module__, model


first = json.loads((FOLDER / "seen.json").read_text())["first"]
for name, kwargs in {"main": {}, "tag": {"revision": "v1"}, "commit": {"revision": first}}.items():
    seen[name], seen["module"], model = differences("me/training", **kwargs)
    seen[f"{name} threshold"] = model.config.thresholds[0]
tokenizer = AutoTokenizer.from_pretrained("me/training", **TRUST)
model = AutoModelForSequenceClassification.from_pretrained("me/training", **TRUST)
inputs = tokenizer(["w3 w11", "w12"], return_tensors="pt", padding=True)
seen["labels"] = model.predict_labels(**inputs, min_labels=1)
classifier = pipeline("text-classification", model="me/training", top_k=None, **TRUST)
scores = {score["label"]: score["score"] for score in classifier("w3 w11")[0]}
with torch.inference_mode():
    alone = model(**tokenizer(["w3 w11"], return_tensors="pt")).logits.sigmoid()[0].tolist()
seen["pipeline"] = max(abs(scores[name] - score) for name, score in zip(model.config.label_names, alone, strict=True))
if not OFFLINE:
    seen["folder"], _, _ = differences(FOLDER / "training")
    model.save_pretrained(FOLDER / "saved again")
    seen["saved again"], _, _ = differences(FOLDER / "saved again")
    pixels, expected = torch.load(FOLDER / "image_logits.pt")
    image_model = AutoModelForImageClassification.from_pretrained("me/images", revision="dev/1", **TRUST)
    seen["images"] = torch.equal(image_model(pixel_values=pixels).logits, expected)
    try:
        model(**inputs, labels=torch.ones(2, model.config.num_labels))
    except ImportError as error:
        seen["training"] = str(error)
seen["imported"] = sorted(name for name in sys.modules if name.partition(".")[0] == "hf_mlcl")
(FOLDER / ("offline.json" if OFFLINE else "loaded.json")).write_text(json.dumps(seen))
