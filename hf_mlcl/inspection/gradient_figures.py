"""Pictures of what the loss does to pairs. Imports matplotlib through `figures`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import BLUE, FAINT, INK, ORANGE, PINK, heading, key, new_figure, percent, plural
from .gradients import PairGradients

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORCES: dict[str, dict[str, Any]] = {
    "pull": {"color": BLUE},
    "push": {"color": ORANGE},
    "repulsion": {"facecolor": PINK, "hatch": "////", "edgecolor": INK, "linewidth": 0},
}


def sample_pairs(batch: PairGradients, limit: int = 2000, seed: int = 0) -> dict[str, dict[str, list[float]]]:
    """Cosine and gradient of single pairs, for a picture: for each kind of anchor up to `limit` pairs of each sign.

    Returns:
        For "example" and, where they are anchors, "prototype": `positive_cosine`, `positive_gradient` (dL/ds with what
        `reg` removes), `negative_cosine`, `negative_gradient`.
    """
    rng = np.random.default_rng(seed)
    positive = (batch.weights > 0).cpu().numpy()
    negative = batch.compared.cpu().numpy() & ~positive
    gradient = batch.gradients + batch.repulsion if batch.removes_repulsion else batch.gradients
    values, cosines = gradient.cpu().numpy(), batch.cosines.cpu().numpy()
    result: dict[str, dict[str, list[float]]] = {}
    for kind, rows in (
        ("example", slice(0, batch.example_anchors)),
        ("prototype", slice(batch.example_anchors, None)),
    ):
        for sign, mask in (("positive", positive[rows]), ("negative", negative[rows])):
            if mask.size:
                chosen = np.sort(rng.permutation(np.flatnonzero(mask))[:limit])
                part = result.setdefault(kind, {})
                part[f"{sign}_cosine"] = cosines[rows].flat[chosen].round(4).tolist()
                part[f"{sign}_gradient"] = [float(f"{value:.4g}") for value in values[rows].flat[chosen]]
    return result


def plot_pairs(pairs: dict[str, dict[str, list[float]]], loss: str, removes_repulsion: bool) -> Figure:
    """Single pairs of a batch: how strongly the loss pulls or pushes each, against how similar it is already.

    Args:
        pairs: of `sample_pairs`.
        loss: its name, for the text.
        removes_repulsion: whether it is one that leaves pushed positives alone.
    """
    gradients = np.concatenate([part["positive_gradient"] for part in pairs.values()] or [[]])
    share = float((gradients > 0).mean()) if len(gradients) else 0.0
    title = f"{percent(share)} of the positives are so close already that the plain gradient would push them apart"
    fate = f"{loss} sets their gradient to 0" if removes_repulsion else f"{loss} pushes them, reg would not"
    note = (
        "One point a pair of one batch (at most 2,000 of a kind). Below the line the loss pulls a pair together, "
        "above it pushes it apart; the scale is logarithmic on both sides. Crosses: positives that would be pushed; "
        f"{fate}."
    )
    figure, (panels,) = new_figure(3.7, 1, max(len(pairs), 1), title=title, note=note, sharey=True)
    everything = np.concatenate(
        [part[f"{sign}_gradient"] for part in pairs.values() for sign in ("positive", "negative")]
    )
    for axes, (kind, part) in zip(panels, pairs.items(), strict=False):
        heading(axes, f"anchor: {'an' if kind == 'example' else 'a'} {kind}")
        x, y = np.array(part["positive_cosine"]), np.array(part["positive_gradient"])
        pushed = y > 0
        dots = {"linewidths": 0, "rasterized": True}
        axes.scatter(part["negative_cosine"], part["negative_gradient"], s=6, c=ORANGE, alpha=0.35, **dots)
        axes.scatter(x[~pushed], y[~pushed], s=9, c=BLUE, alpha=0.5, **dots)
        axes.scatter(x[pushed], y[pushed], s=16, c=PINK, marker="x", linewidths=0.9, alpha=0.8, rasterized=True)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="cosine similarity of the pair")
        _symmetric_log(axes, everything)
    first = panels[0]
    first.set_ylabel("gradient dL/ds of the pair\npulled together     pushed apart")
    first.scatter([], [], s=22, c=ORANGE, label="negatives")
    first.scatter([], [], s=22, c=BLUE, label="positives that are pulled")
    first.scatter([], [], s=26, c=PINK, marker="x", label="positives that would be pushed")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def _symmetric_log(axes: Any, values: np.ndarray) -> None:
    """A logarithmic y axis for both signs, linear below the smallest quarter of the values, with room at its ends."""
    sizes = np.abs(values[values != 0])
    if not len(sizes):
        return
    low = int(np.floor(np.log10(np.quantile(sizes, 0.25))))
    high = int(np.ceil(np.log10(sizes.max())))
    low = min(max(low, high - 5), high - 1)
    axes.set_yscale("symlog", linthresh=10.0**low, linscale=0.5)
    powers = range(low + 1, high + 1)
    ticks = [*(-(10.0**power) for power in reversed(powers)), 0.0, *(10.0**power for power in powers)]
    texts = [*(f"$-10^{{{power}}}$" for power in reversed(powers)), "0", *(f"$10^{{{power}}}$" for power in powers)]
    axes.set_yticks(ticks, texts)
    axes.set_yticks([], minor=True)
    reach = 1.6 * sizes.max()
    axes.set_ylim(-reach, reach)


def plot_forces_by_similarity(summary: dict[str, Any], loss: str) -> Figure:
    """Where on the scale of similarity the loss works: pulls and pushes summed by cosine similarity.

    Args:
        summary: of `summarise_gradients`.
        loss: its name, for the text.
    """
    total, similarity = summary["total"], summary["similarity"]
    edges = np.array(similarity["edges"])
    unit = 100 / (total["pull"] or 1.0)
    pull, push, repulsion = (unit * np.array(similarity[name]) for name in ("pull", "push", "repulsion"))
    middles = (edges[1:] + edges[:-1]) / 2
    at = {
        name: float((middles * force).sum() / (force.sum() or 1)) for name, force in (("pull", pull), ("push", push))
    }
    repelled = percent(total["repulsion"] / (total["pull"] or 1.0), 1)
    title = f"{loss} pulls positives at a mean cosine of {at['pull']:.2f}, pushes negatives at {at['push']:.2f}, and "
    if summary["removes_repulsion"]:
        title += f"removes repulsion of close positives worth {repelled} of the pull"
    else:
        title += f"pushes close positives apart with a force of {repelled} of the pull"
    note = (
        "Sums over all pairs of the batches, in % of the whole pull. The "
        "forces on an anchor balance: pull = push on negatives + repulsion of positives."
    )
    figure, ((axes,),) = new_figure(2.9, title=title, note=note)
    used = np.flatnonzero(pull + push + repulsion > 0.05)
    widths = np.diff(edges) * 0.92
    axes.bar(middles, -pull, widths, color=BLUE, label="pull on positives")
    axes.bar(middles, push, widths, color=ORANGE, label="push on negatives")
    name = "repulsion of positives, " + ("removed" if summary["removes_repulsion"] else "at work")
    axes.bar(middles, repulsion, widths, bottom=push, **_FORCES["repulsion"], label=name)
    axes.axhline(0, color=INK, linewidth=0.8)
    if len(used):
        axes.set_xlim(edges[used[0]] - 0.02, edges[used[-1] + 1] + 0.02)
    axes.set(xlabel="cosine similarity of the pair", ylabel="% of the whole pull\n(pull down, push up)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    key(axes, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
    return figure


def plot_force_parts(summary: dict[str, Any], loss: str) -> Figure:
    """Which pairs the forces act on: by kind, by labels in common, by frequency of the label.

    Args:
        summary: of `summarise_gradients`.
        loss: its name, for the text.
    """
    whole = summary["total"]["pull"] or 1.0
    kinds = {name: part for name, part in summary["kinds"].items() if part["pairs"]}
    overlaps = {name: part for name, part in summary["overlaps"].items() if part["pairs"]}
    groups = {name: part for name, part in summary["groups"].items() if part["labels"]}
    first = max(kinds, key=lambda name: kinds[name]["pull"], default="")
    title = f"{percent(kinds[first]['pull'] / whole)} of the pull acts on pairs “{first}”" if first else "No forces"
    if first and "tail" in groups:
        title += f"; tail labels get {percent(groups['tail']['pull'] / whole)} of it"
    note = (
        "Sums over the batches in % of the whole pull: pull on positives (left), push on negatives and repulsion of "
        "positives (right). In brackets: pairs in a batch; labels, and their share of all positive labels in a batch."
    )
    occurrences = sum(part["occurrences"] for part in groups.values()) or 1.0
    sizes = {
        name: f"{name} ({plural(part['labels'], 'label')}, {percent(part['occurrences'] / occurrences)})"
        for name, part in groups.items()
    }
    drawn = [
        ("by kind of pair (anchor - reference)", [f"{n} ({p['pairs']:,.0f} pairs)" for n, p in kinds.items()], kinds),
        (
            "pairs of two examples, by number of labels in common",
            [f"{name} in common ({part['pairs']:,.0f} pairs)" for name, part in overlaps.items()],
            overlaps,
        ),
        ("by the label in common (negatives: by the reference's label)", list(sizes.values()), groups),
    ]
    drawn = [panel for panel in drawn if panel[2]]
    heights = [len(parts) for _, _, parts in drawn]
    height = 0.26 * sum(heights) + 0.35 * len(drawn) + 1.05
    figure, panels = new_figure(height, len(drawn), 1, title=title, note=note, sharex=True, height_ratios=heights)
    for (axes,), (text, names, parts) in zip(panels, drawn, strict=True):
        heading(axes, text)
        _draw_forces(axes, [{force: 100 * part[force] / whole for force in _FORCES} for part in parts.values()])
        axes.set_yticks(range(len(parts)), names)
    last = panels[-1][0]
    last.margins(x=0.14)
    last.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    last.set_xlabel("% of the whole pull: pull (left), push and repulsion (right)")
    removed = f", removed by {loss}" if summary["removes_repulsion"] else ""
    for name, style in zip(("pull on positives", "push on negatives"), _FORCES.values(), strict=False):
        last.bar(0, 0, 0, label=name, **style)
    last.bar(0, 0, 0, label=f"repulsion of positives{removed}", **_FORCES["repulsion"])
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def _draw_forces(axes: Any, parts: list[dict[str, float]]) -> None:
    """A bar a part: the pull to the left, push and repulsion to the right, with their numbers."""
    beside = {"textcoords": "offset points", "va": "center", "fontsize": 8, "color": INK}
    for place, part in enumerate(parts):
        pull, push, repulsion = part["pull"], part["push"], part["repulsion"]
        axes.barh(place, -pull, 0.68, **_FORCES["pull"])
        axes.barh(place, push, 0.68, **_FORCES["push"])
        if repulsion > 0.05:  # a hatched bar of no width would be a line
            axes.barh(place, repulsion, 0.68, left=push, **_FORCES["repulsion"])
        right = " + ".join(f"{force:.1f}" for force in (push, repulsion) if force > 0.05) or "0"
        left = f"{pull:.1f}" if pull > 0.05 else "0"
        axes.annotate(left, (-pull, place), xytext=(-3, 0), ha="right", **beside)
        axes.annotate(right, (push + repulsion, place), xytext=(3, 0), ha="left", **beside)
    axes.set_ylim(len(parts) - 0.4, -0.6)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
