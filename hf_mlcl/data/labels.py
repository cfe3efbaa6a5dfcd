"""Multi-hot labels as arrays and as the column `labels` of a data set. Imports datasets, pyarrow and numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, List, Value

from .label_cells import arrow_column


def check_label_names(label_names: Sequence[str]) -> None:
    """Raise ValueError unless the names are at least one, strings, not blank and all different."""
    if not label_names:
        raise ValueError("label_names: expected at least one label, got none")
    wrong = [name for name in label_names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise ValueError(f"label_names: expected strings that are not blank, got {wrong[0]!r}")
    twice = duplicates(label_names)
    if twice:
        raise ValueError(f"label_names: expected different names, got {twice[0]!r} twice")


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


def add_labels(split: Dataset, labels: np.ndarray) -> Dataset:
    """Add a bool array (N, L) as the column `labels`, `List(Value("bool"), length=L)`."""
    width = labels.shape[1]
    # A new column with its own feature: mapping ids to multi-hot under one name would keep the old feature silently.
    values = pa.FixedSizeListArray.from_arrays(pa.array(labels.ravel()), width)
    return split.add_column("labels", values, feature=List(Value("bool"), length=width))


def label_matrix(split: Dataset) -> np.ndarray:
    """The column `labels` of a split as a bool array (N, L); numbers are accepted if all are 0 or 1.

    Raises:
        ValueError: there is no column `labels`, or it is not multi-hot (ids, rows of different length, other values).
    """
    if "labels" not in split.column_names:
        raise ValueError(f"column 'labels': expected multi-hot labels, got the columns {split.column_names}")
    array = arrow_column(split, "labels")
    if not (pa.types.is_fixed_size_list(array.type) or pa.types.is_list(array.type)) or array.null_count:
        raise ValueError(f"column 'labels': expected multi-hot lists in every row, got {split.features['labels']}")
    widths = pc.unique(pc.list_value_length(array)).to_pylist()
    if len(widths) > 1:
        raise ValueError(f"column 'labels': expected multi-hot rows of one width, got widths {sorted(widths)[:5]}")
    values = pc.list_flatten(array)
    feature = split.features["labels"]
    width = widths[0] if widths else max(feature.length, 0)
    flat = values.to_numpy(zero_copy_only=False)
    if values.null_count or (flat.dtype != bool and not np.isin(flat, (0, 1)).all()):
        raise ValueError("column 'labels': expected multi-hot rows of 0 and 1, got other values (class ids?)")
    return flat.astype(bool).reshape(len(array), width)


def label_counts(split: Dataset) -> np.ndarray:
    """Number of examples of each label in the column `labels`: int64 (L,)."""
    return label_matrix(split).sum(axis=0, dtype=np.int64)


def indicator_values(split: Dataset, column: str) -> np.ndarray | None:
    """A column of 0/1 or true/false (also as strings) as bool (N,), null as False; None if it holds anything else."""
    if not isinstance(split.features[column], Value):
        return None
    array = arrow_column(split, column)
    type_ = array.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        lowered = pc.utf8_lower(pc.utf8_trim_whitespace(array))
        yes, no = pa.array(["1", "1.0", "true"], type_), pa.array(["0", "0.0", "false", ""], type_)
        known = pc.or_(pc.is_in(lowered, yes), pc.or_(pc.is_in(lowered, no), pc.is_null(lowered)))
        return _bools(pc.is_in(lowered, yes)) if pc.all(known).as_py() is not False else None
    if pa.types.is_boolean(type_):
        return _bools(array.fill_null(False))
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        values = pc.coalesce(array, pa.scalar(0, type_)).to_numpy(zero_copy_only=False)
        values = np.where(np.isnan(values), 0, values)
        return values.astype(bool) if np.isin(values, (0, 1)).all() else None
    return None


def _bools(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False).astype(bool)


def duplicates(names: Sequence[str]) -> list[str]:
    """The names that occur for the second time, in order."""
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
