"""Multi-label scores, as one function on arrays and as a module of the `evaluate` library.

Self-contained, because a Space cannot import the package it was copied from: numpy, scikit-learn (with its scipy),
datasets and evaluate only, one import a line (`evaluate.load` reads these lines).
"""

import json
from collections.abc import Iterable
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy import sparse
from sklearn import metrics as sk

_DESCRIPTION = """\
Scores of multi-label classification: F1, precision and recall (macro, micro, weighted, samples), Hamming loss, subset
accuracy; from probabilities also mean average precision, LRAP, coverage error, precision, recall and nDCG at k; and
with the label counts of the training set the macro F1 of frequent, medium and rare labels.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: one entry per example.
        `multihot`: a list of 0/1, one per label. `probabilities`: a list of numbers in [0, 1], one per label.
        `labels`: the list of the example's label names or label ids; it may be empty.
    references: one entry per example; a list of 0/1, one per label (`labels`: label names or ids). -100 or NaN for an
        unknown label, which then counts in no score.
    thresholds (`probabilities` only): a number or one number per label; a label is predicted where its probability is
        at least its threshold. Default 0.5.
    label_names (`labels` only): every label in its order. Without it the labels that occur are taken, sorted.
    train_label_counts: how often each label occurs in the training set; adds `macro_f1_head`, `_medium` and `_tail`.
    ks (`probabilities` only): the k of precision, recall and nDCG at k. Default (1, 3, 5); those above the number of
        labels are left out.
    per_label: adds the lists `per_label_f1`, `_precision`, `_recall`, `_support`, `_known` (and `_average_precision`).
Returns:
    A dictionary of numbers; see the README for each of them.
Examples:
    >>> metric = evaluate.load("path/to/multilabel_f1")
    >>> metric.compute(predictions=[[1, 0, 1], [0, 1, 0]], references=[[1, 0, 0], [0, 1, 0]])["micro_f1"]
    0.8
"""

_CITATION = """\
@misc{audibert2024multilabelcontrastive,
    title = {Multi-Label Contrastive Learning: A Comprehensive Study},
    author = {Alexandre Audibert and Aur{\\'e}lien Gauffre and Massih-Reza Amini},
    year = {2024},
    eprint = {2412.00101},
    archivePrefix = {arXiv},
}
"""

# Many-, medium- and few-shot classes of Liu et al. 2019 (OLTR, arXiv 1904.05160): more than 100, 20 to 100, under 20.
_HEAD_ABOVE = 100
_TAIL_BELOW = 20
_UNKNOWN = -100  # besides NaN


def _matrix(name: str, values: Any, shape: tuple[int, ...] | None = None, finite: bool = True) -> np.ndarray:
    """Float64 array N x L of finite numbers, or a ValueError that names the argument."""
    try:
        array = np.asarray(values)  # texts would be read as numbers; objects may be None
        array = array.astype(np.float64, casting="unsafe" if array.dtype.kind in "biufO" else "no", copy=False)
    except (TypeError, ValueError):
        got = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"{name}: expected numbers in rows of equal length, got {got}") from None
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one example and one label, got shape {array.shape}")
    if array.ndim != 2:
        raise ValueError(f"{name}: expected 2 dimensions (examples x labels), got shape {array.shape}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: expected the shape of references {shape}, got {array.shape}")
    if finite and not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {array[~np.isfinite(array)][0]}")
    return array


