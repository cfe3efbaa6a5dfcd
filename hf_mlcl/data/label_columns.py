"""Label columns of any form -> `Labels` and the label names: the only parser. Imports labels and label_texts.

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
missing. In 0/1 columns and multi-hot rows -100, NaN and null are missing labels, and so are texts such as nan and NA,
and labels that have no column. What may be read in two ways is refused, with its column, row and value.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, LargeList, List, Value, concatenate_datasets

from .errors import nearest, shown
from .label_texts import ENTITY, are_numbers, cut_text, detect_delimiter, holds_quoted, label_parts, parse_printed
from .labels import (
    UNKNOWN_LABEL,
    Labels,
    arrow_column,
    canonical_labels,
    checked_label_names,
    duplicates,
    normal_name,
    too_large_for_rows,
)

logger = logging.getLogger(__name__)

LABEL_COLUMNS = (
    "labels", "label", "tags", "categories", "topics", "genres", "classes", "targets", "label_names", "label_ids",
    "target", "tag", "category", "topic", "genre", "class", "emotions", "subjects",
)  # fmt: skip

# How files write that nothing is known. The others may mean that, "no label", or be the name of one.
_UNKNOWN_TEXTS = ("-100", "-100.0", "nan", "<na>")
_NOTHING_TEXTS = ("na", "n/a", "none", "null", "nat", "?")
_YES, _NO = ("1", "true", "yes", "y", "t"), ("0", "false", "no", "n", "f")
_BLANK, _OTHER = 2, 3  # what else than 0, 1 and -100 a cell of a 0/1 column may be
_STRINGS = ("string", "large_string", "string_view")

_Encoded = tuple[dict[str, Labels], list[str]]  # the labels of each split, and their names


@dataclass(frozen=True)
class _Cells:
    """The label column of one split: `values[k]` stands in row `rows[k]`.

    Attributes:
        rows: int64 (K,), ascending.
        values: arrow array (K,) of one type; may hold nulls.
        num_rows: number of rows N of the split.
        is_list: whether a cell of the column is a list.
        empty: bool (N,), the cells that are null instead of a list.
        class_names: names of the ids where the column is a ClassLabel, else None.
    """

    rows: np.ndarray
    values: pa.Array
    num_rows: int
    is_list: bool
    empty: np.ndarray
    class_names: list[str] | None = None

    @property
    def missing(self) -> np.ndarray:
        """Rows that say nothing, bool (N,): the cell is null or holds nothing but nulls. An empty list says "none"."""
        null = _bools(self.values.is_null())
        missing = self.empty.copy()
        missing[self.rows[null]] = True
        missing[self.rows[~null]] = False
        return missing

    @property
    def kind(self) -> str:
        """One of "nothing" (only empty cells), "bool", "integer", "float", "string", "class"."""
        if self.class_names is not None and pa.types.is_integer(self.values.type):
            return "class"
        if len(self.values) == self.values.null_count:
            return "nothing"
        type_ = self.values.type
        kinds = (("bool", pa.types.is_boolean), ("integer", pa.types.is_integer), ("float", pa.types.is_floating))
        return next((kind for kind, is_kind in kinds if is_kind(type_)), "string")

    def only(self, keep: pa.Array) -> _Cells:
        """Those of the values that are kept (null: they are)."""
        keep = pc.fill_null(keep, True)
        return replace(self, rows=self.rows[_bools(keep)], values=pc.filter(self.values, keep))

    def lists(self, lists: pa.Array) -> _Cells:
        """The items of one list (or null) in place of each value."""
        empty = np.zeros(self.num_rows, dtype=bool)
        empty[self.rows] = _bools(lists.is_null())
        rows = self.rows[pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)]
        return replace(self, rows=rows, values=pc.list_flatten(lists), is_list=True, empty=empty)


def encode_labels(
    splits: Mapping[str, Dataset],
    columns: Sequence[str],
    *,
    delimiter: str | None = None,
    label_names: Sequence[str] | None = None,
    indicators: bool | None = None,
) -> _Encoded:
    """Turn the label column(s) of all splits into `Labels` over one universe of labels.

    Args:
        splits: datasets; columns of `columns` that one of them lacks are unknown there, with a warning.
        columns: one column in any of the forms above, or several 0/1 columns.
        delimiter: what separates the labels in a string; None detects it, "" takes each string as one label.
        label_names: the universe and its order. Ids without names count in it (or name it, if it consists of numbers).
            None takes all labels: in the order of the ClassLabel, sorted for strings (by number if all are numbers),
            in the order of the columns for 0/1 columns. Labels that only one split has are kept.
        indicators: whether the columns are 0/1 columns, one per label; None takes several columns as such.

    Returns:
        the labels of each split (a warning counts missing ones), and the L label names.

    Raises:
        ValueError: the column has no readable form, a label is not in `label_names`, or two names are the same but for
            blanks and Unicode form; one line that says which.

    Example:
        >>> from datasets import Dataset
        >>> labels, names = encode_labels({"train": Dataset.from_dict({"tags": ["b;a", "", "c"]})}, ["tags"])
        >>> names, labels["train"].rows().astype(int).tolist()
        (['a', 'b', 'c'], [[1, 1, 0], [0, 0, 0], [0, 0, 1]])
    """
    label_names = None if label_names is None else checked_label_names(label_names)
    available = list(dict.fromkeys(name for split in splits.values() for name in split.column_names))
    absent = [column for column in columns if column not in set(available)]
    if absent:
        raise ValueError(f"label column '{absent[0]}': expected one of {shown(available)}, got none")
    splits = {name: _with_unknown_columns(split, name, columns) for name, split in splits.items()}
    if len(columns) > 1 if indicators is None else indicators:
        twice = duplicates([normal_name(column) for column in columns])
        if twice:
            raise ValueError(f"label_column: expected different columns, got '{twice[0]}' twice")
        tables = {name: _indicator_table(split, columns) for name, split in splits.items()}
        labels, names = _from_tables(tables, label_names)
    else:
        labels, names = _from_column(splits, columns[0], delimiter, label_names)
    for split_name, of_split in labels.items():
        if not of_split.known:  # it may be that nulls were meant as "not"
            partly = 0 if of_split.missing is None else np.count_nonzero(np.diff(of_split.missing.indptr))
            logger.warning(
                "split '%s': of %d rows %d are unlabelled and %d have some unknown labels (null, NaN or -100; "
                'an empty string or list says "no label")',
                split_name, len(of_split), of_split.unlabelled.sum(), partly,
            )  # fmt: skip
    return labels, names


def encode_batch(
    values: pa.Array, feature: Any, label_names: Sequence[str], column: str, *, delimiter: str, multi_hot: bool
) -> Labels:
    """The labels of a part of a column, of which the arguments alone say how it is read: a part may look otherwise.

    Lists of numbers are 0/1 rows if `multi_hot`, else ids; ids without a ClassLabel count in `label_names`.

    Raises:
        ValueError: a label is not in `label_names`, or a row has another length.
    """
    cells = _read_cells(values, feature, column)
    if cells.kind in ("string", "nothing"):
        if not cells.is_list:
            cells = _cut_cells(cells, delimiter)
        return _from_names({"batch": cells}, column, label_names, exact=True)[0]["batch"]
    rows, numbers = _numbers(cells)
    width, lengths = len(label_names), np.bincount(rows, minlength=cells.num_rows)
    if cells.kind == "bool" or (multi_hot and cells.is_list):
        wrong = np.setdiff1d(lengths, (0, width))
        if len(wrong):
            raise ValueError(f"column '{column}': expected rows of {width} 0/1 values, got {wrong[0]}")
        return _from_multi_hot({"batch": cells}, width, column, label_names)[0]["batch"]
    for row in numbers[lengths[rows] == width].reshape(-1, width).tolist():
        if len(set(row)) < width and set(row) <= {0, 1}:
            raise ValueError(f"column '{column}': expected ids, got the 0/1 row {row}; rows need multi_hot=True")
    if cells.class_names is None:
        cells = replace(cells, class_names=list(label_names))
    cells = _checked_ids(cells, "batch", column)
    return _from_names({"batch": cells}, column, label_names, exact=True)[0]["batch"]


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


# One column: from cells to names, ids or rows.


def _from_column(
    splits: Mapping[str, Dataset], column: str, delimiter: str | None, label_names: Sequence[str] | None
) -> _Encoded:
    mappings = {name: _mappings(split, column) for name, split in splits.items()}
    if any(row for rows in mappings.values() for row in rows or ()):
        return _from_tables(_mapping_tables(mappings, column), label_names)
    cells = {
        name: _read_cells(arrow_column(split, column), split.features[column], column)
        for name, split in splits.items()
    }
    texts = {name: split for name, split in cells.items() if split.kind == "string" and not split.is_list}
    if texts:
        cells |= _read_texts(texts, column, delimiter, label_names)
    kinds = {split.kind for split in cells.values()} - {"nothing"}
    if kinds == {"bool"} and not any(split.is_list for split in cells.values()):
        return _from_tables({name: _indicator_table(split, [column]) for name, split in splits.items()}, label_names)
    if delimiter and not texts:
        got = ", ".join(sorted(kinds)) or "nothing"
        raise ValueError(f"label_delimiter: expected a label column of strings, got {got} values in '{column}'")
    for name, split in cells.items():
        if split.kind == "string":
            cells[name] = replace(split, values=_with_nulls(split.values, _UNKNOWN_TEXTS, label_names or ()))
    if kinds == {"string"} and all(split.is_list for split in cells.values() if split.kind == "string"):
        said = {text for split in cells.values() for text in _different(split.values) if text.strip()}
        if all(map(_is_number, said)) and are_numbers(said):  # as ids they may be rows of 0/1
            cells = {name: _with_numbers(split) if split.kind == "string" else split for name, split in cells.items()}
    cells = {name: _checked_ids(split, name, column) for name, split in cells.items()}
    kinds = {split.kind for split in cells.values()} - {"nothing"}
    if not kinds:
        raise ValueError(f"label column '{column}': expected at least one label, got only empty cells")
    if not (len(kinds) == 1 or kinds == {"class", "string"}):
        got = ", ".join(f"{split.kind} in '{name}'" for name, split in cells.items())
        raise ValueError(f"label column '{column}': expected one type in all splits, got {got}")
    width = _multi_hot_width(list(cells.values()), column)
    return _from_multi_hot(cells, width, column, label_names) if width else _from_names(cells, column, label_names)


def _read_cells(array: pa.Array, feature: Any, column: str) -> _Cells:
    """Strings, integers, booleans, ClassLabels, or lists of these; the feature tells the names of classes."""
    inner = feature.feature if isinstance(feature, (List, LargeList)) else feature
    names = list(inner.names) if isinstance(inner, ClassLabel) else None
    num_rows, type_ = len(array), array.type
    if pa.types.is_fixed_size_list(type_):
        array = array.cast(pa.list_(type_.value_type))
    elif not (pa.types.is_list(type_) or pa.types.is_large_list(type_)):
        rows, empty = np.arange(num_rows), np.zeros(num_rows, dtype=bool)
        return _Cells(rows, _plain(array, column), num_rows, False, empty, names)
    rows = pc.list_parent_indices(array).to_numpy(zero_copy_only=False).astype(np.int64)
    return _Cells(rows, _plain(pc.list_flatten(array), column), num_rows, True, _bools(array.is_null()), names)


def _plain(values: pa.Array, column: str) -> pa.Array:
    """Reduce the many arrow types of one kind to string, int64, float64 or bool."""
    type_ = values.type
    if pa.types.is_null(type_) or str(type_) in _STRINGS:
        return values.cast(pa.string())
    if pa.types.is_integer(type_):
        return values.cast(pa.int64())
    if pa.types.is_floating(type_):
        return pc.if_else(pc.is_nan(values), None, values.cast(pa.float64()))
    if pa.types.is_boolean(type_):
        return values
    raise ValueError(
        f"label column '{column}': expected label names, ids, a delimited string, 0/1 values or a list of one of "
        f"these in every row, got values of type {type_}"
    )


def _checked_ids(cells: _Cells, split_name: str, column: str) -> _Cells:
    """Ids as integers (pandas writes ids with gaps as floats), with nulls in place of those that mean "not given".

    These are a single -100, and of a ClassLabel -1 as well.
    """
    if pa.types.is_floating(cells.values.type):
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
        cells = cells.only(pc.not_equal(cells.values, -1))
    if cells.kind == "class" or (cells.kind == "integer" and not cells.is_list):
        absent = pa.array([UNKNOWN_LABEL, -1] if cells.kind == "class" else [UNKNOWN_LABEL], pa.int64())
        cells = replace(cells, values=pc.if_else(pc.is_in(cells.values, absent), None, cells.values))
    return cells


def _numbers(cells: _Cells) -> tuple[np.ndarray, np.ndarray]:
    """Rows (K,) and float64 values (K,), NaN for null, of the cells that say something."""
    there = ~cells.missing[cells.rows]
    return cells.rows[there], cells.values.cast(pa.float64()).to_numpy(zero_copy_only=False)[there]


def _multi_hot_width(cells: list[_Cells], column: str) -> int:
    """Width of the rows if they are multi-hot by the rule of the module; 0 if they are names or ids."""
    filled = [split for split in cells if split.kind != "nothing"]
    kind = filled[0].kind
    if kind not in ("bool", "integer", "float") or not all(split.is_list for split in filled):
        return 0
    parts = [_numbers(split) for split in filled]
    lengths = [np.bincount(rows) for rows, _ in parts]
    widths = np.unique(np.concatenate([length[length > 0] for length in lengths]))
    if kind == "bool":
        if len(widths) > 1:
            raise ValueError(
                f"label column '{column}': expected multi-hot rows of one width, got widths {widths.tolist()[:5]}"
            )
        return int(widths[0])
    if widths.tolist() == [1]:
        return 0
    if not all((np.isin(values, (0, 1, UNKNOWN_LABEL)) | np.isnan(values)).all() for _, values in parts):
        return 0
    if len(widths) == 1:
        for _, values in parts:  # a row with 0 or 1 twice, or with a -100, is no set of ids
            table = values.reshape(-1, widths[0])
            if ((table == 1).sum(axis=1) > 1).any() or ((table == 0).sum(axis=1) > 1).any() or (table < 0).any():
                return int(widths[0])
        logger.warning("label column '%s': rows such as %s are read as ids; booleans are multi-hot", column, table[0])
        return 0
    for rows, values in parts:
        binary = values >= 0
        found, counts = np.unique(2 * rows[binary] + values[binary].astype(np.int64), return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"label column '{column}': expected rows of 0/1 of one length, got other lengths beside row "
                f"{found[counts > 1][0] // 2}, which holds a value twice as no set of ids does"
            )
    return 0


def _from_multi_hot(
    cells: Mapping[str, _Cells], width: int, column: str, label_names: Sequence[str] | None
) -> tuple[dict[str, Labels], list[str]]:
    names = [str(number) for number in range(width)] if label_names is None else list(label_names)
    if len(names) != width:
        raise ValueError(f"label column '{column}': expected multi-hot rows of {len(names)} labels, got width {width}")
    result = {}
    for name, split in cells.items():
        rows, numbers = _numbers(split)
        values, places = canonical_labels(numbers, f"label column '{column}'"), np.arange(len(rows)) % width
        ones, unknown = values == 1, values == UNKNOWN_LABEL
        result[name] = Labels.from_pairs(
            rows[ones], places[ones], (split.num_rows, width), split.missing, (rows[unknown], places[unknown])
        )
    return result, names


def _from_names(
    cells: Mapping[str, _Cells], column: str, label_names: Sequence[str] | None, exact: bool = False
) -> _Encoded:
    """Names, or ids; with `exact` numbers among the texts are names."""
    for name, split in cells.items():
        if split.kind == "integer":  # lists padded with -100
            cells = {
                **cells,
                name: replace(split, values=pc.if_else(pc.equal(split.values, UNKNOWN_LABEL), None, split.values)),
            }
    missing = {name: split.missing for name, split in cells.items()}
    named = {name: _as_names(split, column, name) for name, split in cells.items()}
    present = _different(*(split.values for split in named.values()))
    declared = list(dict.fromkeys(text for split in cells.values() for text in _class_names(split, column)))
    by_number = bool(present) and all(map(_is_number, present))
    if label_names is not None:
        names = list(label_names)
    else:
        rest = set(present).difference(declared)
        order: Any = (lambda text: (int(text), text)) if all(map(_is_number, rest)) else None
        names = declared + sorted(rest, key=order)
    if not names:
        raise ValueError(f"label column '{column}': expected at least one label, got only empty cells")
    keys = names
    if label_names is not None and not declared and by_number and not exact and set(names).isdisjoint(present):
        keys = [str(number) for number in range(len(names))]  # numbers that are not names count in the given names
    num_rows, pairs = sum(split.num_rows for split in cells.values()), sum(len(split.rows) for split in named.values())
    if label_names is None and not declared and 2 * len(names) > pairs and too_large_for_rows(num_rows, len(names)):
        raise ValueError(
            f"label column '{column}': {len(names)} different labels in {num_rows} rows, most of them once; is it the "
            "label column?"
        )
    result = {}
    for name, split in named.items():
        index = pc.index_in(split.values, value_set=pa.array(keys, pa.string()))
        if index.null_count:
            wrong = pc.filter(split.values, pc.is_null(index))[0].as_py()
            raise _unknown(wrong, name, f"label column '{column}'", names)
        shape = (split.num_rows, len(names))
        result[name] = Labels.from_pairs(split.rows, index.to_numpy(), shape, missing[name])
    return result, names


def _as_names(cells: _Cells, column: str, split_name: str) -> _Cells:
    """Replace ids by names (numbers where there are none), strip names, and drop what means no label."""
    values = cells.values
    if cells.kind == "class":
        names = _class_names(cells, column)
        wrong = pc.filter(values, pc.or_(pc.less(values, 0), pc.greater_equal(values, len(names))))
        if len(wrong):
            raise ValueError(
                f"label column '{column}': expected ids below {len(names)}, got {wrong[0]} in '{split_name}'"
            )
        values = pa.array(names, pa.string()).take(values)
    elif cells.kind == "integer":
        if (pc.min(values).as_py() or 0) < 0:
            row = cells.rows[pc.index(values, pc.min(values)).as_py()]
            raise ValueError(
                f"label column '{column}': expected ids from 0, got {pc.min(values)} in row {row} of '{split_name}'; "
                "write -100 where nothing is known"
            )
        values = values.cast(pa.string())
    else:
        values = _normalized(values.cast(pa.string()))
    return replace(cells, values=values).only(pc.fill_null(pc.not_equal(values, ""), False))


def _class_names(cells: _Cells, column: str) -> list[str]:
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


def _unknown(label: str, split_name: str, where: str, names: Sequence[str]) -> ValueError:
    return ValueError(
        f"{where}: expected one of the {len(names)} label_names, got {label!r} in split '{split_name}'"
        f"{nearest(label, names)}"
    )


# Single strings: printed lists, truth values, numbers, rows of 0/1, or names with a delimiter.


def _read_texts(
    cells: Mapping[str, _Cells], column: str, delimiter: str | None, label_names: Sequence[str] | None
) -> dict[str, _Cells]:
    """What single strings hold.

    Cells that all print a list (see `parse_printed`) are parsed. Otherwise the delimiter is the given one ("" keeps
    each cell whole), or found by `detect_delimiter`; `label_names`, where given, tell what is a name. A name in double
    quotes is not cut: `"Arts, Crafts",Books` are two labels.

    Raises:
        ValueError: the cells may be read in two ways; says which cell, and what to write.
    """
    known = set(label_names or ())
    texts = {name: _with_nulls(_normalized(split.values), _UNKNOWN_TEXTS, known) for name, split in cells.items()}
    filled = _different(*texts.values())
    for name, values in texts.items():
        if filled and not _different(values) and pc.any(pc.equal(values, "")).as_py():
            logger.warning("split '%s': its labels are unknown, label column '%s' is empty", name, column)
            texts[name] = pa.nulls(len(values), pa.string())
    sure = {name: _with_nulls(values, _NOTHING_TEXTS, known) for name, values in texts.items()}
    said = _different(*sure.values())
    open_form = bool(said) and not known.issuperset(said)

    def where(text: str) -> str:
        row, name = next((row, name) for name, part in texts.items() if (row := pc.index(part, text).as_py()) >= 0)
        return f"row {cells[name].rows[row]} of '{name}'"

    def filled_cells(of: Mapping[str, pa.Array]) -> dict[str, _Cells]:
        """Without those that are blank, which say that there is no label."""
        return {name: replace(cells[name], values=part).only(pc.not_equal(part, "")) for name, part in of.items()}

    if delimiter != "" and open_form:
        items = {text: parse_printed(text) for text in said}
        other = next((text for text in said if not isinstance(items[text], list)), None)
        bracketed = all(text[0] + text[-1] in ("[]", "{}") for text in said)
        if other is None:
            return {name: _printed_lists(split, items, column) for name, split in filled_cells(sure).items()}
        if delimiter and bracketed:
            texts = {name: pc.utf8_slice_codeunits(values, 1, -1) for name, values in sure.items()}
        elif bracketed or (delimiter is None and any(items.values())):
            hint = "; '...' stands for what was left out" if "..." in other else ""
            raise ValueError(
                f"label column '{column}': expected a printed list such as \"['a', 'b']\" in every row, got {other!r} "
                f"in {where(other)}{hint}"
            )
    if delimiter is None and open_form:
        if all(text.lower() in ("true", "false") for text in said):
            return {name: replace(cells[name], values=pc.equal(pc.utf8_lower(v), "true")) for name, v in sure.items()}
        if _are_rows_of_digits(said, column, where):
            items = {text: list(map(int, text)) for text in said}
            return {name: _printed_lists(split, items, column) for name, split in filled_cells(sure).items()}
        if are_numbers(said):
            return {name: _with_numbers(split) for name, split in filled_cells(sure).items()}
    used = detect_delimiter(said, column, known) if delimiter is None else delimiter
    parts = {part.lower() for cell in said for part in label_parts(cell, used)} if used else set()
    numbers = are_numbers(parts.difference(_UNKNOWN_TEXTS))
    if numbers:
        texts = sure
    elif delimiter is None:
        alone = [text for text in filled if text.lower() in (*_NOTHING_TEXTS, "-") and text not in known]
        parts = {part for cell in filled if used and used in cell for part in label_parts(cell, used)}
        doubtful = next((text for text in alone if text not in parts), None)
        if doubtful is not None:
            raise ValueError(
                f"label column '{column}': expected label names, got {doubtful!r} in {where(doubtful)}, which may be "
                "a name, no label or unknown; leave the cell empty for no label, write nan for unknown, or give "
                f"label_delimiter ({used!r}) to take it as a name"
            )
    if not used and not (delimiter is None and any(map(holds_quoted, filled))):
        return {name: replace(cells[name], values=texts[name]) for name in cells}
    logger.info("label column '%s': strings are cut at %r", column, used)
    if used and all(text.endswith(used) for text in filled):
        texts = {name: pc.utf8_rtrim(values, used) for name, values in texts.items()}
    cut = {name: _cut_cells(split, used) for name, split in filled_cells(texts).items()}
    return {name: _with_numbers(split) for name, split in cut.items()} if numbers else cut


def _bools(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False).astype(bool)


def _trimmed(texts: pa.Array) -> pa.Array:
    """Strings without blanks around them, nor a byte order mark."""
    return pc.utf8_trim_whitespace(pc.utf8_trim(texts, "\ufeff"))


def _normalized(texts: pa.Array) -> pa.Array:
    return pc.utf8_normalize(_trimmed(texts), "NFC")


def _different(*texts: pa.Array) -> list[str]:
    """The different strings that are not empty, in order."""
    return [text for text in dict.fromkeys(text for part in texts for text in pc.unique(part).to_pylist()) if text]


def _with_nulls(texts: pa.Array, unknown: Sequence[str], names: Iterable[str] = ()) -> pa.Array:
    """Strings with nulls in place of those in `unknown`, in any case; those in `names` stay."""
    nothing = pc.is_in(pc.utf8_lower(_trimmed(texts)), pa.array(unknown, texts.type))
    if names:
        nothing = pc.and_(nothing, pc.invert(pc.is_in(texts, pa.array(list(names), texts.type))))
    return pc.if_else(nothing, None, texts)


def _with_numbers(cells: _Cells) -> _Cells:
    """Cells of strings that are numbers, as integers where all are, else as floats; blank ones become nulls."""
    texts = _with_nulls(pc.utf8_trim_whitespace(cells.values), ("", *_UNKNOWN_TEXTS))
    try:
        return replace(cells, values=texts.cast(pa.int64()))
    except pa.ArrowInvalid:
        return replace(cells, values=texts.cast(pa.float64()))


def _are_rows_of_digits(texts: Sequence[str], column: str, where: Callable[[str], str]) -> bool:
    """Whether strings such as 0110 are rows of 0/1, one digit a label: all of one length, and no numbers."""
    lengths = set(map(len, texts))
    if len(lengths) > 1 or lengths == {1} or not set("".join(texts)) <= {"0", "1"}:
        return False
    padded = [text for text in texts if text[0] == "0"]
    if (padded and lengths == {2}) or (not padded and lengths != {2} and len(texts) > 1):
        raise ValueError(
            f"label column '{column}': expected a clear form, got {texts[0]!r} in {where(texts[0])}, which may be a "
            f"label or a row of 0/1; write {','.join(texts[0])!r} for a row, or give label_delimiter ('') for a label"
        )
    return bool(padded)


def _printed_lists(cells: _Cells, items: Mapping[str, Any], column: str) -> _Cells:
    """Cells of the items that each string stands for; null strings become null cells.

    All items must be strings, all booleans or all numbers; null and NaN may stand among them.
    """
    lists = [None if text is None else items[text] for text in cells.values.to_pylist()]
    lists = [None if row is None else [None if item != item else item for item in row] for row in lists]
    types = {type(item) for row in lists for item in row or ()} - {type(None)}
    if not any(types <= allowed for allowed in ({bool}, {int, float}, {str})):
        got = ", ".join(sorted(type_.__name__ for type_ in types))
        raise ValueError(f"label column '{column}': expected lists of names or of ids, got values of types {got}")
    kinds = {str: pa.string(), bool: pa.bool_(), float: pa.float64(), int: pa.int64()}
    type_ = next((kinds[kind] for kind in kinds if kind in types), pa.string())
    try:
        return cells.lists(pa.array(lists, pa.list_(type_)))
    except (OverflowError, ValueError) as error:  # numbers too large, halves of characters
        raise ValueError(
            f"label column '{column}': expected names or ids in lists, got a value that is none"
        ) from error


def _cut_cells(cells: _Cells, delimiter: str) -> _Cells:
    """Cells of several labels each, from strings; null strings become null cells."""
    texts = cells.values
    if delimiter and not delimiter.strip():  # several blanks are one
        return cells.lists(pc.split_pattern_regex(texts, f"{re.escape(delimiter)}+"))
    if delimiter and not pc.any(pc.match_substring_regex(texts, f'"|{ENTITY}')).as_py():
        return cells.lists(pc.split_pattern(texts, delimiter))
    cut = {text: cut_text(text, delimiter) for text in pc.unique(texts.drop_null()).to_pylist()}
    parts = [None if text is None else cut[text] for text in texts.to_pylist()]
    return cells.lists(pa.array(parts, pa.list_(pa.string())))


# 0/1 columns and mappings: one column of a table per label.


def _indicator_table(split: Dataset, columns: Sequence[str]) -> pa.Table:
    """The columns, with names in place of the ids of a ClassLabel."""
    # All columns and features at once: asking for thousands of them one by one would take minutes.
    table, features = split.select_columns(list(columns)).with_format("arrow")[:], split.features
    for number, column in enumerate(table.column_names):
        if isinstance(features[column], ClassLabel):
            names, ids = pa.array([*features[column].names, None], pa.string()), table.column(number)
            ids = pc.if_else(pc.less(ids, 0), len(names) - 1, ids)  # -1 is a missing one
            table = table.set_column(number, column, pc.take(names, ids.combine_chunks()))
    return table


def _from_tables(tables: Mapping[str, pa.Table], label_names: Sequence[str] | None) -> _Encoded:
    """One 0/1 column per label, named as the column; a label of `label_names` without a column is unknown."""
    columns = next(iter(tables.values())).column_names
    own_names = [normal_name(column) for column in columns]
    names = own_names if label_names is None else list(label_names)
    position = {name: number for number, name in enumerate(names)}
    absent = set(names).difference(own_names)
    if absent:
        logger.warning("labels without a column are unknown: %s", shown(sorted(absent)))
    result = {}
    for split_name, table in tables.items():
        by_label = np.full((len(names), table.num_rows), UNKNOWN_LABEL, dtype=np.int8)
        blank = 0
        for column, name in zip(columns, own_names, strict=True):
            values = _indicator_values(table.column(column))
            if (values == _OTHER).any():
                raise ValueError(
                    f"label_column: expected only 0 and 1 in column '{column}' (one column per label), "
                    f"{_wrong_indicator(table, split_name, column, values)}"
                )
            blanks = values == _BLANK
            blank += int(np.count_nonzero(blanks))
            if name in position:
                by_label[position[name]] = np.where(blanks, 0, values)
            elif (values == 1).any():
                raise _unknown(column, split_name, "label_column", names)
        ones = by_label == 1
        if blank and len(tables) > 1 and not ones.any() and blank == np.count_nonzero(by_label == 0):
            logger.warning("split '%s': its labels are unknown, the 0/1 columns are empty", split_name)
            by_label[:] = UNKNOWN_LABEL
        elif blank:
            logger.warning(
                "split '%s': %d empty fields of 0/1 columns are read as 0; write nan where a label is unknown",
                split_name, blank,
            )  # fmt: skip
        num_rows = table.num_rows
        ids, rows = np.divmod(np.flatnonzero(ones), num_rows)  # faster than nonzero of two dimensions
        missing = np.divmod(np.flatnonzero(by_label == UNKNOWN_LABEL), num_rows)[::-1]
        result[split_name] = Labels.from_pairs(rows, ids, (num_rows, len(names)), missing=missing)
    return result, names


def _indicator_values(column: pa.ChunkedArray) -> np.ndarray:
    """Cells of a 0/1 column, int8 (N,): 0, 1, -100 for unknown, `_BLANK` for an empty text, `_OTHER` for the rest.

    Read are numbers, booleans and what texts write for them; null, NaN and texts such as NA are unknown.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    type_ = array.type
    if str(type_) in _STRINGS:
        texts = pc.utf8_lower(_trimmed(array.cast(pa.string())))
        texts = pc.replace_substring_regex(texts, r"^(0|1|-100)\.0*$", r"\1")
        values = np.full(len(array), _OTHER, dtype=np.int8)
        for value, known in (
            (1, _YES),
            (0, _NO),
            (UNKNOWN_LABEL, (*_UNKNOWN_TEXTS, *_NOTHING_TEXTS)),
            (_BLANK, ("",)),
        ):
            values[_bools(pc.is_in(texts, pa.array(known)))] = value
        values[_bools(array.is_null())] = UNKNOWN_LABEL
        return values
    if pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_):
        numbers = array.cast(pa.float64() if pa.types.is_floating(type_) else pa.int64()).to_numpy(
            zero_copy_only=False
        )
        values = np.where(np.isin(numbers, (0, 1, UNKNOWN_LABEL)), numbers, _OTHER)
        return np.where(numbers != numbers, UNKNOWN_LABEL, values).astype(np.int8)
    return np.where(_bools(array.is_null()), UNKNOWN_LABEL, _OTHER).astype(np.int8)


