"""Where the time of a training step goes: data, encoder, loss, backward pass, optimizer; on one CPU thread.

    python benchmarks/step.py --task text --encoder ENCODER --dataset DATASET [--output FILE]
    python benchmarks/step.py --task vision --encoder ENCODER --dataset DATASET --batch_size 128 [--output FILE]

Text: all-MiniLM-L6-v2 on reuters21578; vision: mobilenet_v2_1.0_224 on clothing, with RandAugment. The loss is `reg`
with its backward pass down to embeddings and prototypes; `products` are its matrix products alone, in float32, for
M = examples + labels: similarities (M x M over d), the gradients of anchors and references, and three over the labels
(B x B over L). `data` is what one process needs to make a batch (read, decode, augment, pad); the tokens themselves
were made once, for all epochs. A data process prepares the next batch during a step, so data is hidden where it takes
less than the rest.

Processor seconds (`time.process_time`), which leave out what else the machine does; median over the batches.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from transformers import AutoImageProcessor, AutoTokenizer

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.data import (
    MultiLabelCollator,
    RandAugment,
    load_multilabel_dataset,
    prepare_images,
    prepare_text,
    with_image_size,
)
from hf_mlcl.models import MLCLOutput


class Clock:
    """Processor seconds of named parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.process_time()
        yield
        self.seconds.setdefault(name, []).append(time.process_time() - started)

    def medians(self) -> dict[str, float]:
        # The first batch warms up: memory is taken, kernels are chosen.
        return {name: statistics.median(values[1:] or values) for name, values in self.seconds.items()}


def prepared(options: argparse.Namespace) -> tuple[Any, Any, Any, list[str]]:
    """The training split as the Trainer takes it, the processor, an untrained model, and the label names."""
    data = load_multilabel_dataset(options.dataset, task=options.task)
    rows = data.splits["train"].select(range(min(len(data.splits["train"]), options.batch_size * options.batches)))
    if options.task == "text":
        tokenizer = AutoTokenizer.from_pretrained(options.encoder)
        split = prepare_text(rows, tokenizer, max_length=options.max_length)
        model = MLCLForSequenceClassification.from_encoder(options.encoder, labels=data.label_names)
        return split, tokenizer, model, data.label_names
    processor = with_image_size(AutoImageProcessor.from_pretrained(options.encoder), options.image_size)
    split = prepare_images(rows, processor, augmentation=RandAugment())
    model = MLCLForImageClassification.from_encoder(options.encoder, labels=data.label_names)
    return split, processor, model, data.label_names


def one_step(model: Any, optimizer: torch.optim.Optimizer, batch: dict[str, Any], clock: Clock) -> None:
    """A step of contrastive training in the parts that are timed."""
    labels = batch["labels"]
    with clock("encoder_forward"):
        output = model(**{name: value for name, value in batch.items() if name != "labels"})
    # The loss apart from the encoder: down to the gradients of its inputs.
    leaves = {name: output[name].detach().requires_grad_() for name in ("embeddings", "prototypes")}
    with clock("loss"):
        model.objective_losses(MLCLOutput(**leaves), labels)["loss"].backward()
    with clock("encoder_backward"):
        torch.autograd.backward([output[name] for name in leaves], [leaf.grad for leaf in leaves.values()])
    with clock("optimizer"):
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def products(examples: int, labels: int, dimension: int) -> None:
    """The bare products of the loss; see above."""
    rows = examples + labels
    vectors, targets = torch.randn(rows, dimension), torch.rand(examples, labels)
    square, overlap = vectors @ vectors.T, targets @ targets.T
    square @ vectors, square.T @ vectors
    weighted = overlap @ targets
    weighted @ targets.T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=("text", "vision"))
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--max_length", type=int, default=32)
    parser.add_argument("--image_size", type=int, default=96)
    parser.add_argument("--output")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clock = Clock()
    with clock("prepare_once"):
        split, processor, model, names = prepared(options)
    model.train()
    model.freeze_unused_parameters()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-5, weight_decay=0.01)
    collate = MultiLabelCollator(processor, len(names))
    loader = iter(torch.utils.data.DataLoader(split, options.batch_size, collate_fn=collate, drop_last=True))
    for _ in range(len(split) // options.batch_size):
        with clock("data"):
            batch = next(loader)
        one_step(model, optimizer, batch, clock)
        for _ in range(5):
            with clock("products"):
                products(options.batch_size, len(names), model.config.projection_dim)
    parts = clock.medians()
    bare = parts.pop("products")
    parts.pop("prepare_once")
    step = sum(seconds for name, seconds in parts.items() if name != "data")
    result = {
        "task": options.task,
        "batch_size": options.batch_size,
        "batches": len(split) // options.batch_size,
        "labels": len(names),
        "inputs": {"tokens": options.max_length} if options.task == "text" else {"pixels": options.image_size},
        "cpu_seconds": parts,
        "share_of_step": {name: seconds / step for name, seconds in parts.items()},
        "products_seconds": bare,
        "loss_over_products": parts["loss"] / bare,
        "data_processes_that_hide_data": math.ceil(parts["data"] / step),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(result, indent=2))
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
