"""Blind A/B/X comparisons."""

import base64
import html
from collections.abc import Sequence
from functools import cache
from typing import Any

from IPython.display import HTML, display

from codecbook.audio import Clip
from codecbook.book.listen.takes import common_gain, flac_bytes
from codecbook.book.results import batch
from codecbook.book.tables import ASSETS
from codecbook.errors import UnsupportedInput


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


def _audio(clip: Clip, label: str, gain: float, style: str = "") -> str:
    data = base64.b64encode(flac_bytes(clip, gain)).decode()
    return (
        f'<audio controls preload="metadata" aria-label="{html.escape(label)}" '
        f'src="data:audio/flac;base64,{data}"{style}></audio>'
    )
