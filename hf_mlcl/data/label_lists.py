"""`LabelLists`: the labels of many examples among very many labels, as lists of ids. Imports labels, scipy, arrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, List, Value
from scipy import sparse

from .errors import DataError
from .label_cells import arrow_column
from .labels import UNKNOWN_LABEL, canonical_labels

LABEL_IDS = "label_ids"  # the column, and what a batch calls it
PADDING = -1
MAX_ROW_LABELS = 10_000
_MAX_ROW_BYTES = 2**30


def too_large_for_rows(num_rows: int, num_labels: int) -> bool:
    """Whether labels are kept as lists of ids: of more than 10,000 labels, or where rows would take over 1 GiB."""
    return num_labels > MAX_ROW_LABELS or num_rows * num_labels > _MAX_ROW_BYTES


@dataclass(frozen=True, eq=False)
class LabelLists:
    """Which of L labels each of N examples has. An example is labelled as a whole, or not at all.

    `load_multilabel_dataset` and `encode_labels` give lists instead of multi-hot rows of more than 10,000 labels, and
    where the rows of all splits would take over 1 GiB.

    Attributes:
        matrix: sparse bool (N, L), True where an example has a label.
        unlabelled: bool (N,), the examples of which nothing is known.
    """

    matrix: sparse.csr_array
    unlabelled: np.ndarray

    @classmethod
    def from_pairs(
        cls, rows: np.ndarray, ids: np.ndarray, shape: tuple[int, int], unlabelled: np.ndarray | None = None
    ) -> LabelLists:
        """From pairs of a row and a label it has, in any order; a pair may come more than once."""
        matrix = sparse.csr_array((np.ones(len(rows), dtype=bool), (rows, ids)), shape=shape)
        matrix.sum_duplicates()
        return cls(matrix, np.zeros(shape[0], dtype=bool) if unlabelled is None else unlabelled)

    @classmethod
    def from_padded(cls, label_ids: np.ndarray, num_labels: int) -> LabelLists:
        """From lists (N, K) as a batch has them: ids, then -1 or -100; all of a row is -100 where nothing is known."""
        rows, places = np.nonzero(label_ids >= 0)
        unlabelled = label_ids[:, 0] == UNKNOWN_LABEL
        return cls.from_pairs(rows, label_ids[rows, places], (len(label_ids), num_labels), unlabelled)

    @classmethod
    def concatenate(cls, parts: Sequence[LabelLists]) -> LabelLists:
        """The examples of all parts, one after the other."""
        matrix = sparse.vstack([part.matrix for part in parts], format="csr")
        return cls(matrix, np.concatenate([part.unlabelled for part in parts]))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of examples N and of labels L."""
        return self.matrix.shape

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def __getitem__(self, rows: Any) -> LabelLists:
        """The labels of some of the examples, by their numbers or a mask."""
        return LabelLists(self.matrix[rows], self.unlabelled[rows])

    def ids(self, row: int) -> np.ndarray | None:
        """Ids of the labels of one example, int64 and ascending; None where nothing is known."""
        if self.unlabelled[row]:
            return None
        start, end = self.matrix.indptr[row : row + 2]
        return self.matrix.indices[start:end].astype(np.int64)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Example and label of each label that an example has, int64, ascending."""
        return np.repeat(np.arange(len(self)), np.diff(self.matrix.indptr)), self.matrix.indices.astype(np.int64)

    def counts(self) -> np.ndarray:
        """Number of examples with each label, int64 (L,)."""
        return np.bincount(self.matrix.indices, minlength=self.shape[1])

    @cached_property
    def by_label(self) -> sparse.csc_array:
        """The matrix as it is fast to take labels from."""
        return self.matrix.tocsc()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Multi-hot rows of all labels, for functions on arrays; ValueError where they would take over 1 GiB."""
        if len(self) * self.shape[1] > _MAX_ROW_BYTES:
            raise ValueError(f"labels: expected rows of at most 1 GiB, got {len(self)} x {self.shape[1]} labels")
        return self.rows().astype(dtype, copy=False)

    def rows(self, columns: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Multi-hot rows of some of the labels: bool (N, l), or int8 with -100 in rows that are unlabelled."""
        dense = self.by_label[:, columns].toarray()
        if not self.unlabelled.any():
            return dense
        return np.where(self.unlabelled[:, None], UNKNOWN_LABEL, dense).astype(np.int8)


def label_pairs(labels: np.ndarray | LabelLists, name: str = "labels") -> tuple[np.ndarray, np.ndarray]:
    """Example and label of each label that an example is known to have, of multi-hot rows (N, L) or lists."""
    if isinstance(labels, LabelLists):
        return labels.pairs()
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"labels: expected a multi-hot array (N, L) of 0 and 1, got shape {labels.shape}")
    rows, ids = np.nonzero(canonical_labels(labels, name) == 1)
    return rows, ids


def add_label_lists(split: Dataset, labels: LabelLists) -> Dataset:
    """Add labels as the column `label_ids`: lists of ids, null where an example is unlabelled."""
    offsets = pa.array(labels.matrix.indptr.astype(np.int32), mask=np.append(labels.unlabelled, False))
    values = pa.ListArray.from_arrays(offsets, pa.array(labels.matrix.indices.astype(np.int32)))
    return split.add_column(LABEL_IDS, values, feature=List(Value("int32")))


def read_label_lists(split: Dataset, num_labels: int | None = None) -> LabelLists:
    """The column `label_ids` of a split: lists of label ids, null where an example is unlabelled.

    Args:
        split: the data set.
        num_labels: number of labels L; by default one more than the largest id.

    Raises:
        DataError: the column holds no lists of ids below L; -1 is padding.
    """
    array = arrow_column(split, LABEL_IDS)
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)) or not pa.types.is_integer(
        array.type.value_type
    ):
        raise DataError(f"column 'label_ids': expected lists of label ids, got {split.features[LABEL_IDS]}")
    rows = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    ids = pc.list_flatten(array).fill_null(PADDING).to_numpy(zero_copy_only=False)
    rows, ids = rows[ids != PADDING], ids[ids != PADDING]
    width = int(ids.max(initial=-1)) + 1 if num_labels is None else num_labels
    check_ids(ids, width, "column 'label_ids'")
    unlabelled = array.is_null().to_numpy(zero_copy_only=False)
    return LabelLists.from_pairs(rows, ids, (len(array), width), unlabelled)


def padded_ids(lists: Sequence[np.ndarray | None], num_labels: int) -> np.ndarray:
    """Lists of label ids in any order, None where nothing is known, as one array; -1 and repetitions are left out.

    Returns:
        int64 (B, K), K the length of the longest list and at least 1: ascending ids, then -1; a row of -100 where
        nothing is known.

    Raises:
        DataError: an id is not from 0 to `num_labels` - 1.
    """
    kept = [None if ids is None else np.unique(ids[ids != PADDING]) for ids in lists]
    width = max([1, *(len(ids) for ids in kept if ids is not None)])
    result = np.full((len(kept), width), PADDING, dtype=np.int64)
    for number, ids in enumerate(kept):
        if ids is None:
            result[number] = UNKNOWN_LABEL
        else:
            check_ids(ids, num_labels, f"label_ids: row {number} of the batch")
            result[number, : len(ids)] = ids
    return result


def check_ids(ids: np.ndarray, num_labels: int, where: str) -> None:
    """DataError unless all are integers from 0 to `num_labels` - 1."""
    wrong = ids if ids.dtype.kind not in "iu" else ids[(ids < 0) | (ids >= num_labels)]
    if len(wrong):
        raise DataError(f"{where}: expected label ids from 0 to {num_labels - 1}, got {wrong[0]}")