def _wrong_indicator(table: pa.Table, split_name: str, column: str, values: np.ndarray) -> str:
    """What a message says of the first cell that is neither 0 nor 1 nor unknown."""
    row = int(np.flatnonzero(values == _OTHER)[0])
    got = table.column(column)[row].as_py()
    return f"got {got!r} in row {row} of split '{split_name}'; write 1, 0, or nan where it is unknown"


def _mappings(split: Dataset, column: str) -> list[Mapping[str, Any] | None] | None:
    """The mappings of label names to 0/1 that the cells of a column are, or print; None where some cell is another."""
    feature: Any = split.features[column]
    array = arrow_column(split, column)
    if isinstance(feature, dict):
        return array.to_pylist()
    if not isinstance(feature, Value) or feature.dtype not in _STRINGS:
        return None
    texts = _with_nulls(_trimmed(array.cast(pa.string())), (*_UNKNOWN_TEXTS, *_NOTHING_TEXTS))
    rows: dict[str | None, Any] = {None: None, "": {}, "{}": {}}
    for text in pc.unique(texts).to_pylist():
        if text not in rows:
            rows[text] = parse_printed(text) if text.startswith("{") else None
            if not isinstance(rows[text], dict):
                return None
    return [rows[text] for text in texts.to_pylist()]


