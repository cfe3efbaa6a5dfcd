"""Chooses how `fit_classifier` draws labels together, on training and validation data. Imports hf_mlcl.

python benchmarks/evaluation_priors.py --text_encoder FOLDER_OF_all-MiniLM-L6-v2 --image_encoder FOLDER_OF_mobilenet_v2

No test split is ever read. The examples of train and validation are shuffled and cut again, three times, into fit /
validation / held-out, once with as many to fit as there are (at most 6,500) and once with 2,000. On fit and validation
a classifier is made by `fit_classifier`, from features of the encoder as it is; what is held out scores it. Tables and
the rules that choose:

1. `strengths`: of `STRENGTH_PRIORS`, the number of positives of like labels with the highest mAP of what is held out;
   and whether positives of four times the weight give a higher one (then they would be a second axis).
2. `calibration`: held-out cross-entropy after Platt scaling of each label, drawn to that of all labels together by
   each of `LABEL_PRECISIONS`, or after that of all labels alone, as a share of that without calibration. Calibration
   would be worth a step if it were below 1. (`fit_calibration` has 4, 4, chosen in this way for the study's linear
   evaluation, where it is 0.67.)
3. `thresholds`: "balanced" is the rule with the highest Macro-F1 whose Micro-F1 is at most 0.2 points below that of
   50 positives that behave like all labels together (the rule of earlier versions); "macro" the one with the highest
   Macro-F1 whose Micro-F1 is at most 3 points below; "micro" the one with the highest Micro-F1.

Numbers are means over data sets of means over cuts. Differences of some tenths of a point are no reason to choose: of
rules near to the best one the library takes those that draw a little towards all labels, which keeps labels that
cannot be told at all, of which these data sets have few, from being given to every example.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from datasets import concatenate_datasets
from transformers import AutoImageProcessor, AutoTokenizer

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import load_multilabel_dataset, prepare_images, prepare_text, with_image_size
from hf_mlcl.evaluation import calibration, compute_metrics, fit_calibration, logistic_regression, probe
from hf_mlcl.evaluation.arrays import sigmoid
from hf_mlcl.evaluation.thresholds import (
    _best,
    _candidate_logits,
    _f1,
    _hits_and_false,
    frequency_groups,
)

REPOSITORY = Path(__file__).resolve().parents[1]

# At most so many training examples; pixels of images.
DATASETS = {"reuters21578": (None, None), "goemotions": (8000, None), "arxiv": (8000, None), "clothing": (None, 128)}
MAX_VALIDATION, MAX_LENGTH, NUM_CUTS = 2000, 64, 3
SIZES = [(6500, 1000), (2000, 500)]  # to fit and to validate, where a quarter is left to be held out

STRENGTH_PRIORS = [0.0, 5.0, 20.0, 50.0, 200.0, 1e6]
POSITIVE_WEIGHTS = [1.0, 4.0]
LABEL_PRECISIONS = list(itertools.product((1.0, 4.0, 16.0, 64.0), (0.25, 1.0, 4.0, 16.0)))  # log scale, shift


@dataclass
class Case:
    """One cut: what was measured of its strengths, and scores before calibration."""

    strengths: dict[str, float]
    logits: np.ndarray
    labels: np.ndarray
    held_out_logits: np.ndarray
    held_out_labels: np.ndarray
    counts: np.ndarray


def encode(folder: Path, encoder: str, limit: int | None, pixels: int | None, cache: Path | None) -> Any:
    """Features (N x feature_dim) of an encoder as it is and labels (N x L), of train, then validation."""
    kept = None if cache is None else cache / f"{folder.name}.npz"
    if kept is not None and kept.exists():
        loaded = np.load(kept)
        return loaded["features"], loaded["labels"]
    names = ("train", "validation")
    task: Any = "text" if pixels is None else "vision"
    data = load_multilabel_dataset(
        str(folder), task=task, splits=names, max_train_samples=limit, max_eval_samples=MAX_VALIDATION
    )
    rows = concatenate_datasets([data.splits[name] for name in names])
    processor: Any
    model: Any
    if pixels is None:
        processor = AutoTokenizer.from_pretrained(encoder)
        model = MLCLForSequenceClassification.from_encoder(encoder, data.label_names)
        examples: Any = prepare_text(rows, processor, max_length=MAX_LENGTH)
    else:
        processor = with_image_size(AutoImageProcessor.from_pretrained(encoder), pixels)
        model = MLCLForImageClassification.from_encoder(encoder, data.label_names)
        examples = prepare_images(rows, processor)
    with tempfile.TemporaryDirectory() as output:
        arguments = MLCLTrainingArguments(output_dir=output, disable_tqdm=True)
        features, labels = MLCLTrainer(model=model, args=arguments, processing_class=processor).features(examples)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, features=features, labels=labels)
    return features, labels


def cut(features: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, Case]]:
    """The cuts of a data set, by the number of examples to fit."""
    for (to_fit, to_validate), seed in itertools.product(SIZES, range(NUM_CUTS)):
        to_fit = min(to_fit, round(0.66 * len(features)))
        to_validate = min(to_validate, round(0.1 * len(features)))
        if (to_fit, to_validate) != SIZES[-1] and to_fit <= SIZES[-1][0] and SIZES[-1][0] <= 0.66 * len(features):
            continue
        order = np.random.default_rng(seed).permutation(len(features))
        fit, validation, held_out = np.split(order, [to_fit, to_fit + to_validate])
        held_out = held_out[:2500]
        parts = [(features[part], labels[part]) for part in (fit, validation, held_out)]
        yield str(to_fit), case_of(*parts)


def case_of(train: tuple, validation: tuple, held_out: tuple) -> Case:
    fit = probe._Fit(probe._Examples.of("train", *train), probe._Examples.of("validation", *validation), "cpu", False)
    strengths = {}
    for weight in POSITIVE_WEIGHTS:
        with positives_weigh(weight), torch.no_grad():
            strengths |= {f"weight {weight:g}, {k}": v for k, v in strengths_table(fit, held_out).items()}
    fit.choose_strengths()
    weight, bias, scores = fit.fitted(refit=True)
    held_out_logits = held_out[0].astype(np.float64) @ weight.T + bias
    return Case(strengths, np.asarray(scores), validation[1] == 1, held_out_logits, held_out[1] == 1, fit.counts)


def positives_weigh(weight: float) -> Any:
    """Positives of all problems count `weight` times."""
    solve = logistic_regression._solve

    def weighted(inputs: Any, targets: Any, weights: Any, *rest: Any) -> Any:
        each = 1 + (weight - 1) * targets
        return solve(inputs, targets, each if weights is None else each * weights, *rest)

    return patch.object(logistic_regression, "_solve", solve if weight == 1 else weighted)


def strengths_table(fit: Any, held_out: tuple) -> dict[str, float]:
    """mAP of what is held out, for each prior on the choice of the strengths, fitted on both other parts."""
    ids = np.arange(fit.num_labels)
    each = torch.from_numpy(fit.grid)[:, None].expand(-1, fit.num_labels).float()

    def solve(examples: np.ndarray) -> torch.Tensor:
        variants = examples[None].repeat(len(fit.grid), axis=0)
        return logistic_regression.Problem(fit.inputs, fit.labels, variants).solve(ids, each)

    losses, both = fit.validation_losses(ids, solve(fit.of_train)), solve(np.ones(len(fit.inputs), dtype=bool))
    weight, bias = fit.inputs.original(both)
    support = fit.validation.labels.counts()
    table = {}
    for prior in STRENGTH_PRIORS:
        with patch.object(probe, "PRIOR_POSITIVES", prior):
            chosen = probe.choose_strengths(losses, support, fit.counts, ids)
        logits = held_out[0] @ weight[chosen, ids].T + bias[chosen, ids]
        table[f"prior {prior:g}"] = compute_metrics((logits, held_out[1]))["map"]
    return table


# --- thresholds ---


class Counts:
    """What thresholds are chosen by: counts of each label at each candidate, from calibrated validation scores."""

    def __init__(self, probabilities: np.ndarray, labels: np.ndarray, frequencies: np.ndarray) -> None:
        self.labels, self.candidates = labels, _candidate_logits(probabilities[labels])
        self.limits = sigmoid(self.candidates)
        (self.hits, self.false), self.expected, mass = _hits_and_false(probabilities, labels, None, self.limits)
        self.positives, self.mass = labels.sum(axis=0).astype(float), np.maximum(mass[:, 0], 1e-12)
        groups, weights = frequency_groups(frequencies)
        self.like = weights[groups][:, groups]
        self.common = _best(
            _f1(self.hits.sum(axis=0), self.false.sum(axis=0), self.positives.sum())[None], self.candidates, 0.0
        )[0]

    def at(self, f1: np.ndarray) -> np.ndarray:
        return self.limits[_best(f1, self.candidates, self.candidates[self.common])]

    def shrunk(self, every: float = 0, like: float = 0, own: float = 0) -> np.ndarray:
        """Thresholds with positives that behave like all labels, like those about as frequent, and as expected."""
        total = self.positives.sum()
        as_frequent = np.maximum(self.like @ self.positives, 1e-300)[:, None]
        hits, false = (
            values + every * values.sum(axis=0) / total + like * (self.like @ values) / as_frequent
            for values in (self.hits, self.false)
        )
        apart = (np.maximum(self.mass, self.positives) + 1) / (np.minimum(self.mass, self.positives) + 1)
        share = own * (apart <= 4)[:, None]
        hits, false = (
            values + share * part / self.mass[:, None]
            for values, part in zip((hits, false), self.expected, strict=True)
        )
        thresholds = self.at(_f1(hits, false, self.positives[:, None] + every + like + share))
        if not like and not own:
            thresholds[self.positives == 0] = self.limits[self.common]
        return thresholds

    def plugged_in(self, every: float) -> np.ndarray:
        """F*/2 by the probabilities where a label has no positive (Lipton et al. 2014), otherwise as `shrunk`."""
        thresholds, own = self.shrunk(every), self.shrunk(own=1.0)
        return np.where(self.positives == 0, own, thresholds)

    def smoothed(self, a: float, b: float) -> np.ndarray:
        """The smoothed F-measure (a + 2 TP) / (b + 2 TP + FP + FN) of Lin and Lin, CIKM 2023."""
        return self.at((a + 2 * self.hits) / (b + self.hits + self.false + self.positives[:, None]))

    def jointly(self) -> np.ndarray:
        """Micro-F1 and Macro-F1 together, label by label (Lin and Lin, CIKM 2023)."""
        rows = np.arange(len(self.positives))
        chosen = np.full(len(rows), self.common)
        for _ in range(5):
            before = chosen.copy()
            hits, false = self.hits[rows, chosen].sum(), self.false[rows, chosen].sum()
            for label in np.argsort(-self.positives):
                hits -= self.hits[label, chosen[label]]
                false -= self.false[label, chosen[label]]
                micro = _f1(hits + self.hits[label], false + self.false[label], self.positives.sum())
                macro = _f1(self.hits[label], self.false[label], self.positives[label]) / len(rows)
                chosen[label] = _best((micro + macro)[None], self.candidates, self.candidates[self.common])[0]
                hits += self.hits[label, chosen[label]]
                false += self.false[label, chosen[label]]
            if (before == chosen).all():
                break
        return self.limits[chosen]


def threshold_rules() -> dict[str, Callable[[Counts], np.ndarray]]:
    rules: dict[str, Callable[[Counts], np.ndarray]] = {"0.5": lambda c: np.full(len(c.positives), 0.5)}
    for k in (0, 2, 5, 10, 20, 50):
        rules[f"all labels {k}"] = lambda c, k=k: c.shrunk(every=k)
    rules["one for all"] = lambda c: np.full(len(c.positives), c.limits[c.common])
    for k, m in itertools.product((5, 20, 50, 200, 1000), (0, 20, 100)):
        rules[f"as frequent {k}, expected {m}"] = lambda c, k=k, m=m: c.shrunk(like=k, own=m)
    for k, n, m in ((200, 10, 0), (200, 10, 100), (200, 10, 200), (200, 50, 0), (20, 2, 100), (20, 10, 100)):
        rules[f"as frequent {k}, all labels {n}, expected {m}"] = lambda c, k=k, n=n, m=m: c.shrunk(n, k, m)
    rules["expected 1000000"] = lambda c: c.shrunk(own=1e6)
    for k in (10, 50):
        rules[f"all labels {k}, F*/2 without a positive"] = lambda c, k=k: c.plugged_in(k)
    for a, b in ((1, 1), (1, 2), (2, 2)):
        rules[f"smoothed {a}, {b}"] = lambda c, a=a, b=b: c.smoothed(a, b)
    rules["micro and macro jointly"] = lambda c: c.jointly()
    return rules


def f1_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    hits, sizes = (labels & predicted).sum(axis=0), labels.sum(axis=0) + predicted.sum(axis=0)
    return {
        "micro_f1": float(2 * hits.sum() / max(sizes.sum(), 1)),
        "macro_f1": float((2 * hits / np.maximum(sizes, 1)).mean()),
    }


# --- tables ---


def table_of(cases: dict[str, list[Any]], measure: Callable[[Any], dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means over cuts of what `measure` gives (title to scores), by data set, and their means over data sets."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name, parts in cases.items():
        found = [measure(part) for part in parts]
        for title in found[0]:
            rows.setdefault(title, {})[name] = {
                key: float(np.mean([one[title][key] for one in found])) for key in found[0][title]
            }
    for by_name in rows.values():
        keys = next(iter(by_name.values()))
        by_name["mean"] = {key: float(np.mean([scores[key] for scores in by_name.values()])) for key in keys}
    return rows


def calibrations(case: Case) -> dict[str, dict[str, float]]:
    def cross_entropy(logits: np.ndarray) -> float:
        return float((np.logaddexp(0.0, logits) - case.held_out_labels * logits).sum())

    plain, rows = cross_entropy(case.held_out_logits), {"none": {"share": 1.0}}
    for pair in [*LABEL_PRECISIONS, (1e9, 1e9)]:
        with patch.object(calibration, "_LABEL_PRECISION", np.array(pair)):
            fitted = fit_calibration(case.logits, case.labels)
        title = "the pool's" if pair[0] == 1e9 else f"{pair[0]:g}, {pair[1]:g}"
        rows[title] = {"share": cross_entropy(fitted.apply(case.held_out_logits)) / plain}
    return rows


def thresholds(case: Case) -> dict[str, dict[str, float]]:
    counts = Counts(sigmoid(case.logits), case.labels, case.counts)
    probabilities = sigmoid(case.held_out_logits)
    return {
        title: f1_scores(case.held_out_labels, probabilities >= rule(counts))
        for title, rule in threshold_rules().items()
    }


def chosen_rules(table: dict[str, Any]) -> dict[str, str]:
    means = {title: row["mean"] for title, row in table.items()}
    least = means["all labels 50"]["micro_f1"]

    def best(by: str, floor: float) -> str:
        return max((t for t, row in means.items() if row["micro_f1"] >= floor), key=lambda t: means[t][by])

    return {
        "balanced": best("macro_f1", least - 0.002),
        "macro": best("macro_f1", least - 0.03),
        "micro": best("micro_f1", 0.0),
    }


def digest(encoder: str) -> str:
    return hashlib.sha256((Path(encoder) / "model.safetensors").read_bytes()).hexdigest()


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    return round(value, 5) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of data sets")
    parser.add_argument("--text_encoder", required=True, help="folder of a sentence encoder")
    parser.add_argument("--image_encoder", required=True, help="folder of an image encoder")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks/results/evaluation_priors.json")
    parser.add_argument("--cache", type=Path, help="folder that keeps the features; another one for another encoder")
    arguments = parser.parse_args()

    started = time.process_time()
    cases: dict[str, list[Case]] = {}
    for name, (limit, pixels) in DATASETS.items():
        encoder = arguments.text_encoder if pixels is None else arguments.image_encoder
        features, labels = encode(arguments.data / name, encoder, limit, pixels, arguments.cache)
        for size, case in cut(features, labels):
            cases.setdefault(f"{name}, {size} to fit", []).append(case)
        print(name, f"{time.process_time() - started:.0f} s of CPU", flush=True)
    strengths = table_of(cases, lambda case: {title: {"map": value} for title, value in case.strengths.items()})
    precisions, limits = table_of(cases, calibrations), table_of(cases, thresholds)
    result = {
        "command": "python benchmarks/evaluation_priors.py --text_encoder FOLDER --image_encoder FOLDER",
        "encoders": {"text": digest(arguments.text_encoder), "images": digest(arguments.image_encoder)},
        "splits_read": ["train", "validation"],
        "cuts": {name: len(parts) for name, parts in cases.items()},
        "rules": " ".join((__doc__ or "").partition("the rules that choose:")[2].split()),
        "chosen": {
            "strengths": max(strengths, key=lambda title: strengths[title]["mean"]["map"]),
            "calibration": min(precisions, key=lambda title: precisions[title]["mean"]["share"]),
            "thresholds": chosen_rules(limits),
        },
        "strengths": strengths,
        "calibration": precisions,
        "thresholds": limits,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(rounded(result), indent=1) + "\n")
    print(json.dumps(result["chosen"]), f"{time.process_time() - started:.0f} s of CPU")


if __name__ == "__main__":
    main()
