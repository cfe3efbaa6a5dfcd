"""The report of one split: `inspect_outputs` computes its numbers and figures, `write_report` writes them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import torch

from hf_mlcl.evaluation import compute_metrics
from hf_mlcl.evaluation.arrays import sigmoid, split_labels
from hf_mlcl.evaluation.plots import frequency_groups
from hf_mlcl.losses import build_loss

from .errors import co_predictions, confusions, hardest_labels, label_difficulty
from .gradients import pair_gradients, summarise_gradients
from .neighbours import (
    isolated_examples,
    map_embeddings,
    nearest_neighbours,
    neighbourhood_purity,
    prototype_fit,
    similarity_histograms,
    to_look_at,
)
from .outputs import Examples, ModelOutputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPACE_EXAMPLES = 5000  # that neighbours are sought among: their number of pairs grows with the square
MAP_EXAMPLES = 1500  # that a map shows: more hide each other, and t-SNE takes minutes
SHOWN_PAIRS = 15
SHOWN_EXAMPLES = 6
SHOWN_NEIGHBOURS = 4


@dataclass
class Inspection:
    """What an inspection found.

    Attributes:
        numbers: JSON-ready; what is behind every figure.
        figures: name -> figure.
        labels: (N, L) bool, the known positives of the split.
        predictions: (N, L) bool.
    """

    numbers: dict[str, Any]
    figures: dict[str, Figure]
    labels: np.ndarray
    predictions: np.ndarray


def percent(share: float, digits: int = 0) -> str:
    """0.25 -> "25 %", with a non-breaking space."""
    return f"{100 * share:.{digits}f}\u00a0%"


def plural(number: int, noun: str, ending: str = "s") -> str:
    """ "1 label", "2 labels"."""
    return f"{number:,} {noun}" + ("" if number == 1 else ending)


def uses_embeddings(config: Any) -> bool:
    """Whether an objective has trained a model's projection: not so for the classification objective."""
    return config.search_space == "embeddings"


def uses_prototypes(config: Any) -> bool:
    """Whether a model's objective has trained its prototypes."""
    return uses_embeddings(config) and bool(build_loss(config.loss).uses_prototypes)


def inspect_outputs(
    config: Any,
    outputs: ModelOutputs,
    labels: Any,
    gradient_batches: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    *,
    neighbours: int = 10,
    seed: int = 0,
) -> Inspection:
    """Numbers and figures of a fitted model on the examples of one split.

    Args:
        config: the model's `MLCLConfig`.
        outputs: of `collect_outputs`.
        labels: (N, L) multi-hot, -100 or NaN where missing, N of at least 2.
        gradient_batches: embeddings (B, projection_dim) and labels (B, L) of training batches, for the gradient view;
            without any, and for models that were not trained by contrast, there is none.
        neighbours: how many neighbours of an example are looked at.
        seed: of random choices and t-SNE.

    Raises:
        ValueError: a classifier that was not fitted, or arrays of wrong shape or values.
        ImportError: matplotlib is missing.
    """
    from . import plots

    if not config.classifier_fitted:
        raise ValueError("model: its classifier is not fitted; call MLCLTrainer.fit_classifier")
    if len(outputs.logits) < 2:
        raise ValueError(f"labels: at least 2 examples are needed, got {len(outputs.logits)}")
    truth, _ = split_labels("labels", labels, rows=len(outputs.logits), columns=len(config.label_names))
    names, counts = config.label_names, config.train_label_counts
    limits = np.asarray(config.thresholds if config.thresholds is not None else [0.5] * len(names))
    found = Inspection({}, {}, truth, sigmoid(outputs.logits) >= limits)

    rows = label_difficulty(outputs.logits, labels, limits, counts, names)
    present = [row for row in rows if row["support"]]
    found.numbers["metrics"] = compute_metrics((outputs.logits, labels), thresholds=limits, train_label_counts=counts)
    found.numbers["labels"] = {
        "rows": rows,
        "hardest": hardest_labels(rows, 20),
        "never_found": sum(row["f1"] == 0 for row in present),
        "present": len(present),
        **{
            f"macro_{key}": float(np.mean([row[key] for row in rows]))  # of all labels, as in `metrics`
            for key in ("f1", "best_f1", "f1_everywhere")
        },
    }
    if present:
        found.figures["hardest_labels"] = plots.plot_hardest_labels(rows)
        if counts is not None:
            found.figures["f1_by_frequency"] = plots.plot_f1_by_frequency(rows)

    instead, together = confusions(found.predictions, labels), co_predictions(found.predictions, labels)
    values = {"count": instead.counts, "share": instead.share, "expected": instead.expected, "lift": instead.lift}
    found.numbers["confusions"] = [
        {"missed": names[a], "predicted": names[b], "misses": int(instead.misses[a])}
        | {key: matrix[a, b].item() for key, matrix in values.items()}
        for a, b in instead.pairs(200)
    ]
    values = {"predicted": together.predicted, "occurring": together.occurring, "log2_ratio": together.log_ratio}
    found.numbers["co_predictions"] = {
        kind: [
            {"labels": [names[a], names[b]]} | {key: matrix[a, b].item() for key, matrix in values.items()}
            for a, b in together.pairs(100, more=kind == "more")
        ]
        for kind in ("more", "less")
    }
    found.figures["confusions"] = plots.plot_confusions(instead, names)
    found.figures["co_predictions"] = plots.plot_co_predictions(together, names)
    _add_space(found, config, outputs, np.asarray(labels), neighbours, seed)
    _add_gradients(found, config, outputs.prototypes, gradient_batches)
    return found


