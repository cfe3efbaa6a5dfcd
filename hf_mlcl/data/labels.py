"""Multi-hot labels as arrays and as the column `labels` of a data set. Imports datasets, pyarrow and numpy."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, List, Value

from .errors import DataError
from .label_cells import arrow_column

UNKNOWN_LABEL = -100

_YES, _NO = ("1", "1.0", "true"), ("0", "0.0", "false", "")
_UNKNOWN_TEXTS = ("-100", "-100.0", "nan")


def normal_name(name: str) -> str:
    """A label name without surrounding blanks and in Unicode's composed form (NFC), so that equal names are equal."""
    return unicodedata.normalize("NFC", name).strip()


def checked_label_names(label_names: Sequence[str]) -> list[str]:
    """The names as `normal_name` writes them; ValueError unless all are strings, not blank, and different."""
    if isinstance(label_names, str) or not label_names:
        got = repr(label_names) if isinstance(label_names, str) else "none"
        raise ValueError(f"label_names: expected at least one label in a list, got {got}")
    wrong = [name for name in label_names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise ValueError(f"label_names: expected strings that are not blank, got {wrong[0]!r}")
    names = [normal_name(name) for name in label_names]
    twice = duplicates(names)
    if twice:
        how = "" if twice[0] in duplicates(label_names) else " (blanks around it and its Unicode form do not count)"
        raise ValueError(f"label_names: expected different names, got {twice[0]!r} twice{how}")
    return names


def multi_hot(ids: Iterable[Iterable[int]], num_labels: int) -> np.ndarray:
    """Rows of label ids -> bool array (N, num_labels). Raises ValueError for an id outside 0..num_labels-1."""
    rows = [list(row) for row in ids]
    result = np.zeros((len(rows), num_labels), dtype=bool)
    for number, row in enumerate(rows):
        wrong = [id_ for id_ in row if not 0 <= id_ < num_labels]
        if wrong:
            raise ValueError(f"ids: expected label ids from 0 to {num_labels - 1}, got {wrong[0]} in row {number}")
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
        raise DataError(f"{name}: expected 0, 1 or unknown (-100, NaN), got values of type {array.dtype}") from None
    if np.any(wrong):
        got = array[wrong].flat[0]
        raise DataError(f"{name}: expected 0, 1 or unknown (-100, NaN), got {got}; class ids are not multi-hot")
    known = array == 1
    return np.where(unknown, UNKNOWN_LABEL, known).astype(np.int8) if np.any(unknown) else np.asarray(known)


def with_unknown(labels: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Bool labels (N, L), those marked by `unknown` (N,) or (N, L) made unknown; stays bool where it marks none."""
    if not unknown.any():
        return labels
    mask = unknown if unknown.ndim == labels.ndim else unknown[:, None]
    return np.where(mask, UNKNOWN_LABEL, labels).astype(np.int8)


def add_labels(split: Dataset, labels: np.ndarray) -> Dataset:
    """Add labels (N, L), bool or int8 with -100 for unknown, as the column `labels`, lists of the fixed length L."""
    width = labels.shape[1]
    dtype = "bool" if labels.dtype == bool else "int8"
    # A new column with its own feature: mapping ids to multi-hot under one name would keep the old feature silently.
    values = pa.FixedSizeListArray.from_arrays(pa.array(labels.ravel()), width)
    return split.add_column("labels", values, feature=List(Value(dtype), length=width))


def label_matrix(split: Dataset) -> np.ndarray:
    """The column `labels` of a split as an array (N, L): bool, or int8 with -100 where labels are unknown.

    Numbers are accepted if all are 0, 1 or unknown: -100, NaN or null; a null in place of a row makes it unknown.

    Raises:
        ValueError: there is no column `labels`, or it is not multi-hot (ids, rows of different length, other values).
    """
    if "labels" not in split.column_names:
        raise ValueError(f"column 'labels': expected multi-hot labels, got the columns {split.column_names}")
    array = arrow_column(split, "labels")
    kinds = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
    if not any(is_kind(array.type) for is_kind in kinds) or (array.null_count and array.null_count == len(array)):
        raise ValueError(f"column 'labels': expected multi-hot lists in every row, got {split.features['labels']}")
    missing = array.is_null().to_numpy(zero_copy_only=False)
    present = array.drop_null()
    widths = pc.unique(pc.list_value_length(present)).to_pylist()
    if len(widths) > 1:
        raise ValueError(f"column 'labels': expected multi-hot rows of one width, got widths {sorted(widths)[:5]}")
    width = widths[0] if widths else max(split.features["labels"].length, 0)
    values = pc.list_flatten(present)
    if not (pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise ValueError(f"column 'labels': expected multi-hot rows of numbers, got {split.features['labels']}")
    flat = values.to_numpy(zero_copy_only=False)
    known = canonical_labels(flat, "column 'labels': expected multi-hot rows; label values").reshape(-1, width)
    if not missing.any():
        return known
    labels = np.full((len(array), width), UNKNOWN_LABEL, dtype=np.int8)
    labels[~missing] = known
    return labels


def label_counts(split: Dataset) -> np.ndarray:
    """Number of examples known to have each label, by the column `labels`: int64 (L,)."""
    return (label_matrix(split) == 1).sum(axis=0, dtype=np.int64)


def indicator_matrix(split: Dataset, columns: Sequence[str]) -> Iterator[np.ndarray | None]:
    """For each of the columns its `indicator_values`; None also for a ClassLabel, whose ids are not 0/1 values."""
    # All columns and features at once: asking for thousands of them one by one would take minutes.
    table, features = split.select_columns(list(columns)).with_format("arrow")[:], split.features
    for column in columns:
        if isinstance(features[column], Value):
            yield _joined([indicator_values(chunk) for chunk in table.column(column).chunks])
        else:
            yield None


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return np.concatenate(known) if known else np.zeros(0, dtype=bool)


def indicator_values(array: pa.Array) -> np.ndarray | None:
    """0/1 or true/false (also as strings) as `canonical_labels` (N,); None if the column holds anything else.

    Null, NaN and -100 are unknown, the empty string is 0.
    """
    type_ = array.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        lowered = pc.utf8_lower(pc.utf8_trim_whitespace(array))
        yes, no, unknown = (pc.is_in(lowered, pa.array(texts, type_)) for texts in (_YES, _NO, _UNKNOWN_TEXTS))
        unknown = pc.or_(unknown, pc.is_null(lowered))
        if pc.all(pc.or_(pc.or_(yes, no), unknown)).as_py() is False:
            return None
        return with_unknown(_bools(yes), _bools(unknown))
    if pa.types.is_boolean(type_):
        return with_unknown(_bools(array.fill_null(False)), _bools(array.is_null()))
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        try:
            return canonical_labels(array.to_numpy(zero_copy_only=False))
        except ValueError:
            return None
    if pa.types.is_null(type_):
        return np.full(len(array), UNKNOWN_LABEL, dtype=np.int8)
    return None


def _bools(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False).astype(bool)


def duplicates(names: Sequence[str]) -> list[str]:
    """The names that occur for the second time, in order."""
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
