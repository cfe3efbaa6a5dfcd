"""Figures: made without pyplot, holding the data they were given."""

import sys

import numpy as np
import pytest

from hf_mlcl.evaluation import plot_f1_against_frequency, plot_reliability, reliability_curve
from hf_mlcl.evaluation.plots import plot_precision_recall


def test_f1_against_frequency_shows_every_label_of_every_method(tmp_path):
    pytest.importorskip("matplotlib")
    counts = np.array([0, 1, 5, 30, 400, 90, 8, 2, 3, 70])
    methods = {"zlpr": np.linspace(0, 1, 10), "reg": np.linspace(1, 0, 10)}
    figure = plot_f1_against_frequency(methods, counts)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and len(axes.collections) == 2
    for points, f1 in zip(axes.collections, methods.values(), strict=True):
        np.testing.assert_allclose(points.get_offsets()[:, 1], f1)
        np.testing.assert_allclose(points.get_offsets()[:, 0], np.maximum(counts, 0.5))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["zlpr (0.500)", "reg (0.500)"]
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


@pytest.mark.parametrize("unknown", [False, True])
def test_precision_recall_is_that_of_scikit_learn(unknown):
    pytest.importorskip("matplotlib")
    from sklearn.metrics import average_precision_score, precision_recall_curve

    generator = np.random.default_rng(0)
    scores, labels = generator.integers(0, 20, (60, 5)) / 20, generator.integers(0, 2, (60, 5))
    counts = np.array([3, 19, 20, 100, 101])
    known = generator.random((60, 5)) < (0.7 if unknown else 2)
    figure = plot_precision_recall(scores, np.where(known, labels, -100), counts)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    expected = {"all labels": [0, 1, 2, 3, 4], "head": [4], "medium": [2, 3], "tail": [0, 1]}
    assert len(lines) == 4
    for name, columns in expected.items():
        truth, score = (array[:, columns][known[:, columns]] for array in (labels, scores))
        line = lines[f"{name} ({average_precision_score(truth, score):.3f})"]
        precision, recall, _ = precision_recall_curve(truth, score)
        np.testing.assert_allclose(line.get_xdata(), recall[-2::-1])
        np.testing.assert_allclose(line.get_ydata(), precision[-2::-1])


def test_reliability_draws_each_curve():
    pytest.importorskip("matplotlib")
    generator = np.random.default_rng(0)
    curve = reliability_curve(generator.random((50, 4)), generator.integers(0, 2, (50, 4)), num_bins=5)
    figure = plot_reliability({"before": curve, "after": curve})
    lines = figure.axes[0].get_lines()
    np.testing.assert_array_equal(lines[1].get_xdata(), curve.mean_probability)
    np.testing.assert_array_equal(lines[2].get_ydata(), curve.positive_rate)


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plots need matplotlib: pip install 'hf-mlcl\[plots\]'"):
        plot_f1_against_frequency({"reg": [0.5]}, [3])
