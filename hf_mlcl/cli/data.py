"""`hf-mlcl data DATASET`: what a dataset is read as and what it holds, without training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hf_mlcl.data import summarize
from hf_mlcl.data.summary import summary_lines
from hf_mlcl.evaluation.plots import plot_label_counts

from .arguments import DataArguments, DataclassParser
from .prepare import load_data


def run(arguments: Sequence[str]) -> None:
    """Prints the look of a dataset; see `hf-mlcl data --help`."""
    parser = DataclassParser(DataArguments, prog="hf-mlcl data")
    for action in parser._actions:
        action.required = False  # --dataset, which may come without its flag
    parser.add_argument("name", nargs="?", help="The dataset, as --dataset.")
    parser.add_argument("--validation_fraction", type=float, default=0.1, help="As in `hf-mlcl train`.")
    parser.add_argument("--json", action="store_true", help="One JSON object, with the counts of every label.")
    parser.add_argument("--picture", type=Path, help="File to draw the labels' frequencies to; needs hf-mlcl[plots].")
    options = parser.parse_args(list(arguments))
    if (options.name is None) == (options.dataset is None):
        raise ValueError("dataset: name one, hf-mlcl data DATASET")
    values = {name: getattr(options, name) for name in DataArguments.__dataclass_fields__}
    job = DataArguments(**{**values, "dataset": options.name or options.dataset})
    data = load_data(job, validation_fraction=options.validation_fraction, max_train_samples=job.max_train_samples)
    summary = summarize(data)
    print(json.dumps(summary, ensure_ascii=False) if options.json else "\n".join(summary_lines(summary)))
    if options.picture is not None:
        splits = summary["splits"]
        counts = {split: [of[split] for of in summary["labels"].values()] for split in splits}
        plot_label_counts(counts).savefig(options.picture, dpi=120)
