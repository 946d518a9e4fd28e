import json

import nbformat
import nbformat.v4 as nbf
import pytest
from bs4 import BeautifulSoup

from codecbook.book.pages.index_page import last_runs, render_index
from codecbook.errors import CorruptInput, UnsupportedInput

PROVENANCE = {
    "git_commit": "0123456789abcdef", "git_dirty": False, "started_utc": "2026-01-02T03:04:05+00:00", "wall_s": 90.0,
    "cpu": "A CPU", "cores": 2, "device": "cpu",
}  # fmt: skip

CLAIMS = [
    {"text": "bits fall", "holds": True, "hard": True, "figure": "0.2"},
    {"text": "it is <fast>", "holds": False, "hard": False, "figure": "9 times"},
    {"text": "voices differ", "holds": None, "hard": False, "figure": "one clip"},
]


def notebook(title: str, *outputs):
    cells = [nbf.new_markdown_cell(f"# {title}\n\nQuestion of {title}?"), nbf.new_code_cell("x", outputs=list(outputs))]
    return nbf.new_notebook(cells=cells, metadata={"papermill": {"duration": 33.0}})


@pytest.fixture
def run_dir(tmp_path):
    sources, run_dir = tmp_path / "sources", tmp_path / "fast"
    for folder in (sources, run_dir / "notebooks", run_dir / "results"):
        folder.mkdir(parents=True)
    for stage in ("01_tokens", "02_entropy", "03_probe"):
        nbformat.write(notebook(stage), sources / f"{stage}.ipynb")
    nbformat.write(notebook("Tokens"), run_dir / "notebooks" / "01_tokens.ipynb")
    error = nbf.new_output("error", ename="AssertionError", evalue="rate <fell>", traceback=[])
    nbformat.write(notebook("Entropy", error), run_dir / "notebooks" / "02_entropy.ipynb")
    (run_dir / "01_tokens.html").write_text("x")
    figures = {
        "bits_per_token": 8.123456, "tokens": 12_345, "exact.frame_ms": -0.00012, "repeatable": True, "clips": 4,
        "skipped.pesq": "not installed", "claims": CLAIMS, "provenance": PROVENANCE,
    }  # fmt: skip
    (run_dir / "results" / "01_tokens.json").write_text(json.dumps(figures))
    return run_dir


def test_index_lists_every_stage_with_its_status(run_dir):
    page = render_index(run_dir, run_dir.parent / "sources")
    assert page == run_dir / "index.html"
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    rows = soup.select(".stages tbody tr")
    assert [row.select_one(".status").get_text()[2:] for row in rows] == ["ok", "failed", "not run"]
    assert [row.th.code.get_text() for row in rows] == ["01_tokens", "02_entropy", "03_probe"]
    assert rows[0].th.a["href"] == "01_tokens.html"
    assert "Question of Tokens?" in rows[0].th.get_text()
    assert "AssertionError: rate <fell>" in rows[1].get_text()
    assert [row.select("td")[-1].get_text() for row in rows] == ["90.0 s", "33.0 s", "–"]


def test_index_shows_figures_in_recorded_order_and_folds_the_rest(run_dir):
    soup = BeautifulSoup(render_index(run_dir, run_dir.parent / "sources").read_text(), "html.parser")
    lines = [item.get_text(" ", strip=True) for item in soup.select(".stages .key li")]
    assert lines == [
        "bits per token 8.123", "tokens 12\u202f345", "exact: frame (ms) \u22120.00012", "repeatable yes", "clips 4",
    ]  # fmt: skip
    assert soup.select_one(".stages details summary").get_text() == "1 more"


def test_index_says_what_was_skipped_and_made_with_what(run_dir):
    soup = BeautifulSoup(render_index(run_dir, run_dir.parent / "sources").read_text(), "html.parser")
    assert "01_tokens pesq not installed" in soup.get_text(" ", strip=True)
    facts = {term.get_text(): term.find_next("dd").get_text() for term in soup.select("dt")}
    assert facts == {
        "Stages": "1 ok, 1 failed, 1 not run",
        "Claims": "1 of 2 claims hold here, 1 not judged",
        "Wall time of all stages": "2.0 min",
        "Latest stage (UTC)": "2026-01-02 03:04",
        "Commit": "0123456789",
        "Machine": "A CPU, 2 cores",
        "Device": "cpu",
    }


