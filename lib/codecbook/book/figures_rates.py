"""Rate against quality, with intervals."""

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from codecbook.book.figures_style import LINES, MARKERS, PALETTE, RC, axis_label, cycle, new_figure
from codecbook.errors import UnsupportedInput


def rate_quality(
    table: pd.DataFrame, x: str, y: str, series: str, low: str | None = None, high: str | None = None
) -> Figure:
    """Draw one line per series with an interval at every point.

    Args:
        table: One row per point.
        x: Column of the horizontal axis; its name becomes the label (``bitrate_kbps``: "Bitrate (kbps)").
        y: Column of the vertical axis.
        series: Column that tells lines apart; at most six lines are told apart by colour, marker and stroke.
        low: Column of the interval's lower end, None for no intervals.
        high: Column of its upper end; given with `low`.

    Raises:
        UnsupportedInput: A column is missing, only one end of the interval is given, or more than six series.
    """
    wanted = [x, y, series, *(name for name in (low, high) if name is not None)]
    missing = [name for name in wanted if name not in table.columns]
    if missing or (low is None) != (high is None):
        raise UnsupportedInput(
            f"Columns {missing or [low, high]} are missing or incomplete; the table has {list(table.columns)}. Name "
            "existing columns, and both ends of the interval or neither."
        )
    groups = list(table.groupby(series, sort=False))
    if not 1 <= len(groups) <= len(PALETTE):
        raise UnsupportedInput(
            f"{len(groups)} series cannot be told apart; draw 1 to {len(PALETTE)}, the rest in a second figure."
        )
    with mpl.rc_context(RC):
        figure = new_figure(7.2, 3.6)
        axes = figure.subplots()
        for i, (name, group) in enumerate(groups):
            points = group.sort_values(x)
            color = cycle(PALETTE, i)
            axes.plot(
                points[x], points[y], color=color, marker=cycle(MARKERS, i), markersize=5,
                linestyle=cycle(LINES, i), label=str(name),
            )  # fmt: skip
            if low is not None and high is not None:
                # drawn from end to end, as a bootstrap interval need not contain the point
                axes.vlines(points[x], points[low], points[high], color=color, linewidth=1.2)
                axes.plot(points[x], points[low], color=color, marker="_", linestyle="none")
                axes.plot(points[x], points[high], color=color, marker="_", linestyle="none")
        axes.set(xlabel=axis_label(x), ylabel=axis_label(y))
        axes.margins(x=0.04, y=0.08)
        if len(groups) > 1 or str(groups[0][0]):
            figure.legend(loc="outside upper left", ncols=min(3, len(groups)))
    return figure