def _mapping_tables(mappings: Mapping[str, list[Mapping[str, Any] | None] | None], column: str) -> dict[str, pa.Table]:
    """One column of texts per label; an empty mapping is no label, a missing name unknown."""
    names = list(dict.fromkeys(key for rows in mappings.values() for row in rows or () for key in row or ()))
    twice = duplicates([normal_name(name) for name in names])
    if twice:
        raise ValueError(f"label column '{column}': expected different names, got '{twice[0]}' twice")
    tables = {}
    for split_name, rows in mappings.items():
        if rows is None:
            raise ValueError(f"label column '{column}': expected mappings in all splits, got others in '{split_name}'")
        values = {name: [None if row is None else row.get(name) if row else 0 for row in rows] for name in names}
        texts = {name: [None if value is None else str(value) for value in cells] for name, cells in values.items()}
        tables[split_name] = pa.table({name: pa.array(cells, pa.string()) for name, cells in texts.items()})
    cells = [cell for table in tables.values() for name in names for cell in pc.unique(table[name]).to_pylist()]
    if None in cells and not any(str(cell).lower() in ("0", "0.0", "false") for cell in cells):
        raise ValueError(
            f"label column '{column}': expected 1 or 0 for each label in each mapping, got only 1 and labels left "
            "out; write 0 where an example does not have a label"
        )
    return tables


