"""Nearest neighbours, how similar examples with a common label are, and maps of embeddings in the plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from hf_mlcl.evaluation.arrays import as_matrix, check_positive, split_labels


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest other examples of each example, nearest first.

    Attributes:
        indices: int64 (N, k).
        similarities: float32 (N, k), their cosine similarities.
    """

    indices: np.ndarray
    similarities: np.ndarray


def unit_rows(vectors: Any, name: str = "vectors") -> np.ndarray:
    """Float32 rows of length 1; a row of zeros stays zero."""
    matrix = as_matrix(name, vectors, dtype=np.float32)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(norms > 0, norms, 1)


def nearest_neighbours(vectors: Any, k: int = 10) -> Neighbours:
    """The k nearest other examples by cosine similarity (all others where there are fewer).

    Args:
        vectors: N x d, N of at least 2; they need not be normalised.
        k: how many.

    Raises:
        ValueError: fewer than 2 examples, or a wrong k.

    Example:
        >>> nearest_neighbours([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]], k=1).indices.tolist()
        [[1], [0], [1]]
    """
    rows = unit_rows(vectors)
    check_positive("k", k, whole=True)
    if len(rows) < 2:
        raise ValueError(f"vectors: at least 2 examples are needed, got {len(rows)}")
    search = NearestNeighbors(n_neighbors=min(k, len(rows) - 1), metric="cosine").fit(rows)
    distances, indices = search.kneighbors()
    return Neighbours(indices, (1 - distances).astype(np.float32))


def neighbourhood_purity(neighbours: Neighbours, labels: Any) -> list[dict[str, Any]]:
    """One dictionary per label: how many of the neighbours of its examples have it too.

    Keys: `examples` (n, known positives), `purity` (mean over them of the share of their nearest min(k, n - 1)
    neighbours, those of which it is known, that have the label; None with n below 2: 1 is possible for every label),
    and `chance` ((n - 1) / (known - 1), what random neighbours would give).

    Args:
        neighbours: of N examples.
        labels: N x L multi-hot, -100 or NaN where missing.
    """
    truth, known = split_labels("labels", labels, rows=len(neighbours.indices))
    rows: list[dict[str, Any]] = []
    for has, seen in zip(truth.T, known.T, strict=True):
        size, purity, chance = int(has.sum()), None, None
        if size > 1:
            near = neighbours.indices[has, : size - 1]
            counted = seen[near].sum(axis=1)
            if counted.any():
                purity = float((has[near].sum(axis=1) / np.maximum(counted, 1))[counted > 0].mean())
            chance = (size - 1) / (int(seen.sum()) - 1)
        rows.append({"examples": size, "purity": purity, "chance": chance})
    return rows


def isolated_examples(neighbours: Neighbours, limit: int) -> list[int]:
    """Indices of at most `limit` examples whose nearest neighbours are farthest away: lowest mean similarity first."""
    return np.argsort(neighbours.similarities.mean(axis=1), kind="stable")[:limit].tolist()


def to_look_at(neighbours: Neighbours, labels: Any, limit: int, agreement: float = 0.6) -> list[dict[str, Any]]:
    """Examples that lack a label on which their neighbours agree: possible annotation errors.

    Each neighbour of which the label is known votes with its cosine similarity. Kept are (example, label) where the
    example is known to lack the label and at least `agreement` of the votes, from at least 3 neighbours (or all, where
    there are fewer), are for it. They are ordered by share x log2(share / frequency of the label), so that frequent
    labels do not come first. Of each example the first one is given.

    Returns:
        At most `limit` dictionaries: `example`, `label` (indices), `share` of the votes, `frequency` of the label.
    """
    truth, known = split_labels("labels", labels, rows=len(neighbours.indices))
    frequency = truth.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    votes = np.clip(neighbours.similarities, 0, None)
    fewest = min(3, neighbours.indices.shape[1])
    found: list[tuple[float, dict[str, Any]]] = []
    for row, (near, weights) in enumerate(zip(neighbours.indices, votes, strict=True)):
        total = weights @ known[near]
        share = np.divide(weights @ truth[near], total, out=np.zeros_like(frequency), where=total > 0)
        share[truth[row] | ~known[row] | (known[near].sum(axis=0) < fewest)] = 0
        candidates = np.flatnonzero((share >= agreement) & (frequency > 0))
        if len(candidates):
            surprise = share[candidates] * np.log2(share[candidates] / frequency[candidates])
            label = int(candidates[surprise.argmax()])
            values = {"share": float(share[label]), "frequency": float(frequency[label])}
            found.append((float(surprise.max()), {"example": row, "label": label, **values}))
    found.sort(key=lambda item: -item[0])
    return [row for surprise, row in found[:limit] if surprise > 0]


