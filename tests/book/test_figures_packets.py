"""The map of packets says of every code how it came."""

import numpy as np

from codecbook.book.figures.concealment import packet_map
from codecbook.book.figures.style import BLUE, GRID, RED


def test_every_run_of_codes_has_its_color():
    lost_frames = np.array([False] * 3 + [True] * 6 + [False] * 3)
    lost = np.zeros((2, 12), dtype=bool)
    lost[1, 3:9] = lost[0, 6:9] = True
    figure = packet_map(lost_frames, lost, 75.0)
    (axes,) = figure.axes
    wanted = [[GRID, BLUE, RED, GRID], [GRID, RED, GRID]]
    for bars, colors in zip(axes.collections, wanted, strict=True):
        assert [tuple(c) for c in bars.get_facecolor()] == [_rgba(c) for c in colors]
        assert bars.get_paths()[0].vertices[0, 0] == 0.0
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "lost for good"


def _rgba(color: str) -> tuple[float, ...]:
    return (*(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0)
