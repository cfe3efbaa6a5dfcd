"""The figures of a study's report. Imports matplotlib when one is drawn."""

from __future__ import annotations

import importlib.util
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hf_mlcl.evaluation.plots import COLOURS, count_axis
from hf_mlcl.evaluation.probe import PROTOCOLS

from .plan import FROZEN, SVM, name_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (*COLOURS, "#000000")  # markers and lines tell the rest apart
_MARKERS = "osD^vPX"
_LINES = ("-", (0, (6, 2)), "-.")  # of rows with the same colour
_FROZEN = {"color": "0.45", "linestyle": "--"}
_BASELINES: dict[str, dict[str, Any]] = {
    SVM: {"color": "0.65", "linestyle": ":", "marker": "*"},
    FROZEN: _FROZEN | {"marker": "."},
    **{name_with(FROZEN, one): _FROZEN | {"marker": marker} for one, marker in zip(PROTOCOLS, ".x", strict=True)},
}
GROUPS = 6  # of labels of similar frequency, at most
MOST_LINES = 7  # of which a line figure shows the best, beside the baselines


def check_packages() -> None:
    """Raises ImportError where what the report needs is not installed."""
    for package in ("matplotlib", "scikit_posthocs"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"the report of a study needs {package}: pip install 'hf-mlcl[study]'")


def _figure(width: float = 6.8, height: float = 4.2) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def row_styles(rows: list[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each row, the baselines grey; made once for all figures of a report."""
    found = {row: dict(_BASELINES[row]) for row in rows if row in _BASELINES}
    for number, row in enumerate(row for row in rows if row not in _BASELINES):
        marker = _MARKERS[(number // len(_COLOURS) + number) % len(_MARKERS)]
        line: Any = _LINES[number // len(_COLOURS) % len(_LINES)]
        found[row] = {"color": _COLOURS[number % len(_COLOURS)], "marker": marker, "linestyle": line}
    return found


def _shown(rows: list[str]) -> list[str]:
    """The rows of a line figure: the best, and the baselines."""
    baselines = [row for row in rows if row in _BASELINES]
    return [*[row for row in rows if row not in baselines][:MOST_LINES], *baselines]


def _label(row: str) -> str:
    """What a row is called in a legend, which leaves out names that begin with an underscore."""
    return f" {row}" if row.startswith("_") else row


def _legend(axes: Any) -> None:
    handles, names = axes.get_legend_handles_labels()
    names = [textwrap.fill(name, 28) for name in names]  # an argument's name and value fit into a line
    legend = axes.legend(handles, names, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _no_formulas(legend.get_texts())


def _no_formulas(texts: Any) -> None:
    """Names are shown as they are, with the dollars in them."""
    for text in texts:
        text.set_parse_math(False)


def plot_frequency(
    labels: dict[str, tuple[np.ndarray, np.ndarray]], rows: list[str], styles: dict[str, dict[str, Any]]
) -> Figure:
    """Mean F1 of labels in groups of equal size by frequency in training.

    Args:
        labels: Name of a row to frequency and F1 of each label, NaN for a label that the split lacks.
        rows: Names of the rows, the best first.
        styles: Of `row_styles`.
    """
    figure, axes = _figure()
    drawn: list[float] = []
    for row in _shown(rows):
        counts, f1 = labels[row]
        there = np.flatnonzero(~np.isnan(f1))
        parts = np.array_split(there[np.argsort(counts[there], kind="stable")], min(GROUPS, max(len(there) // 2, 1)))
        centres = [np.exp(np.log(np.maximum(counts[part], 0.5)).mean()) for part in parts if len(part)]
        means = [100 * f1[part].mean() for part in parts if len(part)]
        axes.plot(centres, means, label=_label(row), markersize=5, linewidth=1.4, **styles[row])
        drawn += centres
    count_axis(axes, "x", drawn)
    axes.set(xlabel="training examples of a label (mean of its group)", ylabel="mean F1 (%)")
    axes.set_ylim(bottom=0)
    _legend(axes)
    return figure


def plot_scores(summary: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> Figure:
    """Macro-F1 against mAP of each row, with standard deviations over seeds."""
    figure, axes = _figure()
    for row in summary.to_dict("records"):
        style = {**styles[row["row"]], "linestyle": "none"}
        deviations = {axis: 100 * row[f"{score}_sd"] for axis, score in (("xerr", "map"), ("yerr", "macro_f1"))}
        deviations = {axis: value for axis, value in deviations.items() if not pd.isna(value)}
        axes.errorbar(
            100 * row["map"],
            100 * row["macro_f1"],
            label=_label(row["row"]),
            markersize=7,
            elinewidth=0.7,
            **deviations,
            **style,
        )
    axes.set(xlabel="mAP (%)", ylabel="Macro-F1 (%)")
    _legend(axes)
    return figure


def plot_curves(lines: pd.DataFrame, column: str, name: str, styles: dict[str, dict[str, Any]]) -> Figure:
    """Mean Macro-F1 of each row, with standard deviations over seeds, against a column of the results."""
    figure, axes = _figure()
    rows = list(lines.groupby("row")["macro_f1"].mean().sort_values(ascending=False).index)
    for row in _shown(rows):
        # Held out of a training split, validation may take a row more with one seed than with another.
        of = lines[lines["row"] == row].groupby(["fraction", "labels"])
        found = of["macro_f1"].agg(["mean", "std"])
        error = None if found["std"].isna().any() else 100 * found["std"]
        axes.errorbar(
            of[column].mean(),
            100 * found["mean"],
            yerr=error,
            label=_label(row),
            markersize=5,
            linewidth=1.4,
            capsize=2,
            **styles[row],
        )
    ticks = sorted(lines.groupby(["fraction", "labels"])[column].mean().round().unique())
    axes.set(xscale="log", xlabel=name, ylabel="Macro-F1 (%)")
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    _legend(axes)
    return figure


def plot_ranks(ranks: Any) -> Figure:
    """Critical-difference diagram of average ranks (Demsar 2006)."""
    from scikit_posthocs import critical_difference_diagram

    figure, axes = _figure(height=0.9 + 0.22 * len(ranks.average))
    colours = dict.fromkeys(ranks.average.index, "black")  # the names tell the lines apart
    # Ranks as in the table beside it; the spaces keep names off their lines.
    texts = {"label_fmt_left": "{label} ({rank:.2f}) ", "label_fmt_right": " ({rank:.2f}) {label}"}
    critical_difference_diagram(ranks.average, ranks.nemenyi, ax=axes, color_palette=colours, **texts)
    _no_formulas(axes.texts)
    return figure
