"""`RememberingTrainer`: references from a queue and a momentum encoder; their state travels with checkpoints."""

from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from hf_mlcl.data.collator import DATASET_INDEX, Numbered, NumberedCollator
from hf_mlcl.losses import References, loss_class
from hf_mlcl.models.modeling_mlcl import MLCLOutput

from .memory import MomentumEncoder, Queue, compact_labels
from .objective import ObjectiveTrainer, chunks

logger = logging.get_logger(__name__)

STATE_NAME = "references.pt"


class RememberingTrainer(ObjectiveTrainer):
    """Adds to the Trainer `queue_size` and `momentum`: anchors are contrasted with keys, not with each other.

    Keys are embeddings without gradient, of the batch of all processes and of the last `queue_size` examples before.
    With `momentum` a slowly following copy of the model makes them; without it they are the model's own embeddings. An
    example is never contrasted with a key of itself, however old.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._queue: Queue | None = None
        self._momentum_encoder: MomentumEncoder | None = None
        super().__init__(*args, **kwargs)
        if self.remembers and self.args.momentum is not None:  # type: ignore[attr-defined]
            self.add_callback(FollowModel(self))

    @property
    def remembers(self) -> bool:
        """Whether anchors are contrasted with keys."""
        args: Any = self.args
        return args.queue_size > 0 or args.momentum is not None

    def check_memory(self) -> None:
        """Raises ValueError where keys make no sense, or cannot be had."""
        args: Any = self.args
        if args.prototype_sample_size is not None:
            self._check_prototypes()
        if not self.remembers:
            return
        name = "queue_size" if args.queue_size else "momentum"
        config, given = self.core_model.config, args.queue_size or args.momentum
        nothing = 0 if name == "queue_size" else None
        if config.objective == "classification":
            raise ValueError(f"{name}: expected {nothing} with the objective 'classification', got {given}")
        if not loss_class(config.loss).examples_are_references:  # type: ignore[union-attr]
            raise ValueError(
                f"{name}: expected {nothing} with the loss {config.loss!r}, which compares no examples, got {given}"
            )
        if self.train_dataset is not None and not hasattr(self.train_dataset, "__len__"):
            raise ValueError(
                f"train_dataset: expected one with positions for {name}, which must know examples again, got a stream"
            )
        if args.momentum is None:
            return
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError(f"momentum: expected None with FSDP or DeepSpeed, got {args.momentum}")
        # A copy in half precision would stay where it is: steps this small are lost in rounding.
        half = [p.dtype for p in self.core_model.parameters() if p.requires_grad and torch.finfo(p.dtype).bits < 32]
        if half:
            dtype = str(half[0]).removeprefix("torch.")
            raise ValueError(
                f"momentum: expected None with trained weights in {dtype}, which no copy follows in small steps, got "
                f"{args.momentum}; load them in float32, with --bf16 for speed"
            )

    def _check_prototypes(self) -> None:
        config, size = self.core_model.config, self.args.prototype_sample_size  # type: ignore[attr-defined]
        expected = "prototype_sample_size: expected None with the"
        if config.objective == "classification":
            raise ValueError(f"{expected} objective 'classification', got {size}")
        if not loss_class(config.loss).uses_prototypes:  # type: ignore[union-attr]
            raise ValueError(f"{expected} loss {config.loss!r}, which has no prototypes, got {size}")

    # --- examples with their positions ---

    def get_train_dataloader(self) -> Any:
        if not self.remembers:
            return super().get_train_dataloader()
        dataset, collator = self.train_dataset, self.data_collator
        try:
            if isinstance(dataset, datasets.Dataset):
                self.train_dataset = Numbered(self._remove_unused_columns(dataset, description="training"))
                self.data_collator = NumberedCollator(collator)
            else:
                self.train_dataset = Numbered(dataset)
                self.data_collator = NumberedCollator(
                    self._get_collator_with_removed_columns(collator, description="training")
                )
            return super().get_train_dataloader()
        finally:
            self.train_dataset, self.data_collator = dataset, collator

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        # Samplers that go by length look into the examples.
        return super()._get_train_sampler(
            train_dataset.dataset if isinstance(train_dataset, Numbered) else train_dataset
        )

    # --- references ---

    def keys_and_indices(self, outputs: MLCLOutput, inputs: dict[str, Any]) -> tuple[Tensor, ...]:
        if not self.remembers:
            return ()
        if DATASET_INDEX not in inputs:
            raise ValueError(f"{DATASET_INDEX}: expected in each batch for a queue, got {', '.join(inputs)}")
        embeddings: Any = outputs.embeddings
        if self._momentum_encoder is None:
            return embeddings.detach(), inputs[DATASET_INDEX]
        args: Any = self.args
        rows = len(embeddings)
        parts = list(chunks(self.training_inputs(inputs), rows, args.gradient_cache_chunk_size or max(rows, 1)))
        with self.accelerator.autocast():
            keys = self._momentum_encoder.keys(parts)
        return keys.to(embeddings.dtype), inputs[DATASET_INDEX]

    def references(
        self, labels: Tensor | None, label_ids: Tensor | None, *keys_and_indices: Tensor
    ) -> References | None:
        if self._queue is None or not keys_and_indices:
            return None
        keys, indices = keys_and_indices
        own: Any = label_ids if labels is None else compact_labels(labels)
        new = keys, own, indices
        embeddings, label_sets, ids = self._queue.joined(*new)
        self._queue.push(*new)
        if labels is None:
            return References(embeddings, None, ids, anchor_ids=indices, label_ids=label_sets)
        return References(embeddings, label_sets, ids, anchor_ids=indices)

    # --- state ---

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains; see `transformers.Trainer.train`. Queue and momentum encoder live as long as that."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._queue = self._momentum_encoder = None

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, checkpoint: str | None) -> Any:
        prepared = super()._prepare_for_training(max_steps, train_dataloader, checkpoint)
        if not self.remembers:
            return prepared
        args: Any = self.args
        self._queue = Queue(args.queue_size)
        if args.momentum is not None:  # only now are the weights those that training starts from
            self._momentum_encoder = MomentumEncoder(self.core_model, args.momentum)
        if checkpoint is None:
            return prepared
        path = Path(checkpoint) / STATE_NAME
        if not path.is_file():
            logger.warning("%s holds no references: the queue starts empty, keys from the present weights", checkpoint)
            return prepared
        state = torch.load(path, map_location=args.device.type, weights_only=True)  # torch knows no "cpu:0"
        if state["queue"]:
            self._queue.push(*state["queue"])
        if self._momentum_encoder is not None and state["momentum_encoder"] is not None:
            self._momentum_encoder.model.load_state_dict(state["momentum_encoder"])
        return prepared

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self._queue is not None and self.args.should_save:  # they are the same in all processes
            encoder = self._momentum_encoder
            state = {
                "queue": self._queue.rows,
                "momentum_encoder": None if encoder is None else encoder.model.state_dict(),
            }
            torch.save(state, Path(output_dir) / STATE_NAME)


class FollowModel(TrainerCallback):
    """Lets the momentum encoder follow once an optimizer step, not at every step of gradient accumulation."""

    def __init__(self, trainer: RememberingTrainer) -> None:
        self.trainer = trainer

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        encoder = self.trainer._momentum_encoder
        if encoder is not None and not self.trainer.accelerator.optimizer_step_was_skipped:
            encoder.follow(self.trainer.core_model)
