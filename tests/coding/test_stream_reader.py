"""What a reader makes room for, and which stretches of a recording there are."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import stream_cases as cases

from codecbook.coding.stream import StreamReader, decode_tokens, encode_tokens
from codecbook.coding.stream.reader import MAX_FILLED_CODES
from codecbook.coding.stream.segment import Segment
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import Tokens


def at_rate(rate_hz, columns=2):
    return Tokens((np.zeros(4, int),) * columns, (16,) * columns, (rate_hz,) * columns)


def lossy(rate_hz, num_rows, num_segments, rows_per_segment, last=False):
    """Make a stream of which segment 0 alone is there, or the first and the last, of 4 rows each."""
    header = replace(
        cases.header_of(encode_tokens(at_rate(rate_hz))),
        num_rows=num_rows,
        num_segments=num_segments,
        rows_per_segment=rows_per_segment,
    )
    there = [(0, 0), (num_segments - 1, num_rows - 4)] if last else [(0, 0)]
    segments = [Segment(index, first_row, np.zeros((4, 2), int)) for index, first_row in there]
    return cases.forged(header, segments, footer=False)


@pytest.mark.parametrize("rate_hz", [1e9, 1e308])
def test_a_claimed_rate_does_not_make_a_reader_fill_in_gigabytes(rate_hz):
    data = lossy(rate_hz, 1 << 26, 1 << 13, 1 << 16)
    assert len(data) < 1000
    tracemalloc.start()
    read = decode_tokens(data)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert len(read.tokens.codes[0]) == 4
    assert read.damage[-1].num_rows == (1 << 26) - 4


def test_losses_are_filled_in_up_to_a_number_of_codes():
    most = MAX_FILLED_CODES // 2  # of two columns
    for lost, rows in ((most, most + 4), (most + 1, 4)):
        read = decode_tokens(lossy(1e9, lost + 4, -(-lost // (1 << 16)) + 1, 1 << 16))
        assert len(read.tokens.codes[0]) == rows
        assert read.damage[-1].num_rows == lost


def test_losses_in_the_middle_beyond_that_are_refused():
    data = lossy(1e9, 1 << 26, 1 << 13, 1 << 16, last=True)
    with pytest.raises(CorruptInput, match=r"67108856 rows \(0 s\) are lost, 8 intact"):
        decode_tokens(data)
    with StreamReader(data) as reader:
        assert [part.num_rows for part in reader.segments()] == [4, (1 << 26) - 8, 4]


def test_a_rate_of_almost_nothing_is_no_fault_of_the_reader():
    data = lossy(5e-324, 100, 2, 96)
    read = decode_tokens(data)
    assert (len(read.tokens.codes[0]), read.damage[0].num_rows) == (4, 96)


NO_TIMES = [(-1.0, None), (-1.0, 1.0), (math.nan, None), (math.inf, None), (0.0, math.inf), (0.0, math.nan)]


@pytest.mark.parametrize(("start_s", "end_s"), NO_TIMES)
def test_times_are_finite_and_not_negative(start_s, end_s):
    with (
        StreamReader(cases.encoded(cases.parallel())) as reader,
        pytest.raises(UnsupportedInput, match="give seconds from 0 on"),
    ):
        reader.read(start_s, end_s)


def test_a_stretch_lies_within_the_recording():
    with StreamReader(cases.encoded(cases.parallel(200))) as reader:  # 3.993 s
        assert reader.read(3.99, 99.0).first_row == 150
        for start_s, end_s in ((3.993, None), (5.0, None), (5.0, 6.0)):
            with pytest.raises(UnsupportedInput, match=r"outside of the recording, which is 3\.993 s long"):
                reader.read(start_s, end_s)
        for start_s, end_s in ((0.0, 0.0), (2.0, 1.0)):
            with pytest.raises(UnsupportedInput, match="give the end after the start"):
                reader.read(start_s, end_s)
    with StreamReader(cases.encoded(cases.parallel(0))) as reader:
        assert reader.read().tokens.num_tokens == 0
        with pytest.raises(UnsupportedInput, match=r"which is 0\.000 s long"):
            reader.read(0.0, 1.0)
