"""`hf-mlcl inspect DIR --dataset D --split test`: what a training has learnt, as a report with pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_mlcl.data import Labels
from hf_mlcl.hub.results import RunResults
from hf_mlcl.inspection import Examples, ModelOutputs, collect_outputs, inspect_outputs, write_report
from hf_mlcl.inspection.report import uses_embeddings
from hf_mlcl.training.classifier import REFITTED

from .arguments import ModelParser
from .parser import at_least_one, seed
from .prepare import (
    data_arguments,
    load_for_model,
    load_model,
    load_processor,
    output_folder,
    prepare_rows,
    shown_rows,
)

logger = logging.getLogger(__name__)

GRADIENT_BATCHES = 8
OBJECTIVES = {
    "contrastive": "contrastive loss {0.loss}",
    "classification": "classification loss {0.classification_loss}",
    "joint": "contrastive loss {0.loss} and the classification loss {0.classification_loss}, jointly",
}


def run(arguments: Sequence[str]) -> None:
    """Inspects a trained model; see `hf-mlcl inspect --help`."""
    parser = ModelParser("hf-mlcl inspect", "Reports what a trained model has learnt.")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="Split to inspect.")
    parser.add_argument("--output", help="Folder of the report. Default: inspection in the model's folder.")
    parser.add_argument("--before", help="Model to show beside, as of `hf-mlcl train --num_train_epochs 0`.")
    parser.add_argument("--batch_size", type=at_least_one, default=64, help="Batch size.")
    parser.add_argument("--neighbours", type=at_least_one, default=10, help="Number of nearest neighbours.")
    parser.add_argument("--seed", type=seed, default=0, help="Seed of random examples, batches and t-SNE.")
    options = parser.parse_args(list(arguments))
    import hf_mlcl.inspection.plots  # noqa: F401  # stops here where matplotlib is missing

    source, split = Path(options.model), options.split
    model = load_model(options.model)
    config = model.config
    untrained = None if options.before is None else load_model(options.before)
    if untrained is not None and untrained.config.label_names != config.label_names:
        raise ValueError(f"--before: the labels of {options.before!r} are not those of {options.model!r}")
    if split != "test" and config.classifier_refitted:
        logger.warning("%s", REFITTED)
    job = data_arguments(model, options)
    folder = output_folder(options.output or (source / "inspection" if source.is_dir() else "inspection"), "--output")
    gradient_split = "train"
    try:
        data, processor = load_for_model(model, options.model, job, list({split: 0, "train": 0}))
    except ValueError:
        # Without a training split, or with one that cannot be read, the gradient's batches are of the inspected one.
        data, processor = load_for_model(model, options.model, job, [split])
        gradient_split = split
    inspected = shown_rows(data.splits[split], job)

    def outputs(rows: Any, model: Any = model, processor: Any = processor) -> ModelOutputs:
        if torch.accelerator.is_available():
            model.to(torch.accelerator.current_accelerator())
        return collect_outputs(model, prepare_rows(rows, processor, job), processor, options.batch_size)

    try:
        described = RunResults.read(source).run
    except ValueError:  # damaged; the report does without
        described = {}
    batches = []
    if uses_embeddings(config):
        rows, size = data.splits[gradient_split], _training_batch(described)
        order = np.random.default_rng(options.seed).permutation(len(rows))
        rows = shown_rows(rows.select(order[: GRADIENT_BATCHES * size]), job)
        vectors, labels = outputs(rows).embeddings, Labels.of(rows).rows()
        # An incomplete last batch is dropped, as in training, where there is a complete one.
        starts = range(0, max(len(rows) - size, 0) + 1, size)
        batches = [(vectors[start : start + size], labels[start : start + size]) for start in starts]
    labels = Labels.of(inspected).rows()
    chosen = {"neighbours": options.neighbours, "seed": options.seed}
    found = inspect_outputs(config, outputs(inspected), labels, batches, **chosen)
    before = None
    if untrained is not None:
        own = outputs(inspected, untrained, untrained.limit_tokens(load_processor(options.before, job, "--before")))
        before = inspect_outputs(untrained.config, own, labels, **chosen)
    comparison = (described.get("classifier") or {}).get("comparison")
    about = {
        "model": source.resolve().name if source.is_dir() else options.model,
        "dataset": data.name,
        "split": split,
        "examples": len(inspected),
        "task": job.task,
        "objective": OBJECTIVES[config.objective].format(config),
        "gradient_split": gradient_split if batches else None,
        "comparison": comparison,
    }
    report = write_report(found, folder, Examples(inspected), config.label_names, about, before)
    print(f"report, pictures and numbers are in {folder}; open {report.name}")


def _training_batch(described: dict[str, Any]) -> int:
    """Examples that a step of the training compared, by the description of the run; 64 where there is none."""
    try:
        return max(2, int(described["arguments"]["per_device_train_batch_size"]) * int(described.get("processes", 1)))
    except (ValueError, KeyError, TypeError):
        return 64
