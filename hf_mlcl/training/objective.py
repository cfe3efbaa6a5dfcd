"""`ObjectiveTrainer`: the loss of a step over the references of all processes, and what is logged of it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hf_mlcl.data.numbered import DATASET_INDEX
from hf_mlcl.losses import References
from hf_mlcl.models.modeling_mlcl import MLCLOutput

from .references import gather_references, positive_statistics
from .search import SearchingTrainer

# What the loss of an objective takes from the examples of all processes.
LOSS_INPUTS = {"contrastive": ("embeddings",), "joint": ("embeddings", "logits"), "classification": ("logits",)}


class ObjectiveTrainer(SearchingTrainer):
    """Adds to the Trainer the objective of the model's configuration, over the examples of all processes."""

    _running_sums = (*SearchingTrainer._running_sums, "_sums", "_sum_count")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sums: dict[str, Tensor] = {}
        self._sum_count = 0
        super().__init__(*args, **kwargs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The objective over the references of all processes: a mean over anchors, never over `num_items_in_batch`."""
        if "labels" not in inputs:
            raise ValueError(f"labels: expected a column of multi-hot labels, got the inputs {', '.join(inputs)}")
        outputs: Any = model(**model_inputs(inputs))
        if model.training:
            loss = self.training_loss(outputs, inputs)
        else:
            loss = self.core_model.objective_losses(outputs, inputs["labels"])["loss"]
        return (loss, outputs) if return_outputs else loss

    def training_loss(self, outputs: MLCLOutput, inputs: dict[str, Any]) -> Tensor:
        """The objective of a training batch, of which this process holds `outputs`; its parts go into the log.

        Args:
            outputs: What the objective needs of what forward returned for the batch.
            inputs: The batch.
        """
        core = self.core_model
        names = LOSS_INPUTS[core.config.objective]
        # This sampler alone gives processes batches of different sizes.
        equal_parts = getattr(self.args, "train_sampling_strategy", None) != "batch_rebalance"
        own = (*(outputs[name] for name in names), *self.keys_and_indices(outputs, inputs))
        *vectors, labels = gather_references(*own, labels=inputs["labels"], equal_parts=equal_parts)
        references = self.references(labels, *vectors[len(names) :])
        gathered: dict[str, Any] = dict(zip(names, vectors, strict=False))
        losses = core.objective_losses(MLCLOutput(prototypes=outputs.prototypes, **gathered), labels, references)
        parts = {name: part.detach() for name, part in losses.items() if name != "loss"}
        self._record(parts | positive_statistics(labels, references))
        return losses["loss"]

    def keys_and_indices(self, outputs: MLCLOutput, inputs: dict[str, Any]) -> tuple[Tensor, ...]:
        """Keys (B, d) of this process's examples and their data set indices (B,), or nothing."""
        return ()

    def references(self, labels: Tensor, *keys_and_indices: Tensor) -> References | None:
        """What anchors are contrasted with, given labels, keys and indices of all processes; None is each other."""
        return None

    def _record(self, values: dict[str, Tensor]) -> None:
        # Sums stay on the device: reading them here would wait for it at every step.
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._sum_count += 1

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the parts of the loss and the positives of the batches, averaged since the last log."""
        if "loss" in logs and self._sum_count:
            logs.update({name: round(float(value) / self._sum_count, 4) for name, value in self._sums.items()})
            self._sums, self._sum_count = {}, 0
        super().log(logs, start_time)


def model_inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    """What the model gets of a batch: not the labels, since the loss is computed over all processes."""
    return {name: value for name, value in inputs.items() if name not in ("labels", DATASET_INDEX)}


def chunks(inputs: dict[str, Any], rows: int, size: int) -> Iterator[dict[str, Any]]:
    """The inputs of `size` rows each, the last one perhaps of fewer; what has no row for each example goes to all."""
    for start in range(0, rows, size):
        yield {
            name: value[start : start + size] if isinstance(value, Tensor) and value.shape[:1] == (rows,) else value
            for name, value in inputs.items()
        }
