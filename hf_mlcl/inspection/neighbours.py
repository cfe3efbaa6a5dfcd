"""Neighbours by cosine: who they are, whether they share labels, who has none, what they suggest. Imports numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_mlcl.evaluation.arrays import as_matrix, check_positive, split_labels

_BLOCK_ENTRIES = 2**22


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
    """The k nearest other examples by cosine similarity (all others where there are fewer), in blocks of rows.

    Args:
        vectors: N x d, N of at least 2; they need not be normalised.
        k: how many.

    Raises:
        ValueError: fewer than 2 examples, or a wrong k.
    """
    rows = unit_rows(vectors)
    check_positive("k", k, whole=True)
    number = len(rows)
    if number < 2:
        raise ValueError(f"vectors: expected at least 2 examples, got {number}")
    k = min(k, number - 1)
    indices, similarities = np.empty((number, k), dtype=np.int64), np.empty((number, k), dtype=np.float32)
    step = max(1, _BLOCK_ENTRIES // number)
    for start in range(0, number, step):
        block = rows[start : start + step] @ rows.T
        here = np.arange(len(block))
        block[here, start + here] = -np.inf
        nearest = np.argpartition(-block, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(block, nearest, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        indices[start : start + step] = np.take_along_axis(nearest, order, axis=1)
        similarities[start : start + step] = np.take_along_axis(values, order, axis=1)
    return Neighbours(indices, similarities)


def neighbourhood_purity(neighbours: Neighbours, labels: Any) -> list[dict[str, Any]]:
    """One dictionary per label: how many of the neighbours of its examples have it too.

    Keys: `examples` (n, known positives), `purity` (mean over them of the share of their nearest min(k, n - 1)
    neighbours, those of which it is known, that have the label; None with n below 2: 1 is possible for every label),
    and `chance` ((n - 1) / (known - 1), what random neighbours would give).

    Args:
        neighbours: of N examples.
        labels: N x L multi-hot, -100 or NaN where unknown.
    """
    truth, known = split_labels("labels", labels, rows=len(neighbours.indices))
    rows: list[dict[str, Any]] = []
    for label in range(truth.shape[1]):
        members = np.flatnonzero(truth[:, label])
        seen = len(truth) if known is None else int(known[:, label].sum())
        size, purity, chance = len(members), None, None
        if size > 1:
            near = neighbours.indices[members, : size - 1]
            judged = np.ones(near.shape, dtype=bool) if known is None else known[near, label]
            hits = truth[near, label].sum(axis=1)
            counted = judged.sum(axis=1)
            if counted.any():
                purity = float((hits / np.maximum(counted, 1))[counted > 0].mean())
            chance = (size - 1) / (seen - 1)
        rows.append({"examples": size, "purity": purity, "chance": chance})
    return rows


def isolated_examples(neighbours: Neighbours, limit: int) -> list[int]:
    """Indices of at most `limit` examples whose nearest neighbours are farthest away: lowest mean similarity first."""
    return [int(row) for row in np.argsort(neighbours.similarities.mean(axis=1), kind="stable")[:limit]]


def to_look_at(neighbours: Neighbours, labels: Any, limit: int, agreement: float = 0.6) -> list[dict[str, Any]]:
    """Examples that lack a label on which their neighbours agree: perhaps an error of the labels, perhaps not.

    Each neighbour of which the label is known votes with its cosine similarity. Kept are (example, label) where the
    example is known to lack the label and at least `agreement` of the votes, from at least 3 neighbours (or all, where
    there are fewer), are for it. They are ordered by share x log2(share / frequency of the label): what everybody has
    surprises nobody. Of each example the first one is given.

    Returns:
        At most `limit` dictionaries: `example`, `label` (indices), `share` of the votes, `frequency` of the label.
    """
    truth, known = split_labels("labels", labels, rows=len(neighbours.indices))
    known = np.ones_like(truth) if known is None else known
    frequency = truth.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    votes = np.clip(neighbours.similarities, 0, None)
    fewest = min(3, neighbours.indices.shape[1])
    found: list[tuple[float, int, int, float]] = []
    for row, (near, weights) in enumerate(zip(neighbours.indices, votes, strict=True)):
        total = weights @ known[near]
        share = np.divide(weights @ truth[near], total, out=np.zeros_like(frequency), where=total > 0)
        share[truth[row] | ~known[row] | (known[near].sum(axis=0) < fewest)] = 0
        candidates = np.flatnonzero((share >= agreement) & (frequency > 0))
        if len(candidates):
            surprise = share[candidates] * np.log2(share[candidates] / frequency[candidates])
            best = int(surprise.argmax())
            label = int(candidates[best])
            found.append((float(surprise[best]), row, label, float(share[label])))
    found.sort(key=lambda item: (-item[0], item[1]))
    return [
        {"example": row, "label": label, "share": share, "frequency": float(frequency[label])}
        for surprise, row, label, share in found[:limit]
        if surprise > 0
    ]


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
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, len(rows), (2, pairs))
    first, second = first[first != second], second[first != second]
    cosines = np.concatenate(
        [np.einsum("ij,ij->i", rows[a], rows[b]) for a, b in _chunks(first, second, 2**20 // rows.shape[1] + 1)]
    )
    sharing = np.concatenate([(truth[a] & truth[b]).any(axis=1) for a, b in _chunks(first, second, 4096)])
    apart = ~sharing
    if known is not None:
        possible = truth | ~known
        apart &= ~np.concatenate([(possible[a] & possible[b]).any(axis=1) for a, b in _chunks(first, second, 4096)])
    if not (sharing.any() and apart.any()):
        return {"edges": None, "sharing": None, "apart": None, "separation": None}
    low, high = np.quantile(cosines[sharing | apart], [0.0005, 0.9995])
    edges = np.linspace(low, max(high, low + 1e-3), bins + 1)
    result: dict[str, Any] = {"edges": edges.tolist()}
    for name, chosen in (("sharing", sharing), ("apart", apart)):
        density, _ = np.histogram(cosines[chosen], bins=edges, density=True)
        mean = float(cosines[chosen].mean())
        result[name] = {"density": density.tolist(), "mean": mean, "pairs": int(chosen.sum())}
    result["separation"] = _separation(cosines[sharing], cosines[apart])
    return result


def _chunks(first: np.ndarray, second: np.ndarray, size: int) -> Any:
    for start in range(0, len(first), size):
        yield first[start : start + size], second[start : start + size]


def _separation(above: np.ndarray, below: np.ndarray) -> float:
    ordered = np.sort(below)
    left, right = np.searchsorted(ordered, above, "left"), np.searchsorted(ordered, above, "right")
    return float((left + right).mean() / (2 * len(ordered)))
