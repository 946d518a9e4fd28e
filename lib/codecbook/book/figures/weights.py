"""Figures of compressed weights: what a table's columns are like, what each scheme costs and changes, what holds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from codecbook.book.figures.style import BLUE, GREEN, INK, MARKERS, MUTED, PALETTE, RED, new_figure
from codecbook.probes.weights.probes import Verdict


def columns(table: np.ndarray, left: np.ndarray) -> Figure:
    """Draw the deviation of each column of a table ``[R, C]``, and of what is left of it after prediction."""
    with new_figure(7.2, 2.6) as figure:
        axes = figure.subplots()
        for values, color, label in ((table, BLUE, "codewords"), (left, RED, "what prediction leaves of them")):
            axes.semilogy(values.std(axis=0), color=color, label=label)
        axes.set(xlabel="Dimension of the codebook", ylabel="Deviation (steps)")
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def frontier(
    table: pd.DataFrame, measure: str, label: str, series: Sequence[str], *, limits: tuple[float, float] | None = None
) -> Figure:
    """Draw a measure over bits per weight, a mark a scheme; those of a series are joined.

    The table has the columns ``scheme``, ``series``, ``bits_per_weight``, the measure, and its ``_low`` and ``_high``.
    """
    with new_figure(7.2, 3.9) as figure:
        axes = figure.subplots()
        for n, name in enumerate(series):
            rows = pd.DataFrame(table[table.series == name]).sort_values("bits_per_weight")
            errors = [rows[measure] - rows[f"{measure}_low"], rows[f"{measure}_high"] - rows[measure]]
            axes.errorbar(
                rows.bits_per_weight, rows[measure], np.clip(errors, 0, None), color=PALETTE[n % len(PALETTE)],
                marker=MARKERS[n % len(MARKERS)], linestyle="-" if n == 0 else "none", capsize=2, label=name,
            )  # fmt: skip
            for scheme, bits, value in zip(rows.scheme, rows.bits_per_weight, rows[measure], strict=True):
                if n > 0:  # marks of the first series are their line's
                    axes.annotate(scheme, (bits, value), (4, 4), textcoords="offset points", fontsize=7.5, color=MUTED)
        axes.set(xlabel="Bits per weight, the whole file", ylabel=label, ylim=limits)
        axes.set_xlim(left=0)
        figure.legend(loc="outside upper left", ncols=min(4, len(series)))
    return figure


def regimes(table: pd.DataFrame, measures: Sequence[tuple[str, str]]) -> Figure:
    """Draw what one kind of tensor, stored alone with few bits, changes; a panel a measure, a bar a kind of tensor."""
    with new_figure(7.2, 0.9 + 0.34 * len(table)) as figure:
        panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        colors = [GREEN if regime == "index" else BLUE for regime in table.regime]
        for axes, (measure, label) in zip(panels, measures, strict=True):
            bars = axes.barh(table.tensors, table[measure], color=colors, height=0.6)
            axes.bar_label(bars, [f" {value:.3g}" for value in table[measure]], fontsize=8, color=INK)
            axes.set_xlabel(label)
            axes.margins(x=0.2)
            axes.grid(visible=False, axis="y")
        panels[0].invert_yaxis()
    return figure


def verdict_lines(verdicts: Sequence[tuple[str, Verdict]]) -> Figure:
    """Draw each verdict's figure with its interval, beside what was claimed and what else is possible.

    Each verdict comes with what it was measured on; ``bound`` and ``kmeans`` of its details are drawn where they are.
    """
    with new_figure(7.2, 1.0 + 0.34 * len(verdicts)) as figure:
        axes = figure.subplots()
        for y, found in enumerate(found for _, found in verdicts):
            bar, passed = found.figure, found.verdict == "pass"
            ends = [[max(bar.mean - bar.low, 0)], [max(bar.high - bar.mean, 0)]]
            axes.errorbar(
                bar.mean, y, xerr=ends, capsize=3, color=BLUE if passed else RED, marker="o" if passed else "X",
                label="passes" if passed else "fails",
            )  # fmt: skip
            axes.plot(found.gate, y, marker="|", markersize=14, color=INK, linestyle="none", label="claimed")
            for key, marker, label in (("bound", "D", "no table does better"), ("kmeans", "s", "k-means does as well")):
                if key in found.details:
                    axes.plot(
                        found.details[key], y, marker=marker, color=MUTED, fillstyle="none", linestyle="none",
                        label=label,
                    )  # fmt: skip
        axes.set(xlim=(0, 1.03), ylim=(len(verdicts) - 0.5, -0.5), xlabel="Mean cosine of rows (P3: share of queries)")
        axes.set_yticks(np.arange(len(verdicts)), [f"{found.probe}  {name}" for name, found in verdicts])
        axes.grid(visible=False, axis="y")
        handles, labels = axes.get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True))
        figure.legend(list(named.values()), list(named), loc="outside upper left", ncols=5)
    return figure
