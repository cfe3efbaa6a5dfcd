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
sources = {"main": ("me/training", {}), "tag": ("me/training", {"revision": "v1"})}
sources |= {} if OFFLINE else {"folder": (FOLDER / "training", {}), "saved again": (FOLDER / "saved again", {})}
seen = {"differences": {}, "thresholds": {}}
for name, (source, options) in sources.items():
    model = AutoModelForSequenceClassification.from_pretrained(source, **TRUST, **options)
    with torch.inference_mode():
        difference = model(**INPUTS).logits - torch.load(FOLDER / "logits.pt")
    seen["differences"][name] = difference.abs().max().item()
    seen["thresholds"][name], seen["module"] = model.config.thresholds[0], type(model).__module__
    if name == "main" and not OFFLINE:
        model.save_pretrained(FOLDER / "saved again")
tokenizer = AutoTokenizer.from_pretrained("me/training", **TRUST)
inputs = tokenizer(["w3 w11", "w12"], return_tensors="pt", padding=True)
seen["labels"] = model.predict_labels(**inputs, min_labels=5)
classify = pipeline("text-classification", model="me/training", top_k=None, **TRUST)
seen["pipeline"] = classify(["w3 w11", "w12"])
if not OFFLINE:
    pixels, expected = torch.load(FOLDER / "image_logits.pt")
    image_model = AutoModelForImageClassification.from_pretrained("me/images", revision="dev/1", **TRUST)
    seen["images"] = torch.equal(image_model(pixel_values=pixels).logits, expected)
    try:
        model(**inputs, labels=torch.ones(2, model.config.num_labels))
    except ImportError as error:
        seen["training"] = str(error)
seen["imported"] = sorted(name for name in sys.modules if name.partition(".")[0] == "hf_mlcl")
(FOLDER / ("offline.json" if OFFLINE else "loaded.json")).write_text(json.dumps(seen))
