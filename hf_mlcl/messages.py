"""One-line messages, and what somebody's data look like in them. Imports the standard library only."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# What a terminal obeys: control characters, marks that turn the direction of what follows; and halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """Text of somebody's data on one line, in which characters that a terminal would obey are shown as `\\x1b`."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


class DataError(ValueError):
    """A ValueError in one line, also where a worker process of a data loader raises it.

    torch makes such an error anew, from the text of the worker's traceback; its last line is the message.
    """

    def __init__(self, message: str) -> None:
        lines = message.strip().splitlines()
        if len(lines) > 1 and lines[0].startswith("Caught "):
            message = lines[-1].removeprefix(f"{type(self).__module__}.{type(self).__qualname__}: ")
        super().__init__(message)


def nearest(wanted: str, available: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the most similar of the available names, "" when none is similar."""
    by_lower = {name.lower(): name for name in available}
    match = difflib.get_close_matches(wanted.lower(), by_lower, n=1)
    return f" (did you mean '{printable(by_lower[match[0]])}'?)" if match else ""


def shown(names: Iterable[str], limit: int = 20) -> str:
    """The names, comma-separated, cut after `limit` of them."""
    listed = list(names)
    more = f", ... ({len(listed)} in all)" if len(listed) > limit else ""
    return ", ".join(map(printable, listed[:limit])) + more


def first_line(error: BaseException) -> str:
    """The first line of what a chain of exceptions started with."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return printable(lines[0]) if lines else type(error).__name__
