"""Chooses the priors of `tune_thresholds` and `fit_calibration` on train and validation data. Imports hf_mlcl.

python benchmarks/evaluation_priors.py --encoder FOLDER_OF_all-MiniLM-L6-v2

No test split is ever read. The examples of train and validation are shuffled and cut again, three times, into
fit / validation / held-out. On fit and validation a classifier is made as `MLCLTrainer.fit_classifier` makes it
(linear evaluation of frozen features, calibration, thresholds); what is held out scores it. The rules that choose:

1. Precisions of a label: of `LABEL_PRECISIONS`, the pair with the lowest held-out cross-entropy, as a share of that
   without calibration (so that no data set weighs more than another), averaged over the data sets.
2. Precisions of the pool stay at `POOL_PRECISIONS[0]` unless another of them, with the choice of 1, lowers that mean
   share by more than `POOL_TOLERANCE`: they are there for degenerate data only and should not matter.
3. `prior_positives`: of `PRIOR_POSITIVES`, after the calibration of 1 and 2, the number with the highest held-out
   Micro-F1 + Macro-F1, averaged over the data sets.

The other rows of the tables (no calibration, the pool's alone, thresholds of 0.5, one global threshold) are measured
for comparison and cannot be chosen.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from datasets import concatenate_datasets
from transformers import AutoTokenizer

from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import load_multilabel_dataset, prepare_text
from hf_mlcl.evaluation import (
    calibration,
    expected_calibration_error,
    fit_calibration,
    fit_linear_evaluation,
    tune_thresholds,
)
from hf_mlcl.evaluation.arrays import sigmoid
from hf_mlcl.metrics.multilabel_f1.multilabel_f1 import multilabel_scores

REPOSITORY = Path(__file__).resolve().parents[1]

DATASETS = {"reuters21578": None, "goemotions": 8000, "arxiv": 8000}  # at most so many training examples
MAX_LENGTH = 64
NUM_RESPLITS = 3
HELD_OUT_SHARE = 0.25
NUM_EPOCHS = 10  # of the linear evaluation; 40 by default, fewer here to save time

LABEL_PRECISIONS = list(itertools.product((0.25, 1.0, 4.0, 16.0, 64.0), (0.25, 1.0, 4.0, 16.0)))  # log scale, shift
POOL_PRECISIONS = [(0.01, 0.01), (1e-4, 1e-4), (1.0, 1.0)]
POOL_TOLERANCE = 0.001
PRIOR_POSITIVES = [0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
POOL_ALONE = 1e9  # a precision that leaves a label nothing of its own

Row = dict[str, float]
# Logits and labels of validation, then logits and labels of what is held out.
Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def encode(folder: Path, encoder: str, limit: int | None, cache: Path | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Frozen features (N x feature_dim), labels (N x L) of train, then validation, and the number of the latter."""
    data = load_multilabel_dataset(str(folder), task="text", splits=("train", "validation"), max_train_samples=limit)
    splits = [data.splits[name] for name in ("train", "validation")]
    kept = None if cache is None else cache / f"{folder.name}.npz"
    if kept is not None and kept.exists():
        loaded = np.load(kept)
        return loaded["features"], loaded["labels"], len(splits[1])
    model = MLCLForSequenceClassification.from_encoder(encoder, data.label_names, pooling="mean")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    examples = prepare_text(concatenate_datasets(splits), tokenizer, max_length=MAX_LENGTH)
    with tempfile.TemporaryDirectory() as output:
        arguments = MLCLTrainingArguments(output_dir=output)
        features, labels = MLCLTrainer(model=model, args=arguments, processing_class=tokenizer).features(examples)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, features=features, labels=labels)
    return features, labels, len(splits[1])


def resplit(features: np.ndarray, labels: np.ndarray, num_validation: int) -> Iterator[Case]:
    """Cuts the examples anew and fits the linear evaluation, `NUM_RESPLITS` times."""
    num_held_out = round(HELD_OUT_SHARE * len(features))
    for seed in range(NUM_RESPLITS):
        order = np.random.default_rng(seed).permutation(len(features))
        held_out, validation, fit = np.split(order, [num_held_out, num_held_out + num_validation])
        classifier = fit_linear_evaluation(
            features[fit],
            labels[fit],
            features[validation],
            labels[validation],
            num_epochs=NUM_EPOCHS,
            seed=seed,
        )
        logits = features.astype(np.float64) @ classifier.weight.T + classifier.bias
        yield logits[validation], labels[validation], logits[held_out], labels[held_out]


def calibrated(case: Case, label: tuple[float, float], pool: tuple[float, float]) -> Case:
    """The case with calibrated logits. The priors are no arguments of the library, so its constants are replaced."""
    logits, labels, held_out_logits, held_out_labels = case
    with patch.multiple(calibration, _LABEL_PRECISION=np.array(label), _POOL_PRECISION=np.array(pool)):
        fitted = fit_calibration(logits, labels)
    return fitted.apply(logits), labels, fitted.apply(held_out_logits), held_out_labels


def calibration_row(case: Case) -> Row:
    """Held-out ECE, and cross-entropy in nats of an example (summed over labels)."""
    _, _, logits, labels = case
    cross_entropy = (np.logaddexp(0.0, logits) - labels * logits).sum(axis=1).mean()
    return {"ece": expected_calibration_error(sigmoid(logits), labels), "nll": float(cross_entropy)}


