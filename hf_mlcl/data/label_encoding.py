"""Label columns of any form -> one multi-hot column and its label names. Imports labels and label_cells.

The form of a label column is decided by these rules, never by chance:

* `ClassLabel`, or lists of them: ids with names; -1 means no label.
* strings, or lists of them: label names, whitespace stripped. A single string may hold several (`label_delimiter`).
* integers (or floats without a fraction), one a row: an id, so one label a row.
* lists of integers: ids - unless every row that is not empty has the same length > 1 and holds only 0 and 1, and some
  row holds a value twice, which no set of ids does: then the rows are multi-hot.
* lists of booleans: multi-hot.
* several columns: one 0/1 column per label.

Ids without names are named by their number; an empty cell (null, NaN, "", []) means no label.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from .errors import nearest
from .label_cells import LabelCells, read_label_cells, split_strings
from .labels import check_label_names, duplicates, indicator_values

logger = logging.getLogger(__name__)

_MAX_CELLS = 2**33  # a larger multi-hot array would not fit into memory: nearly always a text column taken for labels


def encode_labels(
    splits: Mapping[str, Dataset],
    columns: Sequence[str],
    *,
    delimiter: str | None = None,
    label_names: Sequence[str] | None = None,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Turn the label column(s) of all splits into multi-hot arrays over one universe of labels.

    Args:
        splits: data sets that all have the columns `columns`.
        columns: one column in any of the forms above, or several 0/1 columns.
        delimiter: what separates the labels in a string; None detects it, "" takes each string as one label.
        label_names: the universe and its order. Ids without names count in it (or name it, if it consists of numbers).
            None takes all labels: in the order of the ClassLabel, sorted for strings (by number if all are numbers),
            in the order of the columns for 0/1 columns. Labels that only one split has are kept.

    Returns:
        a bool array (N, L) per split, and the L label names.

    Raises:
        ValueError: the column has no readable form, or a label is not in `label_names`; one line that says which.
    """
    if label_names is not None:
        check_label_names(label_names)
    if len(columns) > 1:
        return _from_indicators(splits, columns, label_names)
    column = columns[0]
    cells = {name: _read(split, name, column) for name, split in splits.items()}
    kinds = {split.kind for split in cells.values()} - {"nothing"}
    if kinds == {"bool"} and not any(split.is_list for split in cells.values()):
        return _from_indicators(splits, columns, label_names)
    if kinds == {"string"} and not any(split.is_list for split in cells.values()):
        cells, _ = split_strings(cells, column, delimiter)
        kinds = {split.kind for split in cells.values()} - {"nothing"}
    elif delimiter:
        got = ", ".join(sorted(kinds)) or "nothing"
        raise ValueError(f"label_delimiter: expected a label column of strings, '{column}' holds {got} values")
    if not kinds:
        raise ValueError(f"label column '{column}': expected at least one label, got only empty cells")
    if not (len(kinds) == 1 or kinds == {"class", "string"}):
        got = ", ".join(f"{split.kind} in '{name}'" for name, split in cells.items())
        raise ValueError(f"label column '{column}': expected one type in all splits, got {got}")
    width = _multi_hot_width(list(cells.values()), column)
    if width:
        return _from_multi_hot(cells, width, column, label_names)
    return _from_names(cells, column, label_names)


def _read(split: Dataset, name: str, column: str) -> LabelCells:
    """Read a label column; floats without a fraction become integers (pandas writes ids with gaps as floats)."""
    cells = read_label_cells(split, column)
    if cells.kind == "float":
        whole = cells.values.drop_null().to_numpy()
        if (whole != np.floor(whole)).any():
            raise ValueError(
                f"label column '{column}': expected ids or 0/1, got {whole[whole % 1 != 0][0]} in '{name}'"
            )
        cells = replace(cells, values=cells.values.cast(pa.int64()))
    return cells


def _multi_hot_width(cells: list[LabelCells], column: str) -> int:
    """Width of the rows if they are multi-hot by the rule of the module; 0 if they are names or ids."""
    filled = [split for split in cells if split.kind != "nothing"]
    if filled[0].kind not in ("bool", "integer") or not all(split.is_list for split in filled):
        return 0
    is_bool = filled[0].kind == "bool"
    lengths = [np.bincount(split.rows, minlength=split.num_rows) for split in filled]
    widths = np.unique(np.concatenate([length[length > 0] for length in lengths]))
    if is_bool and len(widths) > 1:
        raise ValueError(
            f"label column '{column}': expected multi-hot rows of one width, got widths {widths.tolist()[:5]}"
        )
    if is_bool:
        return int(widths[0])
    width = int(widths[0])
    if len(widths) > 1 or width < 2 or any(split.values.null_count for split in filled):
        return 0
    rows = np.concatenate([split.values.to_numpy() for split in filled]).reshape(-1, width)
    ones = rows.sum(axis=1)
    # A row with a value twice (always so for a width above 2) is no set of ids.
    if not np.isin(rows, (0, 1)).all():
        return 0
    if not ((ones > 1) | (width - ones > 1)).any():
        logger.warning("label column '%s': rows such as %s are read as ids; booleans are multi-hot", column, rows[0])
        return 0
    return width


