"""What one text says about labels: a printed collection, or names between delimiters. Imports standard modules."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

# Marks that do not occur in names, and those that may.
_MARKS = (";", "|", "\t", "\n", "\uff1b")
_COMMAS = (",", "\uff0c", "\u3001")
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_QUOTED = re.compile(r'(^|[;|,\t])\s*"(?:[^"]|"")*"\s*(?=[;|,\t]|$)')  # a field in quotes, as csv writes them
ENTITY = r"&(?:amp|lt|gt|quot|apos|nbsp|#[0-9]+|#x[0-9A-Fa-f]+);"  # of HTML, whose ";" separates nothing

_CALLS = {"set", "frozenset", "list", "tuple", "array", "tensor"}
_OPENING = re.compile(rf"[\[({{]|(?:{'|'.join(sorted(_CALLS))})\(")
_CONSTANTS = {"nan": None, "NaN": None, "NA": None, "null": None, "NULL": None, "true": True, "false": False}
# numpy prints no commas: a value, and the blanks or line breaks before the next one.
_NO_COMMA = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\w.+-]+)(\s+(?=['"\w.+-])|(?=['"]))?""", re.DOTALL)


def parse_printed(text: str) -> list[Any] | dict[Any, Any] | None:
    """The list or mapping of plain values that a string prints; None if it prints none.

    Read are JSON; lists, tuples, sets and dicts of Python; arrays of numpy, with or without `array(...)`; tensors; and
    arrays of Postgres (`{a,"b c"}`).
    """
    if text.startswith("'") and text.endswith("'"):
        text = f"[{text}]"  # a list whose brackets were taken off
    elif not _OPENING.match(text):
        return None
    try:  # Python's quotes, where no text holds another, are the only difference to JSON
        value = json.loads(text if '"' in text or "\\" in text else text.replace("'", '"'))
    except (ValueError, RecursionError):
        try:
            value = _plain(ast.parse(_NO_COMMA.sub(_with_comma, text), mode="eval").body)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = _postgres(text)
    if value == {}:  # an empty array of Postgres, too
        return []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [[]]
    return None if any(isinstance(item, (list, dict)) for item in inner) else value


def _with_comma(match: re.Match[str]) -> str:
    if match[2] == "" and match[1][-1] in "'\"":  # 'it''s' may be one value or two
        raise ValueError(f"no comma or blank behind {match[1]}")
    return match[1] + ("," if match[2] else "")


def _plain(node: ast.expr) -> Any:
    """The value of an expression that holds no more than collections of constants; ValueError for another."""
    match node:
        case ast.List() | ast.Tuple() | ast.Set():
            return [_plain(item) for item in node.elts]
        case ast.Dict() if None not in node.keys:
            keys = [_plain(key) for key in node.keys if key is not None]
            return dict(zip(map(str, keys), map(_plain, node.values), strict=True))
        case ast.Constant(value=str() | int() | float() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub()):
            return -_plain(node.operand)
        case ast.Name() if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        case ast.Call():  # np.str_('a') is how numpy 2 prints a string in a list
            name = ast.unparse(node.func)
            if name in _CALLS or name.startswith("np."):
                return _plain(node.args[0]) if node.args else []
    raise ValueError(f"no constant: {ast.dump(node)[:40]}")


def _postgres(text: str) -> list[Any] | None:
    """The elements of an array as Postgres prints it: in quotes where they hold blanks, commas or braces."""
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        (parts,) = csv.reader([text[1:-1]], escapechar="\\", doublequote=False, strict=True)
    except (csv.Error, ValueError):
        return None
    quoted = '"' in text
    wrong = any(re.search(r"[{}'\"]" if quoted else r"[{}'\s]|:(0|1|true|false|null)$", part) for part in parts)
    return None if wrong or "" in parts else [None if part == "NULL" else part for part in parts]


def are_numbers(texts: Collection[str]) -> bool:
    """Whether all strings are numbers; 007 is not, it is a code."""
    return bool(texts) and all(_NUMBER.fullmatch(text.strip()) for text in texts)


def holds_quoted(text: str) -> bool:
    """Whether a field in double quotes is in the text."""
    return '"' in text and _QUOTED.search(text) is not None


