"""Decision thresholds per label that rare labels cannot spoil. Imports numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import as_probabilities, as_vector, sigmoid, split_labels
from .label_blocks import LabelScores, labelled

# From a logit of 16.6 on a float32 sigmoid is 1, where thresholds no longer separate anything.
_LARGEST_LOGIT = 16.0
_GRID_SIZE = 256
# Of each rule: positives that behave like those of labels about as frequent, like those of all labels, and as the
# label's probabilities say.
_PRIOR_POSITIVES = {"balanced": (200.0, 10.0, 100.0), "macro": (20.0, 2.0, 100.0)}
RULES = (*_PRIOR_POSITIVES, "micro")
_LABELS = 2**10  # whose counts at all candidates are held at once: some 6 MB an array

# Ids of some labels, their scores (N, l), which are positives (N, l), and which are known (N, l), or None for all.
_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Thresholds on probabilities; a label is predicted where its probability is at least its threshold.

    Attributes:
        per_label: float64, L.
        global_threshold: the one threshold with the best Micro-F1, common to all labels.
    """

    per_label: np.ndarray
    global_threshold: float


def tune_thresholds(
    probabilities: Any, labels: Any, *, rule: str = "balanced", train_label_counts: Any = None
) -> Thresholds:
    """The threshold of every label with the best F1 on validation data, shrunk towards labels about as frequent.

    The best threshold on few positives is mostly chance, and without a positive every threshold is as good as another.
    So each label is given, besides its own counts, further positives: k that behave like those of labels about as
    frequent, n that behave like those of all labels, and m that behave as the label's own probabilities say. At
    threshold t, with TP, FP and P (positives) the counts of the label, the chosen t has the largest

        F1(t) = 2 TP' / (TP' + FP' + P'),  P' = P + k + n + m,
        TP' = TP + k TP*/P* + n TP+/P+ + m TPe/Pe,  and FP' in the same way.

    TP+, FP+, P+ are the sums over all labels; TP*, FP*, P* the sums with weights exp(-d**2 / 2), d the difference of
    log2(frequency + 1); and TPe, FPe, Pe the label's sums of its probabilities p (of 1 - p) in the place of counts. A
    label whose probabilities are far from calibrated (P + 1 and Pe + 1 differ by a factor of over 4) has m = 0.

    The rules: "balanced" (k = 200, n = 10, m = 100) has nearly the best Macro-F1 of those compared that lose at most
    0.2 points of Micro-F1 to n = 50 alone, the rule of earlier versions; "macro" (k = 20, n = 2, m = 100) has another
    point of Macro-F1 and one less of Micro-F1; "micro" is one threshold for all labels, the best for Micro-F1. They
    were compared on held-out parts of the training and validation splits of four data sets:
    `python benchmarks/evaluation_priors.py`, which never reads a test split. The few positives of all labels (n) cost
    next to nothing there; where labels as frequent are not recognised at all, such as those that no training example
    has, they keep such a label from being given to all examples, which has the best F1 then.

    All labels get 0.5 where no label has a positive. Among equally good thresholds the one nearest to the common one
    (in logits) is taken. The candidates are shared by the labels: an even grid in logits around the range of the
    positives, and points midway between quantiles of the positives' logits.

    Missing labels are in no count.

    Args:
        probabilities: N x L numbers in [0, 1] of the validation set; or scores of label lists (logits).
        labels: N x L multi-hot, -100 or NaN where missing; `LabelLists` beside scores of label lists.
        rule: "balanced", "macro" or "micro".
        train_label_counts: L numbers, the frequencies; by default the positives among `labels`.

    Raises:
        ValueError: arrays of wrong shape or values, or another rule.

    Source: for the plug-in counts, Lipton, Elkan and Naryanaswamy 2014 (arXiv 1402.1892); for smoothing the counts of
    rare labels, Lin and Lin, CIKM 2023.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.random((400, 3)) < [0.5, 0.2, 0.01]
        >>> probabilities = np.clip(0.6 * labels + 0.4 * rng.random((400, 3)), 0, 1)
        >>> tune_thresholds(probabilities, labels).per_label.shape
        (3,)
    """
    check_rule("rule", rule)
    if isinstance(probabilities, LabelScores):
        logits, lists = labelled(probabilities, labels)
        support = lists.counts()

        def parts() -> Iterator[_Part]:
            for ids in _blocks_of_labels(len(support)):
                for part, values, has_label in logits.blocks(lists, ids):
                    yield part, sigmoid(values), has_label, None
    else:
        scores = as_probabilities("probabilities", probabilities)
        positive, given = split_labels("labels", labels, rows=scores.shape[0], columns=scores.shape[1])
        support = positive.sum(axis=0)

        def parts() -> Iterator[_Part]:
            for ids in _blocks_of_labels(len(support)):
                yield ids, scores[:, ids], positive[:, ids], None if given is None else given[:, ids]

    counts = support
    if train_label_counts is not None:
        counts = as_vector("train_label_counts", train_label_counts, len(support))
        if (counts < 0).any():
            raise ValueError(f"train_label_counts: expected numbers of at least 0, got {counts.min():g}")
    if not support.any():
        return Thresholds(np.full(len(support), 0.5), 0.5)
    candidates = _candidate_logits(np.concatenate([values[truth] for _, values, truth, _ in parts()]))
    limits = 1 / (1 + np.exp(-candidates))
    groups, weights = frequency_groups(counts)
    pooled = np.zeros((2, len(weights), len(limits)))  # hits and false alarms of the labels of each group
    for ids, values, truth, known in parts():
        for total, found in zip(pooled, _hits_and_false(values, truth, known, limits), strict=True):
            np.add.at(total, groups[ids], found)
    all_hits, all_false = pooled.sum(axis=1)
    common = _best(_f1(all_hits, all_false, support.sum())[None], candidates, 0.0)[0]
    per_label = np.full(len(support), limits[common])
    if rule != "micro":
        like, every, own = _PRIOR_POSITIVES[rule]
        positives = weights @ np.bincount(groups, support, len(weights))
        prior = like * (weights @ pooled) / positives[:, None]
        prior += every * pooled.sum(axis=1, keepdims=True) / support.sum()
        for ids, values, truth, known in parts():
            hits, false = _hits_and_false(values, truth, known, limits) + prior[:, groups[ids]]
            positives_of_priors: Any = like + every
            if own:
                mass = (values if known is None else values * known).sum(axis=0)[:, None]
                share = own * (mass > 0) * _agreement(mass, support[ids, None])
                expected = _expected_hits_and_false(values, known, limits)
                hits, false = (hits, false) + share * expected / np.maximum(mass, 1e-12)
                positives_of_priors = like + every + share
            f1 = _f1(hits, false, support[ids, None] + positives_of_priors)
            per_label[ids] = limits[_best(f1, candidates, candidates[common])]
    return Thresholds(per_label, float(limits[common]))


