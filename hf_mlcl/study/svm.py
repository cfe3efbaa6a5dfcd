"""TF-IDF and a linear SVM for each label: the row of a study that has no encoder. Imports scikit-learn when used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from hf_mlcl.data import Labels
from hf_mlcl.evaluation import compute_metrics, tune_thresholds
from hf_mlcl.evaluation.arrays import sigmoid
from hf_mlcl.evaluation.probe import NUM_FOLDS, deal_folds

from .plan import METRICS

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True, eq=False)
class FittedSVM:
    """Scores of linear SVMs.

    Attributes:
        logits: Distances of the validation examples, by SVMs that were not fitted on them, and of the test examples
            where there are any, float32 (N, L).
        thresholds: On the sigmoid of these, float64 (L,).
        strength: C of all labels.
    """

    logits: dict[str, np.ndarray]
    thresholds: np.ndarray
    strength: float


def fit_svm(
    texts: Mapping[str, list[str]],
    labels: Mapping[str, Labels],
    *,
    refit: bool = True,
    thresholds: str = "balanced",
    seed: int = 0,
) -> FittedSVM:
    """Fits SVMs on the examples that `fit_classifier` has, and decides as it does.

    C is the one whose validation scores of `METRICS` are highest together, thresholds are tuned on scores of the
    validation examples by SVMs that were not fitted on them, and the last ones are fitted on all.

    Args:
        texts: Name of a split, `train`, `validation` and perhaps `test`, to its texts.
        labels: Name of a split to its labels, missing ones left out of the fit of their label.
        refit: False fits on the training examples alone.
        thresholds: See `tune_thresholds`.
        seed: Of scikit-learn's `LinearSVC`.
    """
    from sklearn.svm import LinearSVC

    words = _fitted_words(texts["train"] + texts["validation"] * refit, len(texts["train"]))
    inputs = {name: words.transform(of) for name, of in texts.items()}
    examples = sparse.vstack([inputs["train"], inputs["validation"]], format="csr")
    targets = np.concatenate([labels["train"].rows(), labels["validation"].rows()])
    of_train = np.arange(len(targets)) < len(texts["train"])

    def scores(strength: float, fitted: np.ndarray, scored: Any) -> np.ndarray:
        found = np.full((scored.shape[0], targets.shape[1]), -20.0, np.float32)
        for label, column in enumerate(targets.T):
            rows = np.flatnonzero(fitted & (column != -100))
            truth = column[rows] == 1
            if truth.all() and len(truth):
                found[:, label] = 20.0
            elif truth.any():
                fit = LinearSVC(C=strength, random_state=seed).fit(examples[rows], truth)
                found[:, label] = fit.decision_function(scored)
        return found

    def tuned(logits: np.ndarray) -> np.ndarray:
        found = sigmoid(logits.astype(np.float64)), labels["validation"]
        return tune_thresholds(*found, rule=thresholds, train_label_counts=labels["train"].counts()).per_label

    def quality(strength: float) -> float:
        logits = scores(strength, of_train, inputs["validation"])
        found = compute_metrics((logits, labels["validation"]), thresholds=tuned(logits))
        return sum(found[name] for name in METRICS)

    best = max(STRENGTHS, key=quality)
    if refit:
        folds = deal_folds(targets[~of_train] == 1, NUM_FOLDS)
        held_out = np.empty(labels["validation"].shape, np.float32)
        for fold in range(folds.max() + 1):
            others = of_train.copy()
            others[~of_train] = folds != fold
            held_out[folds == fold] = scores(best, others, inputs["validation"][folds == fold])
    else:
        held_out = scores(best, of_train, inputs["validation"])
    logits = {"validation": held_out}
    if "test" in texts:
        logits["test"] = scores(best, of_train | refit, inputs["test"])
    return FittedSVM(logits, tuned(held_out), best)


def _fitted_words(texts: list[str], train: int) -> Any:
    """TF-IDF of words and pairs of words; of characters where most texts have no word that others have as well."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Of very few texts no word may occur twice.
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2 if train > 100 else 1, sublinear_tf=True)
    try:
        if (words.fit_transform(texts).getnnz(axis=1) > 0).mean() >= 0.5:
            return words
    except ValueError:  # there is none at all
        pass
    # As in Chinese, which has no spaces between words.
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True).fit(texts)