def similarity_histograms(
    vectors: Any, labels: Any, bins: int = 60, pairs: int = 200_000, seed: int = 0
) -> dict[str, Any]:
    """How similar random pairs of examples are that share a label, and that share none.

    Returns:
        `edges` (bins + 1) of the cosine similarity; for "sharing" and "apart" the `density` (bins), `mean` and number
        of `pairs`; and `separation`, the probability that a sharing pair is more similar than one that is not (the
        area under the ROC curve). Pairs of which it is not known whether they share a label are left out. None without
        pairs of both kinds.
    """
    rows = unit_rows(vectors)
    truth, known = split_labels("labels", labels, rows=len(rows))
    possible = truth | ~known
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, len(rows), (2, pairs))
    first, second = first[first != second], second[first != second]
    parts = []
    for a, b in zip(*(np.array_split(side, len(first) // 2048 + 1) for side in (first, second)), strict=True):
        cosines = np.einsum("ij,ij->i", rows[a], rows[b])
        parts.append((cosines, *((has[a] & has[b]).any(axis=1) for has in (truth, possible))))
    cosines, sharing, perhaps = (np.concatenate(values) for values in zip(*parts, strict=True))
    decided = sharing | ~perhaps
    if len(np.unique(sharing[decided])) < 2:
        return {"edges": None, "sharing": None, "apart": None, "separation": None}
    low, high = np.quantile(cosines[decided], [0.0005, 0.9995])
    edges = np.linspace(min(low, high - 1e-3), high, bins + 1)  # widened downwards: no cosine is above 1
    result: dict[str, Any] = {"edges": edges.tolist()}
    for name, chosen in (("sharing", sharing), ("apart", ~perhaps)):
        density, _ = np.histogram(cosines[chosen], bins=edges, density=True)
        mean = float(cosines[chosen].mean())
        result[name] = {"density": density.tolist(), "mean": mean, "pairs": int(chosen.sum())}
    return result | {"separation": float(roc_auc_score(sharing[decided], cosines[decided]))}


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

    "pca": the two principal axes of the examples, onto which the prototypes are projected. "tsne": t-SNE of examples
    and prototypes together, started from the principal axes; it shows who is near whom, not how far the rest is. Below
    5 points it is the same as "pca".

    Args:
        embeddings: N x d, N of at least 2.
        prototypes: L x d, or None.
        method: "pca" or "tsne".
        seed: of t-SNE.

    Raises:
        ValueError: arrays of wrong shape, or another method.
    """
    if method not in ("pca", "tsne"):
        raise ValueError(f"method: choose pca or tsne, got {method!r}")
    rows = unit_rows(embeddings, "embeddings").astype(np.float64)
    own = rows[:0] if prototypes is None else unit_rows(prototypes, "prototypes").astype(np.float64)
    if len(rows) < 2 or own.shape[1] != rows.shape[1]:
        raise ValueError(
            f"embeddings: at least 2 rows as long as the prototypes are needed, got {rows.shape} and {own.shape}"
        )
    together = np.concatenate([rows, own])
    with np.errstate(invalid="ignore"):  # equal points have no variance
        pca = PCA(min(2, rows.shape[1]), random_state=0).fit(rows)
    missing = 2 - pca.n_components_
    everything = np.pad(pca.transform(together), ((0, 0), (0, missing)))
    first, second = np.pad(np.nan_to_num(pca.explained_variance_ratio_), (0, missing)).tolist()
    explained: tuple[float, float] | None = (first, second)
    if method == "tsne" and len(everything) >= 5:
        spread = everything[:, 0].std()
        start = everything / (spread if spread > 0 else 1.0) * 1e-4  # scikit-learn's own scale of such a start
        perplexity = min(30.0, (len(everything) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed)
        everything, explained = tsne.fit_transform(together).astype(np.float64), None
    points = everything[: len(rows)]
    near = nearest_neighbours(rows).indices
    drawn = NearestNeighbors(n_neighbors=near.shape[1]).fit(points).kneighbors(return_distance=False)
    kept = float(np.mean([np.isin(a, b).mean() for a, b in zip(near, drawn, strict=True)]))
    return EmbeddingMap(method, points, None if prototypes is None else everything[len(rows) :], explained, kept)


def prototype_fit(embeddings: Any, prototypes: Any, labels: Any) -> dict[str, float | None]:
    """How well prototypes stand with their examples, by cosine similarity.

    Returns:
        `own` (mean over examples and their labels' prototypes), `others` (over the other labels' prototypes) and
        `nearest_is_own` (share of labelled examples whose nearest prototype is of one of their labels); None without
        such pairs. Missing labels are left out.
    """
    rows, own = unit_rows(embeddings, "embeddings"), unit_rows(prototypes, "prototypes")
    truth, known = split_labels("labels", labels, rows=len(rows), columns=len(own))
    cosines = rows @ own.T
    nearest = np.where(known, cosines, -np.inf).argmax(axis=1)
    hits = truth[np.arange(len(rows)), nearest][truth.any(axis=1)]
    values = {"own": cosines[truth], "others": cosines[known & ~truth], "nearest_is_own": hits}
    return {name: float(value.mean()) if value.size else None for name, value in values.items()}
