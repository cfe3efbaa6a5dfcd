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

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Head, medium and tail, as in `multilabel_scores`: more than 100 training examples, 20 to 100, fewer than 20.
GROUPS, GROUP_BOUNDS = ("head", "medium", "tail"), (20, 100)


def frequency_groups(counts: Any) -> np.ndarray:
    """Training counts (L,) -> 0 for head labels (more than 100 examples), 1 for medium, 2 for tail (fewer than 20)."""
    low, high = GROUP_BOUNDS
    return np.where(np.asarray(counts) > high, 0, np.where(np.asarray(counts) < low, 2, 1))


def plot_f1_against_frequency(per_label_f1: Mapping[str, Any], train_label_counts: Any) -> Figure:
    """A point per label and method, F1 against training examples, and a line per method: the mean by frequency.

    The lines join the means of up to eight groups of labels of equal size. Labels without a training example stand at
    0.5 of the logarithmic axis.

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
    groups = np.array_split(order, min(8, len(order)))
    places = np.maximum(counts, 0.5)
    for index, (name, values) in enumerate(per_label_f1.items()):
        f1 = as_vector(f"per_label_f1[{name!r}]", values, len(counts))
        colour = _COLOURS[index % len(_COLOURS)]
        axes.scatter(places, f1, s=14, alpha=0.45, color=colour, linewidths=0)
        middles = [np.exp(np.log(places[group]).mean()) for group in groups]
        axes.plot(middles, [f1[group].mean() for group in groups], color=colour, label=f"{name} ({f1.mean():.3f})")
    for bound in GROUP_BOUNDS:
        axes.axvline(bound, color="0.7", linewidth=0.8, linestyle=":", zorder=0)
    axes.set(xscale="log", xlabel="training examples of the label", ylabel="F1 of the label", ylim=(-0.03, 1.03))
    axes.legend(title="method (Macro-F1)", frameon=False)
    return figure


def plot_reliability(curves: Mapping[str, ReliabilityCurve]) -> Figure:
    """Observed against predicted share of positives, one line per curve; the diagonal is perfect.

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
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
    for index, (name, curve) in enumerate(curves.items()):
        colour, label = _COLOURS[index % len(_COLOURS)], f"{name} ({curve.error:.4f})"
        axes.plot(curve.mean_probability, curve.positive_rate, "o-", markersize=4, color=colour, label=label)
    axes.set(xlabel="predicted probability", ylabel="observed share of positives", xlim=(0, 1), ylim=(0, 1))
    axes.legend(title="model (ECE)", frameon=False)
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
        groups |= {name: counts == index for index, name in enumerate(GROUPS)}
    values, rows = scores.probabilities(scores.columns(slice(None))), labels.rows()
    figure, axes = _figure()
    for colour, (name, columns) in zip(_COLOURS, groups.items(), strict=False):
        known = rows[:, columns] != -100
        truth = rows[:, columns][known] == 1
        if truth.any():
            precision, recall, _ = precision_recall_curve(truth, values[:, columns][known])
            average = -(np.diff(recall) * precision[:-1]).sum()
            label = f"{name} ({average:.3f})"
            axes.step(recall[-2::-1], precision[-2::-1], where="pre", color=colour, label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03))
    axes.legend(title="labels (average precision)", frameon=False)
    return figure


def plot_label_counts(counts: Mapping[str, Any]) -> Figure:
    """How many examples carry each label, a line for each split over the labels, most frequent of the first first.

    Labels without an example stand at 0.5 of the logarithmic axis.

    Args:
        counts: name of a split -> L numbers.

    Raises:
        ImportError: matplotlib is missing.

    Example:
        >>> plot_label_counts({"train": [120, 7, 0], "test": [12, 2, 0]}).axes[0].get_yscale()
        'log'
    """
    figure, axes = _figure()
    order = np.argsort(-np.asarray(next(iter(counts.values()))), kind="stable")
    for index, (name, numbers) in enumerate(counts.items()):
        places = np.maximum(np.asarray(numbers)[order], 0.5)
        axes.step(np.arange(1, len(order) + 1), places, where="mid", color=_COLOURS[index % 6], label=name)
    for bound in GROUP_BOUNDS:
        axes.axhline(bound, color="0.7", linewidth=0.8, linestyle=":", zorder=0)
    axes.set(yscale="log", xlabel="label, most frequent first", ylabel="examples with the label")
    axes.legend(title="split", frameon=False)
    return figure


def _figure() -> tuple[Figure, Axes]:
    """A figure that belongs to nobody but the caller (pyplot would keep it and want a display)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'hf-mlcl[plots]'") from None
    figure = Figure(figsize=(6.4, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