def _agreement(expected: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Whether about as many positives are expected as there are: where not, probabilities are far from calibrated."""
    return np.maximum(expected, positives) + 1 <= 4 * (np.minimum(expected, positives) + 1)


def check_rule(name: str, rule: str) -> None:
    """Raises ValueError unless it is a rule of `tune_thresholds`; `name` is that of the argument."""
    if rule not in RULES:
        raise ValueError(f"{name}: expected one of {', '.join(RULES)}, got {rule!r}")


def frequency_groups(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels in groups of equal frequency, to an eighth of a doubling, and how alike the groups are.

    Returns:
        The group of each label, int64 (L,), and weights exp(-d**2 / 2), float64 (G, G), d the doublings between two.
    """
    doublings, groups = np.unique(np.round(8 * np.log2(np.asarray(counts) + 1.0)) / 8, return_inverse=True)
    # Never 0: a label far from all others must find the nearest of them.
    return groups, np.exp(-np.minimum((doublings[:, None] - doublings) ** 2 / 2, 300))


def _blocks_of_labels(num_labels: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + _LABELS, num_labels)) for start in range(0, num_labels, _LABELS)]


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


def _hits_and_false(scores: np.ndarray, truth: np.ndarray, known: np.ndarray | None, limits: np.ndarray) -> np.ndarray:
    """True and false positives of each label at each limit: float64, 2 x L x number of limits."""
    hits = _sums_at_least(scores, truth, limits)
    predicted = _sums_at_least(scores, np.ones_like(truth) if known is None else known, limits)
    return np.stack([hits, predicted - hits])


def _expected_hits_and_false(scores: np.ndarray, known: np.ndarray | None, limits: np.ndarray) -> np.ndarray:
    """What `_hits_and_false` would be on average if the scores were the probabilities of the labels."""
    counted = np.ones_like(scores) if known is None else known
    return np.stack([_sums_at_least(scores, part * counted, limits) for part in (scores, 1 - scores)])


def _sums_at_least(scores: np.ndarray, weights: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Sum of the weights of the examples of each label with a score of at least each limit; L x number of limits."""
    num_labels, width = scores.shape[1], len(limits) + 1
    rows, columns = np.nonzero(weights)
    cells = columns * width + np.searchsorted(limits, scores[rows, columns], side="right")
    histogram = np.bincount(cells, weights[rows, columns], minlength=num_labels * width).reshape(num_labels, width)
    return histogram[:, :0:-1].cumsum(axis=1)[:, ::-1]


def _f1(hits: np.ndarray, false: np.ndarray, positives: Any) -> np.ndarray:
    return 2 * hits / np.maximum(hits + false + positives, 1e-300)


def _best(f1: np.ndarray, candidates: np.ndarray, centre: float) -> np.ndarray:
    """Index of the best candidate in each row of `f1`; among equals the nearest to `centre`."""
    equal = f1 >= f1.max(axis=1, keepdims=True) - 1e-12
    return np.where(equal, np.abs(candidates - centre), np.inf).argmin(axis=1)
