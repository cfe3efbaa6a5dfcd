"""`multilabel_scores` equals scikit-learn and its documented conventions."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import metrics as sk

from hf_mlcl.metrics.multilabel_f1 import multilabel_f1
from hf_mlcl.metrics.multilabel_f1.multilabel_f1 import multilabel_scores


def make_case(seed=0, num_examples=120, num_labels=9):
    """Random data with an absent label, a label on every example, and examples without labels."""
    generator = np.random.default_rng(seed)
    references = (generator.random((num_examples, num_labels)) < 0.25).astype(int)
    references[:, 2], references[:, 3] = 0, 1
    references[:5] = 0
    return references, np.round(generator.random((num_examples, num_labels)), 6)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "samples"])
def test_averages_equal_scikit_learn(average):
    references, probabilities = make_case()
    predictions = (probabilities >= 0.6).astype(int)
    predictions[7] = references[7]
    scores = multilabel_scores(references, predictions)
    expected = sk.precision_recall_fscore_support(references, predictions, average=average, zero_division=0)
    got = [scores[f"{average}_{kind}"] for kind in ("precision", "recall", "f1")]
    assert got == pytest.approx(expected[:3], abs=1e-12)
    assert scores["hamming_loss"] == pytest.approx(sk.hamming_loss(references, predictions))
    assert (
        scores["subset_accuracy"] == pytest.approx(sk.accuracy_score(references, predictions))
        and scores["subset_accuracy"] > 0
    )


def test_ranking_scores_equal_scikit_learn():
    references, probabilities = make_case()
    scores = multilabel_scores(references, probabilities=probabilities, per_label=True)
    present = references.any(axis=0)
    precisions = [sk.average_precision_score(references[:, i], probabilities[:, i]) for i in np.flatnonzero(present)]
    assert scores["map"] == pytest.approx(np.mean(precisions))
    assert scores["per_label_average_precision"][present] == pytest.approx(precisions)
    assert scores["micro_map"] == pytest.approx(sk.average_precision_score(references.ravel(), probabilities.ravel()))
    assert scores["lrap"] == pytest.approx(sk.label_ranking_average_precision_score(references, probabilities))
    assert scores["coverage_error"] == pytest.approx(sk.coverage_error(references, probabilities))
    for k in (1, 3, 5):
        assert scores[f"ndcg_at_{k}"] == pytest.approx(sk.ndcg_score(references, probabilities, k=k))


def test_examples_without_labels_follow_the_documented_conventions():
    scores = multilabel_scores([[0, 0], [1, 0]], probabilities=[[0.9, 0.1], [0.9, 0.1]], ks=(1,))
    assert scores["lrap"] == 1.0 and scores["coverage_error"] == 0.5
    assert scores["precision_at_1"] == scores["recall_at_1"] == scores["ndcg_at_1"] == scores["samples_f1"] == 0.5


def test_frequency_groups_use_the_bounds_of_the_long_tail_convention():
    references = np.eye(5, dtype=int)
    predictions = references.copy()
    predictions[4] = 0
    scores = multilabel_scores(references, predictions, train_label_counts=[101, 100, 20, 19, 0])
    assert [scores[f"num_labels_{group}"] for group in ("head", "medium", "tail")] == [1, 2, 2]
    assert [scores[f"macro_f1_{group}"] for group in ("head", "medium", "tail")] == [1.0, 1.0, 0.5]
    scores = multilabel_scores(references, predictions, train_label_counts=[1, 1, 1, 1, 1])
    assert "macro_f1_head" not in scores and "num_labels_head" not in scores and "macro_f1_tail" in scores


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize("truth", [0, 1])
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_degenerate_inputs_give_finite_numbers_without_warnings(shape, truth, probability):
    references, probabilities = np.full(shape, truth), np.full(shape, probability)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = multilabel_scores(
            references, probabilities=probabilities, train_label_counts=np.ones(shape[1]), per_label=True
        )
    assert all(np.isfinite(value).all() for value in scores.values())
    assert all(len(value) == shape[1] for name, value in scores.items() if name.startswith("per_label"))
    assert scores["micro_f1"] == (1.0 if truth and probability >= 0.5 else 0.0)


@pytest.mark.parametrize("missing", [False, True])
def test_sparse_matrices_are_arrays(missing):
    """Of any format; in references a missing entry is stored as -100 or NaN."""
    references, probabilities = make_case()
    probabilities[probabilities < 0.3] = 0
    references = np.where(np.random.default_rng(1).random(references.shape) < 0.2 * missing, -100, references)
    options = {"thresholds": 0.4, "train_label_counts": np.arange(9) * 20, "per_label": True}
    expected = multilabel_scores(references, probabilities=probabilities, **options)
    found = multilabel_scores(sparse.coo_matrix(references), probabilities=sparse.csr_array(probabilities), **options)
    decisions = multilabel_scores(sparse.csc_array(references), sparse.csr_matrix(probabilities >= 0.4))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert decisions == multilabel_scores(references, probabilities >= 0.4)
    with pytest.raises(ValueError, match="references: .*got 3"):
        multilabel_scores(sparse.csr_array(references == 1) * 3, references == 1)


def test_blocks_of_any_size_are_one(monkeypatch):
    references, probabilities = make_case()
    expected = multilabel_scores(references, probabilities=probabilities)
    monkeypatch.setattr(multilabel_f1, "_BLOCK_NUMBERS", 30)
    assert multilabel_scores(references, probabilities=probabilities) == pytest.approx(expected)


def test_order_of_examples_and_labels_changes_no_score():
    references, probabilities = make_case()
    rows, columns = (np.random.default_rng(seed).permutation(size) for seed, size in enumerate(references.shape))
    thresholds, counts = np.linspace(0.2, 0.8, 9), np.arange(9) * 20
    expected, found = (
        multilabel_scores(one, None, other, thresholds=limits, train_label_counts=frequencies)
        for one, other, limits, frequencies in (
            (references, probabilities, thresholds, counts),
            (references[rows][:, columns], probabilities[rows][:, columns], thresholds[columns], counts[columns]),
        )
    )
    assert found == pytest.approx(expected)


def test_predictions_beside_probabilities_decide():
    references, probabilities = make_case()
    both = multilabel_scores(references, references, probabilities)
    assert both["subset_accuracy"] == 1 and both["map"] == multilabel_scores(references, None, probabilities)["map"]
