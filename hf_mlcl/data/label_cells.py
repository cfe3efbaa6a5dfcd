"""One label column of any form, read into (row, value) pairs. Imports datasets, pyarrow and numpy."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, LargeList, List, Value

from .printed import parse_printed

logger = logging.getLogger(__name__)

# How files write that nothing is known. The others may mean that, "no label", or be the name of one.
UNKNOWN_TEXTS = ("-100", "-100.0", "nan", "<na>")
NOTHING_TEXTS = ("na", "n/a", "none", "null", "nat", "?")

# Marks that do not occur in names, and those that may.
_MARKS = (";", "|", "\t", "\n", "\uff1b")
_COMMAS = (",", "\uff0c", "\u3001")
_NUMBER = r"^[+-]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_QUOTED = re.compile(r'(^|[;|,\t])\s*"(?:[^"]|"")*"\s*(?=[;|,\t]|$)')  # a field in quotes, as csv writes them


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


def parse_strings(
    cells: Mapping[str, LabelCells], column: str, delimiter: str | None, label_names: Sequence[str] | None = None
) -> dict[str, LabelCells]:
    """Read what single strings hold: printed lists, truth values, numbers, rows of 0/1, or names with a delimiter.

    Cells that all print a list (see `parse_printed`) are parsed. Otherwise the delimiter is the given one ("" keeps
    each cell whole), or found by `detect_delimiter`; `label_names`, where given, tell what is a name. A name in double
    quotes is not cut: `"Arts, Crafts",Books` are two labels.

    Raises:
        ValueError: the cells may be read in two ways; says which cell, and what to write.
    """
    known = set(label_names or ())
    texts = {
        name: with_nulls(pc.utf8_normalize(trimmed(split.values), "NFC"), UNKNOWN_TEXTS, known)
        for name, split in cells.items()
    }
    filled = _different(texts)
    for name, values in texts.items():
        if filled and not _different({name: values}) and pc.any(pc.equal(values, "")).as_py():
            logger.warning("split '%s': its labels are unknown, label column '%s' is empty", name, column)
            texts[name] = pa.nulls(len(values), pa.string())
    sure = {name: with_nulls(values, NOTHING_TEXTS, known) for name, values in texts.items()}
    said = _different(sure)
    are_names = not said or known.issuperset(said)

    def where(text: str) -> str:
        row, name = next((row, name) for name, part in texts.items() if (row := pc.index(part, text).as_py()) >= 0)
        return f"row {cells[name].rows[row]} of '{name}'"

    if delimiter != "" and not are_names:
        items = {text: parse_printed(text) for text in said}
        other = next((text for text in said if not isinstance(items[text], list)), None)
        bracketed = all(text[0] + text[-1] in ("[]", "{}") for text in said)
        if other is None:
            return {name: _lists(_filled(split, sure[name]), items, column) for name, split in cells.items()}
        if delimiter and bracketed:
            texts = {name: pc.utf8_slice_codeunits(values, 1, -1) for name, values in sure.items()}
        elif bracketed or (delimiter is None and any(items.values())):
            hint = "; '...' stands for what was left out" if "..." in other else ""
            raise ValueError(
                f"label column '{column}': expected a printed list such as \"['a', 'b']\" in every row, got {other!r} "
                f"in {where(other)}{hint}"
            )
    if delimiter is None and not are_names:
        if all(text.lower() in ("true", "false") for text in said):
            truths = {name: pc.equal(pc.utf8_lower(values), "true") for name, values in sure.items()}
            return {name: replace(cells[name], values=values) for name, values in truths.items()}
        if _are_rows_of_digits(said, column, where):
            items = {text: list(map(int, text)) for text in said}
            return {name: _lists(_filled(split, sure[name]), items, column) for name, split in cells.items()}
        if are_numbers(said):
            return {name: with_numbers(_filled(split, sure[name])) for name, split in cells.items()}
    used = detect_delimiter(said, column, known) if delimiter is None else delimiter
    parts = {part.lower() for cell in said for part in _parts(cell, used)} if used else set()
    numbers = are_numbers(sorted(parts.difference(UNKNOWN_TEXTS)))
    if numbers:
        texts = sure
    elif delimiter is None:
        alone = [text for text in filled if text.lower() in (*NOTHING_TEXTS, "-") and text not in known]
        parts = {part for cell in filled if used and used in cell for part in _parts(cell, used)}
        doubtful = next((text for text in alone if text not in parts), None)
        if doubtful is not None:
            raise ValueError(
                f"label column '{column}': expected label names, got {doubtful!r} in {where(doubtful)}, which may be "
                "a name, no label or unknown; leave the cell empty for no label, write nan for unknown, or give "
                f"label_delimiter ({used!r}) to take it as a name"
            )
    if not used and not (delimiter is None and any(map(_QUOTED.search, filled))):
        return {name: replace(cells[name], values=texts[name]) for name in cells}
    logger.info("label column '%s': strings are cut at %r", column, used)
    if used and all(text.endswith(used) for text in filled):
        texts = {name: pc.utf8_rtrim(values, used) for name, values in texts.items()}
    cut = {name: _cut_cells(_filled(split, texts[name]), used) for name, split in cells.items()}
    return {name: with_numbers(split) for name, split in cut.items()} if numbers else cut


def trimmed(texts: pa.Array) -> pa.Array:
    """Strings without blanks around them, nor a byte order mark."""
    return pc.utf8_trim_whitespace(pc.utf8_trim(texts, "\ufeff"))


def _different(texts: Mapping[str, pa.Array]) -> list[str]:
    return [text for text in dict.fromkeys(t for part in texts.values() for t in pc.unique(part).to_pylist()) if text]


def with_nulls(texts: pa.Array, unknown: Sequence[str], names: Iterable[str] = ()) -> pa.Array:
    """Strings with nulls in place of those in `unknown`, in any case; those in `names` stay."""
    nothing = pc.is_in(pc.utf8_lower(trimmed(texts)), pa.array(unknown, texts.type))
    if names:
        nothing = pc.and_(nothing, pc.invert(pc.is_in(texts, pa.array(list(names), texts.type))))
    return pc.if_else(nothing, None, texts)


def are_numbers(texts: Sequence[str]) -> bool:
    """Whether all strings are numbers; 007 is not, it is a code."""
    array = pa.array(texts, pa.string())
    return bool(texts) and pc.all(pc.match_substring_regex(pc.utf8_trim_whitespace(array), _NUMBER)).as_py()


def with_numbers(cells: LabelCells) -> LabelCells:
    """Cells of strings that are numbers, as integers where all are, else as floats; blank ones become nulls."""
    texts = with_nulls(pc.utf8_trim_whitespace(cells.values), ("", *UNKNOWN_TEXTS))
    try:
        return replace(cells, values=texts.cast(pa.int64()))
    except pa.ArrowInvalid:
        return replace(cells, values=texts.cast(pa.float64()))


def _filled(cells: LabelCells, texts: pa.Array) -> LabelCells:
    """Cells of these texts without those that are blank, which say that there is no label."""
    keep = pc.fill_null(pc.not_equal(texts, ""), True)
    return replace(cells, rows=cells.rows[keep.to_numpy(zero_copy_only=False)], values=pc.filter(texts, keep))


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


def _lists(cells: LabelCells, items: Mapping[str, list[Any] | dict[Any, Any] | None], column: str) -> LabelCells:
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
        array = pa.array(lists, pa.list_(type_))
    except (OverflowError, ValueError) as error:  # numbers too large, halves of characters
        raise ValueError(
            f"label column '{column}': expected names or ids in lists, got a value that is none"
        ) from error
    return _flattened(cells, array)


def _flattened(cells: LabelCells, lists: pa.Array) -> LabelCells:
    empty = np.zeros(cells.num_rows, dtype=bool)
    empty[cells.rows] = lists.is_null().to_numpy(zero_copy_only=False)
    rows = cells.rows[pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)]
    return replace(cells, rows=rows, values=pc.list_flatten(lists), is_list=True, empty=empty)


def _cut_cells(cells: LabelCells, delimiter: str) -> LabelCells:
    """Cells of several labels each, from strings; null strings become null cells."""
    texts = cells.values
    if delimiter and not delimiter.strip():  # several blanks are one
        parts = pc.split_pattern_regex(texts, f"{re.escape(delimiter)}+")
    elif delimiter and not pc.any(pc.match_substring(texts, '"')).as_py():
        parts = pc.split_pattern(texts, delimiter)
    else:
        cut = {text: cut_string(text, delimiter) for text in pc.unique(texts.drop_null()).to_pylist()}
        parts = pa.array([None if text is None else cut[text] for text in texts.to_pylist()], pa.list_(pa.string()))
    return _flattened(cells, parts)


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


def detect_delimiter(cells: list[str], column: str, names: Collection[str] = ()) -> str:
    """What separates several labels in the different strings of a label column; "" if nothing does.

    With `names`, what makes all parts names. Otherwise ";", "|", tabs and line breaks do not occur in names, so one of
    them alone decides. A comma may belong to a name ("Arts, Crafts"): it separates if at least half of the parts it
    makes occur in more than one cell, or some name with one is in quotes. Blanks do more often: they separate numbers,
    and words that all occur in more than one cell, at least half of them in one of their own.

    Raises:
        ValueError: two delimiters occur, or what a comma or a blank means is not clear.
    """
    for mark in ("", *_MARKS, *_COMMAS, " ") if names else ():
        if all(part in names for cell in cells for part in _parts(cell, mark)):
            return mark
    bare = [_QUOTED.sub(r"\1", cell) if '"' in cell else cell for cell in cells]
    found = [mark for mark in _MARKS if any(mark in cell for cell in bare)]
    commas = [mark for mark in _COMMAS if any(mark in cell for cell in bare)]
    if len(found) == 1 and commas:  # "a;b" in one row and "a,b" in another, where a and b are labels
        labels = set().union(*(_parts(cell, found[0]) for cell in cells))
        if any(mark in label and _parts(label, mark) <= labels for label in labels for mark in commas):
            found.append(commas[0])
    if len(found) > 1:
        raise ValueError(
            f"label column '{column}': expected one delimiter, got both {found[0]!r} and {found[1]!r}; give "
            "label_delimiter"
        )
    if found:
        return found[0]
    mark = commas[0] if commas else " "
    several = [cell for cell, unquoted in zip(cells, bare, strict=True) if mark in unquoted]
    if not several:
        return ""
    split = [_parts(cell, mark) for cell in cells]
    occurrences = Counter(part for parts in split for part in parts)
    parts = set().union(*(_parts(cell, mark) for cell in several))
    shared = sum(occurrences[part] > 1 for part in parts)
    alone = 2 * len(parts.intersection(cells)) >= len(parts)
    if are_numbers(list(occurrences)):
        # 0,5 may be a fraction, as many countries write it; of ids it would be two.
        fractions = mark != " " and all(re.fullmatch(r"[01],[0-9]+", cell) for cell in several)
        clear = mark == " " or any(cell.count(mark) > 1 or f"{mark} " in cell for cell in several)
        cut, whole = clear or (2 * shared >= len(parts) and not fractions), False
    elif mark == " ":
        cut = shared == len(parts) and alone and len(several) > 1
        whole = shared < len(parts) and not alone
    else:
        quoted = any(mark in match[0][len(match[1]) :] for cell in cells for match in _QUOTED.finditer(cell))
        cut, whole = quoted or 2 * shared >= len(parts), False
    if cut or whole:
        return mark if cut else ""
    raise ValueError(
        f"label column '{column}': expected a clear delimiter, got {several[0]!r}, which may be one label or several; "
        f"give label_delimiter ({mark!r} to cut there, '' to keep each cell as one label)"
    )


def _parts(cell: str, mark: str) -> set[str]:
    return {part.strip() for part in (cut_string(cell, mark) if mark else [cell])} - {""}
