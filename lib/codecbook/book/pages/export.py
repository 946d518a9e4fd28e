"""A whole run as one page, to be sent by mail and opened from disk: every report, packed, behind the run's index."""

import base64
import gzip
import json
from pathlib import Path

import jinja2

from codecbook.book.pages.index_page import CONTENT_POLICY
from codecbook.errors import UnsupportedInput
from codecbook.files import write_file

INDEX = "index.html"


def export_run(run: Path, html: Path) -> Path:
    """Write the index and all reports of a run folder as one offline page, and return its path.

    The page unpacks a report when it is opened, shows it as it is, and follows links and searches between reports.
    A folder without an index raises UnsupportedInput.
    """
    if not (run / INDEX).is_file():
        raise UnsupportedInput(f"{run} holds no {INDEX}; run the notebooks first, which ends with writing it.")
    # the same bytes for the same reports: a packed file would hold the time at which it was packed
    packed = {
        path.name: base64.b64encode(gzip.compress(path.read_bytes(), mtime=0)).decode()
        for path in sorted(run.glob("*.html"))
    }
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)
    page = pages.get_template("export.html.j2").render(
        policy=CONTENT_POLICY, name=run.name, index=INDEX, packed=json.dumps(packed)
    )
    return write_file(html, page, overwrite=True)
