"""Pictures of tokens: which codes are used when, how evenly, and what one takes of the coder's interval."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from codecbook.book.figures.style import BLUE, GRID, INK, MUTED, RED, new_figure
from codecbook.measure.coding_steps import CodedSymbol
from codecbook.tokens.tokens import Tokens


def token_map(tokens: Tokens, max_frames: int = 300) -> Figure:
    """Draw the codes of each codebook over time, coloured by code index relative to the codebook's size.

    Codes are names and have no order, so colour shows repetition and change, not magnitude. Codebooks of other
    rates get cells of their own width. The first `max_frames` of the fastest codebook are shown.
    """
    K = tokens.num_codebooks
    shown_s = min(
        max_frames / max(tokens.frame_rates_hz),
        max(len(codes) / rate for codes, rate in zip(tokens.codes, tokens.frame_rates_hz, strict=True)),
    )
    with new_figure(7.2, max(1.7, 0.9 + 0.26 * K)) as figure:
        axes = figure.subplots()
        image = None
        for k in range(K):
            count = min(len(tokens.codes[k]), max(1, round(shown_s * tokens.frame_rates_hz[k])))
            relative = tokens.codes[k][:count] / tokens.codebook_sizes[k]
            image = axes.imshow(
                relative[None], aspect="auto", extent=(0, count / tokens.frame_rates_hz[k], k + 0.46, k - 0.46),
                vmin=0, vmax=1, cmap="viridis", interpolation="none",
            )  # fmt: skip
        axes.set(xlim=(0, shown_s), ylim=(K - 0.5, -0.5), xlabel="Time (s)", ylabel="Codebook")
        axes.set_yticks(range(K))
        axes.grid(visible=False)
        if image is not None:
            bar = figure.colorbar(image, ax=axes, label="Code / size", pad=0.015, aspect=18)
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def codebook_usage(statistics: pd.DataFrame) -> Figure:
    """Draw for each codebook how many bits its codes carry, out of how many its size could.

    The mark beside the bar is the entropy corrected for the small sample (Miller-Madow); far from the bar, the
    sample is too small for either. Codebooks that use less than half of their codes are pointed out. `statistics` are
    those of `codecbook.measure.information.codebook_statistics`.
    """
    rows = np.arange(len(statistics))
    capacity_bits = np.log2(statistics["size"].to_numpy())
    with new_figure(7.2, max(1.7, 0.8 + 0.27 * len(rows))) as figure:
        axes = figure.subplots()
        axes.barh(rows, capacity_bits, height=0.72, color=GRID, label="capacity, log2 of the size")
        axes.barh(rows, statistics["entropy_bits"], height=0.72, color=BLUE, label="entropy of the codes")
        corrected_bits = statistics["entropy_corrected_bits"].to_numpy()
        axes.plot(
            corrected_bits, rows, color=INK, marker="|", markersize=9, markeredgewidth=1.6, linestyle="none",
            label="corrected for the sample",
        )  # fmt: skip
        for row, (used, size) in enumerate(zip(statistics["used"], statistics["size"], strict=True)):
            at = max(capacity_bits[row], corrected_bits[row]) + 0.08
            color = RED if used < size / 2 else INK
            axes.text(at, row, f"{used} of {size} used", va="center", fontsize=8.5, color=color)
        axes.set(xlabel="Information per code (bits)", ylabel="Codebook", ylim=(len(rows) - 0.4, -0.6))
        axes.set_xlim(0, max(*capacity_bits, *corrected_bits) * 1.22)
        axes.set_yticks(rows, statistics["codebook"].astype(str))
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def symbol_interval(symbol: CodedSymbol) -> Figure:
    """Draw how a frame's distribution divides the coder's interval, and which part the coded symbol takes."""
    edges = np.concatenate(([0], np.cumsum(symbol.counts))) / symbol.total
    low, high = symbol.low / symbol.total, symbol.high / symbol.total
    with new_figure(7.2, 3.0) as figure:
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
