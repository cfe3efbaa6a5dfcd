"""Time and memory of a contrastive step with 1,000 to 100,000 labels, forward and backward, on one CPU thread.

python benchmarks/many_labels.py --output benchmarks/results/many_labels.json

Generated data: 256 examples with up to 10 labels each, label l drawn with probability proportional to 1/(l + 1). The
step takes the labels present and samples 1,000 of the others (`LabelSets`), looks their prototypes up in a table
with sparse gradients, and takes the gradient of the loss. For comparison the same loss over all labels, from rows
of zeros and ones, where its time allows. `trainer` is a whole optimizer step of `MLCLTrainer` with a one-layer BERT:
forward and backward pass, clipping, AdamW; it passes over the table of prototypes (its copy, gradient and two moments)
some times, and takes memory for that. Each point is a process of its own: medians of its seconds on the processor,
which other programs disturb less than the clock, and the peak of its memory over the table and the batch.
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
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.losses import LabelSets, build_loss

EXAMPLES, LABELS_PER_EXAMPLE, DIMENSION, SAMPLE_SIZE = 256, 10, 256, 1000
LABELS = (1_000, 10_000, 100_000)
LOSSES = ("reg", "msc", "proto")


def power_law_lists(num_labels: int) -> Tensor:
    """(EXAMPLES, LABELS_PER_EXAMPLE) label lists; a label drawn twice is there once, the rest is -1."""
    draws = torch.rand(EXAMPLES, LABELS_PER_EXAMPLE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # The inverse of the distribution function of 1/x on [1, L + 1).
    lists = (draws * torch.log(torch.tensor(num_labels + 1.0, dtype=torch.float64))).exp().long() - 1
    lists = lists.clamp(max=num_labels - 1).sort(dim=1).values
    lists[:, 1:][lists[:, 1:] == lists[:, :-1]] = -1
    return lists


def memory_mib(field: str) -> float:
    """A field of this process's status: VmRSS is what it holds, VmHWM the most it has held since its start."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def make_step(name: str, num_labels: int, kind: str) -> Callable[[], None]:
    """One step of a loss, by label lists and a sample of labels, by all labels from lists, or from dense rows."""
    loss, lists = build_loss(name), power_law_lists(num_labels)
    embeddings = torch.randn(EXAMPLES, DIMENSION, generator=torch.Generator().manual_seed(1)).requires_grad_()
    table = nn.Embedding(num_labels, DIMENSION, sparse=kind == "sampled")
    rows = torch.zeros(EXAMPLES, num_labels + 1, dtype=torch.bool)
    if kind == "dense":
        rows.scatter_(1, torch.where(lists < 0, num_labels, lists), True)

    def step() -> None:
        if kind == "sampled":
            value = loss(embeddings, LabelSets.from_ids(lists, num_labels, sample_size=SAMPLE_SIZE), table)
        elif kind == "lists":
            value = loss(embeddings, LabelSets.from_ids(lists, num_labels), table.weight)
        else:
            value = loss(embeddings, rows[:, :num_labels], table.weight)
        value.backward()
        embeddings.grad = table.weight.grad = None

    return step


def make_trainer_step(name: str, num_labels: int) -> Callable[[], None]:
    """An optimizer step of the Trainer by label lists and a sample of labels."""
    sizes = {"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    encoder = AutoModel.from_config(AutoConfig.for_model("bert", vocab_size=1000, **sizes))
    model = MLCLForSequenceClassification.from_encoder(encoder, labels=num_labels, projection_dim=DIMENSION)
    arguments = {"loss": name, "prototype_sample_size": SAMPLE_SIZE, "use_cpu": True, "report_to": "none"}
    trainer = MLCLTrainer(model=model, args=MLCLTrainingArguments(output_dir=tempfile.gettempdir(), **arguments))
    trainer.current_gradient_accumulation_steps = 1
    optimizer = trainer.create_optimizer()
    tokens = torch.randint(1000, (EXAMPLES, 8))
    batch = {"input_ids": tokens, "attention_mask": tokens * 0 + 1, "label_ids": power_law_lists(num_labels)}

    def step() -> None:
        trainer.training_step(model, dict(batch))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(name: str, num_labels: int, kind: str, repeats: int) -> dict:
    """Median seconds of a step and its peak memory over what was there before; for a fresh process."""
    torch.set_num_threads(1)
    make = make_trainer_step if kind == "trainer" else partial(make_step, kind=kind)
    make(name, 50)()  # libraries load what they need at first use
    step = make(name, num_labels)
    before, times = memory_mib("VmRSS"), []
    for _ in range(repeats + 1):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    present = LabelSets.from_ids(power_law_lists(num_labels), num_labels).positives.shape[1]
    return {
        "loss": name,
        "labels": num_labels,
        "labels_present": present,
        "kind": kind,
        "cpu_seconds": statistics.median(times[1:]),
        "peak_mib": memory_mib("VmHWM") - before,
        "table_mib": 4 * num_labels * DIMENSION / 2**20,
    }


def in_fresh_process(*case: object) -> dict:
    command = [sys.executable, __file__, "--case", *map(str, case)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        name, num_labels, kind, repeats = arguments.case
        return print(json.dumps(measure(name, int(num_labels), kind, int(repeats))))

    before = os.getloadavg()[0]
    points = [in_fresh_process(name, number, "sampled", 9) for name in LOSSES for number in LABELS]
    points += [in_fresh_process("reg", number, "trainer", 9) for number in LABELS]
    points += [in_fresh_process("reg", number, "lists", 3) for number in LABELS]
    # Dense rows make all 100,000 prototypes anchors: a matrix of 10**10 pairs, so that size is left out.
    points += [in_fresh_process("reg", number, "dense", 3) for number in LABELS[:2]]
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    results = {
        "command": "python benchmarks/many_labels.py --output benchmarks/results/many_labels.json",
        "machine": {"cpu": cpu[1] if cpu else platform.processor(), "cores": os.cpu_count(), "threads": 1},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "sizes": {
            "examples": EXAMPLES,
            "labels_per_example": LABELS_PER_EXAMPLE,
            "dimension": DIMENSION,
            "sample_size": SAMPLE_SIZE,
        },
        "load_average": [before, os.getloadavg()[0]],
        "points": points,
    }
    text = json.dumps(results, indent=2) + "\n"
    if arguments.output:
        arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
