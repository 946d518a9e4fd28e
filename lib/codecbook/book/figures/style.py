"""Colours, type and axis labels that all figures share."""

import contextlib
import re
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

_UNITS = {
    "hz": "Hz", "khz": "kHz", "kbps": "kbps", "s": "s", "ms": "ms", "db": "dB", "lufs": "LUFS", "bits": "bits",
    "bit": "bit", "bytes": "bytes", "mb": "MB", "percent": "%", "min": "min",
}  # fmt: skip
_ACRONYMS = {
    "si_sdr": "SI-SDR", "snr": "SNR", "stoi": "STOI", "estoi": "ESTOI", "pesq": "PESQ", "cpu": "CPU", "npq": "NPQ",
    "lm": "LM", "mos": "MOS",
}  # fmt: skip
_ACRONYM = re.compile(rf"(?<![^_])({'|'.join(_ACRONYMS)})(?![^_])")


@contextlib.contextmanager
def new_figure(width_in: float, height_in: float, **style: Any) -> Iterator[Figure]:
    """Give a figure to draw on in this style, which no backend shows but `codecbook.book.figures.show`."""
    rc: dict[Any, Any] = {**RC, **style}
    with mpl.rc_context(rc):
        yield Figure(figsize=(width_in, height_in), layout="constrained")


def axis_label(name: str) -> str:
    """Turn a column name into an axis label: ``"si_sdr_db"`` into ``"SI-SDR (dB)"``; other text is left as it is.

    Example:
        >>> axis_label("bitrate_kbps"), axis_label("exact.frame_ms"), axis_label("Loss (bits)")
        ('Bitrate (kbps)', 'Exact: frame (ms)', 'Loss (bits)')
    """
    if " " in name:
        return name
    scope, _, last = name.rpartition(".")
    if scope[:1].isalpha():
        scope = re.sub(r"[_.]", " ", scope)
        return f"{scope[:1].upper()}{scope[1:]}: {lowered(axis_label(last))}"
    words, _, last = name.rpartition("_")
    unit = _UNITS.get(last) if words and not words.endswith("_per") else None
    words = (words if unit else name).strip("_")
    text = _ACRONYM.sub(lambda found: _ACRONYMS[found[0]], words).replace("_", " ")
    text = text[:1].upper() + text[1:]
    return f"{text} ({unit})" if unit else text


def lowered(label: str) -> str:
    """Return a label as it stands within a sentence: its first letter small, unless it begins with an acronym."""
    return label if label[:2].isupper() else label[:1].lower() + label[1:]
