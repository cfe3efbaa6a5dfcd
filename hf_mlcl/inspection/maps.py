"""Maps of embeddings and prototypes in two dimensions, and how true they are. Imports scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.manifold import TSNE

from hf_mlcl.evaluation.arrays import split_labels

from .neighbours import nearest_neighbours, unit_rows

METHODS = ("pca", "tsne")


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Points of the plane for examples and prototypes.

    Attributes:
        method: "pca" or "tsne".
        points: float64 (N, 2), the examples.
        prototypes: float64 (L, 2), or None.
        explained: shares of the variance of the unit vectors along the two axes; None for t-SNE, whose axes mean
            nothing.
        kept: share of the examples' nearest neighbours (10 by cosine) that are among the 10 nearest on the map: 1 is
            a faithful map.
    """

    method: str
    points: np.ndarray
    prototypes: np.ndarray | None
    explained: tuple[float, float] | None
    kept: float


def map_embeddings(embeddings: Any, prototypes: Any = None, method: str = "pca", seed: int = 0) -> EmbeddingMap:
    """Maps embeddings, and prototypes of the same space, to the plane, all as unit vectors (only angles count).

    "pca": the two principal axes of the examples, onto which the prototypes are projected; exact and the same every
    time (each axis has the sign that makes its largest coefficient positive). "tsne": t-SNE of examples and prototypes
    together, started from the principal axes; it shows who is near whom, not how far the rest is. Below 5 points it
    is the same as "pca".

    Args:
        embeddings: N x d, N of at least 2.
        prototypes: L x d, or None.
        method: "pca" or "tsne".
        seed: of t-SNE.

    Raises:
        ValueError: arrays of wrong shape, or another method.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    rows = unit_rows(embeddings, "embeddings").astype(np.float64)
    own = rows[:0] if prototypes is None else unit_rows(prototypes, "prototypes").astype(np.float64)
    if len(rows) < 2 or own.shape[1] != rows.shape[1]:
        raise ValueError(
            f"embeddings: expected at least 2 rows as long as the prototypes, got {rows.shape} and {own.shape}"
        )
    centre = rows.mean(axis=0)
    axes, shares = _principal_axes(rows - centre)
    everything = (np.concatenate([rows, own]) - centre) @ axes
    explained: tuple[float, float] | None = (float(shares[0]), float(shares[1]))
    if method == "tsne" and len(everything) >= 5:
        spread = everything[:, 0].std()
        start = everything / (spread if spread > 0 else 1.0) * 1e-4  # scikit-learn's own scale of such a start
        perplexity = min(30.0, (len(everything) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed)
        everything = tsne.fit_transform(np.concatenate([rows, own])).astype(np.float64)
        explained = None
    points = everything[: len(rows)]
    return EmbeddingMap(
        method=method,
        points=points,
        prototypes=None if prototypes is None else everything[len(rows) :],
        explained=explained,
        kept=_kept_neighbours(rows, points),
    )


def _principal_axes(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two principal axes (d, 2) and their shares of the variance; zeros where there is no second dimension."""
    values, vectors = np.linalg.eigh(centred.T @ centred)
    total = values.clip(min=0).sum()
    axes = np.zeros((centred.shape[1], 2))
    available = min(2, centred.shape[1])
    axes[:, :available] = vectors[:, ::-1][:, :available]
    largest = axes[np.abs(axes).argmax(axis=0), [0, 1]]
    shares = np.zeros(2)
    shares[:available] = values[::-1][:available].clip(min=0) / (total if total > 0 else 1)
    return axes * np.where(largest < 0, -1, 1), shares


def _kept_neighbours(rows: np.ndarray, points: np.ndarray, k: int = 10) -> float:
    near = nearest_neighbours(rows, k).indices
    # Distances in the plane, by the same blocks: the nearest by |a - b| are those with the largest a.b - |b|^2 / 2.
    chosen = np.empty_like(near)
    half = (points**2).sum(axis=1) / 2
    for start in range(0, len(points), 512):
        block = points[start : start + 512] @ points.T - half
        block[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
        chosen[start : start + 512] = np.argpartition(-block, near.shape[1] - 1, axis=1)[:, : near.shape[1]]
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(near, chosen, strict=True)]))


def prototype_fit(embeddings: Any, prototypes: Any, labels: Any) -> dict[str, float | None]:
    """How well prototypes stand with their examples, by cosine similarity.

    Returns:
        `own` (mean over examples and their labels' prototypes), `others` (over the other labels' prototypes) and
        `nearest_is_own` (share of labelled examples whose nearest prototype is of one of their labels); None without
        such pairs. Unknown labels are left out.
    """
    rows, own = unit_rows(embeddings, "embeddings"), unit_rows(prototypes, "prototypes")
    truth, known = split_labels("labels", labels, rows=len(rows), columns=len(own))
    known = np.ones_like(truth) if known is None else known
    cosines = rows @ own.T
    labelled = truth.any(axis=1)
    nearest = np.where(known, cosines, -np.inf).argmax(axis=1)
    hits = truth[np.arange(len(rows)), nearest][labelled]
    return {
        "own": float(cosines[truth].mean()) if truth.any() else None,
        "others": float(cosines[known & ~truth].mean()) if (known & ~truth).any() else None,
        "nearest_is_own": float(hits.mean()) if len(hits) else None,
    }