def _add_space(found: Inspection, config: Any, outputs: ModelOutputs, labels: np.ndarray, k: int, seed: int) -> None:
    from . import plots

    space, names = config.search_space, config.label_names
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(labels))[:SPACE_EXAMPLES])
    vectors, labels, truth = getattr(outputs, space)[chosen], labels[chosen], found.labels[chosen]
    near = nearest_neighbours(vectors, k)
    purity = neighbourhood_purity(near, labels)
    histograms = similarity_histograms(vectors, labels, seed=seed)
    prototypes = outputs.prototypes if uses_prototypes(config) else None
    sampled: list[int] = []  # of labels at random, so that rare ones are seen too
    for label in rng.permutation(np.flatnonzero(truth.any(axis=0))):
        members = np.setdiff1d(np.flatnonzero(truth[:, label]), sampled)
        if len(members) and len(sampled) < SHOWN_EXAMPLES:
            sampled.append(int(rng.choice(members)))

    def shown(row: int) -> dict[str, Any]:
        return {
            "example": int(chosen[row]),
            "neighbours": chosen[near.indices[row, :SHOWN_NEIGHBOURS]].tolist(),
            "similarities": [round(float(value), 4) for value in near.similarities[row, :SHOWN_NEIGHBOURS]],
        }

    found.numbers["neighbours"] = {
        "space": space,
        "k": near.indices.shape[1],
        "examples": len(chosen),
        "purity": [{"label": name, **row} for name, row in zip(names, purity, strict=True)],
        "similarities": histograms,
        "sampled": [shown(row) for row in sampled],
        "isolated": [shown(row) for row in isolated_examples(near, SHOWN_EXAMPLES)],
        "to_look_at": [
            {**row, **shown(row["example"]), "label": names[row["label"]]}
            for row in to_look_at(near, labels, SHOWN_EXAMPLES)
        ],
    }
    if any(row["purity"] is not None for row in purity):
        found.figures["purity"] = plots.plot_purity(purity, names, near.indices.shape[1])
    if histograms["separation"] is not None:
        found.figures["similarities"] = plots.plot_similarities(histograms)
    found.numbers["prototypes"] = None if prototypes is None else prototype_fit(vectors, prototypes, labels)

    drawn = np.sort(rng.permutation(len(vectors))[:MAP_EXAMPLES])
    truth = truth[drawn]
    counts, rows = truth.sum(axis=0), found.numbers["labels"]["rows"]
    frequent = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]]
    maps = {method: map_embeddings(vectors[drawn], prototypes, method, seed) for method in ("pca", "tsne")}
    found.numbers["maps"] = {"examples": chosen[drawn].tolist()}
    for method, one in maps.items():
        found.figures[f"map_{method}"] = plots.plot_map(one, truth, names, frequent[:6], space=space)
        found.numbers["maps"][method] = {
            "kept": one.kept,
            "explained": one.explained,
            "points": one.points.round(3).tolist(),
            "prototypes": None if one.prototypes is None else one.prototypes.round(3).tolist(),
        }
    hard = [label for label in hardest_labels(rows, len(rows)) if counts[label] >= 5 and label not in frequent[:4]]
    small = [*frequent[:4], *hard[:4]]
    texts = [f"{counts[label]} examples, F1 {100 * rows[label]['f1']:.0f} %" for label in small]
    best = max(maps.values(), key=lambda one: one.kept)
    found.figures["label_maps"] = plots.plot_label_maps(best, truth, names, small, texts)


