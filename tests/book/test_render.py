import base64
import re

import nbformat
import nbformat.v4 as nbf
import pytest
from bs4 import BeautifulSoup

from codecbook.book.pages import render
from codecbook.errors import CorruptInput


def rendered(tmp_path, cells, metadata=None, **arguments) -> BeautifulSoup:
    source = tmp_path / "notebooks" / "05_demo.ipynb"
    source.parent.mkdir(exist_ok=True)
    nbformat.write(nbf.new_notebook(cells=cells, metadata=metadata or {}), source)
    html = render.render_report(source, tmp_path / "05_demo.html", **arguments)
    assert html == tmp_path / "05_demo.html"
    return BeautifulSoup(html.read_text(encoding="utf-8"), "html.parser")


def cell_that_failed():
    trace = ["\x1b[31mAssertionError\x1b[39m: rate fell & rose"]
    error = nbf.new_output("error", ename="AssertionError", evalue="rate fell & rose\nmore", traceback=trace)
    return nbf.new_code_cell("assert rate > 9", outputs=[error], execution_count=4)


def test_report_is_one_file_that_may_load_nothing(tmp_path):
    soup = rendered(tmp_path, [nbf.new_markdown_cell("# Title"), nbf.new_code_cell("import numpy as np")])
    policy = soup.select_one('meta[http-equiv="Content-Security-Policy"]')["content"]
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:", policy)
    assert soup.select("script[src], link[href], img[src^=http], iframe") == []
    assert soup.html["lang"] == "en"
    assert soup.title.get_text() == "Title · codecbook"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["05_demo.html"]


def test_contents_follow_the_headings_and_links_find_them(tmp_path):
    text = "# T\n\nsee [there](#Rate-and-quality)\n\n## Rate and quality\n\n### Fine print\n\n## Twice\n\n## Twice"
    soup = rendered(tmp_path, [nbf.new_markdown_cell(text)])
    entries = [(item["class"][0], item.a["href"], item.get_text()) for item in soup.select("nav.toc li")]
    assert entries == [
        ("level-2", "#Rate-and-quality", "Rate and quality"),
        ("level-3", "#Fine-print", "Fine print"),
        ("level-2", "#Twice", "Twice"),
        ("level-2", "#Twice-2", "Twice"),
    ]
    for link in soup.select('a[href^="#"]'):
        assert soup.find(id=link["href"][1:]) is not None


def test_links_to_notebooks_lead_to_their_reports(tmp_path):
    table = nbf.new_output("display_data", {"text/markdown": "| a |\n|---|\n| [01_a](01_a.ipynb#Limits) |"})
    prose = "[b](02_b.ipynb) [raw](raw/03_c.ipynb) [away](https://example.org/d.ipynb) `e.ipynb`"
    cells = [nbf.new_markdown_cell(prose), nbf.new_code_cell("show()", outputs=[table])]
    soup = rendered(tmp_path, cells)
    links = [link["href"] for link in soup.select("main .prose a, main table a")]
    links = [link for link in links if not link.startswith("#")]
    assert links == ["02_b.html", "raw/03_c.ipynb", "https://example.org/d.ipynb", "01_a.html#Limits"]


def test_outputs_of_all_kinds_are_shown(tmp_path):
    pixel = base64.b64encode(b"\x89PNG").decode()
    outputs = [
        nbf.new_output("execute_result", {"text/plain": "{'a': 1}"}, execution_count=1),
        nbf.new_output("display_data", {"text/html": "<b>bold</b>", "text/plain": "fallback"}),
        nbf.new_output("display_data", {"text/markdown": "*soft* $x^2$"}),
        nbf.new_output("display_data", {"image/png": pixel, "text/plain": "<Figure>"}),
        nbf.new_output("display_data", {"application/javascript": "alert(1)", "text/plain": "script"}),
        nbf.new_output("stream", name="stderr", text="careful <here>\n"),
    ]
    soup = rendered(tmp_path, [nbf.new_code_cell("x = 1", outputs=outputs, execution_count=1)])
    assert [pre.get_text() for pre in soup.select("pre.value")] == ["{'a': 1}", "script"]
    assert soup.select_one(".outputs b").get_text() == "bold"
    assert soup.select_one(".outputs em").get_text() == "soft"
    assert soup.select_one(".outputs math") is not None
    assert soup.select_one(".outputs img.plate")["alt"]
    assert soup.select_one("pre.stderr").get_text() == "careful <here>"
    assert "alert(1)" not in str(soup)


