"""Decision thresholds per label that rare labels cannot spoil. Imports numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import as_probabilities, check_positive, sigmoid, split_labels
from .label_blocks import LabelScores, labelled

# From a logit of 16.6 on a float32 sigmoid is 1, where thresholds no longer separate anything.
_LARGEST_LOGIT = 16.0
_GRID_SIZE = 256

# Ids of some labels, their scores (N, l), which are positives (N, l), and which are known (N, l), or None for all.
_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Thresholds on probabilities; a label is predicted where its probability is at least its threshold.

    Attributes:
        per_label: float64, L.
        global_threshold: the one threshold with the best Micro-F1 over all labels.
    """

    per_label: np.ndarray
    global_threshold: float


def tune_thresholds(probabilities: Any, labels: Any, *, prior_positives: float = 50.0) -> Thresholds:
    """The threshold of every label with the best F1 on validation data, shrunk towards the pool of all labels.

    The best threshold on few positives is mostly chance, and without a positive every threshold is as good as another.
    So each label is given, besides its own counts, `prior_positives` further positives that behave like those of the
    pool: at threshold t, with TP, FP and P (positives) the counts of the label, TP*, FP*, P* those of all labels
    together and k = `prior_positives`, the chosen t has the largest

        F1(t) = 2 TP' / (TP' + FP' + P'),  TP' = TP + k TP*/P*,  FP' = FP + k FP*/P*,  P' = P + k.

    k = 0 is the usual rule (each label alone), k to infinity gives every label the global threshold. A label without
    a positive gets exactly the global threshold; all of them get 0.5 where no label has one. Among equally good
    thresholds the one nearest to the global threshold (in logits) is taken.

    The candidates are shared by the labels: an even grid in logits around the range of the positives, and points
    midway between quantiles of the positives' logits, so that labels with small probabilities are served as well.

    Unknown labels are in no count: all of TP, FP and P, of a label and of the pool, are of known entries.

    Args:
        probabilities: N x L numbers in [0, 1] of the validation set; or `LinearScores` (of logits).
        labels: N x L multi-hot, -100 or NaN where unknown; `LabelLists` beside `LinearScores`.
        prior_positives: k. The default has the highest Micro-F1 + Macro-F1 of 0, 1, 2, 5, 10, 20 and 50 (k to infinity
            is below it) on held-out parts of the train and validation splits of reuters21578, goemotions and arxiv:
            `python benchmarks/evaluation_priors.py --encoder FOLDER`, which never reads a test split. The maximum is
            flat (5 to 50 are within 0.006); smaller values favour Macro-F1, larger ones Micro-F1.

    Raises:
        ValueError: arrays of wrong shape or values, a negative or infinite `prior_positives`.
    """
    check_positive("prior_positives", prior_positives, zero=True)
    if isinstance(probabilities, LabelScores):
        logits, lists = labelled(probabilities, labels)
        support = lists.counts()

        def parts(ids: np.ndarray | None = None) -> Iterator[_Part]:
            for part, values, has_label in logits.blocks(lists, ids):
                yield part, sigmoid(values), has_label, None
    else:
        scores = as_probabilities("probabilities", probabilities)
        truth, known = split_labels("labels", labels, rows=scores.shape[0], columns=scores.shape[1])
        support = truth.sum(axis=0)

        def parts(ids: np.ndarray | None = None) -> Iterator[_Part]:
            yield np.arange(truth.shape[1]), scores, truth, known

    present = np.flatnonzero(support)
    if not len(present):
        return Thresholds(np.full(len(support), 0.5), 0.5)
    candidates = _candidate_logits(np.concatenate([values[truth] for _, values, truth, _ in parts(present)]))
    limits = 1 / (1 + np.exp(-candidates))
    # All labels count in the pool; counts of those with a positive are kept.
    pool_hits, pool_false = np.zeros((2, len(limits)), dtype=np.int64)
    kept = []
    for ids, values, truth, known in parts():
        predicted = _counts_at_least(values, np.ones_like(truth) if known is None else known, limits)
        hits = _counts_at_least(values, truth, limits)
        pool_hits += hits.sum(axis=0)
        pool_false += (predicted - hits).sum(axis=0)
        own = np.flatnonzero(support[ids])
        kept.append((ids[own], hits[own].astype(np.int32), (predicted - hits)[own].astype(np.int32)))

    pool = support.sum()
    best = _best(_f1(pool_hits / pool, pool_false / pool, 1.0)[None], candidates, 0.0)[0]
    per_label = np.full(len(support), limits[best])
    for ids, hits, false in kept:
        given = prior_positives * (pool_hits / pool), prior_positives * (pool_false / pool)
        smoothed = _f1(hits + given[0], false + given[1], support[ids, None] + prior_positives)
        per_label[ids] = limits[_best(smoothed, candidates, candidates[best])]
    return Thresholds(per_label, float(limits[best]))


def _candidate_logits(positives: np.ndarray) -> np.ndarray:
    """Rising logits of the candidate thresholds, 0 among them, from the positives' probabilities."""
    tiny = 1 / (1 + np.exp(_LARGEST_LOGIT))
    clipped = np.clip(positives, tiny, 1 - tiny)
    logits = np.log(clipped) - np.log1p(-clipped)
    # Cells between two points, and the middle of each as candidate: never on a score, where rounding would decide.
    even = np.linspace(logits.min() - 1, logits.max() + 1, _GRID_SIZE)
    quantiles = np.unique(np.quantile(logits, np.linspace(0, 1, _GRID_SIZE)))
    middles = [(points[1:] + points[:-1]) / 2 for points in (even, quantiles)]
    return np.unique(np.concatenate([*middles, [0.0]]))


def _counts_at_least(scores: np.ndarray, mask: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Number of masked examples of each label with a score of at least each limit; int64, L x number of limits."""
    num_labels, width = scores.shape[1], len(limits) + 1
    columns = np.nonzero(mask)[1]
    cells = columns * width + np.searchsorted(limits, scores[mask], side="right")
    histogram = np.bincount(cells, minlength=num_labels * width).reshape(num_labels, width)
    return histogram[:, :0:-1].cumsum(axis=1)[:, ::-1]


def _f1(hits: np.ndarray, false: np.ndarray, positives: Any) -> np.ndarray:
    return 2 * hits / np.maximum(hits + false + positives, 1e-300)


def _best(f1: np.ndarray, candidates: np.ndarray, centre: float) -> np.ndarray:
    """Index of the best candidate in each row of `f1`; among equals the nearest to `centre`."""
    equal = f1 >= f1.max(axis=1, keepdims=True) - 1e-12
    return np.where(equal, np.abs(candidates - centre), np.inf).argmin(axis=1)
