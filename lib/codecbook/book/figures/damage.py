"""Figures of damaged files: which tokens go wrong, whether that is noticed, and for how long it sounds wrong."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from codecbook.book.figures.rates import line
from codecbook.book.figures.style import BLUE, GRID, MARKERS, MUTED, PALETTE, PERCENT, RED, new_figure
from codecbook.measure.statistics import mean_interval
from codecbook.probes.corruption.damage import OUTCOMES, Heard

_COLORS = dict(zip(OUTCOMES, (GRID, MUTED, BLUE, RED), strict=True))
OUTCOME_WORDS = dict(
    zip(OUTCOMES, ("nothing wrong", "refused", "wrong part reported", "wrong without a word"), strict=True)
)


def wrong_tokens(heard: Mapping[str, Heard]) -> Figure:
    """Draw which tokens came out wrong, and which frames were reported as lost, a map of codebooks and time each."""
    shown = {name: each for name, each in heard.items() if each.wrong.size}
    with new_figure(7.2, 0.7 + 0.62 * len(shown)) as figure:
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        colors = ListedColormap([GRID, BLUE, RED])
        for axes, (name, each) in zip(panels, shown.items(), strict=True):
            state = np.where(each.wrong, 2, each.lost[:, None].astype(int)).T
            axes.imshow(
                state, aspect="auto", extent=(0, each.cost.duration_s, len(state), 0), vmin=0, vmax=2, cmap=colors,
                interpolation="none",
            )  # fmt: skip
            axes.set_ylabel(name, rotation=0, ha="right", va="center")
            axes.set(yticks=[])
            axes.grid(visible=False)
        panels[-1].set_xlabel("Time (s)")
        marks = [panels[0].plot([], [], "s", color=color, linestyle="none")[0] for color in (GRID, BLUE, RED)]
        figure.legend(marks, ["right", "reported as lost", "wrong, not reported"], loc="outside upper left", ncols=3)
    return figure


def outcomes(summary: pd.DataFrame) -> Figure:
    """Draw what becomes of mutations of each target, as shares; see `codecbook.probes.corruption.damage.summary`."""
    names = list(summary["target"])
    with new_figure(7.2, 0.9 + 0.27 * len(names)) as figure:
        axes = figure.subplots()
        left = np.zeros(len(names))
        for outcome in OUTCOMES:
            shares = summary[outcome].to_numpy(dtype=float)
            axes.barh(
                range(len(names)), shares, left=left, height=0.72, color=_COLORS[outcome], label=OUTCOME_WORDS[outcome]
            )
            left += shares
        axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 1), xlabel="Share of mutations")
        axes.set_yticks(range(len(names)), names)
        axes.xaxis.set_major_formatter(PERCENT)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=4)
    return figure


def bad_durations(costs: pd.DataFrame, targets: Sequence[str]) -> Figure:
    """Draw for how much of the clip it sounds wrong, against where in the file the damage is, a point a mutation.

    At most six targets are told apart; `costs` are those of `codecbook.probes.corruption.damage.costs`.
    """
    with new_figure(7.2, 3.6) as figure:
        axes = figure.subplots()
        for i, name in enumerate(targets[: len(PALETTE)]):
            part = costs[costs["target"] == name]
            axes.plot(
                part["position"], part["bad_duration_s"] / part["duration_s"], MARKERS[i], color=PALETTE[i],
                markersize=4.5, alpha=0.75, linestyle="none", label=name, clip_on=False, zorder=3,
            )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="Place of the damage in the file", ylabel="Bad share of the clip")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PERCENT)
        figure.legend(loc="outside upper left", ncols=6, columnspacing=1.0, handletextpad=0.2)
    return figure


def bit_errors(table: pd.DataFrame) -> Figure:
    """Draw the distance from undamaged audio against the share of bits that are flipped, with intervals over clips.

    The table is that of `codecbook.probes.corruption.damage.bit_errors`.
    """
    with new_figure(7.2, 3.4) as figure:
        axes = figure.subplots()
        for i, (name, part) in enumerate(table[table["bit_error_rate"] > 0].groupby("codec", sort=False)):
            distances = part.groupby("bit_error_rate")["log_mel_distance_db"]
            points = [{"rate": rate, **mean_interval(values.to_numpy()).columns("db")} for rate, values in distances]
            line(axes, i, str(name), pd.DataFrame(points), "rate", "db", "db_low", "db_high")
        axes.set(xscale="log", xlabel="Share of bits that are flipped", ylabel="Log-mel distance (dB)")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper left", ncols=4)
    return figure
