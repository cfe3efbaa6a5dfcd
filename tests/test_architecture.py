"""Imports point one way: a folder of the package imports from itself and from those before it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "hf_mlcl"
FOLDERS = (
    "messages losses metrics models registration data evaluation inspection hub training cli study __main__".split()
)
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def own_imports(path):
    """The dotted names below `hf_mlcl` that a file imports; empty for the package itself."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["hf_mlcl", *path.with_suffix("").parts][: -node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from .. import data` names a folder, `from .. import MLCLConfig` the package.
            folders = [f"hf_mlcl.{alias.name}" for alias in node.names if alias.name in FOLDERS]
            modules = folders if module == "hf_mlcl" and folders else [module]
        else:
            continue
        yield from (name.partition(".")[2] for name in modules if name.partition(".")[0] == "hf_mlcl")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_one_way(path):
    own = FOLDERS.index(path.with_suffix("").parts[0])
    for name in own_imports(path):
        if name:
            assert FOLDERS.index(name.partition(".")[0]) <= own, name
        else:  # the package itself imports every folder
            assert FOLDERS[own] in ("hub", "cli", "study", "__main__")
