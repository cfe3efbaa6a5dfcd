import numpy as np
import pytest

from hf_mlcl.inspection.neighbours import (
    isolated_examples,
    map_embeddings,
    nearest_neighbours,
    neighbourhood_purity,
    prototype_fit,
    similarity_histograms,
    to_look_at,
)


def clusters(sizes=(20, 12, 8), dimension=16, seed=0, noise=0.05):
    """Tight groups around orthogonal directions, one label a group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    vectors = np.eye(len(sizes), dimension)[group] + noise * rng.normal(size=(len(group), dimension))
    return vectors * rng.uniform(0.5, 5, (len(group), 1)), np.eye(len(sizes), dtype=int)[group]


def test_neighbours_are_those_of_a_loop():
    vectors = np.random.default_rng(0).normal(size=(31, 4))
    cosines = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in vectors] for a in vectors]
    np.fill_diagonal(cosines := np.array(cosines), -np.inf)
    expected = np.argsort(-cosines, axis=1)[:, :5]
    whole = nearest_neighbours(vectors * np.linspace(1, 100, 31)[:, None], 5)  # lengths do not matter
    np.testing.assert_array_equal(whole.indices, expected)
    np.testing.assert_allclose(whole.similarities, np.take_along_axis(cosines, expected, 1), atol=1e-6)
    assert nearest_neighbours(vectors, 100).indices.shape == (31, 30)


def test_purity_is_one_in_clusters_and_chance_without():
    vectors, labels = clusters()
    rows = neighbourhood_purity(nearest_neighbours(vectors, 10), labels)
    assert [row["purity"] for row in rows] == [1.0, 1.0, 1.0]  # also with 8 examples and 10 neighbours
    assert rows[0]["chance"] == pytest.approx(19 / 39)
    alone, has = clusters((5, 1))
    assert neighbourhood_purity(nearest_neighbours(alone, 3), has)[1] == {
        "examples": 1,
        "purity": None,
        "chance": None,
    }
    rng = np.random.default_rng(0)
    labels = (rng.random((1500, 2)) < (0.3, 0.1)).astype(int)
    for row in neighbourhood_purity(nearest_neighbours(rng.normal(size=(1500, 8)), 10), labels):
        assert row["purity"] == pytest.approx(row["chance"], abs=0.04)


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
    same = similarity_histograms(np.ones((300, 6)) + 1e-9 * vectors, labels, pairs=500)
    assert same["edges"][-1] <= 1 + 1e-9 and same["apart"]["density"][-1] > 0


def test_pairs_that_may_share_an_unknown_label_are_left_out():
    vectors, labels = clusters((6, 6))
    unknown = labels.astype(float)
    unknown[6:, 0] = np.nan  # may have the first label too: then they share it with the first group
    assert similarity_histograms(vectors, unknown, pairs=500)["apart"] is None
    assert similarity_histograms(vectors, np.ones((12, 1)), pairs=500)["separation"] is None


def groups(seed=0, dimension=10, size=15):
    rng = np.random.default_rng(seed)
    prototypes = np.eye(3, dimension)
    labels = np.eye(3, dtype=int)[np.repeat(np.arange(3), size)]
    return labels @ prototypes + 0.08 * rng.normal(size=(3 * size, dimension)), prototypes, labels


def test_principal_axes_are_those_of_a_singular_value_decomposition():
    vectors, prototypes, _ = groups()
    drawn = map_embeddings(vectors, prototypes)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    _, values, axes = np.linalg.svd(unit - unit.mean(axis=0))
    expected = (unit - unit.mean(axis=0)) @ axes[:2].T
    np.testing.assert_allclose(np.abs(drawn.points), np.abs(expected), atol=1e-6)
    expected = (prototypes - unit.mean(axis=0)) @ axes[:2].T
    np.testing.assert_allclose(np.abs(drawn.prototypes), np.abs(expected), atol=1e-6)
    np.testing.assert_allclose(drawn.explained, (values**2 / (values**2).sum())[:2], rtol=1e-5)


def test_lengths_do_not_matter_and_maps_are_the_same_every_time():
    vectors, prototypes, _ = groups()
    for method in ("pca", "tsne"):
        one = map_embeddings(vectors, prototypes, method)
        again = map_embeddings(vectors, prototypes, method)
        np.testing.assert_array_equal(one.points, again.points)
    longer = map_embeddings(3 * vectors, 0.1 * prototypes)
    np.testing.assert_allclose(longer.points, map_embeddings(vectors).points, atol=1e-5)


def test_a_plane_is_mapped_without_loss():
    angles = np.sort(np.random.default_rng(0).uniform(0, 2 * np.pi, 60))
    circle = np.zeros((60, 7))
    circle[:, 2], circle[:, 5] = np.cos(angles), np.sin(angles)
    drawn = map_embeddings(circle)
    assert drawn.kept == 1.0 and sum(drawn.explained) == pytest.approx(1.0)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_groups_and_their_prototypes_stay_together(method):
    vectors, prototypes, labels = groups()
    drawn = map_embeddings(vectors, prototypes, method)
    centres = np.stack([drawn.points[labels[:, label] == 1].mean(axis=0) for label in range(3)])
    for points, own in ((drawn.points, labels.argmax(axis=1)), (drawn.prototypes, np.arange(3))):
        nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        np.testing.assert_array_equal(nearest, own)


def test_few_or_equal_points_are_mapped_too():
    for vectors in (np.ones((2, 3)), np.eye(3), np.zeros((4, 2)), np.ones((6, 1))):
        for method in ("pca", "tsne"):
            assert np.isfinite(map_embeddings(vectors, None, method).points).all()


def test_prototype_fit_counts_what_is_known():
    vectors, prototypes, labels = groups()
    fit = prototype_fit(vectors, prototypes, labels)
    assert fit["nearest_is_own"] == 1.0 and fit["own"] > 0.9 and abs(fit["others"]) < 0.1
    turned = prototype_fit(vectors, prototypes[[1, 2, 0]], labels)
    assert turned["nearest_is_own"] == 0.0
    hidden = labels.astype(float)
    hidden[:, 2] = np.nan
    assert prototype_fit(vectors, prototypes, hidden)["nearest_is_own"] == 1.0
    assert prototype_fit(vectors, prototypes, np.zeros_like(labels))["own"] is None


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("vectors", lambda: nearest_neighbours(np.ones((1, 3)))),
        ("k", lambda: nearest_neighbours(np.ones((3, 3)), 0)),
        ("method", lambda: map_embeddings(np.eye(3), method="umap")),
        ("embeddings", lambda: map_embeddings(np.eye(3), np.eye(4))),
    ],
)
def test_wrong_arguments_are_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()
