"""A cheap classifier in closed form, for scores before the real classifier is fitted. Imports numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import as_array, as_matrix, sigmoid, split_labels
from .label_blocks import LabelScores, are_lists, labelled
from .thresholds import tune_thresholds

if TYPE_CHECKING:
    from ..data.label_lists import LabelLists

# Ridge strengths, in units of the mean eigenvalue of the features' scatter matrix.
_RELATIVE_STRENGTHS = np.logspace(-3, 3, 13)


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier: predict label l where sigmoid(features @ weight[l] + bias[l]) >= thresholds[l].

    Attributes:
        weight: float64 (of label lists float32), L x feature_dim.
        bias: float64, L.
        thresholds: float64, L.
        strength: the ridge penalty that was chosen.
        leave_one_out_logits: float64, N x L (of label lists an object that makes them in blocks); for each training
            example those of the probe fitted without it (at the chosen strength and, where standardised, with the
            deviations of all examples); for an example without any known label those of the probe.
    """

    weight: np.ndarray
    bias: np.ndarray
    thresholds: np.ndarray
    strength: float
    leave_one_out_logits: Any


def fit_probe(features: Any, labels: Any, *, standardize: bool = True) -> Probe:
    """Ridge regression of the labels on the features, its strength and thresholds chosen by leave-one-out.

    Features are centred (the intercept is not penalised) and, if `standardize`, divided by their standard deviations.
    The strength with the smallest squared leave-one-out error over all examples and labels is taken; errors and
    predictions are exact and cost nothing extra: y_i - f_(-i)(x_i) = (y_i - f(x_i)) / (1 - H_ii), H the hat matrix
    (Golub, Heath and Wahba 1979). Logits are 4 (score - 0.5), so the sigmoid rises with the score, is 0.5
    where the score is 0.5 and has slope 1 there. Thresholds: `tune_thresholds` on the leave-one-out predictions.

    An unknown label counts as the mean of the label's known values, which keeps one decomposition for all labels: the
    probe is ridge regression on these filled-in targets, and pulls the scores of a label towards its mean by about the
    share of its unknown examples. The choice of the strength and the thresholds look at known entries only. Examples
    without any known label are left out first; a label without any known example counts as absent.

    One eigendecomposition of the smaller of the two Gram matrices: meant for N up to a few thousand.

    Args:
        features: N x feature_dim, finite, N of at least 2.
        labels: N x L multi-hot, -100 or NaN where unknown; or `LabelLists`.

    Raises:
        ValueError: arrays of wrong shape or values, or fewer than 2 examples with a known label.
    """
    if are_lists(labels):
        return _fit_in_blocks(as_matrix("features", features, rows=len(labels)), labels, standardize)
    everything = inputs = as_matrix("features", features)
    labels = as_array("labels", labels)
    truth, known = split_labels("labels", labels, rows=len(inputs))
    used = np.flatnonzero(np.ones(len(inputs)) if known is None else known.any(axis=1))
    if known is not None:
        inputs, labels, truth, known = inputs[used], labels[used], truth[used], known[used]
    ridge = _Ridge.of(inputs, standardize)
    targets = truth.astype(np.float64)
    base_rate = targets.mean(axis=0)
    if known is not None:
        base_rate = targets.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        targets = np.where(known, targets, base_rate)
    best_error, strength, scores = np.inf, 0.0, targets
    projected = ridge.basis.T @ (targets - base_rate)
    for candidate in ridge.strengths:
        residual = ridge.left_out_errors(targets, base_rate, projected, candidate)
        error = float(((residual if known is None else residual[known]) ** 2).sum())
        if error < best_error:
            best_error, strength, scores = error, float(candidate), targets - residual

    weight, bias = ridge.classifier(base_rate, projected, strength)
    logits = 4 * (scores - 0.5)
    thresholds = tune_thresholds(sigmoid(logits), labels).per_label
    if len(used) < len(everything):
        left_out, logits = logits, everything @ weight.T + bias
        logits[used] = left_out
    return Probe(weight, bias, thresholds, strength, logits)


def _fit_in_blocks(features: np.ndarray, labels: LabelLists, standardize: bool) -> Probe:
    """`fit_probe` of label lists; a label that no example has gets the weight 0 and the logit -2."""
    features, labels = labelled(features, labels)
    ridge = _Ridge.of(features, standardize)
    scores = _LeftOut(ridge, labels)
    present = np.flatnonzero(scores.present)
    errors = np.zeros(len(ridge.strengths))
    for _, targets, base_rate, projected in scores.targets(present):
        for index, candidate in enumerate(ridge.strengths):
            errors[index] += (ridge.left_out_errors(targets, base_rate, projected, candidate) ** 2).sum()
    scores.strength = float(ridge.strengths[errors.argmin()])
    weight, bias = np.zeros((labels.shape[1], features.shape[1]), np.float32), np.full(labels.shape[1], -2.0)
    for ids, _, base_rate, projected in scores.targets(present):
        weight[ids], bias[ids] = ridge.classifier(base_rate, projected, scores.strength)
    return Probe(weight, bias, tune_thresholds(scores, labels).per_label, scores.strength, scores)


