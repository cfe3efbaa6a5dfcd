"""The classifier on frozen features: logistic regression, its strengths, thresholds. Imports numpy, scipy, torch."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from tqdm.auto import tqdm

from .arrays import as_matrix, sigmoid, split_labels
from .label_blocks import StoredScores, are_lists, labelled
from .logistic_regression import Inputs, Problem, full_precision
from .thresholds import Thresholds, check_rule, frequency_groups, tune_thresholds

PROTOCOLS = ("logistic_regression", "study")  # this file's, and that of `linear_evaluation`
# Strengths of the penalty, for each varying feature: of standardised features, the deviations of a logit that the
# penalty takes for likely are 1 / sqrt of these, 11 to 0.35, whatever the width.
RELATIVE_STRENGTHS = tuple(np.geomspace(0.008, 8.0, 7))
# What a strength is chosen by: the losses of the label, and of so many positives of labels about as frequent. Of 0
# to 200, 20 has the highest mAP on held-out parts of the training and validation splits of four data sets; those of
# 5 to 200 are within 0.1 of it. A weight of 4 for positives, as a second axis, costs 0.9 there.
# `python benchmarks/evaluation_priors.py`
PRIOR_POSITIVES = 20.0
NUM_FOLDS = 5
# Of very many labels with fewer validation positives, so many stand for all when strengths are chosen.
_FEW_POSITIVES, _MAX_RARE = 5, 2000
_NEAR = 1e-3  # parameters as near to their solution tell which strength is best
# Numbers of solutions that are kept, and of validation scores in memory; more of these lie in a temporary file.
_MAX_KEPT = 2**26


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """A linear classifier: label l is given where sigmoid(features @ weight[l] + bias[l]) >= thresholds.per_label[l].

    Attributes:
        weight: float32, L x d.
        bias: float32, L.
        thresholds: Thresholds on the probabilities.
        strengths: float64, L; the strength of the penalty of each label.
        validation_logits: Logits of the validation examples with a known label, by classifiers that were not fitted on
            them; float32, N x L, or scores in blocks for label lists.
        validation_labels: Labels of these examples.
    """

    weight: np.ndarray
    bias: np.ndarray
    thresholds: Thresholds
    strengths: np.ndarray
    validation_logits: Any
    validation_labels: Any


def fit_classifier(
    train_features: Any,
    train_labels: Any,
    validation_features: Any,
    validation_labels: Any,
    *,
    refit: bool = True,
    thresholds: str = "balanced",
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> LinearClassifier:
    """Fits and decides: logistic regression of each label on frozen features, and its threshold.

    1. `fit_logistic_regression` on the training examples at seven strengths of the penalty. Each label takes the
       strength with the lowest cross-entropy on the validation examples, to which that of 20 positives is added that
       behave like those of labels about as frequent: it decides where a label has few.
    2. The validation examples are dealt into five folds, each label evenly over them. Each fold is scored by
       classifiers that were fitted on the training examples and the other folds. On these scores, of examples that
       neither encoder nor classifier has seen, thresholds are tuned (`tune_thresholds`).
    3. The final classifier is fitted on training and validation examples.

    Its sigmoids are calibrated probabilities as they are: on held-out parts of four data sets Platt scaling of each
    label made the cross-entropy of such scores 1 % higher, that of all labels together changed it by 0.1 %
    (`python benchmarks/evaluation_priors.py`).

    There is no chance in it: the same arrays give the same result.

    Args:
        train_features: N x d, finite; also what `validation_features` is with its own number of rows. A
            `numpy.memmap` of float32 stays in its file.
        train_labels: N x L multi-hot, -100 or NaN where missing, or `LabelLists`; also `validation_labels`.
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
        fit = _Fit(train, validation, device, progress)
        fit.choose_strengths()
        weight, bias, scores = fit.refitted() if refit else fit.on_training_examples()
    probabilities = sigmoid(scores) if isinstance(scores, np.ndarray) else scores
    tuned = tune_thresholds(probabilities, validation.labels, rule=thresholds, train_label_counts=fit.counts)
    return LinearClassifier(weight, bias, tuned, fit.grid[fit.chosen], scores, validation.labels)


