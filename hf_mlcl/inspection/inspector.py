"""One inspection: from a model's outputs to numbers and pictures. Imports the files that make these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_mlcl.evaluation import compute_metrics
from hf_mlcl.evaluation.arrays import sigmoid, split_labels
from hf_mlcl.losses import build_loss

from .confusion import co_predictions, confusions
from .gradient_figures import plot_force_parts, plot_forces_by_similarity, plot_pairs, sample_pairs
from .gradients import pair_gradients, summarise_gradients
from .label_figures import plot_co_predictions, plot_confusions, plot_f1_by_frequency, plot_hardest_labels
from .labels import frequency_groups, hardest_labels, label_difficulty
from .maps import map_embeddings, prototype_fit
from .neighbours import (
    isolated_examples,
    nearest_neighbours,
    neighbourhood_purity,
    similarity_histograms,
    to_look_at,
)
from .outputs import ModelOutputs
from .space_figures import plot_label_maps, plot_map, plot_purity, plot_similarities

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
        numbers: JSON-ready; what is behind every picture.
        figures: name -> picture.
        labels: (N, L) bool, the known positives of the split.
        predictions: (N, L) bool.
    """

    numbers: dict[str, Any]
    figures: dict[str, Figure]
    labels: np.ndarray
    predictions: np.ndarray
    notes: list[str] = field(default_factory=list)


def uses_embeddings(config: Any) -> bool:
    """Whether an objective has trained a model's projection: not so for the classification objective."""
    return config.objective != "classification" and getattr(config, "trained", None) is not False


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
    """Numbers and pictures of a fitted model on the examples of one split.

    Args:
        config: the model's `MLCLConfig`.
        outputs: of `collect_outputs`.
        labels: (N, L) multi-hot, -100 or NaN where unknown, N of at least 2.
        gradient_batches: embeddings (B, projection_dim) and labels (B, L) of training batches, for the gradient view;
            without any, and for models that were not trained by contrast, there is none.
        neighbours: how many neighbours of an example are looked at.
        seed: of random choices and t-SNE.

    Raises:
        ValueError: a classifier that was not fitted, or arrays of wrong shape or values.
        ImportError: matplotlib is missing.
    """
    if not config.classifier_fitted:
        raise ValueError("model: expected a fitted classifier, got one that was not: see MLCLTrainer.fit_classifier")
    if len(outputs.logits) < 2:
        raise ValueError(f"labels: expected at least 2 examples, got {len(outputs.logits)}")
    truth, _ = split_labels("labels", labels, rows=len(outputs.logits), columns=len(config.label_names))
    limits = np.asarray(config.thresholds if config.thresholds is not None else [0.5] * truth.shape[1])
    predicted = sigmoid(outputs.logits) >= limits
    found = Inspection({}, {}, truth, predicted)
    _labels(found, config, outputs, labels, limits)
    _confusions(found, config, labels)
    _space(found, config, outputs, np.asarray(labels), neighbours, seed)
    _gradients(found, config, outputs.prototypes, gradient_batches, seed)
    return found


def _labels(found: Inspection, config: Any, outputs: ModelOutputs, labels: Any, limits: np.ndarray) -> None:
    counts = config.train_label_counts
    metrics = compute_metrics((outputs.logits, labels), thresholds=limits, train_label_counts=counts)
    rows = label_difficulty(outputs.logits, labels, limits, counts, config.label_names)
    present = [row for row in rows if row["support"]]
    found.numbers["metrics"] = metrics
    found.numbers["labels"] = {
        "rows": rows,
        "hardest": hardest_labels(rows, 20),
        "never_found": sum(row["f1"] == 0 for row in present),
        "present": len(present),
        **{
            f"macro_{key}": float(np.mean([row[key] for row in present])) if present else None
            for key in ("f1", "best_f1", "f1_everywhere")
        },
    }
    if present:
        found.figures["hardest_labels"] = plot_hardest_labels(rows)
        if counts is not None:
            found.figures["f1_by_frequency"] = plot_f1_by_frequency(rows)


def _confusions(found: Inspection, config: Any, labels: Any) -> None:
    names, predicted = config.label_names, found.predictions
    instead = confusions(predicted, labels)
    together = co_predictions(predicted, labels)
    share, lift = instead.share, instead.lift
    found.numbers["confusions"] = [
        {
            "missed": names[a],
            "predicted": names[b],
            "count": int(instead.counts[a, b]),
            "misses": int(instead.misses[a]),
            "share": float(share[a, b]),
            "expected": float(instead.expected[a, b]),
            "lift": float(lift[a, b]),
        }
        for a, b in instead.pairs(200)
    ]
    found.numbers["co_predictions"] = {
        kind: [
            {
                "labels": [names[a], names[b]],
                "predicted": int(together.predicted[a, b]),
                "occurring": int(together.occurring[a, b]),
                "log2_ratio": float(together.log_ratio[a, b]),
            }
            for a, b in together.pairs(100, more=kind == "more")
        ]
        for kind in ("more", "less")
    }
    found.figures["confusions"] = plot_confusions(instead, names)
    found.figures["co_predictions"] = plot_co_predictions(together, names)


