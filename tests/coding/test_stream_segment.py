"""Raw rows: the bits that the text defines, however many rows are spread out at a time."""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from codecbook.coding import stream_segment
from codecbook.coding.stream_header import MAX_SEGMENT_CODES
from codecbook.coding.stream_segment import pack_raw, unpack_raw
from codecbook.errors import CorruptInput

sys.path.insert(0, str(Path(__file__).parent))  # helpers lie beside the tests

import plain_decoder

SIZES = [(5,), (1, 2, 3, 1000, 1 << 20), (1, 1, 7), (1 << 31, 1), (256, 256), (1,), (2,) * 9]


@pytest.mark.parametrize("block_bits", [1, 100, 1 << 18])
@pytest.mark.parametrize("num_rows", [1, 7, 8, 9, 65])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rows_are_packed_as_the_text_says(sizes, num_rows, block_bits, monkeypatch):
    monkeypatch.setattr(stream_segment, "_RAW_BLOCK_BITS", block_bits)
    rows = np.random.default_rng(num_rows).integers(0, sizes, (num_rows, len(sizes)))
    rows[-1] = np.array(sizes) - 1
    data = pack_raw(rows, sizes)
    assert plain_decoder.unpack_raw(data, sizes, num_rows) == rows.tolist()
    again = unpack_raw(data, sizes, num_rows)
    assert again.dtype == np.int64
    np.testing.assert_array_equal(again, rows)


def test_the_bytes_are_these():
    # 3 bits, 1 bit, no bit and 5 bits: 001 1 00001 | 110 0 11111, each from its lowest bit
    rows = np.array([[1, 1, 0, 1], [6, 0, 0, 31]])
    assert pack_raw(rows, (8, 2, 1, 32)) == bytes([0b0001_1_001, 0b111_0_110_0, 0b11])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x00", "take 2 bytes, not 1"),
        (b"\x00" * 3, "take 2 bytes, not 3"),
        (b"\x00\x02", "bits after the last code"),
        (b"\x28\x00", "code 5 of row 1, column 0 is beyond"),
    ],
)
def test_damaged_bytes_are_refused(data, words):
    # three codes of 3 bits: 9 bits, and 7 that are left
    assert unpack_raw(b"\x0a\x01", (5,), 3).tolist() == [[2], [1], [4]]
    with pytest.raises(CorruptInput, match=words):
        unpack_raw(data, (5,), 3)


@pytest.mark.parametrize("columns", [1, 1024])
def test_memory_is_that_of_the_rows(columns):
    """The largest segment that is allowed holds 8 MiB of codes; its bits as integers would be 260 MB."""
    sizes = (1 << 31,) * columns
    rows = np.random.default_rng(0).integers(0, 1 << 31, (MAX_SEGMENT_CODES // columns, columns))
    tracemalloc.start()
    data = pack_raw(rows, sizes)
    again = unpack_raw(data, sizes, len(rows))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(again, rows)
    assert peak < 40e6
