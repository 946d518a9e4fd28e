"""Figures of the determinism matrix."""

import pandas as pd
import pytest

from codecbook.book import figures
from codecbook.book.figures_determinism import divergence_timeline, outcome_matrix, rounding_law
from codecbook.errors import UnsupportedInput

TABLE = pd.DataFrame(
    {
        "cell": ["batch", "batch", "GPU", "GPU", "odd", "odd", "x", "x"],
        "coder": ["upstream", "exact"] * 4,
        "outcome": ["breaks", "same", "skipped", "skipped", "differs", "failed", "close", "same"],
        "segments_wrong": [3.0, 0.0, None, None, 0.0, None, 0.0, 0.0],
    }
)


def test_each_outcome_has_a_symbol_and_words() -> None:
    figure = outcome_matrix(TABLE, {"upstream": "upstream's", "exact": "integers"})
    html = figures.to_html(figure, "alt", "caption")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["✗ 3", "=", "·", "·", "≠", "!", "≈", "="]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(words) == 6
    assert "<figure" in html


def test_tables_of_another_kind_are_refused() -> None:
    for table in (TABLE.iloc[:0], TABLE.assign(outcome="odd")):
        with pytest.raises(UnsupportedInput):
            outcome_matrix(table, {"upstream": "a", "exact": "b"})


def test_the_law_is_drawn_beside_what_was_measured() -> None:
    points = pd.DataFrame(
        {"series": ["a", "a", "b"], "expected_ppm": [1.0, 10.0, 5.0], "measured_ppm": [2.0, 9.0, 0.0]}
    )
    axes = rounding_law(points).axes[0]
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 2]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    with pytest.raises(UnsupportedInput, match="nothing to draw"):
        rounding_law(points.assign(measured_ppm=0.0))


def test_the_timeline_has_a_panel_per_coder() -> None:
    rows = pd.DataFrame(
        {
            "cell": ["x", "x", "y"],
            "coder": ["a", "b", "a"],
            "row_frame": [3, -1, 5],
            "token_frame": [4, -1, -1],
        }
    )
    figure = divergence_timeline(rows, 10, ["a", "b"])
    assert [axes.get_title("left") for axes in figure.axes] == ["a", "b"]
    figures.to_html(figure, "alt", "caption")
    with pytest.raises(UnsupportedInput):
        divergence_timeline(rows.iloc[:0], 10, ["a"])
