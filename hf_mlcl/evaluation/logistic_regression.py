"""L2-regularised logistic regression of many labels at once, solved exactly. Imports numpy and torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.labels import Labels
from .arrays import as_labels, as_matrix, check_positive

logger = logging.getLogger(__name__)

# Numbers in one array of examples x problems: 16 MB in float32. About eight of them exist at a time.
_MAX_NUMBERS = 2**22
_BLOCK_ROWS = 2**14  # rows of features that are read and standardised at once
_CHUNK_NUMBERS = 2**17  # numbers that are worked on at once where several operations follow each other: fits a cache
_HISTORY = 10
_MAX_ITERATIONS = 400
# A problem is solved when a step of Newton's method with the diagonal of the Hessian would move no parameter further.
_TOLERANCE = 1e-6
_PATIENCE = 60  # iterations without a smaller such step: rounding leaves no more to gain
_FAR = 1e-3  # a step that is worth a warning where the iterations end


def fit_logistic_regression(
    features: Any, labels: Any, strengths: Sequence[float], *, device: str | torch.device = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression of every label at every strength of its L2 penalty.

    It is what scikit-learn's `StandardScaler` and `LogisticRegression(C=1 / strength)` do for each label, on the
    examples of which it is known; the results agree to 1e-4. Features that hardly vary get the weight 0. A label that
    all known examples have, or none, gets zero weights and the log-odds ln((p + 0.5) / (n + 0.5)) of its p positives
    and n negatives; a label without a known example those of all labels together.

    Args:
        features: N x d, finite; a `numpy.memmap` of float32 stays in its file.
        labels: N x L multi-hot, -100 or NaN where missing, or `Labels`.
        strengths: S positive numbers.
        device: Where to compute, in float32.

    Returns:
        Weights (S x L x d) and biases (S x L), float32, for the features as they were given.

    Raises:
        ValueError: Arrays of wrong shape or values, or a strength that is not positive.

    Example:
        >>> import numpy as np
        >>> features = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> weight, bias = fit_logistic_regression(features, [[0], [0], [1], [1]], strengths=[1.0])
        >>> (features @ weight[0].T + bias[0] > 0).astype(int).ravel().tolist()
        [0, 0, 1, 1]
    """
    if isinstance(strengths, (int, float)) or not len(strengths):
        raise ValueError(f"strengths: expected a list of positive numbers, got {strengths!r}")
    for strength in strengths:
        check_positive("strengths", strength)
    rows = as_matrix("features", features, dtype=np.float32)
    labels = as_labels("labels", labels, rows=len(rows))
    weight = np.empty((len(strengths), labels.shape[1], rows.shape[1]), dtype=np.float32)
    bias = np.empty(weight.shape[:2], dtype=np.float32)
    with full_precision(device):
        inputs = Inputs.of([rows], device=device)
        problem = Problem(inputs, labels)
        for ids in problem.blocks(np.arange(labels.shape[1]), len(strengths)):
            each = torch.tensor(list(map(float, strengths)))[:, None].expand(-1, len(ids))
            weight[:, ids], bias[:, ids] = inputs.original(problem.solve(ids, each))
    return weight, bias


@contextmanager
def full_precision(device: str | torch.device) -> Iterator[None]:
    """Computes in the precision of the tensors and keeps no gradients, whatever is set around it."""
    with torch.no_grad(), torch.autocast(torch.device(device).type, enabled=False):
        yield


