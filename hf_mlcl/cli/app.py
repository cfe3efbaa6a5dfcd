"""`hf-mlcl app DIR [--dataset D] [--space FOLDER]`: a page to try a trained model, or the files of a Space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_mlcl.hub.page import Page, gradio_package
from hf_mlcl.hub.space import write_index, write_space

from .arguments import ModelParser
from .prepare import (
    data_arguments,
    load_for_model,
    load_model,
    output_folder,
    prepare_rows,
    read_processor,
    shown_rows,
)


def run(arguments: Sequence[str]) -> None:
    """Serves the page or writes the Space; see `hf-mlcl app --help`."""
    # Without a dataset there are labels only.
    parser = ModelParser("hf-mlcl app", "Serves a page to try a trained model.", optional=("dataset",))
    parser.add_argument("--space", help="Folder to write the files of a Space to, instead of serving the page here.")
    options = parser.parse_args(list(arguments))
    source = Path(options.model)
    if options.space is None:
        gradio_package()
    elif not source.is_dir():
        raise ValueError(f"model: a Space is made of a folder, got {options.model!r}")
    model = load_model(options.model)
    job = data_arguments(model, options)
    folder = None if options.space is None else output_folder(options.space, "--space")
    index = None
    if options.dataset is not None:
        data, processor = load_for_model(model, options.model, job, ["train"])
        rows = shown_rows(data.splits["train"], job)
        index = output_folder(source / "app" if source.is_dir() else "app", "model") / "index.safetensors"
        done = write_index(model, processor, rows, prepare_rows(rows, processor, job), index)
        print(f"{index}: {len(rows)} training examples, {'embedded now' if done else 'embedded before'}")
    name = source.resolve().name if source.is_dir() else options.model
    if folder is None:
        Page(model, read_processor(options.model, model.config.task, "model"), index, name).launch()
        return
    write_space(options.model, folder, name, index)
    shown = "training examples are in it" if index else "no training examples are in it"
    print(f"{folder}: a Space, {shown}; hf upload user/name {folder} . --repo-type space publishes it")
