"""Players: audio beside its waveform and spectrogram, and blind A/B/X comparisons.

Clips are embedded as 16-bit FLAC, so that what is judged is the codec and not the page's own compression. The A/B/X
player is one file, ``assets/abx.js``. In JupyterLab it is a widget whose votes reach Python; in a batch run it is
inlined into the report with a stand-in for the widget's model, so that the test works on the offline page.
"""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import soundfile
from IPython.display import HTML, display

from codecbook.audio import Clip
from codecbook.book.figures import image_html
from codecbook.book.figures.audio import loudest_power, overview
from codecbook.book.results import batch
from codecbook.book.tables import ASSETS
from codecbook.errors import UnsupportedInput

Clips = Mapping[str, Clip] | Mapping[str, Mapping[str, Clip]]


def grid(clips: Clips, caption: str = "") -> None:
    """Display players beside waveform and spectrogram, all on one scale; the caption says what to listen for.

    Clips are given by label, one row each, or by row and column, ``{"speech": {"original": ..., "6 kbps": ...}}``.
    """
    display(HTML(grid_html(clips, caption)))


def grid_html(clips: Clips, caption: str = "") -> str:
    """Return the players as HTML; see `grid`."""
    rows = {label: {"": row} if isinstance(row, Clip) else dict(row) for label, row in clips.items()}
    columns = list(next(iter(rows.values()), {}))
    if not columns or any(list(row) != columns for row in rows.values()):
        raise UnsupportedInput(
            f"Rows have the columns {[list(row) for row in rows.values()]}; give clips, and every row the same columns."
        )
    everything = [clip for row in rows.values() for clip in row.values()]
    peak = max(1e-4, *(float(np.abs(clip.samples[0]).max(initial=0.0)) for clip in everything))
    reference, gain = loudest_power(everything), common_gain(everything)

    def parts(clip: Clip, label: str) -> tuple[str, str]:
        """Return a clip's player and picture."""
        alt = f"Waveform and spectrogram of {label}, {clip.duration_s:.1f} s at {clip.sample_rate_hz} Hz."
        player = _audio(clip, label, gain, ' style="width:100%;display:block"')
        return player, image_html(overview(clip, peak, reference), alt)

    single = columns == [""]
    head, body = "", []
    for label, row in rows.items():
        name = html.escape(label)
        if single:  # label and player, and beside them the picture
            player, picture = parts(row[""], label)
            body.append(
                f'<tr><th scope="row" style="text-align:left;min-width:17em">{name}{player}</th>'
                f'<td style="text-align:left">{picture}</td></tr>'
            )
        else:
            cells = ["".join(parts(clip, f"{label}, {column}")) for column, clip in row.items()]
            cells = "".join(f'<td style="text-align:left;min-width:15em">{cell}</td>' for cell in cells)
            body.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    if not single:
        names = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
        head = f"<thead><tr><td></td>{names}</tr></thead>"
    title, lines = html.escape(caption), "\n".join(body)
    return (
        f'<div class="codecbook-listen scroll{" single" if single else ""}" style="overflow-x:auto" tabindex="0" '
        f'role="group" aria-label="{title or "Players"}"><table>{f"<caption>{title}</caption>" if title else ""}'
        f"{head}<tbody>\n{lines}\n</tbody></table></div>"
    )


def _audio(clip: Clip, label: str, gain: float, style: str = "") -> str:
    data = base64.b64encode(flac_bytes(clip, gain)).decode()
    return (
        f'<audio controls preload="metadata" aria-label="{html.escape(label)}" '
        f'src="data:audio/flac;base64,{data}"{style}></audio>'
    )


def flac_bytes(clip: Clip, gain: float = 1.0) -> bytes:
    """Encode a clip as 16-bit FLAC; samples that `gain` leaves beyond full scale are clipped."""
    if clip.num_samples == 0 or not 1 <= clip.num_channels <= 8:
        raise UnsupportedInput(
            f"FLAC takes 1 to 8 channels; clip {clip.name!r} has {clip.num_channels}, of {clip.num_samples} samples."
        )
    buffer = io.BytesIO()
    samples = np.clip(clip.samples.T * np.float32(gain), -1.0, 1.0)
    soundfile.write(buffer, samples, clip.sample_rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def common_gain(clips: Iterable[Clip]) -> float:
    """Return the factor, at most 1, that keeps the loudest of the clips below full scale.

    One factor for all: clipping only the clip that overshoots, or turning down only that one, would be heard.
    """
    return 1.0 / max(1.0, *(clip.peak for clip in clips))


def abx(
    reference: Clip,
    a: Clip,
    b: Clip,
    labels: Sequence[str] = ("reference", "A", "B"),
    trials: int = 10,
    title: str = "Can you hear the difference?",
) -> Any:
    """Display a test in which X is A or B by chance, and the listener says which.

    All clips loop in step on one clock and are switched without a gap. They are turned down by one common factor if any
    of them overshoots; differences in level are left as they are, so match loudness first where level is not the
    question. The reference is for orientation; B may be the reference itself, to ask whether `a` can be told from it.
    The labels say what reference, A and B are; of 10 trials, 9 correct are p < 0.05. Return the widget, whose ``votes``
    are ``{"x": "A" or "B", "vote": "A" or "B", "correct": bool}``, one per trial; None in a batch run.
    """
    clips = (reference, a, b)
    if len(labels) != len(clips) or trials < 1:
        raise UnsupportedInput(
            f"{len(labels)} labels and {trials} trials; give labels for reference, A and B, and at least one trial."
        )
    gain = common_gain(clips)
    if batch():
        display(HTML(static_html(clips, labels, gain, trials, title)))
        return None
    media = [{"label": text, "data": flac_bytes(c, gain)} for text, c in zip(labels, clips, strict=True)]
    widget = _widget_class()(clips=media, trials=trials, title=title)
    display(widget)
    return widget


def static_html(clips: Sequence[Clip], labels: Sequence[str], gain: float, trials: int, title: str) -> str:
    """Return plain players, which a script on the page turns into the test; without scripts they stay."""
    players = "".join(
        f"<p>{html.escape(label)}<br>{_audio(clip, label, gain)}</p>" for label, clip in zip(labels, clips, strict=True)
    )
    script = "\n".join((ASSETS / name).read_text() for name in ("abx.js", "abx_static.js"))
    return (
        f'<div class="codecbook-abx" data-title="{html.escape(title)}" data-trials="{trials}">'
        f"<p>{html.escape(title)}</p>{players}</div>\n"
        f'<script type="module">\n{script}</script>'
    )


@cache
def _widget_class() -> type:
    """Make the widget's class when a session first needs it: a batch run has no use for widgets."""
    import anywidget
    import traitlets

    class AbxWidget(anywidget.AnyWidget):
        _esm = ASSETS / "abx.js"
        title = traitlets.Unicode().tag(sync=True)
        trials = traitlets.Int().tag(sync=True)
        clips = traitlets.List().tag(sync=True)
        votes = traitlets.List().tag(sync=True)

    return AbxWidget
