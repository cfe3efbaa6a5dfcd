"""Calibration of probabilities: how far off they are, and Platt scaling safe for rare labels. Imports numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import as_array, as_matrix, as_probabilities, as_vector, check_positive, sigmoid, split_labels
from .label_blocks import LabelScores, LinearScores, labelled

if TYPE_CHECKING:
    from ..data.label_lists import LabelLists

# Gaussian priors, as precisions of (log scale, shift). Those of a label gave the lowest cross-entropy of a grid from
# 0.25 to 64 and 0.25 to 16 on held-out parts of the train and validation splits of three data sets, a shift precision
# of 1 practically the same: `python benchmarks/evaluation_priors.py --encoder FOLDER`, which never reads a test split.
# The pool itself is only kept from running off; there 1e-4 to 1 give the same.
_LABEL_PRECISION = np.array([4.0, 4.0])
_POOL_PRECISION = np.array([0.01, 0.01])
_MAX_ITERATIONS = 100
_POOL_BINS = 2**17  # of label lists
# Below this share of the objective a decrease is lost in rounding, and trying shorter steps would be in vain.
_ROUNDING = 1e-15


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Known decisions in bins of equal width over [0, 1]; bins without one are left out.

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

    def apply(self, logits: Any) -> Any:
        """Calibrated logits, float64 N x L, of `logits` N x L; `LinearScores` of such."""
        if isinstance(logits, LinearScores):
            return LinearScores(logits.features, *fold_calibration(logits.weight, logits.bias, self))
        return as_matrix("logits", logits, columns=len(self.scale)) * self.scale + self.shift


def reliability_curve(probabilities: Any, labels: Any, *, num_bins: int = 15) -> ReliabilityCurve:
    """Observed against predicted share of positives, all N x L decisions pooled, those of unknown labels left out.

    Args:
        probabilities: N x L numbers in [0, 1]; or `LinearScores` (of logits), beside `LabelLists`.
        labels: N x L multi-hot, -100 or NaN where unknown.

    Raises:
        ValueError: arrays of wrong shape or values, `num_bins` that is no whole number above 0.
    """
    check_positive("num_bins", num_bins, whole=True)
    if isinstance(probabilities, LabelScores):
        logits, lists = labelled(probabilities, labels)
        bins = np.zeros((3, num_bins))
        for _, part, truth in logits.blocks(lists):
            bins += _bins(sigmoid(part).ravel(), truth.ravel(), num_bins)
        counts, scores, positives = bins
    else:
        array = as_probabilities("probabilities", probabilities)
        truth, known = split_labels("labels", labels, rows=array.shape[0], columns=array.shape[1])
        every = slice(None) if known is None else known
        counts, scores, positives = _bins(array[every].ravel(), truth[every].ravel(), num_bins)
    used = counts > 0
    return ReliabilityCurve(scores[used] / counts[used], positives[used] / counts[used], counts[used].astype(np.int64))


def _bins(probabilities: np.ndarray, truth: np.ndarray, num_bins: int) -> np.ndarray:
    """Number of decisions, sum of their probabilities, and number of positives in each bin: float64 (3, num_bins)."""
    bins = np.minimum((probabilities * num_bins).astype(np.int64), num_bins - 1)
    return np.stack([np.bincount(bins, weights, num_bins) for weights in (None, probabilities, truth)])


def expected_calibration_error(probabilities: Any, labels: Any, *, num_bins: int = 15) -> float:
    """Expected calibration error over all n = NL decisions "has this example this label?", or over the known ones.

    ECE = sum over bins b of (n_b / n) * |mean probability in b - share of positives in b|, bins of equal width on the
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
    the pool's. Unknown labels are in no sum, of a label or of the pool. Fit it on data that the classifier was not
    trained on. Source: Platt 1999, "Probabilistic outputs for support vector machines", without its smoothed targets,
    whose part the prior plays.

    How strong the penalty is was chosen on held-out train and validation data of three data sets, by
    `python benchmarks/evaluation_priors.py --encoder FOLDER`: there the cross-entropy falls to 67 % of that without
    calibration (mean of the data sets), with the scale and shift of the pool alone to 82 %.

    Args:
        logits: N x L, finite; or `LinearScores`.
        labels: N x L multi-hot, -100 or NaN where unknown; `LabelLists` beside `LinearScores`.

    Raises:
        ValueError: arrays of wrong shape or values.
    """
    if isinstance(logits, LinearScores):
        return _fit_in_blocks(*labelled(logits, labels))
    scores = as_matrix("logits", logits)
    labels = as_array("labels", labels)
    truth, known = split_labels("labels", labels, rows=scores.shape[0], columns=scores.shape[1])
    every = slice(None) if known is None else known
    # Logits of any size are brought to size 1 first, so that one set of starting points serves them all.
    unit = max(float(np.sqrt(np.mean(scores[every] ** 2))), 1e-12)
    unitless, targets = scores / unit, truth.astype(np.float64)

    pool = _pool(_Decisions(unitless[every].reshape(-1, 1), targets[every].reshape(-1, 1)), unit)
    parameters = np.repeat(pool, truth.shape[1], axis=1)
    mixed = np.asarray(truth.any(axis=0) & (~truth if known is None else known & ~truth).any(axis=0))
    if mixed.any():
        labelwise = _Decisions(unitless, targets, known).of_labels(mixed)
        parameters[:, mixed] = _minimise(labelwise, parameters[:, mixed], pool, _LABEL_PRECISION)
    scale, shift = np.exp(parameters[0]) / unit, parameters[1]
    before = expected_calibration_error(sigmoid(scores), labels)
    after = expected_calibration_error(sigmoid(scores * scale + shift), labels)
    return Calibration(scale, shift, before, after)


def _pool(decisions: _Decisions, unit: float) -> np.ndarray:
    """Log scale and shift (2 x 1) of all decisions together, on logits of size 1 that were divided by `unit`."""
    centre = np.array([[np.log(unit)], [0.0]])
    starts = np.stack([np.linspace(-3, 5, 17), np.zeros(17)])
    values = [decisions.objective(start[:, None], centre, _POOL_PRECISION)[0] for start in starts.T]
    return _minimise(decisions, starts[:, [int(np.argmin(values))]], centre, _POOL_PRECISION)


def _fit_in_blocks(scores: LinearScores, labels: LabelLists) -> Calibration:
    """`fit_calibration` of label lists. The pool holds negatives by their mean in each of very many bins of logits:
    what that leaves out is of the order of the square of a bin's width, 1e-8 of the cross-entropy."""
    squares, lowest, highest = 0.0, np.inf, -np.inf
    for _, logits, _ in scores.blocks(labels):
        squares += float((logits**2).sum())
        lowest, highest = min(lowest, logits.min()), max(highest, logits.max())
    unit = max(float(np.sqrt(squares / (scores.shape[0] * scores.shape[1]))), 1e-12)
    width = max((highest - lowest) / _POOL_BINS, 1e-300)
    counts, sums, positives = np.zeros(_POOL_BINS), np.zeros(_POOL_BINS), []
    for _, logits, truth in scores.blocks(labels):
        positives.append(logits[truth])
        negatives = logits[~truth]
        bins = np.minimum(((negatives - lowest) / width).astype(np.int64), _POOL_BINS - 1)
        counts += np.bincount(bins, minlength=_POOL_BINS)
        sums += np.bincount(bins, negatives, _POOL_BINS)
    used, held = counts > 0, np.concatenate(positives)
    values = np.concatenate([sums[used] / counts[used], held])[:, None] / unit
    weights = np.concatenate([counts[used], np.ones(len(held))])[:, None]
    targets = np.concatenate([np.zeros(used.sum()), np.ones(len(held))])[:, None]
    pool = _pool(_Decisions(values, targets, weights), unit)

    parameters = np.repeat(pool, scores.shape[1], axis=1)
    support = labels.counts()
    for ids, logits, truth in scores.blocks(labels, np.flatnonzero((support > 0) & (support < len(labels)))):
        labelwise = _Decisions(logits / unit, truth.astype(np.float64))
        parameters[:, ids] = _minimise(labelwise, parameters[:, ids], pool, _LABEL_PRECISION)
    scale, shift = np.exp(parameters[0]) / unit, parameters[1]
    fitted = Calibration(scale, shift, expected_calibration_error(scores, labels), 0.0)
    return replace(fitted, ece_after=expected_calibration_error(fitted.apply(scores), labels))


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
