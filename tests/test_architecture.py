"""How the package is cut: imports point one way, what travels alone imports nothing of ours."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "hf_mlcl"
SOURCES = sorted(PACKAGE.rglob("*.py"))
# From the bottom up: a room imports from itself and from rooms before it.
ROOMS = [
    "losses",
    "metrics",
    "models",
    "registration",
    "data",
    "evaluation",
    "inspection",
    "hub",
    "training",
    "cli",
    "study",
    "__main__",
]
MODELING = PACKAGE / "models" / "modeling_mlcl.py"
METRIC = PACKAGE / "metrics" / "multilabel_f1" / "multilabel_f1.py"


class Import(NamedTuple):
    """One imported module, absolute; `relative` as written, `guarded` inside `try ... except ImportError`."""

    module: str
    relative: bool
    guarded: bool
    at_module_level: bool


def imports(path: Path) -> list[Import]:
    """Every import of a file; `from a import b` counts as `a.b` where that is a module of ours, else as `a`."""
    return list(_imports(ast.parse(path.read_text()), path, guarded=False, at_module_level=True))


def _imports(node: ast.AST, path: Path, guarded: bool, at_module_level: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, False, guarded, at_module_level)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, path)
            for name in sorted({_longest_module(base, alias.name) for alias in child.names}):
                yield Import(name, child.level > 0, guarded, at_module_level)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from _imports(child, path, guarded, False)
        elif isinstance(child, ast.Try) and any("ImportError" in ast.unparse(h.type or h) for h in child.handlers):
            yield from _imports(child, path, True, at_module_level)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, path, guarded, at_module_level and not function)


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    folder = list(path.relative_to(REPOSITORY).with_suffix("").parts[: -node.level])
    return ".".join([*(folder if node.level else []), *([node.module] if node.module else [])])


def _longest_module(base: str, name: str) -> str:
    inside = REPOSITORY.joinpath(*base.split("."), name)
    return f"{base}.{name}" if inside.is_dir() or inside.with_suffix(".py").is_file() else base


def top(module: str) -> str:
    return module.partition(".")[0]


def room(module: str) -> str | None:
    """The room of a module of this package; None for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def named(paths: list[Path]) -> list:
    return [pytest.param(path, id=str(path.relative_to(REPOSITORY))) for path in paths]


@pytest.mark.parametrize("path", named([path for path in SOURCES if path != PACKAGE / "__init__.py"]))
def test_imports_point_one_way(path: Path) -> None:
    own = room_of(path)
    assert own in ROOMS, f"{own} is no room of the plan: {ROOMS}"
    for module, *_ in imports(path):
        if top(module) != "hf_mlcl":
            continue
        imported = room(module)
        if imported is None:  # the package itself imports every room: only its top may import it back
            assert own in ("hub", "cli", "__main__"), f"{own} imports the whole package"
        else:
            assert ROOMS.index(imported) <= ROOMS.index(own), f"{own} imports {module}"
            assert imported != "cli" or own in ("cli", "study", "__main__"), f"{own} imports the command line"


@pytest.mark.parametrize("path", named([path for path in SOURCES if room_of(path) == "losses"]))
def test_losses_know_torch_alone(path: Path) -> None:
    foreign = {top(found.module) for found in imports(path)} - sys.stdlib_module_names
    assert foreign <= {"torch", "hf_mlcl"}


@pytest.mark.parametrize("path", named([path for path in SOURCES if room_of(path) in ("metrics", "evaluation")]))
def test_arrays_need_no_transformers(path: Path) -> None:
    eager = {top(found.module) for found in imports(path) if found.at_module_level}
    assert not eager & {"transformers", "accelerate", "peft"}


def test_metric_stands_alone() -> None:
    """A Space holds this one file and what its requirements.txt names."""
    found = imports(METRIC)
    assert not [one.module for one in found if one.relative or top(one.module) == "hf_mlcl"]
    foreign = {top(one.module) for one in found} - sys.stdlib_module_names
    distributions = {"sklearn": "scikit-learn"}
    required = (METRIC.parent / "requirements.txt").read_text()
    assert {name for name in foreign if distributions.get(name, name) not in required} == set()


def test_page_stands_alone() -> None:
    """It is copied as the app.py of a Space, whose requirements.txt names what it imports, beside Gradio."""
    found = imports(PACKAGE / "hub" / "page.py")
    assert not [one.module for one in found if one.relative or top(one.module) == "hf_mlcl"]
    required = {"torch", "transformers", "safetensors", "numpy", "PIL", "gradio", "pandas"}  # pandas comes with gradio
    assert {top(one.module) for one in found} - sys.stdlib_module_names <= required


def test_checkpoint_code_stands_alone() -> None:
    """Saving copies flat siblings of the modeling file only, and loading elsewhere finds no hf_mlcl."""
    waiting, seen = [MODELING], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for found in imports(path):
            if found.relative:
                sibling = MODELING.parent / f"{found.module.rpartition('.')[2]}.py"
                assert found.module == f"hf_mlcl.models.{sibling.stem}" and sibling.is_file(), found.module
                waiting += [sibling] if sibling not in seen else []
            elif top(found.module) == "hf_mlcl":
                assert room(found.module) == "losses" and found.guarded, f"{path.name}: {found.module}"
            else:
                needed = {"torch", "transformers", "safetensors", "numpy"}  # the last two come with transformers
                allowed = sys.stdlib_module_names | needed | ({"peft", "PIL"} if found.guarded else set())
                assert top(found.module) in allowed, found.module
    assert {path.name for path in seen} >= {"modeling_mlcl.py", "configuration_mlcl.py"}
