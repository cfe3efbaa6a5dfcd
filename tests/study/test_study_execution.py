"""What a study's folder holds already, and which runs are whose."""

import json
import signal
import subprocess
import threading
import time

import pytest

from hf_mlcl.study import Study, execution
from hf_mlcl.study.execution import _Pool, check_folder, estimate, execute, failure, prepare, share

TEXTS = {"dataset": "news.csv", "task": "text", "encoder": "some-encoder"}


def study_of(**arguments):
    return Study([TEXTS], losses=["reg", "zlpr"], seeds=[1, 2], arguments=arguments)


def runs_of(**arguments):
    return study_of(**arguments).runs()


def test_results_of_other_arguments_are_named_whichever_shard_they_are_of(tmp_path):
    study, other = study_of(learning_rate=1e-3), study_of(learning_rate=1e-4)
    runs = study.runs()
    prepare(study, runs, tmp_path)
    (tmp_path / "runs" / runs[-1].name / "results.json").write_text("{}")
    check_folder(study, runs, tmp_path)
    assert runs[-1].name not in [run.name for run in share(other.runs(), (1, 2))]
    with pytest.raises(ValueError, match="another learning_rate"):
        check_folder(other, other.runs(), tmp_path)
    prepared = tmp_path / "runs" / runs[0].name / "arguments.json"
    assert json.loads(prepared.read_text())["learning_rate"] == 1e-3


@pytest.mark.parametrize("left", ["results.json", "checkpoint-3"])
def test_results_and_checkpoints_of_other_data_are_named(tmp_path, left):
    """Of a text, a label or a row that has changed: old runs and new ones would be compared as equals."""
    file, encoder = tmp_path / "news.csv", tmp_path / "bert"
    folder = tmp_path / "out"
    texts = [f"word{number},{'a' if number % 2 else 'b'}" for number in range(40)]

    def study(lines):
        file.write_text("\n".join(["text,label", *lines]) + "\n")
        found = Study([{**TEXTS, "dataset": str(file), "encoder": str(encoder)}], losses=["reg"], seeds=[1])
        for dataset in found.datasets:
            found._size(dataset)
        return found

    def check(found):
        check_folder(found, found.runs(), folder)

    first = study(texts)
    prepare(first, first.runs(), folder)
    changed = ["another,a", *texts[1:]], [texts[0].replace(",b", ",a"), *texts[1:]], texts[1:]
    for lines in changed:
        check(study(lines))  # nothing has been run yet
    (folder / "runs" / first.runs()[-1].name / left).write_text("{}")
    check(study(texts))
    for lines in changed:
        with pytest.raises(ValueError, match="the data of 'news' have changed.*delete"):
            check(study(lines))


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


def test_a_run_that_starts_while_the_study_stops_is_stopped_as_well(tmp_path, monkeypatch):
    start, starting = subprocess.Popen, threading.Event()

    def slowly(*given, **options):
        starting.set()
        time.sleep(0.2)
        return start(*given, **options)

    monkeypatch.setattr(subprocess, "Popen", slowly)
    pool, statuses = _Pool(1), []
    thread = threading.Thread(target=lambda: statuses.append(pool.run(["sleep", "3"], tmp_path / "log.txt")))
    thread.start()
    starting.wait()
    pool.stop()
    thread.join()
    assert statuses == [-signal.SIGTERM] == [pool.run(["sleep", "3"], tmp_path / "log.txt")]


def test_a_crash_is_not_explained_by_the_last_line_of_the_log(tmp_path):
    (tmp_path / "log.txt").write_text("texts: 3 of 20 are cut\n")
    assert "signal 11" in failure(tmp_path, -signal.SIGSEGV) and "memory" in failure(tmp_path, -signal.SIGKILL)


def test_an_address_needs_a_backend(tmp_path):
    with pytest.raises(ValueError, match="address.*dask or ray"):
        execute(study_of(), tmp_path / "out", address="tcp://scheduler:8786")
