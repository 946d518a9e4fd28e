"""Figures of streams that decode wrongly: how often, after how long, and what that sounds like."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from codecbook.audio import Clip
from codecbook.book.figures.audio import waveforms
from codecbook.book.figures.style import BLUE, INK, LINES, MUTED, PALETTE, PERCENT, RC, RED, new_figure
from codecbook.probes.determinism.failures import POOLED

_LOG_BELOW = 0.02  # a share that small cannot be told from 0 on a linear axis


def failure_rates(rates: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw each coder's share of wrongly decoded segments with its interval, and the shares of its cells.

    A share of 0 is an arrowhead that points left from the upper end of its one-sided interval; a tick on the way there
    is that end if all decodes were independent. The axis is one of decades from 1 % on if a share is below 2 %.
    `rates` are those of `codecbook.probes.determinism.failures.failure_rates`, and `titles` say what to call each
    coder, in the order of the rows.
    """
    shown = rates.loc[rates["coder"].isin(list(titles))]
    pooled = {row["coder"]: row for row in shown.to_dict("records") if row["cell"] == POOLED}
    least = min((row["wrong_share"] for row in pooled.values() if row["wrong_share"] > 0), default=1.0)
    names = [name for name in titles if name in pooled]
    words = []
    with new_figure(7.2, 1.0 + 0.52 * len(names)) as figure:
        axes = figure.subplots()
        for y, name in enumerate(names):
            row = pooled[name]
            of_cells = (shown["coder"] == name) & (shown["cell"] != POOLED)
            each = np.array(shown.loc[of_cells, "wrong_share"])
            if row["cells"] > 1:
                axes.plot(
                    each, _spread_out(each, y, 0.26), ".", color=MUTED, alpha=0.55, markersize=5, linestyle="none",
                    clip_on=False, label="one cell",
                )  # fmt: skip
            _interval(axes, row, y)
            words.append(f"{titles[name]}\n{row['wrong']:.0f} of {row['decodes']:.0f} decodes")
        if least < _LOG_BELOW:
            axes.set_xscale("symlog", linthresh=_LOG_BELOW / 2, linscale=0.5)
        axes.set(xlim=(-0.002 if least < _LOG_BELOW else -0.02, 1.02), ylim=(len(names) - 0.5, -0.5))
        axes.set_xlabel("Segments that decode wrongly")
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set_yticks(range(len(names)), words)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        marks = [
            axes.plot([], [], "o-", color=RED)[0],
            axes.plot([], [], ".", color=MUTED, alpha=0.55, linestyle="none")[0],
            axes.plot([], [], "<-", color=BLUE)[0],
        ]
        labels = ["pooled, 95 % interval", "one cell", "none wrong: upper bound (tick: if decodes were independent)"]
        figure.legend(marks, labels, loc="outside upper left", ncols=2)
    return figure


def survival_curves(curves: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw the share of segments that still decode rightly against seconds of audio, one curve per titled coder.

    `curves` has the tables of `codecbook.probes.determinism.failures.survival`, one below the other, and ``coder``.
    """
    shown = curves.loc[curves["coder"].isin(list(titles))]
    with new_figure(7.2, 3.6) as figure:
        axes = figure.subplots()
        names = [name for name in titles if name in set(shown["coder"])]
        for i, name in enumerate(names):
            part = shown.loc[shown["coder"] == name]
            times, color = np.array(part["time_s"]), PALETTE[i]
            axes.fill_between(times, part["low"], part["high"], step="post", color=color, alpha=0.16, linewidth=0)
            # coders that never fail lie on one another: the ones below are drawn wider
            axes.step(
                times, part["share"], where="post", color=color, linestyle=LINES[i], label=titles[name],
                linewidth=1.6 + 0.9 * (len(names) - 1 - i) / max(len(names) - 1, 1), clip_on=False, zorder=3 + i,
            )  # fmt: skip
        axes.set(xlim=(0, shown["time_s"].max()), ylim=(0, 1.0), xlabel="Seconds since the segment began")
        axes.set_ylabel("Segments decoded rightly so far")
        axes.yaxis.set_major_formatter(PERCENT)
        figure.legend(loc="outside upper left", ncols=3, handlelength=3.2)
    return figure


def consequence_spread(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw what each wrong segment sounds like, a point each: noise after the first wrong frame, and for how long.

    Open points are segments whose decoder raised an error; a bar is the median of a coder's others. The table
    is `codecbook.probes.determinism.consequences.consequence_table`, and `titles` call each coder, in the rows' order.
    """
    shown = table.loc[table["coder"].isin(list(titles))]
    names = [name for name in titles if name in set(shown["coder"])]
    panels = (
        ("snr_after_db", "SNR after the first wrong frame (dB)"),
        ("bad_duration_s", "From first to last bad sample (s)"),
    )
    with new_figure(7.2, 1.15 + 0.62 * len(names)) as figure:
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
        words = ["wrong, and no error", "the decoder raised an error", "median without errors"]
        figure.legend(handles, words, loc="outside upper left", ncols=3)
    return figure


def wrong_example(clips: Mapping[str, Clip], first_wrong_s: float) -> Figure:
    """Draw a segment as it should sound and as it came out, with a line where the first wrong frame begins."""
    figure = waveforms(clips)
    with mpl.rc_context(RC):
        lines = [axes.axvline(first_wrong_s, color=RED, linestyle="--", linewidth=1.4) for axes in figure.axes]
        words = ["where the first wrong frame begins"]
        figure.legend(lines[:1], words, loc="outside lower left", handlelength=3)
    return figure


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
        if not noticed.all():
            axes.vlines(float(np.median(values[~noticed])), y - 0.4, y + 0.4, color=INK, linewidth=1.8, zorder=4)


def _interval(axes: Axes, row: Mapping[Any, Any], y: int) -> None:
    """Draw a pooled share with its interval; of a share of 0, the two upper bounds."""
    share, low, high = (float(row[name]) for name in ("wrong_share", "wrong_share_low", "wrong_share_high"))
    if row["wrong"] == 0:
        alone = float(row["wrong_share_high_if_independent"])
        axes.hlines(y, 0, high, color=BLUE, linewidth=1.1, zorder=4)
        axes.hlines(y, 0, alone, color=BLUE, linewidth=2.6, zorder=4)
        axes.plot([alone], [y], "|", color=BLUE, markersize=9, markeredgewidth=2, zorder=5)
        axes.plot([high], [y], "<", color=BLUE, markersize=7, zorder=5, label="none wrong, upper bound")
        return
    if np.isfinite(low) and np.isfinite(high):
        axes.hlines(y, low, high, color=RED, linewidth=2.2, zorder=4)
    axes.plot([share], [y], "o", color=RED, markersize=7, zorder=5, label="pooled")


def _spread_out(values: np.ndarray, y: float, most: float) -> np.ndarray:
    """Return heights around `y`, at most `most` away, so that neighbouring values stand apart; no chance in it."""
    order = np.argsort(values, kind="stable")
    heights = np.empty(len(values))
    heights[order] = np.resize([0.0, 0.5, -0.5, 0.25, -0.75, 0.75, -0.25, 1.0, -1.0], len(values))
    return y + most * heights
