"""Multi-hot labels as arrays and as the column `labels` of a data set. Imports datasets, pyarrow and numpy."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, List, Value

from .errors import DataError
from .label_cells import NOTHING_TEXTS, UNKNOWN_TEXTS, arrow_column, trimmed

UNKNOWN_LABEL = -100

# What else than 0, 1 and unknown a cell of a 0/1 column may be, beside those in `indicator_values`.
BLANK, OTHER = 2, 3

_YES, _NO = ("1", "true", "yes", "y", "t"), ("0", "false", "no", "n", "f")


def normal_name(name: str) -> str:
    """A label name in Unicode's composed form (NFC), without blanks or a byte order mark around it."""
    return unicodedata.normalize("NFC", name).strip().strip("\ufeff").strip()


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


def indicator_matrix(split: Dataset, columns: Sequence[str]) -> Iterator[np.ndarray]:
    """For each of the columns its `indicator_values`; of a ClassLabel those of its names."""
    # All columns and features at once: asking for thousands of them one by one would take minutes.
    table, features = split.select_columns(list(columns)).with_format("arrow")[:], split.features
    for column in columns:
        chunks = table.column(column).chunks
        if isinstance(features[column], ClassLabel):
            names = pa.array([*features[column].names, None], pa.string())  # -1 is a missing one
            chunks = [names.take(pc.if_else(pc.less(chunk, 0), len(names) - 1, chunk)) for chunk in chunks]
        yield np.concatenate([indicator_values(chunk) for chunk in chunks] or [np.zeros(0, dtype=np.int8)])


def indicator_values(array: pa.Array) -> np.ndarray:
    """Cells of a 0/1 column, int8 (N,): 0, 1, -100 for unknown, `BLANK` for an empty text, `OTHER` for anything else.

    Read are numbers, booleans and what texts write for them; null, NaN and texts such as NA are unknown.
    """
    type_ = array.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or str(type_) == "string_view":
        texts = pc.utf8_lower(trimmed(array.cast(pa.string())))
        texts = pc.replace_substring_regex(texts, r"^(0|1|-100)\.0*$", r"\1")
        values = np.full(len(array), OTHER, dtype=np.int8)
        for value, known in ((1, _YES), (0, _NO), (UNKNOWN_LABEL, (*UNKNOWN_TEXTS, *NOTHING_TEXTS)), (BLANK, ("",))):
            values[_bools(pc.is_in(texts, pa.array(known)))] = value
        values[_bools(array.is_null())] = UNKNOWN_LABEL
        return values
    if pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_):
        numbers = array.cast(pa.float64() if pa.types.is_floating(type_) else pa.int64()).to_numpy(
            zero_copy_only=False
        )
        values = np.where(np.isin(numbers, (0, 1, UNKNOWN_LABEL)), numbers, OTHER)
        return np.where(numbers != numbers, UNKNOWN_LABEL, values).astype(np.int8)
    return np.where(_bools(array.is_null()), UNKNOWN_LABEL, OTHER).astype(np.int8)


def wrong_indicator(split: Dataset, split_name: str, column: str, values: np.ndarray) -> str:
    """What a message says of the first cell that is neither 0 nor 1 nor unknown."""
    row = int(np.flatnonzero(values == OTHER)[0])
    value = split.select_columns([column])[row][column]
    return f"got {value!r} in row {row} of split '{split_name}'; write 1, 0, or nan where it is unknown"


def _bools(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False).astype(bool)


def duplicates(names: Sequence[str]) -> list[str]:
    """The names that occur for the second time, in order."""
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
