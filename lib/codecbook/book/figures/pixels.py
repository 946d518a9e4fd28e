"""Maps of tokens and intervals as tiny pictures, a pixel a token: quick to make, and small on a page."""

import base64
import html
import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from PIL import Image

from codecbook.book.figures.style import BLUE, RED

STATES = {"right": "#b8bec6", "wrong": RED, "lost": BLUE}
"""Colours of what became of tokens."""
_INTERVAL_PIXELS = 720


def pixel_map(shares: Sequence[np.ndarray] | np.ndarray, alt: str, mark: tuple[int, int] | None = None) -> str:
    """Return ``<figure>`` of values from 0 to 1, ``[K, T]``, a row a codebook; `mark` frames column and row of one."""
    colours = mpl.colormaps["viridis"](np.clip(np.stack(list(shares)), 0, 1), bytes=True)[..., :3]
    return _figure(colours, alt, 0.9, mark)


def state_map(states: np.ndarray, alt: str, mark: tuple[int, int] | None = None) -> str:
    """Return ``<figure>`` of what became of tokens, integers ``[K, T]``: the places of `STATES`."""
    return _figure(_rgb(*STATES.values())[states], alt, 0.9, mark)


def interval_map(widths: np.ndarray, code: int, what: str) -> str:
    """Return ``<figure>`` of an interval that codes share by their widths ``[V]``: whole, and what is around one."""
    edges = np.concatenate(([0.0], np.cumsum(widths, dtype=np.float64))) / widths.sum()
    middle, width = (edges[code] + edges[code + 1]) / 2, edges[code + 1] - edges[code]
    span = min(1.0, 8 * width)
    start = min(max(middle - span / 2, 0.0), 1 - span)
    at = (np.arange(_INTERVAL_PIXELS) + 0.5) / _INTERVAL_PIXELS
    owners = np.searchsorted(edges, np.stack([at, start + span * at]), side="right") - 1
    kinds = np.where(owners == code, 2, owners % 2)
    kinds[0, int(middle * _INTERVAL_PIXELS)] = 2  # where it is narrower than a pixel, too
    alt = f"{what}, in turn light and dark; below, the stretch around the orange one, {1 / span:,.0f} times as wide."
    return _figure(_rgb("#b8bec6", "#7d8590", RED)[kinds], alt, 1.5)


def _rgb(*colours: str) -> np.ndarray:
    return np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours], dtype=np.uint8)


def _figure(colours: np.ndarray, alt: str, row_em: float, mark: tuple[int, int] | None = None) -> str:
    K, T, _ = colours.shape
    file = io.BytesIO()
    Image.fromarray(colours).quantize(256).save(file, format="png", optimize=True)
    data, text = base64.b64encode(file.getvalue()).decode(), html.escape(alt)
    frame = ""
    if mark is not None:
        place = f"left:{100 * mark[0] / T:.3f}%;top:{100 * mark[1] / K:.3f}%;width:{100 / T:.3f}%;height:{100 / K:.3f}%"
        frame = f'<span style="position:absolute;outline:2px solid {RED};{place}"></span>'
    return (
        f'<figure style="margin:.6em 0"><div style="position:relative"><img src="data:image/png;base64,{data}" '
        f'alt="{text}" style="display:block;width:100%;height:{row_em * K:.1f}em;image-rendering:pixelated">{frame}'
        f"</div><figcaption>{text}</figcaption></figure>"
    )
