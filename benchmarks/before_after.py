"""Two versions of the package, the same benchmarks, run in turn: what a change costs or saves.

    git worktree add ../before COMMIT
    python benchmarks/before_after.py ../before . --text_dataset DIR --text_encoder DIR \
        --image_dataset DIR --image_encoder DIR --output FILE

Each version runs its own `kernel.py`, `step.py`, `many_labels.py` and `prediction.py`, in turn with the other, so that
both see the same machine. Processor seconds and MiB; of several runs the smallest counts, and of an after the ratio to
the before. A figure that only one version has is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COUNTED = ("cpu_seconds", "peak_mib")


def figures(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, float]]:
    """The processor seconds and MiB of a result, named by the keys and sizes on the way to them."""
    if isinstance(value, dict):
        sizes = (value.get(key) for key in ("loss", "rows", "labels", "kind"))
        here = path + tuple(str(size) for size in sizes if isinstance(size, (str, int)))
        for key, part in value.items():
            yield from figures(part, (*here, key))
    elif isinstance(value, list):
        if value and all(isinstance(part, float) for part in value):
            yield from figures(min(value), path)
        elif value and isinstance(value[0], dict):
            for part in value:
                yield from figures(part, path)
    elif isinstance(value, (int, float)) and any(key in path for key in COUNTED):
        yield " ".join(word for word in path if word not in ("points", "cpu_seconds")), float(value)


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    texts = ["--encoder", options.text_encoder]
    images = ["--encoder", options.image_encoder, "--dataset", options.image_dataset]
    return {
        "kernel": ["kernel.py", "--repeats", "5"],
        "step text": ["step.py", "--task", "text", *texts, "--dataset", options.text_dataset, "--batches", "3"],
        "step vision": ["step.py", "--task", "vision", *images, "--batch_size", "128", "--batches", "3"],
        "many_labels": ["many_labels.py"],
        "prediction": [
            *("prediction.py", *texts, "--texts", str(Path(options.text_dataset, "test.parquet"))),
            *("--count", "100", "--repeats", "2"),
        ],
    }


def run(tree: Path, command: list[str], folder: Path) -> dict[str, float]:
    target = folder / "result.json"
    target.unlink(missing_ok=True)
    words = [sys.executable, "-W", "ignore", str(tree / "benchmarks" / command[0]), *command[1:], "--output", target]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tree}: {command[0]} failed:\n{done.stderr[-2000:]}")
    return dict(figures(json.loads(target.read_text())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="Folder of one version")
    parser.add_argument("after", type=Path, help="Folder of the other")
    for name in ("text_dataset", "text_encoder", "image_dataset", "image_encoder"):
        parser.add_argument(f"--{name}", required=True, type=lambda text: str(Path(text).resolve()))
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="Names of benchmarks; default: all")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    trees = {"before": options.before.resolve(), "after": options.after.resolve()}
    commit = ["git", "rev-parse", "--short", "HEAD"]
    result: dict[str, Any] = {
        "command": "python benchmarks/before_after.py BEFORE AFTER ...",
        "commits": {n: subprocess.check_output(commit, cwd=t, text=True).strip() for n, t in trees.items()},
    }
    if options.output.exists():
        result = {**json.loads(options.output.read_text()), **result}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(options).items():
            if options.only and name not in options.only:
                continue
            found: dict[str, dict[str, float]] = {side: {} for side in trees}
            for turn in range(options.runs):
                for side in sorted(trees, reverse=turn % 2 == 0):
                    for what, value in run(trees[side], command, Path(folder)).items():
                        found[side][what] = min(value, found[side].get(what, value))
            both = [what for what in found["before"] if what in found["after"]]
            result[name] = {
                what: {
                    **{side: float(f"{found[side][what]:.4g}") for side in trees},
                    "ratio": round(found["after"][what] / found["before"][what], 3) if found["before"][what] else None,
                }
                for what in both
            }
            options.output.write_text(json.dumps(result, indent=1) + "\n")
            for what, row in result[name].items():
                print(f"{name:<12}{what:<60}{row['before']:>12}{row['after']:>12}{row['ratio'] or 0:>8}", flush=True)


if __name__ == "__main__":
    main()
