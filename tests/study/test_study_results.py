"""The choice of a row's batch size."""

import pandas as pd

from hf_mlcl.study.results import _chosen


def lines_of(sizes):
    """Validation and test lines of row -> (seed, batch size, Macro-F1 of validation)."""
    shared = {"dataset": "news", "fraction": 1.0, "labels": 3}
    table = pd.DataFrame(
        [
            {**shared, "row": row, "seed": seed, "batch_size": size, "split": split, "macro_f1": score}
            for row, runs in sizes.items()
            for seed, size, score in runs
            for split in ("validation", "test")
        ]
    )
    table["batch_size"] = table["batch_size"].astype("Int64")
    return table


def test_a_row_of_which_no_seed_has_all_sizes_is_shown_as_well():
    whole = [(seed, size, 0.5 + 0.01 * size) for seed in (1, 2) for size in (8, 16)]
    table = lines_of({"whole": whole, "gaps": [(1, 8, 0.5), (2, 16, 0.6)], "baseline": [(1, None, 0.3)]})
    chosen = table[_chosen(table, ["macro_f1"])]
    shown = {row: sorted(set(of["batch_size"].dropna())) for row, of in chosen.groupby("row")}
    assert shown == {"whole": [16], "gaps": [16], "baseline": []}


def test_only_seeds_that_all_sizes_have_choose():
    table = lines_of({"row": [(1, 8, 0.5), (1, 16, 0.4), (2, 16, 0.9)]})
    assert set(table[_chosen(table, ["macro_f1"])]["batch_size"]) == {8}
