"""Claims of a notebook: sentences that the run itself judges, kept as data beside the figures.

What a claim rests on decides what becomes of a run in which it does not hold. ``construction`` (a stream decodes to the
tokens that were coded): the run fails. ``data`` (more codebooks bring the spectrum nearer to the original): the default
run fails; on other recordings or with other parameters it is a finding. ``machine`` (a speed, or what floats do on
another processor): a finding, wherever.

A finding is shown as "does not hold here" with its figure, and the run succeeds. Whatever fails, everything is measured
and written first: `codecbook.book.results.Run.finish` raises `ClaimsFailed` at the very end.
"""

import html
import math
import numbers
from dataclasses import dataclass
from typing import Any, Literal

from IPython.display import display

from codecbook.errors import UnsupportedInput

Basis = Literal["construction", "data", "machine"]
BASES: tuple[Basis, ...] = ("construction", "data", "machine")


class ClaimsFailed(AssertionError):
    """Claims that must hold in this run do not; the message lists them with their figures."""


@dataclass(frozen=True)
class Claim:
    """A sentence and what this run says of it; results files keep its four fields."""

    text: str  # as a reader would quote it
    holds: bool | None  # None where this run cannot judge it: a single clip has no interval
    hard: bool  # the run fails where it does not hold
    figure: str  # what decided, in words and digits; where nothing was judged, the reason

    @property
    def failed(self) -> bool:
        """Whether it fails the run."""
        return self.hard and self.holds is False

    @property
    def mark(self) -> str:
        """A tick, a cross, or a dash where nothing was judged."""
        return {True: "✓", False: "✗", None: "–"}[self.holds]

    @property
    def verdict(self) -> str:
        """What the mark means, in words."""
        if self.holds is None:
            return "not judged here"
        if self.holds:
            return "holds"
        return "does not hold, and must" if self.hard else "does not hold here"

    @property
    def sentence(self) -> str:
        """All of it in one line: text, verdict and figure."""
        return f"{self.text}: {self.verdict}" + (f" ({self.figure})" if self.figure else "")

    def show(self) -> None:
        """Display it, in JupyterLab and in reports."""
        kind = {True: "holds", False: "fails", None: "open"}[self.holds]
        page = (
            f'<p class="claim {kind}"><span class="mark" aria-hidden="true">{self.mark}</span> '
            f'{html.escape(self.text)} <span class="verdict"><strong>{self.verdict}</strong>'
            + (f": {html.escape(self.figure)}" if self.figure else "")
            + "</span></p>"
        )
        display({"text/plain": f"{self.mark} {self.sentence}", "text/html": page}, raw=True)


def judge(text: str, holds: Any, figure: Any, *, hard: bool) -> Claim:
    """Make a claim from what a notebook measured; see `codecbook.book.results.Run.claim`."""
    if isinstance(figure, numbers.Real) and not isinstance(figure, numbers.Integral):
        figure = f"{float(figure):.4g}" if math.isfinite(figure) else float(figure)
    text, shown = " ".join(text.split()), " ".join(str(figure).split())
    if not text:
        raise UnsupportedInput("A claim needs a sentence; received an empty one.")
    if holds is not None and type(holds).__name__ not in ("bool", "bool_"):
        raise UnsupportedInput(
            f"Whether {text!r} holds must be True, False or None; received {holds!r}. Compare, and reduce with .all()."
        )
    if holds is None and not shown:
        raise UnsupportedInput(f"{text!r} is not judged: give the reason as its figure.")
    return Claim(text, None if holds is None else bool(holds), hard, shown)
