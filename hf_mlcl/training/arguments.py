"""`MLCLTrainingArguments`: transformers' arguments with the study's defaults, and the fields of the objective."""

import json
import math
import os
import re
from argparse import ArgumentTypeError
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from transformers import TrainingArguments
from transformers.hf_argparser import string_to_bool
from transformers.integrations import is_deepspeed_available
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_utils import HubStrategy, IntervalStrategy, SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames

from hf_mlcl.losses import build_loss, is_contrastive, loss_class
from hf_mlcl.losses.checks import check_number
from hf_mlcl.messages import nearest
from hf_mlcl.models import MLCLConfig
from hf_mlcl.models.configuration_mlcl import OBJECTIVES, POOLINGS
from hf_mlcl.models.encoders_mlcl import warn_if_bf16_is_slow

from .progress import LOGGING_STEPS

# What the numbers may be. transformers leaves most of the stock ones to an optimizer or a data loader, which name no
# argument, or to a division by zero.
_FROM_0 = (
    *("learning_rate", "head_learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps"),
    *("neftune_noise_alpha", "eval_delay", "num_train_epochs", "max_feature_memory"),
)
_ABOVE_0 = ("logging_steps", "save_steps", "eval_steps")
_BELOW_1 = ("adam_beta1", "adam_beta2", "momentum")
_INTEGERS: list[tuple[tuple[str, ...], int, float]] = [
    (("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"), 1, math.inf),
    (("views", "gradient_cache_chunk_size", "prototype_sample_size"), 1, math.inf),
    (("queue_size", "dataloader_num_workers"), 0, math.inf),
    (("seed", "data_seed"), 0, 2**32 - 1),
]
# And what the stock words may be: transformers names the kind of the word instead of the argument.
_CHOICES: dict[str, type[Enum]] = {
    "lr_scheduler_type": SchedulerType,
    "optim": OptimizerNames,
    "eval_strategy": IntervalStrategy,
    "logging_strategy": IntervalStrategy,
    "save_strategy": SaveStrategy,
    "hub_strategy": HubStrategy,
}


# Parameters of contrastive losses that have a field of their own.
_SHORTCUTS = ("temperature", "alpha", "beta")


def _choice(text: str, choices: tuple[str, ...] | None = None) -> Any:
    return field(default=None, metadata={"help": f"{text} Default: the model's.", "choices": choices})


def _renamed(error: ValueError) -> str:
    """What transformers says of its arguments, in one line that starts with the argument's name."""
    message = " ".join(str(error).split())
    fields = MLCLTrainingArguments.__dataclass_fields__
    name = next((word for word in re.findall(r"\w+", message) if word in fields), "MLCLTrainingArguments")
    message = message.replace("IntervalStrategy.", "").replace("SaveStrategy.", "")
    return message if message.startswith(name) else f"{name}: {message}"


def trains(args: TrainingArguments) -> bool:
    """Whether anything is trained; with `num_train_epochs=0` the encoder stays as it is."""
    return args.num_train_epochs > 0 or args.max_steps > 0