def _multihot(name: str, values: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    array = _matrix(name, values, shape)
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        raise ValueError(f"{name}: expected only 0 and 1, got {array[wrong][0]}")
    return array.astype(np.int64)


def _references(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Int64 N x L, 0 where unknown, and bool N x L: what is known."""
    array = _matrix("references", values, finite=False)
    known = ~(np.isnan(array) | (array == _UNKNOWN))
    return _multihot("references", array if known.all() else np.where(known, array, 0.0)), known


def _probabilities(values: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    array = _matrix("probabilities", values, shape)
    wrong = (array < 0) | (array > 1)
    if wrong.any():
        raise ValueError(f"probabilities: expected values in [0, 1], got {array[wrong][0]} (logits need a sigmoid)")
    return array


def _vector(name: str, values: Any, num_labels: int, high: float = np.inf) -> np.ndarray:
    """Float64 array of shape L of finite numbers from 0 to `high`."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        got = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"{name}: expected numbers, one per label, got {got}") from None
    if array.shape != (num_labels,):
        raise ValueError(f"{name}: expected one number per label ({num_labels}), got shape {array.shape}")
    wrong = ~(np.isfinite(array) & (array >= 0) & (array <= high))
    if wrong.any():
        upper = "" if high == np.inf else f" and at most {high:g}"
        raise ValueError(f"{name}: expected finite numbers, not negative{upper}, got {array[wrong][0]}")
    return array


def _checked_ks(ks: Iterable[int], num_labels: int) -> list[int]:
    checked: list[int] = []
    for k in ks if isinstance(ks, Iterable) else [[ks]]:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"ks: expected whole numbers of at least 1, got {k!r}")
        if k <= num_labels:
            checked.append(int(k))
    return checked


def _decision_scores(
    references: np.ndarray, predictions: np.ndarray, known: np.ndarray, num_labels: int
) -> dict[str, Any]:
    """Scores of 0/1 predictions; both arrays are 0 where unknown, and `num_labels` leaves out their padding column."""
    labels = np.arange(num_labels)
    # Sparse input is 7 times as fast in scikit-learn.
    pair = sparse.csr_matrix(references), sparse.csr_matrix(predictions)
    per_label = sk.precision_recall_fscore_support(*pair, labels=labels, average=None, zero_division=0)
    precision, recall, f1, support = (np.asarray(values) for values in per_label)
    scores: dict[str, Any] = {"macro_f1": f1.mean(), "macro_precision": precision.mean()}
    scores |= {"macro_recall": recall.mean(), "macro_f1_present": f1[support > 0].mean() if support.any() else 0.0}
    for average in ("micro", "weighted", "samples"):
        values = sk.precision_recall_fscore_support(*pair, labels=labels, average=average, zero_division=0)
        for kind, value in zip(("precision", "recall", "f1"), values[:3], strict=True):
            scores[f"{average}_{kind}"] = value
    wrong = (references != predictions)[:, :num_labels]
    scores["hamming_loss"] = wrong.sum() / known.sum()
    scores["subset_accuracy"] = 1.0 - wrong.any(axis=1).mean()
    arrays = {"f1": f1, "precision": precision, "recall": recall, "support": support}
    return scores | {f"per_label_{kind}": values for kind, values in arrays.items()}


def _top_k_scores(hits: np.ndarray, counts: np.ndarray, ks: list[int], num_known: np.ndarray) -> dict[str, float]:
    """Scores at k; `hits` are the references by falling probability, N x max(ks), `counts` all positives (N,).

    Of an example the first `num_known` labels are known.
    """
    discount = 1.0 / np.log2(np.arange(hits.shape[1]) + 2.0)
    best = np.concatenate([[0.0], np.cumsum(discount)])
    scores = {}
    for k in ks:
        found = hits[:, :k].sum(axis=1)
        ideal = best[np.minimum(counts, k)]
        gain = hits[:, :k] @ discount[:k]
        scores[f"precision_at_{k}"] = (found / np.minimum(k, num_known)).mean()
        scores[f"recall_at_{k}"] = (found / np.maximum(counts, 1)).mean()
        scores[f"ndcg_at_{k}"] = np.divide(gain, ideal, out=np.zeros_like(gain), where=counts > 0).mean()
    return scores


def _average_precision(references: np.ndarray, probabilities: np.ndarray) -> float:
    """Average precision of one ranking with a positive; scikit-learn's to the last bit, without its checks."""
    order = np.argsort(probabilities)[::-1]
    hits = references[order].cumsum()
    last = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)  # of equal probabilities
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return max(0.0, -np.sum(np.diff(recall[::-1], append=0.0) * precision[::-1]))


