"""Label columns of any form -> `Labels` and the label names: the only parser. Imports labels and cells.

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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, LargeList, List, Value, concatenate_datasets

from hf_mlcl.messages import first_line, nearest, shown

from .cells import ENTITY, are_numbers, cut_text, detect_delimiter, holds_quoted, label_parts, parse_printed
from .labels import (
    LIST_TYPES,
    UNKNOWN_LABEL,
    Labels,
    arrow_column,
    canonical_labels,
    checked_label_names,
    different_names,
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
_BLANK, _OTHER = 2, 3  # what else than 0, 1 and -100 a cell of a 0/1 column may be
_INDICATORS = (
    dict.fromkeys(("1", "true", "yes", "y", "t"), 1)
    | dict.fromkeys(("0", "false", "no", "n", "f"), 0)
    | dict.fromkeys((*_UNKNOWN_TEXTS, *_NOTHING_TEXTS), UNKNOWN_LABEL)
    | {"": _BLANK}
)
_STRINGS = ("string", "large_string", "string_view")

_Encoded = tuple[dict[str, Labels], list[str]]  # the labels of each split, and their names


@dataclass(frozen=True)
class _Cells:
    """The label column of one split: `values[k]`, of one arrow type and maybe null, stands in row `rows[k]`."""

    column: str
    split: str
    rows: np.ndarray  # int64 (K,), ascending
    values: pa.Array
    empty: np.ndarray  # bool (N,), cells that are null instead of a list
    is_list: bool = False
    class_names: list[str] | None = None  # of the ids of a ClassLabel

    @classmethod
    def read(cls, array: pa.Array, feature: Any, column: str, split: str) -> _Cells:
        """Strings, int64, float64, booleans, ids of a ClassLabel, or lists of these."""
        inner = feature.feature if isinstance(feature, (List, LargeList)) else feature
        where = f"label column '{column}': class names"
        names = different_names(inner.names, where) if isinstance(inner, ClassLabel) else None
        cells = cls(column, split, np.arange(len(array)), array, np.zeros(len(array), dtype=bool), class_names=names)
        if isinstance(array.type, LIST_TYPES):
            is_fixed = isinstance(array.type, pa.FixedSizeListType)
            cells = cells.lists(array.cast(pa.list_(array.type.value_type)) if is_fixed else array)
        values = cells.values
        if pa.types.is_null(values.type) or str(values.type) in _STRINGS:
            values = values.cast(pa.string())
        elif pa.types.is_integer(values.type):
            values = values.cast(pa.int64())
        elif pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values.cast(pa.float64()))
        elif not pa.types.is_boolean(values.type):
            raise cells.error(f"{values.type} is neither label names, ids, 0/1 values nor lists of one of these")
        return replace(cells, values=values)

    def error(self, problem: str, place: int | None = None) -> ValueError:
        """An error about the column, or about the cell of `values[place]`."""
        where = "" if place is None else f", row {self.rows[place]} of '{self.split}'"
        return ValueError(f"label column '{self.column}'{where}: {problem}")

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
        return {"bool": "bool", "int64": "integer", "double": "float"}.get(str(self.values.type), "string")

    def only(self, keep: pa.Array) -> _Cells:
        """Those of the values that are kept (null: they are)."""
        keep = pc.fill_null(keep, True)
        return replace(self, rows=self.rows[_bools(keep)], values=pc.filter(self.values, keep))

    def without_numbers(self, *numbers: int) -> _Cells:
        """Nulls in place of some numbers."""
        absent = pa.array(numbers, pa.int64())
        return replace(self, values=pc.if_else(pc.is_in(self.values, absent), None, self.values))

    def lists(self, lists: pa.Array) -> _Cells:
        """The items of one list (or null) in place of each value."""
        empty = np.zeros(len(self.empty), dtype=bool)
        empty[self.rows] = _bools(lists.is_null())
        rows = self.rows[pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)]
        return replace(self, rows=rows, values=pc.list_flatten(lists), is_list=True, empty=empty)


@overload
def encode_labels(
    splits: Mapping[str, Dataset],
    columns: Sequence[str],
    *,
    delimiter: str | None = None,
    label_names: Sequence[str] | None = None,
    indicators: bool | None = None,
) -> _Encoded: ...


@overload
def encode_labels(
    splits: Iterable[Any], *, delimiter: str | None = None, label_names: Sequence[str] | None = None
) -> tuple[np.ndarray, list[str]]: ...


def encode_labels(
    splits: Any,
    columns: Sequence[str] | None = None,
    *,
    delimiter: str | None = None,
    label_names: Sequence[str] | None = None,
    indicators: bool | None = None,
) -> Any:
    """Turn the label column(s) of all splits into `Labels` over one universe of labels; or lists of names into rows.

    Args:
        splits: datasets, of which one may lack some of `columns`: they are unknown there, with a warning. Without
            `columns`, the labels of each example, such as `[["oil", "gas"], []]`.
        columns: one column in any of the forms above, or several 0/1 columns.
        delimiter: what separates the labels in a string; None detects it, "" takes each string as one label.
        label_names: the universe and its order. Ids without names count in it (or name it, if it consists of numbers).
            None takes all labels: in the order of the ClassLabel, sorted for strings (by number if all are numbers),
            in the order of the columns for 0/1 columns. Labels that only one split has are kept.
        indicators: whether the columns are 0/1 columns, one per label; None takes several columns as such.

    Returns:
        the labels of each split (a warning counts missing ones), and the L label names; of values multi-hot rows, int8
        (N, L) with -100 where nothing is known, and the names.

    Raises:
        ValueError: the column has no readable form, a label is not in `label_names`, or two names are the same but for
            blanks and Unicode form; one line that says which.

    Example:
        >>> from datasets import Dataset
        >>> labels, names = encode_labels({"train": Dataset.from_dict({"tags": ["b;a", "", "c"]})}, ["tags"])
        >>> names, labels["train"].rows().astype(int).tolist()
        (['a', 'b', 'c'], [[1, 1, 0], [0, 0, 0], [0, 0, 1]])
        >>> rows, names = encode_labels([["oil", "gas"], [], ["gas"]])
        >>> names, rows.tolist()
        (['gas', 'oil'], [[1, 1], [0, 0], [1, 0]])
    """
    if columns is None:
        return _encode_values(splits, delimiter, label_names)
    label_names = None if label_names is None else checked_label_names(label_names)
    available = dict.fromkeys(name for split in splits.values() for name in split.column_names)
    absent = [column for column in columns if column not in available]
    if absent:
        raise ValueError(f"label column '{absent[0]}': there are only the columns {shown(available)}")
    splits = {name: _with_unknown_columns(split, name, columns) for name, split in splits.items()}
    if len(columns) > 1 if indicators is None else indicators:
        tables = {name: _indicator_table(split, columns) for name, split in splits.items()}
        labels, names = _from_tables(tables, label_names, "label_column")
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


def _encode_values(
    values: Any, delimiter: str | None, label_names: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise ValueError(f"labels must be a list with the labels of each example, got a {type(values).__name__}")
    listed = [list(value) if isinstance(value, (set, frozenset, tuple, np.ndarray)) else value for value in values]
    try:
        rows = Dataset.from_dict({"labels": listed})
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(f"labels must be names or numbers, of one kind: {first_line(error)}") from error
    labels, names = encode_labels({"train": rows}, ["labels"], delimiter=delimiter, label_names=label_names)
    return labels["train"].rows().astype(np.int8), names


def encode_batch(
    values: pa.Array, feature: Any, label_names: Sequence[str], column: str, *, delimiter: str, multi_hot: bool
) -> Labels:
    """The labels of a part of a column, of which the arguments alone say how it is read: a part may look otherwise.

    Lists of numbers are 0/1 rows if `multi_hot`, else ids; ids without a ClassLabel count in `label_names`.

    Raises:
        ValueError: a label is not in `label_names`, or a row has another length.
    """
    cells = _Cells.read(values, feature, column, "batch")
    if cells.kind in ("string", "nothing"):
        if not cells.is_list:
            cells = _cut_cells(cells, delimiter)
        return _from_names([cells], label_names, exact=True)[0]["batch"]
    rows, numbers = _numbers(cells)
    width, lengths = len(label_names), np.bincount(rows, minlength=len(values))
    if cells.kind == "bool" or (multi_hot and cells.is_list):
        wrong = np.setdiff1d(lengths, (0, width))
        if len(wrong):
            raise ValueError(f"column '{column}' must hold rows of {width} 0/1 values, got {wrong[0]}")
        return _from_multi_hot([cells], width, label_names)[0]["batch"]
    for row in numbers[lengths[rows] == width].reshape(-1, width).tolist():
        if len(set(row)) < width and set(row) <= {0, 1}:
            raise ValueError(f"column '{column}' must hold ids, got the 0/1 row {row}; rows need multi_hot=True")
    cells = replace(cells, class_names=cells.class_names or list(label_names))
    return _from_names([_checked_ids(cells)], label_names, exact=True)[0]["batch"]


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
        return _from_tables(_mapping_tables(mappings, column), label_names, f"label column '{column}'")
    cells = [
        _Cells.read(arrow_column(split, column), split.features[column], column, name)
        for name, split in splits.items()
    ]
    texts = [split for split in cells if split.kind == "string" and not split.is_list]
    if texts:
        read = {split.split: split for split in _read_texts(texts, delimiter, label_names)}
        cells = [read.get(split.split, split) for split in cells]
    kinds = {split.kind for split in cells} - {"nothing"}
    if kinds == {"bool"} and not any(split.is_list for split in cells):
        tables = {name: _indicator_table(split, [column]) for name, split in splits.items()}
        return _from_tables(tables, label_names, "label_column")
    if delimiter and not texts:
        got = ", ".join(sorted(kinds)) or "nothing"
        raise ValueError(f"label_delimiter: the label column '{column}' holds no strings, but {got}")
    cells = [
        replace(split, values=_with_nulls(split.values, _UNKNOWN_TEXTS, label_names or ()))
        if split.kind == "string"
        else split
        for split in cells
    ]
    if kinds == {"string"} and all(split.is_list for split in cells if split.kind == "string"):
        said = {text for text in _different(*(split.values for split in cells)) if text.strip()}
        if all(map(_is_number, said)) and are_numbers(said):  # as ids they may be rows of 0/1
            cells = [_with_numbers(split) if split.kind == "string" else split for split in cells]
    cells = [_checked_ids(split) for split in cells]
    kinds = {split.kind for split in cells} - {"nothing"}
    if not kinds:
        raise cells[0].error("there are only empty cells")
    if len(kinds) > 1 and kinds != {"class", "string"}:
        got = ", ".join(f"{split.kind} in '{split.split}'" for split in cells)
        raise cells[0].error(f"all splits must hold one type, got {got}")
    width = _multi_hot_width([split for split in cells if split.kind != "nothing"])
    return _from_multi_hot(cells, width, label_names) if width else _from_names(cells, label_names)


def _checked_ids(cells: _Cells) -> _Cells:
    """Ids as integers (pandas writes ids with gaps as floats), null where -100, or -1 of a ClassLabel, is no id."""
    if pa.types.is_floating(cells.values.type):
        numbers = cells.values.to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(((numbers != np.floor(numbers)) | (np.abs(numbers) > 2**53)) & (numbers == numbers))
        if len(wrong):
            problem = (
                f"{numbers[wrong[0]]} is no id; write 0 or 1 for scores (label_delimiter '' reads texts as names)"
            )
            raise cells.error(problem, wrong[0])
        cells = replace(cells, values=cells.values.cast(pa.int64()))
    if cells.kind == "class":
        if cells.is_list:  # padded to one length
            cells = cells.only(pc.not_equal(cells.values, -1))
        return cells.without_numbers(UNKNOWN_LABEL, -1)
    return cells.without_numbers(UNKNOWN_LABEL) if cells.kind == "integer" and not cells.is_list else cells


def _numbers(cells: _Cells) -> tuple[np.ndarray, np.ndarray]:
    """Rows (K,) and float64 values (K,), NaN for null, of the cells that say something."""
    there = ~cells.missing[cells.rows]
    return cells.rows[there], cells.values.cast(pa.float64()).to_numpy(zero_copy_only=False)[there]


def _multi_hot_width(cells: list[_Cells]) -> int:
    """Width of the rows if they are multi-hot by the rule of the module; 0 if they are names or ids."""
    kind = cells[0].kind
    if kind not in ("bool", "integer") or not all(split.is_list for split in cells):
        return 0
    parts = [_numbers(split) for split in cells]
    lengths = np.concatenate([np.bincount(rows) for rows, _ in parts])
    widths = np.unique(lengths[lengths > 0]).tolist()
    if kind == "bool" and len(widths) > 1:
        raise cells[0].error(f"multi-hot rows must have one width, got {widths[:5]}")
    if kind == "bool":
        return widths[0]
    if widths == [1] or not all(np.isin(np.nan_to_num(values), (0, 1, UNKNOWN_LABEL)).all() for _, values in parts):
        return 0
    for rows, values in parts:  # a row with 0 or 1 twice, or with a -100, is no set of ids
        binary = values >= 0
        twice = np.flatnonzero(np.bincount(2 * rows[binary] + values[binary].astype(np.int64)) > 1) // 2
        if len(widths) == 1 and (len(twice) or (values < 0).any()):
            return widths[0]
        if len(twice):
            raise cells[0].error(
                f"row {twice[0]} holds 0 or 1 twice, as no set of ids does, but rows differ in length"
            )
    if len(widths) == 1:
        row = parts[-1][1][: widths[0]]
        logger.warning(
            "label column '%s': rows such as %s are read as ids; booleans are multi-hot", cells[0].column, row
        )
    return 0


def _from_multi_hot(cells: list[_Cells], width: int, label_names: Sequence[str] | None) -> _Encoded:
    names = [str(number) for number in range(width)] if label_names is None else list(label_names)
    if len(names) != width:
        raise cells[0].error(f"there are {len(names)} label names, but multi-hot rows of width {width}")
    result = {}
    for split in cells:
        rows, numbers = _numbers(split)
        values, places = canonical_labels(numbers, f"label column '{split.column}'"), np.arange(len(rows)) % width
        ones, unknown = values == 1, values == UNKNOWN_LABEL
        shape, missing = (len(split.empty), width), (rows[unknown], places[unknown])
        result[split.split] = Labels.from_pairs(rows[ones], places[ones], shape, split.missing, missing)
    return result, names


def _from_names(cells: list[_Cells], label_names: Sequence[str] | None, exact: bool = False) -> _Encoded:
    """Names, or ids; with `exact` numbers among the texts are names."""
    # Lists of ids may be padded with -100.
    cells = [split.without_numbers(UNKNOWN_LABEL) if split.kind == "integer" else split for split in cells]
    named = [_as_names(split) for split in cells]
    present = _different(*(split.values for split in named))
    declared = list(dict.fromkeys(name for split in cells for name in split.class_names or ()))
    if label_names is None:
        rest = set(present).difference(declared)
        order: Any = (lambda text: (int(text), text)) if all(map(_is_number, rest)) else None
        names = declared + sorted(rest, key=order)
    else:
        names = list(label_names)
    if not names:
        raise cells[0].error("there are only empty cells")
    keys, by_number = names, all(map(_is_number, present))
    if label_names is not None and not declared and by_number and not exact and set(names).isdisjoint(present):
        keys = [str(number) for number in range(len(names))]  # numbers that are not names count in the given names
    num_rows, pairs = sum(len(split.empty) for split in cells), sum(len(split.rows) for split in named)
    if label_names is None and not declared and 2 * len(names) > pairs and too_large_for_rows(num_rows, len(names)):
        problem = f"{len(names)} different labels in {num_rows} rows, most of them once; is it the label column?"
        raise cells[0].error(problem)
    result = {}
    for split, of_split in zip(cells, named, strict=True):
        index = pc.index_in(of_split.values, value_set=pa.array(keys, pa.string()))
        if index.null_count:
            wrong = pc.filter(of_split.values, pc.is_null(index))[0].as_py()
            raise _unknown(wrong, split.split, f"label column '{split.column}'", names)
        shape = (len(split.empty), len(names))
        missing = split.missing
        nulls = split.rows[_bools(split.values.is_null())]
        beside = set(nulls[~missing[nulls]].tolist() if split.kind == "string" else ())
        if beside:
            logger.warning(
                "split '%s': in %d of %d rows a nan or null beside labels is left out, such as in row %d",
                *(split.split, len(beside), len(missing), min(beside)),
            )
        result[split.split] = Labels.from_pairs(of_split.rows, index.to_numpy(), shape, missing)
    return result, names


def _as_names(cells: _Cells) -> _Cells:
    """Replace ids by names (numbers where there are none), strip names, and drop what means no label."""
    values, kind = cells.values, cells.kind
    if kind in ("class", "integer"):
        below = 2**63 - 1 if kind == "integer" else len(cells.class_names or ())
        place = pc.index(pc.or_(pc.less(values, 0), pc.greater_equal(values, below)), True).as_py()
        if place >= 0:
            limit = "from 0 on" if kind == "integer" else f"below {below}"
            raise cells.error(f"ids are {limit}, or -100 where nothing is known, got {values[place]}", place)
    if kind == "class":
        values = pa.array(cells.class_names, pa.string()).take(values)
    values = values.cast(pa.string())
    values = values if kind == "integer" else _normalized(values)
    return replace(cells, values=values).only(pc.fill_null(pc.not_equal(values, ""), False))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _unknown(label: str, split_name: str, where: str, names: Sequence[str]) -> ValueError:
    return ValueError(
        f"{where}: {label!r} in split '{split_name}' is none of the {len(names)} label_names{nearest(label, names)}"
    )


# Single strings: printed lists, truth values, numbers, rows of 0/1, or names with a delimiter.


def _read_texts(cells: list[_Cells], delimiter: str | None, label_names: Sequence[str] | None) -> list[_Cells]:
    """What single strings hold.

    Cells that all print a list (see `parse_printed`) are parsed. Otherwise the delimiter is the given one ("" keeps
    each cell whole), or found by `detect_delimiter`; `label_names`, where given, tell what is a name. A name in double
    quotes is not cut: `"Arts, Crafts",Books` are two labels. ValueError where cells may be read in two ways.
    """
    texts = _Texts(cells, set(label_names or ()))
    found = None
    if texts.said and not texts.known.issuperset(texts.said):
        found = texts.printed(delimiter) if delimiter != "" else None
        found = texts.truth_or_numbers() if found is None and delimiter is None else found
    return texts.cut(delimiter) if found is None else found


class _Texts:
    """The strings of a label column in all splits, and the readings of them; a reading that does not fit is None."""

    def __init__(self, cells: list[_Cells], known: set[str]) -> None:
        self.cells, self.column, self.known = cells, cells[0].column, known
        self.texts = [_with_nulls(_normalized(split.values), _UNKNOWN_TEXTS, known) for split in cells]
        self.filled = _different(*self.texts)
        for number, values in enumerate(self.texts):
            if self.filled and not _different(values) and pc.any(pc.equal(values, "")).as_py():
                split = cells[number].split
                logger.warning("split '%s': its labels are unknown, label column '%s' is empty", split, self.column)
                self.texts[number] = pa.nulls(len(values), pa.string())
        self.sure = [_with_nulls(values, _NOTHING_TEXTS, known) for values in self.texts]
        self.said = _different(*self.sure)

    def error(self, problem: str, text: str) -> ValueError:
        """An error about the first cell with this text."""
        places = ((split, pc.index(part, text).as_py()) for split, part in zip(self.cells, self.texts, strict=True))
        split, place = next((split, place) for split, place in places if place >= 0)
        return split.error(problem, place)

    def with_values(self, of: Iterable[pa.Array]) -> list[_Cells]:
        return [replace(split, values=values) for split, values in zip(self.cells, of, strict=True)]

    def not_blank(self, of: Iterable[pa.Array]) -> list[_Cells]:
        """Without those that are blank, which say that there is no label."""
        return [split.only(pc.not_equal(split.values, "")) for split in self.with_values(of)]

    def printed(self, delimiter: str | None) -> list[_Cells] | None:
        """Printed lists; where a delimiter is given, brackets around what it cuts are taken off."""
        items = {text: parse_printed(text) for text in self.said}
        other = next((text for text in self.said if not isinstance(items[text], list)), None)
        bracketed = all(text[0] + text[-1] in ("[]", "{}") for text in self.said)
        if other is None:
            return [_printed_lists(split, items) for split in self.not_blank(self.sure)]
        if delimiter and bracketed:
            self.texts = [pc.utf8_slice_codeunits(values, 1, -1) for values in self.sure]
        elif bracketed or (delimiter is None and any(items.values())):
            hint = " ('...' stands for what was left out)" if "..." in other else ""
            raise self.error(f"{other!r} is no printed list such as \"['a', 'b']\", as other rows hold{hint}", other)
        return None

    def truth_or_numbers(self) -> list[_Cells] | None:
        """Truth values, rows of digits such as 0110, or numbers."""
        if all(text.lower() in ("true", "false") for text in self.said):
            return self.with_values(pc.equal(pc.utf8_lower(values), "true") for values in self.sure)
        lengths = set(map(len, self.said))
        if len(lengths) == 1 and lengths != {1} and set("".join(self.said)) <= {"0", "1"}:
            padded = any(text[0] == "0" for text in self.said)
            if (lengths == {2}) if padded else (lengths != {2} and len(self.said) > 1):
                text = next(text for text in self.said if text[0] == "0" or not padded)
                raise self.error(
                    f"{text!r} may be a label or a row of 0/1; write {','.join(text)!r} for a row, or give "
                    "label_delimiter ('') for a label",
                    text,
                )
            if padded:
                digits = {text: list(map(int, text)) for text in self.said}
                return [_printed_lists(split, digits) for split in self.not_blank(self.sure)]
        return [_with_numbers(split) for split in self.not_blank(self.sure)] if are_numbers(self.said) else None

    def cut(self, delimiter: str | None) -> list[_Cells]:
        """Names, or numbers, between delimiters."""
        texts, used = (
            self.texts,
            detect_delimiter(self.said, self.column, self.known) if delimiter is None else delimiter,
        )
        parts = {part.lower() for cell in self.said for part in label_parts(cell, used)} if used else set()
        numbers = are_numbers(parts.difference(_UNKNOWN_TEXTS))
        if numbers:
            texts = self.sure
        elif delimiter is None:
            self._refuse_doubtful(used)
        if not used and not (delimiter is None and any(map(holds_quoted, self.filled))):
            return self.with_values(texts)
        logger.info("label column '%s': strings are cut at %r", self.column, used)
        if used and all(text.endswith(used) for text in self.filled):
            texts = [pc.utf8_rtrim(values, used) for values in texts]
        cut = [_cut_cells(split, used) for split in self.not_blank(texts)]
        return [_with_numbers(split) for split in cut] if numbers else cut

    def _refuse_doubtful(self, used: str) -> None:
        alone = [text for text in self.filled if text.lower() in (*_NOTHING_TEXTS, "-") and text not in self.known]
        parts = {part for cell in self.filled if used and used in cell for part in label_parts(cell, used)}
        doubtful = next((text for text in alone if text not in parts), None)
        if doubtful is not None:
            raise self.error(
                f"{doubtful!r} may be a name, no label or unknown; leave the cell empty for no label, write nan for "
                f"unknown, or give label_delimiter ({used!r}) to take it as a name",
                doubtful,
            )


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


def _printed_lists(cells: _Cells, items: Mapping[str, Any]) -> _Cells:
    """The items, all strings, all booleans or all numbers, that each string stands for; NaN is null as null is."""
    lists = [None if text is None else items[text] for text in cells.values.to_pylist()]
    lists = [None if row is None else [None if item != item else item for item in row] for row in lists]
    types = {type(item) for row in lists for item in row or ()} - {type(None)}
    if not any(types <= allowed for allowed in ({bool}, {int, float}, {str})):
        raise cells.error(f"lists hold values of types {', '.join(sorted(type_.__name__ for type_ in types))}")
    kinds = {str: pa.string(), bool: pa.bool_(), float: pa.float64(), int: pa.int64()}
    type_ = next((kinds[kind] for kind in kinds if kind in types), pa.string())
    try:
        return cells.lists(pa.array(lists, pa.list_(type_)))
    except (OverflowError, ValueError) as error:  # numbers too large, halves of characters
        raise cells.error("a list holds a value that is neither a name nor an id") from error


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


def _from_tables(tables: Mapping[str, pa.Table], label_names: Sequence[str] | None, where: str) -> _Encoded:
    """One 0/1 column per label, named as the column; a label of `label_names` without a column is unknown."""
    columns = next(iter(tables.values())).column_names
    own_names = different_names(columns, where)
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
                raise _wrong_indicator(table, split_name, column, values)
            blanks = values == _BLANK
            blank += int(np.count_nonzero(blanks))
            if name in position:
                by_label[position[name]] = np.where(blanks, 0, values)
            elif (values == 1).any():
                raise _unknown(column, split_name, where, names)
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
    array = column.combine_chunks()
    type_, null = array.type, _bools(array.is_null())
    if str(type_) in _STRINGS:
        texts = pc.utf8_lower(_trimmed(array.cast(pa.string())))
        texts = pc.replace_substring_regex(texts, r"^(0|1|-100)\.0*$", r"\1")
        index = pc.fill_null(pc.index_in(texts, pa.array(_INDICATORS)), len(_INDICATORS)).to_numpy()
        values = np.array([*_INDICATORS.values(), _OTHER])[index]
    elif pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_):
        numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        null = null | np.isnan(numbers)
        values = np.where(np.isin(numbers, (0, 1, UNKNOWN_LABEL)), numbers, _OTHER)
    else:
        values = np.full(len(array), _OTHER)
    return np.where(null, UNKNOWN_LABEL, values).astype(np.int8)


def _wrong_indicator(table: pa.Table, split_name: str, column: str, values: np.ndarray) -> ValueError:
    """An error about the first cell that is neither 0 nor 1 nor unknown."""
    row = int(np.flatnonzero(values == _OTHER)[0])
    got = table.column(column)[row].as_py()
    return ValueError(
        f"label_column: a column per label holds only 1, 0, or nan where it is unknown, but '{column}' holds {got!r} "
        f"in row {row} of split '{split_name}'; correct it, or name the label columns with label_column"
    )


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
    different_names(names, f"label column '{column}'")  # before columns of one name hide each other
    tables = {}
    for split_name, rows in mappings.items():
        if rows is None:
            raise ValueError(f"label column '{column}': some splits hold mappings, but not '{split_name}'")
        values = {name: [None if row is None else row.get(name) if row else 0 for row in rows] for name in names}
        texts = {name: [None if value is None else str(value) for value in cells] for name, cells in values.items()}
        tables[split_name] = pa.table({name: pa.array(cells, pa.string()) for name, cells in texts.items()})
    cells = [cell for table in tables.values() for name in names for cell in pc.unique(table[name]).to_pylist()]
    if None in cells and not any(str(cell).lower() in ("0", "0.0", "false") for cell in cells):
        raise ValueError(f"label column '{column}': mappings leave labels out; write 0 where an example has it not")
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
        ValueError: no column is found, or several are and none is `labels`, or one among 0/1 columns holds little else
            than 0 and 1.
    """
    available = list(dict.fromkeys(name for split in splits.values() for name in split.column_names))
    if label_column is not None:
        if label_column in available:
            return [label_column], False
        if any(mark in label_column for mark in "*?["):
            matching = [name for name in fnmatch.filter(available, label_column) if name not in inputs]
            if not matching:
                raise ValueError(f"label_column: '{label_column}' matches none of {shown(available)}")
            return matching, len(matching) > 1
        parts = [part.strip() for part in cut_text(label_column, ",") if part.strip()]
        return (parts, True) if "," in label_column and parts else ([label_column], False)
    first = next(iter(splits.values())).column_names
    lowered = {name.lower(): name for name in first if name not in inputs}
    found = [lowered[name] for name in LABEL_COLUMNS if name in lowered]
    if found:
        if len(found) > 1 and found[0].lower() != "labels":
            raise ValueError(f"label_column: name one of {shown(found)}; each may hold the labels")
        if len(found) > 1:
            logger.warning("label column '%s' taken; also there: %s", found[0], shown(found[1:]))
        return found[:1], False
    wanted = None if label_names is None else set(map(normal_name, label_names))
    candidates = [name for name in available if name not in (*inputs, "id")]
    candidates = [name for name in candidates if wanted is None or normal_name(name) in wanted]
    columns = _find_indicators(splits, candidates, named=wanted is not None)
    if len(columns) < (2 if wanted is None else 1):
        raise ValueError(f"label_column: none of {shown(available)} is recognised; name it, or 0/1 columns as labels")
    logger.info("no label column: the 0/1 columns are taken as labels: %s", shown(columns))
    return columns, True


