"""How often the statistics of a study tell apart two rows that are equally good, where 5 % is what they promise.

    python benchmarks/study_statistics.py

Simulated logits of two rows differ by what an example does in all seeds, by what a seed does to all examples, by what
an example does in one seed alone, or by all three; the figures are percent of the studies with p < 0.05.
"""

import json
from pathlib import Path

import numpy as np

from hf_mlcl.study.statistics import SCORES, Predictions, bootstrap, difference

RESULTS = Path(__file__).parent / "results" / "study_statistics.json"
NOISE = {"examples": (1, 0, 0.1), "seeds": (0.2, 0.4, 0.6), "both at once": (0, 0, 1), "all": (0.7, 0.15, 0.7)}
EXAMPLES, LABELS, STUDIES, RESAMPLES = 150, 8, 300, 200


def row(rng: np.random.Generator, truth: np.ndarray, noise: tuple[float, float, float], seeds: int) -> dict:
    """Predictions of a row for each seed."""
    of_examples, of_seeds, of_both = noise
    shared = of_examples * rng.normal(size=truth.shape)
    runs = {}
    for seed in range(seeds):
        skill = 1 + of_seeds * rng.normal()
        logits = skill * (2.0 * truth - 1) + shared + of_both * rng.normal(size=truth.shape)
        runs[seed] = Predictions(logits, logits >= 0, truth.astype(np.int8))
    return runs


def main() -> None:
    found = []
    for seeds in (2, 3, 5):
        for name, noise in NOISE.items():
            told = np.zeros(len(SCORES))
            for study in range(STUDIES):
                rng = np.random.default_rng(study)
                truth = rng.random((EXAMPLES, LABELS)) < 0.25
                rows = {one: row(rng, truth, noise, seeds) for one in ("first", "second")}
                scores = bootstrap(rows, RESAMPLES, seed=study)
                told += [one.p < 0.05 for one in difference(scores["first"], scores["second"])]
            percent = dict(zip(SCORES, (100 * told / STUDIES).round(1).tolist(), strict=True))
            found.append({"seeds": seeds, "noise": name, "told_apart": percent})
            print(found[-1], flush=True)
    head = {"command": "python benchmarks/study_statistics.py", "studies": STUDIES, "examples": EXAMPLES}
    RESULTS.write_text(json.dumps(head | {"labels": LABELS, "resamples": RESAMPLES, "found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