@dataclass(frozen=True, eq=False)
class _Examples:
    """Examples with at least one known label.

    Attributes:
        features: float32, N x d.
        labels: As they were given.
        positive: bool, N x L, or the same as a sparse matrix of label lists.
        known: bool, N x L; None where all labels are known.
    """

    features: np.ndarray
    labels: Any
    positive: Any
    known: np.ndarray | None

    @classmethod
    def of(cls, name: str, features: Any, labels: Any, like: _Examples | None = None) -> _Examples:
        width, columns = (None, None) if like is None else (like.features.shape[1], like.positive.shape[1])
        rows = as_matrix(f"{name}_features", features, columns=width, dtype=np.float32)
        if like is not None and are_lists(labels) != are_lists(like.labels):
            forms = ("label lists", "multi-hot labels")
            expected, got = forms if are_lists(like.labels) else forms[::-1]
            raise ValueError(f"{name}_labels: expected {expected} as the training labels are, got {got}")
        if are_lists(labels):
            if labels.shape[1] != (columns or labels.shape[1]):
                raise ValueError(f"{name}_labels: expected lists of {columns} labels, got {labels.shape[1]}")
            rows, labels = labelled(rows, labels, f"{name}_labels")
            return cls(rows, labels, labels.by_label, None)
        positive, known = split_labels(f"{name}_labels", labels, rows=len(rows), columns=columns)
        if known is None:
            return cls(rows, positive, positive, None)
        used = known.any(axis=1)
        if not used.all():
            rows, positive, known = rows[used], positive[used], known[used]
        if known.all():
            return cls(rows, positive, positive, None)
        return cls(rows, np.where(known, positive, -100).astype(np.int8), positive, known)

    def __len__(self) -> int:
        return len(self.features)


