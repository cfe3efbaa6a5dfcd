"""The cost of `reg` over batch sizes and numbers of labels, with the bare matrix products beside it, and its memory.

    python benchmarks/kernel_curve.py --output benchmarks/results/kernel_curve.json

One forward and backward pass on one CPU thread, with the counts for the log; each case in a process of its own. Every
example has three labels; from 10,000 labels on they are given as lists. `limit` are the products that no
implementation can do without, in blocks of rows: of A = examples + labels that occur as anchors and M = examples + all
labels as references, similarities (A x M over d) and the gradients of both, and three over the labels that occur
(B x B). Seconds are the processor's, the best of the rounds, which are in turn. `peak_mib` is the peak over the
inputs and gradients of the step. The last case is a step of `MLCLTrainer` with a tiny encoder and gradient caching,
and its peak over encoder, embeddings and batch. Beside the JSON file a figure is drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from hf_mlcl.losses import LabelSets, build_loss

DIMENSION, LABELS_PER_EXAMPLE, LISTS_FROM = 256, 3, 10_000
EXAMPLES = [(rows, 100) for rows in (1024, 2048, 4096, 8192, 16384, 32768, 65536)]
LABELS = [(2048, labels) for labels in (100, 1000, 10_000, 100_000)]
_LEAST_SECONDS = 3.0  # of the rounds of a case: short ones are repeated more often
_BLOCK = 512  # rows of the bare products that are held at once


class PeakMemory:
    """The peak of a process's own memory while a block runs, over what it had before, in MiB.

    Of anonymous pages (RssAnon), asked for every two milliseconds: the kernel counts no peak of them, and libraries,
    whose pages come and go, are no memory of the work.
    """

    def __enter__(self) -> PeakMemory:
        self.before = self.most = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self.mib = self.most - self.before

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> float:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1]) / 1024


def label_ids(rows: int, labels: int, chance: torch.Generator) -> Tensor:
    """Three different labels of each example, ascending."""
    steps = torch.randint(1, max(labels // LABELS_PER_EXAMPLE, 2), (rows, LABELS_PER_EXAMPLE), generator=chance)
    return ((torch.randint(labels, (rows, 1), generator=chance) + steps.cumsum(1)) % labels).sort(1).values


def make_batch(rows: int, labels: int) -> tuple[Tensor, Tensor | LabelSets, Tensor]:
    chance = torch.Generator().manual_seed(0)
    embeddings, prototypes = (torch.randn(n, DIMENSION, generator=chance).requires_grad_() for n in (rows, labels))
    ids = label_ids(rows, labels, chance)
    if labels >= LISTS_FROM:
        return embeddings, LabelSets.from_ids(ids, labels), prototypes
    return embeddings, torch.zeros(rows, labels).scatter_(1, ids, 1), prototypes


def bare_products(embeddings: Tensor, labels: Any, prototypes: Tensor) -> Callable[[], None]:
    sets = LabelSets.of(labels).positives
    vectors = embeddings.detach()
    references = torch.cat([vectors, prototypes.detach()])
    anchors = references[: len(vectors) + sets.shape[1]]

    def products() -> None:
        of_anchors, of_references = torch.empty_like(anchors), torch.zeros_like(references)
        for start in range(0, len(anchors), _BLOCK):
            part = anchors[start : start + _BLOCK]
            similarities = part @ references.T
            torch.mm(similarities, references, out=of_anchors[start : start + _BLOCK])
            of_references.addmm_(similarities.T, part)
        for start in range(0, len(sets), _BLOCK):
            common = sets[start : start + _BLOCK] @ sets.T
            common @ sets
            sets[start : start + _BLOCK] @ sets.T

    return products


def seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def loss_case(rows: int, labels: int, rounds: int) -> dict[str, Any]:
    loss = build_loss("reg")
    loss.count_positives = True

    def step(batch: Any) -> list[Tensor]:
        embeddings, sets, prototypes = batch
        return list(torch.autograd.grad(loss(embeddings, sets, prototypes), [embeddings, prototypes]))

    step(make_batch(8, 4))  # libraries load what they need at first use
    batch = make_batch(rows, labels)
    with PeakMemory() as memory:
        gradients = step(batch)
    peak = memory.mib - sum(4 * gradient.numel() for gradient in gradients) / 2**20
    products = bare_products(*batch)
    both: list[tuple[float, float]] = []
    while len(both) < rounds or sum(map(sum, both)) < _LEAST_SECONDS:
        both.append((seconds(lambda: step(batch)), seconds(products)))
    ours, limit = (min(values) for values in zip(*both, strict=True))
    return {
        "examples": rows,
        "labels": labels,
        "seconds": ours,
        "limit": limit,
        "ratio": ours / limit,
        "peak_mib": peak,
    }


def trainer_case(rows: int, labels: int) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import BertConfig, BertModel

    from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    model = MLCLForSequenceClassification.from_encoder(BertModel(BertConfig(vocab_size=1000, **sizes)), labels=labels)
    chance = torch.Generator().manual_seed(0)
    ids = label_ids(rows, labels, chance)
    data = Dataset.from_dict(
        {
            "input_ids": torch.randint(1000, (rows, 16), generator=chance).numpy(),
            "attention_mask": torch.ones(rows, 16, dtype=torch.int64).numpy(),
            "labels": torch.zeros(rows, labels).scatter_(1, ids, 1).bool().numpy(),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        args = MLCLTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=rows,
            gradient_cache_chunk_size=64,
            use_cpu=True,
            report_to="none",
        )
        trainer = MLCLTrainer(model=model, args=args, train_dataset=data)
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        batch = next(iter(trainer.get_train_dataloader()))
        small = {name: value[:64] for name, value in batch.items()}
        trainer.training_step(model, small)  # what is loaded and kept at first use
        with PeakMemory() as memory:
            took = seconds(lambda: trainer.training_step(model, batch))
    embeddings = 4 * rows * (model.config.projection_dim + model.config.feature_dim) / 2**20
    return {"examples": rows, "labels": labels, "seconds": took, "peak_mib": memory.mib, "embeddings_mib": embeddings}


def in_fresh_process(kind: str, *numbers: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", kind, *map(str, numbers)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, name in zip(axes, ("over_examples", "over_labels"), ("examples", "labels"), strict=True):
        cases = result[key]
        sizes = [case[name] for case in cases]
        axis.loglog(sizes, [case["seconds"] for case in cases], "o-", label="reg, value and gradient")
        axis.loglog(sizes, [case["limit"] for case in cases], "s--", label="bare matrix products")
        other = "100 labels" if name == "examples" else f"{cases[0]['examples']:,} examples"
        axis.set(xlabel=f"{name} ({other})", ylabel="processor seconds, one thread")
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most_examples", type=int, default=65536)
    parser.add_argument("--case", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.case:
        kind, *numbers = options.case
        print(json.dumps((loss_case if kind == "loss" else trainer_case)(*map(int, numbers))))
        return
    cases = [case for case in EXAMPLES if case[0] <= options.most_examples]

    def rounds(examples: int, labels: int) -> int:
        return options.rounds if examples <= 8192 and labels <= LISTS_FROM else 1

    result: dict[str, Any] = {
        "command": "python benchmarks/kernel_curve.py --output benchmarks/results/kernel_curve.json",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "over_examples": [in_fresh_process("loss", *case, rounds(*case)) for case in cases],
        "over_labels": [in_fresh_process("loss", *case, rounds(*case)) for case in LABELS],
        "trainer": in_fresh_process("trainer", 8192, 100),
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
        draw(result, options.output.with_suffix(".svg"))


if __name__ == "__main__":
    main()
