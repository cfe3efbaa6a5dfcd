import numpy as np
import pytest

from hf_mlcl.inspection import co_predictions, confusions


def example(seed=0, rows=60, labels=5):
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, labels)) < 0.35
    return (truth ^ (rng.random(truth.shape) < 0.25)).astype(int), truth.astype(int)


def test_confusions_are_counted_as_by_loops():
    predicted, truth = example()
    hidden = np.random.default_rng(1).random(truth.shape) < 0.2
    given = np.where(hidden, -100, truth)
    found = confusions(predicted, given)
    for a in range(5):
        assert found.misses[a] == sum(row[a] == 1 and not p[a] for row, p in zip(given, predicted, strict=True))
        for b in range(5):
            both = [
                row[a] == 1 and not p[a] and row[b] == 0 and p[b] == 1 for row, p in zip(given, predicted, strict=True)
            ]
            missing_a = sum(row[a] == 1 and not p[a] and row[b] == 0 for row, p in zip(given, predicted, strict=True))
            rate = ((given[:, b] == 0) & (predicted[:, b] == 1)).sum() / (given[:, b] == 0).sum()
            assert found.counts[a, b] == sum(both)
            assert found.expected[a, b] == pytest.approx(missing_a * rate)
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
    _, truth = example()
    found = confusions(truth, truth)
    assert not found.counts.any() and found.pairs(5) == [] and np.isfinite(found.share).all()
    together = co_predictions(truth, truth)
    assert not together.log_ratio.any() and together.pairs(5, more=True) == together.pairs(5, more=False) == []


def test_co_predictions_turn_their_sign_with_the_roles():
    predicted, truth = example()
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


def test_a_larger_prior_draws_ratios_to_zero():
    predicted, truth = example()
    near, far = (np.abs(co_predictions(predicted, truth, prior).log_ratio).max() for prior in (50.0, 1.0))
    assert 0 < near < far


def test_wrong_shapes_raise_one_line():
    with pytest.raises(ValueError, match="labels: expected shape"):
        confusions(np.ones((3, 2)), np.ones((2, 2)))
