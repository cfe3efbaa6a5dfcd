"""The command `hf-mlcl`: runs a sub-command and turns a user's mistake into one line and exit status 2."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from hf_mlcl.messages import nearest, printable

COMMANDS = {
    "train": "train a model on a multi-label dataset: model, card and metrics in one folder",
    "evaluate": "measure a trained model on a split of a dataset",
    "data": "show what a dataset is read as and what it holds, without training",
    "study": "compare losses on datasets: trainings, statistics, a report",
    "inspect": "report what a trained model has learnt: hard labels, confusions, neighbours, maps, gradients",
    "predict": "label texts or images with a trained model",
    "push": "publish a trained model on the Hub, in one commit",
    "export": "write a trained model as ONNX, in float32 or int8, to serve it without torch",
    "app": "serve a page to try a trained model, or write it as a Space",
    "demo": "train tiny models on embedded data, without network, and show what comes out",
    "losses": "list the losses and their parameters",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `hf-mlcl COMMAND ...`; exits with 0, with 2 after a user's mistake, with 130 after Ctrl-C.

    `train` handles SIGTERM as well, and exits with 143.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: hf-mlcl COMMAND ...\n")
        print("\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items()))
        print("\nhf-mlcl COMMAND --help tells more.")
        sys.exit(0 if arguments else 2)
    name, *rest = arguments
    if name == "--version":
        from hf_mlcl import __version__

        print(f"hf-mlcl {__version__}")
        return
    if name not in COMMANDS:
        fail(f"command: {name!r} is none of {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    # A study is made of commands: its package imports this one.
    module = "hf_mlcl.study.command" if name == "study" else f"{__name__}.{name}"
    run_command(lambda arguments: importlib.import_module(module).run(arguments), rest)


def run_command(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Runs one sub-command; what goes wrong with its input, files or packages ends in one line."""
    from safetensors import SafetensorError  # how a full disk shows while a model is saved

    if logging.lastResort is not None:  # which writes warnings to the terminal where nobody has set up logging
        logging.lastResort.setFormatter(_Printable())

    try:
        command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError, SafetensorError) as error:
        fail(" ".join(str(error).split()) or type(error).__name__)
    except RuntimeError as error:
        if "inline_container" not in str(error):  # how torch says that a file could not be written to its end
            raise
        fail(f"a checkpoint could not be written, is the disk full? ({' '.join(str(error).split())})")
    except Exception as error:
        if type(error) is not Exception:  # which is all that tokenizers says of a disk that is full
            raise
        fail(" ".join(str(error).split()))
    except KeyboardInterrupt as interruption:
        number, message = getattr(interruption, "number", signal.SIGINT), str(interruption)
        if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
            print(f"\nhf-mlcl: interrupted{message and '; '}{printable(message)}", file=sys.stderr)
        sys.exit(128 + number)


def fail(message: str) -> None:
    """Prints one line on standard error and exits with 2."""
    print(f"hf-mlcl: error: {printable(message)}", file=sys.stderr)
    sys.exit(2)


class _Printable(logging.Formatter):
    """Log records without what a terminal would obey, which names in somebody's data may hold."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))
