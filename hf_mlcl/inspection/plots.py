"""Figures of an inspection; every function returns a `matplotlib.figure.Figure`. Importing this needs matplotlib.

A figure belongs to its caller: a notebook shows it and `figure.savefig` writes it. Its title is what was found.
"""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from hf_mlcl.evaluation.plots import COLOURS, GROUPS, MARKERS, count_axis, frequency_groups
from hf_mlcl.messages import printable

from .errors import Confusions, CoPredictions, hardest_labels
from .gradients import FORCES
from .neighbours import EmbeddingMap
from .report import percent, plural

try:
    import matplotlib
    from adjustText import adjust_text
    from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.ft2font import FT2Font
    from matplotlib.patheffects import withStroke
except ImportError:
    raise ImportError("plots need matplotlib and adjustText: pip install 'hf-mlcl[plots]'") from None

logger = logging.getLogger(__name__)

INK, MUTED, FAINT, POINT = "#1b1f24", "#59636e", "#d8dde3", "#9aa5b1"
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = COLOURS


def _fonts(scripts: str = "日한กअ") -> dict[str, FT2Font]:
    """The font of matplotlib and, for each script that it lacks, one of those installed."""
    regular = [font for font in fontManager.ttflist if (font.style, font.weight, font.stretch) == REGULAR]
    files = {font.name: font.fname for font in regular if not font.name.startswith("Last Resort")}  # draws boxes
    found = {"DejaVu Sans": FT2Font(files.pop("DejaVu Sans"))}
    for character in map(ord, scripts):
        if not any(font.get_char_index(character) for font in found.values()):
            fonts = ((name, FT2Font(file)) for name, file in files.items())
            found |= dict(next(([item] for item in fonts if item[1].get_char_index(character)), []))
    return found


REGULAR = ("normal", 400, "normal")
FONTS = _fonts()
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.axisbelow": True,
    "font.family": list(FONTS),
    "font.size": 8.5,
    "legend.frameon": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.8,
}
_STYLES: dict[str, dict[str, Any]] = {
    "pull": {"color": BLUE, "label": "pull on positives"},
    "push": {"color": ORANGE, "label": "push on negatives"},
    "repulsion": {"facecolor": PINK, "hatch": "////", "edgecolor": INK, "linewidth": 0},
}


def short(name: Any, limit: int = 24) -> str:
    """A name cut to a length, as matplotlib takes it: between two dollars it would set formulas.

    It is cut in the middle: names of many labels often begin alike.
    """
    text = "".join(map(_drawn, printable(" ".join(str(name).split()))))
    if len(text) > limit:
        text = text[: limit - limit // 3 - 1].rstrip() + "…" + text[-(limit // 3) :].lstrip()
    # Without the marks, what follows a name in Arabic or Hebrew would be drawn before it, and a legend would leave out
    # a name that begins with an underscore.
    marked = text.startswith("_") or any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)
    mark = "\u200e" if marked else ""
    return mark + text.replace("$", r"\$") + mark


@cache
def _drawn(character: str) -> str:
    """The character, or a box in the place of one that no font has."""
    if any(font.get_char_index(ord(character)) for font in FONTS.values()):
        return character
    _say_missing(unicodedata.name(character, "some").split()[0])
    return "□"


@cache  # once for each script
def _say_missing(script: str) -> None:
    logger.warning("pictures: no installed font has %s characters; boxes stand for them", script)


