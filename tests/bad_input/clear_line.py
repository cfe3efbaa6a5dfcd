"""What a mistake must end in: one line of a user's error that names the argument."""

import os
import re

import pytest

needs_permissions = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read and write everything"
)


def check_line(message, name):
    """Asserts that a message is one line in which `name` (a regular expression) is found."""
    assert message == message.strip() and len(message.splitlines()) == 1, f"more than one line: {message!r}"
    assert len(message) < 1200, f"a page in one line: {message!r}"
    assert re.search(name, message), f"{name!r} is not in: {message!r}"


def raises_a_clear_line(call, name):
    """Asserts that `call()` raises a user's error, whose message is one line with `name` in it."""
    with pytest.raises((ValueError, OSError, ImportError)) as error:
        call()
    check_line(str(error.value), name)


def contents(folder):
    """Every file below a folder with its bytes."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