def _find_indicators(splits: Mapping[str, Dataset], candidates: Sequence[str], named: bool) -> list[str]:
    """The columns that hold only 0, 1 and unknown in every split that has them, and 0 or 1 in one.

    ValueError where a column that is `named` as a label, or looks like one, holds other values.
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
        wrong = table.column(name).take(np.flatnonzero(values == _OTHER)).to_pylist()
        if named or (_looks_like_labels(values, wrong) and (found or len(others) > 1)):
            raise _wrong_indicator(table, split_name, name, values)
        if np.any((values == 0) | (values == 1)):
            left_out.append(f"'{name}' ({wrong[0]!r})")
    if left_out and found:
        logger.warning("columns that hold more than 0 and 1 are not taken as labels: %s", shown(left_out))
    return found


def _looks_like_labels(values: np.ndarray, wrong: Sequence[Any]) -> bool:
    """Whether a column is one of labels, with values that are neither 0 nor 1: -1, scores, or a few others."""
    zeros, ones, different = int(np.sum(values == 0)), int(np.sum(values == 1)), set(map(str, wrong))
    known = zeros + ones
    try:
        numbers = [float(value) for value in different]
    except ValueError:
        numbers = []
    if numbers and all(number == -1 for number in numbers):
        return True
    if numbers and all(0 < number < 1 for number in numbers):
        return known >= len(wrong)
    # One word or number beside both; rows may be numbered 0, 1, 2.
    one_more = zeros and ones and len(different) == 1 and len(wrong) < known and (known > 2 or not numbers)
    return bool(one_more) or 10 * len(wrong) <= known