def wrapped(text: str, size: float, weight: str = "normal", width: float = 8.45) -> list[str]:
    """The lines of a text that are at most so many inches wide."""
    font, renderer = FontProperties(family=list(FONTS), size=size, weight=weight), RendererAgg(1, 1, 72)
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and renderer.get_text_width_height_descent(longer, font, False)[0] > 72 * width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def new_figure(height: float, title: str, note: str, rows: int = 1, columns: int = 1, **options: Any) -> Any:
    """A figure with title and note above its panels of so many inches, and the panels."""
    titles, notes = wrapped(title, 11.5, "bold"), wrapped(note, 9)
    above = 0.1 + 0.2 * len(titles)
    total = height + above + 0.165 * len(notes)
    figure = Figure(figsize=(8.6, total), dpi=150)
    FigureCanvasAgg(figure)  # measures text for `name_points`
    figure.set_layout_engine("constrained", rect=(0, 0, 1, height / total))
    figure.text(0.006, 1 - 0.06 / total, "\n".join(titles), va="top", fontsize=11.5, fontweight="bold")
    figure.text(0.006, 1 - above / total, "\n".join(notes), va="top", fontsize=9, color=MUTED)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def name_points(
    figure: Any, axes: Any, points: np.ndarray, names: Sequence[str], size: float = 8, keep_free: Any = None
) -> None:
    """Writes names beside points (n, 2), the most important first; those without a free place are left out.

    Names keep off their points, or off what `axes.scatter` gave for `keep_free`.

    Call it last: it fixes the layout.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    style: Any = {"fontsize": size, "zorder": 7, "path_effects": [withStroke(linewidth=2, foreground="white")]}
    texts = [axes.text(*point, name, **style) for point, name in zip(points, names, strict=True)]
    line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6}
    if keep_free is None:
        keep_free = axes.scatter(*points.T, s=20, alpha=0)
    _, lines = adjust_text(texts, ax=axes, iter_lim=100, arrowprops=line, objects=keep_free) if texts else ([], [])
    inside, taken = axes.get_window_extent(), list[Any]()
    for text in texts:
        box = text.get_window_extent()
        fits = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
        if fits and not any(box.overlaps(other) for other in taken):
            taken.append(box)
            continue
        for artist in (text, *(line for line in lines if getattr(line, "patchA", None) is text)):
            artist.set_visible(False)


def _bars(axes: Any, names: Sequence[str]) -> None:
    """A panel of horizontal bars, one per name, from the top down."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=INK, linewidth=0.8)


@matplotlib.rc_context(STYLE)
def plot_f1_by_frequency(rows: list[dict[str, Any]], named: int = 12) -> Figure:
    """F1 of each label against its training examples, from rows of `label_difficulty` with `train_count`."""
    present = [row for row in rows if row["support"]]
    counts, f1 = np.array([row["train_count"] for row in present]), 100 * np.array([row["f1"] for row in present])
    never, labels = (f1 == 0).sum(), plural(len(present), "label")
    found = f"{never} of {labels} {'is' if never == 1 else 'are'} never found" if never else "every label is found"
    title = f"Macro-F1 is {percent(np.mean([row['f1'] for row in rows]), 1)}; {found}"
    absent = len(rows) - len(present)
    few = len(present) <= named  # all are named then, and a line would only join the points
    note = (
        "One point per label with a positive in this split"
        + (
            "."
            if few
            else "; the line joins the means of groups of labels of similar frequency. Named: the labels that fall "
            "farthest below the line."
        )
        + (f" {plural(absent, 'label')} without a positive: no point, and an F1 of 0 in the means." if absent else "")
    )
    figure, ((axes,),) = new_figure(3.5, title, note)
    places = count_axis(axes, "x", counts)
    groups, whole = frequency_groups(counts), frequency_groups([row["train_count"] for row in rows])
    for index, (group, colour) in enumerate(zip(GROUPS, (BLUE, GREEN, ORANGE), strict=True)):
        chosen, of = groups == index, [row["f1"] for row, found in zip(rows, whole, strict=True) if found == index]
        if of:
            label = f"{group}: {plural(len(of), 'label')}, mean F1 {percent(np.mean(of), 1)}"
            style = {"marker": MARKERS[index], "alpha": 0.7, "linewidths": 0, "label": label}
            axes.scatter(places[chosen], f1[chosen], s=18, c=colour, **style)
    parts = np.array_split(np.argsort(counts, kind="stable"), min(8, len(counts)))
    x, y = np.array([np.log(places[part]).mean() for part in parts]), np.array([f1[part].mean() for part in parts])
    if not few:
        axes.plot(np.exp(x), y, color=INK, linewidth=1.2)
    axes.set(xlabel="training examples of the label", ylabel="F1 in this split (%)", ylim=(-4, 104))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)
    below = f1 - np.interp(np.log(places), x, y)
    far = [index for index in np.argsort(below, kind="stable")[:named] if few or below[index] < -5]
    names = [short(present[index]["label"]) for index in far]
    name_points(figure, axes, np.column_stack([places, f1])[far], names)
    return figure


