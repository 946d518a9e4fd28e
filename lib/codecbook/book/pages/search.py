"""The text of all reports of a run, section by section, for the search on the index page."""

import json
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from pathlib import Path

_HEADINGS = ("h1", "h2", "h3", "h4")
_INLINE = ("a", "b", "code", "em", "i", "span", "strong", "sub", "sup", "mi", "mn", "mo")
_UNSAID_TAGS = ("head", "header", "nav", "script", "style", "button", "summary", "footer")
_UNSAID_CLASSES = ("anchor", "csv", "from", "skip", "summary")


class _Reader(HTMLParser):
    """Collects text by heading; all else that BeautifulSoup would do takes ten times as long."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[list[str]] = [["", "", ""]]
        self.part = 2  # of the section, that text belongs to: its heading, or what stands below
        self.unsaid, self.depth = "", 0  # the element that is left out, and how many of its kind are open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if self.depth:
            self.depth += tag == self.unsaid
        elif tag in _UNSAID_TAGS or set((known.get("class") or "").split()) & {*_UNSAID_CLASSES}:
            self.unsaid, self.depth = tag, 1
        elif tag in _HEADINGS:
            self.sections.append(["", known.get("id") or "", ""])
            self.part = 0
        elif tag not in _INLINE:
            self.sections[-1][2] += " "

    def handle_endtag(self, tag: str) -> None:
        if self.depth:
            self.depth -= tag == self.unsaid
        elif tag in _HEADINGS:
            self.part = 2
        elif tag not in _INLINE:
            self.sections[-1][2] += " "

    def handle_data(self, data: str) -> None:
        if not self.depth:
            self.sections[-1][self.part] += data


def sections(report: str) -> list[list[str]]:
    """Return a report's sections, each as its heading, the anchor of this, and all text below it, code included."""
    reader = _Reader()
    reader.feed(report)
    found = ([" ".join(part.split()) for part in section] for section in reader.sections)
    return [section for section in found if section[0] or section[2]]


def texts(reports: Iterable[Path]) -> str:
    """Return ``[[file name, title, sections], ...]`` of reports as JSON that may stand within a ``<script>``."""
    pages = []
    for path in reports:
        parts = sections(path.read_text(encoding="utf-8"))
        pages.append([path.name, next((part[0] for part in parts if part[0]), path.stem), parts])
    return json.dumps(pages, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