@dataclass(frozen=True, eq=False)
class _Ridge:
    """Ridge regressions on the same features: a decomposition, from which every strength and label follows.

    Attributes:
        centred: N x feature_dim, centred and divided by the deviations.
        mean, factor: feature_dim; `(features - mean) * factor` is `centred`.
        basis, eigenvalues: see `_left_basis`.
        strengths: the penalties that are tried.
    """

    centred: np.ndarray
    mean: np.ndarray
    factor: np.ndarray
    basis: np.ndarray
    eigenvalues: np.ndarray
    strengths: np.ndarray

    @classmethod
    def of(cls, inputs: np.ndarray, standardize: bool) -> _Ridge:
        if len(inputs) < 2:
            raise ValueError(f"features: expected at least 2 examples with a known label, got {len(inputs)}")
        mean = inputs.mean(axis=0)
        centred = inputs - mean
        # A feature that does not vary says nothing; what rounding left of it must not be blown up.
        deviation = centred.std(axis=0)
        varies = deviation > 1e-7 * (np.abs(mean) + 1e-30)
        factor = np.where(varies, 1 / np.where(varies & standardize, deviation, 1.0), 0.0)
        centred *= factor
        basis, eigenvalues = _left_basis(centred)
        unit = eigenvalues.sum() / max(min(centred.shape), 1)
        return cls(centred, mean, factor, basis, eigenvalues, _RELATIVE_STRENGTHS * (unit if unit > 0 else 1.0))

    def left_out_errors(
        self, targets: np.ndarray, base_rate: np.ndarray, projected: np.ndarray, strength: float
    ) -> np.ndarray:
        """Targets (N, l) minus what the regression without that example predicts.

        Args:
            targets: (N, l) numbers.
            base_rate: (l,) what is predicted without features.
            projected: `basis.T @ (targets - base_rate)`.
            strength: The penalty.
        """
        shrink = self.eigenvalues / (self.eigenvalues + strength)
        fitted = base_rate + self.basis @ (shrink[:, None] * projected)
        leverage = 1 / len(targets) + self.basis**2 @ shrink
        return (targets - fitted) / (1 - leverage)[:, None]

    def classifier(
        self, base_rate: np.ndarray, projected: np.ndarray, strength: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weight (l, feature_dim) and bias (l) of the logits 4 (score - 0.5)."""
        dual = self.basis @ (projected / (self.eigenvalues + strength)[:, None])
        weight = 4 * (self.centred.T @ dual).T * self.factor
        return weight, 4 * (base_rate - 0.5) - weight @ self.mean


class _LeftOut(LabelScores):
    """Logits of each example by the ridge regression without it."""

    def __init__(self, ridge: _Ridge, labels: LabelLists) -> None:
        self.ridge, self.labels, self.strength = ridge, labels, 0.0
        self.shape, self.present = labels.shape, labels.counts() > 0

    def targets(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """Blocks of labels: their ids, float64 (N, l) who has them, how many do, and `projected`."""
        for part in self.id_blocks(ids):
            targets = self.labels.by_label[:, part].toarray().astype(np.float64)
            base_rate = targets.mean(axis=0)
            yield part, targets, base_rate, self.ridge.basis.T @ (targets - base_rate)

    def columns(self, ids: np.ndarray) -> np.ndarray:
        """Logits of some labels, float64 (N, len(ids))."""
        logits = np.full((self.shape[0], len(ids)), -2.0)
        had = np.flatnonzero(self.present[ids])
        start = 0
        for part, targets, base_rate, projected in self.targets(ids[had]):
            errors = self.ridge.left_out_errors(targets, base_rate, projected, self.strength)
            logits[:, had[start : start + len(part)]] = 4 * (targets - errors - 0.5)
            start += len(part)
        return logits


def _left_basis(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (N x rank) and squared singular values (rank) of `matrix`, by its smaller Gram matrix."""
    wide = matrix.shape[0] <= matrix.shape[1]
    eigenvalues, vectors = np.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    kept = eigenvalues > 1e-12 * max(eigenvalues[-1], 1e-300)
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    return vectors if wide else matrix @ vectors / np.sqrt(eigenvalues), eigenvalues
