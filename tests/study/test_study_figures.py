"""The figures of a study: the same row looks the same in each, and no name takes the place of the data."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex

from hf_mlcl.study.figures import MOST_LINES, plot_frequency, plot_ranks, plot_scores, row_styles
from hf_mlcl.study.plan import FROZEN, SVM
from hf_mlcl.study.statistics import ranks

ROWS = [*(f"row {number}" for number in range(12)), FROZEN, SVM, "a name of a row that is as long as a line of text"]


def looks(figure):
    """Name -> (colour, marker) of every row in the legend."""
    handles, names = figure.axes[0].get_legend_handles_labels()
    lines = [getattr(handle, "lines", [handle])[0] for handle in handles]
    return {name: (to_hex(line.get_color()), line.get_marker()) for name, line in zip(names, lines, strict=True)}


def test_a_row_has_the_same_look_in_every_figure_and_no_other_has_it():
    styles = row_styles(ROWS)
    counts, orders = np.array([1, 5, 30, 200]), (ROWS, ROWS[::-1])
    summaries = [
        pd.DataFrame({"row": rows, "map": 0.5, "macro_f1": 0.4, "map_sd": 0.1, "macro_f1_sd": 0.1}) for rows in orders
    ]
    drawn = [plot_scores(summary, styles) for summary in summaries]
    drawn += [plot_frequency(dict.fromkeys(rows, (counts, counts / 400)), list(rows), styles) for rows in orders]
    for figure in drawn:
        figure.draw_without_rendering()
        assert figure.axes[0].bbox.width > figure.bbox.width / 2
    seen = [looks(figure) for figure in drawn]
    assert set(seen[0]) == set(ROWS) and len(set(seen[0].values())) == len(ROWS)
    for other in seen[1:]:
        assert all(seen[0][name] == look for name, look in other.items())
    assert len({seen[0][row][0] for row in ROWS[:MOST_LINES]}) == MOST_LINES  # the best have a colour each


def test_ranks_are_told_apart_without_colours():
    pytest.importorskip("scikit_posthocs")
    means = pd.DataFrame(np.random.default_rng(0).random((6, 4)), columns=["reg", "zlpr", "default", FROZEN])
    figure = plot_ranks(ranks(means))
    lines = {to_hex(line.get_color()) for line in figure.axes[0].lines}
    assert lines == {"#000000"} and {text.get_color() for text in figure.axes[0].texts} <= {"black", "#000000"}


def test_names_are_shown_as_they_are():
    pytest.importorskip("scikit_posthocs")
    names = ["_own", "$x^$ and $y", "a_b"]
    summary = pd.DataFrame({"row": names, "map": 0.5, "macro_f1": 0.4, "map_sd": 0.1, "macro_f1_sd": 0.1})
    figure = plot_scores(summary, row_styles(names))
    figure.draw_without_rendering()
    shown = [text.get_text().strip().replace("\n", " ") for text in figure.axes[0].get_legend().get_texts()]
    assert shown == names
    plot_ranks(ranks(pd.DataFrame(np.random.default_rng(0).random((6, 3)), columns=names))).draw_without_rendering()
