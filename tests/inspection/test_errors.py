import numpy as np
import pytest

from hf_mlcl.evaluation.plots import frequency_groups
from hf_mlcl.inspection import label_difficulty
from hf_mlcl.inspection.errors import best_f1, co_predictions, confusions, hardest_labels


def scored(seed=0, rows=80, labels=4):
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, labels)) < 0.3
    return 3 * truth - 1.5 + rng.normal(size=truth.shape) * 2, truth.astype(int), rng.uniform(0.2, 0.8, labels)


def test_best_f1_is_the_best_of_all_thresholds():
    logits, truth, _ = scored()
    scores, positives = logits[:, 0].round(1), truth[:, 0] > 0  # rounded: ties must pass together
    by_hand = []
    for threshold in scores:
        predicted = scores >= threshold
        hits = (predicted & positives).sum()
        by_hand.append(2 * hits / (predicted.sum() + positives.sum()))
    assert best_f1(scores, positives) == pytest.approx(max(by_hand))
    assert best_f1(scores, np.zeros_like(positives)) == 0


def test_margins_measure_from_the_threshold():
    """Moving logits and log-odds of the threshold alike changes no margin; at least half of the positives of a label
    with a positive median are found."""
    logits, truth, thresholds = scored()
    moved = 1 / (1 + np.exp(-(np.log(thresholds / (1 - thresholds)) + 1)))
    for row, other in zip(
        label_difficulty(logits, truth, thresholds), label_difficulty(logits + 1, truth, moved), strict=True
    ):
        np.testing.assert_allclose(row["positive_margins"], other["positive_margins"])
        np.testing.assert_allclose(row["negative_margins"], other["negative_margins"])
        assert (row["positive_margins"][2] > 0) == (row["recall"] > 0.5)
        assert row["positive_margins"] == sorted(row["positive_margins"])


@pytest.mark.parametrize("unknown", [-100, np.nan])
def test_unknown_labels_count_nowhere(unknown):
    logits, truth, thresholds = scored()
    rng = np.random.default_rng(1)
    hidden = rng.random(truth.shape) < 0.3
    given = np.where(hidden, unknown, truth.astype(float))
    rows = label_difficulty(logits, given, thresholds)
    assert rows == label_difficulty(np.where(hidden, 50.0, logits), given, thresholds)
    for index, row in enumerate(rows):
        kept = ~hidden[:, index]
        alone = label_difficulty(logits[kept][:, [index]], truth[kept][:, [index]], thresholds[[index]])[0]
        assert row.keys() == alone.keys() and row["failure"] == alone["failure"]
        for key in row.keys() - {"label", "failure"}:
            np.testing.assert_allclose(row[key], alone[key], err_msg=key)


def test_failures_are_told_apart():
    truth = np.array([[1, 1, 0, 1, 0], [1, 1, 0, 1, 0], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    predicted = np.array([[0, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]])
    rows = label_difficulty(8.0 * predicted - 4, truth)
    assert [row["failure"] for row in rows] == ["missed", "none", "over-predicted", "both", "absent"]
    assert rows[4]["wrong"] == 1 and rows[4]["positive_margins"] is None


def test_hardest_labels_come_first_and_only_where_something_could_be_learnt():
    f1, support, counts = (0.0, 0.0, 0.5, 1.0, 0.0, 0.0), (2, 8, 8, 8, 0, 3), (9, 9, 9, 9, 9, 0)
    rows = [{"f1": f, "support": n, "train_count": c} for f, n, c in zip(f1, support, counts, strict=True)]
    assert hardest_labels(rows, 10) == [1, 0, 2]
    assert hardest_labels(rows, 1) == [1]
    assert hardest_labels([{"f1": 0.0, "support": 3}], 5) == [0]  # without training counts
    assert frequency_groups([101, 100, 20, 19, 0]).tolist() == [0, 1, 1, 2, 2]


def decided(seed=0, rows=60, labels=5):
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, labels)) < 0.35
    return (truth ^ (rng.random(truth.shape) < 0.25)).astype(int), truth.astype(int)


def test_confusions_are_counted_as_by_loops():
    predicted, truth = decided()
    hidden = np.random.default_rng(1).random(truth.shape) < 0.2
    given = np.where(hidden, -100, truth)
    found = confusions(predicted, given)
    cells = list(zip(given, predicted, strict=True))
    for a in range(5):
        missing = [(row, p) for row, p in cells if row[a] == 1 and not p[a]]
        assert found.misses[a] == len(missing)
        for b in range(5):
            lacking = [(row, p) for row, p in cells if row[b] == 0]
            rate = sum(p[b] == 1 for _, p in lacking) / len(lacking)
            assert found.counts[a, b] == sum(row[b] == 0 and p[b] == 1 for row, p in missing)
            assert found.expected[a, b] == pytest.approx(rate * sum(row[b] == 0 for row, _ in missing))
    assert found.share[0, 1] == found.counts[0, 1] / found.misses[0]
    assert found.lift[0, 1] == (found.counts[0, 1] + 1) / (found.expected[0, 1] + 1)


def test_a_planted_confusion_comes_first_and_a_frequent_wrong_label_does_not():
    rng = np.random.default_rng(0)
    truth = np.zeros((400, 4), dtype=int)
    truth[:40, 0] = 1
    truth[:, 3] = rng.random(400) < 0.5
    predicted = np.zeros_like(truth)
    predicted[:30, 1] = 1  # label 1 is predicted in place of label 0, and nowhere else
    predicted[:, 2] = rng.random(400) < 0.8  # label 2 is predicted nearly everywhere, whatever is missed
    predicted[:, 3] = truth[:, 3]
    found = confusions(predicted, truth)
    assert found.counts[0, 2] >= found.counts[0, 1] == 30
    assert found.pairs(5)[0] == (0, 1)
    assert found.lift[0, 1] > 5 and found.lift[0, 2] < 1.5


def test_perfect_predictions_confuse_nothing():
    _, truth = decided()
    found = confusions(truth, truth)
    assert not found.counts.any() and found.pairs(5) == [] and np.isfinite(found.share).all()
    together = co_predictions(truth, truth)
    assert not together.log_ratio.any() and together.pairs(5, more=True) == together.pairs(5, more=False) == []


def test_co_predictions_turn_their_sign_with_the_roles():
    predicted, truth = decided()
    one, other = co_predictions(predicted, truth), co_predictions(truth, predicted)
    np.testing.assert_allclose(one.log_ratio, -other.log_ratio)
    assert one.pairs(3, more=True) == other.pairs(3, more=False)
    for a, b in one.pairs(10, more=True):
        assert a < b and one.predicted[a, b] > one.occurring[a, b]
        assert one.predicted[a, b] == (predicted[:, a] & predicted[:, b]).sum()


def test_pairs_with_an_unknown_label_count_in_neither():
    predicted, truth = np.ones((4, 2), dtype=int), np.ones((4, 2))
    truth[:2, 0] = np.nan
    found = co_predictions(predicted, truth)
    assert found.predicted[0, 1] == found.occurring[0, 1] == 2