def _ranking_scores(
    references: np.ndarray, probabilities: np.ndarray, known: np.ndarray, num_labels: int, ks: list[int]
) -> dict[str, Any]:
    """Scores of rankings, where unknown entries (reference 0) come last; `num_labels` leaves out a padding column."""
    average_precision = np.zeros(num_labels)
    present = np.flatnonzero(references[:, :num_labels].any(axis=0))
    columns = (array.T[present].copy() for array in (references, probabilities, known))
    for label, truth, values, kept in zip(present, *columns, strict=True):
        average_precision[label] = _average_precision(truth[kept], values[kept])
    flat = references[:, :num_labels][known], probabilities[:, :num_labels][known]
    scores: dict[str, Any] = {
        "map": average_precision[present].mean() if len(present) else 0.0,
        "micro_map": _average_precision(*flat) if len(present) else 0.0,
        "lrap": sk.label_ranking_average_precision_score(references, probabilities),
        "coverage_error": sk.coverage_error(references, probabilities),
    }
    # Stable, so that the label with the lower id comes first among equal probabilities.
    ranked = np.argsort(-probabilities[:, :num_labels], axis=1, kind="stable")[:, : max(ks, default=0)]
    hits = np.take_along_axis(references, ranked, axis=1)
    scores.update(_top_k_scores(hits, references.sum(axis=1), ks, known.sum(axis=1)))
    scores["per_label_average_precision"] = average_precision
    return scores


def _frequency_scores(per_label_f1: np.ndarray, counts: np.ndarray) -> dict[str, float | int]:
    head, tail = counts > _HEAD_ABOVE, counts < _TAIL_BELOW
    scores: dict[str, float | int] = {}
    for name, group in (("head", head), ("medium", ~head & ~tail), ("tail", tail)):
        if group.any():
            scores[f"macro_f1_{name}"] = per_label_f1[group].mean()
            scores[f"num_labels_{name}"] = int(group.sum())
    return scores


