import json

import numpy as np
import pandas as pd
from bs4 import BeautifulSoup

from codecbook.book import figures
from codecbook.book.figures.matrix import divergence_timeline
from codecbook.book.figures.rates import level_bars, stream_dots
from codecbook.book.figures.style import PERCENT, new_figure


def points_of(figure):
    plot = BeautifulSoup(figures.to_html(figure, "alt", "caption"), "html.parser").select_one(".scroll")
    return json.loads(plot.get("data-points", "[]"))


def test_points_have_values_intervals_and_places():
    table = pd.DataFrame(
        {"codec": ["a", "a", "b"], "bitrate_kbps": [6.0, 3.0, 3.0], "si_sdr_db": [5.0, 4.0, -3.0],
         "low": [4.5, 3.5, -3.5], "high": [6.0, 4.25, 2.0]}
    )  # fmt: skip
    figure = figures.rate_quality(table, "bitrate_kbps", "si_sdr_db", "codec", "low", "high")
    first, second = points_of(figure)
    assert (first["name"], first["x"], first["y"]) == ("a", "Bitrate (kbps)", "SI-SDR (dB)")
    assert [point[2:] for point in first["points"]] == [["3", "4 [3.5, 4.25]"], ["6", "5 [4.5, 6]"]]
    assert second["points"][0][3] == "\u22123 [\u22123.5, 2]"
    (x0, y0), (x1, y1) = (point[:2] for point in first["points"])
    assert 0 < x0 < x1 < 10_000
    assert 10_000 > y0 > y1 > 0, "places count from the top"


def test_bars_are_read_at_their_ends_by_their_labels():
    table = pd.DataFrame({"stream": ["a", "a", "b"], "level": [0, 1, 0], "bits_per_s": [10.0, 20.0, 5.0]})
    first, second = points_of(level_bars(table, "bits_per_s", "Bits per second"))
    assert [point[2:] for point in first["points"]] == [["10", "a"], ["5", "b"]]
    assert [point[2:] for point in second["points"]] == [["20", "a"]]
    assert second["points"][0][0] > first["points"][0][0]


def test_categories_and_shares_are_read_as_their_ticks_say():
    with new_figure(3, 2) as figure:
        axes = figure.subplots()
        axes.barh(["codebooks", "decoder"], [0.25, 0.5])
        axes.xaxis.set_major_formatter(PERCENT)
    assert [point[2:] for point in points_of(figure)[0]["points"]] == [["25 %", "codebooks"], ["50 %", "decoder"]]


def test_panels_that_share_an_axis_have_its_names():
    rows = [{"cell": cell, "coder": coder, "segment": 0, "row_frame": 3, "token_frame": 5}
            for cell in ("batch", "AVX2", "GPU") for coder in ("a", "b", "c")]  # fmt: skip
    series = points_of(divergence_timeline(pd.DataFrame(rows), 10, ["a", "b", "c"]))
    assert [[point[2:] for point in one["points"]] for one in series[-2:]] == [
        [[frame, cell] for cell in ("batch", "AVX2", "GPU")] for frame in ("3", "5")
    ]


def test_a_line_from_a_point_on_is_no_interval():
    ours = pd.DataFrame({"stream": ["text"], "bits": [50.0], "most": [70.0], "bits_low": [45.0], "bits_high": [55.0]})
    published = pd.DataFrame({"stream": ["Mimi"], "bits": [645.0], "most": [1400.0]})
    found = {
        series["name"]: series["points"] for series in points_of(stream_dots(ours, published, "bits", "most", "b"))
    }
    assert found["ours"][0][2:] == ["50 [45, 55]", "text"]
    assert found["published"][0][2:] == ["645", "Mimi"]


def test_textures_and_places_outside_have_no_points():
    with new_figure(3, 2) as figure:
        axes = figure.subplots()
        axes.plot(np.arange(4000), label="many")
    assert points_of(figure) == []
    with new_figure(3, 2) as figure:
        axes = figure.subplots()
        axes.plot([1, 2, np.nan], [1, 2, 3], label="few")
        axes.set_xlim(0, 1.5)
    assert [point[2:] for point in points_of(figure)[0]["points"]] == [["1", "1"]]
