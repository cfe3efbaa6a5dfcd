"""Calibration of probabilities: Platt scaling that is safe for rare labels. Imports numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.labels import Labels
from .arrays import as_matrix, as_vector, sigmoid
from .compute_metrics import expected_calibration_error
from .scores import Scores, scores_and_labels

# Gaussian priors, as precisions of (log scale, shift). Those of a label gave the lowest cross-entropy of a grid from
# 0.25 to 64 and 0.25 to 16 on held-out parts of the train and validation splits of three data sets, a shift precision
# of 1 practically the same: `python benchmarks/evaluation_priors.py --encoder FOLDER`, which never reads a test split.
# The pool itself is only kept from running off; there 1e-4 to 1 give the same.
_LABEL_PRECISION = np.array([4.0, 4.0])
_POOL_PRECISION = np.array([0.01, 0.01])
_MAX_ITERATIONS = 100
_POOL_BINS = 2**17
# Below this share of the objective a decrease is lost in rounding, and trying shorter steps would be in vain.
_ROUNDING = 1e-15


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibrated logits are `scale * logits + shift`, label by label.

    Attributes:
        scale: float64, L, positive: the order of the examples of a label never changes.
        shift: float64, L.
        ece_before, ece_after: expected calibration error on the data it was fitted on. `ece_after` is in-sample and
            therefore too good; measure on other data what is to be quoted.
    """

    scale: np.ndarray
    shift: np.ndarray
    ece_before: float
    ece_after: float

    def apply(self, logits: Any) -> Any:
        """Calibrated logits, float64 N x L, of `logits` N x L; `Scores` of such."""
        if isinstance(logits, Scores):
            return logits.scaled(self.scale, self.shift)
        return as_matrix("logits", logits, columns=len(self.scale)) * self.scale + self.shift


def fit_calibration(logits: Any, labels: Any) -> Calibration:
    """Platt scaling of every label, shrunk towards that of all labels together.

    First one (scale, shift) for all labels, then one per label: the minimum of its binary cross-entropy, summed over
    examples, plus a Gaussian penalty on the distance of log scale and shift to those of all labels. Few examples
    therefore stay near these, separable labels do not diverge, and labels with positives only or negatives only get
    exactly these. Missing labels are in no sum. Fit it on data that the classifier was not trained on.

    The penalty was chosen by `python benchmarks/evaluation_priors.py` on held-out training and validation data: with
    the study's classifier the cross-entropy falls to 67 % there, with one scaling for all labels to 82 %.

    Source: Platt 1999, "Probabilistic outputs for support vector machines", with the penalty in the place of its
    smoothed targets.

    Args:
        logits: N x L, finite; or `LinearScores`.
        labels: N x L multi-hot, -100 or NaN where missing, or `Labels`.

    Raises:
        ValueError: arrays of wrong shape or values.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> logits = rng.normal(size=(2000, 2))
        >>> labels = rng.random((2000, 2)) < 1 / (1 + np.exp(-2 * logits))
        >>> fit_calibration(logits, labels).scale.round().tolist()
        [2.0, 2.0]
    """
    scores, labels = scores_and_labels(logits, labels)
    unit, problem = _pooled(scores, labels)
    starts = np.stack([np.linspace(-3, 5, 17), np.zeros(17)])
    pool = problem.minimum(min((start[:, None] for start in starts.T), key=problem.objective))
    parameters = np.repeat(pool, scores.shape[1], axis=1)
    support = labels.counts()
    mixed = np.flatnonzero((support > 0) & (support < labels.known_counts()))
    for ids, columns, truth, known in scores.blocks(labels, mixed):
        start = parameters[:, ids]
        problem = _Problem(columns / unit, truth.astype(np.float64), known, start, _LABEL_PRECISION)
        parameters[:, ids] = problem.minimum(start)
    scale, shift = np.exp(parameters[0]) / unit, parameters[1]
    before = expected_calibration_error(scores, labels)
    after = expected_calibration_error(scores.scaled(scale, shift), labels)
    return Calibration(scale, shift, before, after)


