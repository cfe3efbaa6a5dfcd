"""Flags of the command line, read from the arguments' dataclasses or from one YAML or JSON file."""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

import yaml
from transformers import HfArgumentParser

from hf_mlcl.evaluation.probe import PROTOCOLS
from hf_mlcl.evaluation.thresholds import RULES


@dataclass
class DataArguments:
    """The data set and how it is read."""

    task: str = field(metadata={"help": "What the inputs are.", "choices": ("text", "vision")})
    dataset: str = field(metadata={"help": "Hub id, folder or file."})
    text_column: str | None = field(default=None, metadata={"help": "Column of the texts. Default: recognised."})
    text_pair_column: str | None = field(
        default=None, metadata={"help": "Column of the second texts, where examples are pairs of texts."}
    )
    image_column: str | None = field(default=None, metadata={"help": "Column of the images. Default: recognised."})
    label_column: str | None = field(
        default=None,
        metadata={"help": "Label column, or 0/1 columns: 'a,b,c', 'a,' for one, or 'label_*'. Default: recognised."},
    )
    label_delimiter: str | None = field(default=None, metadata={"help": "What separates labels in one string."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a data set on the Hub."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a data set on the Hub."})
    max_length: int | None = field(
        default=None, metadata={"help": "Tokens a text is cut to. Default: the model's limit."}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Side of the images in pixels. Default: the model's."}
    )
    corrupt_images: str = field(
        default="error",
        metadata={"help": "Images that cannot be decoded: stop, or leave them out.", "choices": ("error", "skip")},
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on a random subset of this size."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on random subsets of this size."})


@dataclass
class TrainArguments(DataArguments):
    """What `hf-mlcl train` needs beside `MLCLTrainingArguments`."""

    encoder: str = field(kw_only=True, metadata={"help": "Hub id or folder of the encoder."})
    prototype_init: str = field(
        default="xavier",
        metadata={"help": "How prototypes start: random, or from label names.", "choices": ("xavier", "label_names")},
    )
    label_descriptions: str | None = field(
        default=None, metadata={"help": "JSON file of label name: text, for --prototype_init label_names."}
    )
    lora_r: int | None = field(
        default=None, metadata={"help": "Train LoRA adapters of this rank and the heads, not the whole encoder."}
    )
    lora_alpha: float | None = field(default=None, metadata={"help": "Scale of LoRA. Default: twice the rank."})
    lora_target_modules: str | None = field(
        default=None, metadata={"help": "Layers that LoRA adapts: 'query,value'. Default: all linear ones."}
    )
    peft_config: str | None = field(
        default=None, metadata={"help": "JSON file of any adapter's configuration, as peft saves it."}
    )
    validation_fraction: float = field(
        default=0.1, metadata={"help": "Share of the training examples to validate on where there is no such split."}
    )
    augmentation: str = field(
        default="none", metadata={"help": "Augmentation of training images.", "choices": ("none", "randaugment")}
    )
    randaugment_operations: int = field(default=2, metadata={"help": "Operations an image in RandAugment."})
    randaugment_magnitude: int = field(default=9, metadata={"help": "Magnitude of RandAugment, 0 to 30."})
    pictures: bool = field(
        default=False, metadata={"help": "Draw pictures for the model card; needs matplotlib: hf-mlcl[plots]."}
    )
    classifier: str = field(
        default="linear_evaluation",
        metadata={
            "help": "Fit a classifier on the frozen encoder, or keep the one that the objective trained.",
            "choices": ("linear_evaluation", "trained"),
        },
    )
    protocol: str = field(
        default="logistic_regression",
        metadata={
            "help": "How the classifier is fitted on the frozen encoder: logistic regression, or the study's grid.",
            "choices": PROTOCOLS,
        },
    )
    refit: bool = field(
        default=True,
        metadata={"help": "Fit the final classifier on the validation examples, too; false keeps them apart."},
    )
    thresholds: str = field(
        default="balanced",
        metadata={
            "help": "What the thresholds serve: Macro-F1, Micro-F1 (one for all labels), or both.",
            "choices": RULES,
        },
    )


