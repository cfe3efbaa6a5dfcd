"""Predicts memory and communication of a training step on 1 to 1,024 GPUs from pieces that were measured.

    python benchmarks/scaling.py                    prints the tables of docs/scaling.md from the recorded pieces
    python benchmarks/scaling.py --measure ENCODER  measures the pieces again, on a CPU, into results/scaling.json
    python benchmarks/scaling.py --check ENCODER    trains on 1 and on 2 CPU processes and records what that took

Measured: the trained parameters of a model; the bytes that its forward pass keeps for the backward pass of an example
(what autograd saves, each storage once); and what the loss takes beside its inputs, as numbers of vectors a reference
and of matrices a block of rows (what it has allocated at most, with embeddings of two sizes). Everything else is a
formula of this file, and what it prints is a prediction; `--check` compares it with two small trainings.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from hf_mlcl.losses import kernel

RECORDED = Path(__file__).resolve().parent / "results" / "scaling.json"
WORLDS = (1, 2, 4, 8, 16, 64, 256, 1024)
FLOAT = 4  # bytes of a float32
CHECKED = 32  # examples a process in `--check`


@dataclass(frozen=True)
class Pieces:
    """What was measured, and the sizes it was measured for.

    Attributes:
        parameters: trained parameters of encoder and heads.
        saved_bytes: of one example, kept by the forward pass for the backward pass.
        loss_vectors: what the loss holds at its peak beside its inputs, in vectors of size d a reference.
        loss_matrices: and in matrices of the size of one block of rows.
        tokens, labels, dimension: tokens an example, labels L, size d of the embeddings.
    """

    parameters: int
    saved_bytes: int
    loss_vectors: float
    loss_matrices: float
    tokens: int
    labels: int
    dimension: int


def block_entries(rows: int) -> int:
    """Entries of a block of the loss on a GPU, for so many examples and labels: all pairs, or as many as fit."""
    return min(rows, kernel.rows_per_block(rows, torch.device("cuda"))) * rows


def memory(
    pieces: Pieces, world: int, batch: int, sharding: str = "ddp", chunk: int | None = None
) -> dict[str, float]:
    """Predicted bytes on each GPU, by part.

    Args:
        world: GPUs.
        batch: examples a GPU.
        sharding: "ddp" keeps everything everywhere, on several GPUs with a copy of the gradients to be averaged;
            "zero2" shares out gradients and AdamW's two moments, "fsdp2" (as ZeRO-3) the parameters as well, all of
            which it needs again layer by layer (not counted).
        chunk: rows the encoder runs at once under gradient caching; None for all.
    """
    references = world * batch
    whole = FLOAT * pieces.parameters
    parts = {"ddp": (1, 1), "zero2": (1, world), "fsdp2": (world, world)}[sharding]
    return {
        "parameters": whole / parts[0],
        "gradients": whole / parts[1],
        "buckets": whole if sharding == "ddp" and world > 1 else 0,
        "optimizer": 2 * whole / parts[1],
        "activations": pieces.saved_bytes * min(batch, chunk or batch),
        # Embeddings of all processes, and what the loss holds for each of them.
        "references": (1 + pieces.loss_vectors) * FLOAT * references * pieces.dimension,
        "labels": FLOAT * references * pieces.labels,
        "loss": pieces.loss_matrices * FLOAT * block_entries(references + pieces.labels),
    }


def communication(pieces: Pieces, world: int, batch: int, sharding: str = "ddp") -> dict[str, float]:
    """Predicted bytes that each GPU receives in a step, by part; rings, so that as much is sent.

    The backward pass of the gathered embeddings needs none: every process computes the whole loss.
    """
    others, whole = world - 1, FLOAT * pieces.parameters
    gradients = {"ddp": 2, "zero2": 2, "fsdp2": 3}[sharding]  # fsdp2: parameters twice, and gradients once
    return {
        "embeddings": FLOAT * others * batch * pieces.dimension,
        "labels": FLOAT * others * batch * pieces.labels,
        "parameters and gradients": gradients * whole * others / world,
    }


def operations(pieces: Pieces, world: int, batch: int) -> dict[str, float]:
    """Predicted floating point operations of each GPU in a step.

    Encoder: 6 for each of its parameters and tokens. Loss: every GPU computes all of it, three products over the
    embeddings and three over the labels, between all references.
    """
    references = world * batch + pieces.labels
    return {
        "encoder": 6.0 * pieces.parameters * pieces.tokens * batch,
        "loss": 2.0 * references**2 * 3 * (pieces.dimension + pieces.labels),
    }


def table(pieces: Pieces, batch: int) -> str:
    """The prediction for each number of GPUs, in Markdown."""
    head = "| GPUs | references | DDP | FSDP2 | references and labels | loss | received: references | received: DDP "
    lines = [head + "gradients | loss / encoder |", "|---" * 9 + "|"]
    for world in WORLDS:
        own, shared = memory(pieces, world, batch), memory(pieces, world, batch, "fsdp2")
        moved, work = communication(pieces, world, batch), operations(pieces, world, batch)
        cells = [
            f"{world:,}",
            f"{world * batch:,}",
            _size(sum(own.values())),
            _size(sum(shared.values())),
            _size(own["references"] + own["labels"]),
            _size(own["loss"]),
            _size(moved["embeddings"] + moved["labels"]),
            _size(moved["parameters and gradients"]),
            f"{work['loss'] / work['encoder']:.2g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pieces_table(pieces: Pieces) -> str:
    """What was measured, in Markdown."""
    rows = {
        "trained parameters P": f"{pieces.parameters:,}",
        "kept of an example for the backward pass": _size(pieces.saved_bytes),
        "vectors of size d that the loss holds for each reference": f"{pieces.loss_vectors:.1f}",
        "matrices of the size of a block that the loss holds": f"{pieces.loss_matrices:.1f}",
        "tokens, labels L, size d": f"{pieces.tokens}, {pieces.labels}, {pieces.dimension}",
    }
    return "\n".join(["| piece | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def check_table(pieces: Pieces, checks: list[dict[str, Any]]) -> str:
    """Predicted and measured figures of small trainings, in Markdown."""
    lines = ["| processes | what | predicted | measured | off by |", "|---|---|---|---|---|"]
    for check in checks:
        world, batch = check["processes"], check["batch"]
        moved = communication(pieces, world, batch)
        rows = {"memory of a process": (sum(memory(pieces, world, batch).values()), check["memory_bytes"])}
        if world > 1:
            rows["received: references"] = moved["embeddings"] + moved["labels"], check["gathered_bytes"]
            rows["received in a step"] = sum(moved.values()), check["step_bytes"]
        for name, (predicted, measured) in rows.items():
            off = f"{100 * (predicted / measured - 1):+.0f} %"
            lines.append(f"| {world} | {name} | {_size(predicted)} | {_size(measured)} | {off} |")
    return "\n".join(lines)


def _size(size: float) -> str:
    units = (("GiB", 2**30, 2), ("MiB", 2**20, 1), ("KiB", 2**10, 0))
    unit, bytes_of, digits = next(u for u in units if size >= u[1] or u[0] == "KiB")
    return f"{size / bytes_of:.{digits}f} {unit}"


# --- measuring ---


def measure(encoder: str, tokens: int, labels: int) -> Pieces:
    """The pieces of a model on an encoder, on a CPU in float32."""
    from hf_mlcl import MLCLForSequenceClassification

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = MLCLForSequenceClassification.from_encoder(encoder, labels=labels).train()
    model.freeze_unused_parameters()
    sizes = [_saved_bytes(model, rows, tokens) for rows in (4, 8)]
    examples, few, many = 8192, 128, 512
    peaks = [loss_memory(examples, labels, dimension) for dimension in (few, many)]
    vectors = (peaks[1] - peaks[0]) / (FLOAT * (examples + labels) * (many - few))
    beside = peaks[0] - vectors * FLOAT * (examples + labels) * few
    return Pieces(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        saved_bytes=(sizes[1] - sizes[0]) // 4,
        loss_vectors=round(vectors, 2),
        loss_matrices=round(beside / (FLOAT * block_entries(examples + labels)), 2),
        tokens=tokens,
        labels=labels,
        dimension=model.config.projection_dim,
    )


def _fresh(*arguments: object, processes: int) -> Any:
    """What this script prints last, as JSON, in one fresh process or in several that train together."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(several if processes > 1 else []), __file__, *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _saved_bytes(model: Any, rows: int, tokens: int) -> int:
    """Bytes that autograd saves in a forward pass, parameters left out, each storage once."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.ones(rows, tokens, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(input_ids=ids, attention_mask=ids)
        assert output.embeddings.requires_grad  # and the graph, with what it has saved, is alive until here
        return sum(kept.values())


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _forget_peak() -> None:
    """Lets the peak of this process start from now."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def loss_memory(examples: int, labels: int, dimension: int) -> int:
    """Bytes that `reg` has allocated at most, in a GPU's blocks, beside its inputs and with their gradients."""
    from hf_mlcl import build_loss

    chance = torch.Generator().manual_seed(0)
    embeddings = torch.randn(examples, dimension, generator=chance, requires_grad=True)
    prototypes = torch.randn(labels, dimension, generator=chance, requires_grad=True)
    targets = (torch.rand(examples, labels, generator=chance) < 3 / labels).float()
    loss = build_loss("reg", temperature=0.1)
    blocks = mock.patch.dict(kernel.BLOCK_ENTRIES, clear=True)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with blocks, torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        loss(embeddings, targets, prototypes).backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


