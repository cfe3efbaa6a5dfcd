"""Label columns of any form -> one multi-hot column and its label names. Imports labels and label_cells.

The form of a label column is decided by these rules, never by chance:

* `ClassLabel`, or lists of them: ids with names. -1 in a list is padding.
* strings, or lists of them: label names, whitespace stripped, in Unicode's composed form (NFC). A single string may
  hold several (`label_delimiter`); a name in double quotes is not cut.
* integers (or floats without a fraction), one a row: an id, so one label a row.
* lists of integers: ids - unless every row that is not empty has the same length > 1 and holds only 0, 1, -100 and
  null, and some row holds 0 or 1 twice or a -100, which no set of ids does: then the rows are multi-hot.
* lists of booleans: multi-hot.
* several columns, or one named as such: one 0/1 column per label.

Ids without names are named by their number. An empty cell ("" or []) says that the example has no label. A missing one
(null, NaN, a single -100, a ClassLabel of -1) says nothing: the example is unlabelled, all its labels are unknown. In
0/1 columns and multi-hot rows -100, NaN and null are unknown labels.

Names and ids of more than 10,000 labels, or of as many examples and labels as would fill over 1 GiB, stay lists.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from .errors import nearest, shown
from .label_cells import LabelCells, read_label_cells, split_strings
from .label_lists import LabelLists, too_large_for_rows
from .labels import (
    UNKNOWN_LABEL,
    canonical_labels,
    checked_label_names,
    duplicates,
    indicator_matrix,
    normal_name,
    with_unknown,
)

logger = logging.getLogger(__name__)


def encode_labels(
    splits: Mapping[str, Dataset],
    columns: Sequence[str],
    *,
    delimiter: str | None = None,
    label_names: Sequence[str] | None = None,
    indicators: bool | None = None,
) -> tuple[dict[str, np.ndarray | LabelLists], list[str]]:
    """Turn the label column(s) of all splits into multi-hot arrays over one universe of labels.

    Args:
        splits: data sets that all have the columns `columns`.
        columns: one column in any of the forms above, or several 0/1 columns.
        delimiter: what separates the labels in a string; None detects it, "" takes each string as one label.
        label_names: the universe and its order. Ids without names count in it (or name it, if it consists of numbers).
            None takes all labels: in the order of the ClassLabel, sorted for strings (by number if all are numbers),
            in the order of the columns for 0/1 columns. Labels that only one split has are kept.
        indicators: whether the columns are 0/1 columns, one per label; None takes several columns as such.

    Returns:
        an array (N, L) per split, bool where all labels are known, else int8 with -100 for unknown ones (a warning
        counts them), or `LabelLists` where arrays would be too large; and the L label names.

    Raises:
        ValueError: the column has no readable form, a label is not in `label_names`, or two names are the same but for
            blanks and Unicode form; one line that says which.
    """
    label_names = None if label_names is None else checked_label_names(label_names)
    for name, split in splits.items():
        missing = [column for column in columns if column not in split.column_names]
        if missing:
            available = shown(split.column_names)
            raise ValueError(f"label column '{missing[0]}': expected one of {available} in split '{name}', got none")
    if len(columns) > 1 if indicators is None else indicators:
        labels, names = _from_indicators(splits, columns, label_names)
    else:
        labels, names = _from_column(splits, columns[0], delimiter, label_names)
    for split_name, array in labels.items():
        _count_unknown(array, split_name)
    return labels, names


def _count_unknown(labels: np.ndarray | LabelLists, split_name: str) -> None:
    """Say how many labels of a split are unknown: it may be that nulls were meant as "not"."""
    if isinstance(labels, LabelLists):
        unlabelled, partly = int(labels.unlabelled.sum()), 0
    else:
        unknown = labels == UNKNOWN_LABEL
        unlabelled = 0 if labels.dtype == bool else int(unknown.all(axis=1).sum())
        partly = 0 if labels.dtype == bool else int(unknown.any(axis=1).sum()) - unlabelled
    if not unlabelled + partly:
        return
    logger.warning(
        "split '%s': of %d rows %d are unlabelled and %d have some unknown labels (null, NaN or -100; "
        'an empty string or list says "no label")',
        split_name, len(labels), unlabelled, partly,
    )  # fmt: skip


def _from_column(
    splits: Mapping[str, Dataset], column: str, delimiter: str | None, label_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray | LabelLists], list[str]]:
    cells = {name: _read(split, name, column) for name, split in splits.items()}
    kinds = {split.kind for split in cells.values()} - {"nothing"}
    if kinds == {"bool"} and not any(split.is_list for split in cells.values()):
        return _from_indicators(splits, [column], label_names)
    if kinds == {"string"} and not any(split.is_list for split in cells.values()):
        cells, _ = split_strings(cells, column, delimiter)
        kinds = {split.kind for split in cells.values()} - {"nothing"}
    elif delimiter:
        got = ", ".join(sorted(kinds)) or "nothing"
        raise ValueError(f"label_delimiter: expected a label column of strings, got {got} values in '{column}'")
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
    """Read a label column; floats without a fraction become integers (pandas writes ids with gaps as floats).

    Ids that mean "not given" become nulls: a single -100, and of a ClassLabel -1 as well.
    """
    cells = read_label_cells(split, column)
    if cells.kind == "float":
        whole = cells.values.drop_null().to_numpy()
        if (whole != np.floor(whole)).any():
            raise ValueError(
                f"label column '{column}': expected ids or 0/1, got {whole[whole % 1 != 0][0]} in '{name}'"
            )
        cells = replace(cells, values=cells.values.cast(pa.int64()))
    if cells.kind == "class" and cells.is_list:  # padded to one length
        keep = pc.fill_null(pc.not_equal(cells.values, -1), True)
        kept = keep.to_numpy(zero_copy_only=False)
        cells = replace(cells, rows=cells.rows[kept], values=pc.filter(cells.values, keep))
    if cells.kind == "class" or (cells.kind == "integer" and not cells.is_list):
        absent = pa.array([UNKNOWN_LABEL, -1] if cells.kind == "class" else [UNKNOWN_LABEL], pa.int64())
        cells = replace(cells, values=pc.if_else(pc.is_in(cells.values, absent), None, cells.values))
    return cells


def _multi_hot_width(cells: list[LabelCells], column: str) -> int:
    """Width of the rows if they are multi-hot by the rule of the module; 0 if they are names or ids."""
    filled = [split for split in cells if split.kind != "nothing"]
    if filled[0].kind not in ("bool", "integer") or not all(split.is_list for split in filled):
        return 0
    is_bool = filled[0].kind == "bool"
    present = [~split.missing[split.rows] for split in filled]  # the values of rows that say something
    lengths = [np.bincount(split.rows[there]) for split, there in zip(filled, present, strict=True)]
    widths = np.unique(np.concatenate([length[length > 0] for length in lengths]))
    if is_bool and len(widths) > 1:
        raise ValueError(
            f"label column '{column}': expected multi-hot rows of one width, got widths {widths.tolist()[:5]}"
        )
    width = int(widths[0])
    if is_bool:
        return width
    if len(widths) > 1 or width < 2:
        return 0
    values = [split.values.to_numpy(zero_copy_only=False) for split in filled]  # null is NaN
    rows = np.concatenate([part[there] for part, there in zip(values, present, strict=True)]).reshape(-1, width)
    if not (np.isin(rows, (0, 1, UNKNOWN_LABEL)) | np.isnan(rows)).all():
        return 0
    # A row with a value twice (always so for a width above 2) or with a -100 is no set of ids.
    if not (((rows == 1).sum(axis=1) > 1) | ((rows == 0).sum(axis=1) > 1) | (rows == UNKNOWN_LABEL).any(axis=1)).any():
        logger.warning("label column '%s': rows such as %s are read as ids; booleans are multi-hot", column, rows[0])
        return 0
    return width


def _from_multi_hot(
    cells: Mapping[str, LabelCells], width: int, column: str, label_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray | LabelLists], list[str]]:
    names = [str(number) for number in range(width)] if label_names is None else list(label_names)
    if len(names) != width:
        raise ValueError(f"label column '{column}': expected multi-hot rows of {len(names)} labels, got width {width}")
    result: dict[str, np.ndarray | LabelLists] = {}
    for name, split in cells.items():
        missing = split.missing
        there = ~missing[split.rows]
        known = canonical_labels(split.values.to_numpy(zero_copy_only=False)[there], f"label column '{column}'")
        labels = np.zeros((split.num_rows, width), dtype=known.dtype)
        labels[np.unique(split.rows[there])] = known.reshape(-1, width)
        result[name] = with_unknown(labels, missing)
    return result, names


def _from_indicators(
    splits: Mapping[str, Dataset], columns: Sequence[str], label_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray | LabelLists], list[str]]:
    """One 0/1 column per label, named as the column; a label of `label_names` without a column is 0."""
    own_names = [normal_name(column) for column in columns]
    twice = duplicates(own_names)
    if twice:
        raise ValueError(f"label_column: expected different columns, got '{twice[0]}' twice")
    names = own_names if label_names is None else list(label_names)
    position = {name: number for number, name in enumerate(names)}
    result: dict[str, np.ndarray | LabelLists] = {}
    for split_name, split in splits.items():
        labels = np.zeros((len(split), len(names)), dtype=np.int8)
        for column, values in zip(columns, indicator_matrix(split, columns), strict=True):
            if values is None:
                raise ValueError(
                    f"label_column: expected only 0 and 1 in column '{column}' (one column per label), "
                    f"got other values in split '{split_name}'"
                )
            name = normal_name(column)
            if name in position:
                labels[:, position[name]] = values
            elif (values == 1).any():
                raise _unknown(column, split_name, "label_column", names)
        result[split_name] = canonical_labels(labels)
    return result, names


def _from_names(
    cells: Mapping[str, LabelCells], column: str, label_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray | LabelLists], list[str]]:
    cells = {name: _without_padding(split) for name, split in cells.items()}
    missing = {name: split.missing for name, split in cells.items()}
    named = {name: _as_names(split, column, name) for name, split in cells.items()}
    present = _sorted_names({text for split in named.values() for text in pc.unique(split.values).to_pylist()})
    declared = list(dict.fromkeys(text for split in cells.values() for text in _class_names(split, column)))
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
    pairs = sum(len(split.rows) for split in named.values())
    lists = too_large_for_rows(num_rows, len(names))
    if lists and label_names is None and not declared and 2 * len(names) > pairs:
        raise ValueError(
            f"label column '{column}': {len(names)} different labels in {num_rows} rows, most of them once; is it the "
            "label column?"
        )
    result: dict[str, np.ndarray | LabelLists] = {}
    for name, split in named.items():
        index = pc.index_in(split.values, value_set=pa.array(keys, pa.string()))
        if index.null_count:
            raise _unknown(
                pc.filter(split.values, pc.is_null(index))[0].as_py(), name, f"label column '{column}'", names
            )
        shape = (split.num_rows, len(names))
        if lists:
            result[name] = LabelLists.from_pairs(split.rows, index.to_numpy(), shape, missing[name])
            continue
        labels = np.zeros(shape, dtype=bool)
        labels[split.rows, index.to_numpy()] = True
        result[name] = with_unknown(labels, missing[name])
    return result, names


def _without_padding(cells: LabelCells) -> LabelCells:
    """Lists of ids with nulls in place of -100."""
    if cells.kind != "integer":
        return cells
    return replace(cells, values=pc.if_else(pc.equal(cells.values, UNKNOWN_LABEL), None, cells.values))


def _as_names(cells: LabelCells, column: str, split_name: str) -> LabelCells:
    """Replace ids by names (numbers where there are none), strip names, and drop what means no label."""
    values = cells.values
    kind = cells.kind
    if kind == "class":
        names = _class_names(cells, column)
        largest = pc.max(values).as_py()
        if largest is not None and not (0 <= pc.min(values).as_py() and largest < len(names)):
            raise ValueError(f"label column '{column}': expected ids below {len(names)}, got others in '{split_name}'")
        values = pa.array(names, pa.string()).take(values)
    elif kind == "integer":
        if (pc.min(values).as_py() or 0) < 0:
            raise ValueError(f"label column '{column}': expected ids from 0, got {pc.min(values)} in '{split_name}'")
        values = values.cast(pa.string())
    else:
        values = pc.utf8_normalize(pc.utf8_trim_whitespace(values.cast(pa.string())), "NFC")
    keep = pc.fill_null(pc.not_equal(values, ""), False)
    return replace(
        cells, rows=cells.rows[keep.to_numpy(zero_copy_only=False)], values=pc.filter(values, keep), class_names=None
    )


def _class_names(cells: LabelCells, column: str) -> list[str]:
    """The names of a ClassLabel as `normal_name` writes them; ValueError if that makes two of them the same."""
    names = [normal_name(name) for name in cells.class_names or []]
    twice = duplicates(names)
    if twice:
        raise ValueError(
            f"label column '{column}': expected different class names, got {twice[0]!r} twice (blanks around it and "
            "its Unicode form do not count)"
        )
    return names


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _sorted_names(names: set[str]) -> list[str]:
    return sorted(names, key=lambda name: (int(name), name)) if all(map(_is_number, names)) else sorted(names)


def _unknown(label: str, split_name: str, where: str, names: Sequence[str]) -> ValueError:
    return ValueError(
        f"{where}: expected one of the {len(names)} label_names, got {label!r} in split '{split_name}'"
        f"{nearest(label, names)}"
    )
