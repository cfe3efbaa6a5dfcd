"""The figures of a study: the same row looks the same in each, and no name takes the place of the data."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex

from hf_mlcl.study.figures import MOST_LINES, plot_curves, plot_frequency, plot_ranks, plot_scores, row_styles
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
    # As in the table beside it, and off the lines.
    shown = sorted(text.get_text() for text in figure.axes[0].texts)
    assert all(text.endswith(") ") or text.startswith(" (") for text in shown)
    average = ranks(means).average
    assert {f"({rank:.2f})" for rank in average} == {text[text.index("(") : text.index(")") + 1] for text in shown}
    lines = {to_hex(line.get_color()) for line in figure.axes[0].lines}
    assert lines == {"#000000"} and {text.get_color() for text in figure.axes[0].texts} <= {"black", "#000000"}


def test_rows_of_one_colour_have_different_lines_and_the_baselines_different_markers():
    styles = row_styles(ROWS)
    lines = {(style["color"], style["linestyle"]) for style in styles.values()}
    assert len(lines) == len(ROWS) and styles[FROZEN]["marker"] != styles[SVM]["marker"]


def test_only_the_baselines_are_grey_and_protocols_have_markers_of_their_own():
    rows = ["encoder as it is but tuned", FROZEN, f"{FROZEN} (logistic regression)", f"{FROZEN} (study)"]
    tuned, *frozen = map(row_styles(rows).get, rows)
    assert tuned["color"] not in {style["color"] for style in frozen}
    assert frozen[1]["color"] == frozen[2]["color"] and frozen[1]["marker"] != frozen[2]["marker"]


def test_ranks_of_rows_that_all_tie_are_drawn():
    pytest.importorskip("scikit_posthocs")
    plot_ranks(ranks(pd.DataFrame(0.5, index=range(3), columns=list("abc")))).draw_without_rendering()


def test_curves_have_whole_numbers_below_and_whole_arguments_beside():
    rows = ["zlpr, learning_rate=0.0003, classification_weight=0.5", FROZEN]
    lines = pd.DataFrame(
        [(row, share, int(share * 2_000_000), 1000, share) for row in rows for share in (0.1, 1.0)],
        columns=["row", "fraction", "train_examples", "labels", "macro_f1"],
    )
    axes = plot_curves(lines, "train_examples", "training examples", row_styles(rows)).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["200,000", "2,000,000"]
    assert "\nclassification_weight=0.5" in axes.get_legend().get_texts()[0].get_text()


def test_names_are_shown_as_they_are():
    pytest.importorskip("scikit_posthocs")
    names = ["_own", "$x^$ and $y", "a_b"]
    summary = pd.DataFrame({"row": names, "map": 0.5, "macro_f1": 0.4, "map_sd": 0.1, "macro_f1_sd": 0.1})
    figure = plot_scores(summary, row_styles(names))
    figure.draw_without_rendering()
    shown = [text.get_text().strip().replace("\n", " ") for text in figure.axes[0].get_legend().get_texts()]
    assert shown == names
    plot_ranks(ranks(pd.DataFrame(np.random.default_rng(0).random((6, 3)), columns=names))).draw_without_rendering()
