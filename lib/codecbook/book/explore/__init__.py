"""Cells in which a reader moves a control and sees what becomes of it: live in JupyterLab, prepared in a report.

In JupyterLab the answer is computed when a control rests. A batch run computes the answers of a small grid and puts all
of them into the page, where ``assets/explore.js`` shows one at a time; without scripts one is shown, and a table of
all. What can be asked, and how it is shown, stands in `codecbook.book.explore.answers`.
"""

import asyncio
import html
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, display

from codecbook.audio import Clip
from codecbook.book import listen, tables
from codecbook.book.labels import ASSETS, axis_label, value_text
from codecbook.book.results import batch
from codecbook.errors import UnsupportedInput

Options = Mapping[str, Any]
"""What a control offers: values by what they are called, in order. Numbers make a slider, all else a list."""
Controls = Mapping[str, Options | Callable[..., Options]]
"""Controls by name; one may be a function of the values chosen in those before it, which it takes by name."""
Labels = tuple[str, ...]
"""A choice: the label that each control is set to."""
_REST_S = 0.08  # for which a control must rest before an answer is computed
_KEPT = 64  # answers that are kept
_PLAIN = "margin:0;float:none;width:auto"  # JupyterLab sets the parts of lists side by side


@dataclass(frozen=True, eq=False)
class Answer:
    """What becomes of one choice."""

    values: Mapping[str, Any]  # what a reader compares between choices: numbers and short texts, names as of columns
    html: str = ""  # tables and pictures
    clips: Mapping[str, Clip] = field(default_factory=dict)  # to be heard, by label


def explore(
    title: str, controls: Controls, answer: Callable[..., Answer], prepared: Mapping[str, int] | None = None
) -> None:
    """Display controls and the answer to what they are set to; sliders begin in their middle, lists at their top.

    Args:
        title: What is asked.
        controls: See `Controls`; each has at least one option.
        answer: Called with a value for each control, by name. Where it raises, the error is shown in its place.
        prepared: For a report, how many options of a control are answered, spread evenly; of others, all.
    """
    if batch():
        display(HTML(static_html(title, controls, answer, prepared)))
    else:
        display(Explorer(title, controls, answer).widget)


def offered(controls: Controls, before: Labels, most: Mapping[str, int] | None = None) -> Options:
    """Return what the control after the beginning of a choice offers, evenly thinned to as many as `most` says."""
    name = list(controls)[len(before)]
    control = controls[name]
    options = control(**values_of(controls, before)) if callable(control) else control
    if not options:
        raise UnsupportedInput(f"Control {name!r} has no options after {list(before)}; give at least one.")
    count = min(len(options), (most or {}).get(name, len(options)))
    kept = np.linspace(0, len(options) - 1, count).round().astype(int).tolist()
    return {label: value for place, (label, value) in enumerate(options.items()) if place in kept}


def values_of(controls: Controls, labels: Labels) -> dict[str, Any]:
    """Return the values of a choice, or of its beginning, by name."""
    names = list(controls)[: len(labels)]
    return {name: offered(controls, labels[:place])[labels[place]] for place, name in enumerate(names)}


def choices(controls: Controls, most: Mapping[str, int] | None = None, before: Labels = ()) -> Iterator[Labels]:
    """Yield all choices that begin so, the last control's changing fastest; `most` as of `offered`."""
    if len(before) == len(controls):
        yield before
        return
    for label in offered(controls, before, most):
        yield from choices(controls, most, (*before, label))