# Which columns hold the labels, where no one says it.


def find_label_columns(
    splits: Mapping[str, Dataset], label_column: str | None, inputs: Sequence[str], label_names: Sequence[str] | None
) -> tuple[list[str], bool]:
    """The label columns, and whether they are 0/1 columns, one per label.

    Args:
        splits: the splits; label columns are looked for in the first one.
        label_column: a column, or 0/1 columns as "a,b,c" (a name with a comma in double quotes; "a," for a single
            one) or as a pattern such as "label_*"; None takes the first known name, else the 0/1 columns.
        inputs: columns that hold none.
        label_names: when no label column is found, only 0/1 columns with these names are taken.

    Raises:
        ValueError: no column is found, or one among 0/1 columns holds little else than 0 and 1.
    """
    available = list(dict.fromkeys(name for split in splits.values() for name in split.column_names))
    if label_column is not None:
        if label_column in available:
            return [label_column], False
        if any(mark in label_column for mark in "*?["):
            matching = [name for name in fnmatch.filter(available, label_column) if name not in inputs]
            if not matching:
                raise ValueError(f"label_column: expected a match among {shown(available)}, got '{label_column}'")
            return matching, len(matching) > 1
        parts = [part.strip() for part in cut_text(label_column, ",") if part.strip()]
        return (parts, True) if "," in label_column and parts else ([label_column], False)
    first = next(iter(splits.values())).column_names
    lowered = {name.lower(): name for name in first if name not in inputs}
    found = [lowered[name] for name in LABEL_COLUMNS if name in lowered]
    if found:
        if len(found) > 1:
            logger.warning("label column '%s' taken; also there: %s", found[0], shown(found[1:]))
        return found[:1], False
    candidates = [name for name in available if name not in (*inputs, "id")]
    if label_names is not None:
        wanted = set(map(normal_name, label_names))
        candidates = [name for name in candidates if normal_name(name) in wanted]
    columns = _find_indicators(splits, candidates, named=label_names is not None)
    if len(columns) < 2 and label_names is None:
        raise ValueError(f"label_column: expected one of {shown(first)}, got none, and none is recognised")
    if not columns:
        raise ValueError(f"label_column: expected one, or 0/1 columns named as labels, got {shown(available)}")
    logger.info("no label column: the 0/1 columns are taken as labels: %s", shown(columns))
    return columns, True


