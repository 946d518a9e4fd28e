import pandas as pd
import pytest

from codecbook.book import figures
from codecbook.book.figures_study import level_bars, stream_dots
from codecbook.errors import UnsupportedInput

OURS = pd.DataFrame(
    {"stream": ["text", "codec"], "bits_per_s": [50.0, 900.0], "capacity": [70.0, 1100.0], "low": [45.0, 880.0],
     "high": [55.0, 920.0]}
)  # fmt: skip
PUBLISHED = pd.DataFrame({"stream": ["Mimi"], "bits_per_s": [645.0], "capacity": [1400.0]})


def test_published_dots_stand_below_and_are_hollow() -> None:
    axes = stream_dots(OURS, "bits_per_s", "capacity", "low", "high", PUBLISHED).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["text", "codec", "Mimi"]
    assert axes.get_xscale() == "log"
    dots = {line.get_label(): line for line in axes.lines if line.get_marker() == "o"}
    assert list(dots["ours"].get_xdata()) == [50.0, 900.0]
    assert list(dots["published"].get_ydata()) == [2]
    assert dots["published"].get_markerfacecolor() != dots["ours"].get_markerfacecolor()


def test_without_capacity_there_is_no_legend() -> None:
    figure = stream_dots(OURS, "bits_per_s", label="Bits per second")
    assert not figure.legends
    assert figure.axes[0].get_xlabel() == "Bits per second"
    assert "<img" in figures.to_html(figure, "alt", "caption")


def test_level_bars_end_where_the_sum_is() -> None:
    table = pd.DataFrame({"stream": ["a", "a", "b"], "level": [0, 1, 0], "bits_per_s": [10.0, 20.0, 5.0]})
    axes = level_bars(table, "bits_per_s").axes[0]
    ends = sorted(patch.get_x() + patch.get_width() for patch in axes.patches)
    assert ends == [5.0, 10.0, 30.0]


def test_tables_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(UnsupportedInput, match="missing"):
        stream_dots(OURS, "other")
    with pytest.raises(UnsupportedInput, match="no rows"):
        level_bars(OURS.iloc[:0].assign(level=0), "bits_per_s")
    with pytest.raises(UnsupportedInput, match="below 0"):
        stream_dots(OURS.assign(bits_per_s=-1.0), "bits_per_s")
