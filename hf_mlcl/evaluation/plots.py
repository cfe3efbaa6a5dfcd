"""Figures of an evaluation, without any global state. Imports numpy; matplotlib only when a figure is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import as_vector
from .compute_metrics import ReliabilityCurve
from .scores import scores_and_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; and shapes, for readers who see no colours.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS, _LINES = ("o", "s", "^", "D", "v", "P"), ("-", "--", "-.", ":")
FEW = 30  # decisions of a bin, below which the share of positives among them says little
# Head, medium and tail, as in `multilabel_scores`: more than 100 training examples, 20 to 100, fewer than 20.
GROUPS, GROUP_BOUNDS = ("head", "medium", "tail"), (20, 100)


def frequency_groups(counts: Any) -> np.ndarray:
    """Training counts (L,) -> 0 for head labels (more than 100 examples), 1 for medium, 2 for tail (fewer than 20)."""
    low, high = GROUP_BOUNDS
    return np.where(np.asarray(counts) > high, 0, np.where(np.asarray(counts) < low, 2, 1))


def count_axis(axes: Axes, name: str, counts: Any) -> np.ndarray:
    """Makes `x` or `y` a logarithmic axis between round numbers; returns where counts are drawn, 0 at 0.5."""
    places = np.maximum(np.asarray(counts, dtype=np.float64), 0.5)
    steps = np.outer(10.0 ** np.arange(-1, 12), [1, 2, 5]).ravel()[2:]
    low, high = (places.min(), places.max()) if places.size else (1, 1)
    first = np.searchsorted(steps, low, side="right") - 1
    last = max(np.searchsorted(steps, high), first + 1)
    ticks = steps[first : last + 1]
    axes.set(**{f"{name}scale": "log"})
    getattr(axes, f"{name}axis").set_ticks(ticks, ["0" if tick < 1 else f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set(**{f"{name}lim": (0.9 * ticks[0], 1.1 * ticks[-1])})
    return places


def plot_f1_against_frequency(per_label_f1: Mapping[str, Any], train_label_counts: Any) -> Figure:
    """A point per label and method, F1 against training examples, and a line per method: the mean by frequency.

    The lines join the means of up to eight groups of labels of equal size, of at least two labels each. Dotted: the
    bounds of head and tail labels. Labels without a training example stand at 0, in the place of 0.5 of the
    logarithmic axis.

    Args:
        per_label_f1: name of a method -> L numbers in [0, 1].
        train_label_counts: L numbers.

    Raises:
        ValueError: no method, or arrays that do not have one number per label.
        ImportError: matplotlib is missing.

    Example:
        >>> figure = plot_f1_against_frequency({"mulsupcon": [0.9, 0.4]}, [120, 7])
        >>> figure.axes[0].get_xscale()
        'log'
    """
    if not per_label_f1:
        raise ValueError("per_label_f1: expected at least one method, got none")
    counts = np.asarray(train_label_counts)
    counts = as_vector("train_label_counts", counts, counts.size)
    figure, axes = _figure()
    order = np.argsort(counts, kind="stable")
    groups = np.array_split(order, min(8, max(len(order) // 2, 1)))  # a mean of one label would hide its point
    places = count_axis(axes, "x", counts)
    for index, (name, values) in enumerate(per_label_f1.items()):
        f1 = as_vector(f"per_label_f1[{name!r}]", values, len(counts))
        style: Any = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
        axes.scatter(places, f1, s=14, alpha=0.45, linewidths=0, **style)
        middles = [np.exp(np.log(places[group]).mean()) for group in groups]
        means, label = [f1[group].mean() for group in groups], f"{name} ({f1.mean():.3f})"
        axes.plot(middles, means, markersize=5, label=label, **style)
    _bounds(axes.axvline)
    axes.set(xlabel="training examples of the label", ylabel="F1 of the label", ylim=(-0.03, 1.03))
    _legend(axes, "method (Macro-F1)")
    return figure


def plot_reliability(curves: Mapping[str, ReliabilityCurve]) -> Figure:
    """Observed against predicted share of positives, one line per curve; the dotted diagonal is perfect.

    Bins of few decisions, whose share says little, are hollow.

    Args:
        curves: name -> result of `reliability_curve`.

    Raises:
        ValueError: no curve.
        ImportError: matplotlib is missing.

    Example:
        >>> from hf_mlcl.evaluation import reliability_curve
        >>> figure = plot_reliability({"model": reliability_curve([[0.1, 0.9]], [[0, 1]])})
        >>> figure.axes[0].get_xlabel()
        'predicted probability'
    """
    if not curves:
        raise ValueError("curves: expected at least one curve, got none")
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":", label="perfect (0)")
    for index, (name, curve) in enumerate(curves.items()):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        x, y, few = curve.mean_probability, curve.positive_rate, curve.counts < FEW
        label = f"{name} ({curve.error:.4f})"
        axes.plot(x, y, color=colour, marker=marker, linewidth=1, markersize=5, clip_on=False, label=label)
        hollow: Any = {"facecolor": "white", "edgecolor": colour, "marker": marker, "zorder": 3, "clip_on": False}
        axes.scatter(x[few], y[few], 25, **hollow)
    axes.set(xlabel="predicted probability", ylabel="observed share of positives", xlim=(0, 1), ylim=(0, 1))
    if any((curve.counts < FEW).any() for curve in curves.values()):
        axes.scatter([], [], 25, facecolor="white", edgecolor="0.3", label=f"fewer than {FEW} decisions")
    _legend(axes, "model (ECE)")
    return figure


def plot_precision_recall(probabilities: Any, labels: Any, train_label_counts: Any = None) -> Figure:
    """Precision against recall when one threshold for all labels falls from 1 to 0, with the average precision.

    All N x L decisions are pooled, those of unknown labels left out; with counts also those of head, medium and tail
    labels by themselves.

    Args:
        probabilities: N x L numbers in [0, 1].
        labels: N x L multi-hot, -100 or NaN where unknown.
        train_label_counts: L numbers.

    Raises:
        ValueError: arrays of wrong shape or values.
        ImportError: matplotlib is missing.
    """
    from sklearn.metrics import precision_recall_curve

    scores, labels = scores_and_labels(probabilities, labels, "probabilities")
    groups = {"all labels": np.ones(scores.shape[1], dtype=bool)}
    if train_label_counts is not None:
        counts = frequency_groups(as_vector("train_label_counts", train_label_counts, scores.shape[1]))
        # A group of all labels would be the first line once more.
        groups |= {name: counts == index for index, name in enumerate(GROUPS) if (counts != index).any()}
    values, rows = scores.probabilities(scores.columns(slice(None))), labels.rows()
    figure, axes = _figure()
    for index, (name, columns) in enumerate(groups.items()):
        known = rows[:, columns] != -100
        truth = rows[:, columns][known] == 1
        if truth.any():
            precision, recall, _ = precision_recall_curve(truth, values[:, columns][known])
            average = -(np.diff(recall) * precision[:-1]).sum()
            style: Any = {"color": COLOURS[index], "linestyle": _LINES[index], "label": f"{name} ({average:.3f})"}
            axes.step(recall[-2::-1], precision[-2::-1], where="pre", clip_on=False, **style)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    _legend(axes, "labels (average precision\nof their pooled decisions)")
    return figure


def plot_label_counts(counts: Mapping[str, Any]) -> Figure:
    """How many examples carry each label, a line for each split over its labels, most frequent first.

    Labels without an example stand at 0, in the place of 0.5 of the logarithmic axis. Dotted: the bounds of head and
    tail labels.

    Args:
        counts: name of a split -> L numbers.

    Raises:
        ImportError: matplotlib is missing.

    Example:
        >>> plot_label_counts({"train": [120, 7, 0], "test": [12, 2, 0]}).axes[0].get_yscale()
        'log'
    """
    figure, axes = _figure()
    from matplotlib.ticker import MaxNLocator

    places = count_axis(axes, "y", [-np.sort(-np.asarray(numbers)) for numbers in counts.values()])
    for index, (name, numbers) in enumerate(zip(counts, places, strict=True)):
        style: Any = {"color": COLOURS[index % len(COLOURS)], "linestyle": _LINES[index % len(_LINES)]}
        axes.step(np.arange(1, len(numbers) + 1), numbers, where="mid", label=name, **style)
    _bounds(axes.axhline)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(
        xlabel=f"label, most frequent of the split first (of {places.shape[1]:,})", ylabel="examples with the label"
    )
    _legend(axes, "split")
    return figure


def _bounds(line: Any) -> None:
    """Dotted lines where head labels begin and tail labels end."""
    low, high = GROUP_BOUNDS
    for bound, label in ((low, None), (high, f"{low} and {high} examples")):
        line(bound, color="0.6", linewidth=0.8, linestyle=":", zorder=0, label=label)


def _legend(axes: Axes, title: str) -> None:
    """Beside the data, not over them."""
    axes.legend(
        title=title, frameon=False, loc="upper left", bbox_to_anchor=(1, 1), alignment="left", fontsize="small"
    )


def _figure() -> tuple[Figure, Axes]:
    """A figure that belongs to nobody but the caller (pyplot would keep it and want a display)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'hf-mlcl[plots]'") from None
    figure = Figure(figsize=(7.6, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