@matplotlib.rc_context(STYLE)
def plot_hardest_labels(rows: list[dict[str, Any]], limit: int = 20) -> Figure:
    """How the hardest labels fail and where their scores lie, from rows of `label_difficulty`."""
    chosen = [rows[index] for index in hardest_labels(rows, limit)]
    fails = [row["failure"] for row in chosen]
    ways = {"missed": "by being missed", "over-predicted": "by over-prediction", "both": "by both"}
    counts = ", ".join(f"{fails.count(name)} {text}" for name, text in ways.items() if name in fails)
    title = f"How the {plural(len(chosen), 'hardest label')} fail: {counts}" if chosen else "No label fails"
    note = (
        "Labels by rising F1, in brackets positives in this split / in training (labels that training never saw are "
        "left out). Left: with counts; – is never predicted. Right: where scores lie beside the label's threshold; "
        "positives belong to the right of it, negatives to the left."
    )
    height = 0.26 * max(len(chosen), 2) + 1.35
    figure, ((left, right),) = new_figure(height, title, note, 1, 2, sharey=True, width_ratios=(1, 1.15))
    names = []
    for place, row in enumerate(chosen):
        left.barh(place, -100 * row["missed"] / row["support"], 0.68, color=BLUE)
        left.barh(place, 100 * row["wrong"] / max(row["predicted"], 1), 0.68, color=ORANGE)
        left.text(-104, place, f"{row['missed']}/{row['support']}", ha="right", va="center")
        wrong = f"{row['wrong']}/{row['predicted']}" if row["predicted"] else "–"
        left.text(104, place, wrong, ha="left", va="center")
        if row["negative_margins"]:
            right.plot(
                row["negative_margins"][1:], [place + 0.22] * 2, "-^", color=ORANGE, markevery=[1], markersize=4
            )
        if row["positive_margins"]:
            q10, q25, median, q75, q90 = row["positive_margins"]
            right.plot([q10, q90], [place - 0.12] * 2, color=BLUE, linewidth=1.2)
            right.plot([q25, q75], [place - 0.12] * 2, color=BLUE, linewidth=4.5, solid_capstyle="butt")
            right.plot([median], [place - 0.12], "o", color=BLUE, markeredgecolor="white", markersize=5)
        trained = f" / {row['train_count']}" if "train_count" in row else ""
        names.append(f"{short(row['label'], 22)} ({row['support']}{trained})")
    left.set(title="missed (left) and wrong (right)", xlim=(-146, 146))
    left.set_xlabel("% of positives missed (left),\n% of predictions wrong (right)")
    left.set_xticks([-100, -50, 0, 50, 100], ["100", "50", "0", "50", "100"])
    right.set(title="scores beside the threshold (0)")
    right.set_xlabel(
        "log-odds of the score minus\nthose of the threshold (left of 0:\nnot predicted, right: predicted)"
    )
    right.plot([], [], color=BLUE, linewidth=4, label="positives: median, middle 50 % and 80 %")
    right.plot([], [], "-^", color=ORANGE, label="negatives: 90 % to 99 % (triangle)")
    for axes in (left, right):
        _bars(axes, names)
    figure.legend(loc="outside lower right", ncols=2)
    figure.draw_without_rendering()  # lays the panels out: the counts must fit between the bars and the names
    widest = max((text.get_window_extent().width for text in left.texts), default=0) / left.bbox.width
    reach = max(146, 110 / (1 - 2 * min(widest, 0.4)))
    left.set_xlim(-reach, reach)
    return figure


@matplotlib.rc_context(STYLE)
def plot_confusions(found: Confusions, label_names: Sequence[str], limit: int = 14) -> Figure:
    """Which labels are wrongly predicted where others are missed: counts of the labels of the strongest pairs."""
    excess = np.clip(found.excess, 0, None) * (found.counts > 0)
    # By its strongest pair, not by the sum: of 1,000 labels one missed once, by an example with many wrong ones, would
    # come first.
    rows = _largest(excess.max(axis=1, initial=0), limit)
    columns = _largest(excess[rows].max(axis=0, initial=0), limit)
    title = "No label is predicted in place of another more often than by chance"
    for a, b in found.pairs(1):
        title = (
            f"Where “{short(label_names[a])}” is missed, “{short(label_names[b])}” is wrongly predicted in "
            f"{found.counts[a, b]} of {found.misses[a]} cases (by chance in {found.expected[a, b]:.1f})"
        )
    beyond = (excess / np.maximum(found.misses, 1)[:, None])[np.ix_(rows, columns)]
    darkest = float(beyond.max(initial=0))
    note = (
        "Row: a label its examples have but do not get. Column: a label predicted for the same examples without being "
        "theirs. Number: how many. Colour: how many more than by chance, as a share of the row's misses (darkest: "
        f"{percent(darkest)}). Bold: at least twice as many as by chance."
    )
    figure, ((axes,),) = new_figure(1.6 + 0.27 * max(len(rows), 1), title, note)
    if rows:
        axes.imshow(beyond, cmap="Blues", aspect="auto", vmin=0, vmax=1.5 * darkest)
    for y, a in enumerate(rows):
        for x, b in enumerate(columns):
            if found.counts[a, b]:
                weight = "bold" if found.lift[a, b] >= 2 else "normal"
                axes.text(x, y, str(found.counts[a, b]), ha="center", va="center", fontweight=weight)
    axes.set_yticks(range(len(rows)), [f"{short(label_names[a])} ({found.misses[a]} missed)" for a in rows])
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(columns)), [short(label_names[b], 20) for b in columns], **turned)
    axes.set(xlabel="wrongly predicted", ylabel="missed")
    return figure


