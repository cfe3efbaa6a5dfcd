"""The pictures of a model card, from what a model gives for one split. Imports matplotlib when they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hf_mlcl.evaluation import per_label_metrics, plot_reliability, reliability_curve
from hf_mlcl.evaluation.arrays import sigmoid, split_labels
from hf_mlcl.evaluation.plots import plot_precision_recall
from hf_mlcl.inspection.errors import co_predictions
from hf_mlcl.inspection.neighbours import map_embeddings

MAPPED = 2000  # examples in the map: more points hide each other


def draw_pictures(
    folder: str | Path,
    config: Any,
    logits: np.ndarray,
    labels: np.ndarray,
    vectors: np.ndarray,
    prototypes: Any = None,
) -> None:
    """Writes the pictures of a card into `folder/figures`.

    F1 of each label against its training examples, precision against recall, reliability, labels predicted together
    against labels occurring together, and a map of the examples in the plane of their two principal axes.

    Args:
        folder: Where the model is saved.
        config: The model's.
        logits: N x L.
        labels: N x L multi-hot, -100 or NaN where unknown.
        vectors: N x d embeddings, or features of a model whose projection was not trained.
        prototypes: L x d where they were trained with the embeddings.

    Raises:
        ImportError: matplotlib is missing.
    """
    from hf_mlcl.inspection.plots import plot_co_predictions, plot_f1_by_frequency, plot_map

    names, counts, thresholds = config.label_names, config.train_label_counts, config.thresholds
    probabilities = sigmoid(logits)
    positives, _ = split_labels("labels", labels, rows=logits.shape[0], columns=logits.shape[1])
    chosen = np.random.default_rng(0).permutation(len(vectors))[:MAPPED]
    decided = probabilities >= (0.5 if thresholds is None else np.asarray(thresholds))
    sizes = positives[chosen].sum(0)
    frequent = [int(label) for label in np.argsort(-sizes, kind="stable")[:6] if sizes[label]]
    figures = {
        "precision_recall": plot_precision_recall(probabilities, labels, counts),
        "reliability": plot_reliability({"model": reliability_curve(probabilities, labels)}),
        "co_occurrence": plot_co_predictions(co_predictions(decided, labels), names),
        "embedding_map": plot_map(map_embeddings(vectors[chosen], prototypes), positives[chosen], names, frequent),
    }
    rows = per_label_metrics(logits, labels, thresholds, counts, names)
    if counts is not None and any(row["support"] for row in rows):
        figures["f1_by_frequency"] = plot_f1_by_frequency(rows)
    place = Path(folder) / "figures"
    place.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(place / f"{name}.png", metadata={"Software": None})
