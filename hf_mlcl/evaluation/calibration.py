"""Calibration of probabilities: Platt scaling that is safe for rare labels. Imports numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.labels import Labels
from .arrays import as_matrix, as_vector, sigmoid
from .compute_metrics import expected_calibration_error
from .scores import ScaledScores, Scores, scores_and_labels

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
            return ScaledScores(logits, self.scale, self.shift)
        return as_matrix("logits", logits, columns=len(self.scale)) * self.scale + self.shift


def fit_calibration(logits: Any, labels: Any) -> Calibration:
    """Platt scaling of every label, shrunk towards that of all labels together.

    First one (scale, shift) for all labels, then one per label: the minimum of its binary cross-entropy, summed over
    examples, plus a Gaussian penalty on the distance of log scale and shift to those of the pool. Few examples
    therefore stay near the pool, and separable labels do not run off. Labels with positives only or none get exactly
    the pool's. Missing labels are in no sum, of a label or of the pool. Fit it on data that the classifier was not
    trained on. Source: Platt 1999, "Probabilistic outputs for support vector machines", without its smoothed targets,
    whose part the prior plays.

    How strong the penalty is was chosen on held-out train and validation data of three data sets, by
    `python benchmarks/evaluation_priors.py --encoder FOLDER`: there the cross-entropy falls to 67 % of that without
    calibration (mean of the data sets), with the scale and shift of the pool alone to 82 %.

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
    unit, decisions = _pooled(scores, labels)
    # Logits of any size are brought to size 1 first, so that one set of starting points serves them all.
    centre = np.array([[np.log(unit)], [0.0]])
    starts = np.stack([np.linspace(-3, 5, 17), np.zeros(17)])
    values = [decisions.objective(start[:, None], centre, _POOL_PRECISION)[0] for start in starts.T]
    pool = _minimise(decisions, starts[:, [int(np.argmin(values))]], centre, _POOL_PRECISION)

    parameters = np.repeat(pool, scores.shape[1], axis=1)
    support = labels.counts()
    mixed = np.flatnonzero((support > 0) & (support < labels.known_counts()))
    for ids, columns, truth, known in scores.blocks(labels, mixed):
        labelwise = _Decisions(columns / unit, truth.astype(np.float64), known)
        parameters[:, ids] = _minimise(labelwise, parameters[:, ids], pool, _LABEL_PRECISION)
    scale, shift = np.exp(parameters[0]) / unit, parameters[1]
    before = expected_calibration_error(scores, labels)
    after = expected_calibration_error(ScaledScores(scores, scale, shift), labels)
    return Calibration(scale, shift, before, after)


def _pooled(scores: Scores, labels: Labels) -> tuple[float, _Decisions]:
    """Root mean square of all known logits, and all decisions, divided by it, as one column with weights.

    Negatives stand there by their mean in each of very many bins of logits: what that leaves out is of the order of
    the square of a bin's width, 1e-8 of the cross-entropy.
    """
    squares, number, lowest, highest = 0.0, 0, np.inf, -np.inf
    for _, columns, _, known in scores.blocks(labels):
        logits = columns if known is None else columns[known]
        squares, number = squares + float((logits**2).sum()), number + logits.size
        lowest, highest = min(lowest, logits.min(initial=np.inf)), max(highest, logits.max(initial=-np.inf))
    unit = max(float(np.sqrt(squares / number)), 1e-12)
    width = max((highest - lowest) / _POOL_BINS, 1e-300)
    counts, sums, positives = np.zeros(_POOL_BINS), np.zeros(_POOL_BINS), []
    for _, columns, truth, known in scores.blocks(labels):
        positives.append(columns[truth])
        negatives = columns[~truth if known is None else known & ~truth]
        bins = np.minimum(((negatives - lowest) / width).astype(np.int64), _POOL_BINS - 1)
        counts += np.bincount(bins, minlength=_POOL_BINS)
        sums += np.bincount(bins, negatives, _POOL_BINS)
    used, held = counts > 0, np.concatenate(positives)
    values = np.concatenate([sums[used] / counts[used], held])[:, None] / unit
    weights = np.concatenate([counts[used], np.ones(len(held))])[:, None]
    targets = np.concatenate([np.zeros(used.sum()), np.ones(len(held))])[:, None]
    return unit, _Decisions(values, targets, weights)


