"""Flags of the command line, read from the arguments' dataclasses or from one YAML or JSON file."""

import argparse
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from transformers import HfArgumentParser

from hf_mlcl.evaluation.probe import PROTOCOLS
from hf_mlcl.evaluation.thresholds import RULES

from .parser import Help, OneLineParser


@dataclass
class DataArguments:
    """The dataset and how it is read."""

    dataset: str = field(metadata={"help": "Hub id, folder or file of the dataset."})
    task: str | None = field(
        default=None,
        metadata={"help": "Modality of the inputs. Default: what the columns hold.", "choices": ("text", "vision")},
    )
    text_column: str | None = field(default=None, metadata={"help": "Text column. Default: detected."})
    text_pair_column: str | None = field(default=None, metadata={"help": "Column of the second text, for text pairs."})
    image_column: str | None = field(default=None, metadata={"help": "Image column. Default: detected."})
    label_column: str | None = field(
        default=None,
        metadata={
            "help": "Label column, or multi-hot columns: 'a,b,c', 'a,' for one, or 'label_*'. Default: detected."
        },
    )
    label_delimiter: str | None = field(default=None, metadata={"help": "Separator of several labels in one string."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a dataset that has several."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a dataset on the Hub."})
    encoding: str | None = field(
        default=None, metadata={"help": "Encoding of the texts of local files, such as cp1252. Default: UTF-8."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Maximum sequence length in tokens. Default: the model's."}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Input resolution in pixels. Default: the model's."}
    )
    corrupt_images: str = field(
        default="error",
        metadata={"help": "What to do with images that cannot be decoded.", "choices": ("error", "skip")},
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Take a random subset of this size of the training split."}
    )
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Take random subsets of this size of the other splits."}
    )


@dataclass
class TrainArguments(DataArguments):
    """What `hf-mlcl train` needs beside `MLCLTrainingArguments`."""

    encoder: str = field(kw_only=True, metadata={"help": "Hub id or folder of the encoder."})
    prototype_init: str | None = field(
        default=None,
        metadata={
            "help": "Initialisation of the label prototypes. Default: label_names for texts where neither loss nor "
            "objective is given, otherwise xavier.",
            "choices": ("xavier", "label_names"),
        },
    )
    label_descriptions: str | None = field(
        default=None, metadata={"help": "JSON file {label name: description}, for --prototype_init label_names."}
    )
    lora_r: int | None = field(
        default=None, metadata={"help": "LoRA rank: trains LoRA adapters and the heads instead of the whole encoder."}
    )
    lora_alpha: float | None = field(default=None, metadata={"help": "LoRA alpha. Default: twice the rank."})
    lora_target_modules: str | None = field(
        default=None, metadata={"help": "LoRA target modules, such as 'query,value'. Default: all linear layers."}
    )
    peft_config: str | None = field(default=None, metadata={"help": "JSON file of any peft adapter configuration."})
    validation_fraction: float = field(
        default=0.1,
        metadata={
            "help": "Fraction of the training split held out for validation where there is no validation split."
        },
    )
    max_labels: int | None = field(
        default=None, metadata={"help": "Keep only so many labels: the most frequent of the training split."}
    )
    augmentation: str = field(
        default="none",
        metadata={
            "help": "Data augmentation of training images; crop: a random part of the image, mirrored or not.",
            "choices": ("none", "crop", "randaugment"),
        },
    )
    randaugment_operations: int = field(default=2, metadata={"help": "Number of RandAugment operations per image."})
    randaugment_magnitude: int = field(default=9, metadata={"help": "Magnitude of RandAugment, 0 to 30."})
    pictures: bool = field(default=False, metadata={"help": "Add figures to the model card; needs hf-mlcl[plots]."})
    classifier: str = field(
        default="linear_evaluation",
        metadata={
            "help": "Fit a linear classifier on the frozen encoder, or keep the head that the objective trained.",
            "choices": ("linear_evaluation", "trained"),
        },
    )
    protocol: str = field(
        default="logistic_regression",
        metadata={
            "help": "Protocol of linear evaluation: logistic regression, or the study's grid.",
            "choices": PROTOCOLS,
        },
    )
    refit: bool = field(
        default=True,
        metadata={"help": "Refit the final classifier on training and validation examples."},
    )
    thresholds: str = field(
        default="balanced",
        metadata={
            "help": f"What the thresholds serve: {', '.join(RULES)} (F1), or precision=P or recall=R, which each "
            "label is to reach on the validation examples."
        },
    )


