"""Whether two rows of a study can be told apart, over test examples and seeds; ranks over datasets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

SCORES = ("micro_f1", "macro_f1", "map")
BLOCK = 100  # of resamples that are held at once: 4 bytes for each and each example


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one run says of a test split.

    Attributes:
        scores: (N, L), higher where a label is more likely.
        decisions: bool (N, L).
        labels: (N, L), 1, 0, and -100 where missing.
    """

    scores: np.ndarray
    decisions: np.ndarray
    labels: np.ndarray

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """`SCORES` where example n counts `weights[b, n]` times: (B, 3), as `compute_metrics` of repeated examples.

        But for Macro-F1: a label whose few positives are not drawn would count 0 for every row and draw all
        differences towards 0. It is the mean over the labels that are there, times the share of the labels that have
        a positive in the whole split; so it is the Macro-F1 of `compute_metrics` where each example counts once.

        Args:
            weights: (B, N), not negative.
        """
        weights = np.asarray(weights, dtype=np.float32)
        positives, known = self.labels == 1, self.labels >= 0
        parts = (positives & self.decisions, self.decisions & known, positives)
        hits, predicted, support = (weights @ part.astype(np.float32) for part in parts)
        both = hits.sum(axis=1), (predicted + support).sum(axis=1)
        micro = 2 * both[0] / np.maximum(both[1], 1)
        f1 = 2 * hits / np.maximum(predicted + support, 1)
        there = support > 0
        number = np.maximum(there.sum(axis=1), 1)
        share = positives.any(axis=0).sum() / max(known.any(axis=0).sum(), 1)
        macro = (f1 * there).sum(axis=1) / number * share
        mean = (self._average_precisions(weights) * there).sum(axis=1) / number
        return np.stack([micro, macro, mean], axis=1)

    def _average_precisions(self, weights: np.ndarray) -> np.ndarray:
        """Average precision of each label, (B, L); 0 where no positive has weight."""
        by_example = np.ascontiguousarray(weights.T)
        result = np.zeros((len(weights), self.labels.shape[1]), dtype=np.float32)
        for label in range(self.labels.shape[1]):
            rows = np.flatnonzero(self.labels[:, label] >= 0)
            truth = self.labels[rows, label] == 1
            if not truth.any():
                continue
            order = np.argsort(-self.scores[rows, label], kind="stable")
            values, hits = self.scores[rows, label][order], truth[order]
            places = np.flatnonzero(hits)
            # Examples of equal scores are one step of the curve: precision is that at the last of them. So steps end
            # where a positive's equals end, and each has a positive.
            ends = np.unique(np.searchsorted(-values, -values[hits], side="right"))
            starts = np.r_[0, ends[:-1]]
            ranked = by_example[rows[order[: ends[-1]]]]
            all_ = np.cumsum(np.add.reduceat(ranked, starts, axis=0), axis=0)
            own = np.add.reduceat(ranked[places], np.searchsorted(places, starts), axis=0)
            found = np.cumsum(own, axis=0)
            result[:, label] = (own * found / np.maximum(all_, 1e-12)).sum(axis=0) / np.maximum(found[-1], 1e-12)
        return result


@dataclass(frozen=True)
class Difference:
    """How much a row is above another in one score.

    Attributes:
        mean: Of the seeds.
        low, high: 95 % interval over test examples and seeds.
        p: Two-sided, of the hypothesis that there is no difference; at least 1 / resamples.
    """

    mean: float
    low: float
    high: float
    p: float


def bootstrap(rows: dict[str, dict[int, Predictions]], resamples: int = 1000, seed: int = 0) -> dict[str, np.ndarray]:
    """Scores of each row in resamples of test examples, drawn with replacement, the same ones for all rows.

    Where the test split is the same for all seeds, the same examples are drawn for all of them; else they are drawn
    for each seed.

    Args:
        rows: Name of a row to predictions by seed. Rows that are compared need the same test split for each seed; only
            seeds that all rows have are used.
        resamples: Number of resamples B.
        seed: Of the draws.

    Returns:
        Name of a row to (S, B + 1, 3) scores of `SCORES` by seed; the first of the B + 1 are of what was measured.

    Raises:
        ValueError: Where rows have no seed in common or differ in their labels.
    """
    seeds = sorted(set.intersection(*(set(of) for of in rows.values())))
    if not seeds:
        raise ValueError("the rows have no seed in common")
    rng = np.random.default_rng(seed)
    first = next(iter(rows.values()))
    for name, of in rows.items():
        for number in seeds:
            if not np.array_equal(of[number].labels, first[number].labels):
                raise ValueError(f"the test labels of {name!r} with seed {number} are not those of the other rows")
    shared = all(np.array_equal(first[number].labels, first[seeds[0]].labels) for number in seeds)
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in rows}
    for size in [0, *(min(BLOCK, resamples - start) for start in range(0, resamples, BLOCK))]:
        weights: dict[int, np.ndarray] = {}
        for number in seeds:
            if shared and weights:
                weights[number] = weights[seeds[0]]
                continue
            examples = len(first[number].labels)
            drawn = rng.multinomial(examples, np.full(examples, 1 / examples), size=size)
            weights[number] = (drawn if size else np.ones((1, examples))).astype(np.float32)
        for name, of in rows.items():
            blocks[name].append(np.stack([of[number].resampled(weights[number]) for number in seeds]))
    return {name: np.concatenate(parts, axis=1) for name, parts in blocks.items()}