def _largest(values: np.ndarray, limit: int) -> list[int]:
    return [int(index) for index in np.argsort(-values, kind="stable")[:limit] if values[index] > 0]


@matplotlib.rc_context(STYLE)
def plot_co_predictions(found: CoPredictions, label_names: Sequence[str], limit: int = 10) -> Figure:
    """Pairs of labels predicted together much more, or much less, often than they occur together."""
    more, less = found.pairs(limit, more=True), found.pairs(limit, more=False)
    pairs = [*more, *less[::-1]]
    upper = np.triu_indices(len(found.predicted), k=1)
    predicted, occurring = int(found.predicted[upper].sum()), int(found.occurring[upper].sum())
    judged = "few" if predicted < 0.8 * occurring else "many" if predicted > 1.25 * occurring else ""
    title = f"Pairs of labels are predicted {predicted:,} times and occur {occurring:,} times: "
    title += f"too {judged} combinations" if judged else "about as many combinations"
    title += "" if pairs else ", and no pair differs"
    note = (
        f"Bar: log2((predicted together + {found.prior:g}) / (occurring together + {found.prior:g})); the added "
        f"{found.prior:g} keep rare pairs near 0. Shown: the pairs that differ most; numbers: predicted / occurring."
    )
    figure, ((axes,),) = new_figure(1.2 + 0.24 * max(len(pairs), 1), title, note)
    ratios = np.array([found.log_ratio[pair] for pair in pairs])
    bars = axes.barh(range(len(pairs)), ratios, 0.7, color=np.where(ratios > 0, ORANGE, BLUE))
    axes.bar_label(bars, [f"{found.predicted[pair]} / {found.occurring[pair]}" for pair in pairs], padding=3)
    axes.margins(x=0.14)
    axes.set_xlabel(
        "log2 of predicted / occurring\n(left: together more rarely, right: more often,\n1: twice as often)"
    )
    _bars(axes, [f"{short(label_names[a], 20)} + {short(label_names[b], 20)}" for a, b in pairs])
    axes.grid(axis="x")
    return figure


@matplotlib.rc_context(STYLE)
def plot_purity(rows: list[dict[str, Any]], label_names: Sequence[str], k: int, named: int = 14) -> Figure:
    """Share of the k neighbours of a label's examples that have it too, from rows of `neighbourhood_purity`."""
    kept = [index for index, row in enumerate(rows) if row["purity"] is not None]
    sizes, purity, chance = (
        np.array([rows[index][key] for index in kept], dtype=float) for key in ("examples", "purity", "chance")
    )
    weak = int((purity - chance < 0.1 * (1 - chance)).sum())
    title = (
        f"On average {percent(purity.mean())} of a label's nearest neighbours have the label too (by chance "
        f"{percent(chance.mean(), 1)}); {weak} of {plural(len(kept), 'label')} are hardly above chance"
    )
    note = (
        f"One point per label: of the {k} nearest examples by cosine (n - 1 where only n have the label), how many "
        "have it, averaged over its examples. Hardly above chance: less than a tenth of the way from chance to "
        f"{percent(1)}. Named: the farthest from the others of their frequency."
    )
    figure, ((axes,),) = new_figure(3.5, title, note)
    axes.scatter(sizes, 100 * purity, s=20, c=BLUE, alpha=0.65, linewidths=0)
    order = np.argsort(sizes)
    axes.plot(sizes[order], 100 * chance[order], "--", color=MUTED, linewidth=1.2, label="random neighbours")
    count_axis(axes, "x", sizes)
    axes.set(xlabel="examples of the label in this split", ylabel="neighbours with it (%)", ylim=(-4, 104))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    logs = np.log(sizes)
    trend = np.polyval(np.polyfit(logs, purity, 1), logs) if len(set(sizes)) > 2 else purity.mean()
    far = np.argsort(-np.abs(purity - trend) * np.sqrt(np.log1p(sizes)), kind="stable")[:named]
    names = [short(label_names[kept[index]], 22) for index in far]
    name_points(figure, axes, np.column_stack([sizes, 100 * purity])[far], names)
    return figure


