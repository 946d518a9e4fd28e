"""Figures: one style, legible in light and dark, small, each with alternative text and a caption.

Figures are SVG whose neutral colours are CSS variables that follow the reader's colour scheme; a figure on which
SVG would be large becomes a PNG. Series are told apart by colour, marker and line style together. The functions
that most notebooks draw with are available from here.
"""

import base64
import html
import io
import re
import warnings
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
from IPython.display import HTML, display
from matplotlib.figure import Figure
from PIL import Image

from codecbook.book.figures import points
from codecbook.book.figures.style import NEUTRALS, PALETTE, RC
from codecbook.book.labels import axis_label
from codecbook.errors import UnsupportedInput
from codecbook.lazy import lazy_names

if TYPE_CHECKING:
    from codecbook.book.figures.audio import waveforms
    from codecbook.book.figures.rates import rate_quality
    from codecbook.book.figures.tokens import codebook_usage, symbol_interval, token_map

__all__ = [
    "PALETTE", "axis_label", "codebook_usage", "rate_quality", "show", "style", "symbol_interval", "to_html",
    "token_map", "waveforms",
]  # fmt: skip

# rendering a report needs the style alone, and not what the figures of sound and tokens import
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "codecbook.book.figures.audio": ("waveforms",),
        "codecbook.book.figures.rates": ("rate_quality",),
        "codecbook.book.figures.tokens": ("codebook_usage", "symbol_interval", "token_map"),
    },
)

_SVG_LIMIT_BYTES = 250_000
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_EMBEDDED_PNG = re.compile(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")


def style() -> None:
    """Make matplotlib draw in this style from here on; called once, beside the imports of a notebook."""
    mpl.rcParams.update(RC)


def show(figure: Figure, alt: str, caption: str, *, story: bool = False) -> None:
    """Display a figure with its caption, and close it; one that was drawn after `style` follows the colour scheme.

    `alt` is what a reader who cannot see the figure must know: what is plotted, and what it shows. The first one with
    `story` stands at the top of the report too.
    """
    page = to_html(figure, alt, caption)
    display(HTML(page.replace('class="', 'class="story ', 1) if story else page))
    plt.close(figure)  # else the notebook's own backend shows it a second time, without a description


def to_html(figure: Figure, alt: str, caption: str) -> str:
    """Return ``<figure>`` with the image as a data URI; see `show`."""
    if not alt.strip() or not caption.strip():
        raise UnsupportedInput(f"A figure needs alternative text and a caption, not alt={alt!r}, caption={caption!r}.")
    image, caption = image_html(figure, alt), html.escape(caption)
    return (
        '<figure class="codecbook-figure" style="margin:1em 0"><div class="scroll" tabindex="0" role="group" '
        f'aria-label="{caption}" style="overflow-x:auto"{points.attribute(figure)}>{image}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def image_html(figure: Figure, alt: str) -> str:
    """Return ``<img>`` alone, for pictures that stand beside a player."""
    style = "max-width:100%;height:auto;border-radius:6px"
    return f'<img src="{_data_uri(figure)}" alt="{html.escape(alt)}" style="{style}">'


def _data_uri(figure: Figure) -> str:
    svg = _svg(figure)
    if len(svg) <= _SVG_LIMIT_BYTES:
        return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    buffer = io.BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(buffer, format="png", dpi=130)
    return _palette_png(buffer.getvalue())


def _svg(figure: Figure) -> bytes:
    """Draw as SVG with neutral colours as variables, text as text, and embedded images as palette PNG."""
    buffer = io.StringIO()
    with mpl.rc_context(RC), warnings.catch_warnings():
        # a glyph that matplotlib's own font lacks is drawn by the browser, as text stays text
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = _EMBEDDED_PNG.sub(lambda match: _palette_png(base64.b64decode(match[1])), buffer.getvalue())
    for name, light, _ in NEUTRALS:
        svg = svg.replace(light, f"var(--{name})")
    svg = re.sub(r"(font: [^;\"]*?\d+(?:\.\d+)?px) [^;\"]+", rf"\1 {_FONT}", svg)
    light = ";".join(f"--{name}:{value}" for name, value, _ in NEUTRALS)
    dark = ";".join(f"--{name}:{value}" for name, _, value in NEUTRALS)
    sheet = f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    at = svg.index(">", svg.index("<svg")) + 1
    return (svg[:at] + sheet + svg[at:]).encode()


def _palette_png(png: bytes) -> str:
    """Return the data URI of a PNG, with at most 256 colours, a third of the size, where nothing is transparent."""
    image = Image.open(io.BytesIO(png))
    if image.mode != "RGBA" or min(image.getchannel("A").tobytes()) == 255:
        buffer = io.BytesIO()
        image.convert("RGB").quantize(256).save(buffer, format="png", optimize=True)
        png = min(buffer.getvalue(), png, key=len)
    return "data:image/png;base64," + base64.b64encode(png).decode()