def first_choice(controls: Controls, most: Mapping[str, int] | None = None) -> Labels:
    """Return the middle of what sliders offer, and the top of lists."""
    labels: Labels = ()
    while len(labels) < len(controls):
        options = offered(controls, labels, most)
        labels = (*labels, list(options)[len(options) // 2 if is_slider(options) else 0])
    return labels


def is_slider(options: Options) -> bool:
    """Whether options are numbers, and so have an order that a slider shows."""
    return all(isinstance(value, int | float | np.number) for value in options.values())


def answered(controls: Controls, answer: Callable[..., Answer], labels: Labels) -> Answer:
    """Answer a choice, or say what went wrong: nobody sees what a callback raises, and no report hangs on it."""
    try:
        return answer(**values_of(controls, labels))
    except Exception as error:
        return Answer({"error": f"{type(error).__name__}: {error}"})


def answer_html(found: Answer, says: str = "") -> str:
    """Return values and pictures of an answer to a choice, which `says` describes; its clips are for a player."""
    pairs = "".join(
        f'<div><dt style="{_PLAIN};font-size:.85em;font-weight:400;opacity:.85">{html.escape(axis_label(name))}</dt>'
        f'<dd style="{_PLAIN};font-weight:600">{html.escape(value_text(value))}</dd></div>'
        for name, value in found.values.items()
    )
    said = f'<p style="margin:.4em 0">{html.escape(says)}</p>' if says else ""
    return f'{said}<dl style="display:flex;flex-wrap:wrap;gap:.4em 2em;margin:.6em 0">{pairs}</dl>{found.html}'


def described(controls: Controls, labels: Labels) -> str:
    """Return a choice in words."""
    return "; ".join(f"{axis_label(name)}: {label}" for name, label in zip(controls, labels, strict=True))


def static_html(
    title: str, controls: Controls, answer: Callable[..., Answer], prepared: Mapping[str, int] | None = None
) -> str:
    """Return prepared answers as HTML; see `explore`.

    Where answers are heard, the player's own selectors choose among them, so that sound goes on without a gap.
    """
    found = {labels: answered(controls, answer, labels) for labels in choices(controls, prepared)}
    first, name = first_choice(controls, prepared), html.escape(title)
    rows = [dict(zip(controls, labels, strict=True)) | dict(one.values) for labels, one in found.items()]
    every = (
        f"<details><summary>All {len(found)} prepared answers</summary>"
        f"{tables.to_html(pd.DataFrame(rows), title)}</details>"
    )
    if any(one.clips for one in found.values()):
        takes = [take for labels, one in found.items() for take in takes_of(controls, labels, one)]
        return f'<div class="codecbook-explored">{listen.player_html(takes, title)}{every}</div>'
    sliders = [is_slider(offered(controls, first[:place])) for place in range(len(controls))]
    parts = "\n".join(
        f'<section data-choice="{html.escape(json.dumps(labels))}"{"" if labels == first else " hidden"}>'
        f"{answer_html(one, described(controls, labels))}</section>"
        for labels, one in found.items()
    )
    return (
        f'<div class="codecbook-explore" role="group" aria-label="{name}" '
        f'data-names="{html.escape(json.dumps(list(map(axis_label, controls))))}" data-sliders="{json.dumps(sliders)}">'
        f"<p><strong>{name}</strong></p>\n{parts}\n{every}</div>\n"
        f'<script type="module">\n{(ASSETS / "explore.js").read_text(encoding="utf-8")}</script>'
    )


def takes_of(controls: Controls, labels: Labels, found: Answer) -> list[listen.Take]:
    """Return what is heard of an answer as takes of a player, chosen by the controls and then by what is heard."""
    choice = {axis_label(name): label for name, label in zip(controls, labels, strict=True)}
    detail = answer_html(found)
    return [listen.Take({**choice, "Heard": label}, clip, detail=detail) for label, clip in found.clips.items()]


class Explorer:
    """Controls and their answer in JupyterLab; `widget` is what is displayed.

    Answers are computed in a thread of their own, so that controls still move meanwhile. One that a later choice has
    overtaken is not shown.
    """

    def __init__(self, title: str, controls: Controls, answer: Callable[..., Answer]) -> None:
        import ipywidgets as widgets  # a batch run has no use for them

        self.controls = controls
        self._task: asyncio.Task | None = None
        self.player: Any = None  # while no answer has been heard
        self.compute = lru_cache(_KEPT)(lambda labels: answered(controls, answer, labels))
        self.status, self.answer = widgets.HTML(), widgets.HTML()
        self.inputs: list[Any] = []
        first = first_choice(controls)
        for place, name in enumerate(controls):
            options = offered(controls, first[:place])
            kind = widgets.SelectionSlider if is_slider(options) else widgets.Dropdown
            self.inputs.append(
                kind(options=list(options), value=first[place], description=axis_label(name),
                     style={"description_width": "initial"}, layout={"width": "26em", "max_width": "100%"})
            )  # fmt: skip
            self.inputs[-1].observe(self._moved, "value")
        row = widgets.HBox(self.inputs, layout={"flex_flow": "row wrap"})
        heading = widgets.HTML(f"<strong>{html.escape(title)}</strong>")
        self.widget = widgets.VBox([heading, row, self.status, self.answer])
        self._show(first, self.compute(first))

    @property
    def chosen(self) -> Labels:
        """What the controls are set to."""
        return tuple(control.value for control in self.inputs)

    def _moved(self, _change: Any) -> None:
        for place, control in enumerate(self.inputs):  # what they offer may depend on those before
            options = list(offered(self.controls, self.chosen[:place]))
            if options != list(control.options):
                at = min(control.index, len(options) - 1)
                control.options = options
                control.value = options[at]
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._catch_up())

    async def _catch_up(self) -> None:
        """Compute until what is shown is what is chosen."""
        while (labels := self.chosen) != self.shown:
            await asyncio.sleep(_REST_S)
            if labels == self.chosen:
                self.status.value = '<span role="status">Computing …</span>'
                found = await asyncio.to_thread(self.compute, labels)
                if labels == self.chosen:
                    self._show(labels, found)

    def _show(self, labels: Labels, found: Answer) -> None:
        self.answer.value, self.status.value, self.shown = (
            answer_html(found, described(self.controls, labels)),
            "",
            labels,
        )
        takes = [listen.Take({"Heard": label}, clip) for label, clip in found.clips.items()]
        if takes and self.player is None:
            self.player = listen.player_widget(takes)
            self.widget.children = (*self.widget.children, self.player)
        elif takes:
            self.player.takes = takes
        if self.player is not None:
            self.player.layout.display = "" if takes else "none"