class _Fit:
    """Logistic regressions on training examples, and on these with parts of the validation examples."""

    def __init__(self, train: _Examples, validation: _Examples, device: Any, progress: bool) -> None:
        self.train, self.validation, self.progress = train, validation, progress
        self.inputs = Inputs.of([train.features, validation.features], device=device)
        self.num_labels = train.positive.shape[1]
        self.all_ids = np.arange(self.num_labels)
        if isinstance(train.positive, np.ndarray):
            self.positive: Any = np.concatenate([train.positive, validation.positive])
        else:
            self.positive = sparse.vstack([train.positive, validation.positive], format="csc")
        self.known: np.ndarray | None = None
        if train.known is not None or validation.known is not None:
            parts = [np.ones(p.positive.shape, bool) if p.known is None else p.known for p in (train, validation)]
            self.known = np.concatenate(parts)
        self.counts = np.asarray(train.positive.sum(axis=0)).ravel()
        self.of_train = np.arange(len(self.inputs)) < len(train)
        width = max(int((self.inputs.factor != 0).sum()), 1)
        self.grid = np.asarray(RELATIVE_STRENGTHS) * width
        self.chosen = np.zeros(self.num_labels, dtype=np.int64)
        self.on_train: Tensor | None = None  # solutions of all labels and strengths, where they are few enough to keep

    def problem(self, examples: np.ndarray) -> Problem:
        return Problem(self.inputs, self.positive, self.known, examples)

    def choose_strengths(self) -> None:
        """Sets `chosen`, the index in `grid` of each label's strength; see `fit_classifier`."""
        support = np.asarray(self.validation.positive.sum(axis=0)).ravel()
        rare = np.flatnonzero(support < _FEW_POSITIVES)
        shown = rare[:: -(-len(rare) // _MAX_RARE) or 1]
        tried = np.sort(np.concatenate([np.flatnonzero(support >= _FEW_POSITIVES), shown]))
        losses = np.zeros((len(self.grid), self.num_labels))
        problem = self.problem(self.of_train[None].repeat(len(self.grid), axis=0))
        sizes = (len(self.inputs.sizes) + 1, len(self.grid), self.num_labels)
        if len(tried) == self.num_labels and sizes[0] * sizes[1] * sizes[2] <= _MAX_KEPT:
            self.on_train = torch.empty(sizes, device=self.inputs.sizes.device)
        for ids in tqdm(problem.blocks(tried, len(self.grid)), desc="Strengths", disable=not self.progress):
            each = torch.from_numpy(self.grid)[:, None].expand(-1, len(ids)).float()
            solutions = problem.solve(ids, each, tolerance=_NEAR)
            losses[:, ids] = self.validation_losses(ids, solutions)
            if self.on_train is not None:
                self.on_train[:, :, torch.from_numpy(ids)] = solutions
        self.chosen = choose_strengths(losses, support, self.counts, tried)

    def validation_losses(self, ids: np.ndarray, solutions: Tensor) -> np.ndarray:
        """Cross-entropy of each variant and label over the known validation entries, V x l."""
        logits = self.validation_logits(solutions)
        positive = self.positive[:, ids]
        positive = (positive if isinstance(positive, np.ndarray) else positive.toarray())[~self.of_train]
        targets = torch.from_numpy(positive).to(logits)[:, None]
        losses = torch.nn.functional.softplus(logits) - targets * logits
        if self.known is not None:
            losses *= torch.from_numpy(self.known[~self.of_train][:, ids]).to(logits)[:, None]
        return losses.cpu().sum(dim=0, dtype=torch.float64).numpy()

    def validation_logits(self, solutions: Tensor) -> Tensor:
        """Logits of the validation examples, N x V x l."""
        logits = self.inputs.times(solutions.flatten(1))[len(self.train) :]
        return logits.view(-1, *solutions.shape[1:])

    def refitted(self) -> tuple[np.ndarray, np.ndarray, Any]:
        """Weight and bias fitted on all examples, and logits of the validation examples by fits without them."""
        folds = deal_folds(self.validation.positive, NUM_FOLDS)
        examples = np.ones((folds.max() + 2, len(self.inputs)), dtype=bool)
        for fold in range(folds.max() + 1):
            examples[fold, ~self.of_train] = folds != fold
        picked = torch.from_numpy(folds)[:, None]

        def held_out(logits: Tensor) -> Tensor:
            rows = picked.to(logits.device)[:, :, None].expand(-1, 1, logits.shape[2])
            return logits.gather(1, rows)[:, 0]

        return self.fitted(examples, held_out)

    def on_training_examples(self) -> tuple[np.ndarray, np.ndarray, Any]:
        """Weight and bias fitted on the training examples, and their logits of the validation examples."""
        return self.fitted(self.of_train[None], lambda logits: logits[:, 0])

    def fitted(self, examples: np.ndarray, pick: Any) -> tuple[np.ndarray, np.ndarray, Any]:
        """Weight and bias of the last of some variants, and `pick` of the logits of all."""
        weight = np.empty((self.num_labels, self.train.features.shape[1]), np.float32)
        bias = np.empty(self.num_labels, np.float32)
        scores = self.empty_scores()
        problem = self.problem(examples)
        present = self.all_ids
        if self.known is None:
            # Of very many labels most occur in no example: their log-odds are known without arrays for them.
            present = np.flatnonzero(np.asarray(self.positive.sum(axis=0)).ravel())
            log_odds = -torch.log(2 * torch.from_numpy(examples.sum(axis=1)) + 1.0).float()
            weight[:], bias[:] = 0, log_odds[-1]
            scores[:] = pick(log_odds[None, :, None].expand(len(self.validation), -1, 1))[:, 0].numpy()
        for ids in tqdm(problem.blocks(present, len(examples)), desc="Fits", disable=not self.progress):
            each = torch.from_numpy(self.grid[self.chosen[ids]])[None].expand(len(examples), -1).float()
            solutions = problem.solve(ids, each, self.start(ids, len(examples)))
            weight[ids], bias[ids] = self.inputs.original(solutions[:, -1])
            scores[ids] = pick(self.validation_logits(solutions)).T.cpu().numpy()
        if isinstance(self.train.positive, np.ndarray):
            return weight, bias, np.ascontiguousarray(scores.T)
        return weight, bias, StoredScores(scores)

    def start(self, ids: np.ndarray, variants: int) -> Tensor | None:
        """Where the fits at the chosen strengths begin: at those on the training examples."""
        if self.on_train is None:
            return None
        solutions = self.on_train[:, torch.from_numpy(self.chosen[ids]), torch.from_numpy(ids)]
        return solutions[:, None].expand(-1, variants, -1)

    def empty_scores(self) -> np.ndarray:
        """An array L x N for scores of the validation examples; a large one lies in a file that is gone with it."""
        shape = (self.num_labels, len(self.validation))
        if shape[0] * shape[1] <= _MAX_KEPT:
            return np.empty(shape, np.float32)
        with tempfile.TemporaryFile() as file:
            return np.memmap(file, np.float32, "w+", shape=shape)


def choose_strengths(losses: np.ndarray, support: np.ndarray, counts: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """Index of the strength of each label, int64 (L,): that with the lowest loss, its own and that of labels like it.

    Args:
        losses: S x L, cross-entropy on the validation examples; only those of the labels `tried` are looked at.
        support: L, positives among the validation examples.
        counts: L, positives among the training examples.
        tried: Ids of labels.
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

    Args:
        positive: bool, N x L, or the same as a sparse matrix.
        num_folds: Number of folds; fewer where there are fewer examples.
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
