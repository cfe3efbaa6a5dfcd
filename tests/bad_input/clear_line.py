"""What a mistake must end in: one line that names the argument, what was expected and what came."""

import re

import pytest

# An argument, a flag, a column, a row, a file, a loss or two arguments, and what was expected of it.
EXPECTATION = re.compile(
    r"^(?:\S[^:]*\.(?:ya?ml|json): )?"
    r"(?:-{0,2}[\w./-]+(?:, \w+)*|(?:label )?column '.+?'|loss '\w+'|image of row \d+(?: \('.+?'\))?|image processor)"
    r": (?:[\w -]+: )?expected (?P<expected>.+)$"
)
# What came, or that nothing did; an option that does not exist is itself what came.
GOT = re.compile(r"\b(?:got|found)\b|^an option of ")


def check_line(message, pattern):
    """Asserts that a message is one clear line and says what `pattern` (a regular expression) asks for."""
    assert message == message.strip() and len(message.splitlines()) == 1, f"more than one line: {message!r}"
    assert len(message) < 1200, f"a page in one line: {message!r}"
    parts = EXPECTATION.search(message)
    assert parts, f"is not of the form 'name: expected ..., got ...': {message!r}"
    assert GOT.search(parts["expected"]), f"does not say what came: {message!r}"
    assert re.search(pattern, message), f"{pattern!r} is not in: {message!r}"


def raises_a_clear_line(call, pattern):
    """Asserts that `call()` raises a user's error, whose message is one clear line with `pattern` in it."""
    with pytest.raises((ValueError, OSError, ImportError)) as error:
        call()
    check_line(str(error.value), pattern)


def contents(folder):
    """Every file below a folder with its bytes."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
