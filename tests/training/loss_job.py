"""Run by torchrun: every loss on the same examples, cut into parts of many sizes; what it gives on all ranks."""

import itertools
import sys
import types
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

if __name__ == "__main__":
    # The losses and the gathering need torch alone, so the packages around them are left unopened: each process
    # importing transformers would take longer than all cases together.
    for name in ("hf_mlcl", "hf_mlcl.training"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(Path(__file__).resolve().parents[2].joinpath(*name.split(".")))]

from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES, build_loss, loss_parameters
from hf_mlcl.training.step import gather_references, gather_rows

EXAMPLES, LABELS = 12, 5
LOSSES = [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES]
PARTS = {
    "equal": {1: [12], 2: [6, 6], 4: [3, 3, 3, 3]},
    "unequal": {1: [12], 2: [9, 3], 4: [5, 1, 4, 2]},
    "one empty": {1: [12], 2: [0, 12], 4: [4, 5, 0, 3]},
    "none": {1: [0], 2: [0, 0], 4: [0] * 4},
}
CASES = list(itertools.product(PARTS, (False, True)))  # parts, unknown labels


def examples(name, unknown):
    """Vectors, labels and prototypes of all processes; the first examples have more unknown labels than the last."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(EXAMPLES, 4 if name in CONTRASTIVE_LOSSES else LABELS, generator=generator).double()
    prototypes = torch.randn(LABELS, 4, generator=generator).double()
    labels = torch.rand(EXAMPLES, LABELS, generator=generator) < 0.4
    if unknown:
        hidden = torch.rand(labels.shape, generator=generator) < torch.linspace(0.9, 0, EXAMPLES)[:, None]
        as_nan = torch.rand(labels.shape, generator=generator) < 0.5
        labels = labels.float().masked_fill(hidden, -100).masked_fill(hidden & as_nan, torch.nan)
        labels[1] = -100
    labels[-2:] = torch.arange(LABELS) < 2  # a positive pair of every loss
    return vectors, labels, prototypes


def counts_for(name):
    """The counts of a training set, for a loss that asks for them."""
    counts = {"label_counts": [1, 2, 30, 4, 50], "num_examples": [90] * LABELS}
    return {key: value for key, value in counts.items() if key in loss_parameters(name)}


def value_of(name, vectors, labels, prototypes):
    return build_loss(name, **counts_for(name))(vectors, labels, *([prototypes] if name in CONTRASTIVE_LOSSES else []))


def run(name, parts, unknown):
    """The value on all ranks, and the gradients that data parallelism would average over them."""
    sizes, rank = PARTS[parts][dist.get_world_size()], dist.get_rank()
    mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    vectors, labels, prototypes = examples(name, unknown)
    vectors, prototypes = vectors[mine].requires_grad_(), prototypes.requires_grad_()
    gathered, labels = gather_references(vectors, labels=labels[mine], equal_parts=parts == "equal")
    value = value_of(name, gathered, labels, prototypes)
    value.backward()
    of_prototypes = torch.zeros_like(prototypes) if prototypes.grad is None else prototypes.grad
    rows = vectors.grad if dist.get_world_size() == 1 else gather_rows(vectors.grad, sizes)
    return gather_rows(value.detach()[None]), rows / dist.get_world_size(), of_prototypes


def run_counting(parts):
    """The shapes of all that one step moves between processes by gathering."""
    moved, all_gather = [], dist.all_gather

    def counting(gathered, rows):
        moved.append(tuple(rows.shape))
        all_gather(gathered, rows)

    dist.all_gather = counting
    run("reg", parts, False)
    dist.all_gather = all_gather
    return moved[:-2]  # the last ones gather what comes out


if __name__ == "__main__":
    dist.init_process_group("gloo")
    warnings.simplefilter("error")
    results = {(name, *case): run(name, *case) for name in LOSSES for case in CASES}
    results |= {("moved", parts): run_counting(parts) for parts in ("equal", "unequal")}
    if dist.get_rank() == 0:
        torch.save(results, Path(sys.argv[1]) / "losses.pt")
    dist.barrier()  # a process that ends long before the others sometimes aborts at its end
    dist.destroy_process_group()
