"""Calibration of probabilities: how far off they are, and Platt scaling safe for rare labels. Imports numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import as_matrix, as_multihot, as_probabilities, as_vector, check_positive, sigmoid

# Gaussian priors, as precisions of (log scale, shift). Those of a label gave the lowest cross-entropy of a grid from
# 0.25 to 64 and 0.25 to 16 on held-out parts of the train and validation splits of three data sets, a shift precision
# of 1 practically the same: `python benchmarks/evaluation_priors.py --encoder FOLDER`, which never reads a test split.
# The pool itself is only kept from running off; there 1e-4 to 1 give the same.
_LABEL_PRECISION = np.array([4.0, 4.0])
_POOL_PRECISION = np.array([0.01, 0.01])
_MAX_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Decisions in bins of equal width over [0, 1]; bins without a decision are left out.

    Attributes:
        mean_probability, positive_rate: float64, one per bin: the predicted and the observed share of positives.
        counts: int64, decisions per bin.
    """

    mean_probability: np.ndarray
    positive_rate: np.ndarray
    counts: np.ndarray


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

    def apply(self, logits: Any) -> np.ndarray:
        """Calibrated logits, float64 N x L, of `logits` N x L."""
        return as_matrix("logits", logits, columns=len(self.scale)) * self.scale + self.shift


def reliability_curve(probabilities: Any, labels: Any, *, num_bins: int = 15) -> ReliabilityCurve:
    """Observed against predicted share of positives, all N x L decisions pooled.

    Args:
        probabilities: N x L numbers in [0, 1].
        labels: N x L multi-hot.

    Raises:
        ValueError: arrays of wrong shape or values, `num_bins` that is no whole number above 0.
    """
    scores = as_probabilities("probabilities", probabilities)
    truth = as_multihot("labels", labels, rows=scores.shape[0], columns=scores.shape[1]).ravel()
    check_positive("num_bins", num_bins, whole=True)
    scores = scores.ravel()
    bins = np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    used = counts > 0
    mean_probability, positive_rate = (
        np.bincount(bins, weights=values, minlength=num_bins)[used] / counts[used] for values in (scores, truth)
    )
    return ReliabilityCurve(mean_probability, positive_rate, counts[used])


def expected_calibration_error(probabilities: Any, labels: Any, *, num_bins: int = 15) -> float:
    """Expected calibration error over all N x L decisions "has this example this label?".

    ECE = sum over bins b of (n_b / NL) * |mean probability in b - share of positives in b|, bins of equal width on the
    probability of the label (Naeini et al. 2015; Guo et al. 2017 with the probability in the place of the confidence).
    With many labels nearly all decisions are clear negatives in the first bin, so small values are normal: compare
    them for one data set only. Arguments and errors as in `reliability_curve`.
    """
    curve = reliability_curve(probabilities, labels, num_bins=num_bins)
    gaps = np.abs(curve.mean_probability - curve.positive_rate)
    return float((curve.counts * gaps).sum() / curve.counts.sum())


def fit_calibration(logits: Any, labels: Any) -> Calibration:
    """Platt scaling of every label, shrunk towards that of all labels together.

    First one (scale, shift) for all labels, then one per label: the minimum of its binary cross-entropy, summed over
    examples, plus a Gaussian penalty on the distance of log scale and shift to those of the pool. Few examples
    therefore stay near the pool, and separable labels do not run off. Labels with positives only or none get exactly
    the pool's. Fit it on data that the classifier was not trained on. Source: Platt 1999, "Probabilistic outputs for
    support vector machines", without its smoothed targets, whose part the prior plays.

    How strong the penalty is was chosen on held-out train and validation data of three data sets, by
    `python benchmarks/evaluation_priors.py --encoder FOLDER`: there the cross-entropy falls to 67 % of that without
    calibration (mean of the data sets), with the scale and shift of the pool alone to 82 %.

    Args:
        logits: N x L, finite.
        labels: N x L multi-hot.

    Raises:
        ValueError: arrays of wrong shape or values.
    """
    scores = as_matrix("logits", logits)
    truth = as_multihot("labels", labels, rows=scores.shape[0], columns=scores.shape[1])
    # Logits of any size are brought to size 1 first, so that one set of starting points serves them all.
    unit = max(float(np.sqrt(np.mean(scores**2))), 1e-12)
    unitless = scores / unit

    pooled, pooled_truth = unitless.reshape(-1, 1), truth.reshape(-1, 1).astype(np.float64)
    centre = np.array([[np.log(unit)], [0.0]])
    starts = np.stack([np.linspace(-3, 5, 17), np.zeros(17)])
    values = [_objective(pooled, pooled_truth, start[:, None], centre, _POOL_PRECISION)[0] for start in starts.T]
    pool = _minimise(pooled, pooled_truth, starts[:, [int(np.argmin(values))]], centre, _POOL_PRECISION)

    parameters = np.repeat(pool, truth.shape[1], axis=1)
    mixed = truth.any(axis=0) & ~truth.all(axis=0)
    if mixed.any():
        parameters[:, mixed] = _minimise(
            unitless[:, mixed], truth[:, mixed].astype(np.float64), parameters[:, mixed], pool, _LABEL_PRECISION
        )
    scale, shift = np.exp(parameters[0]) / unit, parameters[1]
    before = expected_calibration_error(sigmoid(scores), truth)
    after = expected_calibration_error(sigmoid(scores * scale + shift), truth)
    return Calibration(scale, shift, before, after)


