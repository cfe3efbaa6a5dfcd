"""`hf-mlcl inspect DIR --dataset D --split test`: what a training has learnt, as a report with pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_mlcl.data import Labels, MultiLabelData, prepare_images, prepare_text
from hf_mlcl.data.labels import LABEL_IDS
from hf_mlcl.inspection import Examples, ModelOutputs, collect_outputs, inspect_outputs, write_report
from hf_mlcl.inspection.outputs import decodable_images
from hf_mlcl.inspection.report import uses_embeddings
from hf_mlcl.training.classifier import REFITTED

from .arguments import DataArguments, ModelParser, at_least_one, seed
from .evaluate import load_model
from .prepare import check_length, check_pairs, load_data, load_processor, output_folder, preparation_options

logger = logging.getLogger(__name__)

GRADIENT_BATCHES = 8


def run(arguments: Sequence[str]) -> None:
    """Inspects a trained model; see `hf-mlcl inspect --help`."""
    parser = ModelParser("hf-mlcl inspect")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="Split to inspect.")
    parser.add_argument("--output", help="Folder of the report. Default: inspection in the model's folder.")
    parser.add_argument("--batch_size", type=at_least_one, default=64, help="Batch size.")
    parser.add_argument("--neighbours", type=at_least_one, default=10, help="Number of nearest neighbours.")
    parser.add_argument("--seed", type=seed, default=0, help="Seed of random examples, batches and t-SNE.")
    options = parser.parse_args(list(arguments))
    import hf_mlcl.inspection.plots  # noqa: F401  # stops here where matplotlib is missing

    model = load_model(options.model)
    config = model.config
    if options.split != "test" and config.classifier_refitted:
        logger.warning("%s", REFITTED)
    job = parser.job_of(options, config)
    folder = output_folder(options.output or _default_folder(options.model), "--output")
    report = inspect(
        model, options.model, job, options.split, folder, options.batch_size, options.neighbours, options.seed
    )
    print(f"report, pictures and numbers are in {folder}; open {report.name}")


def _default_folder(source: str) -> Path:
    return Path(source) / "inspection" if Path(source).is_dir() else Path("inspection")


def inspect(
    model: Any,
    source: str,
    job: DataArguments,
    split: str,
    folder: Path,
    batch_size: int = 64,
    neighbours: int = 10,
    seed: int = 0,
) -> Path:
    """Writes the report of a model on one split into `folder`; returns the path of the HTML file."""
    config = model.config
    check_pairs(config, "--text_pair_column", job.text_pair_column)
    check_length(model, job.max_length)
    data, gradient_split = _load(job, split, config.label_names)
    if LABEL_IDS in data.splits[split].column_names:
        raise ValueError(f"model: expected labels few enough for arrays, got {len(data.label_names)}")
    if len(data.splits[split]) < 2:
        raise ValueError(f"split: expected at least 2 examples in {split!r}, got {len(data.splits[split])}")
    processor = model.limit_tokens(load_processor(source, job, "model"))
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None:
        model.to(accelerator)

    def outputs(rows: Any) -> ModelOutputs:
        prepare: Any = prepare_text if job.task == "text" else prepare_images
        prepared = prepare(rows, processor, **preparation_options(job))
        return collect_outputs(model, prepared, processor, batch_size)

    def readable(rows: Any) -> Any:
        """Without images that are left out, so that outputs, labels and pictures are of the same rows."""
        return decodable_images(rows) if job.task == "vision" and job.corrupt_images == "skip" else rows

    batches = []
    if uses_embeddings(config):
        rows, size = data.splits[gradient_split], _training_batch(source)
        chosen = np.random.default_rng(seed).permutation(len(rows))[: GRADIENT_BATCHES * size]
        rows = readable(rows.select(chosen))
        vectors, labels = outputs(rows).embeddings, Labels.of(rows).rows()
        # An incomplete last batch is dropped, as in training, where there is a complete one.
        starts = range(0, max(len(rows) - size, 0) + 1, size)
        batches = [(vectors[start : start + size], labels[start : start + size]) for start in starts]
    inspected = readable(data.splits[split])
    found = inspect_outputs(
        config, outputs(inspected), Labels.of(inspected).rows(), batches, neighbours=neighbours, seed=seed
    )
    about = {
        "model": Path(source).resolve().name if Path(source).is_dir() else source,
        "dataset": data.name,
        "split": split,
        "examples": len(inspected),
        "task": job.task,
        "objective": _objective(config),
        "gradient_split": gradient_split if batches else None,
    }
    return write_report(found, folder, Examples(inspected), config.label_names, about)


def _objective(config: Any) -> str:
    names = {
        "contrastive": f"contrastive loss {config.loss}",
        "classification": f"classification loss {config.classification_loss}",
        "joint": f"contrastive loss {config.loss} and the classification loss {config.classification_loss}, jointly",
    }
    return names[config.objective]


def _load(job: DataArguments, split: str, label_names: list[str]) -> tuple[MultiLabelData, str]:
    """The data, and the split that the gradient's batches come from: the training split where there is one."""
    options: dict[str, Any] = {"label_names": label_names, "max_train_samples": job.max_train_samples}
    if split != "train":
        try:
            return load_data(job, splits=[split, "train"], **options), "train"
        except ValueError:  # no training split, or one that cannot be read: the inspected one must do
            pass
    return load_data(job, splits=[split], **options), split


def _training_batch(source: str) -> int:
    """Examples that a step of the training compared, by the description of the run; 64 where there is none."""
    try:
        described = json.loads((Path(source) / "run.json").read_text(encoding="utf-8"))
        return max(2, int(described["arguments"]["per_device_train_batch_size"]) * int(described.get("processes", 1)))
    except (OSError, ValueError, KeyError, TypeError):
        return 64
