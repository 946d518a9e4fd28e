"""The reader's browser as a cell of the determinism matrix: a page that decodes exact streams by itself.

``assets/exact`` is a second implementation of ``docs/exact-lm.md`` and ``docs/stream-format.md``, in plain JavaScript,
which shares nothing with the package. In a batch run it is inlined into the report, with a stream of the case and its
model; in JupyterLab the same file is a widget. Node runs it as well, for tests.
"""

import base64
import io
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import pandas as pd
from IPython.display import HTML, display

from codecbook.book import tables
from codecbook.book.labels import ASSETS
from codecbook.book.results import batch
from codecbook.coding.stream.writer import StreamWriter
from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.exact.files import load_exact
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.compare import CellResult

DECODER = ("hashes", "model", "coder", "stream")
"""Parts of the decoder, in the order in which they are joined; ``page`` is what a reader sees of it."""
_HEADINGS = ("cell", "program", "logits", "CDF rows", "intervals", "segments wrong")


def script(*parts: str) -> str:
    """Return parts of ``assets/exact`` as the text of one module."""
    return "\n".join((ASSETS / "exact" / f"{part}.js").read_text(encoding="utf-8") for part in parts)


def show(case: Case, results: Sequence[CellResult]) -> None:
    """Display what the exact coder did in every cell, the baseline first, and in the browser of who reads it."""
    content = content_of(case, results)
    display(HTML(static_html(content)) if batch() else widget_class()(content=content))


def content_of(case: Case, results: Sequence[CellResult]) -> dict[str, Any]:
    """Return what the page needs, as JSON types: see ``assets/exact/page.js``.

    Raises UnsupportedInput: the baseline has no exact coder.
    """
    ran = [(result, result.coders["exact"]) for result in results if "exact" in result.coders]
    ran = [(result, part) for result, part in ran if part.status == "ran"]
    if not ran or results[0] is not ran[0][0]:
        raise UnsupportedInput("The first of these cells is no baseline of the exact coder; run the matrix anew.")
    model, codes, hashes = load_exact(case.folder / "exact"), case.codes, ran[0][1].hashes
    N, T, K = codes.shape
    known, file = bundled_tokens(case.codec).layout.format, io.BytesIO()
    rate_hz = known.frame_rates_hz[0]
    writer = StreamWriter(file, known, model, f"lm_{case.codec}_mini", segment_s=T / rate_hz)
    writer.write(codes.reshape(N * T, K))
    writer.close()
    cells = [
        [
            result.cell.name, _program(result),
            *(sum(a != b for a, b in zip(part.hashes[kind], hashes[kind], strict=True)) for kind in hashes),
            part.segments_wrong,
        ]
        for result, part in ran
    ]  # fmt: skip
    packed = {
        "stream": file.getvalue(), "model": (case.folder / "exact" / "model.safetensors").read_bytes(),
        "codes": codes.astype("<u2").tobytes(),
    }  # fmt: skip
    packed = {name: base64.b64encode(data).decode("ascii") for name, data in packed.items()}
    return {**packed, "rateHz": rate_hz, "hashes": hashes, "cells": cells}


def _program(result: CellResult) -> str:
    emulated = " emulated" if result.cell.processor else ""
    return f"{result.cell.backend}, {result.machine['machine']}{emulated}"


def static_html(content: dict[str, Any]) -> str:
    """Return the table of cells, to which a script on the page adds this browser; without scripts it stays."""
    caption = "The exact coder in every cell: steps whose hashes differ from the baseline's"
    table = tables.to_html(pd.DataFrame(content["cells"], columns=pd.Index(_HEADINGS)), caption)
    data = json.dumps(content).replace("<", "\\u003c")  # nothing in it ends the element
    return (
        f'<div class="codecbook-here">{table}'
        "<p>With scripts, this page decodes the same segments in your browser, and adds a row.</p>"
        f'<script type="application/json">{data}</script></div>\n'
        f'<script type="module">\n{script(*DECODER, "page", "static")}</script>'
    )


@cache
def widget_class() -> type:
    """Make the widget's class when a session first needs it: a batch run has no use for widgets."""
    import anywidget
    import traitlets

    class BrowserDecoder(anywidget.AnyWidget):
        _esm = script(*DECODER, "page")
        content = traitlets.Dict().tag(sync=True)

    return BrowserDecoder
