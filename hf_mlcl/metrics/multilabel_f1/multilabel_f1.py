"""Multi-label scores, as one function on arrays and as a module of the `evaluate` library.

Self-contained, because a Space cannot import the package it was copied from: numpy, scipy, datasets and evaluate
only, one import a line (`evaluate.load` reads these lines).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy import sparse

_DESCRIPTION = """\
Scores of multi-label classification: F1, precision and recall (macro, micro, weighted, samples), Hamming loss, subset
accuracy; from probabilities also mean average precision, LRAP, coverage error, precision, recall and nDCG at k; and
with the label counts of the training set the macro F1 of frequent, medium and rare labels.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: one entry per example. `multihot`: a list of 0/1, one per label. `probabilities`: a list of numbers in
        [0, 1], one per label. `labels`: the list of the example's label names or ids; it may be empty.
    references: one entry per example; a list of 0/1, one per label (`labels`: label names or ids). -100 or NaN for a
        missing label, which then counts in no score.
    label_names (`labels` only): every label in its order. Without it the labels that occur are taken, sorted.
    thresholds, ks (`probabilities` only), train_label_counts, per_label: see the README and `multilabel_scores`.
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
_MISSING = -100  # besides NaN
_BLOCK_NUMBERS = 2**22


def _matrix(name: str, values: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Float64 array N x L, or a sparse matrix as it is; ValueError otherwise."""
    array = values
    if not sparse.issparse(values):
        try:
            array = np.asarray(values)  # texts would be read as numbers; objects may be None
            array = array.astype(np.float64, casting="unsafe" if array.dtype.kind in "biufO" else "no", copy=False)
        except (TypeError, ValueError):
            got = getattr(values, "dtype", type(values).__name__)
            raise ValueError(f"{name}: expected numbers in rows of equal length, got {got}") from None
    if 0 in array.shape:
        raise ValueError(f"{name}: expected at least one example and one label, got shape {array.shape}")
    if array.ndim != 2:
        raise ValueError(f"{name}: expected 2 dimensions (examples x labels), got shape {array.shape}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: expected the shape of references {shape}, got {array.shape}")
    return array


def _check(name: str, matrix: Any, allowed: Callable[[np.ndarray], np.ndarray], expected: str) -> Any:
    """The matrix; ValueError unless all its entries are finite and allowed."""
    entries = matrix.data if sparse.issparse(matrix) else matrix
    for good, words in ((np.isfinite(entries), "finite numbers"), (allowed(entries), expected)):
        if not good.all():
            raise ValueError(f"{name}: expected {words}, got {entries[~good][0]}")
    return matrix


def _multihot(name: str, values: Any, shape: tuple[int, ...] | None = None) -> Any:
    return _check(name, _matrix(name, values, shape), lambda x: (x == 0) | (x == 1), "only 0 and 1")


def _probabilities(values: Any, shape: tuple[int, ...] | None = None) -> Any:
    matrix = _matrix("probabilities", values, shape)
    return _check("probabilities", matrix, lambda x: (x >= 0) & (x <= 1), "values in [0, 1] (logits need a sigmoid)")


def _references(values: Any, some_known: bool = True) -> tuple[Any, Any]:
    """Sparse bool matrices N x L: which labels are positive, and which are missing (None where none is)."""
    matrix = sparse.coo_array(_matrix("references", values))
    missing = np.isnan(matrix.data) | (matrix.data == _MISSING)
    _multihot("references", matrix.data[~missing, None] if not missing.all() else [[0]])
    if some_known and missing.sum() == matrix.shape[0] * matrix.shape[1]:
        raise ValueError("references: expected at least one known label, got only missing ones (-100 or NaN)")
    found = []
    for mask in (matrix.data == 1, missing):
        places = (matrix.row[mask], matrix.col[mask])
        found.append(sparse.csc_array((np.ones(mask.sum(), dtype=bool), places), shape=matrix.shape))
    return found[0], found[1] if missing.any() else None


def _vector(name: str, values: Any, num_labels: int, high: float = np.inf) -> np.ndarray:
    """Float64 array of shape L of finite numbers from 0 to `high`."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        got = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"{name}: expected numbers, one per label, got {got}") from None
    if array.shape != (num_labels,):
        raise ValueError(f"{name}: expected one number per label ({num_labels}), got shape {array.shape}")
    upper = "" if high == np.inf else f" and at most {high:g}"
    return _check(name, array, lambda x: (x >= 0) & (x <= high), f"finite numbers, not negative{upper}")


def _limits(thresholds: Any, num_labels: int) -> np.ndarray:
    limits = 0.5 if thresholds is None else thresholds
    return _vector("thresholds", np.full(num_labels, limits) if np.ndim(limits) == 0 else limits, num_labels, high=1)


def _checked_ks(ks: Iterable[int], num_labels: int) -> list[int]:
    checked: list[int] = []
    for k in ks if isinstance(ks, Iterable) else [[ks]]:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"ks: expected whole numbers of at least 1, got {k!r}")
        if k <= num_labels:
            checked.append(int(k))
    return checked


class _Matrix:
    """Scores N x L as a dense or sparse matrix; what makes them in blocks when asked for can take its place."""

    def __init__(self, values: Any, decisive: Any = None) -> None:
        matrices = (values, values if decisive is None else decisive)
        self.values, self.decisive = (sparse.csc_array(m) if sparse.issparse(m) else m for m in matrices)

    def label_blocks(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Blocks of labels: which, what ranks examples (N, l), and what is compared with thresholds (N, l)."""
        for part in _slices(self.values.shape[1], self.values.shape[0]):
            yield part, _dense(self.values, (slice(None), part)), _dense(self.decisive, (slice(None), part))

    def row_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks of examples: the number of the first, and what ranks labels (n, L)."""
        values = self.values.tocsr() if sparse.issparse(self.values) else self.values
        for part in _slices(*values.shape):
            yield part.start, _dense(values, part)


def _slices(length: int, width: int) -> list[slice]:
    size = max(1, _BLOCK_NUMBERS // max(width, 1))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _dense(matrix: Any, part: Any) -> np.ndarray:
    block = matrix[part]
    return block.toarray() if sparse.issparse(block) else block


def best_labels(row: np.ndarray, k: int) -> np.ndarray:
    """Ids of the k highest of L scores, falling; among equal ones the lower id comes first."""
    if k < len(row):
        candidates = np.flatnonzero(row >= np.partition(row, len(row) - k)[len(row) - k])
    else:
        candidates = np.arange(len(row))
    return candidates[np.argsort(-row[candidates], kind="stable")[:k]]


def _at_least(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """How many values are at least each of the limits."""
    if len(limits) < 24:
        return np.count_nonzero(values >= limits[:, None], axis=1)
    return len(values) - np.searchsorted(np.sort(values), limits)


def _average_precision(positives: np.ndarray, at_least: np.ndarray) -> float:
    """Mean over the positives (rising scores) of the share of positives among the scores at least as high."""
    return float(((len(positives) - np.searchsorted(positives, positives)) / at_least).mean())


def _precision_recall_f1(hits: Any, predicted: Any, positives: Any) -> tuple[Any, Any, Any]:
    """0 where nothing is predicted, nothing is positive, or neither."""
    both = hits / np.maximum(predicted, 1), hits / np.maximum(positives, 1)
    return *both, 2 * hits / np.maximum(predicted + positives, 1)


def _decision_scores(counts: np.ndarray, row_counts: np.ndarray, used: np.ndarray, num_known: int) -> dict[str, Any]:
    """Scores of decisions from hits, predictions and positives: 3 x L of labels, `used` where one is known, and 3 x N
    of examples of which a label is known."""
    support = counts[2]
    precision, recall, f1 = _precision_recall_f1(*counts)
    scores: dict[str, Any] = {"macro_f1": 0.0}  # comes first
    averages = {
        "macro": [values[used].mean() for values in (precision, recall, f1)],
        "micro": _precision_recall_f1(*counts.sum(axis=1)),
        "weighted": [(values * support).sum() / max(support.sum(), 1) for values in (precision, recall, f1)],
        "samples": [values.mean() for values in _precision_recall_f1(*row_counts)],
    }
    for average, found in averages.items():
        scores |= {f"{average}_{kind}": v for kind, v in zip(("precision", "recall", "f1"), found, strict=True)}
    scores["macro_f1_present"] = f1[support > 0].mean() if support.any() else 0.0
    wrong = row_counts[1] + row_counts[2] - 2 * row_counts[0]
    scores |= {"hamming_loss": wrong.sum() / num_known, "subset_accuracy": (wrong == 0).mean()}
    arrays = {"f1": f1, "precision": precision, "recall": recall, "support": support}
    return scores | {f"per_label_{kind}": values for kind, values in arrays.items()}


def _row_rankings(truth: Any, missing: Any, scores: Any, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Whether the k best labels of each example are positives (N, k), LRAP and coverage (N,), and pooled precision."""
    num_rows = truth.shape[0]
    best, precision, coverage = np.zeros((num_rows, k), dtype=bool), np.ones(num_rows), np.zeros(num_rows)
    truth, missing = truth.tocsr(), None if missing is None else missing.tocsr()

    def blocks() -> Iterator[tuple[int, np.ndarray]]:
        for start, block in scores.row_blocks():
            if missing is not None:  # what is missing ranks last
                block = np.where(missing[start : start + len(block)].toarray(), -np.inf, block)
            yield start, block

    held = [np.zeros(0)]
    for start, block in blocks():
        for number, (row, positive) in enumerate(
            zip(block, truth[start : start + len(block)].toarray(), strict=True), start
        ):
            own = np.sort(row[truth.indices[truth.indptr[number] : truth.indptr[number + 1]]])
            if len(own):
                best[number] = positive[best_labels(row, k)] if k else False
                at_least = _at_least(row, own)
                precision[number], coverage[number] = _average_precision(own, at_least), at_least[0]
                held.append(own)
    positives = np.sort(np.concatenate(held))
    if not len(positives):
        return best, precision, coverage, 0.0
    limits, places = np.unique(positives, return_inverse=True)
    total = np.zeros(len(limits), dtype=np.int64)
    for _, block in blocks():
        total += _at_least(block[block >= limits[0]], limits)
    return best, precision, coverage, _average_precision(positives, total[places])


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


def _frequency_scores(per_label_f1: np.ndarray, counts: np.ndarray, used: np.ndarray) -> dict[str, float | int]:
    head, tail = counts > _HEAD_ABOVE, counts < _TAIL_BELOW
    scores: dict[str, float | int] = {}
    for name, group in (("head", head), ("medium", ~head & ~tail), ("tail", tail)):
        group &= used
        if group.any():
            scores[f"macro_f1_{name}"] = per_label_f1[group].mean()
            scores[f"num_labels_{name}"] = int(group.sum())
    return scores


def block_scores(
    truth: Any,
    missing: Any,
    scores: Any,
    thresholds: Sequence[Any],
    *,
    train_label_counts: Any = None,
    ks: Iterable[int] = (1, 3, 5),
    label_rankings: bool = True,
    row_rankings: bool = True,
) -> list[dict[str, Any]]:
    """The scores of `multilabel_scores`, with all arrays per label, where N x L numbers are never held at once.

    Args:
        truth: sparse bool N x L, the positives.
        missing: sparse bool N x L, the missing entries; None where there are none.
        scores: anything with the methods of `_Matrix`.
        thresholds: some thresholds, each a number, L numbers, or None for 0.5.
        train_label_counts: L numbers.
        ks: the k of the scores at k.
        label_rankings: False leaves out what ranks the examples of a label.
        row_rankings: False leaves out what ranks the labels of an example, or all decisions.

    Returns:
        All scores at the first thresholds, then those of decisions alone at each of the others.
    """
    truth, missing = truth.tocsc(), None if missing is None else missing.tocsc()
    (num_rows, num_labels), support = truth.shape, np.diff(truth.indptr)
    all_limits, ks = [_limits(each, num_labels) for each in thresholds], _checked_ks(ks, num_labels)
    known, row_known = np.full(num_labels, num_rows), np.full(num_rows, num_labels)
    if missing is not None:
        known, row_known = known - np.diff(missing.indptr), row_known - np.diff(missing.tocsr().indptr)
    row_support = np.bincount(truth.indices, minlength=num_rows)
    counts = np.zeros((len(thresholds), 3, num_labels), dtype=np.int64)
    row_counts = np.zeros((len(thresholds), 3, num_rows), dtype=np.int64)
    counts[:, 2], row_counts[:, 2] = support, row_support
    average_precision = np.zeros(num_labels)
    for part, ranking, decisive in scores.label_blocks():
        positive = truth[:, part].toarray()
        kept = None if missing is None else ~missing[:, part].toarray()
        for limits, count, row_count in zip(all_limits, counts, row_counts, strict=True):
            decided = decisive >= limits[part]
            if kept is not None:
                decided &= kept
            for place, values in enumerate((decided & positive, decided)):
                count[place, part] = values.sum(axis=0)
                row_count[place] += values.sum(axis=1)
        for column in np.flatnonzero(support[part]) if label_rankings else ():
            values = ranking[:, column] if kept is None else ranking[kept[:, column], column]
            own = np.sort(ranking[positive[:, column], column])
            average_precision[part.start + column] = _average_precision(own, _at_least(values, own))
    used, rows = known > 0, row_known > 0
    results = [
        _decision_scores(count, row_count[:, rows], used, known.sum())
        for count, row_count in zip(counts, row_counts, strict=True)
    ]
    first = results[0]
    if train_label_counts is not None:
        frequencies = _vector("train_label_counts", train_label_counts, num_labels)
        first |= _frequency_scores(first["per_label_f1"], frequencies, used)
    if label_rankings:
        first["map"] = average_precision[support > 0].mean() if support.any() else 0.0
    if row_rankings:
        best, lrap, coverage, first["micro_map"] = _row_rankings(truth, missing, scores, max(ks, default=0))
        first |= {"lrap": lrap[rows].mean(), "coverage_error": coverage[rows].mean()}
        first |= _top_k_scores(best[rows], row_support[rows], ks, row_known[rows])
    first["per_label_known"] = known
    if label_rankings:
        first["per_label_average_precision"] = average_precision
    return results


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

    Missing references count nowhere: every score is that of the known entries alone. An example without any known
    label and a label without any known example are left out as if they were not there. Scores of an example
    (`samples_*`, `subset_accuracy`, `lrap`, `coverage_error`, those at k) look at its known labels only: these are
    ranked among themselves, and `precision_at_k` divides by k or by their number, whichever is smaller.

    Args:
        references: N x L, values 0 and 1; -100 or NaN where missing (None in lists reads as NaN). An array, nested
            lists, or a scipy sparse matrix; also `predictions` and `probabilities`.
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

    Example:
        >>> scores = multilabel_scores([[1, 0, 1], [0, 1, -100]], probabilities=[[0.9, 0.2, 0.4], [0.1, 0.8, 0.7]])
        >>> scores["micro_f1"], scores["map"]
        (0.8, 1.0)
    """
    truth, missing = _references(references)
    ranks = None if probabilities is None else _probabilities(probabilities, truth.shape)
    if predictions is not None:
        if thresholds is not None:
            raise ValueError("thresholds: expected None beside predictions, got both")
        decisions, thresholds = _multihot("predictions", predictions, truth.shape), 1.0
    elif ranks is not None:
        decisions = ranks
    else:
        raise ValueError("predictions: expected these or probabilities, got neither")
    [scores] = block_scores(
        truth,
        missing,
        _Matrix(decisions if ranks is None else ranks, decisions),
        [thresholds],
        train_label_counts=train_label_counts,
        ks=ks,
        label_rankings=ranks is not None,
        row_rankings=ranks is not None,
    )
    return {
        key: value if isinstance(value, (int, np.ndarray)) else float(value)
        for key, value in sorted(scores.items(), key=lambda item: item[0].startswith("per_label_"))
        if per_label or not key.startswith("per_label_")
    }


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
            array = _matrix(name, rows)
            _references(array, some_known=False)  # only for its errors
            return np.where(np.isnan(array), _MISSING, array)
        return _probabilities(rows) if self.config_name == "probabilities" else _multihot(name, rows)

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