@dataclass(frozen=True, eq=False)
class Inputs:
    """Standardised features in the basis of their principal axes, where the penalty is the same and problems are easy.

    Attributes:
        parts: The features, float32 arrays of N1, N2, ... rows.
        mean, factor: float64, d; standardised features are `(features - mean) * factor`.
        rotation: float32, d x r, with orthonormal columns.
        sizes: float32, r; the sum of squares of each rotated feature.
        rows: float32, N x r, the rotated features; None where they stay in files.
    """

    parts: Sequence[np.ndarray]
    mean: np.ndarray
    factor: np.ndarray
    rotation: Tensor
    sizes: Tensor
    rows: Tensor | None

    @classmethod
    def of(cls, parts: Sequence[np.ndarray], *, device: str | torch.device) -> Inputs:
        """Standardises all parts by mean and deviation of the first."""
        first = parts[0]
        mean = np.sum([block.sum(axis=0, dtype=np.float64) for block in _blocks(first)], axis=0) / len(first)
        squares = np.sum([((block - mean) ** 2).sum(axis=0) for block in _blocks(first)], axis=0)
        deviation = np.sqrt(squares / len(first))
        # What rounding leaves of a feature that does not vary must not be blown up: some dimensions of
        # all-MiniLM-L6-v2 are of the order of 1e-9 or 1e-32.
        varies = deviation > np.maximum(1e-7 * np.abs(mean), 1e-6 * deviation.max())
        factor = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
        unrotated = torch.empty(0, device=device)
        inputs = cls(parts, mean, factor, unrotated, unrotated, None)
        gram = unrotated.new_zeros(len(mean), len(mean))
        for block in inputs.standardised():
            gram += block.T @ block
        sizes, rotation = torch.linalg.eigh(gram.cpu().double())  # some accelerators have no float64
        # Weights lie in the space of the examples: its axes are the last ones, the others have no size.
        sizes, rotation = sizes[-len(inputs) :], rotation[:, -len(inputs) :]
        sizes, rotation = sizes.clamp(min=0).float().to(device), rotation.float().to(device)
        rows = None
        if not any(in_file(part) for part in parts):
            rows, start = unrotated.new_empty(len(inputs), len(sizes)), 0
            for block in inputs.standardised():
                torch.mm(block, rotation, out=rows[start : start + len(block)])
                start += len(block)
        return cls(parts, mean, factor, rotation, sizes, rows)

    def standardised(self) -> Iterator[Tensor]:
        """Blocks of standardised features, not rotated."""
        for part in self.parts:
            for block in _blocks(part):
                yield torch.from_numpy(((block - self.mean) * self.factor).astype(np.float32)).to(self.rotation.device)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def times(self, parameters: Tensor) -> Tensor:
        """Logits, N x P, of P columns of weights of the rotated features, below them their biases."""
        weight, bias = parameters[:-1], parameters[-1]
        if self.rows is not None:
            return torch.addmm(bias, self.rows, weight)
        weight = self.rotation @ weight
        return torch.cat([torch.addmm(bias, block, weight) for block in self.standardised()])

    def transposed_times(self, values: Tensor) -> Tensor:
        """Sums over the examples of each rotated feature, and of 1, times values N x P: (r + 1) x P."""
        total = values.sum(dim=0, keepdim=True)
        if self.rows is not None:
            return torch.cat([self.rows.T @ values, total])
        result, start = values.new_zeros(len(self.rotation), values.shape[1]), 0
        for block in self.standardised():
            result = result + block.T @ values[start : start + len(block)]
            start += len(block)
        return torch.cat([self.rotation.T @ result, total])

    def directions(self, points: np.ndarray) -> Tensor:
        """Weights, r x P, along which points (P x d) lie apart from their mean, by which logits vary by 1; 0 for a
        point that does not lie apart."""
        scaled = points * self.factor
        apart = scaled - scaled.mean(axis=0)
        apart[np.linalg.norm(apart, axis=1) < 1e-4 * np.linalg.norm(scaled, axis=1)] = 0
        weights = self.rotation.T @ torch.from_numpy(apart.T.astype(np.float32)).to(self.rotation.device)
        deviations = (weights**2 * (self.sizes / len(self))[:, None]).sum(dim=0).sqrt()
        return torch.where(deviations > 0, weights / deviations, 0)

    def original(self, parameters: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Weights (..., d) and biases (...) for the features as they were given; of parameters (r + 1) x (...)."""
        flat = parameters.flatten(1).cpu().double()
        weight = (self.rotation.cpu().double() @ flat[:-1]).numpy() * self.factor[:, None]
        bias = flat[-1].numpy() - self.mean @ weight
        shape = parameters.shape[1:]
        return weight.T.reshape(*shape, -1).astype(np.float32), bias.reshape(shape).astype(np.float32)


def in_file(array: Any) -> bool:
    """Whether an array lies in a file: it, or what it is a view of, is a `numpy.memmap`."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def _blocks(part: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(part), _BLOCK_ROWS):
        yield np.asarray(part[start : start + _BLOCK_ROWS])


@dataclass(frozen=True, eq=False)
class Problem:
    """Labels of the examples of `inputs`, to be fitted.

    Attributes:
        inputs: The features of N examples.
        labels: Their labels.
        examples: bool, V x N; the examples that each of V variants of a problem is fitted on. None: all of them.
    """

    inputs: Inputs
    labels: Labels
    examples: np.ndarray | None = None

    def blocks(self, ids: np.ndarray, variants: int) -> list[np.ndarray]:
        """Labels in blocks whose variants take a bounded memory."""
        size = max(1, _MAX_NUMBERS // (len(self.inputs) * variants))
        return [ids[start : start + size] for start in range(0, len(ids), size)]

    def solve(
        self, ids: np.ndarray, strengths: Tensor, tolerance: float = _TOLERANCE, centre: Tensor | None = None
    ) -> Tensor:
        """Parameters, (r + 1) x V x l, of V variants of l labels, whose `ids` and `strengths` (V x l) are given.

        The penalty is on the distance of the weights from `centre` ((r + 1) x V x l); None: from 0.
        """
        device, (variants, _) = self.inputs.rotation.device, strengths.shape
        rows = torch.from_numpy(self.labels.rows(ids)).to(device)[:, None]
        counted = None if rows.dtype == torch.bool else rows >= 0
        if self.examples is not None:
            taken = torch.from_numpy(self.examples.T).to(device)[:, :, None]
            counted = taken if counted is None else taken & counted

        def flat(values: Tensor) -> Tensor:
            return values.expand(-1, variants, len(ids)).reshape(len(values), -1).float()

        targets, weights = flat(rows == 1), None if counted is None else flat(counted)
        positives = targets.sum(dim=0) if weights is None else (targets * weights).sum(dim=0)
        counts = torch.full_like(positives, len(targets)) if weights is None else weights.sum(dim=0)
        result = targets.new_zeros(len(self.inputs.sizes) + 1, targets.shape[1])
        result[-1] = torch.log((positives + 0.5) / (counts - positives + 0.5))
        result[-1, counts == 0] = log_odds(self.labels)
        mixed = torch.nonzero((positives > 0) & (positives < counts))[:, 0]
        if len(mixed):
            columns = _Columns(targets, weights, strengths.flatten().to(device)).take(mixed)
            middle = result.new_zeros(1, 1) if centre is None else centre.flatten(1)
            middle = middle.expand(len(result), result.shape[1])[:, mixed]
            result[:, mixed] = _Descent(self.inputs, columns, result[:, mixed], middle, tolerance).run()
        return result.view(-1, *strengths.shape)


def log_odds(labels: Labels) -> float:
    """Logarithm of known positives to known negatives, of all labels together; finite also without a positive."""
    positives, known = float(labels.counts().sum()), float(labels.known_counts().sum())
    return float(np.log((positives + 0.5) / (known - positives + 0.5)))


@dataclass(eq=False)
class _Columns:
    """Targets and weights (None: 1) of the examples of P problems, N x P, and the strengths of the penalties, P."""

    targets: Tensor
    weights: Tensor | None
    strengths: Tensor

    def take(self, columns: Tensor) -> _Columns:
        weights = None if self.weights is None else self.weights[:, columns]
        return _Columns(self.targets[:, columns], weights, self.strengths[columns])

    def slopes(self, logits: Tensor, moves: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        """Derivatives of the cross-entropy at `logits + lengths * moves` (N x P; lengths P): by each logit (N x P),
        by `lengths` (P), and the second one by the bias (P)."""
        residual = torch.empty_like(logits)
        along, curvature = logits.new_zeros(2, logits.shape[1])
        size = max(1, _CHUNK_NUMBERS // max(logits.shape[1], 1))
        for begin in range(0, len(logits), size):
            rows = slice(begin, begin + size)
            at = logits[rows] if lengths is None else torch.addcmul(logits[rows], moves[rows], lengths)  # type: ignore[index]
            probability = torch.sigmoid(at)
            part = torch.sub(probability, self.targets[rows], out=residual[rows])
            bend = probability.addcmul_(probability, probability, value=-1)
            if self.weights is not None:
                part *= self.weights[rows]
                bend *= self.weights[rows]
            curvature += bend.sum(dim=0)
            if moves is not None:
                along += torch.mul(part, moves[rows], out=bend).sum(dim=0)
        return residual, along, curvature


@dataclass(eq=False)
class _Descent:
    """L-BFGS on all problems side by side (Nocedal and Wright 2006, algorithms 7.4 and 3.5), each with its own steps.

    Rotated features are uncorrelated, so the first guess of a Hessian is diagonal: curvature * sizes / N + strength.
    """

    inputs: Inputs
    columns: _Columns
    parameters: Tensor
    centre: Tensor
    tolerance: float
    history: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def run(self) -> Tensor:
        """The solutions."""
        result, active = self.parameters.clone(), torch.arange(self.parameters.shape[1], device=self.parameters.device)
        num_examples = len(self.inputs)
        sizes = torch.cat([self.inputs.sizes / num_examples, self.inputs.sizes.new_ones(1)])[:, None]
        penalised = torch.ones_like(sizes)
        penalised[-1] = 0
        logits = self.inputs.times(self.parameters)
        residual, _, curvature = self.columns.slopes(logits)
        scale = torch.ones_like(curvature)
        best = torch.full_like(curvature, float("inf"))
        waited = torch.zeros_like(curvature)
        penalty = penalised * self.columns.strengths
        gradient = self.inputs.transposed_times(residual) + penalty * (self.parameters - self.centre)
        given_up = torch.zeros((), dtype=torch.int64, device=gradient.device)
        for iteration in range(_MAX_ITERATIONS):
            inverse = 1 / (sizes * curvature + penalty).clamp(min=1e-12)
            step = (inverse * gradient).abs().amax(dim=0)
            waited = torch.where(step < 0.9 * best, 0, waited + 1)
            best = torch.minimum(best, step)
            open_ = (step > self.tolerance) & (waited < _PATIENCE)
            if not open_.any():
                break
            if open_.sum() <= 0.8 * len(open_):  # solved problems leave
                given_up += (step[~open_] > _FAR).sum()
                result[:, active[~open_]] = self.parameters[:, ~open_]
                kept = torch.nonzero(open_)[:, 0]
                self.take(kept)
                active, logits, gradient = active[kept], logits[:, kept], gradient[:, kept]
                inverse, penalty, scale = inverse[:, kept], penalty[:, kept], scale[kept]
                best, waited = best[kept], waited[kept]
            direction = self.direction(gradient, inverse * scale)
            moves = self.inputs.times(direction)
            lengths, residual, curvature = self.search(
                logits,
                moves,
                (gradient * direction).sum(dim=0),
                (penalty * (self.parameters - self.centre) * direction).sum(dim=0),
                (penalty * direction**2).sum(dim=0),
            )
            move = lengths * direction
            self.parameters = self.parameters + move
            # Rounding adds up where logits are moved along; now and then they are made anew.
            logits = self.inputs.times(self.parameters) if iteration % 16 == 15 else logits.addcmul_(lengths, moves)
            changed = self.inputs.transposed_times(residual) + penalty * (self.parameters - self.centre)
            difference = changed - gradient
            product = (move * difference).sum(dim=0)
            usable = product > 1e-20
            scale = torch.where(usable, product / (inverse * difference**2).sum(dim=0).clamp(min=1e-30), 1.0)
            scale = scale.clamp(0.05, 20)
            self.history.append((move, difference, torch.where(usable, 1 / product, 0.0)))
            del self.history[:-_HISTORY]
            gradient = changed
        far = int(given_up + (step > _FAR).sum())
        if far:
            logger.warning(
                "%d logistic regressions were not solved: their penalty is too weak for their features", far
            )
        result[:, active] = self.parameters
        return result

    def take(self, kept: Tensor) -> None:
        """Goes on with some of the problems."""
        self.columns, self.parameters = self.columns.take(kept), self.parameters[:, kept]
        self.centre = self.centre[:, kept]
        self.history = [(move[:, kept], change[:, kept], rho[kept]) for move, change, rho in self.history]

    def direction(self, gradient: Tensor, inverse: Tensor) -> Tensor:
        """The direction of descent, by the two loops over the history."""
        result = -gradient
        factors = []
        for move, change, rho in reversed(self.history):
            factors.append(rho * (move * result).sum(dim=0))
            result = torch.addcmul(result, factors[-1], change, value=-1)
        result = result * inverse
        for (move, change, rho), factor in zip(self.history, reversed(factors), strict=True):
            result = torch.addcmul(result, factor - rho * (change * result).sum(dim=0), move)
        uphill = (gradient * result).sum(dim=0) >= 0  # by rounding
        return torch.where(uphill, -inverse * gradient, result)

    def search(
        self, logits: Tensor, moves: Tensor, slope: Tensor, linear: Tensor, quadratic: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Lengths (P), and at them residuals (N x P) and second derivatives by the bias (P).

        The slope (P, negative at 0), to which penalties add `linear + length * quadratic`, is to fall to 0.6 of its
        size, by false position: the objective is convex along the direction.
        """
        lengths, low, high = torch.ones_like(slope), torch.zeros_like(slope), torch.full_like(slope, float("inf"))
        low_slope, high_slope = slope.clone(), torch.zeros_like(slope)
        residual, along, curvature = self.columns.slopes(logits, moves, lengths)
        waiting = torch.arange(len(slope), device=slope.device)
        for _ in range(30):
            reached = along + linear[waiting] + lengths[waiting] * quadratic[waiting]
            missed = reached.abs() > 0.6 * slope[waiting].abs()
            if not missed.any():
                break
            waiting, reached = waiting[missed], reached[missed]
            before, length = reached < 0, lengths[waiting]
            low[waiting] = torch.where(before, length, low[waiting])
            low_slope[waiting] = torch.where(before, reached, low_slope[waiting])
            high[waiting] = torch.where(before, high[waiting], length)
            high_slope[waiting] = torch.where(before, high_slope[waiting], reached)
            begin, end = low[waiting], high[waiting]
            share = -low_slope[waiting] / (high_slope[waiting] - low_slope[waiting])
            between = begin + (end - begin) * share.clamp(0.1, 0.9)
            further = length * (-slope[waiting] / (reached - slope[waiting]).clamp(min=1e-30)).clamp(1.5, 4)
            lengths[waiting] = torch.where(torch.isinf(end), further, between)
            part = self.columns.take(waiting)
            found, along, bend = part.slopes(logits[:, waiting], moves[:, waiting], lengths[waiting])
            residual[:, waiting], curvature[waiting] = found, bend
        return lengths, residual, curvature
