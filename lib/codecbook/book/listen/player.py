"""The player: takes on one clock, switched without a gap while they sound."""

from functools import cache
from typing import Any

from IPython.display import HTML, display

from codecbook.book.listen.takes import Media, Takes, as_takes, common_gain, levels, timeline
from codecbook.book.listen.widgets import page_html, widget_class
from codecbook.book.results import batch


def player(takes: Takes, title: str = "", match: bool = True, selector: str = "version") -> None:
    """Display a player of takes: a widget in JupyterLab, a part of the report in a batch run.

    All takes run on one clock and are switched by gains, so that a comparison has no gap; the stretch that a reader
    marks repeats. A picture shows waveform and spectrogram of what is heard. The first take is the reference for
    level and colour.

    Args:
        takes: `Take` objects; or clips by version, ``{"original": clip, "6 kbps": clip}``; or clips by version and
            recording, ``{"original": {"speech": clip}, ...}``.
        title: What to listen for.
        match: Whether loudness is matched at first; a switch changes it. Loudness is that of ITU-R BS.1770-4, which a
            single loud click raises: leave it out where clips are damaged.
        selector: What tells versions apart that are given by name.
    """
    found = as_takes(takes, selector)
    display(HTML(player_html(found, title, match)) if batch() else player_widget(found, title, match))


def player_html(takes: Takes, title: str = "", match: bool = True) -> str:
    """Return the player for a report: HTML with its script, and plain players where no script runs; see `player`."""
    found = as_takes(takes)
    content = _content(found, title, match)
    plain = [
        (", ".join(take.choice.values()), entry["clip"], take.detail)
        for take, entry in zip(found, content["takes"], strict=True)
    ]
    for entry in content["takes"]:
        del entry["detail"]
    return page_html("player", content, plain, chosen=0)


def player_widget(takes: Takes, title: str = "", match: bool = True) -> Any:
    """Return the player as a widget for JupyterLab, without displaying it; see `player`.

    Its ``takes`` can be replaced while it plays: what is heard goes on from the same place with the same choice. Its
    ``chosen`` is the index of the take that is heard, and can be observed and set.
    """
    return _player_class()(takes, title, match)


@cache
def _player_class() -> type:
    class PlayerWidget(widget_class()):
        def __init__(self, takes: Takes, title: str, match: bool) -> None:
            self._shown = title, match
            self._takes = as_takes(takes)
            super().__init__(kind="player", content=_content(self._takes, title, match))

        @property
        def takes(self) -> list:
            """The takes; set them to replace all of them."""
            return self._takes

        @takes.setter
        def takes(self, takes: Takes) -> None:
            self._takes = as_takes(takes)
            self.content = _content(self._takes, *self._shown)

        @property
        def take(self) -> Any:
            """The take that is heard."""
            return self._takes[min(self.chosen, len(self._takes) - 1)]

    return PlayerWidget


def _content(takes: list, title: str, match: bool) -> dict[str, Any]:
    """Return what the script of a player is given."""
    clips = [take.clip for take in takes]
    media = Media(common_gain(clips))
    entries = [
        {
            "choice": {str(name): str(option) for name, option in take.choice.items()},
            "clip": media.add(take.clip),
            "gain_db": level.gain_db,
            "level": level.text,
            "note": take.note,
            "detail": take.detail,
        }
        for take, level in zip(takes, levels(clips), strict=True)
    ]
    return {"title": title, "match": match, **timeline(clips), "takes": entries, "media": media.files}
