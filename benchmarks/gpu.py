"""What `gpu.sh` measures on one GPU: the kernel, a whole step, torch.compile, and gradient caching.

    python benchmarks/gpu.py --output FILE      on a GPU; without one it says so and exits 0
    python benchmarks/gpu.py --dry_run          the same code with tiny sizes on a CPU: nothing is measured or written

Kernel: the loss `base` (forward and backward) for M examples, L = 103 labels, d = 256, against its direct form (all
M x M matrices, gradient by autograd) and against its bare products in bfloat16: one of similarities, two of gradients,
one over the labels. Step: an encoder of BERT's size with random weights, 256 texts of 64 tokens, `reg`, 103 labels;
"ours" is what follows the encoder's output: the loss and its backward pass down to embeddings and prototypes.
Gradient caching: peak memory and time of a step of 1,024 texts against the chunk.

Times are medians between events on the GPU, after warming up; memory is what torch has allocated at most.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModel

from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments, build_loss
from hf_mlcl.models import MLCLOutput

TEMPERATURE = 0.1


@dataclass(frozen=True)
class Sizes:
    """Where it runs and how large everything is."""

    device: str
    examples: tuple[int, ...]
    labels: int
    dimension: int
    encoder: dict[str, int]
    batch: int
    tokens: int
    cached_batch: int
    chunks: tuple[int | None, ...]
    repeats: int


BERT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
ON_GPU = Sizes(
    "cuda", (2048, 8192, 16384, 32768, 65536), 103, 256, BERT, 256, 64, 1024, (None, 16, 32, 64, 128, 256, 512), 20
)
DRY_RUN = Sizes("cpu", (16, 32), 5, 8, TINY, 8, 6, 8, (None, 2, 4), 1)


def milliseconds(run: Callable[[], Any], sizes: Sizes) -> float | None:
    """Median time of a call, None where the memory does not suffice."""
    try:
        run()
        return statistics.median(_milliseconds(run, sizes.device) for _ in range(sizes.repeats))
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None


def _milliseconds(run: Callable[[], Any], device: str) -> float:
    if device == "cpu":
        started = time.perf_counter()
        run()
        return (time.perf_counter() - started) * 1e3
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    run()
    after.record()
    torch.cuda.synchronize()
    return before.elapsed_time(after)


def peak_mib(run: Callable[[], Any], device: str) -> float | None:
    """MiB that a call allocates at most over what was there; None where the memory does not suffice, or on a CPU."""
    if device == "cpu":
        run()
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        run()
        torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def direct_form(embeddings: Tensor, labels: Tensor) -> Tensor:
    """The loss `base` as it is written: Jaccard weights, softmax over the others, all matrices at once."""
    vectors = torch.nn.functional.normalize(embeddings)
    common = labels @ labels.T
    sizes = labels.sum(1)
    jaccard = (common / (sizes[:, None] + sizes - common).clamp(min=1)).fill_diagonal_(0)
    sums = jaccard.sum(1, keepdim=True)
    similarities = vectors @ vectors.T / TEMPERATURE
    own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logarithms = similarities.masked_fill(own, -torch.inf).log_softmax(1).masked_fill(own, 0)
    return -(jaccard / sums.clamp(min=1e-12) * logarithms).sum() / (sums > 0).sum().clamp(min=1)


def with_backward(loss: Callable[..., Tensor], embeddings: Tensor, *others: Tensor) -> Tensor:
    """Value of a loss after its backward pass."""
    embeddings.grad = None
    value = loss(embeddings, *others)
    value.backward()
    return value.detach()


def kernel(sizes: Sizes) -> list[dict[str, Any]]:
    """The kernel against its direct form and bare products."""
    rows, loss = [], build_loss("base", temperature=TEMPERATURE)
    compiled = torch.compile(loss) if sizes.device == "cuda" else loss
    for examples in sizes.examples:
        chance = torch.Generator().manual_seed(0)
        labels = (torch.rand(examples, sizes.labels, generator=chance) < 3 / sizes.labels).float().to(sizes.device)
        embeddings = torch.randn(examples, sizes.dimension, generator=chance).to(sizes.device).requires_grad_()
        half, targets = embeddings.detach().bfloat16(), labels.bfloat16()

        def products(half: Tensor = half, targets: Tensor = targets) -> None:
            # In blocks of rows: all M x M at once would not fit for the largest M.
            for rows in half.split(4096):
                similarities = rows @ half.T
                similarities @ half, similarities.T @ rows
            for rows in targets.split(4096):
                rows @ targets.T

        row: dict[str, Any] = {"examples": examples}
        if examples <= 2048:
            ours, plain = (with_backward(one, embeddings, labels).item() for one in (loss, direct_form))
            row["difference_to_direct_form"] = abs(ours - plain)
        sides = {"ours": loss, "compiled": compiled, "direct_form": direct_form}
        for name, side in sides.items():

            def run(side: Any = side, embeddings: Tensor = embeddings, labels: Tensor = labels) -> Tensor:
                return with_backward(side, embeddings, labels)

            row[f"{name}_ms"], row[f"{name}_mib"] = milliseconds(run, sizes), peak_mib(run, sizes.device)
        row["products_bf16_ms"] = milliseconds(products, sizes)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def text_model(sizes: Sizes) -> Any:
    """An encoder with random weights and its heads: neither time nor memory depends on the weights."""
    torch.manual_seed(0)
    encoder = AutoModel.from_config(AutoConfig.for_model("bert", vocab_size=1000, **sizes.encoder))
    model = MLCLForSequenceClassification.from_encoder(encoder, labels=sizes.labels, projection_dim=sizes.dimension)
    return model.to(sizes.device)


def text_batch(rows: int, sizes: Sizes) -> dict[str, Tensor]:
    """Random tokens with labels."""
    chance = torch.Generator().manual_seed(0)
    batch = {
        "input_ids": torch.randint(1000, (rows, sizes.tokens), generator=chance),
        "attention_mask": torch.ones(rows, sizes.tokens, dtype=torch.int64),
        "labels": (torch.rand(rows, sizes.labels, generator=chance) < 3 / sizes.labels).float(),
    }
    return {name: value.to(sizes.device) for name, value in batch.items()}


def step(sizes: Sizes) -> list[dict[str, Any]]:
    """Whole steps in three precisions, plain and compiled, and our share of them."""
    batch = text_batch(sizes.batch, sizes)
    labels, inputs = batch["labels"], {name: value for name, value in batch.items() if name != "labels"}
    rows = []
    for precision in ("fp32", "bf16", "fp16") if sizes.device == "cuda" else ("fp32", "bf16"):
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        for compiled in (False, True) if sizes.device == "cuda" else (False,):
            model = text_model(sizes).train()
            model.freeze_unused_parameters()
            forward = torch.compile(model) if compiled else model
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-5)
            scaler = torch.amp.GradScaler(sizes.device, enabled=precision == "fp16")

            def outputs(forward: Any = forward, dtype: torch.dtype = dtype) -> MLCLOutput:
                with torch.autocast(sizes.device, dtype=dtype, enabled=dtype != torch.float32):
                    return forward(**inputs)

            def whole(
                model: Any = model, optimizer: Any = optimizer, scaler: Any = scaler, outputs: Any = outputs
            ) -> None:
                loss = model.objective_losses(outputs(), labels)["loss"]
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()

            given = outputs()
            leaves = {name: given[name].detach().requires_grad_() for name in ("embeddings", "prototypes")}

            def ours(model: Any = model, leaves: dict[str, Tensor] = leaves) -> None:
                model.objective_losses(MLCLOutput(**leaves), labels)["loss"].backward()

            whole_ms, ours_ms = milliseconds(whole, sizes), milliseconds(ours, sizes)
            row = {"precision": precision, "compiled": compiled, "step_ms": whole_ms, "ours_ms": ours_ms}
            row["ours_share"] = ours_ms / whole_ms if whole_ms and ours_ms else None
            row["finite"] = all(bool(p.isfinite().all()) for p in model.parameters())
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def gradient_caching(sizes: Sizes) -> list[dict[str, Any]]:
    """Peak memory and time of a step of the Trainer against the chunk; none before the argument exists."""
    if "gradient_cache_chunk_size" not in MLCLTrainingArguments.__dataclass_fields__:
        return []
    rows, batch = [], text_batch(sizes.cached_batch, sizes)
    on_gpu = sizes.device == "cuda"
    for chunk in sizes.chunks:
        with tempfile.TemporaryDirectory() as folder:
            args = MLCLTrainingArguments(output_dir=folder, report_to="none", bf16=on_gpu, use_cpu=not on_gpu)
            args.gradient_cache_chunk_size = chunk  # type: ignore[attr-defined]
            trainer = MLCLTrainer(model=text_model(sizes), args=args)
            trainer.current_gradient_accumulation_steps = 1

            def run(trainer: Any = trainer) -> None:
                trainer.training_step(trainer.model, dict(batch))
                trainer.model.zero_grad()

            row = {"batch": sizes.cached_batch, "chunk": chunk}
            row |= {"peak_mib": peak_mib(run, sizes.device), "step_ms": milliseconds(run, sizes)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--dry_run", action="store_true", help="Tiny sizes on a CPU; nothing is measured or written.")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        print("benchmarks/gpu.py: no GPU here; nothing was measured, nothing is claimed")
        return
    sizes = DRY_RUN if options.dry_run else ON_GPU
    measured = {"kernel": kernel(sizes), "step": step(sizes), "gradient_caching": gradient_caching(sizes)}
    if options.dry_run:
        print("benchmarks/gpu.py: dry run on a CPU; nothing was measured, nothing is claimed")
        return
    result = {
        "device": torch.cuda.get_device_name(),
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__},
        "sizes": {name: value for name, value in vars(sizes).items()},
        **measured,
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
