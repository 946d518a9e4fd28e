"""Figures of the determinism matrix."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from codecbook.book import figures
from codecbook.book.figures_determinism import divergence_timeline, outcome_matrix, rounding_law
from codecbook.errors import UnsupportedInput

TABLE = pd.DataFrame(
    {
        "cell": ["batch", "batch", "GPU", "GPU", "odd", "odd", "x", "x"],
        "coder": ["upstream", "exact"] * 4,
        "outcome": ["breaks", "same", "skipped", "skipped", "differs", "failed", "close", "same"],
        "segments_wrong": [3.0, 0.0, None, None, 0.0, None, 0.0, 0.0],
        "segments": [8.0, 8.0, None, None, 8.0, None, 8.0, 8.0],
    }
)


def test_each_outcome_has_a_symbol_and_words() -> None:
    figure = outcome_matrix(TABLE, {"upstream": "upstream's", "exact": "integers"})
    html = figures.to_html(figure, "alt", "caption")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["✗\n3/8", "=", "·", "·", "≠", "!", "≈", "="]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(words) == 6
    assert "<figure" in html


def many(cells: int) -> pd.DataFrame:
    rows = [
        {"cell": f"cell {n}", "coder": coder, "outcome": "breaks" if coder == "upstream" else "same",
         "segments_wrong": 57.0 if coder == "upstream" else 0.0, "segments": 60.0}
        for n in range(cells) for coder in ("upstream", "exact")
    ]  # fmt: skip
    return pd.DataFrame(rows)


TITLES = {"exact": "integers", "upstream": "upstream's"}


def test_many_cells_become_rows_under_headings() -> None:
    groups = {"absent": "nothing of it", "cell 3": "threads", "cell 1": "GPU", "cell 0": "threads"}
    axes = outcome_matrix(many(30), TITLES, groups).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(TITLES.values())
    cells = [label.get_text() for label in axes.get_yticklabels()]
    assert cells[:4] == ["cell 0", "cell 3", "cell 1", "cell 2"], "by group, the rest last"
    assert len(cells) == 30
    texts = [text.get_text() for text in axes.texts]
    assert texts[-3:] == ["threads", "GPU", "others"]
    assert texts.count("✗ 57/60") == texts.count("=") == 30


@pytest.mark.parametrize("cells", [3, 14, 15, 40])
def test_tiles_do_not_overlap_and_hold_their_text(cells: int) -> None:
    groups = {f"cell {n}": "first" if n % 2 else "second" for n in range(cells)}
    figure = outcome_matrix(many(cells), TITLES, groups)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes, renderer = figure.axes[0], canvas.get_renderer()
    assert (axes.get_ylim()[0] > 10) == (cells > 14)
    tiles = [patch.get_window_extent(renderer) for patch in axes.patches]
    texts = [text.get_window_extent(renderer) for text in axes.texts[: len(tiles)]]
    assert len(tiles) == 2 * cells
    for tile, text in zip(tiles, texts, strict=True):
        assert tile.x0 <= text.x0 < text.x1 <= tile.x1
        assert tile.y0 - 2 <= text.y0 < text.y1 <= tile.y1 + 2
    headings = [text.get_window_extent(renderer) for text in axes.texts[len(tiles) :]]
    assert len(headings) == (2 if cells > 14 else 0)
    assert not any(heading.overlaps(tile) for heading in headings for tile in tiles)
    labels = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    assert not any(a.overlaps(b) for a, b in pairwise(labels))


def test_tables_of_another_kind_are_refused() -> None:
    for table in (TABLE.iloc[:0], TABLE.assign(outcome="odd")):
        with pytest.raises(UnsupportedInput):
            outcome_matrix(table, {"upstream": "a", "exact": "b"})


def test_the_law_is_drawn_beside_what_was_measured() -> None:
    points = pd.DataFrame(
        {"series": ["a", "a", "b"], "expected_ppm": [1.0, 10.0, 5.0], "measured_ppm": [2.0, 9.0, 0.0]}
    )
    axes = rounding_law(points).axes[0]
    assert [len(np.asarray(line.get_xdata())) for line in axes.lines] == [2, 2]
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