@dataclass
class MLCLTrainingArguments(TrainingArguments):
    """Arguments of `MLCLTrainer`: those of `transformers.TrainingArguments` and the fields below.

    AdamW, weight decay, the cosine schedule with warm-up and clipping are the study's (arXiv 2412.00101); batches of
    16 and the higher learning rate of the heads measured better (benchmarks/recipe.md). The last incomplete batch of
    an epoch is dropped. The fields of the objective default to None, which leaves the model's configuration as it is;
    given, they are written into it.
    """

    per_device_train_batch_size: int = field(default=16, metadata={"help": "Training batch size per device."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Evaluation batch size per device."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay, not on biases and norms."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    warmup_steps: float = field(default=0.05, metadata={"help": "Warm-up: steps, or below 1 a share of all steps."})
    logging_steps: float = field(
        default=LOGGING_STEPS,
        metadata={
            "help": "Steps between two lines of the log, or below 1 a share of all steps; then at each epoch, too."
        },
    )
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Drop the last incomplete batch of an epoch."})
    dataloader_num_workers: int | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Worker processes that prepare batches. Default: for images one per spare core, at most 4, where "
            "Python forks processes (on Linux before 3.14); for tokens none."
        },
    )

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "loss_kwargs", "classification_loss_kwargs"]

    objective: str | None = _choice(
        "Training objective; `hf-mlcl train` without loss and objective takes joint.", OBJECTIVES
    )
    loss: str | None = _choice(
        "The contrastive loss, or a classification loss for plain classification; `hf-mlcl train` without loss and "
        "objective takes reg and zlpr together."
    )
    temperature: float | None = _choice("Temperature of the contrastive loss.")
    alpha: float | None = _choice("Exponent of the affinity in `reg` and `mscwrg`.")
    beta: float | None = _choice("Weight of in-batch examples in the denominator of `msc`.")
    classification_loss: str | None = _choice("Classification loss of the joint and the classification objective.")
    classification_weight: float | None = _choice("Weight of the classification loss in the joint objective.")
    loss_kwargs: dict | str | None = field(
        default=None,
        metadata={"help": "Further parameters of the loss, as JSON: '{\"gamma\": 1}'; see `hf-mlcl losses`."},
    )
    classification_loss_kwargs: dict | str | None = field(
        default=None, metadata={"help": "Parameters of the classification loss in the joint objective, as JSON."}
    )
    freeze_batch_norm: bool | None = _choice("Freeze the statistics of the encoder's batch normalisation.")
    views: int = field(
        default=1,
        metadata={"help": "Views of each training example in its batch: extra positives by augmentation or dropout."},
    )
    gradient_cache_chunk_size: int | None = field(
        default=None,
        metadata={
            "help": "Micro-batch size for gradient caching; the loss still sees the full batch. Of shorter texts a "
            "micro-batch holds more, for the same memory."
        },
    )
    length_sorted_chunks: bool = field(
        default=True,
        metadata={
            "help": "Run the encoder over chunks of about equally long texts where that saves padding; the loss still "
            "sees the full batch."
        },
    )
    label_aware_batches: bool = field(
        default=False,
        metadata={
            "help": "Compose batches so that each label in a batch occurs at least twice, where the data allow."
        },
    )
    prototype_sample_size: int | None = field(
        default=None,
        metadata={"help": "Number of sampled negative label prototypes per step. Default: all labels."},
    )
    queue_size: int = field(default=0, metadata={"help": "Size of the memory queue of past embeddings."})
    momentum: float | None = field(
        default=None,
        metadata={
            "help": "Momentum of the moving average of the model that makes the keys of the memory queue (MoCo). "
            "Default: the model itself makes them."
        },
    )
    head_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate of projection, prototypes and classifier. Default: 20 times learning_rate, but not "
            "above 1e-3, or above learning_rate where that is higher."
        },
    )
    max_feature_memory: float = field(
        default=4.0,
        metadata={
            "help": "GiB of features kept in memory while the classifier is fitted; more go to a temporary file."
        },
    )
    pooling: str | None = _choice("How encoder outputs become features; fixed once the model is built.", POOLINGS)
    projection_dim: int | None = _choice("Size of the embeddings; fixed once the model is built.")

    def __post_init__(self) -> None:
        self._read_texts()
        self._check_numbers()
        self._check_choices()
        self._check_texts()
        if self.deepspeed and not is_deepspeed_available():  # later it would leave its mark on the whole process
            raise ImportError("deepspeed needs the package deepspeed: pip install deepspeed")
        if self.eval_strategy == IntervalStrategy.STEPS and self.logging_steps == LOGGING_STEPS:
            self.eval_steps = self.eval_steps or 500  # transformers' default would follow the log
        workers, self.dataloader_num_workers = self.dataloader_num_workers, self.dataloader_num_workers or 0
        try:
            super().__post_init__()
        except ValueError as error:
            raise ValueError(_renamed(error)) from error
        for name in ("loss_kwargs", "classification_loss_kwargs"):
            if isinstance(getattr(self, name), str):  # a file
                setattr(self, name, json.loads(Path(getattr(self, name)).read_text(encoding="utf-8")))
        self.dataloader_num_workers = workers  # None until the data are known, which transformers would compare
        for tracker in self.report_to or ():
            if tracker not in INTEGRATION_TO_CALLBACK:
                known = ", ".join(INTEGRATION_TO_CALLBACK)
                raise ValueError(f"report_to: {tracker!r} is no tracker; choose all, none, or some of {known}")
        strategy = getattr(self, "train_sampling_strategy", "random")
        if self.label_aware_batches and strategy != "random":
            raise ValueError(f"label_aware_batches cannot be combined with train_sampling_strategy={strategy!r}")
        if self.bf16:
            warn_if_bf16_is_slow(self.device)
        # Without an accelerator there is nothing to pin for, and torch would warn at every data loader.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.accelerator.is_available()
        # The Trainer would search for unused parameters at every step; what an objective does not use is frozen.
        if self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = False

    def _read_texts(self) -> None:
        """Gives texts in the place of numbers their types: YAML reads 5e-5 as a text, and `no` as False."""
        for name, hint in get_type_hints(type(self)).items():
            kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
            value = getattr(self, name, None)
            number = kinds in ([bool], [int], [float])
            if number and value is None and type(None) not in get_args(hint):
                raise ValueError(f"{name} must be of type {kinds[0].__name__}, got None")
            if number and isinstance(value, (str, list, dict)):
                read: Any = string_to_bool if kinds == [bool] else kinds[0]
                try:
                    setattr(self, name, read(value))
                except (TypeError, ValueError, ArgumentTypeError):
                    raise ValueError(f"{name} must be of type {kinds[0].__name__}, got {value!r}") from None
        if self.hub_token == "<HUB_TOKEN>":  # what `to_json_string` writes in its place
            self.hub_token = None
        for name in ("eval_strategy", "logging_strategy", "save_strategy"):
            if getattr(self, name) is False:
                setattr(self, name, "no")

    def _check_numbers(self) -> None:
        for name in (*_FROM_0, *_ABOVE_0, *_BELOW_1):
            value = getattr(self, name)
            if value is not None and check_number(name, value, 0, open_low=name in _ABOVE_0) >= 1 and name in _BELOW_1:
                raise ValueError(f"{name} must be below 1, got {value!r}")
        for names, low, high in _INTEGERS:
            for name in names:
                value = getattr(self, name)
                if value is not None and (type(value) is not int or not low <= value <= high):
                    upper = "" if high == math.inf else f" and at most {high:.0f}"
                    raise ValueError(f"{name} must be an integer of at least {low}{upper}, got {value!r}")
        if self.label_smoothing_factor != 0:  # only the loss that the Trainer has of its own would look at it
            smoothing = self.label_smoothing_factor
            raise ValueError(f"label_smoothing_factor={smoothing} is not supported: no objective smooths labels")
        if type(self.max_steps) is not int or (self.max_steps < 1 and self.max_steps != -1):
            raise ValueError(f"max_steps must be at least 1, or -1 to go by epochs, got {self.max_steps!r}")

    def _check_choices(self) -> None:
        for name, kinds in _CHOICES.items():
            value = getattr(self, name)
            value, choices = getattr(value, "value", value), [kind.value for kind in kinds]
            if value not in choices:
                hint = nearest(str(value), choices)
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}{hint}")

        for name in ("loss", "classification_loss"):
            if getattr(self, name) is not None:
                try:
                    loss_class(getattr(self, name))
                except ValueError as error:
                    raise ValueError(f"{name}: {str(error).removeprefix('loss: ')}") from None

        if self.torch_compile_mode is not None and self.torch_compile_backend in (None, "inductor"):
            from torch._inductor import list_mode_options  # takes seconds to import

            if self.torch_compile_mode not in list_mode_options():
                modes = ", ".join(list_mode_options())
                raise ValueError(f"torch_compile_mode must be one of {modes}, got {self.torch_compile_mode!r}")

    def _check_texts(self) -> None:
        if not isinstance(self.output_dir, str | os.PathLike | None):
            raise ValueError(f"output_dir must be a folder, got {self.output_dir!r}")
        for name in self._VALID_DICT_FIELDS:
            value = getattr(self, name)
            try:
                valid = not isinstance(value, str) or Path(value).is_file() or isinstance(json.loads(value), dict)
            except (ValueError, OSError):
                valid = False
            if not valid:
                raise ValueError(f"{name} must be a JSON object or a file with one, got {value!r}")
        for part in self.optim_args.split(",") if self.optim_args else ():
            if "=" not in part:
                raise ValueError(f"optim_args must be name=value, separated by commas, got {self.optim_args!r}")

    def write_objective(self, config: MLCLConfig, loss: Any = None) -> None:
        """Writes the objective into a model's configuration; `build_losses` then makes the model's losses anew.

        Args:
            config: Of the model.
            loss: A loss of the user's own, in place of a name.

        Raises:
            ValueError: For an unknown loss, a parameter that it does not have, an objective that does not fit it, or
                where `pooling` or `projection_dim` differ from what the model was built with.
        """
        for name in ("pooling", "projection_dim"):
            asked, built = getattr(self, name), getattr(config, name)
            if asked not in (None, built):
                raise ValueError(
                    f"{name}: the model was built with {built!r}, got {asked!r}; give it to from_encoder instead"
                )
        for name, value in self._objective_fields(config, loss).items():
            setattr(config, name, value)
        config.check()

    def _objective_fields(self, config: MLCLConfig, own: Any = None) -> dict[str, Any]:
        """The fields of `config` that these arguments change, checked together with those that stay."""
        loss, objective = self.loss, self.objective
        if own is not None and loss is not None:
            raise ValueError(f"loss: give a name in the arguments or a loss of your own, not both, got {loss!r}")
        fields: dict[str, Any] = {}
        if own is not None or loss is not None:
            classifies = not is_contrastive(own if own is not None else loss_class(loss))  # type: ignore[arg-type]
            if classifies and (objective == "contrastive" or (objective == "joint" and own is None)):
                raise ValueError(
                    f"loss: {loss or type(own).__name__!r} is a classification loss; with the objective "
                    f"{objective!r} set it as classification_loss, or leave the objective out"
                )
            if classifies and self.classification_loss not in (None, loss):
                raise ValueError(f"classification_loss={self.classification_loss!r} contradicts the loss {loss!r}")
            if not classifies and loss is not None:
                fields["loss"] = loss
            elif loss is not None:
                fields["classification_loss"] = loss
            if classifies and objective is None:
                fields["objective"] = "classification"
            elif not classifies and config.objective == "classification":
                fields["objective"] = "contrastive"
        if objective is not None:
            fields["objective"] = objective
        for name in ("classification_loss", "classification_weight", "freeze_batch_norm"):
            if getattr(self, name) is not None:
                fields[name] = getattr(self, name)
        classification = fields.get("classification_loss", config.classification_loss)
        if own is None and is_contrastive(loss_class(classification)):
            raise ValueError(f"classification_loss: {classification!r} is a contrastive loss, not one on logits")
        objective = fields.get("objective", config.objective)
        given = {name: value for name in _SHORTCUTS if (value := getattr(self, name)) is not None}
        loss_kwargs: dict[str, Any] = dict(self.loss_kwargs or {})  # type: ignore[arg-type]
        for name in given.keys() & loss_kwargs.keys():
            raise ValueError(f"{name} is given twice, by itself and in loss_kwargs")
        # `loss_kwargs` are those of the loss that `loss` names, or else of the one that is trained.
        of_classification: dict[str, Any] = {}
        if objective == "classification":
            if given:
                name = next(iter(given))
                raise ValueError(
                    f"{name} belongs to contrastive losses, but the objective trains by {classification!r} alone"
                )
            of_classification, loss_kwargs = loss_kwargs, {}
        of_classification |= dict(self.classification_loss_kwargs or {})  # type: ignore[arg-type]
        for kind, values in (("loss", {**given, **loss_kwargs}), ("classification_loss", of_classification)):
            # Another loss starts from its own defaults: parameters of the old one need not exist or mean the same.
            same = fields.get(kind, getattr(config, kind)) == getattr(config, kind)
            fields[f"{kind}_parameters"] = {**(getattr(config, f"{kind}_parameters") if same else {}), **values}
            if own is None or is_contrastive(own) != (kind == "loss"):
                build_loss(fields.get(kind, getattr(config, kind)), **fields[f"{kind}_parameters"])
        return fields
