"""`Labels`: the labels of many examples, from arrays, dataset columns or ids. Imports datasets, pyarrow, scipy."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, List, Value
from scipy import sparse

from hf_mlcl.messages import DataError

UNKNOWN_LABEL = -100
LABEL_IDS = "label_ids"  # the column, and what a batch calls it
LABEL_KEYS = (LABEL_IDS, "labels", "label")  # of examples; the last as transformers' collators do
PADDING = -1
LIST_TYPES = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)
MAX_ROW_LABELS = 10_000
_MAX_ROW_BYTES = 2**30


def normal_name(name: str) -> str:
    """A label name in Unicode's composed form (NFC), without blanks or a byte order mark around it."""
    return unicodedata.normalize("NFC", name).strip().strip("\ufeff").strip()


def different_names(names: Sequence[str], where: str) -> list[str]:
    """The names as `normal_name` writes them; ValueError, which begins with `where`, if that makes two the same."""
    counts = Counter(map(normal_name, names))
    if len(counts) < len(names):
        (name, number), *_ = counts.most_common(1)
        how = "" if list(names).count(name) == number else " (blanks around it and its Unicode form do not count)"
        raise ValueError(f"{where}: names must be different, got {name!r} twice{how}")
    return list(counts)


def checked_label_names(label_names: Sequence[str]) -> list[str]:
    """The names as `normal_name` writes them; ValueError unless all are strings, not blank, and different."""
    if isinstance(label_names, str) or not label_names:
        raise ValueError(f"label_names must be a list of at least one name, got {label_names!r}")
    wrong = [name for name in label_names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise ValueError(f"label_names must be strings that are not blank, got {wrong[0]!r}")
    return different_names(label_names, "label_names")


def multi_hot(ids: Iterable[Iterable[int]], num_labels: int) -> np.ndarray:
    """Rows of label ids -> bool array (N, num_labels). Raises ValueError for an id outside 0..num_labels-1.

    Example:
        >>> multi_hot([[0, 2], []], 3).tolist()
        [[True, False, True], [False, False, False]]
    """
    rows = [np.array(list(row), dtype=np.int64) for row in ids]
    result = np.zeros((len(rows), num_labels), dtype=bool)
    for number, row in enumerate(rows):
        check_ids(row, num_labels, f"ids: row {number}")
        result[number, row] = True
    return result


def canonical_labels(values: Any, name: str = "labels") -> np.ndarray:
    """Labels in their one form: bool where all are known, else int8 with 1, 0, and -100 for unknown.

    Args:
        values: array of any shape and of bool, integers or floats: 1, 0, and -100 or NaN for unknown.
        name: what the values are called in errors.

    Raises:
        DataError: another value, such as a class id.
    """
    array = np.asarray(values)
    if array.dtype == bool:
        return array
    try:
        array = array.astype(np.float64) if array.dtype == object else array  # None becomes NaN
        unknown = (array == UNKNOWN_LABEL) | (array != array)  # NaN alone is not itself
        wrong = ~(unknown | (array == 0) | (array == 1))
    except (TypeError, ValueError):
        raise DataError(
            f"{name}: values must be 0, 1 or missing (-100, NaN), got values of type {array.dtype}"
        ) from None
    if np.any(wrong):
        got = array[wrong].flat[0]
        raise DataError(f"{name}: values must be 0, 1 or missing (-100, NaN), got {got}; class ids are not multi-hot")
    known = array == 1
    return np.where(unknown, UNKNOWN_LABEL, known).astype(np.int8) if np.any(unknown) else np.asarray(known)


def label_key(names: Iterable[str]) -> str | None:
    """The name under which examples hold their labels; None where there is none."""
    return next((key for key in LABEL_KEYS if key in names), None)


def too_large_for_rows(num_rows: int, num_labels: int) -> bool:
    """Whether a column of ids is kept instead of rows: over 10,000 labels, or rows of over 1 GiB."""
    return num_labels > MAX_ROW_LABELS or num_rows * num_labels > _MAX_ROW_BYTES


@dataclass(frozen=True, eq=False)
class Labels:
    """Which of L labels each of N examples has: sparse, so that 100,000 labels cost no more than those in use.

    Attributes:
        matrix: sparse bool (N, L), True where an example is known to have a label.
        unlabelled: bool (N,), the examples of which nothing is known.
        missing: sparse bool (N, L), single labels that are unknown of the other examples; None if there are none.
        as_ids: whether examples hold them as `label_ids`, lists of ids, instead of `labels`, multi-hot rows.

    Example:
        >>> labels = Labels.of([[1, 0, 1], [0, -100, 0], None])
        >>> labels.ids(0).tolist(), labels.counts().tolist(), labels.known_counts().tolist()
        ([0, 2], [1, 0, 1], [2, 1, 2])
        >>> labels.rows().tolist()
        [[1, 0, 1], [0, -100, 0], [-100, -100, -100]]
    """

    matrix: sparse.csr_array
    unlabelled: np.ndarray
    missing: sparse.csr_array | None = None
    as_ids: bool = False

    @classmethod
    def of(cls, values: Any, num_labels: int | None = None, name: str = "labels") -> Labels:
        """The labels that an array, a nested list or a dataset holds; `Labels` are returned as they are.

        Args:
            values: multi-hot (N, L), of bool or numbers: 1, 0, and -100, NaN or None where a label is missing; a row
                that is None or all missing is an unlabelled example. Or a `datasets.Dataset` with such rows in the
                column `labels` (or `label`), or with lists of ids (-1 is padding, null an unlabelled example) in
                `label_ids`.
            num_labels: number of labels L; by default as wide as the rows, or one more than the largest id.
            name: what the values are called in errors.

        Raises:
            DataError: a ValueError, for anything else, such as class ids or rows of different width.
        """
        if isinstance(values, Labels):
            return values
        if isinstance(values, Dataset):
            column = label_key(values.column_names)
            if column == LABEL_IDS:
                return _from_id_column(values, num_labels)
            rows, unlabelled = _column_rows(values, column or "labels")
            name = f"column '{column}': multi-hot rows"
        else:
            rows, unlabelled = _array_rows(values, name)
        if num_labels is not None and rows.shape[1] != num_labels:
            raise DataError(f"{name}: the width must be {num_labels} labels, got {rows.shape[1]}")
        present, labels = np.flatnonzero(~unlabelled), canonical_labels(rows, name)
        ones, missing = (np.nonzero(labels == value) for value in (1, UNKNOWN_LABEL))
        shape = (len(unlabelled), rows.shape[1])
        return cls.from_pairs(present[ones[0]], ones[1], shape, unlabelled, (present[missing[0]], missing[1]))

    @classmethod
    def from_pairs(
        cls,
        rows: np.ndarray,
        ids: np.ndarray,
        shape: tuple[int, int],
        unlabelled: np.ndarray | None = None,
        missing: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Labels:
        """From pairs of a row and a label it has, in any order; a pair may come more than once.

        Args:
            rows, ids: the pairs, integers (K,).
            shape: number of examples N and of labels L.
            unlabelled: bool (N,), the examples of which nothing is known; by default none.
            missing: pairs of a row and a label of which it is not known whether the row has it. A row of which all are
                missing is unlabelled.
        """
        matrix = _sparse(rows, ids, shape)
        unlabelled = np.zeros(shape[0], dtype=bool) if unlabelled is None else unlabelled
        if missing is None or not len(missing[0]):
            return cls(matrix, unlabelled)
        unlabelled = unlabelled | (np.diff(_sparse(*missing, shape).indptr) == shape[1])
        single = ~unlabelled[missing[0]]
        partly = _sparse(missing[0][single], missing[1][single], shape)
        return cls(matrix, unlabelled, partly if partly.nnz else None)

    @classmethod
    def from_padded(cls, label_ids: np.ndarray, num_labels: int) -> Labels:
        """From lists (N, K) as a batch has them: ids, then -1 or -100; all of a row is -100 where nothing is known."""
        rows, places = np.nonzero(label_ids >= 0)
        unlabelled = label_ids[:, 0] == UNKNOWN_LABEL
        labels = cls.from_pairs(rows, label_ids[rows, places], (len(label_ids), num_labels), unlabelled)
        return replace(labels, as_ids=True)

    @classmethod
    def concatenate(cls, parts: Sequence[Labels]) -> Labels:
        """The examples of all parts, one after the other."""
        matrix = sparse.vstack([part.matrix for part in parts], format="csr")
        unlabelled = np.concatenate([part.unlabelled for part in parts])
        if all(part.missing is None for part in parts):
            return cls(matrix, unlabelled, as_ids=parts[0].as_ids)
        missing = [p.missing if p.missing is not None else sparse.csr_array(p.shape, dtype=bool) for p in parts]
        return cls(matrix, unlabelled, sparse.vstack(missing, format="csr"), parts[0].as_ids)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of examples N and of labels L."""
        return self.matrix.shape

    @property
    def known(self) -> bool:
        """Whether every label of every example is known."""
        return self.missing is None and not self.unlabelled.any()

    @property
    def too_large(self) -> bool:
        """Whether datasets keep the column `label_ids` instead of `labels`: over 10,000 labels, or 1 GiB of rows."""
        return too_large_for_rows(*self.shape)

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def __getitem__(self, rows: Any) -> Labels:
        """The labels of some of the examples, by their numbers, a slice or a mask."""
        missing = None if self.missing is None else self.missing[rows]
        missing = None if missing is None or not missing.nnz else missing
        return Labels(self.matrix[rows], self.unlabelled[rows], missing, self.as_ids)

    def columns(self, labels: np.ndarray) -> Labels:
        """The same examples with some of the labels, by their numbers."""
        matrix = self.matrix[:, labels]
        missing = None if self.missing is None else self.missing[:, labels].nonzero()
        rows, ids = matrix.nonzero()
        return Labels.from_pairs(rows, ids, matrix.shape, self.unlabelled, missing)

    def ids(self, row: int) -> np.ndarray | None:
        """Ids of the labels of one example, int64 and ascending; None where nothing is known."""
        if self.unlabelled[row]:
            return None
        start, end = self.matrix.indptr[row : row + 2]
        return self.matrix.indices[start:end].astype(np.int64)

    def examples(self, rows: Any) -> list[dict[str, np.ndarray | None]]:
        """What some examples of the dataset hold of their labels: a list of ids, or a multi-hot row."""
        part = self[rows]
        values = map(part.ids, range(len(part))) if self.as_ids else part.rows()
        return [{LABEL_IDS if self.as_ids else "labels": value} for value in values]

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Example and label of each label that an example has, int64, ascending."""
        return np.repeat(np.arange(len(self)), np.diff(self.matrix.indptr)), self.matrix.indices.astype(np.int64)

    def counts(self) -> np.ndarray:
        """Number of examples known to have each label, int64 (L,)."""
        return np.bincount(self.matrix.indices, minlength=self.shape[1])

    def known_counts(self) -> np.ndarray:
        """Number of examples of which each label is known, int64 (L,)."""
        counts = np.full(self.shape[1], np.count_nonzero(~self.unlabelled))
        return counts if self.missing is None else counts - np.bincount(self.missing.indices, minlength=len(counts))

    @cached_property
    def by_label(self) -> sparse.csc_array:
        """The matrix as it is fast to take labels from."""
        return self.matrix.tocsc()

    @cached_property
    def _missing_by_label(self) -> sparse.csc_array:
        return sparse.csc_array(self.shape, dtype=bool) if self.missing is None else self.missing.tocsc()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Multi-hot rows of all labels, for functions on arrays; ValueError where they would take over 1 GiB."""
        if len(self) * self.shape[1] > _MAX_ROW_BYTES:
            raise ValueError(f"labels: {len(self)} x {self.shape[1]} of them are more than 1 GiB of rows; use `rows`")
        return self.rows().astype(dtype, copy=False)

    def rows(self, columns: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Multi-hot rows of some of the labels: bool (N, l), or int8 with -100 where a label is missing."""
        dense = self.by_label[:, columns].toarray()
        if self.known:
            return dense
        missing = self.unlabelled[:, None] | self._missing_by_label[:, columns].toarray()
        return np.where(missing, UNKNOWN_LABEL, dense).astype(np.int8)

    def as_stored(self) -> Labels | np.ndarray:
        """Multi-hot rows, where examples hold these; else, of lists of ids, the labels as they are."""
        return self if self.as_ids else self.rows()


def _sparse(rows: np.ndarray, ids: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    matrix = sparse.csr_array((np.ones(len(rows), dtype=bool), (rows, ids)), shape=shape)
    matrix.sum_duplicates()
    return matrix


def arrow_column(split: Dataset, column: str) -> pa.Array:
    """The values of a column as one arrow array, in the order of the rows of `split`."""
    values = split.select_columns([column]).with_format("arrow")[:][column]
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _array_rows(values: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Those rows (n, L) of an array, tensor or nested list that are not None, and which of all rows (N,) are."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()  # numpy knows no bfloat16
    none = np.zeros(len(values) if hasattr(values, "__len__") else 0, dtype=bool)
    if isinstance(values, (list, tuple)):
        none = np.array([row is None for row in values], dtype=bool)
        values = [row for row in values if row is not None]
    try:
        array = np.asarray(values)
    except ValueError:
        raise DataError(f"{name}: multi-hot rows must have one width, got rows of different ones") from None
    if array.ndim != 2:
        raise DataError(f"{name}: a multi-hot array (N, L) of 0 and 1 is needed, got shape {array.shape}")
    return array, none


def _column_rows(split: Dataset, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Those rows (n, L) of the column that are not null, and which of all rows (N,) are."""
    if column not in split.column_names:
        raise DataError(f"column 'labels' is missing, the dataset has only {', '.join(split.column_names)}")
    array = arrow_column(split, column)
    type_, kinds = array.type, (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
    is_list = isinstance(type_, LIST_TYPES) and any(is_kind(type_.value_type) for is_kind in kinds)
    if not is_list or (array.null_count and array.null_count == len(array)):
        raise DataError(f"column '{column}' must hold multi-hot lists of numbers, got {split.features[column]}")
    present = array.drop_null()
    widths = pc.unique(pc.list_value_length(present)).to_pylist()
    if len(widths) > 1:
        raise DataError(f"column '{column}' must hold multi-hot rows of one width, got widths {sorted(widths)[:5]}")
    width = widths[0] if widths else max(split.features[column].length, 0)
    rows = pc.list_flatten(present).to_numpy(zero_copy_only=False).reshape(len(present), width)
    return rows, array.is_null().to_numpy(zero_copy_only=False)


def _from_id_column(split: Dataset, num_labels: int | None) -> Labels:
    array = arrow_column(split, LABEL_IDS)
    if not (isinstance(array.type, LIST_TYPES[:2]) and pa.types.is_integer(array.type.value_type)):
        raise DataError(f"column 'label_ids' must hold lists of label ids, got {split.features[LABEL_IDS]}")
    rows = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    ids = pc.list_flatten(array).fill_null(PADDING).to_numpy(zero_copy_only=False)
    rows, ids = rows[ids != PADDING], ids[ids != PADDING]
    width = int(ids.max(initial=-1)) + 1 if num_labels is None else num_labels
    check_ids(ids, width, "column 'label_ids'")
    unlabelled = array.is_null().to_numpy(zero_copy_only=False)
    return replace(Labels.from_pairs(rows, ids, (len(array), width), unlabelled), as_ids=True)


def add_label_column(split: Dataset, labels: Labels, as_ids: bool) -> Dataset:
    """Add labels as the column `label_ids` (lists of ids, null where unlabelled), or `labels` (rows of length L)."""
    values: pa.Array
    if as_ids:
        offsets = pa.array(labels.matrix.indptr.astype(np.int32), mask=np.append(labels.unlabelled, False))
        values = pa.ListArray.from_arrays(offsets, pa.array(labels.matrix.indices.astype(np.int32)))
        return split.add_column(LABEL_IDS, values, feature=List(Value("int32")))
    rows = labels.rows()
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    # A new column with its own feature: mapping ids to multi-hot under one name would keep the old feature silently.
    return split.add_column("labels", values, feature=List(Value(str(rows.dtype)), length=rows.shape[1]))


def check_ids(ids: np.ndarray, num_labels: int, where: str) -> None:
    """DataError unless all are integers from 0 to `num_labels` - 1."""
    wrong = ids if ids.dtype.kind not in "iu" else ids[(ids < 0) | (ids >= num_labels)]
    if len(wrong):
        raise DataError(f"{where}: label ids are from 0 to {num_labels - 1}, got {wrong[0]}")