def _from_multi_hot(
    cells: Mapping[str, LabelCells], width: int, column: str, label_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], list[str]]:
    names = [str(number) for number in range(width)] if label_names is None else list(label_names)
    if len(names) != width:
        raise ValueError(f"label column '{column}': expected multi-hot rows of {len(names)} labels, got width {width}")
    result = {}
    for name, split in cells.items():
        labels = np.zeros((split.num_rows, width), dtype=bool)
        filled, start = np.unique(split.rows, return_index=True)
        if len(filled):
            values = split.values.cast(pa.bool_()).fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
            labels[filled] = values.reshape(len(start), width)
        result[name] = labels
    return result, names


def _from_indicators(
    splits: Mapping[str, Dataset], columns: Sequence[str], label_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """One 0/1 column per label, named as the column; a label of `label_names` without a column is 0."""
    twice = duplicates(columns)
    if twice:
        raise ValueError(f"label_column: expected different columns, got '{twice[0]}' twice")
    names = list(columns if label_names is None else label_names)
    position = {name: number for number, name in enumerate(names)}
    result = {}
    for split_name, split in splits.items():
        labels = np.zeros((len(split), len(names)), dtype=bool)
        for column in columns:
            values = indicator_values(split, column)
            if values is None:
                raise ValueError(
                    f"label_column: expected only 0 and 1 in column '{column}' (one column per label), "
                    f"got other values in split '{split_name}'"
                )
            if column in position:
                labels[:, position[column]] = values
            elif values.any():
                raise _unknown(column, split_name, "label_column", names)
        result[split_name] = labels
    return result, names


def _from_names(
    cells: Mapping[str, LabelCells], column: str, label_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], list[str]]:
    named = {name: _as_names(split, column, name) for name, split in cells.items()}
    present = _sorted_names({text for split in named.values() for text in pc.unique(split.values).to_pylist()})
    declared = list(dict.fromkeys(text for split in cells.values() for text in split.class_names or []))
    if label_names is None:
        known = set(declared)
        names = declared + [text for text in present if text not in known]
    else:
        names = list(label_names)
    if not names:
        raise ValueError(f"label column '{column}': expected at least one label, got only empty cells")
    keys = names
    if label_names is not None and not declared and present and all(map(_is_number, present)):
        if not set(present) & set(names):  # numbers that are not names count in the given names
            keys = [str(number) for number in range(len(names))]
    num_rows = sum(split.num_rows for split in cells.values())
    if num_rows * len(names) > _MAX_CELLS:
        raise ValueError(
            f"label column '{column}': {len(names)} different labels in {num_rows} rows; is it the label column?"
        )
    result = {}
    for name, split in named.items():
        index = pc.index_in(split.values, value_set=pa.array(keys, pa.string()))
        if index.null_count:
            raise _unknown(
                pc.filter(split.values, pc.is_null(index))[0].as_py(), name, f"label column '{column}'", names
            )
        labels = np.zeros((split.num_rows, len(names)), dtype=bool)
        labels[split.rows, index.to_numpy()] = True
        result[name] = labels
    return result, names


def _as_names(cells: LabelCells, column: str, split_name: str) -> LabelCells:
    """Replace ids by names (numbers where there are none), strip names, and drop what means no label."""
    values = cells.values
    kind = cells.kind
    if kind == "class":
        names = cells.class_names or []
        values = pc.if_else(pc.equal(values, -1), None, values)
        largest = pc.max(values).as_py()
        if largest is not None and not (0 <= pc.min(values).as_py() and largest < len(names)):
            raise ValueError(f"label column '{column}': expected ids below {len(names)}, got others in '{split_name}'")
        values = pa.array(names, pa.string()).take(values)
    elif kind == "integer":
        if (pc.min(values).as_py() or 0) < 0:
            raise ValueError(f"label column '{column}': expected ids from 0, got {pc.min(values)} in '{split_name}'")
        values = values.cast(pa.string())
    else:
        values = pc.utf8_trim_whitespace(values.cast(pa.string()))
    keep = pc.fill_null(pc.not_equal(values, ""), False)
    return replace(
        cells, rows=cells.rows[keep.to_numpy(zero_copy_only=False)], values=pc.filter(values, keep), class_names=None
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _sorted_names(names: set[str]) -> list[str]:
    return sorted(names, key=lambda name: (int(name), name)) if all(map(_is_number, names)) else sorted(names)


def _unknown(label: str, split_name: str, where: str, names: Sequence[str]) -> ValueError:
    return ValueError(
        f"{where}: label {label!r} of split '{split_name}' is not one of the {len(names)} label_names"
        f"{nearest(label, names)}"
    )
