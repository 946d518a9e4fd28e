"""Reports in a real browser: nothing is requested, everything can be seen, heard and operated."""

import re
import time
from itertools import pairwise
from pathlib import Path

import nbformat
import nbformat.v4 as nbf
import numpy as np
import pandas as pd
import pytest

from codecbook.audio import clip_from_array
from codecbook.book import figures, listen, tables
from codecbook.book.pages.render import render_report
from codecbook.paths import repository_dir

pytestmark = pytest.mark.browser

MADE_HERE = "a report made by this test"
REPORTS = [*sorted((repository_dir() / "reports" / "fast").glob("*.html")), MADE_HERE]
SOUNDING_PEAK = 1e-3

DECODE = """async (audio) => {
  const bytes = Uint8Array.from(atob(audio.getAttribute("src").split(",")[1]), (c) => c.charCodeAt(0));
  const buffer = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(bytes.buffer);
  let peak = 0;
  for (let c = 0; c < buffer.numberOfChannels; c++)
    for (const sample of buffer.getChannelData(c)) peak = Math.max(peak, Math.abs(sample));
  return { label: audio.getAttribute("aria-label"), duration: buffer.duration, peak };
}"""


def wait_until(page, condition, seconds=20.0):
    """Ask from outside the page: polling within it compiles text, which the reports' own policy forbids."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the page did not come to it in time"
        page.wait_for_timeout(50)


@pytest.fixture(scope="session")
def small_report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    tone = clip_from_array(0.4 * np.sin(np.arange(12_000) / 8), 24_000)
    noise = clip_from_array(0.1 * rng.standard_normal(10_000), 24_000)
    wide = pd.DataFrame({f"a_long_column_name_{i}": [1.5, 2.5] for i in range(12)})
    shown = [
        figures.to_html(figures.waveforms({"tone": tone, "noise": noise}), "a tone and noise", "Two clips"),
        tables.to_html(wide, "A table that is wider than a telephone"),
        listen.player_html({"tone": tone, "noise": noise}, "Listen"),
        listen.player_html({"tone alone": tone}),
    ]
    cells = [nbf.new_markdown_cell("# A small report\n\nDoes $H_k$ fit?\n\n## Section\n\n### Part")]
    cells += [
        nbf.new_code_cell(f"show({i})  # {'wide ' * 60}", outputs=[nbf.new_output("display_data", {"text/html": html})])
        for i, html in enumerate(shown)
    ]  # fmt: skip
    source = folder / "small.ipynb"
    nbformat.write(nbf.new_notebook(cells=cells), source)
    return render_report(source, folder / "small.html")


@pytest.fixture(params=REPORTS, ids=lambda report: getattr(report, "stem", report))
def report(request, small_report) -> Path:
    return small_report if request.param == MADE_HERE else request.param


def test_nothing_is_requested_and_nothing_complained_about(report, visit):
    visited = visit()
    page = visited.open(report)
    page.wait_for_load_state("networkidle")
    assert visited.requests == []
    assert visited.complaints == []
    assert page.title()
    assert page.locator("html").get_attribute("lang") == "en"


def test_every_player_sounds(report, visit):
    page = visit().open(report)
    for audio in page.locator("audio").all():
        heard = audio.evaluate(DECODE)
        assert heard["label"], "a player without a label"
        assert heard["duration"] > 0, heard
        assert heard["peak"] > SOUNDING_PEAK, heard
        audio.evaluate("(audio) => audio.load()")
        wait_until(page, lambda audio=audio: audio.evaluate("(audio) => audio.readyState >= 1"))
        assert audio.evaluate("(audio) => audio.duration") == pytest.approx(heard["duration"], abs=0.1)


def test_images_are_described_and_drawn(report, visit):
    page = visit().open(report)
    for image in page.locator("img").all():
        assert (image.get_attribute("alt") or "").strip(), "an image without a description"
        assert image.evaluate("async (img) => { await img.decode(); return img.naturalWidth }") > 0


def test_headings_are_in_order(report, visit):
    page = visit().open(report)
    levels = page.locator("h1, h2, h3, h4, h5, h6").evaluate_all("(all) => all.map((h) => Number(h.tagName[1]))")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_scrolls_sideways(report, visit, width):
    page = visit(width).open(report)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(report, visit, scheme):
    page = visit(color_scheme=scheme).open(report)
    ground, ink = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    luminances = sorted(relative_luminance(color) for color in (ground, ink))
    assert (luminances[1] + 0.05) / (luminances[0] + 0.05) > 7  # WCAG 2.2, level AAA
    assert (relative_luminance(ground) > 0.5) == (scheme == "light")


def relative_luminance(css: str) -> float:
    """Return the relative luminance of ``rgb(r, g, b)`` by WCAG 2.2."""
    values = np.array([int(value) for value in re.findall(r"\d+", css)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_code_comes_and_folds_away(small_report, visit):
    page = visit().open(small_report)
    assert page.locator("details.source[open]").count() == 0
    page.get_by_role("button", name="Show code").click()
    assert page.locator("details.source[open]").count() == 4
    page.get_by_role("button", name="Hide code").click()
    assert page.locator("details.source[open]").count() == 0


def test_contents_fold_on_narrow_pages_only(small_report, visit):
    assert visit(390).open(small_report).locator(".toc details[open]").count() == 0
    assert visit(1280).open(small_report).locator(".toc details[open]").count() == 1
