"""Figures of a sweep: small multiples against an axis, and the frontier of two figures."""

import textwrap
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from codecbook.book.figures.rates import line
from codecbook.book.figures.style import BLUE, INK, MARKERS, MUTED, PALETTE, new_figure
from codecbook.book.labels import axis_label

_PANELS = 3  # side by side
_LABEL_CHARACTERS = 22  # as high as a panel


def small_multiples(
    table: pd.DataFrame, axis: str, values: Sequence[object], figures: Sequence[str], others: Sequence[str]
) -> Figure:
    """Draw figures against an axis, a panel a figure, a line for each combination of the other axes.

    The table has a row a point, with columns named for axes and figures, and for the ends of intervals (``_low`` and
    ``_high``) where there are any. The axis' values stand at equal distances, in their order, lines a little apart. Of
    more than six lines the mean is drawn over all of them.
    """
    named = [", ".join(f"{other} {row[other]}" for other in others) for row in table.to_dict("records")]
    table = table.assign(place=[float(values.index(value)) for value in table[axis]])
    groups = [*table.groupby(pd.Series(named, index=table.index), sort=False)]
    rows = -(-len(figures) // _PANELS)
    with new_figure(7.2, 0.6 + 2.5 * rows) as figure:
        panels = figure.subplots(rows, min(len(figures), _PANELS), squeeze=False).flat
        for name, axes in zip(figures, panels, strict=False):
            ends = (f"{name}_low", f"{name}_high") if f"{name}_low" in table else (None, None)
            for i, (label, group) in enumerate(groups):
                points = pd.DataFrame(group[group[name].notna()]).sort_values("place")
                if len(groups) <= len(PALETTE):
                    points["place"] += 0.08 * (i - (len(groups) - 1) / 2)
                    line(axes, i, str(label), points, "place", name, *ends)
                else:
                    axes.plot(points["place"], points[name], color=MUTED, linewidth=0.6)
            if len(groups) > len(PALETTE):
                means = pd.DataFrame(table.groupby("place", as_index=False)[[name]].mean())
                axes.plot(means["place"], means[name], color=BLUE, marker="o", label=f"mean of {len(groups)}")
            axes.xaxis.set_major_locator(FixedLocator(range(len(values))))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: str(values[round(place)])))
            axes.set(xlabel=axis, ylabel=textwrap.fill(axis_label(name), _LABEL_CHARACTERS))
            axes.set_xlim(-0.5, len(values) - 0.5)
        for empty in panels:
            empty.set_axis_off()
        _share_scales(dict(zip(figures, figure.axes, strict=False)))
        if others:
            figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def _share_scales(panels: Mapping[str, Axes]) -> None:
    """Give figures of the same name, of other scopes (``ours.stoi``, ``theirs.stoi``), the same scale."""
    for kind in {name.rpartition(".")[2] for name in panels}:
        alike = [axes for name, axes in panels.items() if name.rpartition(".")[2] == kind]
        ends = [end for axes in alike for end in axes.get_ylim()]
        for axes in alike:
            axes.set_ylim(min(ends), max(ends))


def frontier(table: pd.DataFrame, x: str, y: str, axes_names: Sequence[str]) -> Figure:
    """Draw two figures of all points against each other; those of the frontier are joined, and labelled by their axes.

    The table is that of `small_multiples`, with a column ``frontier`` of booleans. Colours tell the values of the first
    axis, where these are six at most.
    """
    first = axes_names[0]
    groups = [*table.groupby(first, observed=True)]
    groups = [(f"{first} {name}", rows) for name, rows in groups] if len(groups) <= len(PALETTE) else [("", table)]
    with new_figure(7.2, 4.2) as figure:
        axes = figure.subplots()
        best = pd.DataFrame(table[table.frontier]).sort_values(x)
        axes.plot(best[x], best[y], color=INK, linewidth=1, zorder=1)  # unlabelled: the points are read, not the line
        for i, (name, rows) in enumerate(groups):
            style = {"color": PALETTE[i], "linewidth": 1.2}
            if f"{y}_low" in rows:
                axes.vlines(rows[x], rows[f"{y}_low"], rows[f"{y}_high"], **style)
            if f"{x}_low" in rows:
                axes.hlines(rows[y], rows[f"{x}_low"], rows[f"{x}_high"], **style)
            axes.plot(rows[x], rows[y], linestyle="none", marker=MARKERS[i], color=PALETTE[i], label=name or "points")
        for row in best.to_dict("records"):
            text = ", ".join(str(row[name]) for name in axes_names)
            axes.annotate(text, (row[x], row[y]), (5, 5), textcoords="offset points", fontsize=8, color=INK)
        axes.set(xlabel=axis_label(x), ylabel=axis_label(y))
        axes.margins(x=0.08, y=0.08)
        if len(groups) > 1:
            figure.legend(loc="outside upper left", ncols=3)
    return figure
