"""What gradient caching costs and saves: peak memory against the batch, and the time of a step, on one CPU thread.

    python benchmarks/gradient_cache.py --output benchmarks/results/gradient_cache.json

The encoders are BERTs with random weights (time and memory do not depend on them), the texts random tokens. Memory: a
small encoder; each point is a process of its own, which takes two optimizer steps; the figure is its peak resident
memory less what it had before the first step. Time: the small one, and one of the size of MiniLM; both kinds of step
in one process, taking turns, in processor seconds of one thread, which other programs disturb less than the clock;
the figure is the median of the ratios of neighbours. Beside it stands `floor`, what running all chunks but the last
forward twice must cost: 1 + share of the forward pass in the uncached step x (1 - chunk / batch).
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import transformers
from transformers import AutoConfig, AutoModel

from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments

LABELS, TOKENS, VOCABULARY = 90, 32, 1000
ENCODERS = {
    "small": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512},
    "MiniLM": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
}
BATCHES = (32, 64, 128, 256, 512)
CHUNKS = (None, 16, 32, 64)
TIMED = [(encoder, 256, chunk) for encoder in ENCODERS for chunk in CHUNKS[1:]]
MIB = 2**20


class Step:
    """Optimizer steps of the Trainer on one batch of random texts."""

    def __init__(self, encoder_name: str, rows: int, folder: str) -> None:
        torch.manual_seed(0)
        config = AutoConfig.for_model("bert", vocab_size=VOCABULARY, **ENCODERS[encoder_name])
        encoder = AutoModel.from_config(config)
        args = MLCLTrainingArguments(output_dir=folder, use_cpu=True, report_to="none")
        model = MLCLForSequenceClassification.from_encoder(encoder, labels=LABELS)
        self.trainer = MLCLTrainer(model=model, args=args)
        self.trainer.current_gradient_accumulation_steps = 1
        self.optimizer = self.trainer.create_optimizer()
        self.batch = {
            "input_ids": torch.randint(VOCABULARY, (rows, TOKENS)),
            "attention_mask": torch.ones(rows, TOKENS, dtype=torch.int64),
            "labels": (torch.rand(rows, LABELS) < 0.03).float(),
        }

    def __call__(self, chunk: int | None) -> float:
        """Processor seconds of one step."""
        self.trainer.args.gradient_cache_chunk_size = chunk
        start = time.process_time()
        self.trainer.training_step(self.trainer.model, dict(self.batch))
        torch.nn.utils.clip_grad_norm_(self.trainer.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - start

    def forward(self) -> float:
        """Processor seconds of the forward pass alone."""
        inputs = self.trainer.training_inputs(self.batch)
        start = time.process_time()
        self.trainer.model(**inputs)
        return time.process_time() - start


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_memory(rows: int, chunk: int | None) -> int:
    """MiB that two steps need at most, beside what was there before; for a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        step = Step("small", rows, folder)
        before = resident()
        for _ in range(2):
            step(chunk)
    return round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / MIB)


def times(encoder: str, rows: int, chunk: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds in which the two kinds of step take turns."""
    with tempfile.TemporaryDirectory() as folder:
        step = Step(encoder, rows, folder)
        step(None), step(chunk)
        taken = [(step(None), step(chunk), step.forward()) for _ in range(rounds)]
    share = statistics.median(forward / plain for plain, _, forward in taken)
    return {
        "encoder": encoder,
        "batch": rows,
        "chunk": chunk,
        "uncached_seconds": round(statistics.median(plain for plain, _, _ in taken), 3),
        "cached_seconds": round(statistics.median(cached for _, cached, _ in taken), 3),
        "ratio": round(statistics.median(cached / plain for plain, cached, _ in taken), 3),
        "floor": round(1 + share * (1 - chunk / rows), 3),
        "ratios": [round(cached / plain, 3) for plain, cached, _ in taken],
    }


def in_fresh_process(*arguments: object) -> Any:
    command = [sys.executable, __file__, "--point", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.point:
        rows, chunk = options.point
        print(peak_memory(int(rows), None if chunk == "None" else int(chunk)))
        return
    load = os.getloadavg()
    memory = []
    for chunk in CHUNKS:
        for rows in options.batches:
            if chunk is None or chunk < rows:
                memory.append({"batch": rows, "chunk": chunk, "peak_mib": in_fresh_process(rows, chunk)})
                print(memory[-1], flush=True)
    timed = []
    for encoder, rows, chunk in TIMED:
        timed.append(times(encoder, min(rows, max(options.batches)), chunk, options.rounds))
        print(timed[-1], flush=True)
    result = {
        "command": "python benchmarks/gradient_cache.py",
        "encoders": ENCODERS,
        "sizes": {"tokens": TOKENS, "labels": LABELS},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": 1,
            "load_average_before_and_after": [round(load[0], 1), round(os.getloadavg()[0], 1)],
        },
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "peak_memory": memory,
        "time": timed,
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
