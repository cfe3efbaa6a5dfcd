"""`hf-mlcl losses`: the losses, their parameters and defaults. Imports the losses and the parser."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES, loss_parameters, loss_summary

from .parser import OneLineParser


def run(arguments: Sequence[str]) -> None:
    """Prints one line a loss."""
    OneLineParser(prog="hf-mlcl losses", description="Lists the losses.", allow_abbrev=False).parse_args(arguments)
    for title, losses in (("contrastive", CONTRASTIVE_LOSSES), ("classification", CLASSIFICATION_LOSSES)):
        print(f"{title}:")
        for name in losses:
            parameters = ", ".join(f"{key}={value}" for key, value in loss_parameters(name).items())
            text = textwrap.fill(f"  {name:<12} {loss_summary(name)}", 115, subsequent_indent=" " * 15)
            print(f"{text}\n{'':<15}{parameters or 'no parameters'}")
