"""`hf-mlcl app DIR [--dataset D] [--space FOLDER]`: a page to try a trained model, or the files of a Space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_mlcl.data.labels import LABEL_IDS
from hf_mlcl.hub.page import Page, gradio_package
from hf_mlcl.hub.space import write_index, write_space
from hf_mlcl.inspection.outputs import decodable_images

from .arguments import DataArguments, ModelParser
from .evaluate import load_model
from .prepare import (
    check_length,
    check_pairs,
    load_data,
    load_processor,
    output_folder,
    preparation_options,
    prepare_splits,
    read_processor,
)


def run(arguments: Sequence[str]) -> None:
    """Serves the page or writes the Space; see `hf-mlcl app --help`."""
    parser = ModelParser("hf-mlcl app", optional=("task", "dataset"))  # without a dataset there are labels only
    parser.add_argument("--space", help="Folder to write the files of a Space to, instead of serving the page here.")
    options = parser.parse_args(list(arguments))
    if options.space is None:
        gradio_package()
    elif not Path(options.model).is_dir():
        raise ValueError(f"model: expected a folder to make a Space of, got {options.model!r}")
    model = load_model(options.model)
    config = model.config
    job = parser.job_of(options, config)
    folder = None if options.space is None else output_folder(options.space, "--space")
    index = None
    if options.dataset is not None:
        index = _index(model, options.model, job)
    name = Path(options.model).resolve().name if Path(options.model).is_dir() else options.model
    if folder is None:
        Page(model, read_processor(options.model, config.task, "model"), index, name).launch()
        return
    write_space(options.model, folder, name, index)
    shown = "training examples are in it" if index else "no training examples are in it"
    print(f"{folder}: a Space, {shown}; hf upload user/name {folder} . --repo-type space publishes it")


def _index(model: Any, source: str, job: DataArguments) -> Path:
    """The file of the training examples, embedded where that was not done before."""
    check_pairs(model.config, "--text_pair_column", job.text_pair_column)
    check_length(model, job.max_length)
    data = load_data(
        job, splits=["train"], label_names=model.config.label_names, max_train_samples=job.max_train_samples
    )
    if LABEL_IDS in data.splits["train"].column_names:
        raise ValueError(f"dataset: expected none for a model of so many labels ({len(data.label_names)}), got one")
    if len(data.splits["train"]) < 2:
        raise ValueError(f"dataset: expected at least 2 training examples, got {len(data.splits['train'])}")
    if job.task == "vision" and job.corrupt_images == "skip":
        data.splits["train"] = decodable_images(data.splits["train"])
    processor = model.limit_tokens(load_processor(source, job, "model"))
    prepared = prepare_splits(data, processor, ["train"], **preparation_options(job))["train"]
    path = output_folder(Path(source) / "app" if Path(source).is_dir() else Path("app"), "model") / "index.safetensors"
    rows = data.splits["train"]
    done = write_index(model, processor, rows, prepared, path)
    print(f"{path}: {len(rows)} training examples, {'embedded now' if done else 'embedded before'}")
    return path