def cut_text(text: str, delimiter: str) -> list[str]:
    """The labels of one string; double quotes around a label keep it whole and are taken off, "" in them means one.

    >>> cut_text('"Arts, Crafts",Books', ","), cut_text("R&amp;B;Jazz", ";")
    (['Arts, Crafts', 'Books'], ['R&amp;B', 'Jazz'])
    """
    if delimiter and '"' not in text and "&" not in text:
        return text.split(delimiter)
    end = rf"(?:{re.escape(delimiter)}|\Z)" if delimiter else r"\Z"
    field = re.compile(rf'\s*"((?:[^"]|"")*)"\s*{end}|((?:{ENTITY}|.)*?){end}', re.DOTALL)
    parts, position = [], 0
    while position < len(text):
        match = field.match(text, position)
        assert match is not None  # the second form always matches
        parts.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        position = match.end()
    return parts


def label_parts(text: str, delimiter: str) -> set[str]:
    """The different labels of one string, none of them blank."""
    return {part.strip() for part in (cut_text(text, delimiter) if delimiter else [text])} - {""}


def detect_delimiter(cells: Sequence[str], column: str, names: Collection[str] = ()) -> str:
    """What separates several labels in the different strings of a label column; "" if nothing does.

    With `names`, what makes all parts names. Otherwise ";", "|", tabs and line breaks do not occur in names, so one of
    them alone decides. A comma may belong to a name ("Arts, Crafts"): it separates if at least half of the parts it
    makes occur in more than one cell, or some name with one is in quotes. Blanks do more often: they separate numbers,
    and words that all occur in more than one cell, at least half of them in one of their own.

    Raises:
        ValueError: two delimiters occur, or what a comma or a blank means is not clear.
    """
    for mark in ("", *_MARKS, *_COMMAS, " ") if names else ():
        if all(part in names for cell in cells for part in label_parts(cell, mark)):
            return mark
    bare = [_QUOTED.sub(r"\1", cell) if '"' in cell else cell for cell in cells]
    bare = [re.sub(ENTITY, "", cell) if "&" in cell else cell for cell in bare]
    found = [mark for mark in _MARKS if any(mark in cell for cell in bare)]
    commas = [mark for mark in _COMMAS if any(mark in cell for cell in bare)]
    if len(found) == 1 and commas:  # "a;b" in one row and "a,b" in another, where a and b are labels
        labels = set().union(*(label_parts(cell, found[0]) for cell in cells))
        if any(mark in label and label_parts(label, mark) <= labels for label in labels for mark in commas):
            found.append(commas[0])
    if len(found) > 1:
        raise ValueError(
            f"label column '{column}': both {found[0]!r} and {found[1]!r} separate labels; give label_delimiter"
        )
    if found:
        return found[0]
    mark = commas[0] if commas else " "
    several = [cell for cell, unquoted in zip(cells, bare, strict=True) if mark in unquoted]
    if not several:
        return ""
    occurrences = Counter(part for cell in cells for part in label_parts(cell, mark))
    parts = set().union(*(label_parts(cell, mark) for cell in several))
    shared = sum(occurrences[part] > 1 for part in parts)
    alone = 2 * len(parts.intersection(cells)) >= len(parts)
    whole = False
    if are_numbers(occurrences):
        # 0,5 may be a fraction, as many countries write it; of ids it would be two.
        fractions = mark != " " and all(re.fullmatch(r"[01],[0-9]+", cell) for cell in several)
        clear = mark == " " or any(cell.count(mark) > 1 or f"{mark} " in cell for cell in several)
        cut = clear or (2 * shared >= len(parts) and not fractions)
    elif mark == " ":
        cut = shared == len(parts) and alone and len(several) > 1
        whole = shared < len(parts) and not alone
    else:
        quoted = any(mark in match[0][len(match[1]) :] for cell in cells for match in _QUOTED.finditer(cell))
        cut = quoted or 2 * shared >= len(parts)
    if cut or whole:
        return mark if cut else ""
    raise ValueError(
        f"label column '{column}': {several[0]!r} may be one label or several; "
        f"give label_delimiter ({mark!r} to cut there, '' to keep each cell as one label)"
    )
