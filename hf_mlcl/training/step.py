"""A training step: the loss of a batch over the examples of all processes, and its gradient in parts of the batch.

Imports torch, data, losses and models.
"""

from __future__ import annotations

import bisect
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from hf_mlcl.data.collator import DATASET_INDEX
from hf_mlcl.data.labels import LABEL_IDS
from hf_mlcl.losses import LabelSets
from hf_mlcl.losses.checks import UNKNOWN
from hf_mlcl.models.length_chunks_mlcl import text_lengths
from hf_mlcl.models.modeling_mlcl import MLCLOutput

from .key_queue import KeyQueue
from .random_state import RandomState

# What the loss of an objective takes from the examples of all processes.
LOSS_INPUTS = {"contrastive": ("embeddings",), "joint": ("embeddings", "logits"), "classification": ("logits",)}


@dataclass(frozen=True, eq=False)
class BatchLabels:
    """The labels of a batch: multi-hot rows (B, L), or with `as_ids` lists of ids (B, K)."""

    values: Tensor
    as_ids: bool

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> BatchLabels | None:
        """Those of the inputs of a model; None where there are none."""
        name = LABEL_IDS if inputs.get(LABEL_IDS) is not None else "labels"
        return None if inputs.get(name) is None else cls(inputs[name], name == LABEL_IDS)

    def __len__(self) -> int:
        return len(self.values)

    def for_losses(self, num_labels: int, **options: Any) -> Tensor | LabelSets:
        """The rows, or the sets of lists of ids by `LabelSets.from_ids`, which takes the options."""
        return LabelSets.from_ids(self.values, num_labels, **options) if self.as_ids else self.values


def model_inputs(inputs: Mapping[str, Any], core: Any, *, training: bool = False) -> dict[str, Any]:
    """What the model gets of a batch: not the labels, since the loss is computed over all processes.

    In training the logits, B x L, are made only where the objective uses them.
    """
    kept = {name: value for name, value in inputs.items() if name not in ("labels", LABEL_IDS, DATASET_INDEX)}
    without_logits = training and "logits" not in LOSS_INPUTS[core.config.objective]
    # A subclass of the model may have a `forward` that does not know the option.
    if without_logits and "output_logits" in inspect.signature(type(core).forward).parameters:
        kept["output_logits"] = False
    return kept


# --- the loss ---


def training_losses(
    core: Any,
    outputs: Any,
    inputs: Mapping[str, Any],
    *,
    queue: KeyQueue | None = None,
    sample_size: int | None = None,
    generator: Callable[[torch.device], torch.Generator] | None = None,
    equal_parts: bool = True,
) -> dict[str, Tensor]:
    """The objective of a training batch, of which this process holds a part, and its parts.

    Args:
        core: The model without what is wrapped around it.
        outputs: What forward returned for this process's part, or as much of it as the objective needs.
        inputs: This process's part of the batch.
        queue: Gives the examples keys to be contrasted with in place of each other.
        sample_size: How many of the labels that the batch lacks are drawn as negatives; None takes all.
        generator: Makes the generator of the draw, the same on all processes.
        equal_parts: Whether all processes have equally many examples.
    """
    names = LOSS_INPUTS[core.config.objective]
    labels = BatchLabels.of(inputs)
    assert labels is not None
    as_ids, values = labels.as_ids, labels.values
    if sample_size is not None and not as_ids:
        as_ids, values = True, label_lists(values)
    own = [outputs[name] for name in names]
    if queue is not None:
        own += queue.keys_and_indices(outputs, inputs)
    *vectors, values = gather_references(
        *own, labels=equally_long(values) if as_ids else values, equal_parts=equal_parts
    )
    keys = None if queue is None else queue.join(*vectors[len(names) :], labels=values)
    draw = None if generator is None or sample_size is None else generator(values.device)
    # Labels that keys alone have get a column where all labels count.
    others = keys.labels if keys is not None and sample_size is None else None
    options = {"sample_size": sample_size, "generator": draw, "others": others}
    gathered_labels = BatchLabels(values, as_ids).for_losses(core.config.num_labels, **options)
    gathered: Any = dict(zip(names, vectors, strict=False))
    return core.objective_losses(MLCLOutput(prototypes=outputs.prototypes, **gathered), gathered_labels, keys)


def evaluation_loss(core: Any, outputs: Any, inputs: Mapping[str, Any]) -> Tensor:
    """The objective of a batch in evaluation, on this process alone."""
    labels = BatchLabels.of(inputs)
    assert labels is not None
    return core.objective_losses(outputs, labels.for_losses(core.config.num_labels))["loss"]


