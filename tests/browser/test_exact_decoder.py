"""The exact decoder on a page: this browser's own row of the matrix, and streams that are dropped on it."""

import base64
import json
import sys
from pathlib import Path

import nbformat
import nbformat.v4 as nbf
import numpy as np
import pytest

from codecbook.book import browser_decoder
from codecbook.book.pages.render import render_report
from codecbook.coding import inspect
from codecbook.coding.stream import encode_tokens
from codecbook.lm.exact.files import load_exact
from codecbook.lm.exact.stepper import kernel_logits
from codecbook.probes.determinism.case_maker import make_case
from codecbook.probes.determinism.cells import FAST_CELLS
from codecbook.probes.determinism.compare import CODERS, CellResult, CoderResult, intervals, step_hashes

sys.path.insert(0, str(Path(__file__).parents[1] / "coding"))
import stream_cases as cases
from javascript import BUNDLED, DECODE, bundled_stream

pytestmark = pytest.mark.browser

DROP = """([selector, name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
  document.querySelector(selector).dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
}"""
RUN = """async ([decoder, decode, model, stream]) => {
  const load = (text) => import("data:text/javascript;base64," + text);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return (await load(decode)).decode(await load(decoder), bytes(model), bytes(stream));
}"""


def base64_of(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


@pytest.fixture(scope="session")
def content(tmp_path_factory) -> dict:
    """Return what the page of a small case holds; the baseline's answers are computed in this process."""
    case = make_case(tmp_path_factory.mktemp("case") / "case", segments=3, frames=20)
    model, codes = load_exact(case.folder / "exact"), case.codes
    logits = np.stack([kernel_logits(model, segment, 16) for segment in codes]).astype(np.int32)
    cdf = CODERS["exact"].cdf(logits.reshape(-1, logits.shape[-1])).reshape(logits.shape).astype(np.int32)
    arrays = {"logits": logits, "cdf": cdf, "intervals": intervals(cdf, codes).astype(np.int32)}
    exact = CoderResult("ran", hashes={kind: step_hashes(array) for kind, array in arrays.items()}, segments=3)
    machine = {"machine": "x86_64", "byte_order": "little", "word_bits": 64}
    return browser_decoder.content_of(
        case, [CellResult(FAST_CELLS[0], "ran", machine=machine, coders={"exact": exact})]
    )


@pytest.fixture(scope="session")
def report_of(tmp_path_factory):
    """Return a function that makes a report of a page's content."""

    def make(content: dict) -> Path:
        folder = tmp_path_factory.mktemp("report")
        shown = nbf.new_output("display_data", {"text/html": browser_decoder.static_html(content)})
        cells = [nbf.new_markdown_cell("# A report\n\n## The matrix"), nbf.new_code_cell("show()", outputs=[shown])]
        nbformat.write(nbf.new_notebook(cells=cells), folder / "r.ipynb")
        return render_report(folder / "r.ipynb", folder / "r.html")

    return make


@pytest.fixture(scope="session")
def report(report_of, content) -> Path:
    return report_of(content)


@pytest.fixture
def opened(report, visit):
    visited = visit()
    page = visited.open(report)
    yield page
    assert (visited.requests, visited.complaints) == ([], [])


def says(page, text: str, place: int = 1):
    """Wait until one of the two status lines says something, and return all of it."""
    line = page.locator(".here [role=status]").nth(place)
    line.filter(has_text=text).wait_for(timeout=60_000)
    return line.inner_text()


def test_this_browser_adds_its_row_of_zeros(opened):
    said = says(opened, "steps differ", 0)
    assert "this machine" in said
    assert "0 of 60 steps differ in logits, CDF rows or intervals; all 480 tokens are those that were sent" in said
    assert "ms a frame" in said
    cells = opened.locator(".here tr.mine > *").all_inner_texts()
    assert (cells[0], cells[2:]) == ("this browser", ["0", "0", "0", "0"])
    assert opened.locator(".here table").first.locator("tbody tr").count() == 2


def test_as_a_widget_it_does_the_same(content, visit):
    page = visit().page
    render = """async ([script, content]) => {
      const widget = await import("data:text/javascript;base64," + script), el = document.createElement("div");
      document.body.append(el);
      widget.default.render({ model: { get: () => content }, el });
    }"""
    page.evaluate(render, [base64_of(str(browser_decoder.widget_class()._esm)), content])
    assert "0 of 60 steps differ" in says(page, "steps differ", 0)


def test_what_differs_is_counted(content, report_of, visit):
    other = {kind: list(hashes) for kind, hashes in content["hashes"].items()}
    other["logits"][7], other["intervals"][5], other["intervals"][7] = "0" * 16, "0" * 16, "0" * 16
    codes = bytearray(base64.b64decode(content["codes"]))
    codes[25 * 8 * 2] ^= 1
    page = visit().open(report_of({**content, "hashes": other, "codes": base64_of(bytes(codes))}))
    said = says(page, "steps differ", 0)
    assert "2 of 60 steps differ" in said
    assert "1 of 3 segments decode wrongly" in said
    assert page.locator(".here tr.mine > *").all_inner_texts()[2:] == ["1", "0", "2", "1"]


def test_another_model_is_refused_in_words(content, report_of, visit):
    model = bytearray(base64.b64decode(content["model"]))
    model[-9] ^= 1
    page = visit().open(report_of({**content, "model": base64_of(bytes(model))}))
    assert "not the one that the stream was made with" in says(page, "model", 0)


@pytest.mark.slow
@pytest.mark.parametrize("codec", BUNDLED)
def test_all_hashes_agree_over_ten_seconds_of_every_bundled_model(codec, visit):
    one = bundled_stream(codec)
    texts = browser_decoder.script(*browser_decoder.DECODER), DECODE.read_text(), one.model.read_bytes(), one.stream
    result = visit().page.evaluate(RUN, list(map(base64_of, texts)))
    assert result["errors"] == {}
    np.testing.assert_array_equal(result["codes"], one.rows)
    assert result["hashes"] == one.hashes
    print(f"{codec}: {result['milliseconds'] / len(one.rows):.2f} ms a row")


@pytest.mark.parametrize("by", ["choosing", "dropping"])
def test_a_stream_of_the_pages_model_is_verified(by, opened, tmp_path):
    data = bundled_stream("encodec_24khz", 1.0).stream
    if by == "choosing":
        (tmp_path / "a.cbs").write_bytes(data)
        opened.locator(".here input[type=file]").set_input_files(tmp_path / "a.cbs")
    else:
        opened.evaluate(DROP, [".here .drop", "a.cbs", base64_of(data)])
    said = says(opened, "Verified")
    assert "Verified: 1 segment, 75 rows, decoded" in said
    assert "which this page has" in said
    assert "encodec_24khz" in opened.locator(".here table").nth(1).inner_text()


def test_a_stream_of_another_model_asks_for_it_and_takes_it(opened, tmp_path):
    one = bundled_stream("units_25hz", 4.0)
    opened.evaluate(DROP, [".here .drop", "a.cbs", base64_of(one.stream)])
    said = says(opened, "Not decoded")
    assert "needs the model lm (SHA-256 29822d180dc6…), which this page has not" in said
    opened.locator(".here input[type=file]").set_input_files(one.model)
    assert "Verified: 1 segment, 100 rows, decoded" in says(opened, "Verified")


def test_damage_is_located(opened):
    data = bytearray(cases.encoded(cases.parallel(120), segment_s=0.4))
    data[inspect(bytes(data)).segments[2][1] - 1] ^= 1
    opened.evaluate(DROP, [".here .drop", "a.cbs", base64_of(bytes(data))])
    said = says(opened, "Damaged")
    assert "1 of 6 segments lost; segment 2: its payload's checksum differs" in said
    states = opened.locator(".here table").nth(2).locator("tbody tr td:last-child").all_inner_texts()
    assert [state == "verified" for state in states] == [True, True, False, True, True, True]


HOSTILE = "<img src=x onerror=alert(1)>\u202e"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("old.cbs", (Path(__file__).parents[1] / "golden/coding/stream_v1/parallel.cbs").read_bytes(), "of version 1"),
        (HOSTILE + ".cbs", b"\x00" * 100, "no stream of codecbook"),
        ("empty.cbs", b"", "no stream of codecbook"),
        ("bad.safetensors", b"\x10" + bytes(7) + b"{" * 16, "no model"),
        ("hostile.cbs", encode_tokens(cases.parallel(9, codec=HOSTILE, weights=HOSTILE)), "Verified"),
    ],
)  # fmt: skip
def test_any_file_gets_a_plain_message(name, data, message, opened):
    opened.evaluate(DROP, [".here .drop", name, base64_of(data)])
    says(opened, message)
    assert opened.locator(".here img").count() == 0
    assert "\u202e" not in opened.locator(".here").inner_text()


def test_it_can_be_stopped_and_started_again_by_keyboard(opened):
    says(opened, "steps differ", 0)
    start = opened.get_by_role("button", name="Decode in this browser")
    start.focus()
    # as soon as it can be pressed: a fast browser is done before anybody's hand is there
    opened.get_by_role("button", name="Stop").evaluate(
        """stop => new MutationObserver((_, observer) => {
            if (!stop.disabled) { observer.disconnect(); stop.click(); }
        }).observe(stop, {attributes: true})"""
    )
    opened.keyboard.press("Enter")
    assert says(opened, "Stopped.", 0)
    start.click()
    assert "0 of 60" in says(opened, "steps differ", 0)


def test_without_scripts_the_matrix_stays(report, content, browser):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(".codecbook-here table tbody tr").count() == len(content["cells"])
    assert "With scripts" in page.locator(".codecbook-here").inner_text()
    context.close()


def test_nothing_in_the_data_ends_its_element(content):
    named = {**content, "cells": [["</script><script>alert(1)</script>", "numba", 0, 0, 0, 0]]}
    data = browser_decoder.static_html(named).split('<script type="application/json">')[1].split("</script>")[0]
    assert json.loads(data) == named
