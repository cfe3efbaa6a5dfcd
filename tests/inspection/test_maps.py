import numpy as np
import pytest

from hf_mlcl.inspection import map_embeddings, prototype_fit


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


def test_mistakes_raise_one_line():
    with pytest.raises(ValueError, match="method: expected one of pca, tsne, got 'umap'"):
        map_embeddings(np.eye(3), method="umap")
    with pytest.raises(ValueError, match="embeddings: expected at least 2 rows as long as the prototypes"):
        map_embeddings(np.eye(3), np.eye(4))
