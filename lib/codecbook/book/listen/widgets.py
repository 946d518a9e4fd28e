"""How a script of sound is shown: as a widget in JupyterLab, and inlined in the report of a batch run."""

import base64
import html
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from codecbook.book.labels import ASSETS

# one module, in this order; the last one chooses the widget
_SCRIPTS = (
    "sound.js", "picture.js", "transport.js", "anytime.js", "answers.js", "player.js", "abx.js", "mushra.js", "page.js",
)  # fmt: skip


@cache
def script() -> str:
    """Return the module of all widgets of sound: `render` of an anywidget, which finds its places on a page itself."""
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS)


def page_html(kind: str, content: dict[str, Any], plain: Sequence[tuple[str, str, str]], **state: Any) -> str:
    """Return plain players, which the script replaces by a widget; without scripts they stay.

    Args:
        kind: Which widget.
        content: What the script gets as ``content``; its ``media`` become ``<audio>`` elements.
        plain: Label, key of the clip, and HTML of our own that goes with it, one for each player.
        state: Further values of the script's model.
    """
    media, lines = content["media"], []
    for i, (label, key, detail) in enumerate(plain):
        data, name = base64.b64encode(media[key]).decode(), html.escape(label)
        audio = (
            f'<audio controls preload="none" data-clip="{key}" aria-label="{name}" '
            f'src="data:audio/flac;base64,{data}"></audio>'
        )
        below = f'<div data-detail="{i}">{detail}</div>' if detail else ""
        lines.append(f"<div><p>{name}<br>{audio}</p>{below}</div>")
    passed = {"kind": kind, "content": {k: v for k, v in content.items() if k != "media"}, **state}
    title = f"<p>{html.escape(content['title'])}</p>" if content["title"] else ""
    return (
        f'<div class="codecbook-sound" data-state="{html.escape(json.dumps(passed))}">{title}{"".join(lines)}</div>\n'
        f'<script type="module">\n{script()}</script>'
    )


@cache
def widget_class() -> type:
    """Make the widget's class when a session first needs it: a batch run has no use for widgets."""
    import anywidget
    import traitlets

    class SoundWidget(anywidget.AnyWidget):
        _esm = script()
        kind = traitlets.Unicode().tag(sync=True)
        content = traitlets.Dict().tag(sync=True)
        chosen = traitlets.Int().tag(sync=True)  # index of the take that is heard
        answers = traitlets.List().tag(sync=True)  # of a blind test, see `codecbook.book.listen.answers`

    return SoundWidget
