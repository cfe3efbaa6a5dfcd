"""Reading collections that were printed as text, as csv files hold them. Imports the standard library only."""

from __future__ import annotations

import ast
import csv
import json
import re
from typing import Any

_CALLS = {"set", "frozenset", "list", "tuple", "array", "tensor"}
_OPENING = re.compile(rf"[\[({{]|(?:{'|'.join(sorted(_CALLS))})\(")
_NAMES = {"nan": None, "NaN": None, "NA": None, "null": None, "NULL": None, "true": True, "false": False}
_ONE_VALUE = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\w.+-]+"""
# numpy prints no commas: a value, and the blanks or line breaks before the next one.
_NO_COMMA = re.compile(rf"({_ONE_VALUE})(\s+(?=['\"\w.+-])|(?=['\"]))?", re.DOTALL)


def parse_printed(text: str) -> list[Any] | dict[Any, Any] | None:
    """The list or mapping of plain values that a string prints; None if it prints none.

    Read are JSON; lists, tuples, sets and dicts of Python; arrays of numpy, with or without `array(...)`; tensors; and
    arrays of Postgres (`{a,"b c"}`).
    """
    if text.startswith("'") and text.endswith("'"):
        text = f"[{text}]"  # a list whose brackets were taken off
    elif not _OPENING.match(text):
        return None
    try:
        value = json.loads(text)
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
        raise ValueError(f"expected a comma or a blank between two values, got none behind {match[1]}")
    return match[1] + ("," if match[2] else "")


def _plain(node: ast.expr) -> Any:
    """The value of an expression that holds no more than collections of constants; ValueError for another."""
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return [_plain(item) for item in node.elts]
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_plain(key) for key in node.keys if key is not None]
        return dict(zip(map(str, keys), map(_plain, node.values), strict=True))
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_plain(node.operand)
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    if isinstance(node, ast.Call):  # np.str_('a') is how numpy 2 prints a string in a list
        name = ast.unparse(node.func)
        if name in _CALLS or name.startswith("np."):
            return _plain(node.args[0]) if node.args else []
    raise ValueError(f"expected constants, got {ast.dump(node)[:40]}")


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