def _pooled(scores: Scores, labels: Labels) -> tuple[float, _Problem]:
    """Root mean square of all known logits, and the problem of all decisions, with logits divided by it, as one label.

    Logits of any size are of size 1 there, so that one set of starting points serves them all. Negatives are replaced
    by their mean in each of very many bins: the error is of the order of the square of a bin's width, 1e-8.
    """
    squares, number, lowest, highest = 0.0, 0, np.inf, -np.inf
    for _, columns, _, known in scores.blocks(labels):
        logits = columns[known]
        squares, number = squares + float((logits**2).sum()), number + logits.size
        lowest, highest = min(lowest, logits.min(initial=np.inf)), max(highest, logits.max(initial=-np.inf))
    unit = max(float(np.sqrt(squares / number)), 1e-12)
    width = max((highest - lowest) / _POOL_BINS, 1e-300)
    counts, sums, positives = np.zeros(_POOL_BINS), np.zeros(_POOL_BINS), []
    for _, columns, truth, known in scores.blocks(labels):
        positives.append(columns[truth])
        negatives = columns[known & ~truth]
        bins = np.minimum(((negatives - lowest) / width).astype(np.int64), _POOL_BINS - 1)
        counts += np.bincount(bins, minlength=_POOL_BINS)
        sums += np.bincount(bins, negatives, _POOL_BINS)
    used, held = counts > 0, np.concatenate(positives)
    values = np.concatenate([sums[used] / counts[used], held])[:, None] / unit
    weights = np.concatenate([counts[used], np.ones(len(held))])[:, None]
    targets = np.concatenate([np.zeros(used.sum()), np.ones(len(held))])[:, None]
    return unit, _Problem(values, targets, weights, np.array([[np.log(unit)], [0.0]]), _POOL_PRECISION)


def fold_calibration(weight: Any, bias: Any, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Weight (float64, L x feature_dim) and bias (float64, L) of the linear classifier with calibrated logits."""
    rows = as_matrix("weight", weight, rows=len(calibration.scale))
    offsets = as_vector("bias", bias, len(calibration.scale))
    return rows * calibration.scale[:, None], offsets * calibration.scale + calibration.shift


@dataclass(frozen=True, eq=False)
class _Problem:
    """For each label the cross-entropy summed over examples, plus a penalty.

    Attributes:
        logits, targets: float64, N x L.
        weights: of the decisions: a number, or N x L.
        centre: 2 x L; the log scale and shift without a penalty.
        precision: 2; of the penalties of both.
    """

    logits: np.ndarray
    targets: np.ndarray
    weights: Any
    centre: np.ndarray
    precision: np.ndarray

    def of_labels(self, ids: np.ndarray) -> _Problem:
        if len(ids) == self.logits.shape[1]:
            return self
        weights = self.weights if np.isscalar(self.weights) else self.weights[:, ids]
        return _Problem(self.logits[:, ids], self.targets[:, ids], weights, self.centre[:, ids], self.precision)

    def objective(self, parameters: np.ndarray) -> np.ndarray:
        """Its value for each label; `parameters` 2 x L: log scale, shift."""
        moved = np.exp(parameters[0]) * self.logits + parameters[1]
        losses = self.weights * (np.logaddexp(0.0, moved) - self.targets * moved)
        return losses.sum(axis=0) + 0.5 * self.precision @ (parameters - self.centre) ** 2

    def newton_step(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and step of Fisher scoring (both 2 x L); the expected Hessian is positive, so it leads down."""
        scaled = np.exp(parameters[0]) * self.logits
        probabilities = sigmoid(scaled + parameters[1])
        residual = self.weights * (probabilities - self.targets)
        curvature = self.weights * probabilities * (1 - probabilities)
        gradient = np.stack([(residual * scaled).sum(axis=0), residual.sum(axis=0)])
        gradient += self.precision[:, None] * (parameters - self.centre)
        both = (curvature * scaled).sum(axis=0)
        first = (curvature * scaled**2).sum(axis=0) + self.precision[0]
        second = curvature.sum(axis=0) + self.precision[1]
        determinant = first * second - both**2
        step = np.stack([second * gradient[0] - both * gradient[1], first * gradient[1] - both * gradient[0]])
        return gradient, -step / determinant

    def minimum(self, start: np.ndarray) -> np.ndarray:
        """The parameters (2 x L) with the lowest value, by damped Fisher scoring of the labels that still move."""
        parameters, value, moving = start.copy(), self.objective(start), np.arange(start.shape[1])
        for _ in range(_MAX_ITERATIONS):
            part = self.of_labels(moving)
            gradient, step = part.newton_step(parameters[:, moving])
            slope, length = (gradient * step).sum(axis=0), np.ones(len(moving))
            last = -slope <= _ROUNDING * value[moving]  # so near to the minimum the full step leads there, untested
            trial, reached, worse = parameters[:, moving] + step, value[moving], np.flatnonzero(~last)
            for _ in range(40):
                trial[:, worse] = parameters[:, moving[worse]] + length[worse] * step[:, worse]
                reached[worse] = part.of_labels(worse).objective(trial[:, worse])
                worse = worse[~(reached <= value[moving] + 1e-4 * length * slope)[worse]]
                if not len(worse):
                    break
                length[worse] /= 2
            better = np.isin(np.arange(len(moving)), worse, invert=True)
            parameters[:, moving[better]], value[moving[better]] = trial[:, better], reached[better]
            moving = moving[better & ~last & (np.abs(length * step).max(axis=0) > 1e-10)]
            if not len(moving):
                break
        return parameters