@matplotlib.rc_context(STYLE)
def plot_similarities(histograms: dict[str, Any]) -> Figure:
    """Cosines of pairs that share a label and that share none, of `similarity_histograms` with pairs of both."""
    title = "A pair that shares a label is more similar than one that shares none in "
    title += f"{percent(histograms['separation'])} of cases"
    note = "Random pairs of examples of this split. 50 % would be no separation at all, 100 % a perfect one."
    figure, ((axes,),) = new_figure(2.5, title, note)
    for name, colour, text in (("apart", ORANGE, "no label in common"), ("sharing", BLUE, "a label in common")):
        part = histograms[name]
        label = f"{text}: {part['pairs']:,} pairs, mean {part['mean']:.2f}"
        shares = 100 * np.array(part["density"]) * np.diff(histograms["edges"])
        axes.stairs(shares, histograms["edges"], color=colour, fill=True, alpha=0.5, label=label)
    axes.set(xlabel="cosine similarity", ylabel="pairs of the kind (%)", ylim=(0, None))
    axes.ticklabel_format(useOffset=False)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def plot_map(
    drawn: EmbeddingMap,
    labels: np.ndarray,
    label_names: Sequence[str],
    coloured: Sequence[int],
    *,
    space: str = "embeddings",
    named: int = 30,
) -> Figure:
    """The map of examples, coloured by a few labels, with the prototypes of the most frequent as named stars.

    Args:
        drawn: Of `map_embeddings`.
        labels: (N, L) bool, the known positives.
        label_names: L names.
        coloured: At most six labels that get a colour; an example with several has that of the rarest.
        space: What was mapped, for the text.
    """
    coloured = list(coloured)[: len(COLOURS)]
    counts = labels.sum(axis=0)
    title = f"t-SNE of the {space} keeps {percent(drawn.kept)} of the neighbours together"
    note, axis_names = "Near points are alike; distances between groups mean little. ", ["t-SNE 1", "t-SNE 2"]
    if drawn.explained is not None:
        title = f"Two principal axes hold {percent(sum(drawn.explained))} of the variance of the {space} and "
        title += f"{percent(drawn.kept)} of the neighbours"
        note, ranks = "", ("first", "second")
        axis_names = [
            f"{rank} principal axis ({percent(share)} of the variance)"
            for rank, share in zip(ranks, drawn.explained, strict=True)
        ]
    order = np.argsort(-counts, kind="stable")[:named]  # more stars hide what is below them
    which = "the" if len(order) == len(counts) else f"the {len(order)} most frequent"
    note += (
        f"{plural(len(labels), 'example')} as unit vectors, so only angles count. Grey: none of the coloured labels; "
        "an example with several has the colour of the rarest. Neighbours: the 10 nearest by cosine of each."
        + (
            f" Stars: prototypes of {which} labels, named where there is space."
            if drawn.prototypes is not None
            else ""
        )
    )
    figure, ((axes,),) = new_figure(0.45 + 6.4 * _shape(_shown_points(drawn, order.tolist())), title, note)
    of = np.full(len(labels), -1)
    for place in sorted(range(len(coloured)), key=lambda place: -counts[coloured[place]]):
        of[labels[:, coloured[place]]] = place
    axes.scatter(*drawn.points[of < 0].T, s=7, c=POINT, alpha=0.5, linewidths=0)
    for place, label in enumerate(coloured):
        style = {"c": COLOURS[place], "marker": MARKERS[place], "alpha": 0.75, "linewidths": 0}
        text = f"{short(label_names[label])} ({counts[label]})"
        axes.scatter(*drawn.points[of == place].T, s=14, label=text, **style)
    axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
    if drawn.explained is None:  # numbers along the axes of t-SNE mean nothing
        axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", "datalim")
    if coloured:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=1.5, title="label (examples)")
    if drawn.prototypes is not None:
        fill = np.full(len(counts), "white", dtype=object)
        fill[coloured] = COLOURS[: len(coloured)]
        stars, size = drawn.prototypes[order], np.where(fill[order] == "white", 45, 150)
        drawn_stars = axes.scatter(
            *stars.T, s=size, marker="*", c=fill[order], edgecolors=INK, linewidths=0.8, zorder=5
        )
        names = [short(label_names[label], 20) for label in order]
        name_points(figure, axes, stars, names, 7.5, keep_free=drawn_stars)
    return figure


