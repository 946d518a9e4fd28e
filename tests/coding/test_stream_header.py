"""Headers whose checksums are right, and whose fields say what no stream can be."""

import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import stream_cases as cases

from codecbook.coding.stream import StreamReader
from codecbook.coding.stream import header as headers
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import Tokens


def block_of(runs, order=0):
    """Pack a header of any codebooks: (how many, size, rate) each."""
    fixed = struct.pack(
        "<BBHIHIIIQddHII8s32s32s", 0, order, 0, 0, 0, 1, 0, 0, 0, 0.0, 0.0, 0, 0, 0, bytes(8), bytes(32), bytes(32)
    )
    books = struct.pack("<H", len(runs)) + b"".join(struct.pack("<HId", *run) for run in runs)
    body = fixed + books + b"\0\0" * 3
    block = struct.pack("<8sHI", headers.HEADER_MAGIC, 1, len(body)) + body
    return block + struct.pack("<I", zlib.crc32(block))


@pytest.mark.parametrize("levels", [11, 16, 30, 400, 1000])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_levels_that_would_fill_the_memory_with_columns_cost_nothing(levels, order):
    block = block_of([(1, 16, 2.0**level) for level in range(levels)], order)
    tracemalloc.start()
    with pytest.raises(CorruptInput, match="up to 10 codebooks" if order == 1 else "of one rate"):
        headers.unpack_header(block)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_ten_levels_and_1024_codebooks_are_the_most():
    assert len(headers.unpack_header(block_of([(1, 16, 2.0**level) for level in range(10)], 1)).columns) == 1023
    assert len(headers.unpack_header(block_of([(1024, 16, 50.0)])).columns) == 1024
    with pytest.raises(CorruptInput, match="1025 codebooks are claimed"):
        headers.unpack_header(block_of([(1025, 16, 50.0)], 1))


def test_codes_of_no_bits_are_refused():
    with pytest.raises(CorruptInput, match=r"2 to 2\^31 codes; received 2 of 1 to 16"):
        headers.unpack_header(block_of([(1, 16, 50.0), (1, 1, 50.0)]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rows_per_segment": 10, "codec_segment_frames": 7}, "do not hold whole ones of the codec"),
        ({"coder": "raw", "lm_sha256": "ab" * 32}, "raw coding has none"),
        ({"coder": "raw", "lm_name": "some"}, "raw coding has none"),
        ({"coder": "exact"}, "exact coding needs one"),
    ],
)
def test_fields_that_contradict_each_other(fields, words):
    honest = cases.header_of(cases.encoded(cases.parallel(50)))
    with pytest.raises(UnsupportedInput, match=words):
        replace(honest, **fields)
    liar = replace(honest)
    for name, value in fields.items():
        object.__setattr__(liar, name, value)
    with pytest.raises(CorruptInput, match=words):
        headers.unpack_header(headers.pack_header(liar))
    with pytest.raises(CorruptInput, match=words), StreamReader(headers.pack_header(liar)):
        pass


def test_a_name_is_4096_bytes_long_at_most():
    def named(count):
        tokens = Tokens((np.zeros(0, int),), (16,), (50.0,), weights="x" * count)
        return headers.StreamHeader(format=tokens.format, order="parallel", coder="raw")

    assert headers.unpack_header(headers.pack_header(named(4096))) is not None
    with pytest.raises(UnsupportedInput, match="4097 bytes"):
        headers.pack_header(named(4097))
    block = headers.pack_header(named(4096))
    body = block[14:-4].replace(struct.pack("<H", 4096) + b"x", struct.pack("<H", 4097) + b"xx")
    block = struct.pack("<8sHI", headers.HEADER_MAGIC, 1, len(body)) + body
    with pytest.raises(CorruptInput, match="longer than a header's 4096"):
        headers.unpack_header(block + struct.pack("<I", zlib.crc32(block)))