def test_index_shows_claims_and_first_those_that_do_not_hold(run_dir):
    soup = BeautifulSoup(render_index(run_dir, run_dir.parent / "sources").read_text(), "html.parser")
    row = soup.select(".stages tbody tr")[0]
    assert row.select_one(".claims summary").get_text() == "1 of 2 claims hold here, 1 not judged"
    assert [item.get_text(" ", strip=True) for item in row.select(".claim")] == [
        "✗ it is <fast> does not hold here : 9 times",
        "– voices differ not judged here : one clip",
        "✓ bits fall holds : 0.2",
    ]


def test_a_stage_that_failed_by_a_claim_keeps_its_figures(run_dir):
    failed = run_dir / "results" / "failed"
    failed.mkdir()
    claim = {"text": "bits fall", "holds": False, "hard": True, "figure": "0.2"}
    content = {"bits_per_token": 8.5, "claims": [claim], "provenance": PROVENANCE}
    (failed / "02_entropy.json").write_text(json.dumps(content))
    soup = BeautifulSoup(render_index(run_dir, run_dir.parent / "sources").read_text(), "html.parser")
    row = soup.select(".stages tbody tr")[1]
    assert row.select_one(".status").get_text() == "✗ failed"
    assert "bits per token 8.5" in row.get_text(" ", strip=True)
    assert "does not hold, and must" in row.get_text(" ", strip=True)


def test_a_stage_that_ended_without_a_result_failed(run_dir):
    (run_dir / "results" / "01_tokens.json").unlink()
    soup = BeautifulSoup(render_index(run_dir, run_dir.parent / "sources").read_text(), "html.parser")
    assert "It stopped before its result was written." in soup.select(".stages tbody tr")[0].get_text()


def test_a_notebook_that_was_being_written_when_the_run_was_ended(run_dir):
    executed = run_dir / "notebooks" / "01_tokens.ipynb"
    executed.write_text(executed.read_text()[:-20])
    (run_dir / "results" / "01_tokens.json").unlink()
    soup = BeautifulSoup(render_index(run_dir, run_dir.parent / "sources").read_text(), "html.parser")
    row = soup.select(".stages tbody tr")[0]
    assert row.select_one(".status").get_text() == "✗ failed"
    assert "It stopped before its result was written." in row.get_text()


def test_bad_folders_and_results_are_refused(run_dir):
    with pytest.raises(UnsupportedInput, match="no folder"):
        render_index(run_dir / "nothing")
    (run_dir / "results" / "01_tokens.json").write_text("{")
    with pytest.raises(CorruptInput, match="no JSON"):
        render_index(run_dir)
    (run_dir / "results" / "01_tokens.json").write_text('{"claims": [{"claim": "It holds."}]}')
    with pytest.raises(CorruptInput, match=r"01_tokens.json was written by another version .* ./run_all.sh 01_tokens"):
        render_index(run_dir)
    (run_dir / "results" / "01_tokens.json").write_text('{"provenance": {"commit": "a1"}}')
    assert "unknown" in render_index(run_dir).read_text()


def test_the_newest_run_of_each_stage_is_found(run_dir, monkeypatch):
    monkeypatch.delenv("CODECBOOK_BATCH", raising=False)
    other = run_dir.parent / "a run" / "results"
    other.mkdir(parents=True)
    headline = {"label": "<b>cost</b>", "figure": "8.1 [8.0, 8.2]", "unit": "bits a token"}
    (other / "02_entropy.json").write_text(json.dumps({"headlines": [headline], "provenance": PROVENANCE}))
    (other / "03_probe.json").write_text("{}}")
    found = last_runs(run_dir.parent)
    assert found["01_tokens"] == ("1 of 2 claims hold here, 1 not judged; [fast](../reports/fast/01_tokens.html)")
    assert found["02_entropy"] == "&lt;b&gt;cost&lt;/b&gt;: **8.1 [8.0, 8.2]** bits a token; a run"
    assert "delete it and run ./run_all.sh 03_probe" in found["03_probe"]
    monkeypatch.setenv("CODECBOOK_BATCH", "1")
    assert last_runs(run_dir.parent) == {}
