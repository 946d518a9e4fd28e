"""What was claimed beside what was measured."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from codecbook.book.figures.style import BLUE, INK, MUTED, RED, new_figure
from codecbook.probes.weights.probes import Verdict


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
