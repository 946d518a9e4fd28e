"""Rates: against quality with intervals, and on an axis of decades, one line a stream."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from codecbook.book.figures.style import BLUE, INK, LINES, MARKERS, MUTED, PALETTE, SURFACE, new_figure
from codecbook.book.labels import axis_label
from codecbook.errors import UnsupportedInput


def rate_quality(
    table: pd.DataFrame, x: str, y: str, series: str, low: str | None = None, high: str | None = None
) -> Figure:
    """Draw one line per series, of six at most, with an interval at every point, which is a row of the table.

    All else are names of columns: of the axes, whose labels they become (``bitrate_kbps``: "Bitrate (kbps)"), of what
    tells lines apart, and of the intervals' ends, None for no intervals.
    """
    groups = list(table.groupby(series, sort=False))
    if not 1 <= len(groups) <= len(PALETTE):
        raise UnsupportedInput(f"{len(groups)} series cannot be told apart; draw 1 to {len(PALETTE)}.")
    with new_figure(7.2, 3.6) as figure:
        axes = figure.subplots()
        for i, (name, group) in enumerate(groups):
            line(axes, i, str(name), group.sort_values(x), x, y, low, high)
        axes.set(xlabel=axis_label(x), ylabel=axis_label(y))
        axes.margins(x=0.04, y=0.08)
        if len(groups) > 1 or str(groups[0][0]):
            figure.legend(loc="outside upper left", ncols=min(3, len(groups)))
    return figure


def line(
    axes: Axes, i: int, name: str, points: pd.DataFrame, x: str, y: str, low: str | None = None, high: str | None = None
) -> None:
    """Draw the i-th series of some axes, a point a row in their order, with intervals where their ends are named."""
    color, other = PALETTE[i % len(PALETTE)], (i + i // len(PALETTE)) % len(PALETTE)  # a colour's second line is dashed
    axes.plot(
        points[x], points[y], color=color, marker=MARKERS[other], markersize=5, linestyle=LINES[other], label=name
    )
    if low is not None and high is not None:
        # drawn from end to end, as an interval need not be symmetric
        axes.vlines(points[x], points[low], points[high], color=color, linewidth=1.2)
        axes.plot(points[x], points[[low, high]], color=color, marker="_", linestyle="none")


def stream_dots(ours: pd.DataFrame, published: pd.DataFrame, value: str, capacity: str, label: str) -> Figure:
    """Draw one dot per stream on a logarithmic axis labelled `label`: ours, and below them what others published.

    Tables have a row per ``stream``, and columns that are named for the dots (`value`) and for the most that they could
    be (`capacity`, a tick at the end of a thin line); ours has the ends of intervals too (``_low`` and ``_high`` of
    `value`). Published dots are hollow.
    """
    names = [*ours["stream"], *published["stream"]]
    with new_figure(7.2, 1.1 + 0.27 * len(names)) as figure:
        axes = figure.subplots()
        axes.hlines(range(len(ours)), ours[f"{value}_low"], ours[f"{value}_high"], color=INK, linewidth=2.4)
        for whose, table, start, color, fill in (
            ("ours", ours, 0, BLUE, BLUE), ("published", published, len(ours), MUTED, SURFACE)
        ):  # fmt: skip
            places = start + np.arange(len(table))
            axes.hlines(places, table[value], table[capacity], color=color, linewidth=0.9)
            axes.plot(table[capacity], places, "|", color=color, markersize=9, label=f"capacity, {whose}")
            axes.plot(
                table[value], places, "o", color=color, markersize=7, markeredgewidth=1.4, markerfacecolor=fill,
                label=whose,
            )  # fmt: skip
        axes.axhline(len(ours) - 0.5, color=MUTED, linewidth=0.8)
        axes.set(xscale="log", xlabel=label, ylim=(len(names) - 0.4, -0.6))
        axes.set_yticks(range(len(names)), names)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}".replace(",", " ")))
        axes.xaxis.set_minor_formatter(NullFormatter())
        figure.legend(loc="outside upper left", ncols=4)
    return figure


def level_bars(table: pd.DataFrame, value: str, label: str) -> Figure:
    """Draw a bar per stream, cut into its levels from the coarsest on.

    The table has a row per ``stream`` and ``level`` (numbers, 0 first), in order, with lengths `value`, which add up.
    """
    names = list(dict.fromkeys(table["stream"]))
    with new_figure(7.2, 1.1 + 0.34 * len(names)) as figure:
        axes = figure.subplots()
        reached = np.zeros(len(names))
        for i, (number, group) in enumerate(table.groupby("level", sort=True)):
            places = np.array([names.index(name) for name in group["stream"]])
            axes.barh(
                places, group[value], left=reached[places], height=0.66, color=PALETTE[i % len(PALETTE)],
                edgecolor=SURFACE, label=f"level {number}",
            )  # fmt: skip
            reached[places] += group[value].to_numpy()
        axes.set(xlabel=label, ylim=(len(names) - 0.4, -0.6))
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", ncols=4)
    return figure
