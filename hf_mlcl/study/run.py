"""One run of a study, in a process of its own: `python -m hf_mlcl.study.run FOLDER`, with FOLDER/arguments.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from hf_mlcl.cli import run_command
from hf_mlcl.cli.arguments import TrainArguments
from hf_mlcl.cli.prepare import load_data
from hf_mlcl.cli.train import Measured, fit, measure, set_up
from hf_mlcl.data import Labels
from hf_mlcl.evaluation import compute_metrics, per_label_metrics
from hf_mlcl.hub import RunResults
from hf_mlcl.hub.results import describe_run
from hf_mlcl.training import MLCLTrainingArguments, SaveOnSignal
from hf_mlcl.training.checkpoints import last_checkpoint

from .plan import METRICS, read_arguments
from .svm import fit_svm

RESULTS, PREDICTIONS, ARGUMENTS, LOG = "results.json", "predictions.npz", "arguments.json", "log.txt"
DATA = "_data"  # in the file of arguments: what tells whether the data have changed since
# Of which logits are kept for the comparison of rows: 4 bytes for each example and label.
MAX_KEPT_NUMBERS = 2**27


def main(arguments: list[str] | None = None) -> None:
    """Carries out the run of a folder; nothing where it has its results already."""
    parser = argparse.ArgumentParser(prog="hf_mlcl.study.run", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--protocols", nargs="+", required=True)
    parser.add_argument("--svm", action="store_true", help="TF-IDF and linear SVM instead of a training")
    parser.add_argument("--keep_model", action="store_true")
    options = parser.parse_args(arguments)
    try:
        lock = FileLock(options.folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise ValueError("another process is at work on this run") from None
    with lock:
        if not finished(options.folder, options.protocols):
            values = read_whole(options.folder / ARGUMENTS)
            values.pop(DATA, None)
            job, args = read_arguments(values, str(options.folder))
            with SaveOnSignal() as on_signal:
                if options.svm:
                    found, about = linear_svm(job, args.seed)
                else:
                    found, about = training(job, args, options.protocols, options.keep_model, on_signal)
                write(options.folder, found, about)
        for checkpoint in options.folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)


def finished(folder: Path, protocols: Sequence[str]) -> bool:
    """Whether a run has the results of all protocols; a baseline without training of its own has only one."""
    path = folder / RESULTS
    if not path.exists():
        return False
    found = read_whole(path)["metrics"]
    return "" in found or set(protocols) <= set(found)


def training(
    job: TrainArguments,
    args: MLCLTrainingArguments,
    protocols: list[str],
    keep_model: bool,
    on_signal: SaveOnSignal,
) -> tuple[dict[str, dict[str, Measured]], dict[str, Any]]:
    """An ordinary training, its classifier fitted by each protocol, its scores by protocol and split."""
    started, folder = time.time(), str(args.output_dir)
    last = last_checkpoint(folder)
    if last is not None and args.num_train_epochs > 0:
        args.resume_from_checkpoint = "true"
    prepared = set_up(job, args, on_signal)
    trainer = prepared.trainer
    trainer.compare_encoder = False  # a row of its own
    trainer.train(resume_from_checkpoint=prepared.resume)
    found = {}
    for protocol in protocols:
        job.protocol = protocol
        report = fit(prepared, job)
        on_signal.check()
        found[protocol] = {name: measure(trainer, prepared.splits[name]) for name in prepared.measured_splits()}
        on_signal.check()
        if protocol == protocols[0]:
            about = describe_run(
                args,
                trainer.core_model,
                job={**asdict(job), "dataset": prepared.data.name},
                examples=prepared.examples(),
                report=report,
                seconds=None if prepared.resume else time.time() - started,
            )
            about["train_label_counts"] = trainer.core_model.config.train_label_counts
            if keep_model:
                trainer.save_model(folder, _internal_call=True)
                measured = found[protocol].items()
                metrics, rows = {n: m.metrics for n, m in measured}, {n: m.per_label for n, m in measured}
                RunResults(about, metrics, rows).write(folder)
    return found, about


def linear_svm(job: TrainArguments, seed: int) -> tuple[dict[str, dict[str, Measured]], dict[str, Any]]:
    """The run of TF-IDF and a linear SVM, see `fit_svm`. Nothing where labels are lists of ids."""
    started = time.time()
    data = load_data(
        job,
        validation_fraction=job.validation_fraction,
        max_labels=job.max_labels,
        max_train_samples=job.max_train_samples,
        seed=seed,
    )
    labels = {name: Labels.of(rows, len(data.label_names)) for name, rows in data.splits.items()}
    counts = labels["train"].counts()
    about = {
        "job": {"task": job.task, "dataset": data.name},
        "examples": {name: len(rows) for name, rows in data.splits.items()},
        "labels": len(data.label_names),
        "train_label_counts": counts.tolist(),
    }
    if labels["train"].as_ids:  # an SVM for each would take too long, see `Study.check`
        return {"": {}}, about
    texts = {
        name: [" ".join(parts) for parts in zip(*(rows[column] for column in _texts(rows)), strict=True)]
        for name, rows in data.splits.items()
    }
    fit, found = fit_svm(texts, labels, refit=job.refit, thresholds=job.thresholds, seed=seed), {}
    for name, logits in fit.logits.items():
        if labels[name].known_counts().any():
            metrics = compute_metrics((logits, labels[name]), thresholds=fit.thresholds, train_label_counts=counts)
            metrics.pop("ece")  # distances are no probabilities
            rows = per_label_metrics(logits, labels[name], fit.thresholds, counts, data.label_names)
            found[name] = Measured(metrics, rows, logits, labels[name])
    return {"": found}, about | {"C": fit.strength, "seconds": round(time.time() - started, 1)}


def _texts(rows: Any) -> list[str]:
    return [name for name in ("text", "text_pair") if name in rows.column_names]


def read_whole(path: Path) -> Any:
    """What a JSON file of a run holds; ValueError where it has been cut, as on a full disk."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is empty or cut, delete it to run it again: {error}") from error


