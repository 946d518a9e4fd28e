"""Figures of the determinism matrix: the outcome of every cell, when segments part, the rule of rounding."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from codecbook.book.figures.style import BLUE, GRID, INK, MARKERS, MUTED, PALETTE, RED, SURFACE, new_figure

# outcome: fill, ink on it, symbol, words; colours of Okabe and Ito, and each outcome has a symbol of its own
_OUTCOMES = {
    "same": (BLUE, SURFACE, "=", "same in every bit"),
    "close": ("#56b4e9", "#1b1b1b", "≈", "other logits or samples, same CDFs or tokens"),
    "differs": ("#e69f00", "#1b1b1b", "≠", "CDF rows differ, all decodes right; a codec: tokens differ (how many)"),
    "breaks": (RED, SURFACE, "✗", "segments decode wrongly (how many of all)"),
    "skipped": (GRID, MUTED, "·", "not run"),
    "failed": ("#cc79a7", "#1b1b1b", "!", "crashed or timed out"),
}
_UNGROUPED = "others"


def outcome_matrix(table: pd.DataFrame, titles: Mapping[str, str], groups: Mapping[str, str]) -> Figure:
    """Draw one tile per coder (columns) and cell (rows): colour, symbol, and how many segments decode wrongly.

    Args:
        table: `codecbook.probes.determinism.matrix.tabulate`, `tabulate_codec`, or both.
        titles: What to call each coder, in their order; coders that are not named are left out.
        groups: Title of the group that each cell belongs to. Groups stand in the order in which they appear in it;
            cells that it lacks come last.
    """
    shown = table.loc[table["coder"].isin(list(titles))]
    cells = list(dict.fromkeys(shown["cell"]))
    places, headings, y = {}, {}, 0.0
    for title in [*dict.fromkeys(groups.values()), _UNGROUPED]:
        members = [cell for cell in cells if groups.get(cell, _UNGROUPED) == title]
        if members:
            headings[y] = title
            places |= {cell: y + 1.0 + i for i, cell in enumerate(members)}
            y += len(members) + 1.25
    with new_figure(1.8 + 0.76 * len(titles), 2.4 + 0.235 * y) as figure:
        axes = figure.subplots()
        for row in shown.to_dict("records"):
            _tile(axes, row, list(titles).index(row["coder"]), places[row["cell"]])
        for place, title in headings.items():
            axes.axhline(place - 0.55, color=GRID, linewidth=0.8)
            axes.text(-0.46, place + 0.05, title, fontsize=9, fontweight="bold", color=INK, va="center")
        axes.set(xlim=(-0.5, len(titles) - 0.5), ylim=(y - 0.5, -0.6))
        words = [textwrap.fill(title, 12, break_long_words=False) for title in titles.values()]
        axes.set_xticks(range(len(titles)), words, fontsize=8.5)
        axes.set_yticks(list(places.values()), list(places))
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        present = [name for name in _OUTCOMES if name in set(shown["outcome"])]
        handles = [Rectangle((0, 0), 1, 1, color=_OUTCOMES[name][0]) for name in present]
        words = [f"{_OUTCOMES[name][2]}  {_OUTCOMES[name][3]}" for name in present]
        columns = 1 if figure.get_figwidth() < 6 else 2
        figure.legend(handles, words, loc="outside upper left", ncols=columns, handlelength=1.2)
    return figure


def _tile(axes: Axes, row: Mapping[Any, Any], x: float, y: float) -> None:
    fill, ink, text, _ = _OUTCOMES[row["outcome"]]
    axes.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, color=fill, linewidth=0))
    if row["outcome"] == "breaks":
        text += f" {row['segments_wrong']:.0f}/{row['segments']:.0f}"
    if row.get("tokens_differing", 0) > 0:
        text += f" {row['tokens_differing']:.0f}"
    axes.text(x, y, text, color=ink, ha="center", va="center_baseline", fontsize=8.5, fontweight="bold")


def rounding_law(points: pd.DataFrame) -> Figure:
    """Draw mismatches, ``measured_ppm`` of a ``series``, against the law ``expected_ppm = 1e6 E|d| / step``.

    Both axes are of decades; points without a mismatch are left out.
    """
    shown = points[(points["measured_ppm"] > 0) & (points["expected_ppm"] > 0)]
    with new_figure(7.2, 4.0) as figure:
        axes = figure.subplots()
        ends = np.array([shown["expected_ppm"].min() / 2, shown["expected_ppm"].max() * 2])
        axes.plot(ends, ends, color=MUTED, linewidth=1, label="1e6 E|d| / step")
        for i, (name, rows) in enumerate(shown.groupby("series", sort=False)):
            axes.plot(
                rows["expected_ppm"], rows["measured_ppm"], MARKERS[i], color=PALETTE[i], markersize=5,
                markerfacecolor="none", label=str(name),
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="Expected: 1e6 E|d| / step (per million logits)")
        axes.set_ylabel("Measured (per million logits)")
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def divergence_timeline(rows: pd.DataFrame, num_frames: int, titles: Sequence[str]) -> Figure:
    """Draw, for every cell and coder, the frame in which each segment parts from the baseline.

    Args:
        rows: One row per cell, coder and segment: ``cell``, ``coder``, ``row_frame`` (the first differing CDF row) and
            ``token_frame`` (the first wrong token); -1 where there is none.
        num_frames: Length of a segment.
        titles: Coders, in the order of their panels.
    """
    cells = list(dict.fromkeys(rows["cell"]))
    with new_figure(7.2, 1.5 + 0.24 * len(cells)) as figure:
        panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
        for axes, title in zip(panels, titles, strict=True):
            part = rows[rows["coder"] == title]
            places = np.array([cells.index(cell) for cell in part["cell"]])
            axes.hlines(range(len(cells)), 0, num_frames, color=GRID, linewidth=0.8)
            for column, marker, color, shift, word in (
                ("row_frame", "o", BLUE, -0.13, "first CDF row that differs"),
                ("token_frame", "x", RED, 0.13, "first wrong token"),
            ):
                frames = np.asarray(part[column], dtype=float)
                there = frames >= 0
                axes.plot(
                    frames[there], places[there] + shift, marker, color=color, markersize=4.5,
                    markerfacecolor="none", linestyle="none", label=word,
                )  # fmt: skip
            axes.set(title=title, xlim=(-1, num_frames), ylim=(len(cells) - 0.5, -0.5), xlabel="Frame")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.grid(False)
        panels[0].set_yticks(range(len(cells)), cells, color=INK)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
    return figure
