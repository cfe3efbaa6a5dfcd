"""Measures published models and writes the scores to their cards; loads the metric by its id.

python scores_job.py FOLDER    # writes what it saw to FOLDER/seen.json
"""

import json
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))

import evaluate  # noqa: E402
import numpy as np  # noqa: E402
from job_parts import command, tokenizer  # noqa: E402
from toy import NUM_LABELS, toy_model  # noqa: E402

FOLDER = Path(sys.argv[1])
seen = {}


def write_data(folder):
    """Two splits of texts, of which half a text's words are its labels."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    for split in ("validation", "test"):
        rows = [sorted(chance.choice(NUM_LABELS, 2, replace=False).tolist()) for _ in range(12)]
        lines = [
            {"text": " ".join(f"w{10 + label} w30" for label in row), "labels": [f"LABEL_{label}" for label in row]}
            for row in rows
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


data = write_data(FOLDER / "my_texts")
toy_model(classifier_fitted=True).save_pretrained(FOLDER / "model")
tokenizer().save_pretrained(FOLDER / "model")
seen["pushed"] = command("push", str(FOLDER / "model"), "me/model")
evaluation = ("--dataset", data, "--push")
seen["test"] = command("evaluate", "me/model", *evaluation)
seen["pull request"] = command("evaluate", "me/model", *evaluation, "--create_pr", "--split", "validation")
seen["validation"] = command("evaluate", "me/model", *evaluation, "--split", "validation")
seen["again"] = command("evaluate", "me/model", *evaluation)
seen["folder"] = command("evaluate", str(FOLDER / "model"), *evaluation)
seen["no card"] = command("evaluate", "me/multilabel_f1", *evaluation)
seen["nobody"] = command("evaluate", "me/nothing", *evaluation)
seen["alone"] = command("evaluate", "me/model", "--dataset", data, "--create_pr")

metric = evaluate.load("me/multilabel_f1", "labels")
metric.add_batch(predictions=[["a"], ["b"]], references=[["a"], ["a", "b"]])
other = evaluate.load("me/multilabel_f1")
both = evaluate.combine([other, evaluate.load("me/multilabel_f1", "multihot")])
seen["metric"] = {
    "labels": metric.compute()["micro_f1"],
    "default": other.compute(predictions=[[1, 0]], references=[[1, 0]])["micro_f1"],
    "combined": both.compute(predictions=[[1, 1]], references=[[1, 0]])["multilabel_f1_0_micro_precision"],
    "module": type(metric).__module__,
}
del os.environ["HF_TOKEN"]
seen["no token"] = command("evaluate", "me/model", *evaluation)
(FOLDER / "seen.json").write_text(json.dumps(seen))
