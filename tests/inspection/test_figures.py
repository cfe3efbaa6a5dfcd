import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from made_up import batches_of, made_up  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from hf_mlcl import build_loss  # noqa: E402
from hf_mlcl.inspection import (  # noqa: E402
    confusions,
    frequency_groups,
    inspect_outputs,
    pair_gradients,
    plot_confusions,
    plot_force_parts,
    plot_forces_by_similarity,
    plot_pairs,
    sample_pairs,
    summarise_gradients,
)
from hf_mlcl.inspection.figures import new_figure, percent, plural, rounded, short  # noqa: E402
from hf_mlcl.inspection.placement import name_points  # noqa: E402
from hf_mlcl.losses import CONTRASTIVE_LOSSES  # noqa: E402


def named_boxes(figure, axes):
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in axes.texts]


def test_names_cover_neither_each_other_nor_points():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 2))
    figure, ((axes,),) = new_figure(3, title="a title")
    axes.scatter(*points.T)
    written = name_points(figure, axes, points, [f"name {index}" for index in range(40)])
    boxes = named_boxes(figure, axes)
    assert len(written) == len(boxes) > 15 and written == sorted(written)
    inside = axes.get_window_extent()
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1


def test_names_without_room_are_left_out_last_first():
    figure, ((axes,),) = new_figure(1, title="a title")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    written = name_points(figure, axes, np.full((60, 2), 0.5), ["a long name that takes room"] * 60)
    assert written and written == list(range(len(written))) and len(written) < 60
    assert name_points(figure, axes, np.empty((0, 2)), []) == []


def test_every_picture_is_a_figure_with_a_finding_as_title():
    config, outputs, labels = made_up()
    found = inspect_outputs(config, outputs, labels, batches_of(outputs, labels))
    names = "hardest_labels f1_by_frequency confusions co_predictions purity similarities map_pca map_tsne label_maps"
    assert set(found.figures) == {*names.split(), "pairs", "forces_by_similarity", "force_parts"}
    for name, figure in found.figures.items():
        assert isinstance(figure, Figure)
        figure.draw_without_rendering()
        title = figure.texts[0]
        right = title.get_window_extent().x1
        assert title.get_text() and right <= figure.bbox.x1, name
        for axes in figure.axes:  # what is drawn has named axes
            if axes.get_visible() and name != "label_maps":
                assert axes.get_xlabel() or axes.get_shared_x_axes().get_siblings(axes)[-1] is not axes, name


@pytest.mark.parametrize("name", CONTRASTIVE_LOSSES)
def test_the_forces_of_every_loss_are_drawn(name):
    _, outputs, labels = made_up(rows=24, unknown=0.1)
    tensors = (torch.as_tensor(array) for array in (outputs.embeddings, labels, outputs.prototypes))
    pairs = pair_gradients(build_loss(name), *tensors)
    summary = summarise_gradients([pairs], frequency_groups([200, 50, 50, 5, 5]))
    removes = summary["removes_repulsion"]
    for figure in (
        plot_pairs(sample_pairs(pairs), name, removes),
        plot_forces_by_similarity(summary, name),
        plot_force_parts(summary, name),
    ):
        figure.draw_without_rendering()
        assert removes == (name == "reg")
    drawn = sum(bar.get_width() for bar in figure.axes[0].patches if bar.get_width() > 0)
    expected = (summary["total"]["push"] + summary["total"]["repulsion"]) / summary["total"]["pull"]
    assert drawn == pytest.approx(100 * expected, abs=0.5)


def test_a_heat_map_shows_the_counts():
    predicted = np.array([[0, 1, 0]] * 6 + [[1, 0, 0]] * 6)
    truth = np.array([[1, 0, 0]] * 12)
    figure = plot_confusions(confusions(predicted, truth), ["first", "second", "third"])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["6"]
    assert "“first”" in figure.texts[0].get_text() and "6 of 6 cases" in figure.texts[0].get_text()
    nothing = plot_confusions(confusions(truth, truth), ["first", "second", "third"])
    assert "No label" in nothing.texts[0].get_text()


@pytest.mark.slow
def test_nothing_touches_pyplot_or_global_settings():
    code = (
        "import sys, matplotlib; before = dict(matplotlib.rcParams);"
        "sys.path.insert(0, sys.argv[1]); from made_up import made_up, batches_of;"
        "from hf_mlcl.inspection import inspect_outputs; from hf_mlcl.inspection.page import picture;"
        "config, outputs, labels = made_up(rows=20, labels=3);"
        "found = inspect_outputs(config, outputs, labels, batches_of(outputs, labels));"
        "picture(found.figures['purity'], 'purity');"
        "assert 'matplotlib.pyplot' not in sys.modules; assert dict(matplotlib.rcParams) == before"
    )
    folder = __file__.rpartition("/")[0]
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code, folder], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plots need matplotlib: pip install 'hf-mlcl\[plots\]'"):
        plot_confusions(confusions(np.ones((2, 2)), np.ones((2, 2))), ["a", "b"])


def test_words_for_numbers():
    assert (percent(0.256), percent(0.256, 1)) == ("26\u00a0%", "25.6\u00a0%")
    assert (plural(1, "label"), plural(1200, "label")) == ("1 label", "1,200 labels")
    assert (rounded(0.44), rounded(9.96), rounded(25.4)) == ("0.4", "10.0", "25")
    assert (short("a  name\nof words"), short("abcdefgh", 5)) == ("a name of words", "abcd…")
