"""Callbacks of the Trainer."""

from typing import Any

import torch
from accelerate.utils import broadcast
from torch import nn
from transformers import TrainerCallback


class SetEpoch(TrainerCallback):
    """Tells the training data which epoch begins, for augmentations that depend on it.

    accelerate does so only where the sampler has no `set_epoch` of its own, and by default it has.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.dataset.set_epoch(int(state.epoch or 0))


class SaveAfterEvaluation(TrainerCallback):
    """Puts a checkpoint due at the last step of an epoch off to the epoch's end.

    The evaluation of an epoch comes after its last step. A run resumed from a checkpoint between the two would begin
    with the next epoch and never make it: early stopping and the best model would be others.
    """

    def __init__(self) -> None:
        self._due = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._due = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if control.should_save and (float(state.epoch).is_integer() or control.should_training_stop):
            self._due, control.should_save = True, False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_save, self._due = control.should_save or self._due, False


class SeedEpochs(TrainerCallback):
    """Seeds the generator that shuffles the examples by the epoch, so that a resumed epoch has the same order."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seed = args.seed if args.data_seed is None else args.data_seed
        self.generator.manual_seed(seed + int(state.epoch or 0))


class ShareStatistics(TrainerCallback):
    """Gives all processes the batch statistics of the first one, which are those that are saved.

    Data parallelism does so only when the next step begins: between two steps, and after the last, each process would
    measure with statistics of its own.
    """

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if args.world_size == 1:
            return
        norms = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
        statistics = [
            statistic
            for norm in norms
            if norm.training
            for statistic in (norm.running_mean, norm.running_var)
            if statistic is not None
        ]
        if statistics:
            of_the_first = broadcast(torch.cat(statistics)).split([len(statistic) for statistic in statistics])
            for statistic, shared in zip(statistics, of_the_first, strict=True):
                statistic.copy_(shared)


class FollowModel(TrainerCallback):
    """Lets the encoder of a memory queue follow once per optimizer step, not at every step of accumulation."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.trainer.accelerator.optimizer_step_was_skipped:
            self.trainer._queue.encoder.follow(self.trainer.core_model)
