"""The table of a study's results, and the choice of each row's batch size. Imports pandas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .plan import Run, Study, name_with
from .run import RESULTS, read_whole

# What makes one table of the report: rows are compared within it.
SETTING = ["dataset", "fraction", "labels"]


def read_results(study: Study, runs: Sequence[Run], folder: Path) -> pd.DataFrame:
    """One line for each run, protocol and split, of the runs that have results.

    Columns: `dataset`, `task`, `fraction`, `labels` (their number), `row`, `loss`, `objective`, `batch_size`,
    `protocol`, `seed`, `split`, `seconds`, `train_examples`, `run` (its folder), `chosen`, and every score. `chosen`
    is true for the batch size with the best mean of `choose_by` over the validation splits of all seeds.
    """
    lines: list[dict[str, Any]] = []
    for run in runs:
        path = folder / "runs" / run.name / RESULTS
        if not path.exists():
            continue
        found = read_whole(path)
        about = found["run"]
        for protocol, splits in found["metrics"].items():
            if protocol and protocol not in study.protocols:
                continue  # of an earlier version of the study
            name = run.row
            if len(study.protocols) > 1 and protocol:
                name = name_with(run.row, protocol)
            for split, metrics in splits.items():
                line = {
                    "dataset": run.dataset,
                    "task": run.arguments["task"],
                    "fraction": run.fraction,
                    "labels": about["labels"],
                    "row": name,
                    "loss": run.arguments.get("loss"),
                    "objective": about.get("objective", {}).get("objective") if run.trains else None,
                    "batch_size": run.batch_size,
                    "protocol": protocol,
                    "seed": run.seed,
                    "split": split,
                    "seconds": about.get("seconds"),
                    "train_examples": about["examples"]["train"],
                    "run": run.name,
                }
                lines.append(line | metrics)
    table = pd.DataFrame(lines)
    if len(table):
        table["batch_size"] = table["batch_size"].astype("Int64")
        table.insert(table.columns.get_loc("run") + 1, "chosen", _chosen(table, study.choice))
    return table


def _chosen(table: pd.DataFrame, choice: list[str]) -> pd.Series:
    """Whether a line is of the batch size that its row is shown with."""
    for name in choice:
        if name not in table:
            known = ", ".join(column for column in table if column.endswith("f1") or column == "map")
            raise ValueError(f"choose_by: there is no score {name!r}; some are {known}")
    validation = table[table["split"] == "validation"]
    keys = [*SETTING, "row"]
    # Of seeds that all sizes have: others would compare seeds. But a row without such a seed has a size as well.
    sizes = validation.groupby(keys)["batch_size"].transform("nunique")
    complete = validation.groupby([*keys, "seed"])["batch_size"].transform("nunique") == sizes
    some = complete.groupby([validation[key] for key in keys]).transform("any")
    validation = validation[complete | ~some]
    means = validation.assign(score=validation[choice].mean(axis=1))
    means = means.groupby([*keys, "batch_size"], as_index=False)["score"].mean()
    best = means.loc[means.groupby(keys)["score"].idxmax(), [*keys, "batch_size"]]
    size = table[keys].merge(best, "left", on=keys)["batch_size"].set_axis(table.index)
    return table["batch_size"].isna() | (table["batch_size"] == size).fillna(False)
