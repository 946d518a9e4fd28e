import nbformat
import nbformat.v4 as nbf
import pytest
from bs4 import BeautifulSoup

from codecbook.book import claims, figures, results
from codecbook.book.figures.style import new_figure
from codecbook.book.pages.render import render_report
from codecbook.measure.statistics import Interval

PROSE = "# Do bits fall?\n\n**Question.** By how much?\n\n**Answer in brief.** A lot.\n\n## Measured"


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """What a run displays, as the outputs of a cell."""
    shown: list = []
    monkeypatch.setenv("CODECBOOK_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(
        claims, "display", lambda data, raw: shown.append(nbf.new_output("display_data", data)), raising=True
    )
    return shown


@pytest.fixture
def rendered(tmp_path, outputs):
    """Render what was displayed so far, a cell an output, between prose."""

    def render(*more, prose=PROSE) -> BeautifulSoup:
        cells = [nbf.new_code_cell(f"cell({n})", outputs=[output]) for n, output in enumerate([*outputs, *more])]
        source = tmp_path / "a.ipynb"
        nbformat.write(nbf.new_notebook(cells=[nbf.new_markdown_cell(prose), *cells] if prose else cells), source)
        return BeautifulSoup(render_report(source, tmp_path / "a.html").read_text(), "html.parser")

    return render


def story():
    with new_figure(3, 2) as figure:
        figure.subplots().plot([1, 2], [3, 4])
    page = figures.to_html(figure, "a rising line", "It rises").replace('class="', 'class="story ', 1)
    return nbf.new_output("display_data", {"text/html": page})


def run_with(outputs, finish=True):
    run = results.begin("a", {})
    run.claim("bits fall", True, "0.2")
    run.claim("it is <b>fast</b>", False, "9 times", basis="machine")
    run.claim("voices differ", None, "one clip")
    run.headline("A token <i>", Interval(-7.719, -7.83, -7.6, 36), "bits")
    run.headline("Clips", 12)
    run.headline("Not measured", float("nan"))
    run.headline("Speed", 12345.678, "tokens/s")
    run.headline("Loss", Interval(0.5, float("nan"), float("nan"), 1), "%")
    if finish:
        run.finish()


def test_the_first_screen_says_what_was_found(outputs, rendered):
    run_with(outputs)
    soup = rendered(story())
    kinds = [(tag.name, tag.get("class", [""])[0]) for tag in soup.main.find_all(recursive=False)]
    assert kinds[:3] == [("section", "prose"), ("section", "summary"), ("section", "prose")]
    assert soup.select_one(".lead").get_text(" ", strip=True) == "Do bits fall? Question. By how much?"
    summary = soup.select_one(".summary")
    terms = [(row.dt.get_text(), row.dd.get_text(" ", strip=True)) for row in summary.select("dl > div")]
    assert terms == [
        ("A token <i>", "\u22127.72 bits [\u22127.83, \u22127.60] (95 %, n=36)"),
        ("Clips", "12"),
        ("Speed", "12,346 tokens/s"),
        ("Loss", "0.5 % (n=1; too few for an interval)"),
    ]
    assert len(soup.select("dl.headlines")) == 1, "moved, not repeated"
    assert summary.select_one(".count").get_text() == "1 of 2 claims hold here, 1 not judged"
    assert [item.get_text(" ", strip=True) for item in summary.select("li")] == [
        "✗ it is <b>fast</b> does not hold here : 9 times", "– voices differ not judged here : one clip",
        "✓ bits fall : holds",
    ]  # fmt: skip
    assert len(soup.select("figure.story")) == 2
    assert summary.select_one(".from a")["href"] == "#Measured"
    for link in soup.select('a[href^="#"]'):
        assert soup.find(id=link["href"][1:]) is not None


def test_a_run_that_stopped_shows_what_it_came_to(outputs, rendered):
    run_with(outputs, finish=False)
    error = nbf.new_output("error", ename="ValueError", evalue="no", traceback=["no"])
    soup = rendered(error)
    assert soup.main.find(recursive=False)["class"] == ["banner"]
    assert len(soup.select(".summary dl > div")) == 4
    assert len(soup.select(".summary li")) == 3
    assert [bool(fold.get("open") is not None) for fold in soup.select("details.source")] == [False] * 7 + [True]


@pytest.mark.parametrize("prose", ["", "text without a title"])
def test_notebooks_of_other_form_are_rendered(outputs, rendered, prose):
    assert rendered(prose=prose).select(".summary") == []
    run_with(outputs)
    assert rendered(prose=prose).select_one("main > .summary dl") is not None


def test_headlines_are_kept_and_an_index_shows_them(outputs, tmp_path):
    run_with(outputs)
    assert results.read("a")["headlines"] == [
        {"label": "A token <i>", "figure": "\u22127.72 [\u22127.83, \u22127.60] (95 %, n=36)", "unit": "bits"},
        {"label": "Clips", "figure": "12", "unit": ""},
        {"label": "Speed", "figure": "12,346", "unit": "tokens/s"},
        {"label": "Loss", "figure": "0.5 (n=1; too few for an interval)", "unit": "%"},
    ]
    run = results.begin("a", {})
    run.headline("Clips", 1)
    run.headline("Clips", 2)
    assert [each.figure for each in run.headlines] == ["2"], "a cell may run again"
