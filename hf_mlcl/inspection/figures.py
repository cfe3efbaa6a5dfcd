"""What all pictures share: inks, and a figure that belongs to its caller. Imports matplotlib when a figure is made.

There is no pyplot and no global state: every `plot_...` function returns a `matplotlib.figure.Figure`, which a
notebook shows and `figure.savefig` writes.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from hf_mlcl.data.errors import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, MUTED, FAINT, POINT = "#ffffff", "#1b1f24", "#59636e", "#d8dde3", "#9aa5b1"
# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
COLOURS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)
# Shapes as well as colours, for readers who see no colours at all.
MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH = 8.6  # inches, of every picture: they stand below each other in one report


def require_matplotlib() -> None:
    """Raises ImportError, which says what to install, where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'hf-mlcl[plots]'") from None


def new_figure(
    height: float, rows: int = 1, columns: int = 1, *, title: str, note: str = "", **options: Any
) -> tuple[Figure, Any]:
    """A figure with its finding as the title, a note of what is shown below it, and panels; the panels as an array.

    Args:
        height: of the panels, in inches; title and note come on top.
        rows, columns: of panels.
        title, note: wrapped to the width.
        **options: for `Figure.subplots`.

    Raises:
        ImportError: matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    titles, notes = textwrap.wrap(title, 92), textwrap.wrap(note, 128)
    above = 0.06 + 0.2 * len(titles) + 0.165 * len(notes) + 0.06
    total = height + above
    figure = Figure(figsize=(WIDTH, total), dpi=150)
    FigureCanvasAgg(figure)  # measures text for `name_points`
    figure.set_layout_engine("constrained", rect=(0, 0, 1, height / total))
    figure.text(0.006, 1 - 0.06 / total, "\n".join(titles), va="top", fontsize=11.5, fontweight="bold", color=INK)
    below = 0.06 + 0.2 * len(titles)
    figure.text(0.006, 1 - below / total, "\n".join(notes), va="top", fontsize=9, color=MUTED)
    panels = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in panels.flat:
        plain(axes)
    return figure, panels


def plain(axes: Axes) -> None:
    """Takes from a panel what carries no information, and gives its text the inks of the report."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=8.5)
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set_color(INK)
        label.set_fontsize(9)


def heading(axes: Axes, text: str) -> None:
    """A panel's own heading, above its left edge."""
    axes.set_title(text, loc="left", fontsize=9, color=INK, fontweight="bold")


def key(axes: Axes, **options: Any) -> None:
    """The legend of a panel, in the inks of the report."""
    axes.legend(**({"frameon": False, "fontsize": 8.5, "labelcolor": INK} | options))


def cut(name: Any, limit: int) -> str:
    """A name on one line of so many characters."""
    text = printable(" ".join(str(name).split()))
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def short(name: Any, limit: int = 26) -> str:
    """A name that fits beside an axis, as matplotlib takes it: between two dollars it would set formulas."""
    return cut(name, limit).replace("$", r"\$")


def percent(share: float, digits: int = 0) -> str:
    """0.25 -> "25 %", with a space that no line break parts."""
    return f"{100 * share:.{digits}f}\u00a0%"


def rounded(number: float) -> str:
    """A number of things that need not be whole: 0.4, 9.6, 25."""
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def plain_ticks(axes: Axes) -> None:
    """Numbers such as 10 and 1,000 on a logarithmic x axis, instead of powers."""
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")


def plural(number: int, noun: str) -> str:
    """ "1 label", "2 labels"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