def label_lists(rows: Tensor) -> Tensor:
    """Multi-hot rows (B, L), -100 or NaN where missing -> lists of label ids (B, K).

    Raises:
        ValueError: an example of which only some labels are missing, which no list can say.
    """
    unknown = (rows == UNKNOWN) | (rows != rows)
    if (unknown.any(dim=1) & ~unknown.all(dim=1)).any():
        raise ValueError(
            "prototype_sample_size does not support examples with some missing labels: an example must have all its "
            "labels known, or none"
        )
    examples, ids = (rows > 0).nonzero(as_tuple=True)
    counts = torch.bincount(examples, minlength=len(rows))
    lists = ids.new_full((len(rows), max(1, int(counts.max())) if len(rows) else 1), -1)
    lists[examples, torch.arange(len(ids), device=ids.device) - (counts.cumsum(0) - counts)[examples]] = ids
    return lists.masked_fill(unknown.all(dim=1, keepdim=True), UNKNOWN)


# --- the examples of all processes ---


class _Gather(torch.autograd.Function):
    """All-gather whose backward gives each process the gradient of its own rows, times the number of processes.

    Every process computes the whole loss, so the gradient it holds for its own rows is already complete, and the
    backward pass needs no communication; data-parallel training then averages parameters' gradients over processes,
    which the factor undoes. Parameters used after the gather (prototypes, a learnable temperature) have the complete
    gradient everywhere, and the average leaves it as it is.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int] | None) -> Tensor:
        rank = dist.get_rank()
        ctx.start, ctx.rows = rank * rows.shape[0] if sizes is None else sum(sizes[:rank]), rows.shape[0]
        return gather_rows(rows, sizes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.start : ctx.start + ctx.rows] * dist.get_world_size(), None


def _alone() -> bool:
    return not dist.is_initialized() or dist.get_world_size() == 1


def gather_rows(rows: Tensor, sizes: list[int] | None = None) -> Tensor:
    """Concatenates the rows of all processes, in the order of their ranks, without gradient.

    Args:
        rows: (N, ...) of one dtype on all processes.
        sizes: How many rows each process has; None where all have equally many. Shorter parts travel padded.
    """
    sizes = [rows.shape[0]] * dist.get_world_size() if sizes is None else sizes
    longest = max(sizes)
    if longest == 0:
        return rows.detach()
    padding = rows.new_zeros(longest - rows.shape[0], *rows.shape[1:])
    parts = [rows.new_empty(longest, *rows.shape[1:]) for _ in sizes]
    # The call that fills one tensor has another name in recent releases of torch, and the old one warns.
    dist.all_gather(parts, torch.cat([rows, padding]))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def gather_references(*vectors: Tensor, labels: Tensor, equal_parts: bool = True) -> tuple[Tensor, ...]:
    """Vectors (B, ...) with gradient, such as embeddings or logits, and labels (B, L) of all processes, by rank.

    Every process then computes the whole loss: its value is that of the union of all parts, and so is the gradient of
    every parameter under data-parallel training, which averages over processes. That holds for means over examples or
    known labels, too, of which each process may hold another number. In one process the arguments come back as they
    are.

    Args:
        vectors: (B, ...) tensors; each is moved once.
        labels: (B, L) labels of one dtype on all processes.
        equal_parts: Whether B is the same on all processes. Where it is not, or may be 0, the sizes are exchanged
            first, for which the device is waited for.
    """
    if _alone():
        return (*vectors, labels)
    sizes = None
    if not equal_parts:
        sizes = gather_rows(torch.tensor([labels.shape[0]], device=labels.device)).tolist()
    return (*(_Gather.apply(rows, sizes) for rows in vectors), gather_rows(labels, sizes))


def equally_long(label_ids: Tensor) -> Tensor:
    """Lists of label ids padded to the longest of all processes, which gathering needs."""
    if _alone():
        return label_ids
    longest = torch.tensor(label_ids.shape[1], device=label_ids.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    # The padding of a row of -100 says nothing either.
    return torch.nn.functional.pad(label_ids, (0, int(longest) - label_ids.shape[1]), value=-1)


# --- the gradient in parts of the batch ---


def chunks(inputs: Mapping[str, Any], rows: int, size: int, *, equal_work: bool = False) -> Iterator[dict[str, Any]]:
    """The inputs of `size` rows each, the last one perhaps of fewer; what has no row for each example goes to all.

    With `equal_work`, as few chunks as cost no more than `size` of the longest texts, and each about as much: those
    of shorter texts have more rows.
    """
    lengths = _lengths(inputs) if equal_work and rows else None
    ends = [*range(size, rows, size), rows] if lengths is None else _equal_work(lengths.tolist(), size)
    for start, end in itertools.pairwise([0, *ends] if rows else []):
        yield {
            name: value[start:end] if isinstance(value, Tensor) and value.shape[:1] == (rows,) else value
            for name, value in inputs.items()
        }


def _equal_work(lengths: list[int], size: int) -> list[int]:
    """Where to cut a batch: rows times the longest text of each chunk is as small as the number of chunks allows."""

    def ends(most: int) -> list[int]:
        found, start, longest = [], 0, 0
        for row, length in enumerate(lengths):
            longest = max(longest, length)
            if (row + 1 - start) * longest > most:
                found.append(row)
                start, longest = row, length
        return [*found, len(lengths)]

    budgets = range(max(lengths), size * max(lengths) + 1)
    fewest = len(ends(budgets[-1]))
    return ends(budgets[bisect.bisect_left(budgets, -fewest, key=lambda most: -len(ends(most)))])


def sorted_by_length(inputs: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """A batch of texts in the order of their lengths, so that chunks of it hold texts of about the same length."""
    lengths = _lengths(inputs)
    if lengths is None:
        return dict(inputs)
    order = lengths.argsort(descending=True, stable=True)
    return {
        name: value[order] if isinstance(value, Tensor) and value.shape[:1] == (rows,) else value
        for name, value in inputs.items()
    }


def _lengths(inputs: Mapping[str, Any]) -> Tensor | None:
    mask = inputs.get("attention_mask")
    return text_lengths(mask) if isinstance(mask, Tensor) and mask.ndim == 2 else None


def cached_backward(
    model: nn.Module,
    parts: list[dict[str, Any]],
    loss_of: Callable[[MLCLOutput], Tensor],
    *,
    names: tuple[str, ...],
    backward: Callable[[Tensor], None],
    forward_context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Tensor:
    """Forward and backward pass whose memory is that of a part of the batch, by gradient caching.

    The model runs over the parts without gradient; the loss of the whole batch gives the gradients of the outputs and
    prototypes; then each part runs again, with gradient and with the random numbers it had, and passes its share of
    them on. That equals running the same parts with gradient and holding all of it. Where nothing wraps the model, the
    last part runs once, with gradient from the start: its activations are all that is held.

    Source: "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (Gao et al., arXiv 2101.06983).

    Args:
        model: Perhaps wrapped for data parallelism.
        parts: The model's inputs, part by part.
        loss_of: The loss of the outputs of all parts.
        names: The outputs with a row for each example that the loss needs; "prototypes" come beside them.
        backward: Called with a scalar for each part.
        forward_context: Around forward passes, such as autocast.
        no_sync: Around all backward passes but the last: processes average what all parts have added up.

    Returns:
        The loss, without gradient.
    """
    states: list[RandomState] = []
    rows: list[list[Tensor]] = []
    device = next(model.parameters()).device
    # Wrappers count forward passes; a launcher wraps also the model of one process.
    wrappers = (DistributedDataParallel, FullyShardedDataParallel, FSDPModule)
    keep = not any(isinstance(module, wrappers) for module in model.modules())

    def run(part: dict[str, Any]) -> Any:
        states.append(RandomState(device))
        outputs = model(**part)
        rows.append([outputs[name].detach() for name in names])
        return outputs

    with torch.no_grad(), forward_context():
        for part in parts[:-1]:
            run(part)
    # Apart: autocast would give it the casts of the weights that were made without gradient.
    with torch.set_grad_enabled(keep), forward_context():
        held = run(parts[-1])
    values: dict[str, Any] = dict(zip(names, map(torch.cat, zip(*rows, strict=True)), strict=True))
    values["prototypes"] = held["prototypes"]
    leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
    loss_leaves: dict[str, Tensor] = dict(leaves)
    with forward_context():
        loss = loss_of(MLCLOutput(**leaves))
    # Parameters that the loss has of its own are leaves of its graph, too.
    own = [p for p in _loss_parameters(model) if p.requires_grad]
    found = torch.autograd.grad(loss, [*loss_leaves.values(), *own], allow_unused=True)
    gradients = dict(zip(loss_leaves, found, strict=False))
    of_own = [
        (p, gradient) for p, gradient in zip(own, found[len(loss_leaves) :], strict=True) if gradient is not None
    ]
    # Every part has the same prototypes: they get their gradient once, from the last one.
    of_prototypes = gradients.pop("prototypes", None)
    sizes = [outputs[0].shape[0] for outputs in rows]
    of_parts = {name: gradient.split(sizes) for name, gradient in gradients.items() if gradient is not None}

    kept: Any = held if keep else None
    numbers = list(range(len(parts)))
    for number in numbers if kept is None else numbers[-1:] + numbers[:-1]:  # what is held is the first to go
        last = number == len(parts) - 1
        with nullcontext() if last else no_sync():
            if last and kept is not None:
                outputs, kept = kept, None
            else:
                with states[number].replayed(), forward_context():
                    outputs = model(**parts[number])
            passed_on = [(outputs[name] * gradient[number]).sum() for name, gradient in of_parts.items()]
            if last and of_prototypes is not None:
                passed_on.append((outputs["prototypes"] * of_prototypes).sum())
            if last:
                passed_on += [(parameter * gradient).sum() for parameter, gradient in of_own]
            backward(torch.stack(passed_on).sum())
    return loss.detach()


def _loss_parameters(model: nn.Module) -> list[nn.Parameter]:
    losses = [
        module
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in ("contrastive_loss", "classification_loss")
    ]
    return [parameter for loss in losses for parameter in loss.parameters()]
