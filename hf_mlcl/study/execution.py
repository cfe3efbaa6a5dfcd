"""Carrying out a study: its runs in processes of their own, skipped, resumed, shared out, timed. Uses joblib."""

from __future__ import annotations

import io
import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from transformers import TrainerCallback

from hf_mlcl.cli.train import set_up
from hf_mlcl.training import SaveOnSignal
from hf_mlcl.training.dataset_rows import select_rows

from .plan import SVM, UNTRAINED, Run, Study, read_arguments, without_loss
from .results import read_results
from .run import ARGUMENTS, DATA, LOG, RESULTS, duration, finished, read_whole, write_whole

logger = logging.getLogger(__name__)

_STARTED = "started"
BACKENDS = ("local", "dask", "ray")
RUNS = "runs"


class _Pool:
    """The processes of this machine: a number for each that may run, and those that do."""

    def __init__(self, jobs: int) -> None:
        self.jobs, self.stopping = jobs, threading.Event()
        self._free: queue.Queue[int] = queue.Queue()
        for number in range(jobs):
            self._free.put(number)
        self._live: set[subprocess.Popen] = set()
        self._lock = threading.Lock()  # what starts is among the live ones before they are stopped

    def run(self, command: list[str], log: Path) -> int:
        """Exit status of a command whose output goes to a file."""
        number = self._free.get()
        try:
            with _log(log) as output:
                with self._lock:
                    if self.stopping.is_set():
                        return -signal.SIGTERM
                    # A session of its own: Ctrl-C reaches this process alone, which passes it on.
                    process = subprocess.Popen(
                        command,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                        env=self._environment(number),
                    )
                    self._live.add(process)
                status = process.wait()
                self._live.discard(process)
                return status
        except OSError as error:
            return _not_started(log, error)
        finally:
            self._free.put(number)

    def _environment(self, number: int) -> dict[str, str]:
        values = {"OMP_NUM_THREADS": _threads(self.jobs), **os.environ}
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        gpus = gpus if gpus != [""] else [str(gpu) for gpu in range(torch.cuda.device_count())]
        return values | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})

    def stop(self) -> None:
        """Lets what runs save a checkpoint and end, and waits for it."""
        with self._lock:
            self.stopping.set()
            live = list(self._live)
        for process in live:
            process.send_signal(signal.SIGTERM)
        for process in live:
            process.wait()


def _threads(jobs: int) -> str:
    """How many threads each of so many processes on this machine takes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return str(max(1, cores // jobs))


def _log(path: Path) -> Any:
    """The log of a run, to be written on: another process may be at work on the run, and write to it."""
    output = open(path, "ab", buffering=0)
    output.write(f"{_STARTED} {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
    return output


def command_of(run: Run, study: Study, folder: Path) -> list[str]:
    """The command of a run's process."""
    options = ["--svm"] if run.row == SVM else []
    options += ["--keep_model"] if study.keep_models and run.trains else []
    return [
        sys.executable,
        "-m",
        "hf_mlcl.study.run",
        str(folder / RUNS / run.name),
        *options,
        "--protocols",
        *study.protocols,
    ]


def _not_started(log: Path, error: OSError) -> int:
    """What a command that could not be started is answered by."""
    logger.warning("%s: the run could not be started: %s", log.parent, error)
    return 1


def check_folder(study: Study, runs: Sequence[Run], folder: Path) -> None:
    """Raises ValueError where the folder of a run holds results of other arguments or of other data."""
    for run in runs:
        path = folder / RUNS / run.name
        before, values, same_data = _arguments(study, run, folder)
        if before == values and not same_data and any(_left_by_a_run(path)):
            raise ValueError(
                f"the data of {run.dataset!r} have changed since {path} was run; write the study to another "
                f"--output_dir, or delete {path.parents[1]}, so that all of it is run again"
            )
        if before not in (None, values) and (path / RESULTS).exists():
            changed = sorted(name for name in {*before, *values} if before.get(name) != values.get(name))
            raise ValueError(
                f"{path} holds a run with another {', '.join(changed)}; give the row another `name`, or "
                "write the study to another --output_dir"
            )


