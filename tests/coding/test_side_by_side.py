"""Segments that a reader decodes side by side: each is what it is alone, sound or damaged."""

import numpy as np
import pytest
import stream_cases as cases

from codecbook.coding import inspect
from codecbook.coding.exact import frames
from codecbook.coding.stream.reader import StreamReader
from codecbook.coding.stream.segment import Damage


def test_segments_are_what_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, model = cases.parallel(200), cases.exact_model()
    data = bytearray(cases.encoded(tokens, model, segment_s=0.1))
    places = inspect(bytes(data)).segments
    assert len(places) > frames.streams_side_by_side(model) > 8
    data[places[3][1] - 1] ^= 1  # a payload
    data[places[11][0] + 3] ^= 1  # a header

    def segments() -> list:
        with StreamReader(bytes(data), model) as reader:
            return list(reader.segments())

    together = segments()
    monkeypatch.setattr(frames, "_DECODER_ROWS", 1)
    alone = segments()
    assert frames.streams_side_by_side(model) == 1
    assert [type(part) for part in together] == [type(part) for part in alone]
    assert [part.segment for part in together if isinstance(part, Damage)] == [3, 11]
    for part, other in zip(together, alone, strict=True):
        if isinstance(part, Damage):
            assert part == other
        else:
            assert (part.index, part.first_row, part.scales) == (other.index, other.first_row, other.scales)
            np.testing.assert_array_equal(part.rows, other.rows)


def test_a_large_model_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cases.exact_model()
    monkeypatch.setattr(frames, "_DECODER_BYTES", 3 * 2 * 2 * 8 * 16)
    assert frames.streams_side_by_side(model) == 3
    monkeypatch.setattr(frames, "_DECODER_BYTES", 1)
    assert frames.streams_side_by_side(model) == 1