def difference(first: np.ndarray, second: np.ndarray) -> list[Difference]:
    """How much the first row is above the second, by score; both of `bootstrap`.

    The mean over n seeds errs in two ways, which are added. By its test examples: as the mean in resamples of them,
    whose spread counts, not their mean (of rare labels some are not drawn, others are easier twice). And by its seeds:
    as Student's distribution says, since so few cannot be resampled, with S^2 / n of the seeds' own scores. What an
    example does in one seed alone is in both: it makes resamples of single seeds vary more than those of their mean.
    It is taken off the first. As few seeds may be alike by chance, the examples alone are the least.
    """
    from scipy.optimize import brentq
    from scipy.stats import t

    found = []
    for values in np.moveaxis(first - second, 2, 0).astype(np.float64):
        mean, n = float(values[:, 0].mean()), len(values)
        freedom, resampled = max(n - 1, 1), values[:, 1:].mean(axis=0)
        away = resampled - np.median(resampled)
        examples = np.concatenate([away, -away])
        alone = max(0.0, values[:, 1:].var(axis=1).mean() - resampled.var()) / freedom
        left = np.sqrt(max(0.0, 1 - alone / max(resampled.var(), 1e-18)))
        seeds = max(np.sqrt(values[:, 0].var(ddof=1) / n) if n > 1 else 0.0, 1e-9)
        p = partial(_two_sided, examples=examples, left=left, seeds=seeds, freedom=freedom)
        most = examples.max() + seeds * t.isf(1e-3, freedom)
        half = brentq(lambda distance, p=p: p(distance) - 0.05, 0, most)
        # Resamples tell nothing rarer than one of them.
        found.append(Difference(mean, mean - half, mean + half, max(p(abs(mean)), 1 / len(resampled))))
    return found


def _two_sided(distance: float, *, examples: np.ndarray, left: float, seeds: float, freedom: int) -> float:
    """How often no difference would be seen as one this far from 0; `left` is the share of their spread that stays."""
    from scipy.stats import t

    both = 2 * t.sf((distance - left * examples) / seeds, freedom).mean()
    return float(max(both, (np.abs(examples) >= distance).mean()))


def best_if_distinguishable(scores: dict[str, np.ndarray], score: int, level: float = 0.05) -> str | None:
    """The row with the highest mean, if it differs from every other (with Holm's correction); else None."""
    if len(scores) < 2:
        return None
    best = max(scores, key=lambda name: scores[name][:, 0, score].mean())
    p = sorted(difference(scores[best], other)[score].p for name, other in scores.items() if name != best)
    right = all(value <= level / (len(p) - place) for place, value in enumerate(p))
    return best if right else None


@dataclass(frozen=True, eq=False)
class Ranks:
    """Average ranks of rows over settings (Demsar, JMLR 2006).

    Attributes:
        average: Rank of each row, 1 is best: a `pandas.Series`.
        friedman: p of the test that all rows are alike, 1 where all tie; None with fewer than 3 rows or 2 settings.
        nemenyi: p of each pair of rows, a `pandas.DataFrame`; None where `friedman` is. Pairs are told apart only
            where Friedman's test says that not all rows are alike (p < 0.05): elsewhere p is 1 for all.
    """

    average: Any
    friedman: float | None
    nemenyi: Any


def ranks(scores: Any) -> Ranks:
    """Ranks of rows by a score.

    Args:
        scores: A `pandas.DataFrame` of a line for each setting and a column for each row; higher is better. Scores
            that are the same in 9 digits after the point tie.

    Raises:
        ImportError: scikit-posthocs is missing.

    Example:
        >>> import pandas as pd
        >>> ranks(pd.DataFrame({"reg": [0.5, 0.6], "bce": [0.4, 0.6]})).average.to_dict()
        {'reg': 1.25, 'bce': 1.75}
    """
    from scipy.stats import friedmanchisquare

    scores = scores.round(9)
    average = scores.rank(axis=1, ascending=False).mean()
    if len(scores) < 2 or scores.shape[1] < 3:
        return Ranks(average, None, None)
    from scikit_posthocs import posthoc_nemenyi_friedman

    nemenyi = posthoc_nemenyi_friedman(scores.reset_index(drop=True))
    with np.errstate(invalid="ignore"):  # 0 / 0 where all rows tie
        friedman = float(np.nan_to_num(friedmanchisquare(*scores.to_numpy().T).pvalue, nan=1.0))
    if friedman >= 0.05:
        nemenyi[:] = 1.0
    return Ranks(average, friedman, nemenyi)
