"""What the Trainer refuses before it trains, with what to do instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hf_mlcl.losses import ContrastiveLoss

from .arguments import MLCLTrainingArguments


def check_given(args: Any, model: Any, model_init: Any, train_dataset: Any, loss: Any) -> None:
    """Raises ValueError for arguments of another kind than the Trainer takes."""
    if not isinstance(args, MLCLTrainingArguments):
        raise ValueError(f"args must be MLCLTrainingArguments, got {type(args).__name__}")
    if not isinstance(model, nn.Module) and (model is not None or model_init is None):
        got = "None, and no model_init" if model is None else type(model).__name__
        raise ValueError(f"model must be an MLCL model, got {got}; see from_encoder")
    if isinstance(train_dataset, str | dict):
        got = (
            repr(train_dataset) if isinstance(train_dataset, str) else f"several: {', '.join(map(str, train_dataset))}"
        )
        raise ValueError(f"train_dataset must be one dataset, got {got}; another one may be eval_dataset")
    if loss is not None and not isinstance(loss, nn.Module):
        raise ValueError(f"loss must be a module such as build_loss makes, got {loss!r}; a name goes into args")


@contextmanager
def errors_of_set_up(args: MLCLTrainingArguments) -> Iterator[None]:
    """Has what the Trainer says of missing packages and of the Hub name the argument."""
    try:
        yield
    except RuntimeError as error:
        if "to be installed" not in str(error):
            raise
        raise ImportError(f"report_to: install the trackers {args.report_to}: {error}") from error
    except OSError as error:
        if not args.push_to_hub:
            raise
        raise OSError(f"push_to_hub: the Hub cannot be reached: {' '.join(str(error).split())}") from error


def check_batches(trainer: Any) -> None:
    """Raises ValueError where the batches of the training data could not be compared as they should."""
    args, data = trainer.args, trainer.train_dataset
    stream = isinstance(data, torch.utils.data.IterableDataset)
    repeated = "on several processes: its last batch would repeat examples, which would count as positives"
    if args.world_size > 1 and stream:
        raise ValueError(f"train_dataset: an IterableDataset is not supported {repeated}")
    if stream and args.label_aware_batches:
        raise ValueError("label_aware_batches needs a map-style train_dataset; an IterableDataset was given")
    if args.world_size > 1 and data is not None and not args.dataloader_drop_last:
        raise ValueError(f"dataloader_drop_last=False is not supported {repeated}")
    if args.world_size > 1 and less_than_a_batch(data, args):
        raise ValueError(
            f"per_device_train_batch_size: a step takes {args.per_device_train_batch_size} examples on each of "
            f"{args.world_size} processes, but there are only {len(data)} training examples"
        )


def less_than_a_batch(data: Any, args: Any) -> bool:
    """Whether all examples are fewer than those of one step on all processes; False for a stream."""
    return hasattr(data, "__len__") and len(data) < args.per_device_train_batch_size * args.world_size


def check_loss_options(trainer: Any) -> None:
    """Raises ValueError where the loss or the launch does not support what the arguments ask of them."""
    args, core = trainer.args, trainer.core_model
    config = core.config
    loss, sharded = core.contrastive_loss, trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if sharded and any(p.requires_grad for own in (loss, core.classification_loss) for p in own.parameters()):
        raise ValueError("parameters of a loss (learnable_temperature) are not supported with FSDP or DeepSpeed")
    stream = trainer.train_dataset is not None and not hasattr(trainer.train_dataset, "__len__")
    for name in ("prototype_sample_size", "queue_size", "momentum"):
        value, samples = getattr(args, name), name == "prototype_sample_size"
        if value is None or (name == "queue_size" and value == 0):
            continue
        if config.objective == "classification":
            raise ValueError(f"{name}={value} is not supported with the objective 'classification'")
        reason = None
        if not isinstance(loss, ContrastiveLoss):
            reason = "is no ContrastiveLoss"
        elif samples and not loss.uses_prototypes:
            reason = "has no prototypes"
        elif not samples and not loss.examples_are_references:
            reason = "compares no examples"
        if reason is not None:
            raise ValueError(f"{name}={value} is not supported with the loss {config.loss!r}, which {reason}")
        if stream and not samples:
            raise ValueError(f"train_dataset: {name} needs a map-style dataset; an IterableDataset was given")
    if args.gradient_cache_chunk_size is not None and trainer.is_deepspeed_enabled:
        raise ValueError(
            "gradient_cache_chunk_size is not supported with DeepSpeed, which allows one backward pass per step"
        )
    strategy = getattr(args, "train_sampling_strategy", None)
    if args.gradient_cache_chunk_size is not None and trainer.is_fsdp_enabled and strategy == "batch_rebalance":
        raise ValueError(
            "train_sampling_strategy 'batch_rebalance' is not supported with gradient_cache_chunk_size and FSDP, "
            "whose processes must run equally many chunks"
        )
    if args.momentum is None:
        return
    if sharded:
        raise ValueError(f"momentum={args.momentum} is not supported with FSDP or DeepSpeed")
    # A copy in half precision would stay where it is: steps this small are lost in rounding.
    half = [p.dtype for p in core.parameters() if p.requires_grad and torch.finfo(p.dtype).bits < 32]
    if half:
        dtype = str(half[0]).removeprefix("torch.")
        raise ValueError(
            f"momentum={args.momentum} is not supported with trained weights in {dtype}, which no copy follows in "
            "small steps; load the model in float32, with --bf16 for speed"
        )
