"""Pictures of hard, confused and co-predicted labels. Imports matplotlib through `figures`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .confusion import Confusions, CoPredictions
from .figures import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    heading,
    key,
    new_figure,
    percent,
    plain_ticks,
    plural,
    rounded,
    short,
)
from .labels import GROUPS, frequency_groups, hardest_labels
from .placement import name_points

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_f1_by_frequency(rows: list[dict[str, Any]], named: int = 12) -> Figure:
    """F1 of each label against its training examples, the hardest of the frequent ones by name.

    Args:
        rows: of `label_difficulty`, with `train_count`; labels without a positive are left out.
        named: how many labels get their name.
    """
    present = [row for row in rows if row["support"]]
    never = sum(row["f1"] == 0 for row in present)
    counts = np.array([row["train_count"] for row in present])
    f1 = np.array([row["f1"] for row in present])
    title = f"Macro-F1 is {percent(f1.mean(), 1)}; {never} of {plural(len(present), 'label')} are never found"
    note = (
        "One point a label with a positive in this split; the line joins the means of groups of labels of similar "
        "frequency. Named: the labels that fall farthest below the line."
    )
    figure, ((axes,),) = new_figure(3.5, title=title, note=note)
    places = np.maximum(counts, 0.5)
    groups = frequency_groups(counts)
    for index, (group, colour) in enumerate(zip(GROUPS, (BLUE, GREEN, ORANGE), strict=True)):
        chosen = groups == index
        if chosen.any():
            label = f"{group}: {plural(int(chosen.sum()), 'label')}, mean F1 {percent(f1[chosen].mean(), 1)}"
            marker = "os^"[index]
            axes.scatter(
                places[chosen], 100 * f1[chosen], s=18, c=colour, marker=marker, alpha=0.7, linewidths=0, label=label
            )
    order = np.argsort(counts, kind="stable")
    parts = [part for part in np.array_split(order, min(8, len(order))) if len(part)]
    x = np.array([np.log(places[part]).mean() for part in parts])
    y = np.array([100 * f1[part].mean() for part in parts])
    axes.plot(np.exp(x), y, color=INK, linewidth=1.2)
    axes.set(
        xscale="log",
        xlabel="training examples of the label" + (" (0 is drawn at 0.5)" if (counts == 0).any() else ""),
        ylabel="F1 in this split (%)",
        ylim=(-4, 104),
    )
    plain_ticks(axes)
    key(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)
    below = 100 * f1 - np.interp(np.log(places), x, y)
    chosen_names = [index for index in np.argsort(below, kind="stable")[:named] if below[index] < -5]
    points = np.column_stack([places, 100 * f1])
    name_points(
        figure, axes, points[chosen_names], [short(present[index]["label"]) for index in chosen_names], around=points
    )
    return figure


def plot_hardest_labels(rows: list[dict[str, Any]], limit: int = 20) -> Figure:
    """How the hardest labels fail: missed and wrong predictions, and where their scores lie beside the threshold.

    Args:
        rows: of `label_difficulty`.
        limit: how many labels.
    """
    chosen = hardest_labels(rows, limit)
    fails = [rows[index]["failure"] for index in chosen]
    ways = (("missed", "by being missed"), ("over-predicted", "by over-prediction"), ("both", "by both"))
    counts = [f"{fails.count(name)} {text}" for name, text in ways if name in fails]
    title = f"How the {plural(len(chosen), 'hardest label')} fail: {', '.join(counts)}" if chosen else "No label fails"
    note = (
        "Labels by rising F1, in brackets positives in this split / in training (labels that training never saw are "
        "left out). Left: with counts; – is never predicted. Right: where scores lie beside the label's threshold; "
        "positives belong to the right of it, negatives to the left."
    )
    figure, ((left, right),) = new_figure(
        0.26 * max(len(chosen), 2) + 1.2, 1, 2, title=title, note=note, sharey=True, width_ratios=(1, 1.15)
    )
    names = []
    for place, index in enumerate(chosen):
        row = rows[index]
        left.barh(place, -100 * row["missed"] / row["support"], 0.68, color=BLUE)
        left.barh(place, 100 * row["wrong"] / max(row["predicted"], 1), 0.68, color=ORANGE)
        style = {"va": "center", "fontsize": 7.5, "color": INK}
        left.text(-104, place, f"{row['missed']}/{row['support']}", ha="right", **style)
        left.text(104, place, f"{row['wrong']}/{row['predicted']}" if row["predicted"] else "–", ha="left", **style)
        _margins(right, place, row)
        trained = f" / {row['train_count']}" if "train_count" in row else ""
        names.append(f"{short(row['label'], 22)} ({row['support']}{trained})")
    heading(left, "missed (left) and wrong (right)")
    left.axvline(0, color=INK, linewidth=0.8)
    left.set(xlim=(-146, 146), xlabel="% of positives missed  |  % of predictions wrong")
    left.set_xticks([-100, -50, 0, 50, 100], ["100", "50", "0", "50", "100"])
    left.set_yticks(range(len(chosen)), names)
    left.set_ylim(max(len(chosen), 1) - 0.4, -0.6)
    left.tick_params(axis="y", length=0)
    heading(right, "scores beside the threshold (0)")
    right.axvline(0, color=INK, linewidth=0.8)
    right.set(
        xlabel="log-odds of the score minus those of the threshold\n(left of 0: not predicted, right: predicted)"
    )
    low, high = right.get_xlim()
    right.set_xlim(min(low, -0.5), max(high, 0.5))
    right.tick_params(axis="y", length=0)
    right.plot([], [], color=BLUE, linewidth=4, solid_capstyle="butt", label="positives: median, middle 50 % and 80 %")
    right.plot(
        [], [], color=ORANGE, marker="^", markersize=5, linewidth=1.2, label="negatives: 90 % to 99 % (triangle)"
    )
    figure.legend(loc="outside lower right", frameon=False, fontsize=8.5, labelcolor=INK, ncols=2)
    return figure


def _margins(axes: Any, place: int, row: dict[str, Any]) -> None:
    if row["negative_margins"]:
        _, low, high = row["negative_margins"]
        axes.plot([low, high], [place + 0.22] * 2, color=ORANGE, linewidth=1.2, solid_capstyle="butt")
        axes.plot([high], [place + 0.22], "^", color=ORANGE, markersize=4)
    if row["positive_margins"]:
        q10, q25, median, q75, q90 = row["positive_margins"]
        axes.plot([q10, q90], [place - 0.12] * 2, color=BLUE, linewidth=1.2, solid_capstyle="butt")
        axes.plot([q25, q75], [place - 0.12] * 2, color=BLUE, linewidth=4.5, solid_capstyle="butt")
        axes.plot([median], [place - 0.12], "o", color=BLUE, markeredgecolor="#ffffff", markersize=5)


def plot_confusions(found: Confusions, label_names: Sequence[str], limit: int = 14) -> Figure:
    """Which labels are wrongly predicted where others are missed: a table of shares, of the labels most involved.

    Args:
        found: of `confusions`.
        label_names: L names.
        limit: how many missed labels, and how many wrong ones, at most.
    """
    excess = np.clip(found.excess, 0, None) * (found.counts > 0)
    rows = _largest(excess.sum(axis=1), limit)
    columns = _largest(excess[rows].sum(axis=0) if len(rows) else excess.sum(axis=0), limit)
    pairs = found.pairs(1)
    if pairs:
        a, b = pairs[0]
        title = (
            f"Where “{short(label_names[a])}” is missed, “{short(label_names[b])}” is wrongly predicted in "
            f"{found.counts[a, b]} of {found.misses[a]} cases (by chance in {rounded(found.expected[a, b])})"
        )
    else:
        title = "No label is predicted in place of another more often than by chance"
    beyond = np.clip(found.excess, 0, None) / np.maximum(found.misses, 1)[:, None]
    darkest = float(beyond[np.ix_(rows, columns)].max()) if rows and columns else 0.0
    note = (
        "Row: a label its examples have but do not get. Column: a label predicted for the same examples without being "
        "theirs. Number: how many. Colour: how many more than by chance, as a share of the row's misses (darkest: "
        f"{percent(darkest)}). Bold: at least twice as many as by chance."
    )
    height = 1.6 + 0.27 * max(len(rows), 1)
    figure, ((axes,),) = new_figure(height, title=title, note=note)
    lift = found.lift
    for y, a in enumerate(rows):
        for x, b in enumerate(columns):
            count = int(found.counts[a, b])
            if count:
                _cell(axes, x, y, float(beyond[a, b]) / (darkest or 1.0), str(count), bold=lift[a, b] >= 2)
    axes.set(xlim=(-0.5, max(len(columns), 1) - 0.5), ylim=(max(len(rows), 1) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [f"{short(label_names[a], 24)} ({found.misses[a]} missed)" for a in rows])
    axes.set_xticks(
        range(len(columns)),
        [short(label_names[b], 20) for b in columns],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set(xlabel="wrongly predicted", ylabel="missed")
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(-0.5, len(columns)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(rows)), minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    return figure


def _largest(values: np.ndarray, limit: int) -> list[int]:
    return [int(index) for index in np.argsort(-values, kind="stable")[:limit] if values[index] > 0]


def _cell(axes: Any, x: int, y: int, strength: float, text: str, *, bold: bool) -> None:
    from matplotlib.patches import Rectangle

    # One colour of growing opacity stands on a light and on a dark ground.
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=BLUE, alpha=0.04 + 0.6 * strength, linewidth=0))
    weight = "bold" if bold else "normal"
    axes.text(x, y, text, ha="center", va="center", fontsize=8, color=INK, fontweight=weight)


def plot_co_predictions(found: CoPredictions, label_names: Sequence[str], limit: int = 10) -> Figure:
    """Pairs of labels predicted together much more, or much less, often than they occur together.

    Args:
        found: of `co_predictions`.
        label_names: L names.
        limit: how many pairs of each kind.
    """
    more, less = found.pairs(limit, more=True), found.pairs(limit, more=False)
    pairs = [*more, *less[::-1]]
    ratios = [float(found.log_ratio[pair]) for pair in pairs]
    upper = np.triu(np.ones_like(found.predicted, dtype=bool), k=1)
    predicted, occurring = int(found.predicted[upper].sum()), int(found.occurring[upper].sum())
    title = f"Pairs of labels are predicted {predicted:,} times and occur {occurring:,} times: "
    title += (
        "too few" if predicted < 0.8 * occurring else "too many" if predicted > 1.25 * occurring else "about as many"
    )
    title += " combinations" if pairs else " combinations, and no pair differs"
    note = (
        f"Bar: log2((predicted together + {found.prior:g}) / (occurring together + {found.prior:g})); the added "
        f"{found.prior:g} keep rare pairs near 0. Shown: the pairs that differ most."
    )
    figure, ((axes,),) = new_figure(0.9 + 0.24 * max(len(pairs), 1), title=title, note=note)
    for place, (pair, ratio) in enumerate(zip(pairs, ratios, strict=True)):
        axes.barh(place, ratio, 0.7, color=ORANGE if ratio > 0 else BLUE)
        counts = f"{found.predicted[pair]} / {found.occurring[pair]}"
        axes.annotate(
            counts,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    counted = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8, "color": INK}
    axes.annotate("predicted / occurring", (1, 1), xytext=(30, 4), ha="right", **counted)
    reach = max([1.0, *map(abs, ratios)]) * 1.05
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set(
        xlim=(-reach, reach),
        ylim=(max(len(pairs), 1) - 0.4, -0.6),
        xlabel="predicted together: rarer (left) or more often (right) than occurring; 1 is twice as often",
    )
    axes.set_yticks(
        range(len(pairs)), [f"{short(label_names[a], 20)} + {short(label_names[b], 20)}" for a, b in pairs]
    )
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_color(MUTED)
    return figure
