"""`ObjectiveTrainer`: the loss of a step over the references of all processes, and what is logged of it."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hf_mlcl.data.collator import DATASET_INDEX
from hf_mlcl.data.label_lists import LABEL_IDS
from hf_mlcl.losses import References, choose_labels
from hf_mlcl.models.modeling_mlcl import MLCLOutput

from .label_ids import equally_long, known_examples, label_lists, labels_name, multi_hot_rows, of_present_labels
from .references import gather_references, positive_statistics
from .search import SearchingTrainer

# What the loss of an objective takes from the examples of all processes.
LOSS_INPUTS = {"contrastive": ("embeddings",), "joint": ("embeddings", "logits"), "classification": ("logits",)}


class ObjectiveTrainer(SearchingTrainer):
    """Adds to the Trainer the objective of the model's configuration, over the examples of all processes."""

    _running_sums = (*SearchingTrainer._running_sums, "_sums", "_sum_count", "_choices")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sums: dict[str, Tensor] = {}
        self._sum_count = 0
        self._choices = 0  # how many times absent labels were drawn in this training
        super().__init__(*args, **kwargs)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains; see `transformers.Trainer.train`."""
        self._choices = 0
        return super().train(*args, **kwargs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The objective over the references of all processes: a mean over anchors, never over `num_items_in_batch`."""
        name = labels_name(inputs)
        if name is None:
            raise ValueError(
                f"labels: expected a column of multi-hot labels, or label_ids, got the inputs {', '.join(inputs)}"
            )
        outputs: Any = model(**(self.training_inputs(inputs) if model.training else model_inputs(inputs)))
        if model.training:
            loss = self.training_loss(outputs, inputs)
        elif name == "labels":
            loss = self.core_model.objective_losses(outputs, inputs[name])["loss"]
        else:
            names = LOSS_INPUTS[self.core_model.config.objective]
            vectors, lists = known_examples([outputs[part] for part in names], inputs[name])
            gathered: Any = dict(zip(names, vectors, strict=True))
            output = MLCLOutput(prototypes=outputs.prototypes, **gathered)
            loss = self._losses_of_lists(output, lists)["loss"]
        return (loss, outputs) if return_outputs else loss

    def training_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """What the model gets of a training batch: logits, B x L, are made only where the objective uses them."""
        core = self.core_model
        leaves_out = "logits" not in LOSS_INPUTS[core.config.objective]
        # A subclass of the model may have a `forward` that does not know the option.
        leaves_out = leaves_out and "output_logits" in inspect.signature(type(core).forward).parameters
        return model_inputs(inputs) | ({"output_logits": False} if leaves_out else {})

    def training_loss(self, outputs: MLCLOutput, inputs: dict[str, Any]) -> Tensor:
        """The objective of a training batch, of which this process holds `outputs`; its parts go into the log.

        Args:
            outputs: What the objective needs of what forward returned for the batch.
            inputs: The batch.
        """
        core, args, name = self.core_model, self.args, labels_name(inputs)
        names = LOSS_INPUTS[core.config.objective]
        # This sampler alone gives processes batches of different sizes.
        equal_parts = getattr(args, "train_sampling_strategy", None) != "batch_rebalance"
        own = (*(outputs[part] for part in names), *self.keys_and_indices(outputs, inputs))
        labels = equally_long(inputs[LABEL_IDS]) if name == LABEL_IDS else inputs["labels"]
        *vectors, labels = gather_references(*own, labels=labels, equal_parts=equal_parts)
        sample_size = getattr(args, "prototype_sample_size", None)
        lists = labels if name == LABEL_IDS else None
        if lists is None and sample_size is not None:
            lists = label_lists(labels)
        if lists is not None:
            vectors, lists = known_examples(vectors, lists)
        references = self.references(labels if lists is None else None, lists, *vectors[len(names) :])
        gathered: Any = dict(zip(names, vectors, strict=False))
        output = MLCLOutput(prototypes=outputs.prototypes, **gathered)
        if lists is None:
            losses = core.objective_losses(output, labels, references)
        else:
            losses = self._losses_of_lists(output, lists, references, sample_size)
            labels, references = of_present_labels(lists, references)
        parts = {part: value.detach() for part, value in losses.items() if part != "loss"}
        self._record(parts | positive_statistics(labels, references))
        return losses["loss"]

    def _losses_of_lists(
        self, output: MLCLOutput, lists: Tensor, references: References | None = None, sample_size: int | None = None
    ) -> dict[str, Tensor]:
        """The objective of labelled examples with label lists (B, K); with all absent labels, or some of them."""
        core, num_labels = self.core_model, self.core_model.config.num_labels
        rows = None if core.config.objective == "contrastive" else multi_hot_rows(lists, num_labels)
        chosen = None
        if sample_size is not None:
            # Processes draw alike, and a resumed run goes on with the draws.
            generator = torch.Generator(lists.device).manual_seed((self.args.seed << 32) + self._choices)
            chosen = choose_labels(lists, num_labels, sample_size, generator)
            self._choices += 1
            prototypes: Any = output.prototypes
            output = MLCLOutput(**{**output, "prototypes": prototypes[chosen.rows]})
        return core.objective_losses(output, rows, references, label_ids=lists, chosen=chosen)

    def keys_and_indices(self, outputs: MLCLOutput, inputs: dict[str, Any]) -> tuple[Tensor, ...]:
        """Keys (B, d) of this process's examples and their data set indices (B,), or nothing."""
        return ()

    def references(
        self, labels: Tensor | None, label_ids: Tensor | None, *keys_and_indices: Tensor
    ) -> References | None:
        """What anchors are contrasted with, given labels as rows or as lists, keys and indices of all processes; None
        is each other."""
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
    return {name: value for name, value in inputs.items() if name not in ("labels", LABEL_IDS, DATASET_INDEX)}


def chunks(inputs: dict[str, Any], rows: int, size: int) -> Iterator[dict[str, Any]]:
    """The inputs of `size` rows each, the last one perhaps of fewer; what has no row for each example goes to all."""
    for start in range(0, rows, size):
        yield {
            name: value[start : start + size] if isinstance(value, Tensor) and value.shape[:1] == (rows,) else value
            for name, value in inputs.items()
        }