def _find_indicators(splits: Mapping[str, Dataset], candidates: Sequence[str], named: bool) -> list[str]:
    """The columns that hold only 0, 1 and unknown in every split that has them, and 0 or 1 in one.

    Raises:
        ValueError: some column holds other values, and is `named` as a label or looks like one.
    """
    filled: set[str] = set()
    others: dict[str, tuple[str, pa.Table, np.ndarray]] = {}  # the first split with other values
    for split_name, split in splits.items():
        there = set(split.column_names)
        table = _indicator_table(split, [name for name in candidates if name in there])
        for name in table.column_names:
            values = _indicator_values(table.column(name))
            if np.any(values == _OTHER):
                others.setdefault(name, (split_name, table, values))
            elif np.any((values == 0) | (values == 1)) or (named and np.any(values == _BLANK)):
                filled.add(name)
    found = [name for name in candidates if name in filled and name not in others]
    left_out = []
    for name, (split_name, table, values) in others.items():
        rows = np.flatnonzero(values == _OTHER)
        wrong = table.column(name).take(rows).to_pylist()
        if named or (_looks_like_labels(values, wrong) and (found or len(others) > 1)):
            raise ValueError(
                f"label_column: expected only 0 and 1 in column '{name}', as in a column of labels, "
                f"{_wrong_indicator(table, split_name, name, values)}; or name the label columns with label_column"
            )
        if np.any((values == 0) | (values == 1)):
            left_out.append(f"'{name}' ({wrong[0]!r} in row {rows[0]} of '{split_name}')")
    if left_out and found:
        logger.warning("columns that hold more than 0 and 1 are not taken as labels: %s", shown(left_out))
    return found


def _looks_like_labels(values: np.ndarray, wrong: Sequence[Any]) -> bool:
    """Whether a column is one of labels, with values that are neither 0 nor 1: -1, scores, or a few others."""
    known = int(np.sum((values == 0) | (values == 1)))
    different = set(map(str, wrong))
    try:
        numbers = [float(value) for value in different]
    except ValueError:
        numbers = []
    if numbers and all(number == -1 for number in numbers):
        return True
    if numbers and all(0 < number < 1 for number in numbers):
        return known >= len(wrong)
    if not (np.any(values == 0) and np.any(values == 1)):
        return 10 * len(wrong) <= known
    # One word or number beside both; rows may be numbered 0, 1, 2.
    return 10 * len(wrong) <= known or (len(different) == 1 and len(wrong) < known and (known > 2 or not numbers))
