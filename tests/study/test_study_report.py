"""The report of a study whose names are not plain words."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from hf_mlcl import compute_metrics
from hf_mlcl.evaluation import per_label_metrics
from hf_mlcl.study import Study
from hf_mlcl.study.execution import prepare
from hf_mlcl.study.report import _cell, _predictions, per_label, write_report
from hf_mlcl.study.results import read_results

NAMES = ["a | b", "<b>_c", "$x"]


def made(folder, study, skill=lambda run, protocol: 1.0, scores=lambda found: found):
    """Results of runs that nobody has trained, in the folder of a study; its report."""
    pytest.importorskip("scikit_posthocs")
    runs = study.runs()
    prepare(study, runs, folder)
    labels = np.random.default_rng(0).random((30, 4)) < 0.4
    results = {"run": {"labels": 4, "examples": {"train": 30}, "seconds": 1}, "metrics": {}, "per_label": {}}
    for number, run in enumerate(runs):
        arrays, splits = {}, ("validation", "test")
        for protocol in study.protocols:
            noise = np.random.default_rng(number).normal(size=labels.shape)
            logits = skill(run, protocol) * labels + noise
            for split in splits:
                kinds = {"logits": logits, "labels": labels, "thresholds": np.full(4, 0.5)}
                arrays |= {f"{protocol}/{split}/{kind}": of for kind, of in kinds.items()}
            rows = per_label_metrics(logits, labels, None, labels.sum(axis=0), list("abcd"))
            results["metrics"][protocol] = dict.fromkeys(splits, scores(compute_metrics((logits, labels))))
            results["per_label"][protocol] = dict.fromkeys(splits, rows)
        np.savez(folder / "runs" / run.name / "predictions.npz", **arrays)
        (folder / "runs" / run.name / "results.json").write_text(json.dumps(results))
    return written(folder, study)


def written(folder, study):
    runs = study.runs()
    write_report(study, runs, read_results(study, runs, folder), folder, resamples=20)
    return (folder / "report.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report of two datasets and two seeds."""
    folder = tmp_path_factory.mktemp("study")
    datasets = [{"dataset": name, "task": "vision", "encoder": "none"} for name in ("one|1", "two")]
    made(folder, Study(datasets, losses=[{"loss": "reg", "name": name} for name in NAMES], seeds=[1, 2]))
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


def test_names_in_markdown_are_shown_as_they_are():
    assert _cell("~a~ $x$ <b> a_b _c_ d__e") == r"\~a\~ \$x\$ \<b> a_b \_c\_ d\_\_e"


IMAGES = {"dataset": "pictures", "task": "vision", "encoder": "none"}


def bold(text):
    """Rows that are bold in some column."""
    return [line.split(" | ")[0].strip("| ") for line in text.splitlines() if line.startswith("|") and "**" in line]


def test_a_row_does_not_compete_with_its_twin_of_another_protocol(tmp_path):
    study = Study([IMAGES], losses=["reg", "zlpr"], seeds=[1, 2, 3], protocols=["logistic_regression", "study"])
    best = {"logistic_regression": "reg", "study": "zlpr"}
    text = made(tmp_path, study, lambda run, protocol: 9.0 if run.row == best[protocol] else 0.1)
    assert sorted(bold(text)) == ["reg (logistic regression)", "zlpr (study)"]
    assert "Rows are compared within their protocol (logistic regression, study)" in text
    assert {"reg (logistic regression)", "zlpr (study)"} == set(re.findall(r"How much (.*) is above", text))
    (tmp_path / "runs" / study.runs()[0].name / "predictions.npz").write_bytes(b"PK")
    assert not bold(written(tmp_path, study))  # the row that is not compared might be the best


def test_enough_resamples_are_drawn_for_all_rows(tmp_path):
    losses = [{"loss": "reg", "name": f"row {number}"} for number in range(5)]
    assert "in 120 resamples" in made(tmp_path, Study([IMAGES], losses=losses, seeds=[1]))


@pytest.mark.parametrize("cut", [b"", b"PK", None])
def test_predictions_that_were_cut_are_none(tmp_path, cut):
    file = tmp_path / "predictions.npz"
    np.savez_compressed(
        file, **{f"study/test/{kind}": np.ones((50, 9)) for kind in ("logits", "labels", "thresholds")}
    )
    assert _predictions(file, "study", "test") and _predictions(file, "", "test") is None
    file.write_bytes(file.read_bytes()[:200] if cut is None else cut)
    assert _predictions(file, "study", "test") is None
    file.unlink()
    assert _predictions(file, "study", "test") is None


def test_groups_of_labels_are_shown_that_exist(tmp_path):
    def scores(found):
        return {name: value for name, value in found.items() if not name.startswith("macro_f1_")} | {
            "macro_f1_tail": 0.1234
        }

    text = made(tmp_path, Study([IMAGES], losses=["reg"], seeds=[1, 2]), scores=scores)
    assert "| tail | seeds |" in text and "medium" not in text and "| 12.3 | 2 |" in text
    assert "<th>tail</th><th>seeds</th>" in (tmp_path / "report.html").read_text()


def test_the_f1_of_a_label_is_the_mean_of_the_seeds_that_have_it(tmp_path):
    for seed, support in enumerate([(3, 1, 0), (3, 0, 0)]):
        rows = [{"f1": 0.2 + 0.2 * seed, "support": number, "train_count": 5} for number in support]
        (tmp_path / "runs" / str(seed)).mkdir(parents=True)
        (tmp_path / "runs" / str(seed) / "results.json").write_text(json.dumps({"per_label": {"": {"test": rows}}}))
    lines = pd.DataFrame([{"row": "reg", "run": str(seed), "protocol": "", "split": "test"} for seed in (0, 1)])
    assert per_label(lines, tmp_path)["reg"][1] == pytest.approx([0.3, 0.2, np.nan], nan_ok=True)
