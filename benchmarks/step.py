"""Where the time of a training step goes: data, encoder, loss, backward pass, optimizer; on one CPU thread.

    python benchmarks/step.py --task text --encoder ENCODER --dataset DATASET [--output FILE]
    python benchmarks/step.py --task vision --encoder ENCODER --dataset DATASET --batch_size 128 [--output FILE]

Text: all-MiniLM-L6-v2 on reuters21578, 64 tokens; vision: mobilenet_v2_1.0_224 on clothing, 128 pixels, with
RandAugment. Batches and loss are those of `MLCLTrainer`. `loss` is all that a step has beside the encoder: `reg` with
its backward pass down to embeddings and prototypes, and the counts for the log. `products` are the matrix products of
that loss alone, in float32, for M = examples + labels: similarities (M x M over d), the gradients of anchors and of
references, and three over the labels (B x B over L). `data` is what one process needs for a batch (read, decode,
augment, pad); tokens are made once and found again by the next run, and both are timed.

Parts are processor seconds (`time.process_time`), which leave out what else the machine does; `waiting` is the share
of the clock's time for a batch, with and without a data process beside the step. Medians over the batches but the
first. An output file that exists is kept, and this task's part in it replaced.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from datasets import load_from_disk
from transformers import AutoImageProcessor, AutoTokenizer

from hf_mlcl import (
    MLCLForImageClassification,
    MLCLForSequenceClassification,
    MLCLTrainer,
    MLCLTrainingArguments,
)
from hf_mlcl.data import RandAugment, load_multilabel_dataset, prepare_images, prepare_text, with_image_size
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


def prepared(options: argparse.Namespace, folder: str) -> tuple[Any, Any, Any, dict[str, float]]:
    """The training split as the Trainer takes it, the processor, a model, and what the tokens took."""
    data = load_multilabel_dataset(options.dataset, task=options.task)
    rows = data.splits["train"]
    rows = rows.select(range(min(len(rows), options.batch_size * options.batches)))
    if options.task == "vision":
        processor = with_image_size(AutoImageProcessor.from_pretrained(options.encoder), options.image_size)
        model = MLCLForImageClassification.from_encoder(options.encoder, labels=data.label_names)
        return prepare_images(rows, processor, augmentation=RandAugment()), processor, model, {}
    rows.save_to_disk(folder)  # a cache that is empty
    clock = Clock()
    for name in ("tokenize", "tokenize_again"):
        tokenizer = AutoTokenizer.from_pretrained(options.encoder)
        with clock(name):
            split = prepare_text(load_from_disk(folder), tokenizer, max_length=options.max_length)
    model = MLCLForSequenceClassification.from_encoder(options.encoder, labels=data.label_names)
    return split, tokenizer, model, {name: seconds[0] for name, seconds in clock.seconds.items()}


def one_step(trainer: Any, batch: dict[str, Any], clock: Clock) -> None:
    """A step of contrastive training in the parts that are timed."""
    model = trainer.model
    with clock("encoder_forward"):
        output = model(**{name: value for name, value in batch.items() if name != "labels"})
    # The loss apart from the encoder: down to the gradients of its inputs.
    leaves = {name: output[name].detach().requires_grad_() for name in ("embeddings", "prototypes")}
    with clock("loss"):
        trainer._training_loss(MLCLOutput(**leaves), batch).backward()
    with clock("encoder_backward"):
        torch.autograd.backward([output[name] for name in leaves], [leaf.grad for leaf in leaves.values()])
    with clock("optimizer"):
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()


def products(examples: int, labels: int, dimension: int) -> None:
    """The bare products of the loss; see above."""
    rows = examples + labels
    vectors, targets = torch.randn(rows, dimension), torch.rand(examples, labels)
    square, overlap = vectors @ vectors.T, targets @ targets.T
    square @ vectors, square.T @ vectors
    weighted = overlap @ targets
    weighted @ targets.T


def waiting(trainer: Any, workers: int) -> dict[str, Any]:
    """An epoch with so many data processes: the clock's seconds of a step, and the share that waits for its batch."""
    trainer.args.dataloader_num_workers = workers
    loader = iter(trainer.get_train_dataloader())
    waits, steps = [], []
    while True:
        started = time.perf_counter()
        batch = next(loader, None)
        if batch is None:
            break
        waits.append(time.perf_counter() - started)
        one_step(trainer, batch, Clock())
        steps.append(time.perf_counter() - started)
    seconds = statistics.median(steps[1:])
    return {"workers": workers, "seconds": seconds, "waiting": statistics.median(waits[1:]) / seconds}


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one task."""
    with tempfile.TemporaryDirectory() as folder:
        split, processor, model, tokens = prepared(options, f"{folder}/rows")
        args = MLCLTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=options.batch_size,
            dataloader_num_workers=0,
            use_cpu=True,
            report_to="none",
        )
        trainer = MLCLTrainer(model=model, args=args, train_dataset=split, processing_class=processor)
        trainer.create_optimizer()
        model.train()
        clock, labels = Clock(), len(model.config.label_names)
        loader = iter(trainer.get_train_dataloader())
        for _ in range(options.batches):
            with clock("data"):
                batch = next(loader)
            one_step(trainer, batch, clock)
            for _ in range(5):
                with clock("products"):
                    products(options.batch_size, labels, model.config.projection_dim)
        epochs = [waiting(trainer, workers) for workers in (0, 1)]
    parts = clock.medians()
    bare = parts.pop("products")
    step = sum(seconds for name, seconds in parts.items() if name != "data")
    return {
        "batch_size": options.batch_size,
        "batches": options.batches,
        "labels": labels,
        "inputs": {"tokens": options.max_length} if options.task == "text" else {"pixels": options.image_size},
        "cpu_seconds": {**parts, "products": bare, **tokens},
        "share_of_step": {name: seconds / step for name, seconds in parts.items()},
        "loss_over_products": parts["loss"] / bare,
        "epochs": epochs,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_average": [round(load, 1) for load in os.getloadavg()],
        },
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=("text", "vision"))
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--max_length", type=int, default=64)
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = measured(options)
    print(json.dumps(result, indent=2))
    if options.output:
        recorded = json.loads(options.output.read_text()) if options.output.exists() else {}
        options.output.write_text(json.dumps({**recorded, options.task: result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
