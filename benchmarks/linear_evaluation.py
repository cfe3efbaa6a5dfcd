"""The classifier on features: its time against a loop over scikit-learn, and against the study's grid.

    python benchmarks/linear_evaluation.py [--output FILE]

`fit_logistic_regression` fits all labels at the seven strengths that `fit_classifier` tries. Beside it scikit-learn's
`LogisticRegression` (L-BFGS) fits one label and one strength at a time: with its defaults, in float32 as the features
are, which leaves weights up to some tenths from the solution; and in float64 with the loosest tol of 1e-5, 1e-6, ...
that brings weights of standardised features within 1e-4 of it, where ours are. The loop is run on some labels, of
evenly spread frequency, and its time multiplied. `errors` are the largest distances of weights and intercepts from
scikit-learn's Newton-Cholesky solver in float64, of these labels at all strengths.

`classifier` is all of `fit_classifier`: strengths, five folds, the fit on both splits, calibration, thresholds. `grid`
is the study's linear evaluation (8 grid points, 3 initialisations, 40 epochs) alone.

One thread; seconds of the processor (`time.process_time`), which leaves out what else the machine does; the sides take
turns, the median of the repetitions. Features have the spectrum of an encoder's: deviations of the principal axes fall
like 1/k**0.7; labels depend on them, and their frequencies fall from a third to a few examples.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.linear_model import LogisticRegression

from hf_mlcl.evaluation import fit_classifier, fit_linear_evaluation
from hf_mlcl.evaluation.logistic_regression import fit_logistic_regression
from hf_mlcl.evaluation.probe import RELATIVE_STRENGTHS

# Training and validation examples, feature_dim, labels.
CASES = [(2000, 500, 384, 90), (10_000, 1000, 768, 100)]
TOLERANCES = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)


def make_data(rows: int, width: int, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(0)
    axes = np.linalg.qr(chance.standard_normal((width, width)))[0] * np.arange(1, width + 1)[:, None] ** -0.7
    hidden = chance.standard_normal((rows, width))
    scores = hidden @ (chance.standard_normal((width, num_labels)) * np.arange(1, width + 1)[:, None] ** -0.7)
    scores = scores / scores.std(axis=0) + 0.5 * chance.standard_normal(scores.shape)
    shares = np.geomspace(1 / 3, 6 / rows, num_labels)
    return (hidden @ axes).astype(np.float32), scores > np.quantile(scores, 1 - shares, axis=0).diagonal()


def scikit_learn(features: np.ndarray, labels: np.ndarray, strengths: np.ndarray, **options: Any) -> np.ndarray:
    """Weights and intercept of each label and strength, L x S x (d + 1)."""
    return np.array(
        [
            [np.append(fit.coef_[0], fit.intercept_) for fit in (_fit(features, label, s, options) for s in strengths)]
            for label in labels.T
        ]
    )


def _fit(features: np.ndarray, label: np.ndarray, strength: float, options: dict[str, Any]) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that rounding stops it before its tolerance
        return LogisticRegression(C=1 / float(strength), max_iter=10_000, **options).fit(features, label)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = run()
    return time.process_time() - started, result


def measure(train_rows: int, validation_rows: int, width: int, num_labels: int, repeats: int, shown: int) -> dict:
    features, labels = make_data(train_rows + validation_rows, width, num_labels)
    train, held_out = (features[:train_rows], labels[:train_rows]), (features[train_rows:], labels[train_rows:])
    strengths = np.array(RELATIVE_STRENGTHS) * width
    mean, deviation = train[0].mean(axis=0, dtype=np.float64), train[0].std(axis=0, dtype=np.float64)
    scaled = (train[0] - mean) / deviation
    some = np.linspace(0, num_labels - 1, shown).astype(int)
    scaled32 = scaled.astype(np.float32)

    exact = scikit_learn(scaled, train[1][:, some], strengths, tol=1e-10, solver="newton-cholesky")
    weights, biases = fit_logistic_regression(*train, strengths)
    ours = np.concatenate([weights * deviation, (biases + weights @ mean)[..., None]], axis=-1)[:, some]
    default = scikit_learn(scaled32, train[1][:, some], strengths)
    errors = {"ours": float(np.abs(ours.transpose(1, 0, 2) - exact).max())}
    errors["scikit_learn_default"] = float(np.abs(default - exact).max())
    for tolerance in TOLERANCES:
        found = scikit_learn(scaled, train[1][:, some], strengths, tol=tolerance)
        errors[f"scikit_learn, tol {tolerance:g}"] = float(np.abs(found - exact).max())
        if errors[f"scikit_learn, tol {tolerance:g}"] <= 1e-4:
            break

    sides: dict[str, tuple[Callable[[], Any], float]] = {
        "logistic_regression": (lambda: fit_logistic_regression(*train, strengths), 1.0),
        "scikit_learn": (
            lambda: scikit_learn(scaled, train[1][:, some], strengths, tol=tolerance),
            num_labels / shown,
        ),
        "scikit_learn_default": (
            lambda: scikit_learn(scaled32, train[1][:, some], strengths),
            num_labels / shown,
        ),
        "classifier": (lambda: fit_classifier(*train, *held_out), 1.0),
        "grid": (lambda: fit_linear_evaluation(*train, *held_out, progress=False), 1.0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, (run, factor) in sides.items():
            seconds[name].append(timed(run)[0] * factor)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "examples": train_rows,
        "validation_examples": validation_rows,
        "feature_dim": width,
        "labels": num_labels,
        "strengths": len(strengths),
        "labels_of_the_loop": shown,
        "cpu_seconds": median,
        "errors": errors,
        "scikit_learn_tol": tolerance,
        "scikit_learn_over_ours": median["scikit_learn"] / median["logistic_regression"],
        "scikit_learn_default_over_ours": median["scikit_learn_default"] / median["logistic_regression"],
        "grid_over_classifier": median["grid"] / median["classifier"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shown", type=int, default=8, help="Labels of the loop over scikit-learn.")
    parser.add_argument("--output")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        shown = options.shown if case == CASES[0] else max(1, options.shown // 4)  # scikit-learn takes long there
        rows.append(measure(*case, options.repeats, shown))
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "rows": rows,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "scikit_learn": sklearn.__version__,
    }
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
