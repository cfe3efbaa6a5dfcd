"""The sections of a report, as HTML. Imports the page's parts and what an inspection is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from . import page
from .figures import percent
from .inspector import SHOWN_PAIRS, Inspection
from .outputs import Examples

FORMULAS = """
<p><b>Missed, wrong.</b> A label is missed where an example has it and it is not predicted, wrong where it is
predicted and the example is known not to have it. Unknown labels count nowhere.</p>
<p><b>Best F1.</b> F1 of the threshold that is best on these very examples: an upper bound of what another threshold
could give, never a result to quote. Everywhere: F1 of predicting the label for every example.</p>
<p><b>Instead.</b> For a missed label a and a wrong label b: count(a, b) = examples that miss a and get b wrongly; by
chance = (examples that miss a and lack b) × (examples with b wrong) / (examples that lack b); lift = (count + 1) /
(by chance + 1). Ordered by count − by chance.</p>
<p><b>Together.</b> log2((predicted together + k) / (occurring together + k)) with k = 5, over examples of which both
labels are known.</p>
<p><b>Neighbours.</b> By cosine similarity. Purity of a label with n examples: share of the nearest min(k, n − 1)
neighbours of its examples that have it; by chance (n − 1) / (N − 1). To look at: neighbours vote with their
similarity; ordered by share × log2(share / frequency of the label).</p>
<p><b>Gradient.</b> With s = cosine / temperature, positive weights W with row sums r, denominator weights D and
σ = exp(s) / Σ D exp(s): dL/ds = (r D σ − W) / n. Negative values pull a pair together, positive ones push it apart.
<code>reg</code> sets it to 0 where W &gt; 0 and the pair would be pushed. Chained to the embeddings, these numbers are
the gradient that training follows. A force on a positive pair counts in equal parts for the labels that the two have
in common, one on a negative pair for the labels of the reference.</p>
"""


def _picture(found: Inspection, name: str) -> str:
    return page.picture(found.figures[name], name) if name in found.figures else ""


def labels(found: Inspection) -> str:
    """Which labels are hard, and how they fail."""
    rows = found.numbers["labels"]["rows"]
    trained = any("train_count" in row for row in rows)
    heads = ["label", "fails by", "F1", "best F1", "everywhere", "precision", "recall", "AP"]
    heads += ["missed", "wrong", "positives", *["in training"] * trained, "median margin"]
    cells = []
    for row in sorted(rows, key=lambda row: (not row["support"], row["f1"], -row["support"])):
        shown = ("f1", "best_f1", "f1_everywhere", "precision", "recall", "average_precision")
        scores = [percent(row[name], 1) if row["support"] else None for name in shown]
        margins = row["positive_margins"]
        counts = [row["missed"], row["wrong"], row["support"], *[row.get("train_count")] * trained]
        cells.append([row["label"], row["failure"], *scores, *counts, f"{margins[2]:+.2f}" if margins else None])
    return (
        "<p>A label can fail in two ways: its examples are missed, or it is predicted where it does not belong. Where "
        "the scores of its positives are not higher than those of the strongest negatives, no threshold helps: "
        "encoder and classifier do not tell them apart. Where they are higher, but left of 0, the threshold is too "
        "high.</p>"
        + _picture(found, "f1_by_frequency")
        + _picture(found, "hardest_labels")
        + page.details(f"All {len(rows)} labels, hardest first", page.table(heads, cells, text=(0, 1)))
    )


def confusions(found: Inspection) -> str:
    """Labels predicted where others are missed, and labels predicted together."""
    instead, together = found.numbers["confusions"], found.numbers["co_predictions"]
    heads = ["missed", "predicted instead", "times", "of misses", "share", "by chance", "lift"]
    cells = []
    for row in instead[:SHOWN_PAIRS]:
        numbers = [percent(row["share"]), f"{row['expected']:.1f}", f"{row['lift']:.1f}"]
        cells.append([row["missed"], row["predicted"], row["count"], row["misses"], *numbers])
    pairs = [
        [" + ".join(row["labels"]), row["predicted"], row["occurring"], f"{row['log2_ratio']:+.2f}"]
        for row in (*together["more"][:SHOWN_PAIRS], *together["less"][:SHOWN_PAIRS])
    ]
    return (
        "<p>Where examples have several labels, one label is not simply taken for another. What can be counted: where "
        "a label is missed, which wrong ones the same example gets; and which labels the model puts together more, or "
        "less, often than the data do.</p>"
        + _picture(found, "confusions")
        + page.details(f"The {len(cells)} pairs farthest above chance", page.table(heads, cells, text=(0, 1)))
        + _picture(found, "co_predictions")
        + page.details("As a table", page.table(["pair", "predicted", "occurring", "log2 ratio"], pairs))
    )


def neighbours(found: Inspection, examples: Examples, names: Sequence[str]) -> str:
    """Who is near whom, who is alone, and which labels may have been forgotten."""
    space = found.numbers["neighbours"]
    what, why = "embeddings (after the projection)", ""
    if space["space"] == "features":
        what = "encoder features"
        why = " The classification objective trains no projection, so what the classifier sees is compared."
    purity = sorted((row for row in space["purity"] if row["purity"] is not None), key=lambda row: row["purity"])
    cells = [[row["label"], row["examples"], percent(row["purity"]), percent(row["chance"], 1)] for row in purity]
    look = "The neighbours agree on a label (dashed) that the example lacks: perhaps it was forgotten, perhaps the "
    look += "example only looks alike." if space["to_look_at"] else ""
    parts = [
        f"<p>Neighbours by cosine similarity of the {what}, among {space['examples']:,} examples of this split."
        f"{why}</p>",
        _picture(found, "similarities"),
        _picture(found, "purity"),
        page.details("Purity of every label", page.table(["label", "examples", "purity", "by chance"], cells)),
        _heading(
            "Examples and their nearest",
            "At random, of random labels. Framed in blue: labels of a neighbour that the example has too, and "
            "predictions that are right.",
        ),
        *(_card(found, examples, names, row) for row in space["sampled"]),
        _heading(
            "Isolated examples",
            "Those least similar to their nearest neighbours: of another kind than the rest, damaged, or of a rare "
            "label.",
        ),
        *(_card(found, examples, names, row) for row in space["isolated"]),
        _heading(
            "To look at", look if space["to_look_at"] else "No neighbours agree on a label that an example lacks."
        ),
        *(_card(found, examples, names, row) for row in space["to_look_at"]),
    ]
    return "".join(parts)


def _heading(title: str, text: str) -> str:
    return f'<h3>{escape(title)}</h3><p class="muted">{escape(text)}</p>'


def names_of(row: np.ndarray, names: Sequence[str]) -> list[str]:
    """The names of the labels that a bool row (L,) has."""
    return [names[label] for label in np.flatnonzero(row).tolist()]


def _card(found: Inspection, examples: Examples, names: Sequence[str], row: dict[str, Any]) -> str:
    """An example with its neighbours; `label` in the row is one that it lacks and they have."""
    index, asked = row["example"], row.get("label")
    own, predicted = names_of(found.labels[index], names), names_of(found.predictions[index], names)
    head = (
        f'<div class="first"><b>{escape(examples.name(index))}</b><span>labels: {page.labels(own, asked=asked)}</span>'
        f"<span>predicted: {page.labels(predicted, own)}</span></div>"
    )
    if asked is not None:
        head += (
            f'<p class="muted">{percent(row["share"])} of the votes of the nearest {found.numbers["neighbours"]["k"]} '
            f"are for {escape(asked)}, which {percent(row['frequency'], 1)} of the examples have.</p>"
        )
    image = examples.thumbnail(index) is not None
    shown = _input(examples, index)
    items = [f"<li>{shown}<b>the example</b></li>"] if image else []
    head += "" if image else f"<p>{shown}</p>"
    for other, similarity in zip(row["neighbours"], row["similarities"], strict=True):
        chips = page.labels(names_of(found.labels[other], names), own if asked is None else [*own, asked])
        text, shown = f"<b>{similarity:.2f}</b> {chips}", _input(examples, other)
        items.append(f"<li>{shown}{text}</li>" if image else f"<li>{text}<br>{shown}</li>")
    return f'<div class="card{" images" * image}">{head}<ol>{"".join(items)}</ol></div>'


def _input(examples: Examples, index: int) -> str:
    image = examples.thumbnail(index)
    if image is None:
        return f'<span class="muted">{escape(examples.text(index) or "")}</span>'
    name = escape(examples.name(index), quote=True)
    return f'<img src="data:image/jpeg;base64,{image}" alt="{name}" title="{name}">'


def maps(found: Inspection) -> str:
    """The space in two dimensions."""
    fit, what = found.numbers["prototypes"], found.numbers["neighbours"]["space"]
    text = f"<p>The same {what}, brought to two dimensions. "
    if fit is None:
        text += "There are no prototypes here: this objective trains none. "
    elif fit["own"] is not None and fit["others"] is not None:
        text += (
            f"An example has a mean cosine of {fit['own']:.2f} with the prototypes of its labels and of "
            f"{fit['others']:.2f} with the others. "
        )
    text += (
        "The principal axes show true positions, but only a part of them. t-SNE keeps neighbours together, but sizes "
        "of groups and distances between them mean little.</p>"
    )
    return text + "".join(_picture(found, name) for name in ("map_tsne", "map_pca", "label_maps"))


def gradient(found: Inspection, about: dict[str, Any]) -> str:
    """What the loss does to pairs."""
    summary = found.numbers["gradients"]
    if summary is None:
        return (
            "<p>A classification loss compares no pairs: the projection and the prototypes of this model are as they "
            "were initialised, so there is no gradient of pairs to show.</p>"
        )
    total, loss = summary["total"], f"<code>{escape(summary['loss'])}</code>"
    unit = 1 / (total["pull"] or 1.0)
    values = {"temperature": summary["temperature"], **summary["parameters"]}
    parameters = ", ".join(f"{name} {value:g}" for name, value in values.items())
    batches = "1 random batch" if summary["batches"] == 1 else f"{summary['batches']} random batches"
    fate = (
        "<code>reg</code> removes exactly this." if summary["removes_repulsion"] else f"{loss} does so, reg would not."
    )
    cells = []
    for group, of in (("kinds", ""), ("overlaps", " labels in common (two examples)"), ("groups", " labels")):
        for name, part in summary[group].items():
            pairs = part.get("pairs")
            forces = [percent(unit * part[force], 1) for force in ("pull", "push", "repulsion")]
            means = [f"{part[force] / pairs:.1e}" if pairs else None for force in ("pull", "push")]
            cells.append([name + of, None if pairs is None else round(pairs), *forces, *means])
    heads = ["part", "pairs a batch", "pull", "push", "repulsion", "pull a pair", "push a pair"]
    return (
        f"<p>The gradient of {loss} ({escape(parameters)}), pair by pair, on {batches} of {summary['batch_size']} "
        f"examples of the {about['gradient_split']} split, with the finished model, without dropout and augmentation. "
        "It shows what another step would do, not what past steps did.</p>"
        f"<p>A batch has {total['positives']:,.0f} positive pairs among {total['pairs']:,.0f}. "
        f"{total['repelled']:,.0f} of them ({percent(total['repelled'] / max(total['positives'], 1))}) are so close "
        f"that the plain gradient would push them apart, with a force of {percent(unit * total['repulsion'], 1)} of "
        f"the pull. {fate}</p>"
        + "".join(_picture(found, name) for name in ("force_parts", "forces_by_similarity", "pairs"))
        + page.details("As a table: shares of the whole pull, and mean dL/ds a pair", page.table(heads, cells))
    )
