"""Pictures of the embedding space: neighbours, similarities, maps. Imports matplotlib through `figures`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import (
    BLUE,
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    MUTED,
    ORANGE,
    PAPER,
    POINT,
    heading,
    key,
    new_figure,
    percent,
    plain_ticks,
    plural,
    short,
)
from .maps import EmbeddingMap
from .placement import name_points

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_purity(rows: list[dict[str, Any]], label_names: Sequence[str], k: int, named: int = 14) -> Figure:
    """Share of the neighbours of a label's examples that have it too, against how many examples it has.

    Args:
        rows: of `neighbourhood_purity`, whose neighbours were k.
        label_names: L names.
        k: number of neighbours, for the text.
        named: how many labels get their name.

    Raises:
        ValueError: no label with two examples.
    """
    kept = [index for index, row in enumerate(rows) if row["purity"] is not None]
    if not kept:
        raise ValueError("rows: expected a label with at least two examples, got none")
    sizes = np.array([rows[index]["examples"] for index in kept], dtype=float)
    purity = np.array([100 * rows[index]["purity"] for index in kept])
    chance = np.array([100 * rows[index]["chance"] for index in kept])
    weak = int((purity - chance < 0.1 * (100 - chance)).sum())
    title = (
        f"On average {percent(purity.mean() / 100)} of a label's nearest neighbours have the label too (by chance "
        f"{percent(chance.mean() / 100, 1)}); {weak} of {plural(len(kept), 'label')} are hardly above chance"
    )
    note = (
        f"One point a label: of the {k} nearest examples by cosine (n - 1 where only n have the label), how many have "
        "it, averaged over its examples. Hardly above chance: less than a tenth of the way from chance to "
        f"{percent(1)}. Named: the farthest from the others of their frequency."
    )
    figure, ((axes,),) = new_figure(3.5, title=title, note=note)
    axes.scatter(sizes, purity, s=20, c=BLUE, alpha=0.65, linewidths=0)
    order = np.argsort(sizes)
    axes.plot(sizes[order], chance[order], "--", color=MUTED, linewidth=1.2, label="random neighbours")
    axes.set(
        xscale="log", ylim=(-4, 104), xlabel="examples of the label in this split", ylabel="neighbours with it (%)"
    )
    plain_ticks(axes)
    key(axes, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    logs = np.log(sizes)
    trend = np.polyval(np.polyfit(logs, purity, 1), logs) if len(set(sizes)) > 2 else np.full(len(kept), purity.mean())
    far = np.argsort(-np.abs(purity - trend) * np.sqrt(np.log1p(sizes)), kind="stable")[:named]
    points = np.column_stack([sizes, purity])
    name_points(figure, axes, points[far], [short(label_names[kept[index]], 22) for index in far], around=points)
    return figure


def plot_similarities(histograms: dict[str, Any]) -> Figure:
    """Cosine similarities of pairs that share a label and of pairs that share none: how far the space is separated.

    Args:
        histograms: of `similarity_histograms`.

    Raises:
        ValueError: pairs of one kind only.
    """
    separation = histograms["separation"]
    if separation is None:
        raise ValueError("histograms: expected pairs that share a label and pairs that share none, got one kind")
    title = f"A pair that shares a label is more similar than one that shares none in {percent(separation)} of cases"
    note = "Random pairs of examples of this split. 50 % would be no separation at all, 100 % a perfect one."
    figure, ((axes,),) = new_figure(2.5, title=title, note=note)
    edges = np.array(histograms["edges"])
    for name, colour, text in (("apart", ORANGE, "no label in common"), ("sharing", BLUE, "a label in common")):
        part = histograms[name]
        label = f"{text}: {part['pairs']:,} pairs, mean {part['mean']:.2f}"
        axes.stairs(part["density"], edges, color=colour, fill=True, alpha=0.35)
        style = "-" if name == "sharing" else "--"
        axes.stairs(part["density"], edges, color=colour, linewidth=1.4, linestyle=style, label=label)
    axes.set(xlabel="cosine similarity", ylabel="density of pairs", ylim=(0, None))
    key(axes, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    return figure


def plot_map(
    drawn: EmbeddingMap,
    labels: np.ndarray,
    label_names: Sequence[str],
    coloured: Sequence[int],
    *,
    space: str = "embeddings",
    named: int = 30,
) -> Figure:
    """The map of examples, coloured by a few labels, with the prototypes as named stars.

    Args:
        drawn: of `map_embeddings`.
        labels: (N, L) bool, the known positives.
        label_names: L names.
        coloured: at most six labels that get a colour; an example with several has that of the rarest.
        space: what was mapped, for the text.
        named: at most so many prototypes get their name, those of the most frequent labels first.
    """
    coloured = list(coloured)[: len(COLOURS)]
    counts = labels.sum(axis=0)
    if drawn.explained is not None:
        share = percent(sum(drawn.explained))
        title = f"Two principal axes hold {share} of the variance of the {space}"
        title += f" and {percent(drawn.kept)} of the neighbours"
    else:
        title = f"t-SNE of the {space} keeps {percent(drawn.kept)} of the neighbours together"
    note = (
        ("Near points are alike; distances between groups mean little. " if drawn.explained is None else "")
        + f"{plural(len(labels), 'example')} as unit vectors, so only angles count. Grey: none of the coloured "
        + "labels; an example with several has the colour of the rarest. Neighbours: the 10 nearest by cosine of each."
        + (" Stars: label prototypes, named where there is room." if drawn.prototypes is not None else "")
    )
    figure, ((axes,),) = new_figure(0.45 + 6.4 * _shape(drawn), title=title, note=note)
    of = _colour_of(labels, coloured, counts)
    axes.scatter(*drawn.points[of < 0].T, s=7, c=POINT, alpha=0.5, linewidths=0, rasterized=True)
    for place, label in enumerate(coloured):
        style = {"c": COLOURS[place], "marker": MARKERS[place], "alpha": 0.75, "linewidths": 0, "rasterized": True}
        text = f"{short(label_names[label], 24)} ({counts[label]})"
        axes.scatter(*drawn.points[of == place].T, s=14, label=text, **style)
    if drawn.explained is not None:
        first, second = map(percent, drawn.explained)
        axes.set(
            xlabel=f"first principal axis ({first} of the variance)",
            ylabel=f"second principal axis ({second} of the variance)",
        )
    else:
        axes.set(xlabel="t-SNE, first dimension (no unit)", ylabel="t-SNE, second dimension (no unit)")
    axes.set_aspect("equal", "datalim")
    if coloured:
        key(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=1.5, title="label (examples)")
        axes.get_legend().get_title().set(color=INK, fontsize=8.5)
        axes.get_legend().set_alignment("left")
    if drawn.prototypes is not None:
        stars = drawn.prototypes
        axes.scatter(*stars.T, s=45, marker="*", c=PAPER, edgecolors=INK, linewidths=0.7, zorder=5)
        if coloured:
            fill = COLOURS[: len(coloured)]
            axes.scatter(*stars[coloured].T, s=150, marker="*", c=fill, edgecolors=INK, linewidths=0.9, zorder=6)
        order = [int(label) for label in np.argsort(-counts, kind="stable")[:named]]
        names = [short(label_names[label], 20) for label in order]
        name_points(figure, axes, stars[order], names, size=7.5, around=stars, gap=7)
    return figure


def _shape(drawn: EmbeddingMap) -> float:
    """Height of a map over its width, within bounds."""
    stars = drawn.points[:0] if drawn.prototypes is None else drawn.prototypes
    width, height = np.ptp(np.concatenate([drawn.points, stars]), axis=0)
    return float(np.clip(height / width if width > 0 else 1.0, 0.45, 1.0))


def _colour_of(labels: np.ndarray, coloured: list[int], counts: np.ndarray) -> np.ndarray:
    """Position in `coloured` of the rarest of these labels that an example has, -1 for none."""
    of = np.full(len(labels), -1)
    for place in sorted(range(len(coloured)), key=lambda place: -counts[coloured[place]]):
        of[labels[:, coloured[place]]] = place
    return of


def plot_label_maps(
    drawn: EmbeddingMap, labels: np.ndarray, label_names: Sequence[str], chosen: Sequence[int], texts: Sequence[str]
) -> Figure:
    """One small map a label: its examples over all others in grey, and its prototype.

    Args:
        drawn: of `map_embeddings`.
        labels: (N, L) bool, the known positives.
        label_names: L names.
        chosen: labels to show.
        texts: one for each, below its name, such as its F1.
    """
    columns = min(4, max(len(chosen), 1))
    rows = math.ceil(max(len(chosen), 1) / columns)
    title = "Label by label: a tight group is easy to find, a scattered one is not"
    kind = "t-SNE" if drawn.method == "tsne" else "principal axes"
    note = (
        f"The same map ({kind}); blue: the examples with the label"
        + (", star: its prototype." if drawn.prototypes is not None else ".")
        + " First the most frequent labels, then the hardest that have at least 5 examples here."
    )
    height = 0.55 + 8.3 / columns * _shape(drawn)
    figure, panels = new_figure(min(height, 3.5) * rows, rows, columns, title=title, note=note)
    for axes, label, text in zip(panels.flat, chosen, texts, strict=False):
        has = labels[:, label]
        axes.scatter(*drawn.points[~has].T, s=3, c=POINT, alpha=0.35, linewidths=0, rasterized=True)
        axes.scatter(*drawn.points[has].T, s=8, c=BLUE, alpha=0.8, linewidths=0, rasterized=True)
        if drawn.prototypes is not None:
            star = drawn.prototypes[label]
            axes.scatter(*star, s=90, marker="*", c=ORANGE, edgecolors=PAPER, linewidths=0.8, zorder=5)
        heading(axes, f"{short(label_names[label], 22)}")
        axes.set_xlabel(text, fontsize=8, color=MUTED)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_aspect("equal", "datalim")
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(FAINT)
    for axes in panels.flat[len(chosen) :]:
        axes.set_visible(False)
    return figure