class DataclassParser(HfArgumentParser, OneLineParser):
    """Reads dataclasses from flags, or from a first argument that is a YAML or JSON file with flags behind it."""

    def __init__(self, dataclasses: Any, groups: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        self._groups = groups or {}  # what `--help` shows, where that is not everything
        super().__init__(dataclasses, allow_abbrev=False, formatter_class=Help, **kwargs)
        if groups:
            none: dict[str, Any] = {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}
            self.add_argument("--help-all", action=_AllOptions, nargs=0, help="Show all options.", **none)

    def format_help(self) -> str:
        if not self._groups:
            return super().format_help()
        actions = {action.dest: action for action in self._actions}
        lines = [f"usage: {self.prog} --option value ... or {self.prog} FILE.yaml --option value ..."]
        for title, names in self._groups.items():
            lines += ["", f"{title}:"]
            for name in names:
                action = actions[name]
                text = str(action.help).replace("%%", "%")
                if action.choices:
                    text += f" One of {', '.join(map(str, action.choices))}."
                if action.default is not None and not action.required and "Default" not in text:
                    text += f" Default: {getattr(action.default, 'value', action.default)}."
                wrapped = textwrap.wrap(text, 84)
                lines += [f"  --{name:<28} {wrapped[0]}", *(f"{'':<33}{line}" for line in wrapped[1:])]
        return "\n".join([*lines, "", f"All {len(actions) - 2} options: {self.prog} --help-all", ""])

    def all_options(self) -> str:
        """The help of every option."""
        return super().format_help()

    def parse(self, arguments: Sequence[str]) -> tuple[Any, ...]:
        """The filled dataclasses; ValueError in one line for anything wrong."""
        remaining = list(arguments)
        if remaining and not remaining[0].startswith("-"):
            remaining = [*self._flags_of_file(Path(remaining[0])), *remaining[1:]]
        *filled, unknown = self.parse_args_into_dataclasses(
            remaining, return_remaining_strings=True, look_for_args_file=False
        )
        if unknown:
            raise ValueError(self.unknown(unknown[0]))
        return tuple(filled)

    def _flags_of_file(self, path: Path) -> list[str]:
        """The values of a file as flags, which argparse checks like those behind it."""
        if path.suffix not in (".yaml", ".yml", ".json"):
            raise ValueError(f"arguments: expected a flag or a .yaml or .json file of arguments first, got '{path}'")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file of arguments")
        try:
            values = (json.loads if path.suffix == ".json" else yaml.safe_load)(path.read_text(encoding="utf-8-sig"))
        except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not valid {path.suffix[1:].upper()}: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path}: expected a mapping of arguments to values, got {type(values).__name__}")
        return self.flags(values, f"{path}: ")

    def flags(self, values: Mapping[str, Any], where: str = "") -> list[str]:
        """Values of arguments, as YAML and JSON have them, as flags; errors begin with `where`."""
        actions = {action.dest: action for action in self._actions if action.dest != "help"}
        hints = {name: hint for kind in self.dataclass_types for name, hint in get_type_hints(kind).items()}
        flags: list[str] = []
        for name, value in values.items():
            if name not in actions:
                raise ValueError(f"{where}{self.unknown(f'--{name}')}")
            action = actions[name]
            if value is None and type(None) not in get_args(hints[name]):
                raise ValueError(f"{where}{name}: expected a value, got None")
            if isinstance(value, (list, dict)) and name in TrainArguments.__dataclass_fields__:
                raise ValueError(f"{where}{name}: expected one value, got {value!r}")
            if value is None or isinstance(value, (list, dict)):  # which no flag can say
                action.required = False
                self.set_defaults(**{name: value})
            elif isinstance(value, bool) and action.choices and "no" in action.choices:  # YAML reads `no` as false
                flags.append(f"--{name}={'yes' if value else 'no'}")
            else:
                flags.append(f"--{name}={value}")
        return flags


class _AllOptions(argparse.Action):
    """Prints the help of every option, and ends."""

    def __call__(self, parser: Any, *_: Any) -> None:
        print(parser.all_options())
        parser.exit()


class ModelParser(DataclassParser):
    """Of the commands that take a trained model and the flags of a dataset; the model knows its task."""

    def __init__(self, prog: str, description: str, optional: Sequence[str] = ()) -> None:
        super().__init__(DataArguments, prog=prog, description=description)
        self.add_argument("model", help="Folder or Hub id of the trained model.")
        for action in self._actions:
            action.required = action.required and action.dest not in optional
