"""What `length_sorted_chunks` saves: training steps with it and without, in turn, on one CPU thread.

    python benchmarks/length_chunks.py --encoder ENCODER --dataset DATASET [--max_length 64] [--batch_size 128]
        [--costs 16 64 256] [--gradient_cache_chunk_size 16] [--output FILE]

A step is forward pass, loss (the joint objective) and backward pass, in float32. Seconds are the processor's
(`time.process_time`), which leave out what else the machine does. `padded` and `chunked` are tokens that the
encoder sees for each token of the texts, without gradient caching. With `--costs`, also with other guesses of what
one more pass of the encoder costs. With gradient caching its chunks are of equal work where `length_sorted_chunks`
is on, and of equally many texts in the order of the batch where it is off. An output file that exists is kept, and
the part of this dataset, length and batch size replaced.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from transformers import AutoTokenizer

from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import load_multilabel_dataset, prepare_text
from hf_mlcl.models import length_chunks_mlcl


def tokens(batch: dict[str, Any], cost: int) -> int:
    """Tokens that the encoder sees of a batch in chunks, padding included."""
    length_chunks_mlcl._COST_OF_A_PASS = cost
    chunks = [chunk.inputs for chunk in length_chunks_mlcl.length_chunks(batch)] or [batch]
    return sum(inputs["attention_mask"].numel() for inputs in chunks)


def measured(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """All figures of one dataset, length and batch size."""
    data = load_multilabel_dataset(
        options.dataset, task="text", max_train_samples=options.batch_size * options.batches
    )
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    model = MLCLForSequenceClassification.from_encoder(
        options.encoder, labels=data.label_names, objective="joint", classification_weight=1.0
    )
    args = MLCLTrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=options.batch_size,
        gradient_cache_chunk_size=options.gradient_cache_chunk_size,
        use_cpu=True,
        report_to="none",
    )
    rows = prepare_text(data.splits["train"], tokenizer, max_length=options.max_length)
    trainer = MLCLTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    batches = list(trainer.get_train_dataloader())
    usual = length_chunks_mlcl._COST_OF_A_PASS
    costs = sorted({usual, *options.costs})

    def seconds(cost: int | None) -> float:
        model.length_sorted_chunks = cost is not None
        length_chunks_mlcl._COST_OF_A_PASS = cost or usual
        started = time.process_time()
        for batch in batches:
            trainer.training_step(model, batch)
            model.zero_grad()
        return time.process_time() - started

    seconds(usual)  # warms up
    rounds = [{cost: seconds(cost) for cost in (None, *costs)} for _ in range(options.rounds)]
    need = sum(int(batch["attention_mask"].sum()) for batch in batches)
    return {
        "dataset": Path(options.dataset).name,
        "max_length": options.max_length,
        "batch_size": options.batch_size,
        "batches": len(batches),
        "gradient_cache_chunk_size": options.gradient_cache_chunk_size,
        "padded": sum(batch["attention_mask"].numel() for batch in batches) / need,
        "chunked": {cost: sum(tokens(batch, cost) for batch in batches) / need for cost in costs},
        "times_as_fast": {cost: statistics.median(one[None] / one[cost] for one in rounds) for cost in costs},
        "each_round": [[round(one[None] / one[cost], 3) for one in rounds] for cost in costs],
        "cost_of_a_pass": usual,
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--max_length", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--costs", type=int, nargs="*", default=[])
    parser.add_argument("--gradient_cache_chunk_size", type=int)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        result = measured(options, folder)
    print(json.dumps(result, indent=2))
    if options.output:
        recorded = json.loads(options.output.read_text()) if options.output.exists() else {}
        name = f"{result['dataset']}, {options.max_length} tokens, batch {options.batch_size}"
        if options.gradient_cache_chunk_size:
            name += f", cached by {options.gradient_cache_chunk_size}"
        options.output.write_text(json.dumps({**recorded, name: result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
