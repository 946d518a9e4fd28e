"""Pictures of tokens: which codes are used when, and how evenly."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from codecbook.book.figures_style import BLUE, GRID, INK, RC, RED, new_figure
from codecbook.errors import UnsupportedInput
from codecbook.tokens.tokens import Tokens


def token_map(tokens: Tokens, codebooks: Sequence[int] | None = None, max_frames: int = 300) -> Figure:
    """Draw the codes of each codebook over time, coloured by code index relative to the codebook's size.

    Codes are names and have no order, so colour shows repetition and change, not magnitude. Codebooks of other
    rates get cells of their own width.

    Args:
        tokens: Codes of one clip.
        codebooks: Which codebooks to draw, from top to bottom; None draws all.
        max_frames: How many frames of the fastest drawn codebook to show, from the beginning.

    Raises:
        UnsupportedInput: A codebook that the tokens do not have, or none.
    """
    chosen = list(range(tokens.num_codebooks) if codebooks is None else codebooks)
    if not chosen or not all(0 <= k < tokens.num_codebooks for k in chosen):
        raise UnsupportedInput(
            f"codebooks={codebooks!r}, but these tokens have {tokens.num_codebooks}; choose from "
            f"0..{tokens.num_codebooks - 1}."
        )
    shown_s = min(
        max_frames / max(tokens.frame_rates_hz[k] for k in chosen),
        max(len(tokens.codes[k]) / tokens.frame_rates_hz[k] for k in chosen),
    )
    with mpl.rc_context(RC):
        figure = new_figure(7.2, max(1.7, 0.9 + 0.26 * len(chosen)))
        axes = figure.subplots()
        image = None
        for row, k in enumerate(chosen):
            count = min(len(tokens.codes[k]), max(1, round(shown_s * tokens.frame_rates_hz[k])))
            relative = tokens.codes[k][:count] / tokens.codebook_sizes[k]
            image = axes.imshow(
                relative[None],
                aspect="auto",
                extent=(0, count / tokens.frame_rates_hz[k], row + 0.46, row - 0.46),
                vmin=0,
                vmax=1,
                cmap="viridis",
                interpolation="none",
            )
        axes.set(xlim=(0, shown_s), ylim=(len(chosen) - 0.5, -0.5), xlabel="Time (s)", ylabel="Codebook")
        axes.set_yticks(range(len(chosen)), [str(k) for k in chosen])
        axes.grid(visible=False)
        if image is not None:
            bar = figure.colorbar(image, ax=axes, label="Code / size", pad=0.015, aspect=18)
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def codebook_usage(statistics: pd.DataFrame) -> Figure:
    """Draw for each codebook how many bits its codes carry, out of how many its size could.

    Args:
        statistics: One row per codebook with ``codebook`` (index), ``entropy_bits`` and ``codebook_size``; with
            ``codes_used`` the number of used codes is written beside the bar.

    Raises:
        UnsupportedInput: A column is missing.
    """
    missing = {"codebook", "entropy_bits", "codebook_size"} - set(statistics.columns)
    if missing or statistics.empty:
        raise UnsupportedInput(
            f"Usage statistics lack {sorted(missing) or 'rows'}; received columns {list(statistics.columns)}. Give "
            "one row per codebook with codebook, entropy_bits and codebook_size."
        )
    rows = np.arange(len(statistics))
    sizes = statistics["codebook_size"].to_numpy()
    capacity_bits = np.log2(sizes)
    with mpl.rc_context(RC):
        figure = new_figure(7.2, 0.8 + 0.27 * len(rows))
        axes = figure.subplots()
        axes.barh(rows, capacity_bits, height=0.72, color=GRID, label="capacity, log2 of the size")
        axes.barh(rows, statistics["entropy_bits"], height=0.72, color=BLUE, label="entropy of the codes")
        if "codes_used" in statistics:
            for row, (used, size) in enumerate(zip(statistics["codes_used"], sizes, strict=True)):
                axes.text(
                    capacity_bits[row] + 0.08,
                    row,
                    f"{used} of {size} used",
                    va="center",
                    fontsize=8.5,
                    color=RED if used < size / 2 else INK,
                )
        axes.set(xlabel="Information per code (bits)", ylabel="Codebook", ylim=(len(rows) - 0.4, -0.6))
        axes.set_xlim(0, float(capacity_bits.max()) * (1.22 if "codes_used" in statistics else 1.02))
        axes.set_yticks(rows, [str(k) for k in statistics["codebook"]])
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=2)
    return figure
