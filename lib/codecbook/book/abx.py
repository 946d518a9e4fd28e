"""A/B/X listening tests: is there an audible difference between two clips, answered blindly.

The player is one file, ``assets/abx.js``. In JupyterLab it is a widget whose votes reach Python; in a batch run
it is inlined into the report with a stand-in for the widget's model, so that the test works on the offline page.
"""

import html
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from IPython.display import HTML, display
from scipy.stats import binomtest

from codecbook.audio import Clip
from codecbook.book.flac import common_gain, flac_bytes, flac_uri
from codecbook.book.results import batch
from codecbook.errors import UnsupportedInput

_ASSETS = Path(__file__).parent / "assets"


class AbxTest:
    """A displayed test and its votes so far.

    Attributes:
        widget: The widget in JupyterLab; None in a batch run, where votes stay on the page.
    """

    def __init__(self, widget: Any = None) -> None:
        self.widget = widget

    @property
    def votes(self) -> list[dict[str, Any]]:
        """One ``{"x": "A" or "B", "vote": "A" or "B", "correct": bool}`` per trial."""
        return list(self.widget.votes) if self.widget is not None else []

    @property
    def p_value(self) -> float | None:
        """One-sided binomial p-value of the votes against guessing; None without votes."""
        votes = self.votes
        if not votes:
            return None
        correct = sum(bool(vote["correct"]) for vote in votes)
        return float(binomtest(correct, len(votes), 0.5, alternative="greater").pvalue)

    def _ipython_display_(self) -> None:
        """Show nothing: the test is on display already, also where it is a cell's last value."""


def abx(
    reference: Clip,
    a: Clip,
    b: Clip,
    labels: Sequence[str] = ("reference", "A", "B"),
    trials: int = 10,
    title: str = "Can you hear the difference?",
) -> AbxTest:
    """Display a test in which X is A or B by chance, and the listener says which.

    All clips loop in step on one clock and are switched without a gap. They are turned down by one common factor
    if any of them overshoots; differences in level are left as they are, so match loudness first where level is
    not the question.

    Args:
        reference: The original, for orientation.
        a: First candidate.
        b: Second candidate; may be the reference itself, to ask whether `a` can be told from it.
        labels: What reference, A and B are.
        trials: How many votes make a test; 10 is enough for p < 0.05 at 9 correct.
        title: The question.

    Returns:
        The test, whose `votes` grow while the listener votes.

    Raises:
        UnsupportedInput: Not three labels, no trials, or an empty clip.
    """
    clips = (reference, a, b)
    if len(labels) != len(clips) or trials < 1:
        raise UnsupportedInput(
            f"An A/B/X test needs 3 labels and at least one trial; received {len(labels)} and {trials}. Give labels "
            "for reference, A and B."
        )
    gain = common_gain(clips)
    if batch():
        display(HTML(static_html(clips, labels, gain, trials, title)))
        return AbxTest()
    media = [{"label": text, "data": flac_bytes(c, gain)} for text, c in zip(labels, clips, strict=True)]
    widget = _widget_class()(clips=media, trials=trials, title=title)
    display(widget)
    return AbxTest(widget)


def static_html(clips: Sequence[Clip], labels: Sequence[str], gain: float, trials: int, title: str) -> str:
    """Return plain players, which a script on the page turns into the test; without scripts they stay."""
    players = "".join(
        f'<p>{html.escape(label)}<br><audio controls preload="metadata" aria-label="{html.escape(label)}" '
        f'src="{flac_uri(clip, gain)}"></audio></p>'
        for label, clip in zip(labels, clips, strict=True)
    )
    script = "\n".join((_ASSETS / name).read_text() for name in ("abx.js", "abx_static.js"))
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
        _esm = _ASSETS / "abx.js"
        title = traitlets.Unicode().tag(sync=True)
        trials = traitlets.Int().tag(sync=True)
        clips = traitlets.List().tag(sync=True)
        votes = traitlets.List().tag(sync=True)

    return AbxWidget
