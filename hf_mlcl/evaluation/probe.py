"""Linear probes: the classifier on frozen features, by logistic regression or by the study's protocol.

Imports numpy, scipy and torch.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from tqdm.auto import tqdm

from ..data.labels import Labels
from .arrays import as_labels, as_matrix, check_positive
from .logistic_regression import Inputs, Problem, full_precision, in_file, log_odds
from .scores import StoredScores
from .thresholds import Thresholds, check_rule, frequency_groups, tune_thresholds

PROTOCOLS = ("logistic_regression", "study")  # `fit_classifier` and `fit_linear_evaluation`
# Strengths of the penalty, for each varying feature: of standardised features, the deviations of a logit that the
# penalty takes for likely are 1 / sqrt of these, 11 to 0.35, whatever the width.
RELATIVE_STRENGTHS = tuple(np.geomspace(0.008, 8.0, 7))
# What a strength is chosen by: the losses of the label, and of so many positives of labels about as frequent. Of 0
# to 200, 20 has the highest mAP in `python benchmarks/evaluation_priors.py`.
PRIOR_POSITIVES = 20.0
# Where the penalty pulls the weights of a label: to 0, or in the direction of its name, so far that logits vary by 1.
NAME_SCALES = (0.0, 1.0)
NUM_FOLDS = 5
# Of very many labels with fewer validation positives, so many stand for all when strengths are chosen.
_FEW_POSITIVES, _MAX_RARE = 5, 2000
_NEAR = 1e-3  # parameters as near to their solution tell which strength is best
# Validation scores in memory; more of them lie in a temporary file.
_MAX_KEPT = 2**26
# Training keeps four arrays of this many numbers (parameters, gradients, two moments): 1.1 GB in float32. Its logits,
# a fifth array, and the half a dozen of the validation examples at one grid point are no larger.
_MAX_GRID_NUMBERS = 2**26
# Rows are padded to a multiple of so many numbers: the gradient's product is slower where the last vector is not full.
_VECTOR = 8
# Rows of features that are multiplied at once where all are scored: 100 MB at 384 numbers a row.
_ROWS = 2**16


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """A linear classifier: label l is given where sigmoid(features @ weight[l] + bias[l]) >= thresholds.per_label[l].

    Attributes:
        weight: float32, L x d.
        bias: float32, L.
        thresholds: Thresholds on the probabilities.
        strengths: float64, L; the strength of the penalty of each label.
        drawn_to_name: bool, L; whether the penalty draws the weights of a label to the direction of its name.
        validation_logits: Logits of the validation examples with a known label, by classifiers that were not fitted on
            them. `numpy.asarray` makes an array, float32 (N, L).
        validation_labels: Labels of these examples.
    """

    weight: np.ndarray
    bias: np.ndarray
    thresholds: Thresholds
    strengths: np.ndarray
    drawn_to_name: np.ndarray
    validation_logits: StoredScores
    validation_labels: Labels


def fit_classifier(
    train_features: Any,
    train_labels: Any,
    validation_features: Any,
    validation_labels: Any,
    *,
    name_features: Any = None,
    refit: bool = True,
    thresholds: str = "balanced",
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> LinearClassifier:
    """Fits and decides: logistic regression of each label on frozen features, and its threshold.

    1. `fit_logistic_regression` on the training examples at seven strengths of the penalty. Each label takes the
       strength with the lowest cross-entropy on the validation examples, to which that of 20 positives is added that
       behave like those of labels about as frequent: it decides where a label has few. Given the features of the
       labels' names, it is chosen in the same way whether the penalty draws the weights to 0 or to the direction of
       the name: a Gaussian prior whose mean is what the encoder knows of the label without any example.
    2. The validation examples are split into five folds, each label evenly over them. Each fold is scored by
       classifiers that were fitted on the training examples and the other folds. On these scores, of examples that
       neither encoder nor classifier has seen, thresholds are tuned (`tune_thresholds`).
    3. The final classifier is fitted on training and validation examples.

    Its sigmoids are calibrated as they are: Platt scaling gained nothing (`benchmarks/evaluation_priors.py`). The same
    arrays give the same result.

    Args:
        train_features: N x d, finite; also what `validation_features` is with its own number of rows. A
            `numpy.memmap` of float32 stays in its file.
        train_labels: N x L multi-hot, -100 or NaN where missing, or `Labels`; also `validation_labels`.
        name_features: L x d, features of the labels' names by the same encoder; None where they say nothing.
        refit: False fits the final classifier on the training examples alone, and the thresholds on its scores of the
            validation examples.
        thresholds: See `tune_thresholds`.
        device: Where to compute, in float32.
        progress: Shows a progress bar.

    Raises:
        ValueError: Arrays of wrong shape or values.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> features = rng.normal(size=(60, 4))
        >>> labels = features[:, :2] > 0.3
        >>> fit = fit_classifier(features[:40], labels[:40], features[40:], labels[40:])
        >>> fit.weight.shape, fit.thresholds.per_label.shape
        ((2, 4), (2,))
    """
    check_rule("thresholds", thresholds)
    train = _Examples.of("train", train_features, train_labels)
    validation = _Examples.of("validation", validation_features, validation_labels, like=train)
    with full_precision(device):
        fit = _Fit(train, validation, name_features, device, progress)
        fit.choose_strengths()
        weight, bias, scores = fit.fitted(refit)
    tuned = tune_thresholds(scores, validation.labels, rule=thresholds, train_label_counts=fit.counts)
    return LinearClassifier(weight, bias, tuned, fit.grid[fit.chosen], fit.drawn(), scores, validation.labels)


@dataclass(frozen=True, eq=False)
class _Examples:
    """Features, float32 (N, d), and labels of examples with at least one known label."""

    features: np.ndarray
    labels: Labels

    @classmethod
    def of(cls, name: str, features: Any, labels: Any, like: _Examples | None = None) -> _Examples:
        width, columns = (None, None) if like is None else (like.features.shape[1], like.labels.shape[1])
        rows = as_matrix(f"{name}_features", features, columns=width, dtype=np.float32)
        labels = as_labels(f"{name}_labels", labels, rows=len(rows), columns=columns)
        used = ~labels.unlabelled
        return cls(rows, labels) if used.all() else cls(rows[used], labels[used])

    def __len__(self) -> int:
        return len(self.features)


def _bar(progress: bool) -> dict[str, Any]:
    """How a bar is shown, where it is: on a terminal, of what takes a while."""
    return {"delay": 1, "disable": None if progress else True}


class _Fit:
    """Logistic regressions on training examples, and on these with parts of the validation examples."""

    def __init__(
        self, train: _Examples, validation: _Examples, name_features: Any, device: Any, progress: bool
    ) -> None:
        self.validation, self.shown = validation, _bar(progress)
        self.inputs = Inputs.of([train.features, validation.features], device=device)
        self.labels = Labels.concatenate([train.labels, validation.labels])
        self.counts, self.num_labels = train.labels.counts(), self.labels.shape[1]
        self.of_train = np.arange(len(self.inputs)) < len(train)
        width = max(int((self.inputs.factor != 0).sum()), 1)
        strengths, self.names = np.asarray(RELATIVE_STRENGTHS) * width, None
        if name_features is not None:
            shape = (self.num_labels, len(self.inputs.mean))
            points = as_matrix("name_features", name_features, rows=shape[0], columns=shape[1])
            self.names = self.inputs.directions(points)
        scales = (0.0,) if self.names is None else NAME_SCALES
        self.grid, self.scales = np.tile(strengths, len(scales)), np.repeat(scales, len(strengths))
        self.chosen = np.zeros(self.num_labels, dtype=np.int64)

    def choose_strengths(self) -> None:
        """Sets `chosen`, the index in `grid` and `scales` of each label's penalty; see `fit_classifier`."""
        support = self.validation.labels.counts()
        rare = np.flatnonzero(support < _FEW_POSITIVES)
        shown = rare[:: -(-len(rare) // _MAX_RARE) or 1]
        tried = np.sort(np.concatenate([np.flatnonzero(support >= _FEW_POSITIVES), shown]))
        losses = np.zeros((len(self.grid), self.num_labels))
        problem = Problem(self.inputs, self.labels, self.of_train[None].repeat(len(self.grid), axis=0))
        for ids in tqdm(problem.blocks(tried, len(self.grid)), desc="choosing strengths", **self.shown):
            each = torch.from_numpy(self.grid)[:, None].expand(-1, len(ids)).float()
            centre = self.centre(ids, self.scales[:, None])
            losses[:, ids] = self.validation_losses(ids, problem.solve(ids, each, _NEAR, centre))
        self.chosen = choose_strengths(losses, support, self.counts, tried)

    def centre(self, ids: np.ndarray, scales: np.ndarray) -> Tensor | None:
        """Where the penalty pulls the parameters of labels, (r + 1) x V x l, of scales that broadcast to V x l."""
        if self.names is None:
            return None
        weights = self.names[:, None, ids] * torch.from_numpy(scales).to(self.names)
        return torch.cat([weights, torch.zeros_like(weights[:1])])

    def drawn(self) -> np.ndarray:
        """Which labels have a penalty around the direction of their name, bool (L,)."""
        return (self.scales[self.chosen] > 0) & (self.names is not None and self.names.any(dim=0).cpu().numpy())

    def validation_losses(self, ids: np.ndarray, solutions: Tensor) -> np.ndarray:
        """Cross-entropy of each variant and label over the known validation entries, V x l."""
        logits = self.validation_logits(solutions)
        rows = torch.from_numpy(self.validation.labels.rows(ids)).to(logits.device)[:, None]
        losses = torch.nn.functional.softplus(logits) - (rows == 1) * logits
        if rows.dtype != torch.bool:
            losses *= rows >= 0
        return losses.cpu().sum(dim=0, dtype=torch.float64).numpy()

    def validation_logits(self, solutions: Tensor) -> Tensor:
        """Logits of the validation examples, N x V x l."""
        logits = self.inputs.times(solutions.flatten(1))[-len(self.validation) :]
        return logits.view(-1, *solutions.shape[1:])

    def fitted(self, refit: bool) -> tuple[np.ndarray, np.ndarray, StoredScores]:
        """Weight and bias fitted on all examples, and logits of the validation examples by fits without their fold.

        Without `refit` fitted on the training examples, and their logits.
        """
        folds, examples = np.zeros(len(self.validation), dtype=np.int64), self.of_train[None]
        if refit:
            folds = deal_folds(self.validation.labels.matrix, NUM_FOLDS)
            examples = np.ones((folds.max() + 2, len(self.inputs)), dtype=bool)
            for fold in range(folds.max() + 1):
                examples[fold, ~self.of_train] = folds != fold
        weight = np.zeros((self.num_labels, len(self.inputs.mean)), np.float32)
        bias, scores = np.empty(self.num_labels, np.float32), self.empty_scores()
        problem, present = Problem(self.inputs, self.labels, examples), np.arange(self.num_labels)
        if self.labels.missing is None:
            # Of very many labels most occur in no example: their log-odds are known without arrays for them.
            present = np.flatnonzero(self.labels.counts())
            log_odds = -np.log(2 * examples.sum(axis=1) + 1.0)
            bias[:], scores[:] = log_odds[-1], log_odds[folds]
        for ids in tqdm(problem.blocks(present, len(examples)), desc="fitting the classifier", **self.shown):
            each = torch.from_numpy(self.grid[self.chosen[ids]])[None].expand(len(examples), -1).float()
            centre = self.centre(ids, self.scales[self.chosen[ids]])
            if centre is not None:
                centre = centre.expand(-1, len(examples), -1)
            solutions = problem.solve(ids, each, centre=centre)
            weight[ids], bias[ids] = self.inputs.original(solutions[:, -1])
            logits = self.validation_logits(solutions)
            picked = torch.from_numpy(folds).to(logits.device)[:, None, None].expand(-1, 1, len(ids))
            scores[ids] = logits.gather(1, picked)[:, 0].T.cpu().numpy()
        return weight, bias, StoredScores(scores)

    def empty_scores(self) -> np.ndarray:
        """An array L x N for scores of the validation examples; a large one lies in a file that is gone with it."""
        shape = (self.num_labels, len(self.validation))
        if shape[0] * shape[1] <= _MAX_KEPT:
            return np.empty(shape, np.float32)
        with tempfile.TemporaryFile() as file:
            return np.memmap(file, np.float32, "w+", shape=shape)


def choose_strengths(losses: np.ndarray, support: np.ndarray, counts: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """Index of the penalty of each label, int64 (L,): that with the lowest loss, its own and that of labels like it.

    `losses` (S x L) are the cross-entropies on the validation examples, of the labels `tried` alone; `support` and
    `counts` the positives among validation and training examples.
    """
    groups, weights = frequency_groups(counts)
    pooled = np.stack([np.bincount(groups[tried], row, len(weights)) for row in losses[:, tried]])
    positives = np.bincount(groups[tried], support[tried], len(weights))
    like = (pooled @ weights) / np.maximum(weights @ positives, 1e-300)
    own = np.zeros_like(losses)
    own[:, tried] = losses[:, tried]
    return (own + PRIOR_POSITIVES * like[:, groups]).argmin(axis=0)


def deal_folds(positive: Any, num_folds: int) -> np.ndarray:
    """Fold of each example, int64 (N,): those with the same rarest label go to the folds in turn.

    `positive` is bool, N x L, an array or a sparse matrix. There are no more folds than examples.
    """
    matrix = sparse.csr_array(positive)
    counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
    rank = np.empty(matrix.shape[1], dtype=np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(matrix.shape[1])
    rarest = np.full(matrix.shape[0], matrix.shape[1])
    np.minimum.at(rarest, np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), rank[matrix.indices])
    folds = np.empty(matrix.shape[0], dtype=np.int64)
    folds[np.argsort(rarest, kind="stable")] = np.arange(matrix.shape[0]) % min(num_folds, matrix.shape[0])
    return folds


# --- the study's linear evaluation ---


@dataclass(frozen=True, eq=False)
class LinearEvaluation:
    """A linear classifier put together label by label from a grid.

    Attributes:
        weight: float32, L x feature_dim.
        bias: float32, L.
        grid: the G pairs (learning rate, weight decay).
        chosen: int64, L; which grid point each label was taken from.
        averaging_gap: largest absolute difference, over validation examples and labels, between the probability of the
            averaged weights (what is kept) and the average of the probabilities (the study's).
    """

    weight: np.ndarray
    bias: np.ndarray
    grid: list[tuple[float, float]]
    chosen: np.ndarray
    averaging_gap: float


def fit_linear_evaluation(
    train_features: Any,
    train_labels: Any,
    validation_features: Any,
    validation_labels: Any,
    *,
    learning_rates: Sequence[float] = (1.0, 0.1),
    weight_decays: Sequence[float] = (1.0, 0.1, 0.01, 1e-4),
    num_initializations: int = 3,
    num_epochs: int = 40,
    batch_size: int = 256,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> LinearEvaluation:
    """Linear evaluation of frozen features (protocol of Audibert et al. 2024, arXiv 2412.00101).

    For every grid point (learning rate x weight decay) and initialisation a linear layer is trained with binary
    cross-entropy (mean over examples x labels), AdamW and a linear decay of the learning rate to 0 at every step. The
    initialisations' *weights* are averaged (exact folding: logits are linear in them), and each label takes the grid
    point with the best validation F1 at threshold 0.5; ties go to the lower validation cross-entropy. A label without
    a validation positive takes the grid point with the best mean F1 over the others (ties: their cross-entropy).

    Missing labels add nothing to the loss of their batch, whose mean still divides by all examples x labels: what is
    missing of one label changes no other's classifier. Validation F1 and cross-entropy are those of the known entries.
    A label without a known training entry gets zero weights and the log-odds of a positive among all known entries.

    All problems share the order of the mini-batches and are trained as one, in float32 on `device`, in blocks of
    labels that bound the memory. The same `seed` gives the same result; the global random state is not touched. A
    `numpy.memmap` stays in its file: rows are read as mini-batches need them.

    Args:
        train_features: N x feature_dim, finite; also what `validation_features` is with its own number of rows.
        train_labels: N x L multi-hot, -100 or NaN where missing, or `Labels`; also `validation_labels`.
        progress: shows a progress bar where the work takes over a second.

    Raises:
        ValueError: arrays of wrong shape or values, or an option that is no positive number.

    Example:
        >>> import numpy as np
        >>> features = np.random.default_rng(0).normal(size=(60, 4))
        >>> labels = features[:, :2] > 0.3
        >>> fit = fit_linear_evaluation(features[:40], labels[:40], features[40:], labels[40:], num_epochs=5)
        >>> fit.weight.shape, len(fit.grid)
        ((2, 4), 8)
    """
    train = _Examples.of("train", train_features, train_labels)
    validation = _Examples.of("validation", validation_features, validation_labels, like=train)
    options = {"num_initializations": num_initializations, "num_epochs": num_epochs, "batch_size": batch_size}
    for name, count in options.items():
        check_positive(name, count, whole=True)
    grid = list(itertools.product(map(float, learning_rates), map(float, weight_decays)))
    if not grid:
        raise ValueError("learning_rates, weight_decays: expected at least one number each, got none")
    for learning_rate, weight_decay in grid:
        check_positive("learning_rates", learning_rate)
        check_positive("weight_decays", weight_decay, zero=True)
    return _Study(train, validation, grid, device, seed=seed, progress=progress, **options).result()


class _Study:
    """The grid trained on blocks of labels, of each of which the chosen solution is kept."""

    def __init__(
        self, train: _Examples, validation: _Examples, grid: list[tuple[float, float]], device: Any, **options: Any
    ) -> None:
        self.train, self.validation, self.grid, self.device = train, validation, grid, torch.device(device)
        self.num_initializations, self.options = options.pop("num_initializations"), options
        # A file stays one: its rows go to the device when they are needed.
        self.features, self.held_out = (
            torch.from_numpy(part.features).to("cpu" if in_file(part.features) else self.device)
            for part in (train, validation)
        )
        self.num_labels, self.width = train.labels.shape[1], train.features.shape[1] + 1
        self.best = np.empty((self.num_labels, self.width), dtype=np.float32)
        self.chosen = np.zeros(self.num_labels, dtype=np.int64)
        # Of each grid point and label: F1, cross-entropy (0 where nothing is known), largest averaging gap.
        self.scores = np.zeros((3, len(grid), self.num_labels))

    def result(self) -> LinearEvaluation:
        """First the labels that choose their grid point, then those that take the one of the others."""
        present = self.validation.labels.counts() > 0
        choosing = present if present.any() else self.validation.labels.known_counts() > 0
        self.fit(np.flatnonzero(choosing), range(len(self.grid)))
        f1, losses = self.scores[:2, :, choosing].mean(axis=2)
        self.fit(np.flatnonzero(~present), [int(np.where(f1 == f1.max(), losses, np.inf).argmin())])
        gap = float(self.scores[2, self.chosen, np.arange(self.num_labels)].max())
        return LinearEvaluation(self.best[:, :-1].copy(), self.best[:, -1].copy(), self.grid, self.chosen, gap)

    @torch.no_grad()
    def fit(self, all_ids: np.ndarray, points: Sequence[int]) -> None:
        """Trains labels at some grid points, and keeps of each the best one on the validation examples."""
        models, batch = len(self.grid) * self.num_initializations, min(self.options["batch_size"], len(self.train))
        per_label = max(models * max(self.width, batch), len(self.train), len(self.validation))
        size = max(1, _MAX_GRID_NUMBERS // per_label)
        grid, seed = [self.grid[point] for point in points], self.options["seed"]
        for ids in (all_ids[start : start + size] for start in range(0, len(all_ids), size)):
            initial = initial_parameters(self.num_initializations, self.num_labels, self.width, seed, ids)
            rows, initial = torch.from_numpy(self.train.labels.rows(ids)).to(self.device), initial.to(self.device)
            solutions = train_grid(self.features, rows, initial, grid, num_labels=self.num_labels, **self.options)
            never = rows.lt(0).all(dim=0)
            solutions[:, :, never] = 0
            solutions[:, :, never, -1] = log_odds(self.train.labels)
            folded = solutions.mean(dim=1)
            rows = torch.from_numpy(self.validation.labels.rows(ids)).to(self.device)
            scores = np.stack([self.scored(*pair, rows) for pair in zip(folded, solutions, strict=True)], axis=1)
            self.scores[:, np.asarray(points)[:, None], ids] = scores
            local = np.where(scores[0] == scores[0].max(axis=0), scores[1], np.inf).argmin(axis=0)
            self.chosen[ids] = np.asarray(points)[local]
            self.best[ids] = folded.cpu().numpy()[local, np.arange(len(ids))]

    def scored(self, folded: Tensor, singles: Tensor, rows: Tensor) -> np.ndarray:
        """F1, cross-entropy (0 where nothing is known) and largest averaging gap of each label, one a row."""
        logits, positive, known = self.held_out_logits(folded), rows == 1, rows >= 0
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, positive.to(logits), reduction="none")
        cross_entropy = (losses * known).sum(dim=0) / known.sum(dim=0).clamp(min=1)
        predicted = (logits >= 0) & known
        f1 = 2 * (predicted & positive).sum(dim=0) / (predicted.sum(dim=0) + positive.sum(dim=0)).clamp(min=1)
        average = torch.stack([torch.sigmoid(self.held_out_logits(single)) for single in singles]).mean(dim=0)
        return torch.stack([f1, cross_entropy, (torch.sigmoid(logits) - average).abs().amax(dim=0)]).cpu().numpy()

    def held_out_logits(self, parameters: Tensor) -> Tensor:
        """Logits of the validation examples, N x l, of parameters l x (feature_dim + 1)."""
        weight, bias = parameters[:, :-1].T, parameters[:, -1]
        return torch.cat([torch.addmm(bias, part.to(parameters), weight) for part in self.held_out.split(_ROWS)])


def initial_parameters(count: int, num_labels: int, width: int, seed: int, ids: np.ndarray) -> Tensor:
    """Float32 count x l x width, drawn as `torch.nn.Linear` draws weight and bias (the last column) of all labels."""
    bound = 1 / math.sqrt(width - 1)
    generator = torch.Generator().manual_seed(seed)
    every = (torch.empty(num_labels, width).uniform_(-bound, bound, generator=generator) for _ in range(count))
    return torch.stack([each[torch.from_numpy(ids)] for each in every])


@torch.no_grad()
def train_grid(
    features: Tensor,
    rows: Tensor,
    initial: Tensor,
    grid: Sequence[tuple[float, float]],
    *,
    num_epochs: int,
    batch_size: int,
    seed: int,
    num_labels: int,
    progress: bool = False,
) -> Tensor:
    """Trains all grid points from all initial parameters (I x l x width); returns G x I x l x width in their dtype.

    `rows` (N, l), bool or int8 with -100, may be some of `num_labels` labels, over which the loss is a mean. The
    optimiser is torch.optim.AdamW (fused, defaults) with a linear decay to 0, without its costs per group.
    """
    num_examples, width = len(features), initial.shape[2]
    # Columns of zeros, which training leaves zeros; before them one of ones, as the bias is one more weight.
    initial = torch.nn.functional.pad(initial, (0, -width % _VECTOR))
    parameters = initial.expand(len(grid), -1, -1, -1).contiguous()
    gradient, mean, square = (torch.zeros_like(parameters) for _ in range(3))
    flat, flat_gradient = parameters.flatten(0, 2), gradient.flatten(0, 2)
    done, generator = parameters.new_zeros((), dtype=torch.float32), torch.Generator().manual_seed(seed + 1)
    num_steps = num_epochs * math.ceil(num_examples / batch_size)
    epochs = (torch.randperm(num_examples, generator=generator).split(batch_size) for _ in range(num_epochs))
    batches = itertools.chain.from_iterable(epochs)
    bar = tqdm(batches, desc="fitting the classifier", total=num_steps, **_bar(progress))
    for step, batch in enumerate(bar):
        inputs = initial.new_zeros(len(batch), initial.shape[2])
        inputs[:, : width - 1] = features[batch.to(features.device)]
        inputs[:, width - 1] = 1
        labels = rows[batch.to(rows.device)][:, None]
        residual = (inputs @ flat.T).sigmoid_()
        by_label = residual.view(len(batch), -1, rows.shape[1])
        by_label.sub_((labels == 1).to(initial))
        if rows.dtype != torch.bool:
            by_label.mul_((labels >= 0).to(initial))
        scale = 1 / (len(batch) * num_labels)
        torch.addmm(flat_gradient, residual.T, inputs, beta=0, alpha=scale, out=flat_gradient)
        done += 1
        options: Any = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}
        for (rate, decay), *state in zip(grid, parameters, gradient, mean, square, strict=True):
            tensors: Any = [*([each] for each in state), [], [done]]
            torch._fused_adamw_(*tensors, lr=rate * (1 - step / num_steps), weight_decay=decay, **options)
    return parameters[..., :width]