def _hint(given: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(given, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one ValueError: the option, what was expected, what came; no page of usage."""

    _words: Sequence[str] = ()  # what is being parsed

    def parse_known_args(self, args: Any = None, namespace: Any = None, **kwargs: Any) -> Any:
        self._words = self._joined(list(sys.argv[1:] if args is None else args))
        return super().parse_known_args(self._words, namespace, **kwargs)

    def _joined(self, words: list[str]) -> list[str]:
        """Words such as `--text -oil` as `--text=-oil`: argparse would take the text for a flag."""
        options = {option: action for action in self._actions for option in action.option_strings}
        joined: list[str] = []
        for word in words:
            action = options.get(joined[-1]) if joined else None
            takes_one = action is not None and action.nargs is None and action.type in (None, str)
            if takes_one and re.match(r"-[^-]", word) and word not in options:
                joined[-1] += f"={word}"
            else:
                joined.append(word)
        return joined

    def error(self, message: str) -> NoReturn:
        if "required" in message:  # perhaps because it is misspelt
            known = {option for action in self._actions for option in action.option_strings}
            misspelt = [word for word in self._words if word.startswith("--") and word.split("=")[0] not in known]
            if misspelt:
                raise ValueError(self.unknown(misspelt[0]))
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if unknown:
            raise ValueError(self.unknown(unknown[1]))
        missing = re.match(r"the following arguments are required: (.+)", message)
        if missing:
            raise ValueError(f"{missing[1].split(', ')[0]}: expected a value, got none; required: {missing[1]}")
        choice = re.match(r"one of the arguments (.+) is required", message)
        if choice:
            raise ValueError(f"{choice[1].split()[0]}: expected one of {choice[1]}, got none")
        message = re.sub(r"^argument ([^:/]+)[^:]*: ", r"\1: ", message)
        message = re.sub(r"not allowed with argument (\S+)", r"expected none beside \1, got both", message)
        message = re.sub(r"Truthy value expected: got (.*) but expected (.*)", r"expected \2, got '\1'", message)
        message = re.sub(r"ignored explicit argument (.*)$", r"expected no value, got \1", message)
        equals = r"\1: expected a value, got none (one that begins with - is written \1=-a)"
        message = re.sub(r"^(.*): expected one argument$", equals, message)
        invalid = re.match(r"(.+): invalid choice: '?(.*?)'? \(choose from (.+)\)", message)
        if invalid:
            choices = [name.strip(" '") for name in invalid[3].split(",")]
            hint = _hint(invalid[2], choices)
            raise ValueError(f"{invalid[1]}: expected one of {', '.join(choices)}, got {invalid[2]!r}{hint}")
        raise ValueError(re.sub(r"invalid (\S+) value: ", r"expected a value of type \1, got ", message))

    def unknown(self, option: str) -> str:
        """The message for an option that does not exist, with the nearest that does."""
        options = [known for action in self._actions for known in action.option_strings]
        option = option.split("=")[0]
        near = difflib.get_close_matches(option, options, n=1)
        return f"{option}: expected an option of {self.prog}" + (f" (did you mean {near[0]}?)" if near else "")


class DataclassParser(HfArgumentParser, OneLineParser):
    """Reads dataclasses from flags, or from a first argument that is a YAML or JSON file with flags behind it."""

    def __init__(self, dataclasses: Any, **kwargs: Any) -> None:
        super().__init__(dataclasses, allow_abbrev=False, **kwargs)

    def parse(self, arguments: Sequence[str]) -> tuple[Any, ...]:
        """The filled dataclasses; ValueError in one line for anything wrong."""
        remaining = list(arguments)
        if remaining and not remaining[0].startswith("-"):
            self._set_from_file(Path(remaining.pop(0)))
        *filled, unknown = self.parse_args_into_dataclasses(
            remaining, return_remaining_strings=True, look_for_args_file=False
        )
        if unknown:
            raise ValueError(self.unknown(unknown[0]))
        return tuple(filled)

    def _set_from_file(self, path: Path) -> None:
        if path.suffix not in (".yaml", ".yml", ".json"):
            raise ValueError(f"arguments: expected a flag or a .yaml or .json file of arguments first, got '{path}'")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected a file of arguments, found none")
        try:
            values = (json.loads if path.suffix == ".json" else yaml.safe_load)(path.read_text(encoding="utf-8-sig"))
        except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: expected valid {path.suffix[1:].upper()}, got: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path}: expected a mapping of arguments to values, got {type(values).__name__}")
        actions = {action.dest: action for action in self._actions}
        kinds = [get_type_hints(kind) for kind in self.dataclass_types]
        hints = {name: hint for hints in kinds for name, hint in hints.items() if name in actions}
        for name, value in values.items():
            if name not in hints:
                near = difflib.get_close_matches(str(name), hints, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ValueError(f"{path}: expected arguments of {self.prog}, got {name!r}{hint}")
            action = actions[name]
            if value is None and type(None) not in get_args(hints[name]):
                raise ValueError(f"{path}: {name}: expected a value, got None")
            action.required = False
            self.set_defaults(**{name: _checked(action, value, path)})


def _checked(action: argparse.Action, value: Any, path: Path) -> Any:
    # A flag's text runs through its type; YAML has types of its own, and reads 5e-5 as a string.
    if isinstance(value, bool) and action.choices and "no" in action.choices:
        value = "yes" if value else "no"
    if value is not None and isinstance(value, (str, int, float)) and action.type is not None and action.nargs is None:
        try:
            value = action.type(str(value))  # type: ignore[operator]
        except (TypeError, ValueError, argparse.ArgumentTypeError) as error:
            kind = getattr(action.type, "__name__", "another")
            raise ValueError(f"{path}: {action.dest}: expected a value of type {kind}, got {value!r}") from error
    if isinstance(value, (list, dict)) and action.dest in TrainArguments.__dataclass_fields__:
        raise ValueError(f"{path}: {action.dest}: expected one value, got {value!r}")
    if action.choices and value is not None and value not in action.choices:
        raise ValueError(
            f"{path}: {action.dest}: expected one of {', '.join(map(str, action.choices))}, got {value!r}"
        )
    return value
