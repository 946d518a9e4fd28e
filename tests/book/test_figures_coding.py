"""The picture of a symbol shows its interval."""

import numpy as np
import pytest

from codecbook.book.figures import to_html
from codecbook.book.figures_coding import symbol_interval
from codecbook.measure.coding_steps import CodedSymbol, CoderState


@pytest.mark.parametrize("code", [1, 6])
def test_the_band_is_the_symbols_interval(code: int) -> None:
    counts = np.full(8, (1 << 20) // 8)
    low = code * counts[0]
    state = CoderState(0, 1 << 56, 0)
    symbol = CodedSymbol(0, 0, code, np.zeros(8), counts, int(low), int(low + counts[0]), state, state)
    figure = symbol_interval(symbol)
    band = figure.axes[0].patches[0].get_extents().transformed(figure.axes[0].transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((code / 8, (code + 1) / 8))
    assert f"code {code}: 131072 of 1048576, 3.00 bits" in {text.get_text() for text in figure.axes[0].texts}
    assert "<figure" in to_html(figure, "alt", "caption")
