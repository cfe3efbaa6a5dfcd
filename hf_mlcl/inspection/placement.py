"""Names beside the points of a picture, without overlap. Imports numpy; matplotlib through the figure it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DISTANCES = (0, 3, 7, 12, 19, 28, 40, 56)  # of a name from its point, in points of text beyond the gap
_ANGLES = np.arange(16) * np.pi / 8
_MOST_COVERED = 3  # further points that a name may hide where there is no free place


def name_points(
    figure: Figure,
    axes: Axes,
    points: Any,
    names: Sequence[str],
    *,
    size: float = 8,
    around: Any = None,
    gap: float = 4,
) -> list[int]:
    """Writes names beside points, the most important first, where they cover neither each other nor other points.

    Each name is tried around its point at growing distances, and joined to it by a thin line where it stands off,
    which crosses no other name; it is left out where no free place is near. Draws the figure once, since only then
    places are known: call it last.

    Args:
        points: (n, 2) in data units, finite.
        names: n names.
        size: of the text, in points.
        around: (m, 2) further points that names should not cover.
        gap: between a point and its name, in points.

    Returns:
        Indices of the names that were written.
    """
    if not len(names):
        return []
    places = np.asarray(points, dtype=np.float64).reshape(len(names), 2)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what is written from here on moves nothing
    canvas: Any = figure.canvas
    renderer, scale = canvas.get_renderer(), figure.dpi / 72
    own = axes.transData.transform(places) / scale
    more = own[:0] if around is None else axes.transData.transform(np.asarray(around, dtype=np.float64)) / scale
    search = _Search(np.asarray(axes.get_window_extent(renderer).extents) / scale, np.concatenate([own, more]))
    written = []
    for index, name in enumerate(names):
        text = axes.text(0, 0, name, fontsize=size)
        extent = text.get_window_extent(renderer)
        text.remove()
        centre = search.place(own[index], np.array([extent.width, extent.height]) / scale, gap)
        if centre is None:
            continue
        line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": gap / 2}
        axes.annotate(
            name,
            places[index],
            xytext=tuple(centre - own[index]),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            color=INK,
            zorder=7,
            path_effects=_halo(),
            arrowprops=line if search.stands_off else None,
        )
        written.append(index)
    return written


class _Search:
    """Free places in a panel, in points: boxes are (left, bottom, right, top)."""

    def __init__(self, inside: np.ndarray, marks: np.ndarray) -> None:
        self.inside, self.marks = inside, marks
        self.taken: list[np.ndarray] = []
        self.lines: list[np.ndarray] = []  # points on the lines that join names to their points
        self.stands_off = False

    def place(self, point: np.ndarray, extent: np.ndarray, gap: float) -> np.ndarray | None:
        """Takes the nearest place for a name of that extent (2,) and returns its centre; None where there is none."""
        best: tuple[int, int, np.ndarray] | None = None
        for distance in _DISTANCES:
            for angle in _ANGLES:
                centre = point + np.array([np.cos(angle), np.sin(angle)]) * (gap + distance + extent / 2)
                box = np.concatenate([centre - extent / 2 - (1, 0), centre + extent / 2 + (1, 0)])
                if not self._free(point, centre, box):
                    continue
                covered = int(_inside(self.marks, box, 3.5).sum())
                if best is None or covered < best[0]:
                    best = covered, distance, centre
            if best is not None and best[0] == 0:
                break
        if best is None or best[0] > _MOST_COVERED:
            return None
        _, distance, centre = best
        self.stands_off = distance > 3
        self.taken.append(np.concatenate([centre - extent / 2 - (1, 0), centre + extent / 2 + (1, 0)]))
        if self.stands_off:
            self.lines.append(_line(point, centre))
        return centre

    def _free(self, point: np.ndarray, centre: np.ndarray, box: np.ndarray) -> bool:
        if (box[:2] < self.inside[:2]).any() or (box[2:] > self.inside[2:]).any():
            return False
        line = _line(point, centre)
        for other in self.taken:
            if (box[:2] < other[2:]).all() and (other[:2] < box[2:]).all():
                return False
            if _inside(line, other, 0).any():
                return False
        return not any(_inside(other, box, 0).any() for other in self.lines)


def _line(point: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return point + (centre - point) * np.linspace(0, 1, 24)[:, None]


def _inside(points: np.ndarray, box: np.ndarray, margin: float) -> Any:
    return np.all((points > box[:2] - margin) & (points < box[2:] + margin), axis=1)


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.2, foreground=PAPER)]
