"""Prints the measured tables from the recorded runs: `python benchmarks/table.py benchmarks/results`."""

import json
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


def objective(run: dict) -> str:
    """The objective of a run in a few words."""
    fields = run["objective"]
    if fields["objective"] == "joint":
        return f"`{fields['loss']}` + {fields['classification_weight']:g} `{fields['classification_loss']}`, joint"
    return f"`{fields['loss' if fields['objective'] == 'contrastive' else 'classification_loss']}`"


def main(folder: Path) -> None:
    """One table a data set, test split, in percent."""
    runs: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*/metrics.json")):
        dataset = json.loads((path.parent / "run.json").read_text())["job"]["dataset"]
        runs.setdefault(dataset, []).append(path.parent)
    for dataset, folders in runs.items():
        print(f"\n| {dataset}, test | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
        for path in folders:
            scores = json.loads((path / "metrics.json").read_text())["test"]
            cells = (f"{100 * scores[key]:.1f}" if key in scores else "–" for key in COLUMNS.values())
            print(f"| {objective(json.loads((path / 'run.json').read_text()))} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
