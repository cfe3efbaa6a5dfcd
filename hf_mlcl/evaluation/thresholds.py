"""Decision thresholds per label that rare labels cannot spoil. Imports numpy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import as_vector
from .scores import scores_and_labels

# From a logit of 16.6 on a float32 sigmoid is 1, where thresholds no longer separate anything.
_LARGEST_LOGIT = 16.0
_GRID_SIZE = 256
# Of each rule: positives that behave like those of labels about as frequent, like those of all labels, and as the
# label's probabilities say.
_PRIOR_POSITIVES = {"balanced": (200.0, 10.0, 100.0), "macro": (20.0, 2.0, 100.0)}
RULES = (*_PRIOR_POSITIVES, "micro")
_WISH = re.compile(r"(precision|recall)=(.+)")
_LABELS = 2**10  # whose counts at all candidates are held at once: some 6 MB an array


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Thresholds on probabilities; a label is predicted where its probability is at least its threshold.

    Attributes:
        per_label: float64, L.
        global_threshold: the one threshold with the best Micro-F1, common to all labels.
        unreached: bool, L: labels that do not reach the precision or recall that the rule asks for.
    """

    per_label: np.ndarray
    global_threshold: float
    unreached: np.ndarray


def tune_thresholds(
    probabilities: Any, labels: Any, *, rule: str = "balanced", train_label_counts: Any = None
) -> Thresholds:
    """The threshold per label with the best F1 on validation data, shrunk towards labels about as frequent.

    The best threshold on few positives is mostly chance. So each label is given, besides its own counts, further
    positives: k that behave like those of labels about as frequent, n that behave like those of all labels, and m that
    behave as the label's own probabilities say. With TP, FP and P (positives) the counts of the label at threshold t,
    the chosen t has the largest

        F1(t) = 2 TP' / (TP' + FP' + P'),  P' = P + k + n + m,
        TP' = TP + k TP*/P* + n TP+/P+ + m TPe/Pe,  and FP' in the same way.

    TP+, FP+, P+ are the sums over all labels; TP*, FP*, P* the sums with weights exp(-d**2 / 2), d the difference of
    log2(frequency + 1); and TPe, FPe, Pe the label's sums of its probabilities p (of 1 - p) in the place of counts. A
    label whose probabilities are far from calibrated (P + 1 and Pe + 1 differ by a factor of over 4) has m = 0.

    The rules "balanced" (k = 200, n = 10, m = 100), "macro" (k = 20, n = 2, m = 100: one more point of Macro-F1, one
    less of Micro-F1) and "micro" (one threshold for all labels) were chosen by `benchmarks/evaluation_priors.py`,
    which reads no test split. The n positives of all labels keep a label from being given to every example where no
    label as frequent is recognised at all.

    The rule "precision=0.9" (or another number) takes for each label the lowest threshold whose precision on these
    examples is at least that, "recall=0.9" the highest one whose recall is. A label without positives, or that is as
    precise at no threshold, is `unreached` and gets the threshold of "balanced".

    Among equally good thresholds the one nearest to the common one (in logits) is taken; all labels get 0.5 where no
    label has a positive. Missing labels are in no count.

    Args:
        probabilities: N x L numbers in [0, 1] of the validation set; or `LinearScores` (of logits).
        labels: N x L multi-hot, -100 or NaN where missing, or `Labels`.
        rule: "balanced", "macro", "micro", "precision=P" or "recall=R".
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
        >>> tuned = tune_thresholds(probabilities, labels, rule="precision=0.9")
        >>> given = probabilities[:, 0] >= tuned.per_label[0]
        >>> bool(labels[given, 0].mean() >= 0.9)
        True
    """
    wish = check_rule("rule", rule)
    scores, labels = scores_and_labels(probabilities, labels, "probabilities")
    support = counts = labels.counts()
    if train_label_counts is not None:
        counts = as_vector("train_label_counts", train_label_counts, len(support))
        if (counts < 0).any():
            raise ValueError(f"train_label_counts: expected numbers of at least 0, got {counts.min():g}")
    if not support.any():
        return Thresholds(np.full(len(support), 0.5), 0.5, np.full(len(support), wish is not None))
    positives = [columns[truth] for _, columns, truth, _ in scores.blocks(labels, np.flatnonzero(support))]
    candidates = _candidate_logits(scores.probabilities(np.concatenate(positives)))
    limits = 1 / (1 + np.exp(-candidates))

    def tables() -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        for part, columns, truth, known in scores.blocks(labels, most=_LABELS):
            yield part, *_hits_and_false(scores.probabilities(columns), truth, known, limits)

    groups, weights = frequency_groups(counts)
    pooled = np.zeros((2, len(weights), len(limits)))  # hits and false positives of the labels of each group
    for part, observed, _, _ in tables():
        pooled += (groups[part] == np.arange(len(weights))[:, None]).astype(np.float64) @ observed
    all_hits, all_false = pooled.sum(axis=1)
    common = _best(_f1(all_hits, all_false, support.sum())[None], candidates, 0.0)[0]
    per_label = np.full(len(support), limits[common])
    unreached = np.zeros(len(support), dtype=bool)
    if rule == "micro":
        return Thresholds(per_label, float(limits[common]), unreached)
    like, every, own = _PRIOR_POSITIVES["balanced" if wish else rule]
    prior = like * (weights @ pooled) / (weights @ np.bincount(groups, support, len(weights)))[:, None]
    prior += every * pooled.sum(axis=1, keepdims=True) / support.sum()
    for part, observed, expected, mass in tables():
        positive = support[part, None]
        # Where not about as many positives are expected as there are, probabilities are far from calibrated.
        agree = np.maximum(mass, positive) + 1 <= 4 * (np.minimum(mass, positive) + 1)
        share = own * (mass > 0) * agree
        hits, false = observed + prior[:, groups[part]] + share * expected / np.maximum(mass, 1e-12)
        f1 = _f1(hits, false, positive + like + every + share)
        per_label[part] = limits[_best(f1, candidates, candidates[common])]
    if wish:
        for part, columns, truth, known in scores.blocks(labels, most=_LABELS):
            seen = np.broadcast_to(known, truth.shape).T
            each = zip(range(part.start, part.stop), scores.probabilities(columns).T, truth.T, seen, strict=True)
            for label, values, positive, some in each:
                found = _reaching(*wish, values[some], positive[some])
                unreached[label] = found is None
                per_label[label] = per_label[label] if found is None else found
    return Thresholds(per_label, float(limits[common]), unreached)


