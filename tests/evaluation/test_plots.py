"""Figures: made without pyplot, holding the data they were given."""

import sys

import numpy as np
import pytest

from hf_mlcl.evaluation import plot_f1_against_frequency, plot_reliability, reliability_curve


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


def test_mistakes_raise_one_line():
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="per_label_f1: expected at least one method"):
        plot_f1_against_frequency({}, [1])
    with pytest.raises(ValueError, match=r"per_label_f1\['reg'\]: expected one number per label \(2\)"):
        plot_f1_against_frequency({"reg": [0.5]}, [1, 2])
    with pytest.raises(ValueError, match="curves: expected at least one curve"):
        plot_reliability({})