def _add_gradients(found: Inspection, config: Any, prototypes: np.ndarray, batches: Sequence[Any]) -> None:
    from . import plots

    found.numbers["gradients"] = None
    if not uses_embeddings(config) or not batches:
        return
    loss = build_loss(config.loss, **config.loss_parameters)
    pairs = [pair_gradients(loss, *map(torch.as_tensor, (*batch, prototypes))) for batch in batches]
    counts = config.train_label_counts
    if counts is None:
        counts = sum((np.asarray(labels) == 1).sum(axis=0) for _, labels in batches)
    summary = summarise_gradients(pairs, frequency_groups(counts))
    found.numbers["gradients"] = {
        "loss": config.loss,
        "parameters": config.loss_parameters,
        "batch_size": len(batches[0][0]),
        **summary,
    }
    if summary["total"]["positives"]:
        found.figures["forces_by_similarity"] = plots.plot_forces_by_similarity(summary, config.loss)
        found.figures["force_parts"] = plots.plot_force_parts(summary)


def write_report(
    found: Inspection,
    folder: str | Path,
    examples: Examples,
    label_names: Sequence[str],
    about: dict[str, Any],
    before: Inspection | None = None,
) -> Path:
    """Writes `report.html`, one PNG per figure and `inspection.json` into a folder, and returns the report's path.

    The report holds its figures and needs neither network nor scripts.

    Args:
        found: of `inspect_outputs`.
        folder: is made where it does not exist; files of the same names are replaced.
        examples: of the split.
        label_names: L names.
        about: JSON-ready; `model`, `dataset`, `split` (names), `examples` (how many), `task`, `objective` (in words),
            `gradient_split` (the split that the gradient view's batches are of, or None) and `comparison` (scores of
            the encoder before and after training, see `compare_encoders`, or None).
        before: of the same examples and labels, by the encoder as it was before training; is shown beside.
    """
    path, numbers = Path(folder), found.numbers
    path.mkdir(parents=True, exist_ok=True)
    cards = [row for part in ("sampled", "isolated", "to_look_at") for row in numbers["neighbours"][part]]

    def names_of(row: np.ndarray) -> list[str]:
        return [label_names[label] for label in np.flatnonzero(row).tolist()]

    shown = {
        index: {"id": examples.name(index), "labels": names_of(found.labels[index]), "text": examples.text(index)}
        for index in sorted({index for row in cards for index in (row["example"], *row["neighbours"])})
    }
    untrained = None if before is None else before.numbers
    saved = json.dumps({"about": about, **numbers, "before": untrained, "examples": shown}, allow_nan=False)
    (path / "inspection.json").write_text(saved + "\n", encoding="utf-8")
    pictures = {}
    figures = found.figures | {
        f"before_{name}": one for name, one in ({} if before is None else before.figures).items()
    }
    for name, figure in figures.items():
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
        (path / f"{name}.png").write_bytes(file.getvalue())
        pictures[name] = base64.b64encode(file.getvalue()).decode()
    for index, example in shown.items():
        example |= {"predicted": names_of(found.predictions[index]), "image": examples.thumbnail(index)}
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
    )
    environment.filters |= {"percent": percent, "plural": plural}
    text = environment.get_template("report.html").render(
        numbers | _tables(numbers, untrained, about) | _points(found, examples, label_names),
        before=untrained,
        title=f"{about['model']} on {about['dataset']} ({about['split']})",
        about=about,
        examples=shown,
        pictures=pictures,
        titles={
            name: " ".join(figure.texts[0].get_text().replace(r"\$", "$").split()) for name, figure in figures.items()
        },
    )
    report = path / "report.html"
    report.write_text(text, encoding="utf-8")
    return report


