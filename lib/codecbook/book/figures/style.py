"""Colours, type and axis labels that all figures share."""

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

# name, light, dark: the light values are what matplotlib draws, the variables are put in their place afterwards,
# so every value stands for one role only and no data colour may equal one of them
NEUTRALS = (
    ("surface", "#fefefe", "#15181d"),
    ("ink", "#1f2329", "#e4e7eb"),
    ("muted", "#59616b", "#a5adb8"),
    ("grid", "#e3e6ea", "#2c323a"),
    # Okabe and Ito's blue and green are dim on a dark ground; these are their lighter kin
    ("blue", "#0072b2", "#4aa8e0"),
    ("green", "#009e73", "#2cc598"),
    ("red", "#d55e00", "#f0813a"),
)
SURFACE, INK, MUTED, GRID, BLUE, GREEN, RED = (light for _, light, _ in NEUTRALS)

# Okabe and Ito, "Color Universal Design" (2008), without black and yellow, which vanish on one of the two grounds
PALETTE = (BLUE, RED, GREEN, "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g} %")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))

RC: dict[Any, Any] = {
    **dict.fromkeys(("figure.facecolor", "savefig.facecolor", "axes.facecolor"), SURFACE),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "legend.labelcolor"), INK),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    "grid.color": GRID,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9),
    "lines.linewidth": 1.6,
    **dict.fromkeys(("axes.linewidth", "grid.linewidth"), 0.8),
    **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "axes.titlelocation": "left",
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "codecbook",
    "image.composite_image": False,  # keeps every row of a token map at its own resolution
    "figure.dpi": 100,
}


@contextlib.contextmanager
def new_figure(width_in: float, height_in: float, **style: Any) -> Iterator[Figure]:
    """Give a figure to draw on in this style, which no backend shows but `codecbook.book.figures.show`."""
    rc: dict[Any, Any] = {**RC, **style}
    with mpl.rc_context(rc):
        yield Figure(figsize=(width_in, height_in), layout="constrained")
