"""What a study's folder holds already, and which runs are whose."""

import datetime
import json
import signal
import subprocess
import threading
import time

import pytest

from hf_mlcl.study import Study, execution
from hf_mlcl.study.execution import _Pool, check_folder, estimate, execute, failure, prepare, share
from hf_mlcl.study.plan import read_arguments
from hf_mlcl.study.results import read_results
from hf_mlcl.study.run import finished

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


@pytest.fixture
def study_of_lines(tmp_path):
    """A study of a file of these lines, whose data have been loaded."""

    def study(lines, header="text,label", **arguments):
        file = tmp_path / "news.csv"
        file.write_text("\n".join([header, *lines]) + "\n")
        found = Study([{**TEXTS, "dataset": str(file)}], losses=["reg"], seeds=[1], arguments=arguments)
        for dataset in found.datasets:
            found._size(dataset)
        return found

    return study


LINES = [f"word{number},{'a' if number % 2 else 'b'}" for number in range(40)]


def check(study, folder):
    check_folder(study, study.runs(), folder)


@pytest.mark.parametrize("arguments", [{}, {"max_train_samples": 9, "max_eval_samples": 2}])
@pytest.mark.parametrize("left", ["results.json", "checkpoint-3"])
def test_results_and_checkpoints_of_other_data_are_named(study_of_lines, tmp_path, left, arguments):
    """Of a text, a label or a row that has changed: old runs and new ones would be compared as equals."""
    first = study_of_lines(LINES, **arguments)
    prepare(first, first.runs(), tmp_path)
    changed = [
        *(["another,a", *LINES[1:]], [LINES[0].replace(",b", ",a"), *LINES[1:]], LINES[1:]),
        *([*LINES[:number], "another,a", *LINES[number + 1 :]] for number in (5, 30)),
    ]
    for lines in changed:
        check(study_of_lines(lines, **arguments), tmp_path)  # nothing has been run yet
    (tmp_path / "runs" / first.runs()[-1].name / left).write_text("{}")
    check(study_of_lines(LINES, **arguments), tmp_path)
    for lines in changed:
        with pytest.raises(ValueError, match="the data of 'news' have changed.*delete"):
            check(study_of_lines(lines, **arguments), tmp_path)


def test_runs_know_their_data_each_for_itself(study_of_lines, tmp_path):
    """A row that was added after the data had changed hides nothing of the others."""
    first, changed = study_of_lines(LINES), study_of_lines(LINES[1:])
    one, *others = first.runs()
    prepare(first, [one], tmp_path)
    (tmp_path / "runs" / one.name / "results.json").write_text("{}")
    prepare(changed, others, tmp_path)
    check_folder(changed, others, tmp_path)
    check_folder(first, [one], tmp_path)
    with pytest.raises(ValueError, match="have changed"):
        check_folder(changed, [one], tmp_path)


def test_missing_labels_are_part_of_the_data(study_of_lines):
    def fingerprint(row):
        rows = [f"word{number},{number % 2},1" for number in range(40)]
        return study_of_lines([*rows, row], "text,a,b", label_column="a,b").fingerprints["news"]

    assert len({fingerprint(row) for row in ("last,0,0", "last,0,-100", "last,-100,0", "last,-100,-100")}) == 4


def test_a_folder_that_tells_nothing_of_its_data_stays_valid(study_of_lines, tmp_path):
    study = study_of_lines(LINES)
    run = study.runs()[-1]
    folder = tmp_path / "runs" / run.name
    folder.mkdir(parents=True)
    (folder / "arguments.json").write_text(json.dumps(dict(run.arguments)))
    (folder / "results.json").write_text("{}")
    check(study, tmp_path)


def test_the_baselines_of_a_folder_stay_valid_whatever_loss_arguments_they_were_given(tmp_path):
    study = study_of(temperature=0.2)
    run = study.runs()[0]
    folder = tmp_path / "runs" / run.name
    folder.mkdir(parents=True)
    (folder / "arguments.json").write_text(json.dumps({**run.arguments, "temperature": 0.2}))
    (folder / "results.json").write_text("{}")
    assert "temperature" not in run.arguments
    check(study, tmp_path)


@pytest.mark.parametrize("name", ["arguments.json", "results.json"])
def test_a_file_that_was_cut_is_named(tmp_path, name):
    study = study_of()
    run = study.runs()[0]
    prepare(study, [run], tmp_path)
    (tmp_path / "runs" / run.name / name).write_text("{")
    with pytest.raises(ValueError, match=f"{name} is empty or cut, delete it"):
        check(study, tmp_path)
        read_results(study, [run], tmp_path)
    with pytest.raises(ValueError, match=f"{name} is empty or cut, delete it"):
        check(study, tmp_path)
        finished(tmp_path / "runs" / run.name, ["study"])


def test_a_date_is_a_revision(tmp_path):
    study = study_of(dataset_revision=datetime.date(2024, 1, 1))
    prepare(study, study.runs(), tmp_path)
    check(study, tmp_path)
    found = json.loads((tmp_path / "runs" / study.runs()[0].name / "arguments.json").read_text())
    assert found["dataset_revision"] == "2024-01-01"
    assert read_arguments(study.runs()[0].arguments, "out")[0].dataset_revision == "2024-01-01"


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
