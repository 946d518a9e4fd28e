"""Figures of the determinism matrix: outcomes, how often decodes fail and when, the rule of rounding, what is heard."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from codecbook.audio import Clip
from codecbook.book.figures.audio import waveforms
from codecbook.book.figures.style import (
    BLUE,
    GRID,
    INK,
    LINES,
    MARKERS,
    MUTED,
    PALETTE,
    RC,
    RED,
    SURFACE,
    cycle,
    new_figure,
)
from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.failures import POOLED

# outcome: fill, ink on it, symbol, words; colours of Okabe and Ito, and each outcome has a symbol of its own
_OUTCOMES = {
    "same": (BLUE, SURFACE, "=", "same logits in every bit"),
    "close": ("#56b4e9", "#1b1b1b", "≈", "other logits, same CDFs on these tokens"),
    "differs": ("#e69f00", "#1b1b1b", "≠", "CDF rows differ, all decodes right"),
    "breaks": (RED, SURFACE, "✗", "segments decode wrongly (how many of all)"),
    "skipped": (GRID, MUTED, "·", "not run"),
    "failed": ("#cc79a7", "#1b1b1b", "!", "crashed or timed out"),
}
_MOST_COLUMNS = 14
_LOG_BELOW = 0.02  # a share that small cannot be told from 0 on a linear axis
_UNGROUPED = "others"


def outcome_matrix(table: pd.DataFrame, titles: Mapping[str, str], groups: Mapping[str, str] | None = None) -> Figure:
    """Draw one tile per coder and cell: colour, symbol, and how many segments decode wrongly.

    Up to 14 cells stand side by side, as columns. More of them become rows, with the coders as columns and a heading
    over each group.

    Args:
        table: `codecbook.probes.determinism.tabulate`.
        titles: What to call each coder, in their order; coders that are not named are left out.
        groups: Title of the group that each cell belongs to. Groups stand in the order in which they appear in it;
            cells that it lacks come last. None leaves the cells in the table's order.

    Raises:
        UnsupportedInput: No rows, or an outcome that has no symbol.
    """
    unknown = set(table["outcome"]) - set(_OUTCOMES)
    if table.empty or unknown or not titles:
        raise UnsupportedInput(
            f"The table has {len(table)} rows and outcomes {unknown}, for {len(titles)} coders; give what tabulate "
            "returns."
        )
    shown = table.loc[table["coder"].isin(list(titles))]
    grouped = _grouped(list(dict.fromkeys(shown["cell"])), groups)
    with mpl.rc_context(RC):
        if sum(map(len, grouped.values())) > _MOST_COLUMNS:
            figure = _cells_as_rows(shown, titles, grouped)
        else:
            figure = _cells_as_columns(shown, titles, grouped)
        present = [name for name in _OUTCOMES if name in set(shown["outcome"])]
        handles = [Rectangle((0, 0), 1, 1, color=_OUTCOMES[name][0]) for name in present]
        words = [f"{_OUTCOMES[name][2]}  {_OUTCOMES[name][3]}" for name in present]
        columns = 1 if figure.get_figwidth() < 6 else 2
        figure.legend(handles, words, loc="outside upper left", ncols=columns, handlelength=1.2)
    return figure


def _grouped(cells: list[str], groups: Mapping[str, str] | None) -> dict[str, list[str]]:
    """Return cells by the title of their group; one group without a title where none are given."""
    if groups is None:
        return {"": cells}
    order = [*dict.fromkeys(groups.values()), _UNGROUPED]
    found = {title: [cell for cell in cells if groups.get(cell, _UNGROUPED) == title] for title in order}
    return {title: members for title, members in found.items() if members}


def _cells_as_columns(table: pd.DataFrame, titles: Mapping[str, str], grouped: dict[str, list[str]]) -> Figure:
    cells = [cell for members in grouped.values() for cell in members]
    figure = new_figure(2.6 + 0.5 * len(cells), 2.4 + 0.42 * len(titles))
    axes = figure.subplots()
    for row in table.to_dict("records"):
        _tile(axes, row, cells.index(row["cell"]), list(titles).index(row["coder"]), "\n", 9.0)
    axes.set(xlim=(-0.5, len(cells) - 0.5), ylim=(len(titles) - 0.5, -0.5))
    for end in np.cumsum([len(members) for members in grouped.values()])[:-1]:
        axes.axvline(end - 0.5, color=MUTED, linewidth=0.8)
    axes.set_xticks(range(len(cells)), cells, rotation=40, ha="right")
    axes.set_yticks(range(len(titles)), list(titles.values()))
    _bare(axes)
    return figure


def _cells_as_rows(table: pd.DataFrame, titles: Mapping[str, str], grouped: dict[str, list[str]]) -> Figure:
    places, headings, y = {}, {}, 0.0
    for title, members in grouped.items():
        if title:
            headings[y], y = title, y + 1.0
        places |= {cell: y + i for i, cell in enumerate(members)}
        y += len(members) + 0.25 * bool(title)
    figure = new_figure(1.8 + 0.76 * len(titles), 2.4 + 0.235 * y)
    axes = figure.subplots()
    for row in table.to_dict("records"):
        _tile(axes, row, list(titles).index(row["coder"]), places[row["cell"]], " ", 8.5)
    for place, title in headings.items():
        axes.axhline(place - 0.55, color=GRID, linewidth=0.8)
        axes.text(-0.46, place + 0.05, title, fontsize=9, fontweight="bold", color=INK, va="center")
    axes.set(xlim=(-0.5, len(titles) - 0.5), ylim=(y - 0.5, -0.6))
    words = [textwrap.fill(title, 12, break_long_words=False) for title in titles.values()]
    axes.set_xticks(range(len(titles)), words, fontsize=8.5)
    axes.set_yticks(list(places.values()), list(places))
    axes.xaxis.tick_top()
    _bare(axes)
    return figure


def _tile(axes: Axes, row: Mapping[Any, Any], x: float, y: float, gap: str, size: float) -> None:
    fill, ink, symbol, _ = _OUTCOMES[row["outcome"]]
    axes.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, color=fill, linewidth=0))
    text = symbol
    if row["outcome"] == "breaks":
        text += f"{gap}{row['segments_wrong']:.0f}/{row['segments']:.0f}"
    axes.text(
        x, y, text, color=ink, ha="center", va="center_baseline", fontsize=size, fontweight="bold", linespacing=0.95
    )


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def rounding_law(points: pd.DataFrame) -> Figure:
    """Draw measured mismatches against the law ``ppm = 1e6 E|d| / step``, on axes of decades.

    Args:
        points: Columns ``series``, ``expected_ppm``, ``measured_ppm``; points without a mismatch are left out.

    Raises:
        UnsupportedInput: No point has a mismatch.
    """
    shown = points[(points["measured_ppm"] > 0) & (points["expected_ppm"] > 0)]
    if shown.empty:
        raise UnsupportedInput("No rounded logit differs in any cell, so there is nothing to draw.")
    with mpl.rc_context(RC):
        figure = new_figure(7.2, 4.0)
        axes = figure.subplots()
        ends = np.array([shown["expected_ppm"].min() / 2, shown["expected_ppm"].max() * 2])
        axes.plot(ends, ends, color=MUTED, linewidth=1, label="1e6 E|d| / step")
        for i, (name, rows) in enumerate(shown.groupby("series", sort=False)):
            axes.plot(
                rows["expected_ppm"], rows["measured_ppm"], cycle(MARKERS, i), color=cycle(PALETTE, i), markersize=5,
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

    Raises:
        UnsupportedInput: No rows.
    """
    if rows.empty:
        raise UnsupportedInput("There are no segments to draw.")
    cells = list(dict.fromkeys(rows["cell"]))
    with mpl.rc_context(RC):
        figure = new_figure(7.2, 1.5 + 0.24 * len(cells))
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