def _left_by_a_run(path: Path) -> list[Path]:
    return [*path.glob(RESULTS), *path.glob("checkpoint-*")]


def prepare(study: Study, runs: Sequence[Run], folder: Path) -> None:
    """Writes the arguments of each run, and with them what tells whether its data change later.

    Checkpoints of other arguments go: a run must not go on from what it would not have come to.
    """
    for run in runs:
        path = folder / RUNS / run.name
        before, values, same_data = _arguments(study, run, folder)
        if before == values and same_data:
            continue
        for checkpoint in path.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        path.mkdir(parents=True, exist_ok=True)
        values |= {DATA: study.fingerprints[run.dataset]} if run.dataset in study.fingerprints else {}
        write_whole(path / ARGUMENTS, json.dumps(values, indent=2) + "\n")


def _arguments(study: Study, run: Run, folder: Path) -> tuple[Any, dict[str, Any], bool]:
    """The arguments that the folder of a run has, None where it has none; those of the run; whether data are the same.

    They are where the folder does not tell.
    """
    path = folder / RUNS / run.name / ARGUMENTS
    before = read_whole(path) if path.exists() else None
    known = study.fingerprints.get(run.dataset)
    same_data = before is None or before.pop(DATA, known) == known
    if before is not None and not run.trains:
        before = without_loss(before)  # which baselines were given once
    return before, json.loads(json.dumps(dict(run.arguments), default=str)), same_data  # YAML has dates


def share(runs: Sequence[Run], shard: tuple[int, int]) -> list[Run]:
    """The runs of a shard: long runs and short ones are dealt out alike."""
    order = sorted(range(len(runs)), key=lambda number: _weight(runs[number]))
    return [runs[number] for number in sorted(order[shard[0] - 1 :: shard[1]])]


