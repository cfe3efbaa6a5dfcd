"""Logits of many labels, made in blocks when they are asked for. Imports numpy and torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..data.labels import Labels
from .arrays import as_labels, as_matrix, as_vector, sigmoid

# Numbers in a block: 16 MB in float64, of which a function holds some at a time.
_MAX_NUMBERS = 2**21
_MAX_ARRAY_NUMBERS = 2**28  # 1 GiB in float32


class Scores:
    """Logits of N examples for L labels, of which only some labels or some examples exist at a time.

    The functions of this folder take them in the place of an array N x L. `numpy.asarray` makes all of them, where
    that takes at most 1 GiB.
    """

    shape: tuple[int, int]  # examples N, labels L
    are_probabilities = False

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.shape[0] * self.shape[1] > _MAX_ARRAY_NUMBERS:
            raise ValueError(f"scores: expected an array of at most 1 GiB, got {self.shape[0]} x {self.shape[1]}")
        return np.concatenate([block for _, block in self.row_blocks()]).astype(dtype, copy=False)

    def columns(self, part: slice | np.ndarray) -> np.ndarray:
        """Logits of some labels, float64 (N, l)."""
        raise NotImplementedError

    def rows(self, part: slice) -> np.ndarray:
        """Logits of some examples, (n, L)."""
        raise NotImplementedError

    def scaled(self, scale: np.ndarray, shift: np.ndarray) -> Scores:
        """The scores `scale * logits + shift`, both one number per label."""
        raise NotImplementedError

    def probabilities(self, columns: np.ndarray) -> np.ndarray:
        """Probabilities of what `columns` gives."""
        return columns if self.are_probabilities else sigmoid(columns)

    def row_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks of examples: the number of the first, and their logits (n, L)."""
        for part in _parts(*self.shape):
            yield part.start, self.rows(part)

    def label_blocks(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Blocks of labels: which, logits and probabilities (N, l)."""
        for part in _parts(self.shape[1], self.shape[0]):
            columns = self.columns(part)
            yield part, columns, self.probabilities(columns)

    def blocks(
        self, labels: Labels, ids: np.ndarray | None = None, most: int = _MAX_NUMBERS
    ) -> Iterator[tuple[Any, np.ndarray, np.ndarray, Any]]:
        """Blocks of at most `most` labels: which, logits, positives, and what is known (True: all); all N x l."""
        for part in _parts(self.shape[1] if ids is None else len(ids), self.shape[0], most):
            which = part if ids is None else ids[part]
            rows = labels.rows(which)
            yield which, self.columns(which), rows == 1, np.True_ if rows.dtype == bool else rows >= 0

    def top_k(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best labels of each example: logits, float32 (N, k), falling, and ids, int64 (N, k).

        Among equal scores the label with the lower id comes first; k is at most L.
        """
        from ..metrics.multilabel_f1.multilabel_f1 import best_labels

        k = min(k, self.shape[1])
        scores, ids = np.empty((self.shape[0], k), np.float32), np.empty((self.shape[0], k), np.int64)
        for start, block in self.row_blocks():
            for number, row in enumerate(block, start):
                ids[number] = best_labels(row, k)
                scores[number] = row[ids[number]]
        return scores, ids


@dataclass(frozen=True, eq=False)
class LinearScores(Scores):
    """Logits `features @ weight.T + bias` of N examples for L labels, made when they are asked for.

    Args:
        features: N x feature_dim, finite, float32.
        weight: L x feature_dim.
        bias: L.

    Raises:
        ValueError: arrays of wrong shape or values.

    Example:
        >>> import numpy as np
        >>> weight = np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 0.0]])
        >>> scores = LinearScores(np.eye(2, dtype=np.float32), weight, np.zeros(3))
        >>> scores.shape, scores.top_k(2)[1].tolist()
        ((2, 3), [[1, 0], [0, 1]])
    """

    features: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def __post_init__(self) -> None:
        as_matrix("weight", self.weight, dtype=np.asarray(self.weight).dtype.type)
        as_matrix("features", self.features, columns=self.weight.shape[1], dtype=np.float32)
        as_vector("bias", self.bias, len(self.weight))

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return len(self.features), len(self.weight)

    def __getitem__(self, rows: Any) -> LinearScores:
        """The scores of some of the examples, by their numbers, a slice or a mask."""
        return LinearScores(self.features[rows], self.weight, self.bias)

    def scaled(self, scale: np.ndarray, shift: np.ndarray) -> LinearScores:
        return LinearScores(self.features, self.weight * scale[:, None], self.bias * scale + shift)

    def columns(self, part: slice | np.ndarray) -> np.ndarray:
        return _logits(self.features, self.weight[part], self.bias[part]).astype(np.float64)

    def rows(self, part: slice) -> np.ndarray:
        return _logits(self.features[part], self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class StoredScores(Scores):
    """Logits of N examples for L labels in an array or a file.

    Attributes:
        by_label: L x N numbers.
        are_probabilities: They are no logits, but probabilities.
    """

    by_label: np.ndarray
    are_probabilities: bool = False

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return self.by_label.shape[1], self.by_label.shape[0]

    def __getitem__(self, rows: Any) -> StoredScores:
        """The scores of some of the examples, by their numbers, a slice or a mask."""
        return StoredScores(self.by_label[:, rows], self.are_probabilities)

    def scaled(self, scale: np.ndarray, shift: np.ndarray) -> StoredScores:
        return StoredScores(self.by_label * scale[:, None] + shift[:, None])

    def columns(self, part: slice | np.ndarray) -> np.ndarray:
        return np.asarray(self.by_label[part], dtype=np.float64).T

    def rows(self, part: slice) -> np.ndarray:
        return np.ascontiguousarray(self.by_label[:, part].T)


def _parts(length: int, width: int, most: int = _MAX_NUMBERS) -> list[slice]:
    size = min(most, max(1, _MAX_NUMBERS // max(width, 1)))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _logits(features: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """float32 (N, L), by torch, which may use several threads."""
    rows, columns, offsets = (
        torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) for array in (features, weight, bias)
    )
    return torch.addmm(offsets, rows, columns.T).numpy()


def scores_and_labels(values: Any, labels: Any, name: str = "logits") -> tuple[Any, Labels]:
    """`Scores` and `Labels` of the examples of which something is known, from arrays or such.

    Args:
        values: N x L finite numbers; called "probabilities", in [0, 1]. `Scores` are logits whatever they are called.
        labels: anything that `Labels.of` takes.
        name: what the values are called.

    Raises:
        ValueError: arrays of wrong shape or values.
    """
    if not isinstance(values, Scores):
        array, is_probability = as_matrix(name, values), name == "probabilities"
        wrong = (array < 0) | (array > 1) if is_probability else np.zeros(0, bool)
        if wrong.any():
            raise ValueError(f"{name}: expected numbers in [0, 1], got {array[wrong][0]} (logits need a sigmoid)")
        values = StoredScores(array.T, is_probability)
    labels = as_labels("labels", labels, rows=values.shape[0], columns=values.shape[1])
    rows = ~labels.unlabelled
    return (values, labels) if rows.all() else (values[rows], labels[rows])
