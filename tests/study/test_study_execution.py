"""What a study's folder holds already, and which runs are whose."""

import json

import pytest

from hf_mlcl.study import Study, execution
from hf_mlcl.study.execution import check_folder, estimate, prepare, share

TEXTS = {"dataset": "news.csv", "task": "text", "encoder": "some-encoder"}


def runs_of(**arguments):
    return Study([TEXTS], losses=["reg", "zlpr"], seeds=[1, 2], arguments=arguments).runs()


def test_results_of_other_arguments_are_named_whichever_shard_they_are_of(tmp_path):
    runs = runs_of(learning_rate=1e-3)
    prepare(runs, tmp_path)
    (tmp_path / "runs" / runs[-1].name / "results.json").write_text("{}")
    check_folder(runs, tmp_path)
    others = runs_of(learning_rate=1e-4)
    assert runs[-1].name not in [run.name for run in share(others, (1, 2))]
    with pytest.raises(ValueError, match="another learning_rate"):
        check_folder(others, tmp_path)
    prepared = tmp_path / "runs" / runs[0].name / "arguments.json"
    assert json.loads(prepared.read_text())["learning_rate"] == 1e-3


def test_shards_are_all_runs_once_each():
    runs = runs_of()
    parts = [share(runs, (number, 3)) for number in (1, 2, 3)]
    assert sorted(run.name for part in parts for run in part) == sorted(run.name for run in runs)
    assert parts[0] == [run for run in runs if run in parts[0]]


def test_an_estimate_knows_steps_and_epochs(monkeypatch):
    monkeypatch.setattr(execution, "_timed", lambda run: (2.0, 10, 0.5, {"train": 100, "test": 20}))
    seconds = {
        run.row: estimate([run])[run.name] for run in runs_of(num_train_epochs=3, max_steps=-1, max_train_samples=50)
    }
    assert (seconds["reg"], seconds["encoder as it is"]) == (10 + 15 * 2 + 35, 10 + 35)
    steps = runs_of(num_train_epochs=3, max_steps=4)
    assert {estimate([run])[run.name] for run in steps if run.trains} == {10 + 4 * 2 + 60}
