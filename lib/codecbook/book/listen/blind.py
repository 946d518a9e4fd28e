"""Blind tests: A/B/X and MUSHRA, whose answers become a file."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from IPython.display import HTML, display

from codecbook.audio import Clip
from codecbook.book.listen.answers import HIDDEN, file_name, write_answers
from codecbook.book.listen.takes import Media, common_gain, levels, timeline
from codecbook.book.listen.widgets import page_html, widget_class
from codecbook.book.results import batch, run_dir
from codecbook.errors import UnsupportedInput

ANCHORS_HZ = (3500, 7000)
_ANCHOR_SLOPE_HZ = 500  # BS.1534-3, section 5: 25 dB down at 4 kHz, 50 dB at 4.5 kHz
_ANCHOR_STOP_DB = 60.0
_MOST_VERSIONS = 9  # under test, so that a page has at most 12 signals (BS.1534-3, section 5)


def abx(
    reference: Clip,
    a: Clip,
    b: Clip,
    labels: Sequence[str] = ("reference", "A", "B"),
    trials: int = 10,
    title: str = "Can you hear the difference?",
    match: bool = True,
    folder: Path | None = None,
) -> Any:
    """Display a test in which X is A or B by chance, and the listener says which.

    All clips repeat in step on one clock and are switched without a gap. The reference is for orientation; `b` may be
    the reference itself, to ask whether `a` can be told from it. The p-value and the interval of the share of correct
    answers hold at all times at once (`codecbook.measure.anytime`), so that `trials` is a proposal: a listener may stop
    earlier or go on. Seven of seven are p < 0.05.

    Args:
        reference: The clip as it should sound.
        a: A clip of the same sound.
        b: Another, or the reference.
        labels: What reference, A and B are.
        trials: After how many trials the test says what was found; at least one.
        title: The question.
        match: Whether loudness is matched: leave it so unless level is the question.
        folder: Where a session in JupyterLab keeps its answers, ``artifacts/listening`` of the run by default.

    Returns:
        The widget, whose ``answers`` are rows (see `codecbook.book.listen.answers`); None in a batch run.
    """
    clips = [reference, a, b]
    if len(labels) != len(clips) or labels[1] == labels[2] or trials < 1:
        raise UnsupportedInput(
            f"Labels {list(labels)} and {trials} trials; give labels for reference, A and B, other ones for A and B, "
            "and at least one trial."
        )
    media = Media(common_gain(clips))
    takes = [
        {"label": label, "clip": media.add(clip), "gain_db": level.gain_db, "level": level.text}
        for label, clip, level in zip(labels, clips, levels(clips), strict=True)
    ]
    item = {"item": reference.name or title, "trials": trials, "match": match}
    content = {"title": title, **item, **timeline(clips), "takes": takes, "media": media.files}
    return _show("abx", content, [(take["label"], take["clip"], "") for take in takes], folder)


def mushra(
    versions: Mapping[str, Mapping[str, Clip]],
    title: str = "How good is it, beside the reference?",
    match: bool = True,
    folder: Path | None = None,
) -> Any:
    """Display a MUSHRA test (ITU-R BS.1534-3), a page for each recording.

    A page offers the reference openly and, in an order of chance, all other versions, the reference once more, and
    low-pass anchors at 3.5 and 7 kHz that are made here; where the sampling rate holds no more than such an anchor, it
    is left out. Each is rated from 0 to 100 once it was heard. Then the listener sees means and, of each condition, the
    difference to the hidden reference with an interval that holds whenever they stop.

    Args:
        versions: Clips by version and recording, ``{"original": {"speech": ...}, "6 kbps": {"speech": ...}}``; the
            first version is the reference. The clips of a recording have one rate and number of channels.
        title: The question.
        match: Whether conditions are brought to the reference's loudness; anchors keep the reference's level.
        folder: As for `abx`.

    Returns:
        As for `abx`.

    Raises:
        UnsupportedInput: Not 1 to 9 versions beside the reference, unequal clips, or a name that the test itself uses.
    """
    sets = conditions(versions)
    media = Media(common_gain([clip for own in sets.values() for clip in own.values()]))
    items, plain = [], []
    for name, own in sets.items():
        tested = [label for label in own if label == HIDDEN or label in versions]
        gains = dict(zip(tested, (level.gain_db for level in levels([own[label] for label in tested])), strict=True))
        takes = [  # an anchor is the reference but for what was filtered out, and keeps its level
            {"label": label, "clip": media.add(clip), "gain_db": gains.get(label, gains[HIDDEN])}
            for label, clip in own.items()
        ]
        items.append({"name": name, **timeline(list(own.values())), "takes": takes})
        plain += [(f"{name}, {take['label']}", take["clip"], "") for take in takes]
    content = {"title": title, "match": match, "hidden": HIDDEN, "items": items, "media": media.files}
    return _show("mushra", content, plain, folder)


def conditions(versions: Mapping[str, Mapping[str, Clip]]) -> dict[str, dict[str, Clip]]:
    """Return by recording the clips that `mushra` plays: the hidden reference, the versions, and the anchors."""
    (_, references), *others = versions.items()
    anchors = {f"anchor {hz / 1000:g} kHz": hz for hz in ANCHORS_HZ}
    if not 1 <= len(others) <= _MOST_VERSIONS or not references or {name for name, _ in others} & {HIDDEN, *anchors}:
        raise UnsupportedInput(
            f"MUSHRA takes recordings, 1 to {_MOST_VERSIONS} versions beside the reference, none of them called "
            f"{', '.join((HIDDEN, *anchors))}; received {list(references)} and {[name for name, _ in others]}."
        )
    sets = {}
    for name, reference in references.items():
        own = {HIDDEN: reference} | {version: row[name] for version, row in others if name in row}
        if len({(clip.sample_rate_hz, clip.num_channels) for clip in own.values()}) > 1:
            raise UnsupportedInput(f"The clips of {name!r} differ in rate or channels; use codecbook.audio.convert.")
        audible = {label: hz for label, hz in anchors.items() if hz + _ANCHOR_SLOPE_HZ < reference.sample_rate_hz / 2}
        sets[name] = own | {label: low_pass(reference, hz) for label, hz in audible.items()}
    return sets


def low_pass(clip: Clip, cutoff_hz: float) -> Clip:
    """Return a MUSHRA anchor: all up to the cut-off unchanged, 60 dB down from 500 Hz above it, without delay."""
    nyquist_hz = clip.sample_rate_hz / 2
    length, beta = scipy.signal.kaiserord(_ANCHOR_STOP_DB, _ANCHOR_SLOPE_HZ / nyquist_hz)
    window: Any = ("kaiser", beta)
    taps = np.asarray(
        scipy.signal.firwin(length | 1, cutoff_hz + _ANCHOR_SLOPE_HZ / 2, window=window, fs=clip.sample_rate_hz)
    )
    filtered = scipy.signal.oaconvolve(clip.samples.astype(np.float64), taps[None], mode="same", axes=1)
    return Clip(filtered.astype(np.float32), clip.sample_rate_hz, f"{clip.name} below {cutoff_hz:g} Hz")


def _show(kind: str, content: dict[str, Any], plain: list[tuple[str, str, str]], folder: Path | None) -> Any:
    """Display a test where it can be answered: on the report's page, or as a widget that writes its answers."""
    if batch():
        display(HTML(page_html(kind, content, plain, answers=[])))
        return None
    widget = _blind_class()(kind, content, folder or run_dir() / "artifacts" / "listening")
    display(widget)
    return widget


@cache
def _blind_class() -> type:
    class BlindWidget(widget_class()):
        def __init__(self, kind: str, content: dict[str, Any], folder: Path) -> None:
            super().__init__(kind=kind, content=content)
            self.folder = folder
            self.observe(self._keep, "answers")

        def _keep(self, change: Any) -> None:
            """Write what a listener has answered so far, after each answer."""
            if change.new:
                write_answers(change.new, self.folder / file_name(change.new[0]), overwrite=True)

    return BlindWidget