def failure(path: Path, status: int) -> str:
    """Why a run has failed, in one line: the last of its output."""
    if status in (-9, 128 + 9):  # SIGKILL, which Windows does not know
        return "it was killed, perhaps for want of memory"
    if status < 0 and -status != signal.SIGTERM:
        return f"it was ended by signal {-status}: {signal.strsignal(-status)}"
    try:
        lines = (path / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    if not lines or lines[-1].startswith(_STARTED):
        return f"it ended with status {status} and wrote nothing"
    return lines[-1].removeprefix("hf-mlcl: error: ")


def execute(
    study: Study,
    folder: Path,
    *,
    jobs: int = 1,
    backend: str = "local",
    address: str | None = None,
    shard: tuple[int, int] = (1, 1),
    report: bool = True,
) -> pd.DataFrame:
    """Runs what has no results yet, then writes the table and the report.

    Args:
        study: What to run.
        folder: The study's folder, on a file system that all workers share.
        jobs: How many runs go at once; threads and GPUs of this machine are shared out among them.
        backend: "local" processes; or "dask" or "ray", whose workers `joblib` hands the runs to.
        address: Of the scheduler of dask or ray; None starts a cluster on this machine.
        shard: (3, 16) runs the third of sixteen parts of the runs.
        report: Whether to write the report at the end.

    Returns:
        The table of results, see `hf_mlcl.study.results.read_results`.

    Raises:
        ValueError: For arguments that make no sense, a folder with other runs, or, at the end, runs that have failed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if address is not None and backend == "local":
        raise ValueError(f"address: the runs would not go to {address}, give the backend dask or ray as well")
    if jobs < 1 or not 1 <= shard[0] <= shard[1]:
        raise ValueError(
            f"jobs must be at least 1 and a shard one of 1/n to n/n, got {jobs} and {shard[0]}/{shard[1]}"
        )
    if report:  # what it needs and is not installed is named now, not after all runs
        from .figures import check_packages

        check_packages()
    study.check()
    runs = study.runs()
    folder = folder.resolve()  # workers elsewhere have another current folder
    folder.mkdir(parents=True, exist_ok=True)
    mine = share(runs, shard)
    check_folder(study, runs, folder)
    prepare(study, mine, folder)
    todo = [run for run in mine if not finished(folder / RUNS / run.name, study.protocols)]
    failed = _run_all(study, todo, folder, jobs, backend, address) if todo else {}
    wrong = []
    if failed:
        name, reason = next(iter(failed.items()))
        wrong.append(
            f"{len(failed)} of {len(mine)} runs failed, such as {name}: {reason}; see {LOG} in their folders. "
            "The same command runs them again"
        )
    with FileLock(folder / ".lock"):  # shards that end together write one report after the other
        table = read_results(study, runs, folder)
        if report and len(table):
            from .report import write_report

            try:
                write_report(study, runs, table, folder)
            except ValueError as error:
                wrong.append(f"the report could not be written, all results are in {folder / RUNS}: {error}")
    if wrong:
        raise ValueError(". ".join(wrong))
    return table


def _run_all(
    study: Study, runs: Sequence[Run], folder: Path, jobs: int, backend: str, address: str | None
) -> dict[str, str]:
    """Runs all; names of those that failed, with the reason."""
    pool, started = _Pool(jobs), time.time()

    # Workers of dask and ray would train with one thread; how many cores other machines have, they know.
    threads = os.environ.get("OMP_NUM_THREADS") or (None if address else _threads(jobs))
    work = pool.run if backend == "local" else partial(run_elsewhere, cwd=os.getcwd(), threads=threads)
    tasks = [joblib.delayed(work)(command_of(run, study, folder), folder / RUNS / run.name / LOG) for run in runs]
    done = threading.Event()
    line = threading.Thread(target=_show_progress, args=(runs, study.protocols, folder, started, done), daemon=True)
    line.start()
    try:
        with _parallel(backend, address, jobs):
            statuses = joblib.Parallel(batch_size=1, pre_dispatch="all")(tasks)
    except KeyboardInterrupt:
        pool.stop()
        raise KeyboardInterrupt("the same command goes on") from None
    finally:
        done.set()
        line.join()
    failed = {}
    for run, status in zip(runs, statuses, strict=True):
        if not finished(folder / RUNS / run.name, study.protocols):
            failed[run.name] = failure(folder / RUNS / run.name, status)
            logger.warning("failed: %s: %s", run.name, failed[run.name])
    return failed


def run_elsewhere(command: list[str], log: Path, cwd: str, threads: str | None) -> int:
    """Runs a command on a worker of dask or ray, in whatever Python that has, in the folder of this command.

    With the worker's own number of threads where none is given.
    """
    try:
        with _log(log) as output:
            command = [sys.executable, *command[1:]]
            env = os.environ | ({"OMP_NUM_THREADS": threads} if threads else {})
            return subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd=cwd, env=env).returncode
    except OSError as error:
        return _not_started(log, error)


@contextmanager
def _parallel(backend: str, address: str | None, jobs: int) -> Iterator[None]:
    """The context in which `joblib.Parallel` hands out the runs."""
    try:
        if backend == "local":
            with joblib.parallel_config("threading", n_jobs=jobs):
                yield
        elif backend == "dask":
            from dask.distributed import Client

            # One thread in a process: a run takes a whole worker.
            with Client(address) if address else Client(n_workers=jobs, threads_per_worker=1) as client:
                with joblib.parallel_config("dask", client=client, n_jobs=-1):
                    yield
        else:
            import ray
            from ray.util.joblib import register_ray

            with ray.init(address=address, log_to_driver=False, num_cpus=None if address else jobs):
                register_ray()
                with joblib.parallel_config("ray", n_jobs=-1 if address else jobs):
                    yield
    except ImportError as error:
        raise ImportError(f"--backend {backend} needs pip install 'hf-mlcl[{backend}]': {error}") from error


def _show_progress(
    runs: Sequence[Run], protocols: Sequence[str], folder: Path, started: float, done: threading.Event
) -> None:
    """One line for the whole study. Looks for results in the folder, whoever writes them."""
    weights = np.array([_weight(run) for run in runs])
    complete = np.zeros(len(runs), dtype=bool)
    shown, number = sys.stderr.isatty(), -1
    while True:
        ended = done.wait(1)
        for place, run in enumerate(runs):
            complete[place] = complete[place] or finished(folder / RUNS / run.name, protocols)
        share, spent = weights[complete].sum() / weights.sum(), time.time() - started
        left = (
            f"about {duration(spent * (1 - share) / share)} left" if 0 < share < 1 and not ended else duration(spent)
        )
        if shown or complete.sum() != number or ended:
            number = complete.sum()
            # On a terminal the line is written over; in a file there is one for each run that has ended.
            line = f"study: {number} of {len(runs)} runs, {left}"
            line, end = (f"\r{line:<79}", "\n" if ended else "") if shown else (line, "\n")
            print(line, end=end, file=sys.stderr, flush=True)
        if ended:
            return


def _weight(run: Run) -> float:
    """How long a run takes in comparison with the others of its dataset: its epochs, and one for the features."""
    return run.fraction * (run.epochs() + 0.5) + 0.1


# Arguments that change how a step is computed, but not noticeably how long it takes.
_UNTIMED = frozenset(
    "seed loss loss_kwargs temperature alpha beta classification_weight classification_loss "
    "classification_loss_kwargs learning_rate num_train_epochs max_train_samples max_labels".split()
)


def estimate(runs: Sequence[Run]) -> dict[str, float]:
    """Seconds that each run will take, from a timed training step and a timed forward pass of each kind of run.

    Returns:
        Name of a run to seconds.
    """
    timed: dict[str, tuple[float, int, float, dict[str, int]]] = {}
    seconds = {}
    for run in runs:
        kind = {name: value for name, value in run.arguments.items() if name not in _UNTIMED}
        key = json.dumps([run.trains, kind], sort_keys=True, default=str)
        if key not in timed:
            timed[key] = _timed(run)
        step, batch, forward, sizes = timed[key]
        sizes = sizes | {"train": min(int(run.arguments.get("max_train_samples") or sizes["train"]), sizes["train"])}
        steps = sizes["train"] / batch * run.epochs()
        if run.trains and int(run.arguments.get("max_steps", -1)) > 0:
            steps = int(run.arguments["max_steps"])
        # 10 s to start; the features of all splits are computed once for the classifier.
        seconds[run.name] = 10 + steps * step + sum(sizes.values()) * forward
    return seconds


def _timed(run: Run) -> tuple[float, int, float, dict[str, int]]:
    """Seconds of a training step and its examples, of the forward pass of one; number of examples of each split."""
    clock = _StepClock()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # what `train` says of itself
        steps = {"max_steps": 2} if run.trains else UNTRAINED
        values = {name: value for name, value in run.arguments.items() if name != "max_train_samples"}
        job, args = read_arguments({**values, **steps}, folder)
        args.disable_tqdm = True
        prepared = set_up(job, args, SaveOnSignal())
        trainer = prepared.trainer
        trainer.save_last_step = trainer.compare_encoder = False
        trainer.add_callback(clock)
        trainer.train()
        rows = min(256, len(prepared.splits["train"]))
        started = time.time()
        trainer.features(select_rows(prepared.splits["train"], np.arange(rows)))
        forward = (time.time() - started) / rows
    return clock.seconds, args.train_batch_size * args.gradient_accumulation_steps, forward, prepared.examples()


class _StepClock(TrainerCallback):
    """Seconds of the last training step."""

    seconds = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._started = time.time()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds = time.time() - self._started
