"""The linear evaluation of 8 grid points x 3 initialisations as one problem against fitting them one by one.

    python benchmarks/linear_evaluation.py [--output FILE]

The reference is a readable loop around torch's own layer, loss, AdamW and schedule, for one grid point and one
initialisation at a time; `loader` reads its batches from torch's `DataLoader` instead of indexing the tensors. Both
start from the same parameters and see the same mini-batches; the greatest difference of the solutions is recorded.
`products` are the two matrix products of each step alone, for all grid points at once: what no arrangement of the same
arithmetic in float32 can do without.

One thread, interleaved, median; seconds of the processor (`time.process_time`), which leaves out what else the machine
does. The one-by-one side fits one initialisation of each grid point, and its time is multiplied by 3: all three cost
the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hf_mlcl.evaluation.linear_evaluation import _Labelled, initial_parameters, train_grid

GRID = list(product((1.0, 0.1), (1.0, 0.1, 0.01, 1e-4)))
INITIALIZATIONS, BATCH, SEED = 3, 256, 0
# Examples, feature_dim, labels, and what has these sizes.
CASES = [
    (1024, 64, 20, "a small encoder"),
    (2048, 384, 20, "MiniLM, 20 labels"),
    (2048, 384, 90, "MiniLM, reuters21578"),
    (1400, 1280, 53, "MobileNetV2, clothing"),
]


def batches(features: Tensor, labels: Tensor, epochs: int, loader: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Mini-batches in the order of `train_grid`, or, from a loader, in another."""
    generator = torch.Generator().manual_seed(SEED + 1)
    if loader:
        rows = torch.utils.data.TensorDataset(features, labels)
        data = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True, generator=generator)
        for _ in range(epochs):
            yield from data
        return
    for _ in range(epochs):
        for batch in torch.randperm(len(features), generator=generator).split(BATCH):
            yield features[batch], labels[batch]


def fit_one(
    features: Tensor, labels: Tensor, initial: Tensor, rate: float, decay: float, epochs: int, loader: bool
) -> Tensor:
    """One grid point from one initialisation L x (feature_dim + 1)."""
    layer = nn.Linear(features.shape[1], labels.shape[1])
    with torch.no_grad():
        layer.weight.copy_(initial[:, :-1])
        layer.bias.copy_(initial[:, -1])
    steps = epochs * -(-len(features) // BATCH)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for inputs, targets in batches(features, labels, epochs, loader):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(layer(inputs), targets).backward()
        optimizer.step()
        schedule.step()
    return torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach()


def bare_products(features: Tensor, num_labels: int, epochs: int) -> None:
    """The two matrix products of every step, on arrays of the right sizes."""
    columns = len(GRID) * INITIALIZATIONS * num_labels
    weights, gradient = torch.randn(columns, features.shape[1]), torch.empty(columns, features.shape[1])
    for inputs, _ in batches(features, features[:, :1], epochs, loader=False):
        torch.mm((inputs @ weights.T).T, inputs, out=gradient)


def measure(examples: int, width: int, num_labels: int, epochs: int, repeats: int) -> dict:
    """Times of all sides, and how far their solutions lie apart."""
    chance = np.random.default_rng(SEED)
    features = chance.standard_normal((examples, width)).astype(np.float32)
    scores = features @ chance.standard_normal((width, num_labels)) / width**0.5
    positive = scores + 0.5 * chance.standard_normal(scores.shape) > 1.8
    data = _Labelled(torch.from_numpy(features), torch.from_numpy(positive), None)
    labels = data.positive.float()
    initial = initial_parameters(INITIALIZATIONS, num_labels, width + 1, SEED)

    def together() -> Tensor:
        return train_grid(data, initial, GRID, epochs, BATCH, SEED, progress=False)

    def one_by_one(loader: bool = False) -> Tensor:
        return torch.stack([fit_one(data.features, labels, initial[0], *point, epochs, loader) for point in GRID])

    together_solutions, alone = together()[:, 0], one_by_one()  # warm up
    sides = {
        "together": (together, 1),
        "one_by_one": (one_by_one, INITIALIZATIONS),
        "one_by_one_loader": (lambda: one_by_one(loader=True), INITIALIZATIONS),
        "products": (lambda: bare_products(data.features, num_labels, epochs), 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, (run, factor) in sides.items():
            started = time.process_time()
            run()
            seconds[name].append((time.process_time() - started) * factor)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "examples": examples,
        "feature_dim": width,
        "labels": num_labels,
        "epochs": epochs,
        "cpu_seconds": median,
        "ratio": median["one_by_one"] / median["together"],
        "ratio_loader": median["one_by_one_loader"] / median["together"],
        "together_over_products": median["together"] / median["products"],
        "largest_difference": (together_solutions - alone).abs().max().item(),
        "largest_parameter": alone.abs().max().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2, help="The protocol has 40; time is proportional to them.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for examples, width, num_labels, name in CASES:
        rows.append({"name": name, **measure(examples, width, num_labels, options.epochs, options.repeats)})
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "rows": rows,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
