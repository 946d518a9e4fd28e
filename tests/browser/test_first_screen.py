"""The first screen of a report, values of figures and tables, and the search over a run, in a real browser."""

import os
from pathlib import Path

import nbformat
import nbformat.v4 as nbf
import pandas as pd
import pytest

from codecbook.book import claims, figures, results, tables
from codecbook.book.pages.export import export_run
from codecbook.book.pages.index_page import render_index
from codecbook.book.pages.render import render_report
from codecbook.measure.statistics import Interval
from codecbook.paths import repository_dir

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=x onerror=alert(1)>"
CURVE = pd.DataFrame({"codec": ["a", "a", HOSTILE, HOSTILE], "rate_kbps": [1, 2, 1, 2], "stoi": [0.8, 0.9, 0.85, 0.95]})


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """A run with two reports, whose codecs, claims and headings are called what would harm if it ran."""
    folder = tmp_path_factory.mktemp("run") / "fast"
    (folder / "notebooks").mkdir(parents=True)
    shown: list = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODECBOOK_RUN_DIR", str(folder))
        patch.setattr(claims, "display", lambda data, raw: shown.append(data))
        run = results.begin("01_a", {"clips_dir": HOSTILE})
        run.headline(f"STOI, {HOSTILE}", Interval(0.9, 0.85, 0.95, 7))
        for n in range(20):
            run.claim(f"Claim {n} on {HOSTILE}", n != 9, HOSTILE, basis="machine")
        run.finish()
    figure = figures.to_html(figures.rate_quality(CURVE, "rate_kbps", "stoi", "codec"), "two lines", "STOI by rate")
    pages = [
        *shown, {"text/html": figure.replace('class="', 'class="story ', 1)},
        {"text/html": tables.to_html(CURVE.assign(formula="=1+1"), "The same as a table")},
    ]  # fmt: skip
    cells = [nbf.new_code_cell(f"cell({n})", outputs=[nbf.new_output("display_data", page)])
             for n, page in enumerate(pages)]  # fmt: skip
    prose = nbf.new_markdown_cell("# What is measured?\n\nWhat of it is unusual?\n\n## Rates\n\nOf zebras.")
    _write(folder, "01_a", [prose, *cells])
    _write(folder, "02_b", [nbf.new_markdown_cell("# Other things\n\nWhich?\n\n## Of zebras\n\n`x < 1`")])
    render_index(folder, folder / "notebooks")
    return folder


def _write(folder: Path, stage: str, cells: list) -> None:
    source = folder / "notebooks" / f"{stage}.ipynb"
    nbformat.write(nbf.new_notebook(cells=cells), source)
    render_report(source, folder / f"{stage}.html")


@pytest.fixture
def visited(visit):
    """A visit that ends without a complaint, a request or a dialog."""
    made = visit()
    made.page.set_viewport_size({"width": 1280, "height": 800})
    made.page.on("dialog", lambda dialog: (made.complaints.append(dialog.message), dialog.dismiss()))
    yield made
    assert made.complaints == []
    assert made.requests == []


@pytest.mark.parametrize(
    "stage", ["01_a", *sorted(p.stem for p in (repository_dir() / "reports/fast").glob("0*.html"))]
)
def test_the_first_figures_are_seen_without_scrolling(run_dir, visited, stage):
    made_here = stage == "01_a"
    page = visited.open((run_dir if made_here else repository_dir() / "reports/fast") / f"{stage}.html")
    figure = page.locator(".summary dd strong").first
    if not made_here and not figure.count():
        pytest.skip("a run that failed, or of an earlier version")
    box = figure.bounding_box()
    assert box["y"] + box["height"] < 800
    if made_here:
        image = page.locator(".summary img").bounding_box()
        assert image["y"] + image["height"] < 800


def test_a_claim_leads_to_its_place(run_dir, visited):
    page = visited.open(run_dir / "01_a.html")
    first = page.locator(".summary li").first
    assert first.inner_text().startswith("✗")
    first.get_by_role("link", name=f"Claim 9 on {HOSTILE}").click()
    assert page.evaluate("document.querySelector(':target').className") == "claim fails"


def test_values_of_a_figure_are_read_by_mouse_and_keys(run_dir, visited):
    page = visited.open(run_dir / "01_a.html")
    plot = page.locator("[data-points]").first
    readout, canvas = plot.get_by_role("status"), plot.locator(".canvas")
    assert not readout.is_visible()
    box = canvas.bounding_box()
    x, y = page.evaluate("(plot) => JSON.parse(plot.dataset.points)[0].points[1]", plot.element_handle())[:2]
    page.mouse.move(box["x"] + box["width"] * x / 1e4 + 4, box["y"] + box["height"] * y / 1e4 - 3)
    assert readout.inner_text().splitlines() == ["a", "Rate (kbps): 2", "STOI: 0.9"]
    plot.focus()
    page.keyboard.press("ArrowLeft")
    assert readout.inner_text().splitlines() == ["a", "Rate (kbps): 1", "STOI: 0.8"]
    page.keyboard.press("ArrowDown")
    assert readout.inner_text().splitlines() == [HOSTILE, "Rate (kbps): 1", "STOI: 0.85"]
    page.keyboard.press("Escape")
    assert not readout.is_visible()


