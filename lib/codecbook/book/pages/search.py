"""The text of all reports of a run, section by section, for the search on the index page."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag

_DATA = re.compile(r'(?:src|href|data-points)=(?:"data:[^"]*"|"\[[^"]*")')  # sound, pictures, tables once more
_UNSAID = "script, style, button, .anchor, .csv, .summary, .toc, .from, audio, footer"
_HEADINGS = ("h1", "h2", "h3", "h4")


def sections(report: str) -> list[list[str]]:
    """Return a report's sections, each as its heading, the anchor of this, and all text below it, code included."""
    soup = BeautifulSoup(_DATA.sub("", report), "html.parser")
    main = soup.select_one("main")
    if main is None:
        return []
    for tag in main.select(_UNSAID):
        tag.decompose()
    for tag in main.select("a, b, code, em, i, math *, span, strong"):
        tag.unwrap()  # a word ends where a block ends
    soup.smooth()
    found: list[list[str]] = [["", "", ""]]
    for node in main.descendants:
        if isinstance(node, Tag) and node.name in _HEADINGS:
            found.append([" ".join(node.get_text().split()), str(node.get("id", "")), ""])
        elif isinstance(node, NavigableString) and node.find_parent(_HEADINGS) is None:
            found[-1][2] += f" {node}"
    return [[heading, anchor, " ".join(text.split())] for heading, anchor, text in found if heading or text.strip()]


def texts(reports: Iterable[Path]) -> str:
    """Return ``[[file name, title, sections], ...]`` of reports as JSON that may stand within a ``<script>``."""
    pages = []
    for path in reports:
        parts = sections(path.read_text(encoding="utf-8"))
        pages.append([path.name, next((part[0] for part in parts if part[0]), path.stem), parts])
    return json.dumps(pages, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
