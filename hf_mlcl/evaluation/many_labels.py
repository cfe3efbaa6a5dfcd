"""The scores of `multilabel_scores` block by block, for label lists. Imports numpy and, when used, the metric.

Nothing here is N x L. Rankings are those of logits: where sigmoids in float64 are equal to 1, logits still differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import as_vector, sigmoid
from .label_blocks import LabelScores, best_labels, labelled

if TYPE_CHECKING:
    from ..data.label_lists import LabelLists


class _Decisions:
    """Counts of decisions over N examples and L labels, from which all scores of decisions follow."""

    def __init__(self, labels: LabelLists) -> None:
        self.labels = labels
        rows, columns = labels.shape
        self.hits, self.predicted = np.zeros((2, columns), dtype=np.int64)
        self.row_hits, self.row_predicted = np.zeros((2, rows), dtype=np.int64)

    def add(self, ids: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Counts the decisions (N, l) on some labels."""
        hits = predicted & truth
        self.hits[ids], self.predicted[ids] = hits.sum(axis=0), predicted.sum(axis=0)
        self.row_hits += hits.sum(axis=1)
        self.row_predicted += predicted.sum(axis=1)

    def scores(self) -> dict[str, Any]:
        support, sizes = self.labels.counts(), np.diff(self.labels.matrix.indptr)
        precision, recall, f1 = _precision_recall_f1(self.hits, self.predicted, support)
        scores: dict[str, Any] = {"macro_f1": f1.mean(), "macro_precision": precision.mean()}
        scores |= {"macro_recall": recall.mean(), "macro_f1_present": f1[support > 0].mean() if support.any() else 0.0}
        pooled = _precision_recall_f1(self.hits.sum(), self.predicted.sum(), support.sum())
        weighted = [(values * support).sum() / max(support.sum(), 1) for values in (precision, recall, f1)]
        by_row = [part.mean() for part in _precision_recall_f1(self.row_hits, self.row_predicted, sizes)]
        for average, values in (("micro", pooled), ("weighted", weighted), ("samples", by_row)):
            scores |= {f"{average}_{kind}": v for kind, v in zip(("precision", "recall", "f1"), values, strict=True)}
        wrong = self.row_predicted + sizes - 2 * self.row_hits
        scores["hamming_loss"] = wrong.sum() / (len(sizes) * len(support))
        scores["subset_accuracy"] = (wrong == 0).mean()
        arrays = {"f1": f1, "precision": precision, "recall": recall, "support": support}
        return scores | {f"per_label_{kind}": values for kind, values in arrays.items()}


def _precision_recall_f1(hits: Any, predicted: Any, positives: Any) -> tuple[Any, Any, Any]:
    """0 where nothing is predicted, nothing is positive, or neither."""
    both = hits / np.maximum(predicted, 1), hits / np.maximum(positives, 1)
    return *both, 2 * hits / np.maximum(predicted + positives, 1)


def decision_scores(scores: LabelScores, labels: LabelLists, thresholds: Any = None) -> dict[str, Any]:
    """Those scores of `label_list_scores` that need decisions alone, and their arrays per label."""
    scores, labels = labelled(scores, labels)
    return _decisions(scores, labels, [_limits(thresholds, scores.shape[1])])[0].scores()


