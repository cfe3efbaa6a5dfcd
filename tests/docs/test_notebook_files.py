"""The notebooks run from top to bottom, as somebody who presses Shift-Enter would run them."""

import ast
import json

import pytest
from guides import REPOSITORY, substituted

NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_comes_without_outputs(notebook, tmp_path, monkeypatch, substitutes):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        assert cell["outputs"] == [] and cell["execution_count"] is None
        code = ast.parse(substituted("".join(cell["source"]), substitutes))
        exec(compile(code, f"{notebook.name}, cell {number}", "exec"), namespace)
    assert namespace["before"].keys() == namespace["after"].keys() == {"micro_f1", "macro_f1", "map"}


def test_there_are_notebooks_for_texts_and_images():
    assert [path.stem for path in NOTEBOOKS] == ["images", "text"]
