"""What a study's folder holds already, and which runs are whose."""

import datetime
import json
import signal
import subprocess
import sys
import threading
import time

import joblib
import pytest
from filelock import FileLock

from hf_mlcl.study import Study, execution, report
from hf_mlcl.study.execution import _Pool, check_folder, estimate, execute, failure, prepare, run_elsewhere, share
from hf_mlcl.study.plan import read_arguments
from hf_mlcl.study.results import read_results
from hf_mlcl.study.run import finished
from hf_mlcl.study.run import main as run_one

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


def test_a_log_is_written_on_and_what_an_earlier_attempt_said_is_no_reason(tmp_path):
    log, pool = tmp_path / "log.txt", _Pool(1)
    pool.run([sys.executable, "-c", "print('said before')"], log)
    assert failure(tmp_path, 3) == "said before"
    status = pool.run([sys.executable, "-c", "raise SystemExit(3)"], log)
    assert "said before" in log.read_text() and failure(tmp_path, status) == "it ended with status 3 and wrote nothing"
    run_elsewhere([sys.executable, "-c", "print('elsewhere')"], log, str(tmp_path), None)
    assert "said before" in log.read_text() and failure(tmp_path, 3) == "elsewhere"


@pytest.mark.parametrize(("given", "expected"), [("5", "5"), (None, "1")])
def test_workers_take_the_threads_that_they_are_given(tmp_path, monkeypatch, given, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as dask and ray set it
    command = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    run_elsewhere(command, tmp_path / "log.txt", str(tmp_path), given)
    assert (tmp_path / "log.txt").read_text().splitlines()[-1] == expected


@pytest.mark.parametrize(("set_to", "address", "expected"), [
    (None, None, execution._threads(2)),
    ("3", None, "3"),
    ("3", "tcp://scheduler:8786", "3"),
    (None, "tcp://scheduler:8786", None),  # how many cores it has is not known here
])  # fmt: skip
def test_the_threads_of_workers(tmp_path, monkeypatch, set_to, address, expected):
    if set_to:
        monkeypatch.setenv("OMP_NUM_THREADS", set_to)
    else:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen = []
    monkeypatch.setattr(execution, "run_elsewhere", lambda *given, threads, **options: seen.append(threads) or 1)
    monkeypatch.setattr(execution, "_parallel", lambda *given: joblib.parallel_config("sequential"))
    study = study_of()
    execution._run_all(study, study.runs()[:1], tmp_path, 2, "dask", address)
    assert seen == [expected]


def test_a_run_that_another_process_is_at_is_left_to_it(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match="another process is at work on this run"):
        run_one([str(tmp_path), "--protocols", "study"])


def results(path, *protocols):
    path.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"run": {"labels": 2, "examples": {"train": 1}}, "metrics": dict.fromkeys(protocols, {})})
    (path / "results.json").write_text(text)


def test_a_run_that_lacks_a_protocol_is_not_shown_as_done(tmp_path, capsys):
    runs = study_of().runs()[:2]
    results(tmp_path / "runs" / runs[0].name, "study")
    results(tmp_path / "runs" / runs[1].name, "study", "logistic_regression")
    done = threading.Event()
    done.set()
    execution._show_progress(runs, ["logistic_regression", "study"], tmp_path, time.time(), done)
    assert "study: 1 of 2 runs" in capsys.readouterr().err


def test_a_report_that_fails_is_told_apart_from_runs(tmp_path, monkeypatch):
    pytest.importorskip("scikit_posthocs")
    study = study_of()
    metrics = {"validation": {"macro_f1": 0.5}}
    for run in study.runs():
        folder = tmp_path / "runs" / run.name
        folder.mkdir(parents=True)
        found = {"run": {"labels": 2, "examples": {"train": 1}}, "metrics": {"logistic_regression": metrics}}
        (folder / "results.json").write_text(json.dumps(found))

    def fail(*given):
        raise ValueError("no figure")

    monkeypatch.setattr(Study, "check", lambda self: None)
    monkeypatch.setattr(report, "write_report", fail)
    with pytest.raises(
        ValueError, match="the report could not be written, all results are in .*runs: no figure"
    ) as told:
        execute(study, tmp_path)
    assert "failed" not in str(told.value) and "again" not in str(told.value)
