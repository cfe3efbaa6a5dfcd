"""`hf-mlcl study`: which runs a file means, and a whole study of tiny models."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml

from hf_mlcl import compute_metrics
from hf_mlcl.cli import main
from hf_mlcl.study import Study
from hf_mlcl.study.execution import estimate, execute, prepare
from hf_mlcl.study.plan import read_arguments
from hf_mlcl.study.report import write_report
from hf_mlcl.study.results import read_results
from hf_mlcl.study.run import duration, finished
from hf_mlcl.study.run import main as run_one

TEXTS = {"dataset": "news.csv", "task": "text", "encoder": "some-encoder"}
IMAGES = {"dataset": "pictures", "task": "vision", "encoder": "other-encoder"}


def test_every_combination_is_one_run(monkeypatch):
    monkeypatch.setattr(Study, "_size", lambda self, dataset: (100, 5))
    study = Study(
        [TEXTS, IMAGES],
        losses=["reg", {"loss": "reg", "objective": "joint", "per_device_train_batch_size": 8, "name": "joint"}],
        seeds=[1, 2],
        batch_sizes=[16, 64],
        label_subsets=[3, None, 9],  # of 5 labels, 9 are all
        arguments={"max_length": 32, "image_size": 48, "num_train_epochs": 2, "max_steps": 9},
    )
    runs = study.runs()
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    # Two seeds and two label subsets; `reg` twice, `joint` once, the frozen encoder, and of texts the SVM.
    assert len(runs) == 2 * 2 * (3 + 2) + 2 * 2 * (3 + 1)
    assert {run.batch_size for run in runs if run.row == "joint"} == {8}
    for run in runs:
        given = run.arguments
        assert ("max_length" in given, "image_size" in given) == (
            (True, False) if given["task"] == "text" else (False, True)
        )
        assert (given["num_train_epochs"], given["max_steps"]) == ((2, 9) if run.trains else (0, -1))
        assert given.get("max_labels") == run.max_labels and given["seed"] == run.seed


def test_without_losses_all_of_the_table_is_compared():
    rows = Study([TEXTS]).rows
    assert {"reg", "mulsupcon", "zlpr", "bce"} <= set(rows)


@pytest.mark.parametrize(("values", "named"), [
    ({"datasets": []}, "datasets"),
    ({"datasets": [{"dataset": "a.csv", "task": "text"}]}, "encoder"),
    ({"datasets": [TEXTS, TEXTS]}, "twice"),
    ({"datasets": [TEXTS, {**TEXTS, "max_length": 3}]}, "name"),
    ({"losses": ["regg"]}, "reg"),
    ({"losses": ["reg", {"loss": "reg", "name": "reg"}]}, "name"),
    ({"losses": [{"loss": "reg", "seed": 3}]}, "seed"),
    ({"losses": [{"loss": "zlpr", "objective": "contrastive"}]}, "objective"),
    ({"losses": ["reg"]}, "news.csv"),
    ({"losses": [3]}, "losses"),
    ({"fractions": [0]}, "fractions"),
    ({"fractions": 0.5}, "fractions"),
    ({"label_subsets": [0]}, "label_subsets"),
    ({"seeds": [-1]}, "seeds"),
    ({"protocols": ["grid"]}, "protocols"),
    ({"learning_rat": 1e-4}, "learning_rate"),
    ({"fraction": [0.5]}, "fractions"),
    ({"output_dir": "x"}, "output_dir"),
    ({"losses": [{"loss": "reg", "max_eval_samples": 9}]}, "max_eval_samples"),
    ({"choose_by": "hamming_loss"}, "choose_by"),
    ({"datasets": [{**TEXTS, "name": 2024}]}, "name"),
    ({"fractions": [1, 1.0]}, "twice"),
    ({"learning_rate": "fast"}, "learning_rate"),
])  # fmt: skip
def test_a_mistake_is_named_before_anything_runs(tmp_path, capsys, values, named):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"datasets": [TEXTS], "losses": ["reg"], **values}))
    with pytest.raises(SystemExit) as ended:
        main(["study", str(file), "--output_dir", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and named in error
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tiny(text_data, text_encoder):
    """Values of a study that takes seconds."""
    return {
        "datasets": [{"dataset": str(text_data), "task": "text", "encoder": str(text_encoder), "name": "corpus"}],
        "losses": ["zlpr"],
        "seeds": [1],
        "num_train_epochs": 1,
        "use_cpu": True,
    }


def study_of(values, **more):
    own = {"datasets", "losses", "seeds", "fractions", "label_subsets", "protocols", "batch_sizes"}
    values = {**values, **more}
    arguments = {name: value for name, value in values.items() if name not in own}
    return Study(**{name: value for name, value in values.items() if name in own}, arguments=arguments)


def test_a_run_leaves_results_and_predictions_that_agree(tiny, tmp_path):
    study = study_of(tiny, label_subsets=[4], protocols=["logistic_regression", "study"])
    runs = study.runs()
    for number, run in enumerate(runs):
        folder = tmp_path / "runs" / run.name
        folder.mkdir(parents=True)
        (folder / "arguments.json").write_text(json.dumps(dict(run.arguments)))
        options = ["--svm"] if run.row.startswith("TF-IDF") else []
        run_one([str(folder), *options, "--protocols", *study.protocols])
        results = json.loads((folder / "results.json").read_text())
        assert results["run"]["labels"] == 4 and not list(folder.glob("checkpoint-*"))
        arrays = np.load(folder / "predictions.npz")
        for protocol, splits in results["metrics"].items():
            for split, metrics in splits.items():
                logits, labels = arrays[f"{protocol}/{split}/logits"], arrays[f"{protocol}/{split}/labels"]
                again = compute_metrics((logits, labels), thresholds=arrays[f"{protocol}/{split}/thresholds"])
                assert again["macro_f1"] == pytest.approx(metrics["macro_f1"])
                assert again["map"] == pytest.approx(metrics["map"])
        assert (len(results["metrics"]) == 2) != bool(options)
        if number == 0 or run is runs[-1]:  # a report of what there is
            table = read_results(study, runs, tmp_path)
            write_report(study, runs, table, tmp_path, resamples=20)
            assert len(pd.read_csv(tmp_path / "results.csv")) == len(table)
            text = (tmp_path / "report.md").read_text()
            took = duration(table.drop_duplicates("run")["seconds"].sum())
            assert f"{number + 1} of {len(runs)} runs are done, {took} of computing." in text
            assert "encoder as it is (study)" in text
    assert {"row", "against", "low", "high", "p"} <= set(pd.read_csv(tmp_path / "comparisons.csv"))
    # Fewer protocols than have been run: theirs alone. More: the run is not finished.
    fewer = read_results(study_of(tiny, label_subsets=[4], protocols=["study"]), runs, tmp_path)
    assert set(fewer["protocol"]) == {"study", ""} and not any("(" in row for row in fewer["row"])
    folder = tmp_path / "runs" / runs[0].name
    assert finished(folder, ["study"]) and not finished(folder, ["study", "another"])


def test_a_short_time_is_not_0_hours():
    assert [duration(seconds) for seconds in (4.6, 89, 700, 7200)] == ["5 s", "89 s", "12 min", "2.0 h"]


def test_a_dry_run_lists_what_is_left(tiny, tmp_path, capsys):
    study = study_of(tiny)
    done, *others = study.runs()
    file, folder = tmp_path / "study.yaml", tmp_path / "out" / "runs" / done.name
    file.write_text(yaml.safe_dump(tiny))
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"metrics": {"logistic_regression": {}}}))
    main(["study", str(file), "--output_dir", str(tmp_path / "out"), "--dry_run"])
    *lines, end = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if " min  " in line] == [run.name for run in others]
    assert end.startswith(f"{len(others)} runs of {len(others) + 1} are left, about ")
    assert re.search(r"about \d+ (s|min) one after the other$", end)  # tiny runs: no hours


def test_an_encoder_that_is_not_there_is_named_before_anything_runs(tiny, tmp_path):
    values = {**tiny["datasets"][0], "encoder": "no/such-encoder"}
    with pytest.raises(ValueError, match="corpus: encoder"):
        execute(study_of(tiny, datasets=[values]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_other_arguments_is_not_resumed(tiny, tmp_path):
    study = study_of(tiny)
    runs = study.runs()
    prepare(study, runs, tmp_path)
    checkpoint = tmp_path / "runs" / runs[-1].name / "checkpoint-3"
    checkpoint.mkdir()
    prepare(study, runs, tmp_path)
    assert checkpoint.exists()
    other = study_of(tiny, learning_rate=1e-3)
    prepare(other, other.runs(), tmp_path)
    assert not checkpoint.exists()


def test_yaml_numbers_and_lists_reach_the_arguments():
    """YAML reads 5e-5 as a text and `no` as False, as `hf-mlcl train` takes them from a file."""
    values = yaml.safe_load("{learning_rate: 5e-5, eval_strategy: no, lora_r: 2, loss_kwargs: {alpha: 2}}")
    job, args = read_arguments({**TEXTS, **values, "loss": "reg"}, "out")
    assert (args.learning_rate, args.eval_strategy, job.lora_r) == (5e-5, "no", 2)
    assert args.loss_kwargs == {"alpha": 2}


@pytest.mark.slow
def test_a_whole_study(tiny, tmp_path):
    pytest.importorskip("scikit_posthocs")
    study = study_of(tiny, losses=["reg"], seeds=[1, 2], batch_sizes=[8, 16], fractions=[0.5])
    assert set(estimate(study.runs())) == {run.name for run in study.runs()}
    execute(study, tmp_path, shard=(1, 2), report=False)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    assert 0 < len(first) < len(study.runs())
    table = execute(study, tmp_path, jobs=2)
    assert all(path.stat().st_mtime_ns == before for path, before in first.items())
    saved = pd.read_parquet(tmp_path / "results.parquet")
    assert len(saved) == len(table) == 2 * len(study.runs())
    assert set(table["train_examples"]) == {90}
    trained = table[table["row"] == "reg"]
    validation = trained[trained["split"] == "validation"].groupby("batch_size")["macro_f1"].mean()
    assert set(trained[trained["chosen"]]["batch_size"]) == {validation.idxmax()}
    assert "encoder as it is" in (tmp_path / "report.md").read_text()
    html = (tmp_path / "report.html").read_text()
    assert html.count("data:image/png") == len(list((tmp_path / "figures").glob("*.png")))
    assert (tmp_path / "tables.tex").read_text().count(r"\bottomrule") == 1
    with pytest.raises(ValueError, match="learning_rate"):
        execute(study_of({**tiny, "learning_rate": 1e-3}, losses=["reg"], batch_sizes=[8], fractions=[0.5]), tmp_path)


@pytest.mark.slow
def test_a_failed_run_stops_no_other_and_runs_again(tiny, tmp_path):
    study = study_of(
        tiny, losses=["zlpr", {"loss": "reg", "name": "broken", "lora_r": 2, "lora_target_modules": "no"}]
    )
    with pytest.raises(ValueError, match="1 of 4 runs failed.*broken"):
        execute(study, tmp_path)
    assert len(list(tmp_path.rglob("results.json"))) == 3 and (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_an_interrupted_study_goes_on(tiny, tmp_path):
    file, folder = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump({**tiny, "num_train_epochs": 200, "per_device_train_batch_size": 4}))
    command = [sys.executable, "-m", "hf_mlcl", "study", str(file), "--output_dir", str(folder), "--jobs", "3"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = folder / "runs/corpus/zlpr/seed-1_batch-4_fraction-1_labels-all/log.txt"
    until = time.time() + 120
    while time.time() < until and not (log.exists() and "loss" in log.read_text()):
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "goes on" in error
    assert [path.name for path in log.parent.glob("checkpoint-*")]
