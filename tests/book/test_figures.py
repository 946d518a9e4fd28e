import base64
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from codecbook.audio import clip_from_array
from codecbook.book import figures
from codecbook.book.figures.rates import level_bars, stream_dots
from codecbook.book.figures.style import NEUTRALS
from codecbook.book.labels import axis_label
from codecbook.errors import UnsupportedInput
from codecbook.measure.coding_steps import CodedSymbol, CoderState
from codecbook.measure.information import codebook_statistics
from codecbook.tokens.tokens import Tokens, tokens_from_frames


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    return {
        "original": clip_from_array(0.1 * rng.standard_normal(24_000), 24_000),
        "short, 8 kHz": clip_from_array(0.1 * rng.standard_normal(50), 8_000),
        "silence": clip_from_array(np.zeros(12_000, np.float32), 24_000),
    }


@pytest.fixture(scope="module")
def tokens():
    rng = np.random.default_rng(1)
    return tokens_from_frames(rng.integers(0, 64, (100, 4)), 64, 75.0)


def svg_of(html: str) -> str:
    source = BeautifulSoup(html, "html.parser").select_one("img")["src"]
    assert source.startswith("data:image/svg+xml;base64,")
    return base64.b64decode(source.partition(",")[2]).decode()


def test_figures_follow_the_colour_scheme(clips):
    svg = svg_of(figures.to_html(figures.waveforms(clips), "three clips", "Waveforms"))
    assert "prefers-color-scheme:dark" in svg
    body = svg.partition("</style>")[2]
    for name, light, dark in NEUTRALS:
        assert light not in body
        assert f"--{name}:{dark}" in svg
    assert "var(--ink)" in body


def test_figures_carry_text_units_and_description(clips):
    html = figures.to_html(figures.waveforms(clips), 'alt "quoted"', "Caption <1>")
    soup = BeautifulSoup(html, "html.parser")
    assert soup.img["alt"] == 'alt "quoted"'
    assert soup.figcaption.get_text() == "Caption <1>"
    svg = svg_of(html)
    for text in ("Time (s)", "Amplitude (full scale = 1)", "short, 8 kHz"):
        assert text in svg


def test_a_figure_is_drawn_alike_every_time(clips):
    first, second = (figures.to_html(figures.waveforms(clips), "a", "c") for _ in range(2))
    assert first == second


def test_waveform_keeps_a_single_wrong_sample():
    samples = np.zeros(240_000, np.float32)
    samples[123_457] = 0.75
    axes = figures.waveforms({"click": clip_from_array(samples, 24_000)}).axes[0]
    assert axes.collections[0].get_paths()[0].vertices[:, 1].max() == 0.75


def test_token_map_draws_codebooks_at_their_own_rates():
    codes = tuple(np.zeros(count, np.int64) for count in (12, 24, 48))
    figure = figures.token_map(Tokens(codes, (16,) * 3, (12.0, 24.0, 48.0)), max_frames=24)
    assert [image.get_array().shape[1] for image in figure.axes[0].images] == [6, 12, 24]
    assert figure.axes[0].get_xlim() == (0.0, 0.5)


def test_codebook_usage_draws_what_it_is_given(tokens):
    statistics = codebook_statistics([tokens])
    axes = figures.codebook_usage(statistics).axes[0]
    entropy, capacity = ([bar.get_width() for bar in bars] for bars in (axes.containers[1], axes.containers[0]))
    assert entropy == statistics["entropy_bits"].tolist()
    assert capacity == [6.0] * 4


def test_rate_quality_draws_points_and_intervals():
    table = pd.DataFrame(
        {"codec": ["a", "a", "b"], "bitrate_kbps": [6.0, 3.0, 3.0], "si_sdr_db": [5.0, 4.0, 3.0],
         "low": [4.5, 3.5, 2.0], "high": [6.0, 4.25, 3.5]}
    )  # fmt: skip
    axes = figures.rate_quality(table, "bitrate_kbps", "si_sdr_db", "codec", "low", "high").axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Bitrate (kbps)", "SI-SDR (dB)")
    assert axes.lines[0].get_xydata().tolist() == [[3.0, 4.0], [6.0, 5.0]]
    assert axes.collections[0].get_segments()[0].tolist() == [[3.0, 3.5], [3.0, 4.25]]
    many = pd.DataFrame({"x": range(7), "y": 0.0, "series": [*"abcdefg"]})
    with pytest.raises(UnsupportedInput, match="7 series cannot be told apart"):
        figures.rate_quality(many, "x", "y", "series")


