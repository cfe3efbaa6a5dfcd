"""Time and memory of contrastive losses, forward and backward, on one CPU thread. Imports hf_mlcl.

python benchmarks/kernel.py --output benchmarks/results/kernel.json

1. Against a readable implementation of `reg` that holds every (anchor, reference, label) triple: `rank3_reg` below.
2. Against the bare matrix products that no implementation can do without: one for similarities, two for the gradient,
   three over labels, each as one call on whole matrices.
3. Peak memory over the inputs, each case in a fresh process.

Times are medians of interleaved runs, in seconds on the processor, which other programs disturb less than the clock;
only their ratios are quoted. The load average before and after each group of runs is recorded with them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hf_mlcl.losses import CONTRASTIVE_LOSSES, build_loss

DIMENSION, LABELS, LABELS_PER_EXAMPLE = 256, 103, 3
MEMORY_CASES = [("reg", 2048, 103), ("reg", 8192, 103), ("reg", 32768, 103), ("reg", 8192, 4000)]


def rank3_reg(embeddings: Tensor, labels: Tensor, prototypes: Tensor, temperature: float, alpha: float) -> Tensor:
    """`reg` as its formulas read, prototypes as one-hot examples; gradient by autograd."""
    number, width = labels.shape
    vectors = normalize(torch.cat([embeddings, prototypes]))
    sets = torch.cat([labels, torch.eye(width, dtype=labels.dtype)])
    similarities = vectors @ vectors.T / temperature

    common = sets[:, None, :] * sets[None, :, :]  # (anchors, references, labels)
    affinity = (common.sum(2) / sets.sum(1).clamp(min=1)) ** alpha * (common.sum(2) > 0)
    affinity[:number, number:] = labels
    affinity[number:, number:] = 0
    affinity.fill_diagonal_(0)
    mass = (affinity[:, :, None] * common).sum(1, keepdim=True)
    shares = affinity[:, :, None] * common / torch.where(mass > 0, mass, 1)
    weights = shares.sum(2) / sets.sum(1, keepdim=True).clamp(min=1)

    others = ~torch.eye(number + width, dtype=torch.bool)
    log_shares = similarities - similarities.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    push = weights.sum(1, keepdim=True) * log_shares.exp() - weights
    repulsion = torch.where(weights > 0, push.clamp(min=0), 0).detach()
    total = -(weights * log_shares).sum() - (repulsion * similarities).sum()
    return total / (weights.sum(1) > 0).sum()


def make_batch(rows: int, labels: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, multi-hot labels and prototypes: every example has `LABELS_PER_EXAMPLE` random labels."""
    chance = torch.Generator().manual_seed(0)
    embeddings, prototypes = (torch.randn(n, DIMENSION, generator=chance, dtype=dtype) for n in (rows, labels))
    multi_hot = torch.zeros(rows, labels, dtype=dtype)
    multi_hot.scatter_(1, torch.randint(labels, (rows, LABELS_PER_EXAMPLE), generator=chance), 1)
    return embeddings.requires_grad_(), multi_hot, prototypes.requires_grad_()


def step(loss: Callable[..., Tensor], batch: tuple[Tensor, Tensor, Tensor]) -> Callable[[], object]:
    embeddings, labels, prototypes = batch
    return lambda: torch.autograd.grad(
        loss(embeddings, labels, prototypes), [embeddings, prototypes], allow_unused=True
    )


def bare_products(rows: int, labels: int) -> Callable[[], object]:
    """The products that the loss of `rows` anchors and as many references cannot do without."""
    embeddings, multi_hot, _ = make_batch(rows, labels)
    vectors = embeddings.detach()
    similarities = torch.empty(rows, rows)

    def products() -> None:
        torch.mm(vectors, vectors.T, out=similarities)
        similarities @ vectors
        similarities.T @ vectors
        multi_hot @ multi_hot.T
        similarities @ multi_hot
        multi_hot @ multi_hot.T

    return products


def interleaved(steps: dict[str, Callable[[], object]], repeats: int) -> dict:
    """Median seconds on the processor of each step, run in turns after one round of warming up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    before = os.getloadavg()[0]
    for round_number in range(repeats + 1):
        for name, run in steps.items():
            start = time.process_time()
            run()
            if round_number:
                times[name].append(time.process_time() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"cpu_seconds": medians, "load_average": [before, os.getloadavg()[0]]}


def against_rank3(repeats: int) -> dict:
    loss = build_loss("reg")
    batch = make_batch(256, LABELS, torch.float64)
    pair = [[f(*batch), *step(f, batch)()] for f in (loss, lambda *b: rank3_reg(*b, 0.1, 1.0))]
    for ours, theirs in zip(*pair, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    batch = make_batch(256, LABELS)
    result = interleaved({"reg": step(loss, batch), "rank3": step(lambda *b: rank3_reg(*b, 0.1, 1.0), batch)}, repeats)
    return {"rows": 256, "speedup": result["cpu_seconds"]["rank3"] / result["cpu_seconds"]["reg"], **result}


def against_products(rows: int, repeats: int) -> dict:
    batch = make_batch(rows, LABELS)
    steps = {name: step(build_loss(name), batch) for name in CONTRASTIVE_LOSSES}
    result = interleaved({"products": bare_products(rows, LABELS), **steps}, repeats)
    seconds = result["cpu_seconds"]
    return {"rows": rows, "ratio": {name: seconds[name] / seconds["products"] for name in steps}, **result}


def memory_kib(field: str) -> int:
    """A field of this process's status: VmRSS is what it holds, VmHWM the most it has held since its start."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def peak_memory(name: str, rows: int, labels: int) -> dict:
    """MiB over the inputs at the peak of one step; for a fresh process."""
    torch.set_num_threads(1)
    step(build_loss(name), make_batch(8, 4))()  # libraries load what they need at first use
    batch = make_batch(rows, labels)
    before = memory_kib("VmRSS")
    gradients = step(build_loss(name), batch)()
    peak = (memory_kib("VmHWM") - before) / 1024
    assert gradients
    square = 4 * (rows + labels) ** 2 / 2**20
    return {"loss": name, "rows": rows, "labels": labels, "peak_mib": peak, "one_whole_matrix_mib": square}


def in_fresh_process(case: tuple[str, int, int]) -> dict:
    command = [sys.executable, __file__, "--memory_case", *map(str, case)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each step; fewer at 8,192 rows")
    parser.add_argument("--memory_case", nargs=3, metavar=("LOSS", "ROWS", "LABELS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_case:
        name, rows, labels = arguments.memory_case
        return print(json.dumps(peak_memory(name, int(rows), int(labels))))

    torch.set_num_threads(1)
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    results = {
        "command": "python benchmarks/kernel.py --output benchmarks/results/kernel.json",
        "machine": {"cpu": cpu[1] if cpu else platform.processor(), "cores": os.cpu_count(), "threads": 1},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "sizes": {"dimension": DIMENSION, "labels": LABELS, "labels_per_example": LABELS_PER_EXAMPLE},
        "against_rank3": against_rank3(arguments.repeats),
        "against_products": [
            against_products(2048, arguments.repeats),
            against_products(8192, max(1, arguments.repeats // 3)),
        ],
        "memory": [in_fresh_process(case) for case in MEMORY_CASES],
    }
    text = json.dumps(results, indent=2) + "\n"
    if arguments.output:
        arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