def fold_calibration(weight: Any, bias: Any, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Weight (float64, L x feature_dim) and bias (float64, L) of the linear classifier with calibrated logits."""
    rows = as_matrix("weight", weight, rows=len(calibration.scale))
    offsets = as_vector("bias", bias, len(calibration.scale))
    return rows * calibration.scale[:, None], offsets * calibration.scale + calibration.shift


@dataclass(frozen=True, eq=False)
class _Decisions:
    """Logits and targets, float64 N x L, and which of them are `known` (bool, or their weights; None: all)."""

    logits: np.ndarray
    targets: np.ndarray
    known: np.ndarray | None = None

    def of_labels(self, labels: np.ndarray) -> _Decisions:
        known = None if self.known is None else self.known[:, labels]
        return _Decisions(self.logits[:, labels], self.targets[:, labels], known)

    def objective(self, parameters: np.ndarray, centre: np.ndarray, precision: np.ndarray) -> np.ndarray:
        """Cross-entropy summed over examples plus penalty, per label; `parameters` 2 x L: log scale, shift."""
        moved = np.exp(parameters[0]) * self.logits + parameters[1]
        losses = np.logaddexp(0.0, moved) - self.targets * moved
        if self.known is not None:
            losses *= self.known
        return losses.sum(axis=0) + 0.5 * (precision[:, None] * (parameters - centre) ** 2).sum(axis=0)

    def newton_step(
        self, parameters: np.ndarray, centre: np.ndarray, precision: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and step of Fisher scoring (both 2 x L); the expected Hessian is positive, so it leads down."""
        scaled = np.exp(parameters[0]) * self.logits
        probabilities = sigmoid(scaled + parameters[1])
        residual, curvature = probabilities - self.targets, probabilities * (1 - probabilities)
        if self.known is not None:
            residual *= self.known
            curvature *= self.known
        gradient = np.stack([(residual * scaled).sum(axis=0), residual.sum(axis=0)])
        gradient += precision[:, None] * (parameters - centre)
        both = (curvature * scaled).sum(axis=0)
        first = (curvature * scaled**2).sum(axis=0) + precision[0]
        second = curvature.sum(axis=0) + precision[1]
        determinant = first * second - both**2
        step = np.stack([second * gradient[0] - both * gradient[1], first * gradient[1] - both * gradient[0]])
        return gradient, -step / determinant


def _minimise(decisions: _Decisions, start: np.ndarray, centre: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Minimum of the objective for every label (2 x L), by damped Fisher scoring of the labels that still move."""
    parameters = start.copy()
    value = decisions.objective(parameters, centre, precision)
    centre = np.broadcast_to(centre, parameters.shape)
    moving = np.arange(parameters.shape[1])
    for _ in range(_MAX_ITERATIONS):
        part = decisions if len(moving) == len(value) else decisions.of_labels(moving)
        gradient, step = part.newton_step(parameters[:, moving], centre[:, moving], precision)
        slope = (gradient * step).sum(axis=0)
        last = -slope <= _ROUNDING * value[moving]  # so near to the minimum the full step leads there, untested
        trial, reached = parameters[:, moving] + step, value[moving]
        length = np.ones(len(moving))
        worse = np.flatnonzero(~last)
        for _ in range(40):
            tried = part if len(worse) == len(moving) else part.of_labels(worse)
            trial[:, worse] = parameters[:, moving[worse]] + length[worse] * step[:, worse]
            reached[worse] = tried.objective(trial[:, worse], centre[:, moving[worse]], precision)
            worse = worse[~(reached[worse] <= value[moving[worse]] + 1e-4 * (length * slope)[worse])]
            if len(worse) == 0:
                break
            length[worse] /= 2
        better = np.ones(len(moving), dtype=bool)
        better[worse] = False
        parameters[:, moving[better]], value[moving[better]] = trial[:, better], reached[better]
        moving = moving[better & ~last & (np.abs(length * step).max(axis=0) > 1e-10)]
        if len(moving) == 0:
            break
    return parameters
