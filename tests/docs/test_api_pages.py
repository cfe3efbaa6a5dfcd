"""The API pages name every public object, once, and the whole site builds without a warning."""

import importlib
import pkgutil
import re
import subprocess
import sys
from collections import Counter

import pytest
from guides import REPOSITORY

import hf_mlcl

PAGES = sorted((REPOSITORY / "docs" / "api").glob("*.md"))
ROOMS = sorted(
    module.name for module in pkgutil.iter_modules(hf_mlcl.__path__) if module.ispkg and module.name not in ("cli",)
)
_DIRECTIVE = re.compile(r"^\.\. (?:auto)?(currentmodule|class|function|data|exception):: *([\w.]+)", re.M)


def documented():
    """Dotted names of all objects that the pages describe, as often as they do."""
    names = []
    for page in PAGES:
        module = ""
        for directive, name in _DIRECTIVE.findall(page.read_text()):
            if directive == "currentmodule":
                module = name
            else:
                names.append(name if name.startswith("hf_mlcl.") else f"{module}.{name}")
    return Counter(names)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_exactly_one_directive(room):
    public = getattr(importlib.import_module(f"hf_mlcl.{room}"), "__all__", [])
    counts = documented()
    assert {name: counts[f"hf_mlcl.{room}.{name}"] for name in public} == dict.fromkeys(public, 1)


def test_every_room_has_a_page():
    assert {page.stem for page in PAGES} == {*ROOMS, "index"}


def test_names_of_the_package_are_described_in_a_room():
    described = {name.rpartition(".")[2] for name in documented()}
    assert set(hf_mlcl.__all__) <= described


def test_dotted_names_in_the_guides_exist():
    for guide in [*(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]:
        for name in set(re.findall(r"`(hf_mlcl(?:\.\w+)+)", guide.read_text())):
            assert _exists(name), f"{guide.name}: {name}"


def _exists(name):
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
        return True
    except ImportError:
        return bool(module) and hasattr(importlib.import_module(module), attribute)


def test_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="needs the extra 'docs'")
    out = str(tmp_path / "html")
    # In a process of its own: autodoc puts texts in the place of the defaults of the signatures that it describes.
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-a", "-d", str(tmp_path / "trees")]
    built = subprocess.run([*command, str(REPOSITORY / "docs"), out], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = {path.relative_to(out).as_posix(): path.read_text() for path in (tmp_path / "html").rglob("*.html")}
    assert "api/training.html" in pages and "choose-a-loss.html" in pages
    # What a browser fetches by itself comes with the site.
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]*\ssrc=\"(https?:[^\"]*)|<link[^>]*stylesheet[^>]*href=\"(https?:[^\"]*)"
    )
    assert {name: fetched.findall(text) for name, text in pages.items() if fetched.search(text)} == {}
