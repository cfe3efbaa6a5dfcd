"""Predicts memory and communication of a training step on 1 to 1,024 GPUs from pieces that were measured.

    python benchmarks/scaling.py                    prints the tables of docs/scaling.md from the recorded pieces
    python benchmarks/scaling.py --measure ENCODER  measures the pieces again, on a CPU, into results/scaling.json

Measured: the trained parameters of a model, the bytes that its forward pass keeps for the backward pass of an example
(what autograd saves, each storage once), and what the loss takes beside its inputs and their gradients (peak resident
memory of a fresh process). Everything else is a formula of this file, and everything it prints is a prediction: no run
on several GPUs stands behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

RECORDED = Path(__file__).resolve().parent / "results" / "scaling.json"
WORLDS = (1, 2, 4, 8, 16, 64, 256, 1024)
FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class Pieces:
    """What was measured, and the sizes it was measured for.

    Attributes:
        parameters: trained parameters of encoder and heads.
        saved_bytes: of one example, kept by the forward pass for the backward pass.
        loss_bytes: what the loss takes beside its inputs and their gradients, for `loss_examples` examples.
        loss_examples: as above.
        tokens, labels, dimension: tokens an example, labels L, size d of the embeddings.
    """

    parameters: int
    saved_bytes: int
    loss_bytes: int
    loss_examples: int
    tokens: int
    labels: int
    dimension: int


def memory(
    pieces: Pieces, world: int, batch: int, sharding: str = "ddp", chunk: int | None = None
) -> dict[str, float]:
    """Predicted bytes on each GPU, by part.

    Args:
        world: GPUs.
        batch: examples a GPU.
        sharding: "ddp" keeps everything everywhere; "zero2" shares out gradients and AdamW's two moments, "fsdp2"
            (as ZeRO-3) the parameters as well, all of which it needs again layer by layer (not counted).
        chunk: rows the encoder runs at once under gradient caching; None for all.
    """
    references = world * batch
    whole = FLOAT * pieces.parameters
    parts = {"ddp": (1, 1), "zero2": (1, world), "fsdp2": (world, world)}[sharding]
    return {
        "parameters": whole / parts[0],
        "gradients": whole / parts[1],
        "optimizer": 2 * whole / parts[1],
        "activations": pieces.saved_bytes * min(batch, chunk or batch),
        # Embeddings of all processes, normalised once more, and the gradients of both.
        "references": 4 * FLOAT * references * pieces.dimension,
        "labels": FLOAT * references * pieces.labels,
        # Blocks of rows have a bound; below it, all pairs.
        "loss": pieces.loss_bytes * min(1.0, (references / pieces.loss_examples) ** 2),
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


def _size(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def measure(encoder: str, tokens: int, labels: int) -> Pieces:
    """The pieces of a model on an encoder, on a CPU in float32."""
    import torch

    from hf_mlcl import MLCLForSequenceClassification

    torch.manual_seed(0)
    model = MLCLForSequenceClassification.from_encoder(encoder, labels=labels).train()
    model.freeze_unused_parameters()
    sizes = [_saved_bytes(model, rows, tokens) for rows in (4, 8)]
    command = [sys.executable, __file__, "--loss_memory", str(labels), str(model.config.projection_dim)]
    loss = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return Pieces(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        saved_bytes=(sizes[1] - sizes[0]) // 4,
        loss_bytes=loss["bytes"],
        loss_examples=loss["examples"],
        tokens=tokens,
        labels=labels,
        dimension=model.config.projection_dim,
    )


def _saved_bytes(model, rows: int, tokens: int) -> int:  # type: ignore[no-untyped-def]
    """Bytes that autograd saves in a forward pass, parameters left out, each storage once."""
    import torch

    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):  # type: ignore[no-untyped-def]
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.ones(rows, tokens, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(input_ids=ids, attention_mask=ids)
        assert output.embeddings.requires_grad  # and the graph, with what it has saved, is alive until here
        return sum(kept.values())


def loss_memory(labels: int, dimension: int, examples: int = 8192) -> int:
    """Bytes that `reg` takes at most beside its inputs and their gradients; for a fresh process."""
    import torch

    from hf_mlcl import build_loss

    torch.set_num_threads(1)
    chance = torch.Generator().manual_seed(0)
    embeddings = torch.randn(examples, dimension, generator=chance, requires_grad=True)
    prototypes = torch.randn(labels, dimension, generator=chance, requires_grad=True)
    targets = (torch.rand(examples, labels, generator=chance) < 3 / labels).float()
    loss = build_loss("reg", temperature=0.1)
    loss(embeddings[:64], targets[:64], prototypes).backward()  # what libraries take once
    embeddings.grad = prototypes.grad = None
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    loss(embeddings, targets, prototypes).backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    counted = 3 * FLOAT * (examples + labels) * dimension  # `references` in `memory`, without the embeddings
    return max(0, peak - counted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", metavar="ENCODER")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--labels", type=int, default=90)
    parser.add_argument("--batch", type=int, default=256, help="Examples a GPU.")
    parser.add_argument("--loss_memory", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loss_memory:
        print(json.dumps({"bytes": loss_memory(*options.loss_memory), "examples": 8192}))
        return
    if options.measure:
        pieces = measure(options.measure, options.tokens, options.labels)
        RECORDED.write_text(json.dumps({"measured": asdict(pieces)}, indent=2) + "\n")
    pieces = Pieces(**json.loads(RECORDED.read_text())["measured"])
    print(table(pieces, options.batch))


if __name__ == "__main__":
    main()