# --- checking ---


def _received() -> int:
    """Bytes that have come over this machine's own network, of all processes."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.strip().startswith("lo:"))


def train_and_measure(encoder: str, tokens: int, labels: int, batch: int, steps: int = 4) -> dict[str, Any] | None:
    """Some steps of the Trainer on random tokens: peak memory, and what came over the network; for a fresh process."""
    from transformers import TrainerCallback

    from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
    from hf_mlcl.training import gather_references

    torch.set_num_threads(1)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    chance = torch.Generator().manual_seed(0)
    mask = torch.ones(tokens, dtype=torch.int64)

    def example() -> dict[str, Any]:
        row = (torch.rand(labels, generator=chance) < 3 / labels).float()
        return {
            "input_ids": torch.randint(1000, 2000, (tokens,), generator=chance),
            "attention_mask": mask,
            "labels": row,
        }

    examples = [example() for _ in range(world * batch * steps)]
    traffic: list[int] = []

    class Count(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            traffic.append(_received())

    with tempfile.TemporaryDirectory() as folder:
        args = MLCLTrainingArguments(
            output_dir=folder,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            max_steps=steps,
            per_device_train_batch_size=batch,
        )
        before = _resident()
        model = MLCLForSequenceClassification.from_encoder(encoder, labels=labels)
        _forget_peak()
        trainer = MLCLTrainer(
            model=model,
            args=args,
            train_dataset=examples,
            data_collator=torch.utils.data.default_collate,
            callbacks=[Count()],
        )
        trainer.train()
        peak = _peak() - before
    result = {"processes": world, "batch": batch, "memory_bytes": peak}
    if world > 1:
        rows, start, rounds = torch.randn(batch, model.config.projection_dim), _received(), 200
        torch.distributed.barrier()
        for _ in range(rounds):
            gather_references(rows, labels=torch.zeros(batch, labels))
        torch.distributed.barrier()
        result["gathered_bytes"] = (_received() - start) // rounds // world
        differences = [after - first for first, after in zip(traffic[1:], traffic[2:], strict=False)]
        result["step_bytes"] = statistics.median(differences) // world
    return result if int(os.environ.get("RANK", "0")) == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", metavar="ENCODER")
    parser.add_argument("--check", metavar="ENCODER")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--labels", type=int, default=90)
    parser.add_argument("--batch", type=int, default=256, help="Examples a GPU.")
    parser.add_argument("--point", metavar="ENCODER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        result = train_and_measure(options.point, options.tokens, options.labels, CHECKED)
        if result is not None:
            print(json.dumps(result))
        return
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    if options.measure:
        recorded["measured"] = asdict(measure(options.measure, options.tokens, options.labels))
    if options.check:
        sizes = ("--tokens", options.tokens, "--labels", options.labels)
        recorded["checked"] = [_fresh("--point", options.check, *sizes, processes=world) for world in (1, 2)]
    if options.measure or options.check:
        RECORDED.write_text(json.dumps(recorded, indent=2) + "\n")
    pieces = Pieces(**recorded["measured"])
    print(
        pieces_table(pieces),
        check_table(pieces, recorded.get("checked", [])),
        table(pieces, options.batch),
        sep="\n\n",
    )


if __name__ == "__main__":
    main()