def _shown_points(drawn: EmbeddingMap, labels: Sequence[int]) -> np.ndarray:
    """All that a map shows: its examples, and the prototypes of some labels."""
    return drawn.points if drawn.prototypes is None else np.concatenate([drawn.points, drawn.prototypes[list(labels)]])


def _shape(points: np.ndarray) -> float:
    """Height of a map over its width, within bounds."""
    width, height = np.ptp(points, axis=0)
    return float(np.clip(height / width if width > 0 else 1.0, 0.45, 1.0))


@matplotlib.rc_context(STYLE)
def plot_label_maps(
    drawn: EmbeddingMap, labels: np.ndarray, label_names: Sequence[str], chosen: Sequence[int], texts: Sequence[str]
) -> Figure:
    """One small map per chosen label, with a text such as its F1: its examples over all others, and its prototype.

    Args:
        drawn: Of `map_embeddings`.
        labels: (N, L) bool, the known positives.
        label_names: L names.
        chosen: Labels to show, and `texts`, one for each.
    """
    columns = min(4, max(len(chosen), 1))
    rows = math.ceil(max(len(chosen), 1) / columns)
    note = (
        f"The same map ({'t-SNE' if drawn.method == 'tsne' else 'principal axes'}); blue: the examples with the label"
        + (", star: its prototype." if drawn.prototypes is not None else ".")
        + " First the most frequent labels, then the hardest that have at least 5 examples here."
    )
    everything = _shown_points(drawn, chosen)
    height = min(0.55 + 8.3 / columns * _shape(everything), 3.5) * rows
    title = "Label by label: a tight group is easy to find, a scattered one is not"
    figure, panels = new_figure(height, title, note, rows, columns)
    for axes, label, text in zip(panels.flat, chosen, texts, strict=False):
        has = labels[:, label]
        axes.scatter(*drawn.points[~has].T, s=3, c=POINT, alpha=0.35, linewidths=0)
        axes.scatter(*drawn.points[has].T, s=8, c=BLUE, alpha=0.8, linewidths=0)
        if drawn.prototypes is not None:
            axes.scatter(*drawn.prototypes[label], s=90, marker="*", c=ORANGE, edgecolors="white", zorder=5)
        axes.set(title=short(label_names[label], 22), xlabel=text)
    edges = np.stack([np.min(everything, axis=0), np.max(everything, axis=0)], axis=1)
    edges += np.maximum(0.04 * np.ptp(edges, axis=1, keepdims=True), 1e-9) * [-1, 1]
    for index, axes in enumerate(panels.flat):
        axes.set(xticks=[], yticks=[], visible=index < len(chosen), xlim=edges[0], ylim=edges[1])
        axes.set_aspect("equal", "box")
    return figure


