"""One label column of any form, read into (row, value) pairs. Imports datasets, pyarrow and numpy."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, LargeList, List, Value

logger = logging.getLogger(__name__)

_QUOTED = re.compile(r'(^|[;|,])\s*"(?:[^"]|"")*"\s*(?=[;|,]|$)')  # a field in quotes, as csv writes them


@dataclass(frozen=True)
class LabelCells:
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
        null = self.values.is_null().to_numpy(zero_copy_only=False)
        missing = self.empty.copy()
        missing[self.rows[null]] = True
        missing[self.rows[~null]] = False
        return missing

    @property
    def kind(self) -> str:
        """One of "nothing" (only empty cells), "bool", "integer", "float", "string", "class"."""
        if self.class_names is not None:
            return "class"
        type_ = self.values.type
        if len(self.values) == self.values.null_count:
            return "nothing"
        if pa.types.is_boolean(type_):
            return "bool"
        if pa.types.is_integer(type_):
            return "integer"
        return "float" if pa.types.is_floating(type_) else "string"


def arrow_column(split: Dataset, column: str) -> pa.Array:
    """The values of a column as one arrow array, in the order of the rows of `split`."""
    values = split.select_columns([column]).with_format("arrow")[:][column]
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def read_label_cells(split: Dataset, column: str) -> LabelCells:
    """Read a label column: strings, integers, booleans, ClassLabels, or lists of these.

    Raises:
        ValueError: the column has another type, for instance lists and strings mixed.
    """
    feature: Any = split.features[column]
    is_list = isinstance(feature, (List, LargeList))
    inner = feature.feature if is_list else feature
    if not isinstance(inner, (Value, ClassLabel)):
        raise ValueError(
            f"label column '{column}': expected label names, ids, a delimited string, 0/1 values or a list of one of "
            f"these in every row, got {feature}"
        )
    array = arrow_column(split, column)
    num_rows = len(array)
    if not is_list:
        rows, empty = np.arange(num_rows, dtype=np.int64), np.zeros(num_rows, dtype=bool)
        return LabelCells(rows, _plain(array, column), num_rows, False, empty, _names(inner))
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    empty = array.is_null().to_numpy(zero_copy_only=False)
    rows = pc.list_parent_indices(array).to_numpy(zero_copy_only=False).astype(np.int64)
    return LabelCells(rows, _plain(pc.list_flatten(array), column), num_rows, True, empty, _names(inner))


def _names(feature: Value | ClassLabel) -> list[str] | None:
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def _plain(values: pa.Array, column: str) -> pa.Array:
    """Reduce the many arrow types of one kind to string, int64, float64 or bool."""
    type_ = values.type
    if pa.types.is_null(type_) or pa.types.is_large_string(type_) or str(type_) == "string_view":
        return values.cast(pa.string())
    if pa.types.is_integer(type_):
        return values.cast(pa.int64())
    if pa.types.is_floating(type_):
        return pc.if_else(pc.is_nan(values), None, values.cast(pa.float64()))
    if pa.types.is_boolean(type_) or pa.types.is_string(type_):
        return values
    raise ValueError(f"label column '{column}': expected names, ids or 0/1 values, got values of type {type_}")


def split_strings(
    cells: Mapping[str, LabelCells], column: str, delimiter: str | None
) -> tuple[dict[str, LabelCells], str | None]:
    """Cut string cells that hold several labels into lists; returns the new cells and the delimiter used, if any.

    Cells that all look like a printed list (`['a', 'b']`, as pandas writes lists to csv) are parsed. Otherwise the
    delimiter is the given one ("" keeps each cell whole), or found by `detect_delimiter`. A name in double quotes is
    not cut: `"Arts, Crafts",Books` are two labels.
    """
    texts = {name: pc.utf8_trim_whitespace(split.values) for name, split in cells.items()}
    filled = [text for values in texts.values() for text in pc.unique(values).to_pylist() if text]
    if delimiter is None and filled and all(text.startswith("[") and text.endswith("]") for text in filled):
        return {name: _parse_lists(replace(cells[name], values=texts[name]), column) for name in cells}, None
    used = detect_delimiter(filled, column) if delimiter is None else delimiter
    if not used and not (delimiter is None and any(map(_QUOTED.search, filled))):
        return {name: replace(cells[name], values=texts[name]) for name in cells}, None
    logger.info("label column '%s': strings are cut at %r", column, used)
    return {name: _cut_cells(split, texts[name], used) for name, split in cells.items()}, used or None


def _cut_cells(cells: LabelCells, texts: pa.Array, delimiter: str) -> LabelCells:
    """Cells of several labels each, from strings; null strings become null cells."""
    if delimiter and not pc.any(pc.match_substring(texts, '"')).as_py():
        parts = pc.split_pattern(texts, delimiter)
    else:
        cut = {text: cut_string(text, delimiter) for text in pc.unique(texts.drop_null()).to_pylist()}
        parts = pa.array([None if text is None else cut[text] for text in texts.to_pylist()], pa.list_(pa.string()))
    empty = np.zeros(cells.num_rows, dtype=bool)
    empty[cells.rows] = texts.is_null().to_numpy(zero_copy_only=False)
    rows = cells.rows[pc.list_parent_indices(parts).to_numpy(zero_copy_only=False)]
    return replace(cells, rows=rows, values=pc.list_flatten(parts), is_list=True, empty=empty)


def cut_string(text: str, delimiter: str) -> list[str]:
    """The labels of one string; double quotes around a label keep it whole and are taken off, "" in them means one."""
    end = rf"(?:{re.escape(delimiter)}|\Z)" if delimiter else r"\Z"
    field = re.compile(rf'\s*"((?:[^"]|"")*)"\s*{end}|(.*?){end}', re.DOTALL)
    parts, position = [], 0
    while position < len(text):
        match = field.match(text, position)
        assert match is not None  # the second form always matches
        parts.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        position = match.end()
    return parts


def detect_delimiter(cells: list[str], column: str) -> str:
    """Which character separates several labels in the different strings of a label column; "" if none does.

    ";" and "|" do not occur in names, so one of them alone decides. A comma may belong to a name ("Arts, Crafts"): it
    separates if at least half of the parts it makes occur in more than one cell, or some name with one is in quotes.

    Raises:
        ValueError: both ";" and "|" occur, or commas occur and their parts never come back.
    """
    bare = [_QUOTED.sub(r"\1", cell) if '"' in cell else cell for cell in cells]
    found = [mark for mark in (";", "|") if any(mark in cell for cell in bare)]
    if len(found) == 2:
        raise ValueError(
            f"label column '{column}': expected one delimiter, got both ';' and '|'; give label_delimiter"
        )
    if found:
        return found[0]
    with_comma = [cell for cell, unquoted in zip(cells, bare, strict=True) if "," in unquoted]
    if not with_comma:
        return ""
    split = [{part.strip() for part in cut_string(cell, ",")} - {""} for cell in cells]
    occurrences = Counter(part for parts in split for part in parts)
    parts = {part for cell in with_comma for part in cut_string(cell, ",") if part.strip()}
    parts = {part.strip() for part in parts}
    shared = sum(occurrences[part] > 1 for part in parts)
    quoted = any("," in match[0][len(match[1]) :] for cell in cells for match in _QUOTED.finditer(cell))
    if quoted or 2 * shared >= len(parts):
        return ","
    raise ValueError(
        f"label column '{column}': expected a clear delimiter, got {with_comma[0]!r}, which may be one label or "
        "several; give label_delimiter (',' to cut at commas, '' to keep each cell as one label)"
    )


def _parse_lists(cells: LabelCells, column: str) -> LabelCells:
    """Parse cells such as "['a', 'b']" or "[0, 2]"; all lists must hold strings, or all must hold integers.

    null, None and NaN may stand among them; a null string becomes a null cell.
    """
    rows: list[int] = []
    values: list[Any] = []
    empty = np.zeros(cells.num_rows, dtype=bool)
    empty[cells.rows] = cells.values.is_null().to_numpy(zero_copy_only=False)
    for row, text in zip(cells.rows.tolist(), cells.values.to_pylist(), strict=True):
        items = _literal(text) if text else []
        if items is None:
            raise ValueError(f"label column '{column}': expected a printed list such as \"['a', 'b']\", got {text!r}")
        rows += [row] * len(items)
        values += [None if item is None or item != item else item for item in items]
    types = {bool if isinstance(value, bool) else type(value) for value in values if value is not None}
    if not (types <= {bool} or types <= {int} or types <= {str}):
        got = ", ".join(sorted(type_.__name__ for type_ in types))
        raise ValueError(f"label column '{column}': expected lists of names or of ids, got values of types {got}")
    array = pa.array(values) if types else pa.array(values, pa.string())
    return replace(cells, rows=np.array(rows, dtype=np.int64), values=array, is_list=True, empty=empty)


def _literal(text: str) -> list[Any] | None:
    """The list that a string prints, as JSON or Python; None if it prints none."""
    try:
        items = json.loads(text)
    except ValueError:
        try:
            items = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return None
    return items if isinstance(items, list) else None