def label_list_scores(
    scores: LabelScores,
    labels: LabelLists,
    *,
    thresholds: Any = None,
    train_label_counts: Any = None,
    ks: Sequence[int] = (1, 3, 5),
    rankings: bool = True,
) -> dict[str, Any]:
    """What `multilabel_scores` gives for the same scores and labels as arrays, with all arrays per label.

    Examples that are unlabelled are left out. Added are `macro_f1_at_half` and `micro_f1_at_half`.

    Args:
        scores: logits of N examples and L labels.
        labels: N label lists.
        thresholds: a number or L numbers, on probabilities; 0.5 if absent.
        train_label_counts: L numbers; adds the scores of frequent, medium and rare labels.
        ks: the k of the scores at k.
        rankings: False leaves out what ranks the labels of an example, or all decisions.

    Raises:
        ValueError: arrays of wrong shape or values.
    """
    from ..metrics.multilabel_f1.multilabel_f1 import _frequency_scores, _top_k_scores

    scores, labels = labelled(scores, labels)
    num_labels = scores.shape[1]
    limits = [_limits(thresholds, num_labels), np.full(num_labels, 0.5)]
    average_precision = np.zeros(num_labels)
    decisions, at_half = _decisions(scores, labels, limits, average_precision)
    result = decisions.scores()
    half = result if thresholds is None else at_half.scores()
    result |= {f"{name}_at_half": half[name] for name in ("macro_f1", "micro_f1")}
    present = result["per_label_support"] > 0
    result["map"] = average_precision[present].mean() if present.any() else 0.0
    result["per_label_average_precision"] = average_precision
    result["per_label_known"] = np.full(num_labels, len(labels))
    if train_label_counts is not None:
        counts = as_vector("train_label_counts", train_label_counts, num_labels)
        result |= _frequency_scores(result["per_label_f1"], counts)
    if rankings:
        kept = [k for k in ks if k <= num_labels]
        best, positives, by_row = _row_rankings(scores, labels, max(kept, default=0))
        result |= by_row | {"micro_map": _pooled_average_precision(scores, positives)}
        result |= _top_k_scores(best, np.diff(labels.matrix.indptr), kept, np.full(len(labels), num_labels))
    return result


def _limits(thresholds: Any, num_labels: int) -> np.ndarray:
    limits = np.asarray(0.5 if thresholds is None else thresholds, dtype=np.float64)
    return as_vector("thresholds", np.full(num_labels, limits) if limits.ndim == 0 else limits, num_labels)


def _decisions(
    scores: LabelScores, labels: LabelLists, limits: list[np.ndarray], average_precision: np.ndarray | None = None
) -> list[_Decisions]:
    """Counts for each of some vectors of thresholds; fills in the average precision of labels with a positive."""
    from ..metrics.multilabel_f1.multilabel_f1 import _average_precision

    counts = [_Decisions(labels) for _ in limits]
    for ids, logits, truth in scores.blocks(labels):
        probabilities = sigmoid(logits)
        for count, limit in zip(counts, limits, strict=True):
            count.add(ids, probabilities >= limit[ids], truth)
        if average_precision is not None:
            for column in np.flatnonzero(truth.any(axis=0)):
                average_precision[ids[column]] = _average_precision(truth[:, column], logits[:, column])
    return counts


def _row_rankings(scores: LabelScores, labels: LabelLists, k: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """0/1 (N, k) whether the best labels are positives, the logits of all positives, and scores of examples."""
    best = np.zeros((len(labels), k), dtype=np.int64)
    positives, precision, coverage = [], np.ones(len(labels)), np.zeros(len(labels))
    for start, block in scores.row_blocks():
        for number, row in enumerate(block, start):
            own = labels.matrix.indices[slice(*labels.matrix.indptr[number : number + 2])]
            best[number] = np.isin(best_labels(row, k), own)
            if not len(own):
                continue
            mine = np.sort(row[own])
            positives.append(mine)
            ranks = (row >= mine[:, None]).sum(axis=1)
            coverage[number] = ranks[0]
            if len(own) < len(row):
                precision[number] = ((len(own) - np.searchsorted(mine, mine)) / ranks).mean()
    pooled = np.concatenate(positives) if positives else np.zeros(0, np.float32)
    return best, pooled, {"lrap": precision.mean(), "coverage_error": coverage.mean()}


def _pooled_average_precision(scores: LabelScores, positives: np.ndarray) -> float:
    """Average precision of all N x L decisions in one ranking, of which only places of positives matter."""
    if not len(positives):
        return 0.0
    limits, hits = np.unique(positives, return_counts=True)
    at_least = np.zeros(len(limits), dtype=np.int64)
    for _, block in scores.row_blocks():
        # Far more scores than limits: sorting the scores and looking the limits up is faster than the other way round.
        reached = np.sort(block[block >= limits[0]])
        at_least += len(reached) - np.searchsorted(reached, limits)
    at_least = at_least[::-1]  # of the highest limit first
    found = np.cumsum(hits[::-1])
    return float((hits[::-1] * (found / at_least)).sum() / found[-1])