def threshold_row(case: Case, prior_positives: float | None) -> Row:
    """Held-out F1 with thresholds tuned on validation; infinity is the global threshold, None is 0.5."""
    logits, labels, held_out_logits, held_out_labels = case
    if prior_positives is None:
        thresholds: Any = 0.5
    elif prior_positives == math.inf:
        thresholds = tune_thresholds(sigmoid(logits), labels).global_threshold
    else:
        thresholds = tune_thresholds(sigmoid(logits), labels, prior_positives=prior_positives).per_label
    scores = multilabel_scores(held_out_labels, sigmoid(held_out_logits) >= thresholds)
    return {"micro_f1": float(scores["micro_f1"]), "macro_f1": float(scores["macro_f1"])}


def mean_row(rows: list[Row]) -> Row:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def choose_precisions(cases: Mapping[str, list[Case]]) -> tuple[dict[str, Any], tuple[float, float], Any]:
    """Table of rules 1 and 2 and the precisions (log scale, shift) that they choose for the labels and the pool."""
    table: dict[str, Any] = {}

    def measure(title: str, label: tuple[float, float] | None, pool: tuple[float, float]) -> float:
        entry: dict[str, Any] = {}
        for name, resplits in cases.items():
            fitted = resplits if label is None else [calibrated(case, label, pool) for case in resplits]
            entry[name] = mean_row([calibration_row(case) for case in fitted])
        plain = table.get("no calibration", entry)
        entry["mean_nll_share"] = float(np.mean([entry[name]["nll"] / plain[name]["nll"] for name in cases]))
        table[title] = entry
        print(f"{title:>40}: {entry['mean_nll_share']:.4f}", flush=True)
        return entry["mean_nll_share"]

    default_pool = POOL_PRECISIONS[0]
    measure("no calibration", None, default_pool)
    measure("pool alone", (POOL_ALONE, POOL_ALONE), default_pool)
    shares = [measure(f"label {pair[0]:g}, {pair[1]:g}", pair, default_pool) for pair in LABEL_PRECISIONS]
    label = LABEL_PRECISIONS[int(np.argmin(shares))]
    others = [measure(f"label as chosen, pool {pair[0]:g}, {pair[1]:g}", label, pair) for pair in POOL_PRECISIONS[1:]]
    better = min(others) < min(shares) - POOL_TOLERANCE
    return table, label, POOL_PRECISIONS[1 + int(np.argmin(others))] if better else default_pool


def choose_prior_positives(cases: Mapping[str, list[Case]]) -> tuple[dict[str, Any], float]:
    """Table of rule 3 for calibrated cases and the number that it chooses."""
    table: dict[str, Any] = {}
    for prior in (None, *PRIOR_POSITIVES, math.inf):
        rows = {name: [threshold_row(case, prior) for case in resplits] for name, resplits in cases.items()}
        entry: dict[str, Any] = {name: mean_row(parts) for name, parts in rows.items()}
        sums = [[sum(row.values()) for row in parts] for parts in rows.values()]
        entry["micro_plus_macro_of_resplits"] = np.mean(sums, axis=0).tolist()
        entry["mean_micro_plus_macro"] = float(np.mean(sums))
        title = "every threshold 0.5" if prior is None else f"{prior:g}"
        table[title] = entry
        print(f"{title:>40}: {entry['mean_micro_plus_macro']:.4f}", flush=True)
    return table, max(PRIOR_POSITIVES, key=lambda prior: table[f"{prior:g}"]["mean_micro_plus_macro"])


def describe(encoder: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """What was measured, in words that hold on any machine."""
    digest = hashlib.sha256((Path(encoder) / "model.safetensors").read_bytes()).hexdigest()
    return {
        "command": "python benchmarks/evaluation_priors.py --encoder FOLDER",
        "encoder": {"model_safetensors_sha256": digest, "pooling": "mean", "max_length": MAX_LENGTH},
        "splits_read": ["train", "validation"],
        "resplits": f"{NUM_RESPLITS} random cuts of train + validation; numbers are means over them, of held-out data",
        "linear_evaluation_epochs": NUM_EPOCHS,
        "datasets": sizes,
        "rules": " ".join((__doc__ or "").partition("The rules that choose:")[2].split()),
    }


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry) for entry in value]
    return round(value, 5) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of data sets")
    parser.add_argument("--encoder", required=True, help="folder of a sentence encoder")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks/results/evaluation_priors.json")
    parser.add_argument("--cache", type=Path, help="folder that keeps the features; another one for another encoder")
    arguments = parser.parse_args()

    started = time.process_time()
    cases: dict[str, list[Case]] = {}
    sizes: dict[str, Any] = {}
    for name, limit in DATASETS.items():
        features, labels, num_validation = encode(arguments.data / name, arguments.encoder, limit, arguments.cache)
        cases[name] = list(resplit(features, labels, num_validation))
        held_out = len(cases[name][0][3])
        sizes[name] = {"labels": labels.shape[1], "validation": num_validation, "held_out": held_out}
        sizes[name]["fit"] = len(features) - num_validation - held_out
        print(name, sizes[name], f"{time.process_time() - started:.0f} s of CPU", flush=True)
    calibration_table, label, pool = choose_precisions(cases)
    ready = {name: [calibrated(case, label, pool) for case in resplits] for name, resplits in cases.items()}
    threshold_table, prior = choose_prior_positives(ready)
    result = {
        "description": describe(arguments.encoder, sizes),
        "chosen": {"prior_positives": prior, "label_precision": label, "pool_precision": pool},
        "calibration": calibration_table,
        "thresholds": threshold_table,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(rounded(result), indent=2) + "\n")
    print(result["chosen"], f"{time.process_time() - started:.0f} s of CPU")


if __name__ == "__main__":
    main()