def fold_calibration(weight: Any, bias: Any, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Weight (float64, L x feature_dim) and bias (float64, L) of the linear classifier with calibrated logits."""
    rows = as_matrix("weight", weight, rows=len(calibration.scale))
    offsets = as_vector("bias", bias, len(calibration.scale))
    return rows * calibration.scale[:, None], offsets * calibration.scale + calibration.shift


def _objective(
    logits: np.ndarray, targets: np.ndarray, parameters: np.ndarray, centre: np.ndarray, precision: np.ndarray
) -> np.ndarray:
    """Cross-entropy summed over examples plus penalty, one number per label; `parameters` 2 x L: log scale, shift."""
    moved = np.exp(parameters[0]) * logits + parameters[1]
    losses = np.logaddexp(0.0, moved) - targets * moved
    return losses.sum(axis=0) + 0.5 * (precision[:, None] * (parameters - centre) ** 2).sum(axis=0)


def _newton_step(
    logits: np.ndarray, targets: np.ndarray, parameters: np.ndarray, centre: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and step of Fisher scoring (both 2 x L); the expected Hessian is positive, so the step leads down."""
    scaled = np.exp(parameters[0]) * logits
    probabilities = sigmoid(scaled + parameters[1])
    residual, curvature = probabilities - targets, probabilities * (1 - probabilities)
    gradient = np.stack([(residual * scaled).sum(axis=0), residual.sum(axis=0)])
    gradient += precision[:, None] * (parameters - centre)
    both = (curvature * scaled).sum(axis=0)
    first = (curvature * scaled**2).sum(axis=0) + precision[0]
    second = curvature.sum(axis=0) + precision[1]
    determinant = first * second - both**2
    step = np.stack([second * gradient[0] - both * gradient[1], first * gradient[1] - both * gradient[0]])
    return gradient, -step / determinant


def _minimise(
    logits: np.ndarray, targets: np.ndarray, start: np.ndarray, centre: np.ndarray, precision: np.ndarray
) -> np.ndarray:
    """Minimum of `_objective` for every label (2 x L), by damped Fisher scoring of the labels that still move."""
    parameters = start.copy()
    value = _objective(logits, targets, parameters, centre, precision)
    centre = np.broadcast_to(centre, parameters.shape)
    moving = np.arange(parameters.shape[1])
    for _ in range(_MAX_ITERATIONS):
        part = logits[:, moving], targets[:, moving]
        gradient, step = _newton_step(*part, parameters[:, moving], centre[:, moving], precision)
        length = np.ones(len(moving))
        for _ in range(40):
            trial = parameters[:, moving] + length * step
            reached = _objective(*part, trial, centre[:, moving], precision)
            worse = ~(reached <= value[moving] + 1e-4 * length * (gradient * step).sum(axis=0))
            if not worse.any():
                break
            length[worse] /= 2
        better = ~worse
        parameters[:, moving[better]], value[moving[better]] = trial[:, better], reached[better]
        moving = moving[better & (np.abs(length * step).max(axis=0) > 1e-10)]
        if len(moving) == 0:
            break
    return parameters
