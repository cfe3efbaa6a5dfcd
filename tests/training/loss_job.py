"""Run by torchrun: every loss in every case of `rank_cases.py`, values of all ranks and the gradients of the first."""

import contextlib
import sys
import types
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

# The losses and the gathering need torch alone, so the packages around them are left unopened: each process importing
# transformers would take longer than all cases together.
for name in ("hf_mlcl", "hf_mlcl.training"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(Path(__file__).resolve().parents[2].joinpath(*name.split(".")))]

from rank_cases import CASES, LOSSES, Model, examples, loss_of, part_sizes  # noqa: E402

from hf_mlcl.losses import build_loss  # noqa: E402
from hf_mlcl.training.step import gather_references, gather_rows  # noqa: E402


def run(name, parts, accumulation, unknown, model):
    """Value of one step of gradient accumulation on every rank, and the gradients on this one."""
    model.zero_grad()
    rank, processes, loss = dist.get_rank(), dist.get_world_size(), build_loss(name)
    total = torch.zeros(1, dtype=torch.float64)
    for step in range(accumulation):
        sizes = part_sizes(parts, processes, step)
        mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        inputs, labels = (rows[mine] for rows in examples(step, unknown))
        with model.no_sync() if step < accumulation - 1 else contextlib.nullcontext():
            vectors, prototypes = model(inputs)
            vectors, labels = gather_references(vectors, labels=labels, equal_parts=parts == "equal")
            value = loss_of(loss, vectors, labels, prototypes) / accumulation
            value.backward()
        total += value.detach()
    return gather_rows(total), {key: p.grad.clone() for key, p in model.module.named_parameters()}


def run_counting(parts, model):
    """The shapes of all that one step moves between processes by gathering."""
    moved, all_gather = [], dist.all_gather

    def counting(gathered, rows):
        moved.append(tuple(rows.shape))
        all_gather(gathered, rows)

    dist.all_gather = counting
    run("reg", parts, 1, False, model)
    dist.all_gather = all_gather
    return moved[:-1]  # the last one gathers the values


if __name__ == "__main__":
    dist.init_process_group("gloo")
    warnings.simplefilter("error")
    results = {}
    for name in LOSSES:
        model = DistributedDataParallel(Model(name))
        results |= {(name, *case): run(name, *case, model) for case in CASES}
    model = DistributedDataParallel(Model("reg"))
    results |= {("moved", parts): run_counting(parts, model) for parts in ("equal", "unequal")}
    if dist.get_rank() == 0:
        torch.save(results, Path(sys.argv[1]) / "losses.pt")
    dist.barrier()  # a process that ends long before the others sometimes aborts at its end
    dist.destroy_process_group()
