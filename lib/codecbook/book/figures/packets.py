"""Figures of packets: which codes of a stretch came by themselves, which by a later packet, and which never did."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from codecbook.book.figures.style import BLUE, GRID, RED, new_figure


def packet_map(lost_frames: np.ndarray, lost: np.ndarray, frame_rate_hz: float, start_s: float = 0.0) -> Figure:
    """Draw the codes of a stretch, a row per codebook.

    `lost_frames`, bool ``[T]``, says which frames' packets were lost, and `lost`, bool ``[K, T]``, which codes are lost
    for good, as `codecbook.coding.packets.receive` says; `start_s` is when the stretch begins.
    """
    states = np.where(lost, 2, np.where(lost_frames, 1, 0))  # [K, T]
    colors, names = (GRID, BLUE, RED), ("arrived", "lost, and brought by a later packet", "lost for good")
    with new_figure(7.2, 0.9 + 0.2 * len(states)) as figure:
        axes = figure.subplots()
        for k, row in enumerate(states):
            edges = np.concatenate(([0], np.flatnonzero(np.diff(row)) + 1, [len(row)]))
            runs = np.column_stack((edges[:-1], np.diff(edges))) / frame_rate_hz + np.array([start_s, 0.0])
            axes.broken_barh(
                runs.tolist(), (k - 0.42, 0.84), facecolors=[colors[s] for s in row[edges[:-1]]], linewidth=0
            )
        axes.set(xlabel="Time (s)", ylabel="Codebook", ylim=(len(states) - 0.5, -0.5))
        axes.set_xlim(start_s, start_s + lost.shape[1] / frame_rate_hz)
        axes.set_yticks(range(len(states)))
        axes.grid(visible=False)
        handles = [Patch(facecolor=color, label=name) for color, name in zip(colors, names, strict=True)]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure
