"""Label columns of any form -> one multi-hot column and its label names. Imports labels and label_cells.

The form of a label column is decided by these rules, never by chance:

* `ClassLabel`, or lists of them: ids with names. -1 in a list is padding.
* strings, or lists of them: label names, whitespace stripped, in Unicode's composed form (NFC). A single string may
  hold several (`label_delimiter`); a name in double quotes is not cut. It may also print a list, a mapping or a row of
  0/1 (0110). Strings that are all numbers or truth values are read as such.
* integers (or floats without a fraction), one a row: an id, so one label a row.
* lists of integers: ids - unless every row that is not empty has the same length > 1 and holds only 0, 1, -100 and
  null, and some row holds 0 or 1 twice or a -100, which no set of ids does: then the rows are multi-hot.
* lists of booleans: multi-hot.
* several columns, one named as such, or mappings of label names to 0/1: one 0/1 column per label.

Ids without names are named by their number. An empty cell ("" or []) says that the example has no label. A missing one
(null, NaN, a single -100, a ClassLabel of -1, the text nan) says nothing: the example is unlabelled, with all labels
unknown. In 0/1 columns and multi-hot rows -100, NaN and null are unknown labels, and so are texts such as nan and NA,
and labels that have no column. What may be read in two ways is refused, with its column, row and value.

Names and ids of more than 10,000 labels, or of as many examples and labels as would fill over 1 GiB, stay lists.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Value, concatenate_datasets

from .errors import nearest, shown
from .label_cells import (
    NOTHING_TEXTS,
    UNKNOWN_TEXTS,
    LabelCells,
    are_numbers,
    arrow_column,
    parse_strings,
    read_label_cells,
    trimmed,
    with_nulls,
    with_numbers,
)
from .label_lists import LabelLists, too_large_for_rows
from .labels import (
    BLANK,
    OTHER,
    UNKNOWN_LABEL,
    canonical_labels,
    checked_label_names,
    duplicates,
    indicator_matrix,
    normal_name,
    with_unknown,
    wrong_indicator,
)
from .printed import parse_printed

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
        splits: data sets; columns of `columns` that one of them lacks are unknown there, with a warning.
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
    available = list(dict.fromkeys(name for split in splits.values() for name in split.column_names))
    missing = [column for column in columns if column not in set(available)]
    if missing:
        raise ValueError(f"label column '{missing[0]}': expected one of {shown(available)}, got none")
    splits = {name: _with_unknown_columns(split, name, columns) for name, split in splits.items()}
    if len(columns) > 1 if indicators is None else indicators:
        labels, names = _from_indicators(splits, columns, label_names)
    else:
        labels, names = _from_column(splits, columns[0], delimiter, label_names)
    for split_name, array in labels.items():
        _count_unknown(array, split_name)
    return labels, names


def _with_unknown_columns(split: Dataset, split_name: str, columns: Sequence[str]) -> Dataset:
    there = set(split.column_names)
    lacking = {column: pa.nulls(len(split), pa.string()) for column in columns if column not in there}
    if not lacking:
        return split
    if len(lacking) == len(columns):
        logger.warning("split '%s' has no labels: it serves no training and no evaluation", split_name)
    else:
        logger.warning("split '%s': labels without a column are unknown there: %s", split_name, shown(lacking))
    return concatenate_datasets([split, Dataset(pa.table(lacking))], axis=1)


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
    mappings = {name: _mappings(split, column) for name, split in splits.items()}
    if any(row for rows in mappings.values() for row in rows or ()):
        return _from_mappings(mappings, column, label_names)
    cells = {name: read_label_cells(split, column) for name, split in splits.items()}
    strings = {name: split for name, split in cells.items() if split.kind == "string" and not split.is_list}
    if strings:
        cells |= parse_strings(strings, column, delimiter, label_names)
    kinds = {split.kind for split in cells.values()} - {"nothing"}
    if kinds == {"bool"} and not any(split.is_list for split in cells.values()):
        return _from_indicators(splits, [column], label_names)
    if delimiter and not strings:
        got = ", ".join(sorted(kinds)) or "nothing"
        raise ValueError(f"label_delimiter: expected a label column of strings, got {got} values in '{column}'")
    for name, split in cells.items():
        if split.kind == "string":
            cells[name] = replace(split, values=with_nulls(split.values, UNKNOWN_TEXTS, label_names or ()))
    if kinds == {"string"} and all(split.is_list for split in cells.values() if split.kind == "string"):
        texts = {
            text for split in cells.values() for text in pc.unique(split.values).to_pylist() if text and text.strip()
        }
        if all(map(_is_number, texts)) and are_numbers(list(texts)):  # as ids they may be rows of 0/1
            cells = {name: with_numbers(split) if split.kind == "string" else split for name, split in cells.items()}
    cells = {name: _checked_ids(split, name, column) for name, split in cells.items()}
    kinds = {split.kind for split in cells.values()} - {"nothing"}
    if not kinds:
        raise ValueError(f"label column '{column}': expected at least one label, got only empty cells")
    if not (len(kinds) == 1 or kinds == {"class", "string"}):
        got = ", ".join(f"{split.kind} in '{name}'" for name, split in cells.items())
        raise ValueError(f"label column '{column}': expected one type in all splits, got {got}")
    width = _multi_hot_width(list(cells.values()), column)
    if width:
        return _from_multi_hot(cells, width, column, label_names)
    return _from_names(cells, column, label_names)


def _mappings(split: Dataset, column: str) -> list[Mapping[str, Any] | None] | None:
    """The mappings of label names to 0/1 that the cells of a column are, or print; None where some cell is another."""
    feature: Any = split.features[column]
    array = arrow_column(split, column)
    if isinstance(feature, dict):
        return array.to_pylist()
    if not isinstance(feature, Value) or feature.dtype not in ("string", "large_string", "string_view"):
        return None
    texts = with_nulls(trimmed(array.cast(pa.string())), (*UNKNOWN_TEXTS, *NOTHING_TEXTS))
    rows: dict[str | None, Any] = {None: None, "": {}, "{}": {}}
    for text in pc.unique(texts).to_pylist():
        if text not in rows:
            rows[text] = parse_printed(text) if text.startswith("{") else None
            if not isinstance(rows[text], dict):
                return None
    return [rows[text] for text in texts.to_pylist()]


def _from_mappings(
    mappings: Mapping[str, list[Mapping[str, Any] | None] | None], column: str, label_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray | LabelLists], list[str]]:
    """Mappings of label names to 0/1, as one column per label; an empty one is no label, a missing name unknown."""
    names = list(dict.fromkeys(key for rows in mappings.values() for row in rows or () for key in row or ()))
    splits, zeros = {}, False
    for split_name, rows in mappings.items():
        if rows is None:
            raise ValueError(f"label column '{column}': expected mappings in all splits, got others in '{split_name}'")
        values = {name: [None if row is None else row.get(name) if row else 0 for row in rows] for name in names}
        zeros = zeros or any(
            str(value).lower() in ("0", "0.0", "false") for cells in values.values() for value in cells
        )
        texts = {name: [None if value is None else str(value) for value in cells] for name, cells in values.items()}
        splits[split_name] = Dataset(pa.table({name: pa.array(cells, pa.string()) for name, cells in texts.items()}))
    if not zeros and any(None in split[name] for split in splits.values() for name in names):
        raise ValueError(
            f"label column '{column}': expected 1 or 0 for each label in each mapping, got only 1 and labels left "
            "out; write 0 where an example does not have a label"
        )
    return _from_indicators(splits, names, label_names)


def _checked_ids(cells: LabelCells, split_name: str, column: str) -> LabelCells:
    """Ids as integers (pandas writes ids with gaps as floats), with nulls in place of those that mean "not given".

    These are a single -100, and of a ClassLabel -1 as well.
    """
    if cells.kind == "float":
        numbers = cells.values.to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(((numbers != np.floor(numbers)) | (np.abs(numbers) > 2**53)) & (numbers == numbers))
        if len(wrong):
            raise ValueError(
                f"label column '{column}': expected ids or 0/1, got {numbers[wrong[0]]} in row "
                f"{cells.rows[wrong[0]]} of '{split_name}'; scores are no labels: write 0 or 1 (label_delimiter '' "
                "takes texts as names)"
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
    if width < 2 and len(widths) == 1:
        return 0
    values = [split.values.to_numpy(zero_copy_only=False) for split in filled]  # null is NaN
    if len(widths) > 1:
        _check_ragged(filled, values, column)
        return 0
    rows = np.concatenate([part[there] for part, there in zip(values, present, strict=True)]).reshape(-1, width)
    if not (np.isin(rows, (0, 1, UNKNOWN_LABEL)) | np.isnan(rows)).all():
        return 0
    # A row with a value twice (always so for a width above 2) or with a -100 is no set of ids.
    if not (((rows == 1).sum(axis=1) > 1) | ((rows == 0).sum(axis=1) > 1) | (rows == UNKNOWN_LABEL).any(axis=1)).any():
        logger.warning("label column '%s': rows such as %s are read as ids; booleans are multi-hot", column, rows[0])
        return 0
    return width


def _check_ragged(cells: list[LabelCells], values: list[np.ndarray], column: str) -> None:
    """Rows of different lengths are ids; ValueError where they look like rows of 0/1 that repeat a value."""
    if not all((np.isin(part, (0, 1, UNKNOWN_LABEL)) | np.isnan(part)).all() for part in values):
        return
    for split, part in zip(cells, values, strict=True):
        pairs = 2 * split.rows[np.isin(part, (0, 1))] + part[np.isin(part, (0, 1))].astype(np.int64)
        found, counts = np.unique(pairs, return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"label column '{column}': expected rows of 0/1 of one length, got other lengths beside row "
                f"{found[counts > 1][0] // 2}, which holds a value twice as no set of ids does"
            )


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
    """One 0/1 column per label, named as the column; a label of `label_names` without a column is unknown."""
    own_names = [normal_name(column) for column in columns]
    twice = duplicates(own_names)
    if twice:
        raise ValueError(f"label_column: expected different columns, got '{twice[0]}' twice")
    names = own_names if label_names is None else list(label_names)
    position = {name: number for number, name in enumerate(names)}
    absent = set(names).difference(own_names)
    if absent:
        logger.warning("labels without a column are unknown: %s", shown(sorted(absent)))
    result: dict[str, np.ndarray | LabelLists] = {}
    for split_name, split in splits.items():
        labels = np.full((len(split), len(names)), UNKNOWN_LABEL, dtype=np.int8)
        blank = 0
        for column, name, values in zip(columns, own_names, indicator_matrix(split, columns), strict=True):
            if (values == OTHER).any():
                raise ValueError(
                    f"label_column: expected only 0 and 1 in column '{column}' (one column per label), "
                    f"{wrong_indicator(split, split_name, column, values)}"
                )
            blank += int((values == BLANK).sum())
            if name in position:
                labels[:, position[name]] = np.where(values == BLANK, 0, values)
            elif (values == 1).any():
                raise _unknown(column, split_name, "label_column", names)
        if blank and len(splits) > 1 and not (labels == 1).any() and blank == (labels == 0).sum():
            logger.warning("split '%s': its labels are unknown, the 0/1 columns are empty", split_name)
            labels[:] = UNKNOWN_LABEL
        elif blank:
            logger.warning(
                "split '%s': %d empty fields of 0/1 columns are read as 0; write nan where a label is unknown",
                split_name, blank,
            )  # fmt: skip
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
            row = cells.rows[pc.index(values, pc.min(values)).as_py()]
            raise ValueError(
                f"label column '{column}': expected ids from 0, got {pc.min(values)} in row {row} of '{split_name}'; "
                "write -100 where nothing is known"
            )
        values = values.cast(pa.string())
    else:
        values = pc.utf8_normalize(trimmed(values.cast(pa.string())), "NFC")
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