def test_a_table_comes_as_csv(run_dir, visited, tmp_path):
    page = visited.open(run_dir / "01_a.html")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV of the table: The same as a table").click()
    assert download.value.suggested_filename == "the-same-as-a-table.csv"
    download.value.save_as(tmp_path / "a.csv")
    read = pd.read_csv(tmp_path / "a.csv")
    assert read["codec"].tolist() == CURVE["codec"].tolist()
    assert read["formula"].tolist() == ["'=1+1"] * 4


def test_words_are_found_in_all_reports(run_dir, visited):
    page = visited.open(run_dir / "01_a.html")
    page.get_by_role("searchbox").fill("Of  ZEBRAS")
    page.keyboard.press("Enter")
    page.wait_for_url("**/index.html#q=*")
    found = page.locator("#hits")
    assert found.get_by_role("status").inner_text() == "2 sections"
    assert [link.inner_text() for link in found.get_by_role("link").all()] == [
        "Other things: Of zebras", "What is measured?: Rates",
    ]  # fmt: skip
    page.get_by_role("searchbox").fill("onerror")
    assert "<img src=x onerror=alert(1)>" in found.locator("li").first.inner_text()
    page.get_by_role("searchbox").fill("no such word")
    assert found.get_by_role("status").inner_text() == "0 sections"
    page.get_by_role("searchbox").fill("zebras")
    found.get_by_role("link").first.hover()
    page.mouse.down()  # takes the focus, and what was searched for goes into the address
    page.wait_for_url("**/index.html#q=zebras")
    page.evaluate("new Promise(requestAnimationFrame)")
    page.mouse.up()
    page.wait_for_url("**/02_b.html#Of-zebras", wait_until="commit")  # loaded or not


def test_links_to_reports_that_a_file_does_not_hold_are_text(visited, tmp_path):
    link = '<a href="{0}">{0}</a>'.format
    (tmp_path / "02_b.html").write_text("b")
    (tmp_path / "index.html").write_text(" ".join(map(link, ("gone.html#x", "02_b.html", "https://example.org/"))))
    report = visited.open(export_run(tmp_path, tmp_path / "run" / "run.html")).frame_locator("iframe")
    report.get_by_text("gone.html#x").wait_for()
    assert [found.inner_text() for found in report.get_by_role("link").all()] == ["02_b.html", "https://example.org/"]


def test_the_sample_opens_and_leads_to_its_summary(visited):
    page = visited.open(repository_dir() / "reports" / "sample" / "codecbook.html")
    report = page.frame_locator("iframe")
    report.get_by_role("link", name="What does this run say, all in all?").click()
    report.get_by_role("heading", name="What does this run say, all in all?").wait_for()
    assert report.get_by_role("rowheader", name="What does corruption do to a stream?").count() == 2


def test_a_run_in_one_file_follows_links_and_searches(run_dir, visited, tmp_path):
    page = visited.open(export_run(run_dir, tmp_path / "moved" / "run.html"))
    report = page.frame_locator("iframe")
    assert page.locator("iframe").bounding_box() == {"x": 0, "y": 0, "width": 1280, "height": 800}
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
            width,
            800,
        ]
    report.get_by_role("link", name="What is measured?").first.click()
    report.get_by_role("link", name=f"Claim 9 on {HOSTILE}").click()
    assert page.url.endswith("/run.html#01_a.html#claim-10")
    assert "What is measured?" in page.title()
    report.get_by_role("searchbox").fill("of zebras")
    page.keyboard.press("Enter")
    found = report.locator("#hits")
    found.get_by_role("link", name="Other things: Of zebras").click()
    report.get_by_role("heading", name="Other things").wait_for()
    assert page.url.endswith("#02_b.html#Of-zebras")
    page.go_back()
    found.get_by_role("link").first.wait_for()
    assert report.get_by_role("searchbox").input_value() == "of zebras"
    page.goto("about:blank")
    page.goto(f"{(tmp_path / 'moved/run.html').as_uri()}#02_b.html")
    report.get_by_role("heading", name="Other things").wait_for()


@pytest.mark.parametrize("name", ["01_a.html", "index.html"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_finding_of_axe(run_dir, browser, name, width, scheme):
    axe = Path(os.environ.get("CODECBOOK_AXE", repository_dir() / "node_modules" / "axe-core" / "axe.min.js"))
    if not axe.is_file():
        pytest.skip("no axe-core here: npm install axe-core, or CODECBOOK_AXE=path of its axe.min.js")
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto((run_dir / name).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(axe.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then(({violations}) => violations.map(({id, impact}) => [id, impact]))")
    assert [each for each in found if each[1] in ("serious", "critical")] == []
    context.close()
