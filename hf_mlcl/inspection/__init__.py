"""Inspect a trained model: hard and confused labels, neighbours, maps and gradients, as numbers, figures and a report.

`inspect_outputs` and `write_report` do all of it for one split; the functions on arrays behind them are in `errors`,
`neighbours`, `gradients` and `plots`.
"""

from .errors import label_difficulty
from .neighbours import nearest_neighbours, to_look_at
from .outputs import Examples as Examples
from .outputs import ModelOutputs as ModelOutputs
from .outputs import collect_outputs
from .report import Inspection, inspect_outputs, write_report

__all__ = [
    "Inspection",
    "collect_outputs",
    "inspect_outputs",
    "label_difficulty",
    "nearest_neighbours",
    "to_look_at",
    "write_report",
]
