"""`CachingTrainer`: contrastive batches larger than memory, by gradient caching. Imports torch and the objective.

Source: "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (Gao et al., arXiv 2101.06983).
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from hf_mlcl.models.modeling_mlcl import MLCLOutput

from .label_ids import labels_name
from .objective import LOSS_INPUTS, chunks
from .random_state import RandomState
from .remembering import RememberingTrainer

# They count forward passes; a launcher wraps also the model of one process.
_WRAPPERS = (DistributedDataParallel, FullyShardedDataParallel, FSDPModule)


class CachingTrainer(RememberingTrainer):
    """Adds to the Trainer steps whose memory follows `gradient_cache_chunk_size`, not the batch.

    The encoder runs over the chunks without gradient; the loss of the whole batch, of all processes, gives the
    gradients of the outputs and prototypes; then each chunk runs again, with gradient and with the random numbers it
    had, and passes its share of them on. That equals running the same chunks with gradient and holding all of it.
    Where nothing wraps the model, the last chunk runs once, with gradient from the start: its activations are all that
    is held.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        size = self._chunk_size
        if size is not None and self.is_deepspeed_enabled:
            raise ValueError(
                f"gradient_cache_chunk_size: expected None with DeepSpeed, which allows one backward pass a step, "
                f"got {size}"
            )
        strategy = getattr(self.args, "train_sampling_strategy", None)
        if size is not None and self.is_fsdp_enabled and strategy == "batch_rebalance":
            raise ValueError(
                "train_sampling_strategy: expected another with gradient_cache_chunk_size and FSDP, whose processes "
                "must run equally many chunks, got 'batch_rebalance'"
            )

    @property
    def _chunk_size(self) -> int | None:
        return getattr(self.args, "gradient_cache_chunk_size", None)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One forward and backward pass over a batch; see `transformers.Trainer.training_step`."""
        size = self._chunk_size
        name = labels_name(inputs)
        if size is None or name is None or len(inputs[name]) <= size:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        optimizer: Any = self.optimizer
        if callable(getattr(optimizer, "train", None)):  # of optimizers without a schedule
            optimizer.train()
        inputs = self._prepare_inputs(inputs)
        parts = list(chunks(self.training_inputs(inputs), len(inputs[name]), size))

        cached, states, kept = self._first_pass(model, parts)
        with self.compute_loss_context_manager():
            loss = self.training_loss(cached, inputs) / self.current_gradient_accumulation_steps
        names, leaves = zip(*((name, value) for name, value in cached.items() if value.requires_grad), strict=True)
        gradients = dict(zip(names, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True))
        loss = loss.detach()
        # Every chunk has the same prototypes: they get their gradient once, from the last one.
        of_prototypes = gradients.pop("prototypes", None)
        of_chunks = {name: gradient.split(size) for name, gradient in gradients.items() if gradient is not None}

        numbers = list(range(len(parts)))
        for number in numbers if kept is None else numbers[-1:] + numbers[:-1]:  # what is held is the first to go
            last = number == len(parts) - 1
            # Processes average what all chunks have added up, in the last one's backward pass; a step of gradient
            # accumulation before the last one is inside of `no_sync` already. The accelerator's does nothing in one
            # process, whether its model is wrapped or not.
            apart = not last and (hasattr(model, "no_sync") or self.accelerator.sync_gradients)
            no_sync = getattr(model, "no_sync", None) or (lambda: self.accelerator.no_sync(model))
            with no_sync() if apart else nullcontext():
                if last and kept is not None:
                    outputs, kept = kept, None
                else:
                    with states[number].replayed(), self.compute_loss_context_manager():
                        outputs = model(**parts[number])
                passed_on = [(outputs[name] * gradient[number]).sum() for name, gradient in of_chunks.items()]
                if last and of_prototypes is not None:
                    passed_on.append((outputs["prototypes"] * of_prototypes).sum())
                self.accelerator.backward(torch.stack(passed_on).sum())
        return loss

    def _first_pass(
        self, model: nn.Module, parts: list[dict[str, Any]]
    ) -> tuple[MLCLOutput, list[RandomState], MLCLOutput | None]:
        """What the objective needs of all chunks' outputs, as leaves of a new graph; the random states before; and the
        last chunk's outputs, where they have their gradient: wrappers of the model count forward passes.
        """
        states, rows = [], []
        names = LOSS_INPUTS[self.core_model.config.objective]
        keep = not any(isinstance(module, _WRAPPERS) for module in model.modules())

        def run(part: dict[str, Any]) -> Any:
            states.append(RandomState(self.args.device))
            outputs = model(**part)
            rows.append([outputs[name].detach() for name in names])
            return outputs

        with torch.no_grad(), self.compute_loss_context_manager():
            for part in parts[:-1]:
                run(part)
        # Apart: autocast would give it the casts of the weights that were made without gradient.
        with torch.set_grad_enabled(keep), self.compute_loss_context_manager():
            outputs = run(parts[-1])
        values: dict[str, Any] = dict(zip(names, map(torch.cat, zip(*rows, strict=True)), strict=True))
        values["prototypes"] = outputs["prototypes"]
        leaves = MLCLOutput(**{name: value.detach().requires_grad_() for name, value in values.items()})
        return leaves, states, outputs if keep else None
