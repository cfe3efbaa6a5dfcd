"""A parser whose errors are one line, and types of its flags. Imports little, so that commands start fast."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from hf_mlcl.messages import nearest

# What other tools call an option; the first that a command has is meant.
_OTHER_NAMES = {
    "lr": ("learning_rate",),
    "epochs": ("num_train_epochs",),
    "batch_size": ("per_device_train_batch_size", "batch_size"),
    "bs": ("per_device_train_batch_size", "batch_size"),
    "model": ("encoder",),
    "model_name_or_path": ("encoder",),
    "dataset_name": ("dataset",),
    "data": ("dataset",),
    "output": ("output_dir",),
    "out": ("output_dir",),
    "max_seq_length": ("max_length",),
    "labels": ("label_column",),
    "workers": ("dataloader_num_workers",),
}


THRESHOLD_HELP = "Least score of what is given; LABEL=0.7 for one label. May repeat. Default: the model's thresholds."


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        said = action.default in (None, False) or "Default" in (action.help or "")
        return action.help if said else super()._get_help_string(action)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one ValueError in one line that begins with the option; no page of usage."""

    _words: Sequence[str] = ()  # what is being parsed

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"formatter_class": Help, **kwargs})

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
        known = {option for action in self._actions for option in action.option_strings}
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        misspelt = [word for word in self._words if word.startswith("--") and word.split("=")[0] not in known]
        if unknown or ("required" in message and misspelt):  # perhaps it is missing because it is misspelt
            raise ValueError(self.unknown(unknown[1] if unknown else misspelt[0]))
        missing = re.match(r"(?:the following|one of the) arguments (?:are required: )?(\S+?),? ", message + " ")
        if missing and "required" in message:
            raise ValueError(f"{missing[1]}: {message}")
        choice = re.match(r"(.+): invalid choice: '?(.*?)'? \(choose from (.+)\)", message)
        if choice:
            message += nearest(choice[2], [name.strip(" '") for name in choice[3].split(",")])
        if message.endswith("expected one argument"):
            message += " (one that begins with - is written --option=-a)"
        raise ValueError(re.sub(r"^argument (?:-\w/)?", "", message))

    def unknown(self, option: str) -> str:
        """The message for an option that does not exist, with the nearest that does."""
        options = [known for action in self._actions for known in action.option_strings]
        option = option.split("=")[0]
        known = [f"--{name}" for name in _OTHER_NAMES.get(option.lstrip("-"), ())]
        hint = next((f" (did you mean '{name}'?)" for name in known if name in options), nearest(option, options))
        return f"{option}: {self.prog} has no such option{hint}"


def at_least_one(text: str) -> int:
    """The type of a flag for a number of things."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return int(text)


def seed(text: str) -> int:
    """The type of a flag for a seed, which numpy takes from 0 to 4294967295."""
    if not 0 <= int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"expected at least 0 and at most 4294967295, got {text}")
    return int(text)