def _space(found: Inspection, config: Any, outputs: ModelOutputs, labels: np.ndarray, k: int, seed: int) -> None:
    space = "embeddings" if uses_embeddings(config) else "features"
    names, vectors = config.label_names, getattr(outputs, space)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(vectors))[:SPACE_EXAMPLES])
    vectors, labels, truth = vectors[chosen], labels[chosen], found.labels[chosen]
    near = nearest_neighbours(vectors, k)
    purity = neighbourhood_purity(near, labels)
    histograms = similarity_histograms(vectors, labels, seed=seed)
    prototypes = outputs.prototypes if uses_prototypes(config) else None
    sampled = _sampled(truth, rng)
    look = to_look_at(near, labels, SHOWN_EXAMPLES)
    found.numbers["neighbours"] = {
        "space": space,
        "k": near.indices.shape[1],
        "examples": len(chosen),
        "purity": [{"label": name, **row} for name, row in zip(names, purity, strict=True)],
        "similarities": histograms,
        "sampled": [_with_neighbours(chosen, near, row) for row in sampled],
        "isolated": [_with_neighbours(chosen, near, row) for row in isolated_examples(near, SHOWN_EXAMPLES)],
        "to_look_at": [
            _with_neighbours(chosen, near, row["example"])
            | {"label": names[row["label"]], "share": row["share"], "frequency": row["frequency"]}
            for row in look
        ],
    }
    if any(row["purity"] is not None for row in purity):
        found.figures["purity"] = plot_purity(purity, names, near.indices.shape[1])
    if histograms["separation"] is not None:
        found.figures["similarities"] = plot_similarities(histograms)
    found.numbers["prototypes"] = None if prototypes is None else prototype_fit(vectors, prototypes, labels)
    _maps(found, names, vectors, prototypes, chosen, space, rng, seed)


def _sampled(truth: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Labelled examples at random, of labels at random, so that rare ones are seen too."""
    present = rng.permutation(np.flatnonzero(truth.any(axis=0)))
    rows: list[int] = []
    for label in present:
        members = np.setdiff1d(np.flatnonzero(truth[:, label]), rows)
        if len(members) and len(rows) < SHOWN_EXAMPLES:
            rows.append(int(rng.choice(members)))
    return rows


def _with_neighbours(chosen: np.ndarray, near: Any, row: int) -> dict[str, Any]:
    return {
        "example": int(chosen[row]),
        "neighbours": chosen[near.indices[row, :SHOWN_NEIGHBOURS]].tolist(),
        "similarities": [round(float(value), 4) for value in near.similarities[row, :SHOWN_NEIGHBOURS]],
    }


def _maps(
    found: Inspection,
    names: list[str],
    vectors: np.ndarray,
    prototypes: np.ndarray | None,
    examples: np.ndarray,
    space: str,
    rng: np.random.Generator,
    seed: int,
) -> None:
    drawn = np.sort(rng.permutation(len(vectors))[:MAP_EXAMPLES])
    truth = found.labels[examples[drawn]]
    counts = truth.sum(axis=0)
    frequent = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]]
    rows = found.numbers["labels"]["rows"]
    maps = {method: map_embeddings(vectors[drawn], prototypes, method, seed) for method in ("pca", "tsne")}
    found.numbers["maps"] = {
        method: {
            "kept": drawing.kept,
            "explained": drawing.explained,
            "points": drawing.points.round(3).tolist(),
            "prototypes": None if drawing.prototypes is None else drawing.prototypes.round(3).tolist(),
        }
        for method, drawing in maps.items()
    }
    found.numbers["maps"]["examples"] = examples[drawn].tolist()
    for method, drawing in maps.items():
        found.figures[f"map_{method}"] = plot_map(drawing, truth, names, frequent[:6], space=space)
    hard = [label for label in hardest_labels(rows, len(rows)) if counts[label] >= 5 and label not in frequent[:4]]
    small = [*frequent[:4], *hard[:4]]
    texts = [f"{counts[label]} examples, F1 {100 * rows[label]['f1']:.0f} %" for label in small]
    best = max(maps.values(), key=lambda drawing: drawing.kept)
    found.figures["label_maps"] = plot_label_maps(best, truth, names, small, texts)


def _gradients(
    found: Inspection,
    config: Any,
    prototypes: np.ndarray,
    gradient_batches: Sequence[tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> None:
    found.numbers["gradients"] = None
    if not uses_embeddings(config) or not gradient_batches:
        return
    loss = build_loss(config.loss, **config.loss_parameters)
    batches = [
        pair_gradients(loss, torch.as_tensor(vectors), torch.as_tensor(labels), torch.as_tensor(prototypes))
        for vectors, labels in gradient_batches
    ]
    counts = config.train_label_counts
    if counts is None:
        counts = sum((np.asarray(labels) == 1).sum(axis=0) for _, labels in gradient_batches)
    summary = summarise_gradients(batches, frequency_groups(counts))
    pairs = sample_pairs(batches[0], seed=seed)
    found.numbers["gradients"] = {
        "loss": config.loss,
        "parameters": config.loss_parameters,
        "batch_size": len(gradient_batches[0][0]),
        **summary,
        "pairs": pairs,
    }
    if summary["total"]["positives"]:
        found.figures["pairs"] = plot_pairs(pairs, config.loss, summary["removes_repulsion"])
        found.figures["forces_by_similarity"] = plot_forces_by_similarity(summary, config.loss)
        found.figures["force_parts"] = plot_force_parts(summary, config.loss)
