"""Pictures of entropy coding."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from codecbook.book.figures_style import BLUE, INK, MUTED, RC, RED, new_figure
from codecbook.measure.coding_steps import CodedSymbol


def symbol_interval(symbol: CodedSymbol) -> Figure:
    """Draw how a frame's distribution divides the coder's interval, and which part the coded symbol takes.

    Args:
        symbol: From `codecbook.measure.coding_steps.trace_symbol`.
    """
    edges = np.concatenate(([0], np.cumsum(symbol.counts))) / symbol.total
    low, high = symbol.low / symbol.total, symbol.high / symbol.total
    with mpl.rc_context(RC):
        figure = new_figure(7.2, 3.0)
        axes = figure.subplots()
        axes.axhspan(low, high, color=RED, alpha=0.25, linewidth=0)
        axes.stairs(edges[1:], np.arange(len(edges)), color=BLUE, baseline=None)
        axes.plot([symbol.code], [(low + high) / 2], color=RED, marker="o", linestyle="none")
        axes.axvline(symbol.code, color=MUTED, linewidth=0.8)
        at_left = symbol.code > len(symbol.counts) / 2
        axes.annotate(
            f"code {symbol.code}: {symbol.high - symbol.low} of {symbol.total}, {symbol.bits:.2f} bits",
            (symbol.code, (low + high) / 2), xytext=(-8 if at_left else 8, 10), textcoords="offset points",
            ha="right" if at_left else "left", fontsize=9, color=INK,
        )  # fmt: skip
        axes.set(xlabel="Code", ylabel="Share of the interval", xlim=(0, len(symbol.counts)), ylim=(0, 1))
    return figure
