"""How many examples of a batch share no label with another one: in a random order and in label-aware batches.

python benchmarks/batch_positives.py FOLDER [--output benchmarks/results/batch_positives.json]

FOLDER holds data sets by name. Only the labels of their training splits are read; nothing is trained. Per data set and
batch size, over the whole batches of five passes: the share of labelled examples without a positive
(`anchors_without_positives` of the Trainer's log), of labels that one example of a batch carries alone, though two or
more of the data set do, and the seconds that the order of a pass takes.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from hf_mlcl.data import LabelAwareSampler, Labels, load_multilabel_dataset
from hf_mlcl.losses import build_loss

DATASETS = {"reuters21578": "text", "goemotions": "text", "arxiv": "text", "clothing": "vision"}
SIZES = (16, 32, 64, 256)
PASSES = 5


def measure(labels: np.ndarray, orders: list[list[int]], size: int) -> dict[str, float]:
    """Means over all whole batches of these orders."""
    carried, loss = labels.sum(0) > 1, build_loss("base")
    loss.count_positives = True
    without, single = [], []
    for order in orders:
        for start in range(0, len(order) - size + 1, size):
            batch = labels[order[start : start + size]]
            loss(torch.zeros(size, 1), torch.from_numpy(batch))
            without.append(float(loss.statistics["anchors_without_positives"]))
            counts = batch.sum(0)[carried]
            single.append(((counts == 1).sum() / max(1, (counts > 0).sum())).item())
    return {
        "anchors_without_positives": statistics.fmean(without),
        "labels_carried_once": statistics.fmean(single),
    }


def main(folder: Path, output: Path | None) -> None:
    """Prints a table, and writes it as JSON where `output` is given."""
    torch.set_num_threads(1)
    results = []
    print("| data set | batch | anchors without positives: random | label-aware | labels carried once: random | "
          "label-aware | seconds a pass |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for name, task in DATASETS.items():
        split = load_multilabel_dataset(str(folder / name), task=task, splits=["train"]).splits["train"]
        labels = Labels.of(split).rows() == 1
        for size in SIZES:
            rng = np.random.default_rng(0)
            random = [rng.permutation(len(labels)).tolist() for _ in range(PASSES)]
            sampler, aware, seconds = LabelAwareSampler(labels, size, torch.Generator().manual_seed(0)), [], []
            for _ in range(PASSES):
                start = time.perf_counter()
                aware.append(list(sampler))
                seconds.append(time.perf_counter() - start)
            row = {
                "dataset": name,
                "examples": len(labels),
                "labels": labels.shape[1],
                "batch_size": size,
                "random": measure(labels, random, size),
                "label_aware": measure(labels, aware, size),
                "seconds_a_pass": statistics.median(seconds),
            }
            results.append(row)
            cells = [
                f"{100 * row[kind][key]:.2f} %"
                for key in ("anchors_without_positives", "labels_carried_once")
                for kind in ("random", "label_aware")
            ]
            print(f"| {name} | {size} | {' | '.join(cells)} | {row['seconds_a_pass']:.2f} |", flush=True)
    if output is not None:
        versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
        record = {"rows": results, "passes": PASSES, "hardware": "CPU, 1 thread", "versions": versions}
        output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.output)
