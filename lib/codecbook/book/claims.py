"""Claims that a run judges, and the figures that a report opens with, as they are kept and shown."""

import html
import math
import numbers
import re
from dataclasses import dataclass
from typing import Any

from IPython.display import display

from codecbook.errors import UnsupportedInput


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


@dataclass(frozen=True)
class Headline:
    """A figure that a report opens with."""

    label: str  # what was measured, as a reader would say it
    figure: str  # in digits, with its interval where it has one
    unit: str  # empty where there is none

    @property
    def parts(self) -> tuple[str, str]:
        """The figure alone, and its interval with all that follows."""
        value, _, interval = re.sub(r" (?=[\[(])", "\n", self.figure, count=1).partition("\n")
        return value, interval

    def show(self) -> None:
        """Display it, in JupyterLab and in reports."""
        value, interval = map(html.escape, self.parts)
        unit = f' <span class="unit">{html.escape(self.unit)}</span>' if self.unit else ""
        interval = f' <span class="interval">{interval}</span>' if interval else ""
        page = f"<div><dt>{html.escape(self.label)}</dt> <dd><strong>{value}</strong>{unit}{interval}</dd></div>"
        text = f"{self.label}: {self.figure} {self.unit}".rstrip()
        display({"text/plain": text, "text/html": f'<dl class="headlines">{page}</dl>'}, raw=True)


def judge(text: str, holds: Any, figure: Any, *, hard: bool) -> Claim:
    """Make a claim from what a notebook measured; see `codecbook.book.results.Run.claim`."""
    text, shown = " ".join(text.split()), shown_figure(figure)
    if not text:
        raise UnsupportedInput("A claim needs a sentence; received an empty one.")
    if holds is not None and type(holds).__name__ not in ("bool", "bool_"):
        raise UnsupportedInput(f"Whether {text!r} holds is True, False or None, not {holds!r}; reduce with .all().")
    if holds is None and not shown:
        raise UnsupportedInput(f"{text!r} is not judged: give the reason as its figure.")
    return Claim(text, None if holds is None else bool(holds), hard, shown)


def shown_figure(figure: Any) -> str:
    """Return a number, a text, or what prints itself as one line."""
    if isinstance(figure, numbers.Real) and not isinstance(figure, numbers.Integral):
        figure = f"{float(figure):.4g}" if math.isfinite(figure) else float(figure)
    return " ".join(str(figure).split())
