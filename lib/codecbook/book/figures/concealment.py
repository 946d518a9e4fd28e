"""What concealment makes of gaps: the latents in them, and quality against their length."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from codecbook.book.figures.style import LINES, MARKERS, MUTED, PALETTE, new_figure
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
                if name == "log_mel_db" and method == "silence":
                    continue
                ends = [rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]]
                axes.errorbar(
                    rows["gap_ms"], rows[name], yerr=ends, label=str(method), capsize=2,
                    color=PALETTE[n % len(PALETTE)], marker=MARKERS[n % len(MARKERS)], linestyle=LINES[n % len(LINES)],
                )  # fmt: skip
            axes.set(xlabel=axis_label("lost_ms"), ylabel=axis_label(name))
        panels[0].legend()
    return figure