def multilabel_scores(
    references: Any,
    predictions: Any = None,
    probabilities: Any = None,
    *,
    thresholds: Any = None,
    train_label_counts: Any = None,
    ks: Iterable[int] = (1, 3, 5),
    per_label: bool = False,
) -> dict[str, Any]:
    """All scores of a multi-label classifier; numbers are Python floats and never NaN.

    Averages are scikit-learn's with `zero_division=0`. Macro averages run over all labels (`macro_f1_present`: over
    those with a positive in `references`), `map` over the labels with a positive, as average precision is undefined
    elsewhere; 0.0 if there is none. Averages over examples run over all examples; one without labels counts 1 for
    `lrap` and 0 for `coverage_error`, `samples_*` and everything at k.

    Unknown references count nowhere: every score is that of the known entries alone. An example without any known
    label and a label without any known example are left out as if they were not there. Scores of an example
    (`samples_*`, `subset_accuracy`, `lrap`, `coverage_error`, those at k) look at its known labels only: these are
    ranked among themselves, and `precision_at_k` divides by k or by their number, whichever is smaller.

    Args:
        references: N x L, values 0 and 1; -100 or NaN where it is unknown (None in lists reads as NaN).
        predictions: N x L, values 0 and 1; if absent, `probabilities >= thresholds`.
        probabilities: N x L numbers in [0, 1]; adds `map`, `micro_map`, `lrap`, `coverage_error`, `precision_at_k`,
            `recall_at_k` and `ndcg_at_k` (among equal probabilities the label with the lower id ranks first).
        thresholds: a number or L numbers, with `probabilities` and without `predictions` only; 0.5 if absent.
        train_label_counts: L numbers; adds `macro_f1_head` (labels with more than 100 training examples), `_medium`
            (20 to 100), `_tail` (under 20) and `num_labels_*`; a group without labels has no keys. The bounds are
            those of Liu et al. 2019, "Large-Scale Long-Tailed Recognition in an Open World" (arXiv 1904.05160).
        ks: the k of the scores at k; those above L are left out.
        per_label: adds float64 arrays of length L `per_label_f1`, `per_label_precision`, `per_label_recall`,
            `per_label_average_precision` (0 where the support is 0), int64 `per_label_support` and `per_label_known`
            (in how many examples the label is known).

    Raises:
        ValueError: wrong shapes, empty input, no known reference, other values than those above, non-finite numbers.
    """
    truth, known = _references(references)
    if not known.any():
        raise ValueError("references: expected at least one known label, got only unknown ones (-100 or NaN)")
    num_labels = truth.shape[1]
    ranks = None if probabilities is None else _probabilities(probabilities, truth.shape)
    if predictions is not None:
        if thresholds is not None:
            raise ValueError("thresholds: expected None beside predictions, got both")
        decisions = _multihot("predictions", predictions, truth.shape)
    elif ranks is not None:
        limits = 0.5 if thresholds is None else thresholds
        limits = np.full(num_labels, limits) if np.ndim(limits) == 0 else limits
        limits = _vector("thresholds", limits, num_labels, high=1)
        decisions = (ranks >= limits).astype(np.int64)
    else:
        raise ValueError("predictions: expected these or probabilities, got neither")
    checked_ks = _checked_ks(ks, num_labels)
    counts = np.zeros(num_labels) if train_label_counts is None else train_label_counts
    counts = _vector("train_label_counts", counts, num_labels)
    labels = np.flatnonzero(known.any(axis=0))
    if not known.all():
        # Examples and labels without anything known go; what is unknown elsewhere is no positive and ranks last.
        part = np.ix_(known.any(axis=1), labels)
        decisions, ranks = decisions * known, None if ranks is None else np.where(known, ranks, -1.0)[part]
        truth, decisions, known = truth[part], decisions[part], known[part]
    if len(labels) == 1:
        # scikit-learn reads one column as binary classification; a second, empty, last-ranked label changes no score.
        truth, decisions = (np.pad(array, ((0, 0), (0, 1))) for array in (truth, decisions))
        ranks = None if ranks is None else np.pad(ranks, ((0, 0), (0, 1)), constant_values=-1.0)
    scores = _decision_scores(truth, decisions, known, len(labels)) | {"per_label_known": known.sum(axis=0)}
    if ranks is not None:
        scores.update(_ranking_scores(truth, ranks, known, len(labels), checked_ks))
    if train_label_counts is not None:
        scores.update(_frequency_scores(scores["per_label_f1"], counts[labels]))
    result: dict[str, Any] = {}
    for key, value in sorted(scores.items(), key=lambda item: item[0].startswith("per_label_")):
        if not key.startswith("per_label_"):
            result[key] = value if isinstance(value, int) else float(value)
        elif per_label:
            result[key] = np.zeros(num_labels, value.dtype)
            result[key][labels] = value
    return result


def _label_rows(name: str, rows: Any) -> list[list[str]]:
    """Every label as JSON text: `evaluate` stores columns of one type, and so 3 and "3" stay different."""
    encoded = []
    for row in rows:
        row = row.tolist() if hasattr(row, "tolist") else row
        if isinstance(row, (str, bytes)) or not isinstance(row, Iterable):
            raise ValueError(f"{name}: expected a list of label names or ids for each example, got {row!r}")
        labels = [label.item() if isinstance(label, np.generic) else label for label in row]
        for label in labels:
            if isinstance(label, bool) or not isinstance(label, (str, int)):
                raise ValueError(f"{name}: expected label names (text) or ids (whole numbers), got {label!r}")
        encoded.append([json.dumps(label) for label in labels])
    return encoded


def _label_index(label_names: Any, columns: list[list[list[Any]]]) -> dict[Any, int]:
    """Column of every label: by name, and by id where the names are text."""
    if label_names is None:
        found = {label for column in columns for row in column for label in row}
        if len({type(label) for label in found}) > 1:
            raise ValueError("label_names: expected these where both label names and label ids occur, got None")
        if not found:
            raise ValueError("label_names: expected these where no example has a label, got None")
        return {label: index for index, label in enumerate(sorted(found))}
    names = [name.item() if isinstance(name, np.generic) else name for name in label_names]
    if not names or len(set(names)) != len(names) or len({type(name) for name in names}) != 1:
        raise ValueError(f"label_names: expected different names (or different ids), at least one, got {names!r}")
    index: dict[Any, int] = {name: position for position, name in enumerate(names)}
    if isinstance(names[0], str):
        index.update({position: position for position in range(len(names))})
    return index


def _labels_to_multihot(columns: dict[str, list[list[str]]], label_names: Any) -> dict[str, np.ndarray]:
    decoded = {name: [[json.loads(label) for label in row] for row in rows] for name, rows in columns.items()}
    index = _label_index(label_names, list(decoded.values()))
    arrays = {}
    for name, rows in decoded.items():
        array = np.zeros((len(rows), max(index.values()) + 1), dtype=np.int64)
        for position, row in enumerate(rows):
            for label in row:
                if label not in index:
                    raise ValueError(f"{name}: expected labels among the {array.shape[1]} label_names, got {label!r}")
                array[position, index[label]] = 1
        arrays[name] = array
    return arrays


class MultilabelF1(evaluate.Metric):
    """Multi-label scores; configs `multihot` (default), `probabilities` and `labels`."""

    _options = {"multihot": set(), "probabilities": {"thresholds", "ks"}, "labels": {"label_names"}}

    config_name: str

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name == "default":
            self.config_name = "multihot"
        if self.config_name not in self._options:
            raise ValueError(f"config_name: expected one of {', '.join(self._options)}, got {self.config_name!r}")
        # Floats also for 0/1, because an integer column would turn probabilities silently into zeros.
        entry = datasets.Value("string" if self.config_name == "labels" else "float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({name: datasets.Sequence(entry) for name in ("predictions", "references")}),
            reference_urls=["https://arxiv.org/abs/2412.00101"],
        )

    def _rows(self, name: str, rows: Any) -> Any:
        if self.config_name == "labels":
            return _label_rows(name, rows)
        if name == "references":
            truth, known = _references(rows)
            return np.where(known, truth, float(_UNKNOWN))
        return (_probabilities(rows) if self.config_name == "probabilities" else _multihot(name, rows)).astype(float)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add a batch of predictions and references."""
        checked = {"predictions": predictions, "references": references}
        for name, rows in checked.items():
            if rows is None:
                raise ValueError(f"{name}: expected one row per example, got None")
            checked[name] = self._rows(name, rows)
        if len(checked["predictions"]) != len(checked["references"]):
            lengths = f"{len(checked['predictions'])} and {len(checked['references'])}"
            raise ValueError(f"predictions, references: expected equally many examples, got {lengths}")
        super().add_batch(**checked, **kwargs)

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Add one prediction and its reference."""
        self.add_batch(predictions=[prediction], references=[reference], **kwargs)

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        allowed = {"train_label_counts", "per_label"} | self._options[self.config_name]
        for name in options:
            if name not in allowed:
                raise ValueError(f"{name}: expected an option of {self.config_name!r}: one of {sorted(allowed)}")
        given = {"references": references, "predictions": predictions}
        if self.config_name == "probabilities":
            given["probabilities"] = given.pop("predictions")
        elif self.config_name == "labels":
            given = _labels_to_multihot(given, options.pop("label_names", None))
        scores = multilabel_scores(**given, **options)
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in scores.items()}