@matplotlib.rc_context(STYLE)
def plot_forces_by_similarity(summary: dict[str, Any], loss: str) -> Figure:
    """Pulls and pushes of `summarise_gradients` summed by cosine similarity."""
    edges, whole = np.array(summary["similarity"]["edges"]), summary["total"]["pull"] or 1.0
    pull, push, repulsion = (100 / whole * np.array(summary["similarity"][name]) for name in FORCES)
    middles = (edges[1:] + edges[:-1]) / 2
    pulled, pushed = (float((middles * force).sum() / (force.sum() or 1)) for force in (pull, push))
    repelled = percent(summary["total"]["repulsion"] / whole, 1)
    title = f"{loss} pulls positives at a mean cosine of {pulled:.2f}, pushes negatives at {pushed:.2f}, and "
    title += (
        f"removes repulsion of close positives worth {repelled} of the pull"
        if summary["removes_repulsion"]
        else f"pushes close positives apart with a force of {repelled} of the pull"
    )
    note = (
        "Sums over all pairs of the batches, in % of the whole pull. The forces on an anchor balance: pull = push on "
        "negatives + repulsion of positives."
    )
    figure, ((axes,),) = new_figure(2.9, title, note)
    widths = 0.92 * np.diff(edges)
    axes.bar(middles, -pull, widths, **_STYLES["pull"])
    axes.bar(middles, push, widths, **_STYLES["push"])
    axes.bar(middles, repulsion, widths, bottom=push, **_STYLES["repulsion"], label=_repulsion(summary))
    axes.axhline(0, color=INK, linewidth=0.8)
    used = np.flatnonzero(pull + push + repulsion > 0.05)
    if len(used):
        axes.set_xlim(edges[used[0]] - 0.02, edges[used[-1] + 1] + 0.02)
    axes.set(xlabel="cosine similarity of the pair", ylabel="% of the whole pull\n(pull down, push up)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _repulsion(summary: dict[str, Any]) -> str:
    return "repulsion of positives, " + ("removed" if summary["removes_repulsion"] else "at work")


@matplotlib.rc_context(STYLE)
def plot_force_parts(summary: dict[str, Any]) -> Figure:
    """Which pairs the forces of `summarise_gradients` act on: by kind, labels in common, frequency of the label."""
    whole = summary["total"]["pull"] or 1.0
    kinds, overlaps = ({n: p for n, p in summary[key].items() if p["pairs"]} for key in ("kinds", "overlaps"))
    groups = {name: part for name, part in summary["groups"].items() if part["labels"]}
    first = max(kinds, key=lambda name: kinds[name]["pull"], default="")
    title = f"{percent(kinds[first]['pull'] / whole)} of the pull acts on pairs “{first}”" if first else "No forces"
    if first and "tail" in groups:
        title += f"; tail labels get {percent(groups['tail']['pull'] / whole)} of it"
    note = (
        "Sums over the batches in % of the whole pull: pull on positives (left), push on negatives and repulsion of "
        "positives (right). In brackets: pairs in a batch; labels, and their share of all positive labels in a batch."
    )
    seen = sum(part["occurrences"] for part in groups.values()) or 1.0
    panels: dict[str, dict[str, dict[str, float]]] = {
        "by kind of pair (anchor - reference)": {f"{n} ({p['pairs']:,.0f} pairs)": p for n, p in kinds.items()},
        "pairs of two examples, by number of labels in common": {
            f"{n} in common ({p['pairs']:,.0f} pairs)": p for n, p in overlaps.items()
        },
        "by the label in common (negatives: by the reference's label)": {
            f"{n} ({plural(p['labels'], 'label')}, {percent(p['occurrences'] / seen)})": p for n, p in groups.items()
        },
    }
    panels = {text: parts for text, parts in panels.items() if parts}
    sizes = [len(parts) for parts in panels.values()]
    height = 0.26 * sum(sizes) + 0.35 * len(sizes) + 1.05
    figure, drawn = new_figure(height, title, note, len(sizes), 1, sharex=True, height_ratios=sizes)
    longest = 1.0
    for axes, (text, parts) in zip(drawn.flat, panels.items(), strict=True):
        pull, push, repulsion = (100 / whole * np.array([part[force] for part in parts.values()]) for force in FORCES)
        rows = np.arange(len(parts))
        left = axes.barh(rows, -pull, 0.68, **_STYLES["pull"])
        axes.barh(rows, push, 0.68, **_STYLES["push"])
        right = axes.barh(rows, repulsion, 0.68, left=push, **_STYLES["repulsion"], label=_repulsion(summary))
        axes.bar_label(left, [f"{value:.1f}" if value > 0.05 else "" for value in pull], padding=3)
        pushes = [f"{a:.1f} + {b:.1f}" if a + b > 0.05 else "" for a, b in zip(push, repulsion, strict=True)]
        axes.bar_label(right, pushes, padding=3)
        longest = max(longest, *pull, *(push + repulsion))
        axes.set_title(text)
        _bars(axes, list(parts))
        axes.grid(axis="x")
    axes.set_xlim(-1.2 * longest, 1.3 * longest)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_xlabel("% of the whole pull: pull (left), push and repulsion (right)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