def check_rule(name: str, rule: Any) -> tuple[str, float] | None:
    """The score and the number of a rule that asks for one; None for the other rules of `tune_thresholds`.

    Raises:
        ValueError: for anything else; `name` is that of the argument.
    """
    if rule in RULES:
        return None
    try:
        score, number = _WISH.fullmatch(str(rule)).groups()  # type: ignore[union-attr]
        if 0 < float(number) <= 1:
            return score, float(number)
    except (AttributeError, ValueError):
        pass
    wishes = "precision=P or recall=R with a number above 0 and at most 1"
    raise ValueError(f"{name}: expected one of {', '.join(RULES)}, {wishes}, got {rule!r}")


def _reaching(score: str, least: float, probabilities: np.ndarray, truth: np.ndarray) -> float | None:
    """The lowest threshold of a label, probabilities and bool positives (n,), with a precision of at least `least`, or
    the highest with such a recall; None where there is none. In the middle between two probabilities."""
    values, places = np.unique(probabilities, return_inverse=True)
    hits, given = (np.bincount(at, minlength=len(values))[::-1].cumsum()[::-1] for at in (places[truth], places))
    reached = np.flatnonzero((hits > 0) & (hits / (given if score == "precision" else max(truth.sum(), 1)) >= least))
    if not len(reached):
        return None
    at = reached[0] if score == "precision" else reached[-1]
    return float(values[at] + (values[at - 1] if at else 0)) / 2


def frequency_groups(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels in groups of equal frequency, to an eighth of a doubling, and how alike the groups are.

    Returns:
        The group of each label, int64 (L,), and weights exp(-d**2 / 2), float64 (G, G), d the doublings between two.
    """
    doublings, groups = np.unique(np.round(8 * np.log2(np.asarray(counts) + 1.0)) / 8, return_inverse=True)
    # Never 0: a label far from all others must find the nearest of them.
    return groups, np.exp(-np.minimum((doublings[:, None] - doublings) ** 2 / 2, 300))


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


def _hits_and_false(
    probabilities: np.ndarray, truth: np.ndarray, known: np.ndarray, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives of each label at each limit, 2 x l x limits; what they would be on average if the
    probabilities were right; and the sums of the probabilities, l x 1."""
    num_labels, width = probabilities.shape[1], len(limits) + 1
    cells = np.searchsorted(limits, probabilities, side="right") + width * np.arange(num_labels)

    def reached(places: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        histogram = np.bincount(places, weights, num_labels * width).reshape(num_labels, width)
        return histogram[:, ::-1].cumsum(axis=1)[:, ::-1]

    hits, cells = reached(cells[truth]), cells[known].ravel()
    predicted, expected = reached(cells), reached(cells, probabilities[known].ravel())
    observed = np.stack([hits, predicted - hits])
    return observed[..., 1:], np.stack([expected, predicted - expected])[..., 1:], expected[:, :1]


def _f1(hits: np.ndarray, false: np.ndarray, positives: Any) -> np.ndarray:
    return 2 * hits / np.maximum(hits + false + positives, 1e-300)


def _best(f1: np.ndarray, candidates: np.ndarray, centre: float) -> np.ndarray:
    """Index of the best candidate in each row of `f1`; among equals the nearest to `centre`."""
    equal = f1 >= f1.max(axis=1, keepdims=True) - 1e-12
    return np.where(equal, np.abs(candidates - centre), np.inf).argmin(axis=1)
