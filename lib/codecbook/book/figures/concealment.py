"""What concealment makes of gaps: quality against their length."""

import pandas as pd
from matplotlib.figure import Figure

from codecbook.book.figures.style import LINES, MARKERS, PALETTE, axis_label, new_figure


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
