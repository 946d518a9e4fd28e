"""Figures of decodes that fail."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from codecbook.audio import Clip
from codecbook.book import figures, figures_determinism
from codecbook.book.figures_failures import consequence_spread, failure_rates, survival_curves, wrong_example
from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.failures import POOLED

TITLES = {"exact": "integers", "upstream": "upstream's"}


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
    assert figure.axes[0].get_xscale() == "log"
    figures.to_html(figure, "alt", "caption")
    assert figure.axes[0].get_xticklabels()[0].get_text() == "0 %"
    assert figure.axes[0].get_xlim()[0] == pytest.approx(0.5e-4)


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


@pytest.mark.parametrize("view", ["waveform", "spectrogram"])
def test_the_first_wrong_frame_is_marked(view: str) -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=(1, 4800)).astype(np.float32)
    clips = {"true": Clip(noise, 24_000), "decoded": Clip(noise[:, ::-1].copy(), 24_000)}
    figure = wrong_example(clips, 0.1, view)
    for axes in figure.axes[:2]:
        assert np.asarray(axes.lines[-1].get_xdata()).tolist() == [0.1, 0.1]
    figures.to_html(figure, "alt", "caption")
    assert_legend_fits(figure)
    with pytest.raises(UnsupportedInput):
        wrong_example({}, 0.1, view)
    with pytest.raises(UnsupportedInput, match="no view"):
        wrong_example(clips, 0.1, "odd")


def test_tables_without_rows_are_refused() -> None:
    for draw in (failure_rates, survival_curves, consequence_spread):
        for table in (pd.DataFrame(), rates().iloc[:0], rates().assign(coder="another")):
            with pytest.raises(UnsupportedInput, match="nothing to draw"):
                draw(table, TITLES)
        assert getattr(figures_determinism, draw.__name__) is draw
