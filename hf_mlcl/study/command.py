"""`hf-mlcl study STUDY.yaml --output_dir DIR`: losses compared on datasets, with tables, statistics and figures."""

from __future__ import annotations

import argparse
import logging
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_mlcl.cli.parser import OneLineParser, at_least_one

EXAMPLE = """the study's file:
  datasets:
    - {dataset: path/or/hub-id, task: text, encoder: path/or/hub-id}
  losses: [reg, zlpr]        # or mappings: {loss: reg, objective: joint, name: joint}; default: "default", which
                             # is what `train` does without a loss, and all losses
  seeds: [1, 2, 3]
  batch_sizes: [16, 64]      # optional: each loss with its better one, chosen on validation
  fractions: [0.2, 1.0]      # optional: shares of the training examples
  label_subsets: [10, 50]    # optional: the most frequent labels; null for all
  protocols: [logistic_regression, study]  # optional: how the classifier is fitted
  max_length: 64             # and any other argument of `hf-mlcl train`
  num_train_epochs: 4
"""


def run(arguments: Sequence[str]) -> None:
    """Runs a study; see `hf-mlcl study --help`."""
    parser = OneLineParser(
        prog="hf-mlcl study",
        description=__doc__,
        epilog=EXAMPLE,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", help="YAML or JSON file of the study.")
    parser.add_argument("--output_dir", required=True, help="Folder of the study; runs that it has are not run again.")
    parser.add_argument(
        "--dry_run", action="store_true", help="List the runs that are left, with an estimate of their time."
    )
    parser.add_argument("--jobs", type=at_least_one, default=1, help="Number of runs at once. Default: 1.")
    parser.add_argument("--backend", default="local", choices=("local", "dask", "ray"), help="Where the runs run.")
    parser.add_argument("--address", help="Scheduler of dask or ray. Default: a cluster on this machine.")
    parser.add_argument("--shard", type=shard, default=(1, 1), help="3/16: the third of sixteen parts of the runs.")
    options = parser.parse_args(list(arguments))
    # Imported here: the help needs none of it.
    from hf_mlcl.study import Study
    from hf_mlcl.study.execution import execute

    study = Study.read(options.study)
    if options.dry_run:
        study.check()
        _list(study, Path(options.output_dir), options.shard)
        return
    logging.getLogger("hf_mlcl.study").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(options.output_dir)
    table = execute(
        study, folder, jobs=options.jobs, backend=options.backend, address=options.address, shard=options.shard
    )
    if len(table):
        print(f"{folder / 'report.html'}: report of {table['run'].nunique()} runs; the table is results.csv")


def shard(text: str) -> tuple[int, int]:
    """The type of --shard."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"expected a part such as 3/16, got {text!r}")
    return int(found[1]), int(found[2])


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _list(study: Any, folder: Path, shard: tuple[int, int]) -> None:
    from hf_mlcl.study.execution import RUNS, check_folder, estimate, finished, share
    from hf_mlcl.study.run import duration

    runs = study.runs()
    check_folder(study, runs, folder)
    runs = share(runs, shard)
    left = [run for run in runs if not finished(folder / RUNS / run.name, study.protocols)]
    seconds = estimate(left)
    for run in left:
        print(f"{seconds[run.name] / 60:6.1f} min  {run.name}")
    of = "" if len(left) == len(runs) else f" of {len(runs)} are left"
    print(f"{len(left)} runs{of}, about {duration(sum(seconds.values()))} one after the other")
