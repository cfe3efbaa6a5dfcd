"""Scores of very many labels, made in blocks when they are asked for. Imports numpy and torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .arrays import as_matrix, as_vector

if TYPE_CHECKING:
    from ..data.label_lists import LabelLists

# Numbers in a block: 32 MB in float64, of which a function holds some at a time.
_MAX_NUMBERS = 2**22
_MAX_ARRAY_NUMBERS = 2**28  # 1 GiB in float32


class LabelScores:
    """Logits of N examples for L labels, of which only some labels or some examples exist at a time.

    Functions of this folder take them in the place of an array N x L, with `LabelLists` as labels. `numpy.asarray`
    makes all of them, float32 N x L, where that takes at most 1 GiB.
    """

    shape: tuple[int, int]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.shape[0] * self.shape[1] > _MAX_ARRAY_NUMBERS:
            raise ValueError(f"scores: expected an array of at most 1 GiB, got {self.shape[0]} x {self.shape[1]}")
        return np.concatenate([block for _, block in self.row_blocks()]).astype(dtype or np.float32, copy=False)

    def columns(self, ids: np.ndarray) -> np.ndarray:
        """Logits of some labels, float64 (N, len(ids))."""
        raise NotImplementedError

    def blocks(self, labels: LabelLists, ids: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, ...]]:
        """Blocks of labels (of all, or of `ids`): their ids (l,), logits (N, l) and bool (N, l) who has them."""
        for part in self.id_blocks(np.arange(self.shape[1]) if ids is None else ids):
            yield part, self.columns(part), labels.by_label[:, part].toarray()

    def row_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks of examples: the number of the first, and float32 logits (n, L)."""
        raise NotImplementedError

    def top_k(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best labels of each example: logits, float32 (N, k), falling, and ids, int64 (N, k).

        Among equal scores the label with the lower id comes first; k is at most L.
        """
        k = min(k, self.shape[1])
        scores, ids = np.empty((self.shape[0], k), np.float32), np.empty((self.shape[0], k), np.int64)
        for start, block in self.row_blocks():
            for number, row in enumerate(block, start):
                ids[number] = best_labels(row, k)
                scores[number] = row[ids[number]]
        return scores, ids

    def id_blocks(self, ids: np.ndarray) -> list[np.ndarray]:
        """The ids in blocks."""
        size = max(1, _MAX_NUMBERS // max(self.shape[0], 1))
        return [ids[start : start + size] for start in range(0, len(ids), size)]


@dataclass(frozen=True, eq=False)
class LinearScores(LabelScores):
    """Logits `features @ weight.T + bias` of N examples for L labels, made when they are asked for.

    Args:
        features: N x feature_dim, finite, float32.
        weight: L x feature_dim.
        bias: L.

    Raises:
        ValueError: arrays of wrong shape or values.
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
        """Number of examples N and of labels L."""
        return len(self.features), len(self.weight)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Any) -> LinearScores:
        """The scores of some of the examples, by their numbers, a slice or a mask."""
        return LinearScores(self.features[rows], self.weight, self.bias)

    def columns(self, ids: np.ndarray) -> np.ndarray:
        """Logits of some labels, float64 (N, len(ids))."""
        return _logits(self.features, self.weight[ids], self.bias[ids]).astype(np.float64)

    def row_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks of examples: the number of the first, and float32 logits (n, L)."""
        size = max(1, _MAX_NUMBERS // self.shape[1])
        for start in range(0, len(self), size):
            yield start, _logits(self.features[start : start + size], self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class StoredScores(LabelScores):
    """Logits of N examples for L labels, kept label by label in an array or a file.

    Attributes:
        by_label: L x N numbers.
    """

    by_label: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """Number of examples N and of labels L."""
        return self.by_label.shape[1], self.by_label.shape[0]

    def __len__(self) -> int:
        return self.by_label.shape[1]

    def __getitem__(self, rows: Any) -> StoredScores:
        """The scores of some of the examples, by their numbers, a slice or a mask."""
        return StoredScores(self.by_label[:, rows])

    def columns(self, ids: np.ndarray) -> np.ndarray:
        """Logits of some labels, float64 (N, len(ids))."""
        return np.asarray(self.by_label[ids], dtype=np.float64).T

    def row_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks of examples: the number of the first, and float32 logits (n, L)."""
        size = max(1, _MAX_NUMBERS // self.shape[1])
        for start in range(0, self.shape[0], size):
            yield start, np.ascontiguousarray(self.by_label[:, start : start + size].T, dtype=np.float32)


def best_labels(row: np.ndarray, k: int) -> np.ndarray:
    """Ids of the k highest of L scores, falling; among equal ones the lower id comes first."""
    if k < len(row):
        candidates = np.flatnonzero(row >= np.partition(row, len(row) - k)[len(row) - k])
    else:
        candidates = np.arange(len(row))
    return candidates[np.argsort(-row[candidates], kind="stable")[:k]]


def _logits(features: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """float32 (N, L), by torch, which may use several threads."""
    rows, columns, offsets = (
        torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) for array in (features, weight, bias)
    )
    return torch.addmm(offsets, rows, columns.T).numpy()


def labelled(scores: Any, labels: LabelLists, name: str = "labels") -> tuple[Any, LabelLists]:
    """Scores (anything that rows can be taken from) and labels of the examples that are labelled.

    Raises:
        ValueError: other labels than scores, or no example is labelled.
    """
    if scores.shape[0] != len(labels):
        raise ValueError(f"{name}: expected label lists of {scores.shape[0]} examples, got {len(labels)}")
    if not labels.unlabelled.any():
        return scores, labels
    if labels.unlabelled.all():
        raise ValueError(f"{name}: expected at least one known entry, got only unlabelled examples")
    rows = np.flatnonzero(~labels.unlabelled)
    return scores[rows], labels[rows]


def are_lists(labels: Any) -> bool:
    """Whether these are `LabelLists`: their room is imported by nothing here."""
    return hasattr(labels, "by_label")
