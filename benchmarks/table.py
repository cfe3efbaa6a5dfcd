"""Prints the measured tables from the recorded runs: `python benchmarks/table.py benchmarks/results`.

Runs that differ in the seed alone share a row: mean ± standard deviation (n - 1) over the seeds.
"""

import json
import statistics
import sys
from pathlib import Path

COLUMNS = {
    "Micro-F1": "micro_f1",
    "Macro-F1": "macro_f1",
    "mAP": "map",
    "Micro-F1, uncalibrated at 0.5": "micro_f1_uncalibrated",
    "Macro-F1, uncalibrated at 0.5": "macro_f1_uncalibrated",
    "head": "macro_f1_head",
    "medium": "macro_f1_medium",
    "tail": "macro_f1_tail",
}
MEMORY = {"queue_size": "queue", "momentum": "momentum"}


def description(run: dict, usual_batch: int) -> str:
    """The objective of a run, and what else tells runs of one folder apart, in a few words."""
    fields, job = run["objective"], run["job"]
    arguments = run["arguments"]
    size = [f"{job['image_size']} pixels"] if job.get("image_size") else []
    if arguments["learning_rate"] == 0 or arguments["num_train_epochs"] == 0:
        return ", ".join(["no training: the encoder as it is", *size])
    name = f"`{fields['loss' if fields['objective'] == 'contrastive' else 'classification_loss']}`"
    if fields["objective"] == "joint":
        name = f"`{fields['loss']}` + {fields['classification_weight']:g} `{fields['classification_loss']}`, joint"
    rates = [f"learning rate {arguments['learning_rate']:g}"] if arguments["learning_rate"] != 5e-5 else []
    batch = arguments["per_device_train_batch_size"]
    batch_size = [f"batch {batch}"] if batch != usual_batch else []
    memory = [f"{word} {arguments[key]}" for key, word in MEMORY.items() if arguments.get(key)]
    prototypes = ["prototypes from label names"] if job.get("prototype_init") == "label_names" else []
    protocol = ["the study's protocol"] if job.get("protocol") == "study" else []
    batches = ["label-aware batches"] if arguments.get("label_aware_batches") else []
    return ", ".join([name, *size, *batch_size, *rates, *prototypes, *batches, *memory, *protocol])


def cell(values: list[float]) -> str:
    """Percent; several seeds as mean ± standard deviation."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


def main(folder: Path) -> None:
    """One table a data set, test split, in percent."""
    tables: dict[str, list[tuple[dict, dict]]] = {}
    for path in sorted(folder.glob("*/metrics.json")):
        run = json.loads((path.parent / "run.json").read_text())
        tables.setdefault(run["job"]["dataset"], []).append((run, json.loads(path.read_text())["test"]))
    for dataset, runs in tables.items():
        usual_batch = statistics.mode(run["arguments"]["per_device_train_batch_size"] for run, _ in runs)
        rows: dict[str, list[dict]] = {}
        for run, scores in runs:
            rows.setdefault(description(run, usual_batch), []).append(scores)
        # The study's protocol alone has scores before a calibration.
        columns = {title: key for title, key in COLUMNS.items() if any(key in scores for _, scores in runs)}
        print(f"\n| {dataset}, test | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for name, seeds in rows.items():
            cells = (cell([scores[key] for scores in seeds]) if key in seeds[0] else "–" for key in columns.values())
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
