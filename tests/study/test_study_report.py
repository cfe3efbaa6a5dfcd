"""The report of a study whose names are not plain words."""

import json

import numpy as np
import pytest

from hf_mlcl import compute_metrics
from hf_mlcl.evaluation import per_label_metrics
from hf_mlcl.study import Study
from hf_mlcl.study.execution import prepare
from hf_mlcl.study.report import write_report
from hf_mlcl.study.results import read_results

NAMES = ["a | b", "<b>_c", "$x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report of runs that nobody has trained: two datasets, two seeds."""
    pytest.importorskip("scikit_posthocs")
    folder = tmp_path_factory.mktemp("study")
    datasets = [{"dataset": name, "task": "vision", "encoder": "none"} for name in ("one|1", "two")]
    study = Study(datasets, losses=[{"loss": "reg", "name": name} for name in NAMES], seeds=[1, 2])
    runs = study.runs()
    prepare(study, runs, folder)
    labels = np.random.default_rng(0).random((30, 4)) < 0.4
    for number, run in enumerate(runs):
        logits = labels + np.random.default_rng(number).normal(size=labels.shape)
        arrays, splits = {}, ("validation", "test")
        for split in splits:
            arrays |= {f"logistic_regression/{split}/{kind}": of for kind, of in
                       {"logits": logits, "labels": labels, "thresholds": np.full(4, 0.5)}.items()}  # fmt: skip
        np.savez(folder / "runs" / run.name / "predictions.npz", **arrays)
        scores = {split: compute_metrics((logits, labels)) for split in splits}
        rows = {split: per_label_metrics(logits, labels, None, labels.sum(axis=0), list("abcd")) for split in splits}
        results = {
            "run": {"labels": 4, "examples": {"train": 30}, "seconds": 1},
            "metrics": {"logistic_regression": scores},
            "per_label": {"logistic_regression": rows},
        }
        (folder / "runs" / run.name / "results.json").write_text(json.dumps(results))
    write_report(study, runs, read_results(study, runs, folder), folder, resamples=20)
    return folder


def test_the_tables_of_markdown_have_as_many_cells_in_every_line(folder):
    tables = [block for block in (folder / "report.md").read_text().split("\n\n") if block.startswith("|")]
    assert len(tables) == 5  # scores and differences of both datasets, and ranks
    for table in tables:
        cells = {line.replace(r"\|", "").count("|") for line in table.splitlines()}
        assert len(cells) == 1 and 0 not in cells, table


def test_names_are_no_markup(folder):
    assert r"a \| b" in (folder / "report.md").read_text() and "<b>" not in (folder / "report.html").read_text()
    assert r"\$x" in (folder / "tables.tex").read_text()