def failure_rates(rates: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw each coder's share of wrongly decoded segments with its interval, and the shares of its cells.

    A share of 0 is an arrowhead that points left from the upper end of its one-sided interval; a tick on the way there
    is that end if all decodes were independent. The axis is one of decades if a share is below 2 %; 0 then stands at
    its left end.

    Args:
        rates: `codecbook.probes.determinism.failures.failure_rates`.
        titles: What to call each coder, in the order of the rows.

    Raises:
        UnsupportedInput: None of these coders has a row.
    """
    shown = _of_coders(rates, titles)
    pooled = {row["coder"]: row for row in shown.to_dict("records") if row["cell"] == POOLED}
    ends = ("wrong_share", "wrong_share_low", "wrong_share_high", "wrong_share_high_if_independent")
    # what a log axis has to reach down to
    drawn = np.array([[row[name] for name in ends] for row in pooled.values()])
    shares = drawn[:, 0]
    in_decades = bool(((shares > 0) & (shares < _LOG_BELOW)).any())
    floor = drawn[drawn > 0].min() / 2 if in_decades else 0.0
    names = [name for name in titles if name in pooled]
    words = []
    with mpl.rc_context(RC):
        figure = new_figure(7.2, 1.0 + 0.52 * len(names))
        axes = figure.subplots()
        for y, name in enumerate(names):
            row = pooled[name]
            of_cells = (shown["coder"] == name) & (shown["cell"] != POOLED)
            each = np.array(shown.loc[of_cells, "wrong_share"])
            if row["cells"] > 1:
                axes.plot(
                    np.maximum(each, floor), _spread_out(each, y, 0.26), ".", color=MUTED, alpha=0.55, markersize=5,
                    linestyle="none", clip_on=False,
                )  # fmt: skip
            _interval(axes, row, y, floor)
            words.append(f"{titles[name]}\n{row['wrong']:.0f} of {row['decodes']:.0f} decodes")
        axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="Segments that decode wrongly")
        _share_axis(axes, floor)
        axes.set_yticks(range(len(names)), words)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        marks = [
            axes.plot([], [], "o-", color=RED)[0],
            axes.plot([], [], ".", color=MUTED, alpha=0.55, linestyle="none")[0],
            axes.plot([], [], "<-", color=BLUE)[0],
        ]
        labels = ["all cells, 95 % interval", "one cell", "none wrong: upper bound (tick: if decodes were independent)"]
        figure.legend(marks, labels, loc="outside upper left", ncols=2)
    return figure


def survival_curves(curves: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw the share of segments that still decode rightly against seconds of audio, one curve per coder.

    Args:
        curves: Columns ``coder``, ``time_s``, ``share``, ``low``, ``high``: the tables of
            `codecbook.probes.determinism.failures.survival`, one below the other.
        titles: What to call each coder, in the order of the legend.

    Raises:
        UnsupportedInput: None of these coders has a row.
    """
    shown = _of_coders(curves, titles)
    with mpl.rc_context(RC):
        figure = new_figure(7.2, 3.6)
        axes = figure.subplots()
        names = [name for name in titles if name in set(shown["coder"])]
        for i, name in enumerate(names):
            part = shown.loc[shown["coder"] == name]
            times, color = np.array(part["time_s"]), cycle(PALETTE, i)
            axes.fill_between(times, part["low"], part["high"], step="post", color=color, alpha=0.16, linewidth=0)
            # coders that never fail lie on one another: the ones below are drawn wider
            axes.step(
                times, part["share"], where="post", color=color, linestyle=cycle(LINES, i), label=titles[name],
                linewidth=1.6 + 0.9 * (len(names) - 1 - i) / max(len(names) - 1, 1), clip_on=False, zorder=3 + i,
            )  # fmt: skip
        axes.set(xlim=(0, shown["time_s"].max()), ylim=(0, 1.0), xlabel="Seconds since the segment began")
        axes.set_ylabel("Segments decoded rightly so far")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        figure.legend(loc="outside upper left", ncols=3, handlelength=3.2)
    return figure


def consequence_spread(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw what each wrong segment sounds like, a point each: noise after the first wrong frame, and for how long.

    Open points are segments whose decoder raised an error; a bar is the median of a coder.

    Args:
        table: `codecbook.probes.determinism.consequences.consequence_table`.
        titles: What to call each coder, in the order of the rows.

    Raises:
        UnsupportedInput: None of these coders has a row.
    """
    shown = _of_coders(table, titles)
    names = [name for name in titles if name in set(shown["coder"])]
    panels = (
        ("snr_after_db", "SNR after the first wrong frame (dB)"),
        ("bad_duration_s", "From first to last bad sample (s)"),
    )
    with mpl.rc_context(RC):
        figure = new_figure(7.2, 1.15 + 0.62 * len(names))
        for axes, (column, label) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
            _segment_points(axes, shown, names, column)
            axes.set(xlabel=label, ylim=(len(names) - 0.5, -0.5))
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            if column == "snr_after_db":
                axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=":")
            else:
                axes.set_xlim(left=0)
        figure.axes[0].set_yticks(range(len(names)), [titles[name] for name in names])
        handles = [
            figure.axes[0].plot([], [], "o", color=RED, alpha=0.6, linestyle="none")[0],
            figure.axes[0].plot([], [], "o", color=BLUE, markerfacecolor="none", linestyle="none")[0],
            figure.axes[0].plot([], [], "|", color=INK, markersize=11, markeredgewidth=1.8, linestyle="none")[0],
        ]  # fmt: skip
        words = ["wrong, and no error", "the decoder raised an error", "median"]
        figure.legend(handles, words, loc="outside upper left", ncols=3)
    return figure


def wrong_example(clips: Mapping[str, Clip], first_wrong_s: float) -> Figure:
    """Draw a segment as it should sound and as it came out, with a line where the first wrong frame begins.

    Args:
        clips: By label, such as ``{"true tokens": ..., "decoded": ...}``.
        first_wrong_s: When that frame begins.

    Raises:
        UnsupportedInput: No clips, or an empty one.
    """
    figure = waveforms(clips)
    with mpl.rc_context(RC):
        lines = [axes.axvline(first_wrong_s, color=RED, linestyle="--", linewidth=1.4) for axes in figure.axes]
        words = ["where the first wrong frame begins"]
        figure.legend(lines[:1], words, loc="outside lower left", handlelength=3)
    return figure


def _of_coders(table: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    shown = table.loc[table["coder"].isin(list(titles))] if "coder" in table.columns else table.iloc[:0]
    if shown.empty:
        raise UnsupportedInput(
            f"Of {len(table)} rows none is of the coders {list(titles)}, so there is nothing to draw."
        )
    return shown


def _segment_points(axes: Axes, shown: pd.DataFrame, names: list[str], column: str) -> None:
    """Draw a point per wrong segment and a median per coder; values that are not finite have no place."""
    for y, name in enumerate(names):
        part = shown.loc[(shown["coder"] == name) & np.isfinite(shown[column])]
        values, noticed = np.array(part[column], dtype=float), np.array(part["noticed"], dtype=bool)
        places = y + 0.17 * np.where(noticed, -1.0, 1.0)  # in two bands, else one kind hides the other
        for kind in (noticed, ~noticed):
            places[kind] += _spread_out(values[kind], 0.0, 0.13)
        axes.plot(values[~noticed], places[~noticed], "o", color=RED, alpha=0.6, markersize=3.5, linestyle="none")
        axes.plot(
            values[noticed], places[noticed], "o", color=BLUE, markersize=3.5, markerfacecolor="none",
            markeredgewidth=0.8, linestyle="none",
        )  # fmt: skip
        if len(values):
            axes.vlines(float(np.median(values)), y - 0.4, y + 0.4, color=INK, linewidth=1.8, zorder=4)


def _interval(axes: Axes, row: Mapping[Any, Any], y: int, floor: float) -> None:
    """Draw a pooled share with its interval; of a share of 0, the two upper bounds."""
    share, low, high = (max(float(row[name]), floor) for name in ("wrong_share", "wrong_share_low", "wrong_share_high"))
    if row["wrong"] == 0:
        alone = max(float(row["wrong_share_high_if_independent"]), floor)
        axes.hlines(y, floor, high, color=BLUE, linewidth=1.1, zorder=4)
        axes.hlines(y, floor, alone, color=BLUE, linewidth=2.6, zorder=4)
        axes.plot([alone], [y], "|", color=BLUE, markersize=9, markeredgewidth=2, zorder=5)
        axes.plot([high], [y], "<", color=BLUE, markersize=7, zorder=5)
        return
    if np.isfinite(low) and np.isfinite(high):
        axes.hlines(y, low, high, color=RED, linewidth=2.2, zorder=4)
    axes.plot([share], [y], "o", color=RED, markersize=7, zorder=5)


def _share_axis(axes: Axes, floor: float) -> None:
    """Label an axis of shares in percent: linear, or in decades down to `floor`, which then stands for 0."""
    if floor > 0:
        decades = [10.0**n for n in range(int(np.ceil(np.log10(floor * 1.5))), 1)]
        axes.set(xscale="log", xlim=(floor, 1.3))
        axes.xaxis.set_major_locator(FixedLocator([floor, *decades]))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share * (share > floor):g} %"))


def _spread_out(values: np.ndarray, y: float, most: float) -> np.ndarray:
    """Return heights around `y`, at most `most` away, so that neighbouring values stand apart; no chance in it."""
    order = np.argsort(values, kind="stable")
    heights = np.empty(len(values))
    heights[order] = np.resize([0.0, 0.5, -0.5, 0.25, -0.75, 0.75, -0.25, 1.0, -1.0], len(values))
    return y + most * heights
