"""A whole training with 100,000 labels, from a data set on disk to predictions: time and peak memory of each part.

python benchmarks/many_labels_run.py --output benchmarks/results/many_labels_run.json

Generated texts of 1,000 training, 500 validation and 3,000 test examples with up to 10 labels each, label l drawn
with probability proportional to 1/(l + 1); every label has a word of a vocabulary of 5,000, which others share. A tiny
BERT (one layer, 32 wide) on one CPU thread: what grows with labels is measured, not how well an encoder reads. Each
part's peak is that of the resident memory over what the process held when the part began. Beside them stands the size
that one array of all examples and labels in float32 would have.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from transformers import AutoConfig, AutoModel

from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import build_word_tokenizer, load_multilabel_dataset, predict_texts, prepare_text

SPLITS = {"train": 1000, "validation": 500, "test": 3000}
WORDS, LABELS_PER_EXAMPLE = 5000, 10


def write_corpus(folder: Path, num_labels: int) -> None:
    """Parquet files of texts and lists of label names."""
    chance = np.random.default_rng(0)
    for split, rows in SPLITS.items():
        # The inverse of the distribution function of 1/x on [1, L + 1).
        ids = np.exp(chance.random((rows, LABELS_PER_EXAMPLE)) * np.log(num_labels + 1.0)).astype(int) - 1
        texts = [" ".join(f"w{label * 7919 % WORDS}" for label in row) for row in ids.tolist()]
        names = [[f"L{label}" for label in sorted(set(row))] for row in ids.tolist()]
        Dataset.from_dict({"text": texts, "labels": names}).to_parquet(str(folder / f"{split}.parquet"))


def memory_mib(field: str) -> float:
    """A field of this process's status: VmRSS is what it holds, VmHWM the most it has held since it was reset."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@contextmanager
def measured(parts: list[dict[str, Any]], name: str) -> Iterator[None]:
    """Adds seconds and peak memory of what runs inside."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
    before, wall, cpu = memory_mib("VmRSS"), time.perf_counter(), time.process_time()
    yield
    part = {
        "part": name,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": memory_mib("VmHWM") - before,
        "held_before_mib": before,
    }
    parts.append(part)
    print(json.dumps(part), flush=True)


def run(num_labels: int, sample_size: int, steps: int, folder: Path) -> dict[str, Any]:
    write_corpus(folder, num_labels)
    torch.manual_seed(0)
    parts: list[dict[str, Any]] = []
    with measured(parts, "load"):
        names = [f"L{label}" for label in range(num_labels)]
        data = load_multilabel_dataset(str(folder), task="text", label_names=names)
        tokenizer = build_word_tokenizer([f"w{word}" for word in range(WORDS)], max_length=16)
        splits = {name: prepare_text(split, tokenizer) for name, split in data.splits.items()}
    with measured(parts, "build"):
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        encoder = AutoModel.from_config(AutoConfig.for_model("bert", **sizes, vocab_size=len(tokenizer)))
        model = MLCLForSequenceClassification.from_encoder(encoder, labels=names, projection_dim=32)
        trainer = MLCLTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=splits["train"],
            eval_dataset=splits["validation"],
            args=MLCLTrainingArguments(
                output_dir=str(folder / "out"),
                loss="reg",
                prototype_sample_size=sample_size,
                max_steps=steps,
                learning_rate=3e-3,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
            ),
        )
    with measured(parts, f"train {steps} steps"):
        trainer.train()
    with measured(parts, "evaluate with the probe"):
        trainer.evaluate()
    with measured(parts, "fit the classifier"):
        trainer.fit_classifier()
    with measured(parts, "evaluate"):
        scores = trainer.evaluate(splits["test"], metric_key_prefix="test")
    with measured(parts, "predict with top_k=5"):
        found = list(predict_texts(model, tokenizer, data.splits["test"]["text"], top_k=5, min_labels=5))
    with measured(parts, "save and load"):
        trainer.save_model(str(folder / "model"))
        MLCLForSequenceClassification.from_pretrained(folder / "model")
    assert len(found) == SPLITS["test"] and all(len(labels) == 5 for labels in found)
    kept = ("micro_f1", "macro_f1_present", "precision_at_1", "precision_at_5", "micro_map")
    return {"parts": parts, "test_scores": {name: scores[f"test_{name}"] for name in kept}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--sample_size", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        measured_run = run(options.labels, options.sample_size, options.steps, Path(folder))
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    results = {
        "command": "python benchmarks/many_labels_run.py --output benchmarks/results/many_labels_run.json",
        "machine": {"cpu": cpu[1] if cpu else platform.processor(), "cores": os.cpu_count(), "threads": 1},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "sizes": {
            "labels": options.labels,
            "examples": SPLITS,
            "labels_per_example": LABELS_PER_EXAMPLE,
            "batch": 64,
            "sample_size": options.sample_size,
        },
        "dense_float32_mib": {name: 4 * rows * options.labels / 2**20 for name, rows in SPLITS.items()},
        "load_average": [before, os.getloadavg()[0]],
        **measured_run,
    }
    text = json.dumps(results, indent=2) + "\n"
    if options.output:
        options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
