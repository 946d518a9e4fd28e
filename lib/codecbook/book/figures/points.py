"""The values that a figure draws, with their places on it, for a reader who points at them."""

import html
import json
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter, StrCategoryLocator
from matplotlib.collections import LineCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from codecbook.book.figures.style import PERCENT

MOST_POINTS = 1500  # of a figure; what draws more is a texture, and no points to read


def attribute(figure: Figure) -> str:
    """Return ``data-points='...'`` of a figure that was drawn, empty where there is nothing to point at.

    The JSON is a list of ``{"name", "x", "y", "points"}``, a series each with the labels of its axes; a point is its
    place in 1/10,000 of the figure from the left and the top, and its two values as text.
    """
    found = [series for axes in figure.axes for series in (*_lines(axes), *_bars(axes)) if series["points"]]
    if not 0 < sum(len(series["points"]) for series in found) <= MOST_POINTS:
        return ""
    return f' data-points="{html.escape(json.dumps(found, ensure_ascii=False, separators=(",", ":")))}"'


def _lines(axes: Axes) -> list[dict[str, Any]]:
    """Return the labelled lines of some axes; a vertical or horizontal line through a point is its interval."""
    segments = [
        np.asarray(segment)
        for drawn in axes.collections
        if isinstance(drawn, LineCollection)
        for segment in drawn.get_segments()
        if len(segment) == 2
    ]
    found = []
    labels = {bars[0]: str(bars.get_label()) for bars in axes.containers if not isinstance(bars, BarContainer)}
    for line in axes.get_lines():
        name = labels.get(line, str(line.get_label()))
        if name.startswith("_") or line.get_transform() != axes.transData:
            continue  # ends of intervals, guides
        points = []
        for point in np.asarray(line.get_xydata(), dtype=float):
            texts = [_text(axis, point, i, segments) for i, axis in enumerate((axes.xaxis, axes.yaxis))]
            points.append([*_place(axes, point), *texts])
        found.append(_series(axes, name, points))
    return found


def _bars(axes: Axes) -> list[dict[str, Any]]:
    """Return the bars of some axes, each with its own length and at its own end."""
    found = []
    for bars in axes.containers:
        if not isinstance(bars, BarContainer):
            continue
        along = int(bars.orientation == "vertical")
        points = []
        for bar, value in zip(bars, np.asarray(bars.datavalues), strict=True):
            ends, middle = bar.get_bbox().max, bar.get_bbox().get_points().mean(axis=0)
            point = np.where(np.arange(2) == along, ends, middle)
            shown = np.where(np.arange(2) == along, value, middle)
            texts = [_text(axis, shown, i, []) for i, axis in enumerate((axes.xaxis, axes.yaxis))]
            points.append([*_place(axes, point), *texts])
        name = str(bars.get_label())
        found.append(_series(axes, "" if name.startswith("_") else name, points))
    return found


def _series(axes: Axes, name: str, points: list[list]) -> dict[str, Any]:
    return {
        "name": " ".join(name.split()),
        "x": axes.get_xlabel(),
        "y": axes.get_ylabel(),
        "points": [point for point in points if point[0] is not None],
    }


def _place(axes: Axes, point: np.ndarray) -> list[int | None]:
    """Return a place on the whole figure, None where it is outside the axes."""
    x, y = axes.transAxes.inverted().transform(axes.transData.transform(point))
    if not (-0.01 <= x <= 1.01 and -0.01 <= y <= 1.01):  # NaN is outside too
        return [None, None]
    box = axes.get_position()
    return [round(1e4 * (box.x0 + x * box.width)), round(1e4 * (1 - box.y0 - y * box.height))]


def _text(axis: Axis, point: np.ndarray, i: int, segments: list[np.ndarray]) -> str:
    """Return a point's value on one axis as its ticks would say it, and its interval."""
    value, formatter = point[i], axis.get_major_formatter()
    named = isinstance(axis.get_major_locator(), FixedLocator | StrCategoryLocator)
    if named and isinstance(formatter, FuncFormatter | StrCategoryFormatter):
        ticks = np.asarray(axis.get_majorticklocs(), dtype=float)
        names = formatter.format_ticks(ticks.tolist())  # drawn labels would be missing where panels share an axis
        return " ".join(names[int(np.argmin(np.abs(ticks - value)))].split())

    def word(number: float) -> str:
        return f"{100 * number:.4g} %" if formatter is PERCENT else f"{number:.4g}"

    for ends in segments:
        low, high = sorted(ends[:, i])
        if low < value < high and np.abs(ends[:, 1 - i] - point[1 - i]).max() < 1e-9:
            return f"{word(value)} [{word(low)}, {word(high)}]".replace("-", "\u2212")
    return word(value).replace("-", "\u2212")
