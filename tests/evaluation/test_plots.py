"""Figures: made without pyplot, holding the data they were given."""

import sys

import numpy as np
import pytest

from hf_mlcl.evaluation import plot_f1_against_frequency, plot_reliability, reliability_curve
from hf_mlcl.evaluation.plots import count_axis, plot_label_counts, plot_precision_recall


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
    for line in axes.lines[:2]:  # means of five groups of two labels, not the labels themselves
        np.testing.assert_allclose(line.get_ydata().mean(), 0.5)
        assert len(line.get_ydata()) == 5
    lines = ["zlpr (0.500)", "reg (0.500)", "20 and 100 examples"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == lines
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


def test_precision_recall_has_no_line_twice_where_one_group_has_all_labels():
    pytest.importorskip("matplotlib")
    figure = plot_precision_recall([[0.9, 0.2], [0.4, 0.7]], [[1, 0], [0, 1]], np.array([200, 300]))
    assert [line.get_label() for line in figure.axes[0].lines] == ["all labels (1.000)"]


def test_reliability_draws_each_curve():
    pytest.importorskip("matplotlib")
    generator = np.random.default_rng(0)
    curve = reliability_curve(generator.random((50, 4)), generator.integers(0, 2, (50, 4)), num_bins=5)
    figure = plot_reliability({"before": curve, "after": curve})
    lines = figure.axes[0].get_lines()
    np.testing.assert_array_equal(lines[1].get_xdata(), curve.mean_probability)
    np.testing.assert_array_equal(lines[2].get_ydata(), curve.positive_rate)


@pytest.mark.parametrize(("rows", "hollow"), [(2, True), (400, False)])
def test_reliability_explains_hollow_points_where_there_are_some(rows, hollow):
    pytest.importorskip("matplotlib")
    curve = reliability_curve(np.full((rows, 1), 0.3), np.zeros((rows, 1), dtype=int))
    texts = [text.get_text() for text in plot_reliability({"model": curve}).axes[0].get_legend().get_texts()]
    assert ("fewer than 30 decisions" in texts) is hollow


@pytest.mark.parametrize("counts", [[0], [0, 0], [7], [60, 90], [1, 3_000_000], [0, 13, 24, 326], []])
def test_an_axis_of_counts_holds_them_between_plain_numbers(counts):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    places = count_axis(axes, "x", counts)
    low, high = axes.get_xlim()
    assert ((low < places) & (places < high)).all()
    figure.draw_without_rendering()
    texts = [label.get_text() for label in axes.get_xticklabels(which="both") if label.get_text()]
    ticks = [0.5 if text == "0" else float(text.replace(",", "")) for text in texts]
    assert len(ticks) >= 2 and ticks == sorted(ticks) and low < ticks[0] and ticks[-1] < high
    if counts:
        assert ticks[0] <= places.min() and ticks[-1] >= places.max()


def test_legends_hide_no_data():
    pytest.importorskip("matplotlib")
    counts, generator = np.array([300, 40, 3, 0]), np.random.default_rng(0)
    scores, labels = generator.random((40, 4)), generator.integers(0, 2, (40, 4))
    for figure in (
        plot_f1_against_frequency({"zlpr": counts / 300, "reg": 1 - counts / 300}, counts),
        plot_reliability({"model": reliability_curve(scores, labels)}),
        plot_precision_recall(scores, labels, counts),
        plot_label_counts({"train": counts, "test": counts // 3}),
    ):
        figure.draw_without_rendering()
        (axes,) = figure.axes
        assert not axes.get_legend().get_window_extent().overlaps(axes.get_window_extent().shrunk(0.99, 0.99))


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plots need matplotlib: pip install 'hf-mlcl\[plots\]'"):
        plot_f1_against_frequency({"reg": [0.5]}, [3])