def write_whole(path: Path, text: str) -> None:
    """Writes a file that others see whole or not at all, whoever else writes it."""
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def duration(seconds: float) -> str:
    """As 45 s, 12 min or 3.5 h."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def write(folder: Path, found: dict[str, dict[str, Measured]], about: dict[str, Any]) -> None:
    """Writes predictions and then results, each of them whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    for protocol, splits in found.items():
        for split, measured in splits.items():
            labels = Labels.of(measured.labels)
            if labels.shape[0] * labels.shape[1] <= MAX_KEPT_NUMBERS:
                arrays[f"{protocol}/{split}/logits"] = np.asarray(measured.logits, dtype=np.float32)
                arrays[f"{protocol}/{split}/thresholds"] = np.array([row["threshold"] for row in measured.per_label])
                # Of a split that the classifier was refitted on, protocols score different examples.
                arrays[f"{protocol}/{split}/labels"] = labels.rows().astype(np.int8)
    with open(folder / f".{PREDICTIONS}.tmp", "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    os.replace(folder / f".{PREDICTIONS}.tmp", folder / PREDICTIONS)
    results = {
        "run": about,
        "metrics": {p: {split: one.metrics for split, one in splits.items()} for p, splits in found.items()},
        "per_label": {p: {split: one.per_label for split, one in splits.items()} for p, splits in found.items()},
    }
    write_whole(folder / RESULTS, json.dumps(results, allow_nan=False) + "\n")
    for protocol, splits in results["metrics"].items():
        for split, metrics in splits.items():
            print(protocol, split, "  ".join(f"{name} {metrics[name]:.4f}" for name in METRICS), flush=True)


if __name__ == "__main__":
    run_command(lambda arguments: main(list(arguments)), sys.argv[1:])
