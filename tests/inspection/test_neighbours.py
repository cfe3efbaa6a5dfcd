import numpy as np
import pytest

from hf_mlcl.inspection import (
    isolated_examples,
    nearest_neighbours,
    neighbourhood_purity,
    similarity_histograms,
    to_look_at,
)
from hf_mlcl.inspection import neighbours as module


def clusters(sizes=(20, 12, 8), dimension=16, seed=0, noise=0.05):
    """Tight groups around orthogonal directions, one label a group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    vectors = np.eye(len(sizes), dimension)[group] + noise * rng.normal(size=(len(group), dimension))
    return vectors * rng.uniform(0.5, 5, (len(group), 1)), np.eye(len(sizes), dtype=int)[group]


def test_neighbours_are_those_of_a_loop(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(31, 4))
    cosines = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in vectors] for a in vectors]
    np.fill_diagonal(cosines := np.array(cosines), -np.inf)
    expected = np.argsort(-cosines, axis=1)[:, :5]
    whole = nearest_neighbours(vectors, 5)
    np.testing.assert_array_equal(whole.indices, expected)
    np.testing.assert_allclose(whole.similarities, np.take_along_axis(cosines, expected, 1), atol=1e-6)
    monkeypatch.setattr(module, "_BLOCK_ENTRIES", 100)  # blocks of three rows
    np.testing.assert_array_equal(nearest_neighbours(vectors, 5).indices, expected)
    assert nearest_neighbours(vectors, 100).indices.shape == (31, 30)


def test_lengths_do_not_matter():
    vectors, _ = clusters()
    scaled = vectors * np.linspace(1, 100, len(vectors))[:, None]
    np.testing.assert_array_equal(nearest_neighbours(vectors).indices, nearest_neighbours(scaled).indices)


def test_purity_is_one_in_clusters_and_chance_without():
    vectors, labels = clusters()
    rows = neighbourhood_purity(nearest_neighbours(vectors, 10), labels)
    assert [row["purity"] for row in rows] == [1.0, 1.0, 1.0]  # also with 8 examples and 10 neighbours
    assert rows[0]["chance"] == pytest.approx(19 / 39)
    rng = np.random.default_rng(0)
    labels = (rng.random((1500, 2)) < (0.3, 0.1)).astype(int)
    for row in neighbourhood_purity(nearest_neighbours(rng.normal(size=(1500, 8)), 10), labels):
        assert row["purity"] == pytest.approx(row["chance"], abs=0.04)


def test_a_label_of_one_example_has_no_purity():
    vectors, labels = clusters((5, 1))
    rows = neighbourhood_purity(nearest_neighbours(vectors, 3), labels)
    assert rows[1] == {"examples": 1, "purity": None, "chance": None}


def test_unknown_neighbours_have_no_say():
    vectors, labels = clusters((10, 10))
    given = labels.astype(float)
    given[:4, 0] = np.nan
    assert neighbourhood_purity(nearest_neighbours(vectors, 5), given)[0]["purity"] == 1.0
    assert to_look_at(nearest_neighbours(vectors, 5), given, 10) == []


def test_an_outlier_is_isolated():
    vectors, _ = clusters()
    vectors[7] = -vectors[:20].mean(axis=0)
    assert isolated_examples(nearest_neighbours(vectors), 3)[0] == 7


def test_a_forgotten_label_is_to_look_at():
    vectors, labels = clusters()
    labels[25] = 0  # of the second group
    labels[3] = 0
    found = to_look_at(nearest_neighbours(vectors, 6), labels, 10)
    assert [(row["example"], row["label"]) for row in found] == [(25, 1), (3, 0)]  # the rarer label is stranger
    assert all(row["share"] == pytest.approx(1.0) for row in found)
    labels[25, 1] = -100
    assert [row["example"] for row in to_look_at(nearest_neighbours(vectors, 6), labels, 10)] == [3]
    assert to_look_at(nearest_neighbours(vectors, 6), labels, 0) == []


def test_separation_is_the_area_under_the_roc_curve():
    from sklearn.metrics import roc_auc_score

    vectors, labels = clusters()
    assert similarity_histograms(vectors, labels, pairs=4000)["separation"] == 1.0
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(300, 6)), (rng.random((300, 3)) < 0.3).astype(int)
    vectors[:, 0] += 2 * labels[:, 0]
    found = similarity_histograms(vectors, labels, pairs=60_000)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    upper = np.triu_indices(300, 1)
    exact = roc_auc_score((labels @ labels.T > 0)[upper], (unit @ unit.T)[upper])
    assert 0.5 < exact < 0.7 and found["separation"] == pytest.approx(exact, abs=0.02)
    assert len(found["edges"]) == len(found["apart"]["density"]) + 1


def test_pairs_that_may_share_an_unknown_label_are_left_out():
    vectors, labels = clusters((6, 6))
    unknown = labels.astype(float)
    unknown[6:, 0] = np.nan  # may have the first label too: then they share it with the first group
    assert similarity_histograms(vectors, unknown, pairs=500)["apart"] is None
    assert similarity_histograms(vectors, np.ones((12, 1)), pairs=500)["separation"] is None


def test_mistakes_raise_one_line():
    with pytest.raises(ValueError, match="vectors: expected at least 2 examples, got 1"):
        nearest_neighbours(np.ones((1, 3)))
    with pytest.raises(ValueError, match="k: expected a whole number above 0, got 0"):
        nearest_neighbours(np.ones((3, 3)), 0)