def _tables(numbers: dict[str, Any], before: dict[str, Any] | None, about: dict[str, Any]) -> dict[str, Any]:
    """The rows of the report's tables."""
    rows, comparison = numbers["labels"]["rows"], about["comparison"]
    scores_of = {"after training" if before else about["split"]: (about["examples"], numbers["metrics"])}
    if before:
        scores_of = {"before training": (about["examples"], before["metrics"]), **scores_of}
    elif comparison:
        scores_of |= {
            f"{when} training *": (comparison["validation"], comparison[when]) for when in ("before", "after")
        }
    f1_before = {row["label"]: [percent(row["f1"], 1)] for row in before["labels"]["rows"]} if before else {}
    trained = ["train_count"] if any("train_count" in row for row in rows) else []
    scores = ("f1", "best_f1", "f1_everywhere", "precision", "recall", "average_precision")
    purity = [row for row in numbers["neighbours"]["purity"] if row["purity"] is not None]
    return {
        "score_rows": [
            [name, *(percent(of[key], 1) for key in ("micro_f1", "macro_f1", "map")), f"{size:,}", f"{len(rows):,}"]
            for name, (size, of) in scores_of.items()
        ],
        "label_heads": ["label", "fails by", *["F1 before"] * bool(before), "F1", "best F1", "everywhere"]
        + [
            "precision",
            "recall",
            "AP",
            "missed",
            "wrong",
            "positives",
            *["in training"] * len(trained),
            "median margin",
        ],
        "label_rows": [
            [row["label"], row["failure"], *f1_before.get(row["label"], [])]
            + [percent(row[name], 1) if row["support"] else None for name in scores]
            + [row[name] for name in ("missed", "wrong", "support", *trained)]
            + [f"{row['positive_margins'][2]:+.2f}" if row["positive_margins"] else None]
            for row in sorted(rows, key=lambda row: (not row["support"], row["f1"], -row["support"]))
        ],
        "confusion_rows": [
            [row["missed"], row["predicted"], row["count"], row["misses"], percent(row["share"])]
            + [f"{row['expected']:.1f}", f"{row['lift']:.1f}"]
            for row in numbers["confusions"][:SHOWN_PAIRS]
        ],
        "purity_rows": [
            [row["label"], row["examples"], percent(row["purity"]), percent(row["chance"], 1)]
            for row in sorted(purity, key=lambda row: row["purity"])
        ],
    }


def _points(found: Inspection, examples: Examples, label_names: Sequence[str]) -> dict[str, Any]:
    """The points of the t-SNE map, in a frame of 100 x 70, with colours and what a mouse over them shows."""
    from .plots import COLOURS, POINT

    rows = found.numbers["maps"]["examples"]
    places = np.asarray(found.numbers["maps"]["tsne"]["points"])
    low, high = places.min(axis=0), places.max(axis=0)
    places = (places - low) / np.maximum(high - low, 1e-9) * [100, -70] + [0, 70]
    labels = found.labels[rows]
    sizes = labels.sum(axis=0)
    frequent = [int(label) for label in np.argsort(-sizes, kind="stable")[: len(COLOURS)] if sizes[label]]
    points = []
    for row, (x, y), own in zip(rows, places, labels, strict=True):
        names = ", ".join(label_names[label] for label in np.flatnonzero(own).tolist()) or "no label"
        colour = next((COLOURS[place] for place in reversed(range(len(frequent))) if own[frequent[place]]), POINT)
        text = f"{names}: {examples.text(row) or examples.name(row)}"
        image = examples.thumbnail(row)
        points.append({"x": f"{x:.1f}", "y": f"{y:.1f}", "colour": colour, "text": text, "image": image})
    legend = [(label_names[label], colour) for label, colour in zip(frequent, COLOURS, strict=False)]
    return {"points": points, "legend": legend}
