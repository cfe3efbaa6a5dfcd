"""What a user gets: the wheel holds every file of the package and its license, and declares the command."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import hf_mlcl

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "hf_mlcl"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel as `pip wheel` builds it from the repository, without network."""
    pytest.importorskip("hatchling", reason="needs the build backend hatchling, part of the extra 'test'")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    built = subprocess.run([*command, "-w", str(folder), str(REPOSITORY)], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    assert path.name == f"hf_mlcl-{hf_mlcl.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as archive:
        yield archive


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(f"hf_mlcl-{hf_mlcl.__version__}.dist-info/{name}").decode()


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    in_repository = {
        str(path.relative_to(REPOSITORY))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    in_wheel = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert in_wheel == in_repository
    metric = ["__init__.py", "README.md", "app.py", "multilabel_f1.py", "requirements.txt"]
    assert in_wheel >= {"hf_mlcl/py.typed", *(f"hf_mlcl/metrics/multilabel_f1/{name}" for name in metric)}


def test_wheel_carries_its_license(wheel: zipfile.ZipFile) -> None:
    assert "License-Expression: Apache-2.0" in metadata(wheel, "METADATA")
    assert metadata(wheel, "licenses/LICENSE") == (REPOSITORY / "LICENSE").read_text()


def test_wheel_requires_what_the_package_imports(wheel: zipfile.ZipFile) -> None:
    distributions = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    # app.py runs in a Space, which installs gradio itself.
    foreign = imported - sys.stdlib_module_names - {"hf_mlcl", "gradio"}
    required = re.findall(r"^Requires-Dist: ([\w-]+)", metadata(wheel, "METADATA"), flags=re.MULTILINE)
    assert {distributions.get(name, name.replace("_", "-").lower()) for name in foreign} <= set(required)


def test_recorded_releases_are_those_of_every_requirement(wheel: zipfile.ZipFile) -> None:
    lines = (REPOSITORY / "tests" / "constraints.txt").read_text().splitlines()
    recorded = {one.name: one for one in map(Requirement, (line for line in lines if not line.startswith("#")))}
    required = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.*)", metadata(wheel, "METADATA"), re.M)]
    # torch is installed first, at a release that scripts/test.sh names; pyproject.toml itself fixes the linters.
    elsewhere = {"hf-mlcl", "torch", "mypy", "ruff"}
    assert recorded.keys() == {one.name for one in required} - elsewhere
    for one in required:
        if one.name not in elsewhere:
            (release,) = recorded[one.name].specifier
            assert release.operator == "==" and one.specifier.contains(release.version), one


def test_wheel_declares_the_command(wheel: zipfile.ZipFile) -> None:
    declared = configparser.ConfigParser()
    declared.read_string(metadata(wheel, "entry_points.txt"))
    assert dict(declared["console_scripts"]) == {"hf-mlcl": "hf_mlcl.cli:main"}
    assert callable(importlib.import_module("hf_mlcl.cli").main)


def test_module_runs_as_the_command() -> None:
    run = subprocess.run([sys.executable, "-m", "hf_mlcl", "losses"], capture_output=True, text=True, cwd=REPOSITORY)
    assert run.returncode == 0, run.stderr
    assert {"reg", "zlpr"} <= set(re.findall(r"\w+", run.stdout))