def test_code_is_foldable_and_parameters_are_named(tmp_path):
    cells = [
        nbf.new_code_cell("seed: int = 7", metadata={"tags": ["parameters"]}),
        nbf.new_code_cell("seed = 8", metadata={"tags": ["injected-parameters"]}, execution_count=2),
        nbf.new_code_cell("x = '</details>'"),
    ]
    cells[1].metadata["papermill"] = {"duration": 2.345}
    soup = rendered(tmp_path, cells)
    heads = [summary.get_text() for summary in soup.select("details.source > summary")]
    assert heads == ["Parameters", "Parameters of this run [2] 2.3 s", "Code"]
    assert soup.select("details.source[open]") == []
    assert soup.select(".highlight pre")[2].get_text().strip() == "x = '</details>'"


def test_failure_is_announced_at_the_top_and_marked(tmp_path):
    cells = [nbf.new_markdown_cell("# T"), cell_that_failed(), nbf.new_code_cell("later()")]
    soup = rendered(tmp_path, cells)
    banner = soup.select_one(".banner[role=alert]")
    assert "AssertionError: rate fell & rose" in banner.get_text()
    failed = soup.find(id=banner.a["href"][1:])
    assert "failed" in failed["class"]
    assert "assert rate > 9" in failed.get_text()
    assert len(soup.select(".cell.failed")) == 1
    assert "AssertionError: rate fell & rose" in soup.select_one("pre.traceback").get_text()


def test_a_run_that_died_without_a_trace_says_so(tmp_path):
    soup = rendered(tmp_path, [nbf.new_code_cell("x")], failed=True)
    assert "This run failed." in soup.select_one(".banner").get_text()
    assert rendered(tmp_path, [nbf.new_code_cell("x")]).select_one(".banner") is None


def test_title_index_and_footer(tmp_path):
    code = {"version": "0.0.7", "git_commit": "0123456789abcdef", "git_dirty": True}
    metadata = {"papermill": {"start_time": "2026-01-02T03:04:05.678", "duration": 12.4}, "codecbook": code}
    soup = rendered(tmp_path, [nbf.new_markdown_cell("text")], metadata)
    assert soup.title.get_text() == "05_demo · codecbook"
    assert [link["href"] for link in soup.select("a.brand, footer a")] == ["index.html", "index.html"]
    footer = soup.select_one("footer").get_text()
    assert "05_demo.ipynb, codecbook 0.0.7, commit 0123456789 with local changes" in footer
    assert "run 2026-01-02 03:04 UTC, in 12 s" in footer
    del metadata["codecbook"]
    footer = rendered(tmp_path, [nbf.new_markdown_cell("text")], metadata).select_one("footer").get_text()
    assert "commit" not in footer, "that of the rendering would be another one"


def test_large_reports_warn(tmp_path, monkeypatch):
    monkeypatch.setattr(render, "REPORT_LIMIT_BYTES", 1000)
    with pytest.warns(UserWarning, match=r"05_demo\.html has 0\.0 MB"):
        rendered(tmp_path, [nbf.new_markdown_cell("text")])


def test_what_is_no_notebook_is_refused(tmp_path):
    (tmp_path / "a.ipynb").write_text("{")
    for name in ("a.ipynb", "absent.ipynb"):
        with pytest.raises(CorruptInput, match="cannot be read as a notebook"):
            render.render_report(tmp_path / name, tmp_path / "a.html")


def test_formulas_become_mathml(tmp_path):
    soup = rendered(tmp_path, [nbf.new_markdown_cell("$H<1$ and\n\n$$R = \\sum_k H_k$$\n\ncosts \\$5")])
    inline, block = soup.select("math")
    assert (inline["display"], block["display"]) == ("inline", "block")
    assert block["alttext"] == r"R = \sum_k H_k"
    assert inline.get_text() == "H<1"
    assert "$5" in soup.main.get_text()


def test_a_formula_that_cannot_be_converted_is_shown_as_source():
    with pytest.warns(UserWarning, match="could not be converted"):
        assert render.to_mathml(r"x_1_2 < 3", block=False) == "<code>x_1_2 &lt; 3</code>"