def test_large_figures_become_png():
    rng = np.random.default_rng(2)
    figures.style()
    figure, axes = plt.subplots()
    axes.scatter(*rng.standard_normal((2, 9_000)))
    html = figures.to_html(figure, "cloud", "Cloud")
    assert re.search(r'src="data:image/png;base64,', html)
    assert len(html) < 300_000
    plt.close(figure)


def test_show_closes_the_figure_so_that_no_backend_shows_it_again(monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "display", shown.append)
    figure, _ = plt.subplots()
    number = figure.number
    figures.show(figure, "empty axes", "Nothing")
    assert len(shown) == 1
    assert not plt.fignum_exists(number)


@pytest.mark.parametrize(("alt", "caption"), [("", "c"), ("a", " ")])
def test_figures_without_description_are_refused(clips, alt, caption):
    with pytest.raises(UnsupportedInput, match="alternative text and a caption"):
        figures.to_html(figures.waveforms(clips), alt, caption)


def test_empty_mappings_and_clips_are_refused():
    for clips in ({}, {"a": clip_from_array(np.zeros((1, 0), np.float32), 8_000)}):
        with pytest.raises(UnsupportedInput, match="no samples"):
            figures.waveforms(clips)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bitrate_kbps", "Bitrate (kbps)"),
        ("si_sdr_db", "SI-SDR (dB)"),
        ("bits_per_token", "Bits per token"),
        ("estoi", "ESTOI"),
        ("rate_overhead_percent", "Rate overhead (%)"),
        ("Loss (bits)", "Loss (bits)"),
        ("s", "S"),
        ("bits_per_s", "Bits per s"),
    ],
)
def test_axis_labels(name, expected):
    assert axis_label(name) == expected


OURS = pd.DataFrame(
    {"stream": ["text", "codec"], "bits_per_s": [50.0, 900.0], "capacity": [70.0, 1100.0],
     "bits_per_s_low": [45.0, 880.0], "bits_per_s_high": [55.0, 920.0]}
)  # fmt: skip
PUBLISHED = pd.DataFrame({"stream": ["Mimi"], "bits_per_s": [645.0], "capacity": [1400.0]})


def test_published_dots_stand_below_and_are_hollow() -> None:
    axes = stream_dots(OURS, PUBLISHED, "bits_per_s", "capacity", "Bits per second").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["text", "codec", "Mimi"]
    assert axes.get_xscale() == "log"
    dots = {line.get_label(): line for line in axes.lines if line.get_marker() == "o"}
    assert list(dots["ours"].get_xdata()) == [50.0, 900.0]
    assert list(dots["published"].get_ydata()) == [2]
    assert dots["published"].get_markerfacecolor() != dots["ours"].get_markerfacecolor()


def test_level_bars_end_where_the_sum_is() -> None:
    table = pd.DataFrame({"stream": ["a", "a", "b"], "level": [0, 1, 0], "bits_per_s": [10.0, 20.0, 5.0]})
    axes = level_bars(table, "bits_per_s", "Bits per second").axes[0]
    ends = sorted(patch.get_x() + patch.get_width() for patch in axes.patches)
    assert ends == [5.0, 10.0, 30.0]


@pytest.mark.parametrize("code", [1, 6])
def test_the_band_is_the_symbols_interval(code: int) -> None:
    counts = np.full(8, (1 << 20) // 8)
    low = code * counts[0]
    state = CoderState(0, 1 << 56, 0)
    symbol = CodedSymbol(0, 0, code, np.zeros(8), counts, int(low), int(low + counts[0]), state, state)
    figure = figures.symbol_interval(symbol)
    band = figure.axes[0].patches[0].get_extents().transformed(figure.axes[0].transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((code / 8, (code + 1) / 8))
    assert f"code {code}: 131072 of 1048576, 3.00 bits" in {text.get_text() for text in figure.axes[0].texts}
    assert "<figure" in figures.to_html(figure, "alt", "caption")
