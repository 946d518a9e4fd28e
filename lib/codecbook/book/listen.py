"""Players: audio beside its waveform and spectrogram, and blind A/B/X comparisons.

Clips are embedded as 16-bit FLAC, so that what is judged is the codec and not the page's own compression.
"""

import html
from collections.abc import Mapping

import numpy as np
from IPython.display import HTML, display

from codecbook.audio import Clip
from codecbook.book.abx import AbxTest, abx
from codecbook.book.figures import image_html
from codecbook.book.figures_audio import loudest_power, overview
from codecbook.book.flac import common_gain, flac_uri
from codecbook.errors import UnsupportedInput

__all__ = ["AbxTest", "abx", "grid", "grid_html", "player", "player_html"]


def player(clip: Clip, label: str) -> None:
    """Display a player with its label.

    Raises:
        UnsupportedInput: An empty clip, one with more than 8 channels, or no label.
    """
    display(HTML(player_html(clip, label)))


def player_html(clip: Clip, label: str, gain: float = 1.0) -> str:
    """Return a labelled ``<audio>`` element with the clip as FLAC inside; see `player`."""
    if not label.strip():
        raise UnsupportedInput("A player needs a label; received an empty one. Say what is heard.")
    text = html.escape(label)
    return (
        f'<div class="codecbook-player"><span>{text}</span><br>'
        f'<audio controls preload="metadata" aria-label="{text}" src="{flac_uri(clip, gain)}" '
        'style="width:100%;max-width:22em"></audio></div>'
    )


def grid(clips: Mapping[str, Clip] | Mapping[str, Mapping[str, Clip]], caption: str = "") -> None:
    """Display players beside waveform and spectrogram, all on one scale.

    Args:
        clips: By label, one row each; or by row and column, ``{"speech": {"original": ..., "6 kbps": ...}}``, which
            makes a table.
        caption: What to listen for.

    Raises:
        UnsupportedInput: No clips, or rows with different columns.
    """
    display(HTML(grid_html(clips, caption)))


def grid_html(clips: Mapping[str, Clip] | Mapping[str, Mapping[str, Clip]], caption: str = "") -> str:
    """Return the players as HTML; see `grid`."""
    if not clips:
        raise UnsupportedInput("There are no clips to play; received an empty mapping. Pass {label: clip}.")
    rows = {label: {"": row} if isinstance(row, Clip) else dict(row) for label, row in clips.items()}
    columns = list(next(iter(rows.values())))
    if not columns or any(list(row) != columns for row in rows.values()):
        raise UnsupportedInput(
            f"Rows have the columns {[list(row) for row in rows.values()]}; give every row the same ones."
        )
    everything = {f"{r} {c}": clip for r, row in rows.items() for c, clip in row.items()}
    scale = (
        max(1e-4, *(float(np.abs(clip.samples[0]).max(initial=0.0)) for clip in everything.values())),
        loudest_power(everything),
        common_gain(everything.values()),
    )
    single = columns == [""]
    if single:
        head = ""
        body = "\n".join(_row(row[""], label, scale) for label, row in rows.items())
    else:
        head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
        body = "\n".join(
            f'<tr><th scope="row">{html.escape(label)}</th>'
            + "".join(_cell(clip, f"{label}, {column}", scale) for column, clip in row.items())
            + "</tr>"
            for label, row in rows.items()
        )
    title = html.escape(caption)
    return (
        f'<div class="codecbook-listen scroll{" single" if single else ""}" style="overflow-x:auto" tabindex="0" '
        f'role="group" aria-label="{title or "Players"}"><table>{f"<caption>{title}</caption>" if title else ""}'
        f"{f'<thead><tr><td></td>{head}</tr></thead>' if head else ''}<tbody>\n{body}\n</tbody></table></div>"
    )


def _row(clip: Clip, label: str, scale: tuple[float, float, float]) -> str:
    """Return a table row: label and player, and beside them the picture."""
    return (
        f'<tr><th scope="row" style="text-align:left;min-width:17em">{html.escape(label)}'
        f"{_audio(clip, label, scale)}</th>"
        f'<td style="text-align:left">{_picture(clip, label, scale)}</td></tr>'
    )


def _cell(clip: Clip, label: str, scale: tuple[float, float, float]) -> str:
    """Return a table cell with a player above its picture."""
    return (
        f'<td style="text-align:left;min-width:15em">{_audio(clip, label, scale)}'
        f"{_picture(clip, label, scale)}</td>"
    )


def _audio(clip: Clip, label: str, scale: tuple[float, float, float]) -> str:
    return (
        f'<audio controls preload="metadata" aria-label="{html.escape(label)}" src="{flac_uri(clip, scale[2])}" '
        'style="width:100%;display:block"></audio>'
    )


def _picture(clip: Clip, label: str, scale: tuple[float, float, float]) -> str:
    """Draw a clip; `scale` is the common peak, reference power and gain of the clips that are compared."""
    peak, reference, _ = scale
    return image_html(
        overview(clip, peak, reference),
        alt=f"Waveform and spectrogram of {label}, {clip.duration_s:.1f} s at {clip.sample_rate_hz} Hz.",
    )
