"""Figures of the determinism matrix."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from codecbook.audio import Clip
from codecbook.book import figures
from codecbook.book.figures.failures import consequence_spread, failure_rates, survival_curves, wrong_example
from codecbook.book.figures.matrix import divergence_timeline, outcome_matrix, rounding_law
from codecbook.probes.determinism.failures import POOLED

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
    figure = outcome_matrix(TABLE, {"upstream": "upstream's", "exact": "integers"}, {})
    html = figures.to_html(figure, "alt", "caption")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["✗ 3/8", "=", "·", "·", "≠", "!", "≈", "=", "others"]
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
    tiles = [patch.get_window_extent(renderer) for patch in axes.patches]
    texts = [text.get_window_extent(renderer) for text in axes.texts[: len(tiles)]]
    assert len(tiles) == 2 * cells
    for tile, text in zip(tiles, texts, strict=True):
        assert tile.x0 <= text.x0 < text.x1 <= tile.x1
        assert tile.y0 - 2 <= text.y0 < text.y1 <= tile.y1 + 2
    headings = [text.get_window_extent(renderer) for text in axes.texts[len(tiles) :]]
    assert len(headings) == 2
    assert not any(heading.overlaps(tile) for heading in headings for tile in tiles)
    labels = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    assert not any(a.overlaps(b) for a, b in pairwise(labels))


def test_the_law_is_drawn_beside_what_was_measured() -> None:
    points = pd.DataFrame(
        {"series": ["a", "a", "b"], "expected_ppm": [1.0, 10.0, 5.0], "measured_ppm": [2.0, 9.0, 0.0]}
    )
    axes = rounding_law(points).axes[0]
    assert [len(np.asarray(line.get_xdata())) for line in axes.lines] == [2, 2]
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_the_timeline_has_a_panel_per_coder() -> None:
    rows = pd.DataFrame(
        {"cell": ["x", "x", "y"], "coder": ["a", "b", "a"], "row_frame": [3, -1, 5], "token_frame": [4, -1, -1]}
    )
    figure = divergence_timeline(rows, 10, ["a", "b"])
    assert [axes.get_title("left") for axes in figure.axes] == ["a", "b"]
    figures.to_html(figure, "alt", "caption")


def rates(upstream: int = 30) -> pd.DataFrame:
    rows = []
    for coder, wrong in (("upstream", upstream), ("exact", 0)):
        for cell, cells in ((POOLED, 2), ("a", 1), ("b", 1)):
            share = wrong / 40
            rows.append(
                {"coder": coder, "cell": cell, "cells": cells, "decodes": 40 * cells, "wrong": wrong * cells,
                 "wrong_share": share, "wrong_share_low": share * 0.8, "wrong_share_high": min(1.0, share * 1.2 + 0.07),
                 "wrong_share_high_if_independent": np.nan if wrong else 0.04}
            )  # fmt: skip
    return pd.DataFrame(rows)


def assert_legend_fits(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.legends[0].get_window_extent(canvas.get_renderer())
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width + 1


def test_a_share_of_none_is_a_bound() -> None:
    figure = failure_rates(rates(), TITLES)
    axes = figure.axes[0]
    markers = {line.get_marker(): line for line in axes.lines if len(np.asarray(line.get_xdata()))}
    assert np.asarray(markers["<"].get_xdata()).tolist() == [0.07]
    assert np.asarray(markers["|"].get_xdata()).tolist() == [0.04]
    assert np.asarray(markers["o"].get_xdata()).tolist() == [0.75]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "integers\n0 of 80 decodes", "upstream's\n60 of 80 decodes",
    ]  # fmt: skip
    assert axes.get_xscale() == "linear"
    assert "<figure" in figures.to_html(figure, "alt", "caption")
    assert_legend_fits(figure)


def test_small_shares_take_an_axis_of_decades() -> None:
    figure = failure_rates(
        rates().replace({"wrong_share": {0.75: 1e-3}, "wrong_share_low": {0.75 * 0.8: 1e-4}}), TITLES
    )
    assert figure.axes[0].get_xscale() == "symlog"
    figures.to_html(figure, "alt", "caption")
    assert {"0 %", "10 %"} <= {label.get_text() for label in figure.axes[0].get_xticklabels()}


def test_curves_are_drawn_by_coder() -> None:
    part = pd.DataFrame({"time_s": [0.0, 0.5, 1.0], "share": [1.0, 0.5, 0.2], "low": 0.1, "high": 1.0})
    curves = pd.concat([part.assign(coder="upstream"), part.assign(coder="exact", share=1.0)])
    figure = survival_curves(curves, TITLES)
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["integers", "upstream's"]
    assert np.asarray(lines[1].get_ydata()).tolist() == [1.0, 0.5, 0.2]
    figures.to_html(figure, "alt", "caption")
    assert_legend_fits(figure)


def test_each_wrong_segment_is_a_point() -> None:
    table = pd.DataFrame(
        {"coder": ["upstream"] * 4, "snr_after_db": [1.0, -2.0, 3.0, np.inf], "bad_duration_s": [0.1, 0.2, 0.3, 0.4],
         "noticed": [True, False, False, False]}
    )  # fmt: skip
    figure = consequence_spread(table, TITLES)
    points = [sum(len(np.asarray(line.get_xdata())) for line in axes.lines[:2]) for axes in figure.axes]
    assert points == [3, 4], "an infinite ratio has no place"
    figures.to_html(figure, "alt", "caption")
    assert_legend_fits(figure)


def test_the_first_wrong_frame_is_marked() -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=(1, 4800)).astype(np.float32)
    clips = {"true": Clip(noise, 24_000), "decoded": Clip(noise[:, ::-1].copy(), 24_000)}
    figure = wrong_example(clips, 0.1)
    for axes in figure.axes:
        assert np.asarray(axes.lines[-1].get_xdata()).tolist() == [0.1, 0.1]
    figures.to_html(figure, "alt", "caption")
    assert_legend_fits(figure)
