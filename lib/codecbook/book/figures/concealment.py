"""What is lost of packets, and what concealment makes of gaps: the latents in them, quality against their length."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from codecbook.book.figures.rates import line
from codecbook.book.figures.style import BLUE, GRID, LINES, MUTED, PALETTE, RED, new_figure
from codecbook.book.labels import axis_label
from codecbook.codecs import Codec
from codecbook.coding.conceal import mended_latents
from codecbook.tokens import Tokens

_AROUND_FRAMES = 15


def latent_lines(codec: Codec, tokens: Tokens, lost: np.ndarray, start: int) -> Figure:
    """Draw the component of the latents that varies most around a gap that begins at frame `start`, with what fills it.

    `lost` is as for `codecbook.coding.conceal.conceal`; rates agree.
    """
    sent = codec.latents(tokens.codes)
    component = int(sent.var(axis=1).argmax())
    gone = np.flatnonzero(~lost[0, start:])
    end = start + (int(gone[0]) if len(gone) else lost.shape[1] - start)
    at = np.arange(max(0, start - _AROUND_FRAMES), min(lost.shape[1], end + _AROUND_FRAMES))
    times_s = at / codec.frame_rates_hz[0]
    with new_figure(7.2, 2.8) as figure:
        axes = figure.subplots()
        axes.axvspan(
            (start - 0.5) / codec.frame_rates_hz[0], (end - 0.5) / codec.frame_rates_hz[0], color=MUTED, alpha=0.15
        )
        axes.plot(times_s, sent[component, at], color=MUTED, marker=".", label="sent")
        inside = slice(max(0, start - 1), end + 1)
        for n, method in enumerate(("hold", "interpolate")):
            mended = mended_latents(codec, tokens, lost, method)[component, inside]
            axes.plot(
                np.arange(inside.start, inside.start + len(mended)) / codec.frame_rates_hz[0], mended,
                color=PALETTE[n], linestyle=LINES[n], label=method,
            )  # fmt: skip
        axes.set(xlabel="Time (s)", ylabel=f"Component {component} of the latents")
        axes.legend()
    return figure


def concealment_quality(table: pd.DataFrame) -> Figure:
    """Draw STOI and log-mel distance against the length of gaps, a line for each method, with 95 % intervals.

    `table` is that of `codecbook.probes.corruption.concealment.table`. Silence, which is far off, is left out of the
    distances.
    """
    with new_figure(7.2, 3.6) as figure:
        panels = figure.subplots(1, 2)
        for axes, name in zip(panels, ("stoi", "log_mel_db"), strict=True):
            for n, (method, rows) in enumerate(table.groupby("method", sort=False)):
                if name != "log_mel_db" or method != "silence":
                    line(axes, n, str(method), rows, "gap_ms", name, f"{name}_low", f"{name}_high")
            axes.set(xlabel=axis_label("lost_ms"), ylabel=axis_label(name))
        panels[0].legend()
    return figure


def packet_map(lost_frames: np.ndarray, lost: np.ndarray, frame_rate_hz: float) -> Figure:
    """Draw the codes of a stretch, a row per codebook.

    `lost_frames`, bool ``[T]``, says which frames' packets were lost, and `lost`, bool ``[K, T]``, which codes are lost
    for good, as `codecbook.coding.packets.receive` says.
    """
    states = np.where(lost, 2, np.where(lost_frames, 1, 0))  # [K, T]
    colors, names = (GRID, BLUE, RED), ("arrived", "lost, and brought by a later packet", "lost for good")
    with new_figure(7.2, 0.9 + 0.2 * len(states)) as figure:
        axes = figure.subplots()
        for k, row in enumerate(states):
            edges = np.concatenate(([0], np.flatnonzero(np.diff(row)) + 1, [len(row)]))
            runs = np.column_stack((edges[:-1], np.diff(edges))) / frame_rate_hz
            axes.broken_barh(
                runs.tolist(), (k - 0.42, 0.84), facecolors=[colors[s] for s in row[edges[:-1]]], linewidth=0
            )
        axes.set(xlabel="Time (s)", ylabel="Codebook", ylim=(len(states) - 0.5, -0.5))
        axes.set_xlim(0, lost.shape[1] / frame_rate_hz)
        axes.set_yticks(range(len(states)))
        axes.grid(visible=False)
        handles = [Patch(facecolor=color, label=name) for color, name in zip(colors, names, strict=True)]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure
