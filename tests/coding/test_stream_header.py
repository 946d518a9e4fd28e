"""Headers whose checksums are right, and whose fields say what no stream can be."""

import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import stream_cases as cases
import stream_v1

from codecbook.coding.stream import StreamReader, decode_tokens
from codecbook.coding.stream import header as headers
from codecbook.coding.stream.locate import unpack_header
from codecbook.coding.stream.version2 import pack_header
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import TokenFormat, Tokens


def sealed(body, version=2):
    block = struct.pack("<8sHI", headers.HEADER_MAGIC, version, len(body)) + body
    return block + struct.pack("<I", zlib.crc32(block))


def block_of(runs, order=0, version=2):
    """Pack a header of any codebooks: (how many, size, rate) each."""
    if version == 1:
        body = struct.pack(
            "<BBHIHIIIQddHII8s32s32s", 0, order, 0, 0, 0, 1, 0, 0, 0, 0.0, 0.0, 0, 0, 0, bytes(8), bytes(32), bytes(32)
        )
        body += struct.pack("<H", len(runs)) + b"".join(struct.pack("<HId", *run) for run in runs) + b"\0\0" * 3
        return sealed(body, 1)
    body = bytes([2 * order, 0, 0, 1]) + bytes(4) + b"\xff" * 5 + bytes(4) + varint(len(runs))
    for count, size, rate_hz in runs:
        body += varint(count) + varint(size) + b"\x01" + struct.pack("<d", rate_hz)
    return sealed(body + b"\x00\x01\x01")


def varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


@pytest.mark.parametrize("levels", [11, 16, 30, 400, 1000])
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("version", [1, 2])
def test_levels_that_would_fill_the_memory_with_columns_cost_nothing(levels, order, version):
    block = block_of([(1, 16, 2.0**level) for level in range(levels)], order, version)
    tracemalloc.start()
    with pytest.raises(CorruptInput, match="up to 10 codebooks" if order == 1 else "of one rate"):
        unpack_header(block)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize("version", [1, 2])
def test_ten_levels_and_1024_codebooks_are_the_most(version):
    levels = [(1, 16, 2.0**level) for level in range(10)]
    assert len(unpack_header(block_of(levels, 1, version)).columns) == 1023
    assert len(unpack_header(block_of([(1024, 16, 50.0)], 0, version)).columns) == 1024
    with pytest.raises(CorruptInput, match="1025 codebooks are claimed"):
        unpack_header(block_of([(1025, 16, 50.0)], 1, version))


@pytest.mark.parametrize("version", [1, 2])
def test_codes_of_no_bits_are_refused(version):
    with pytest.raises(CorruptInput, match=r"2 to 2\^31 codes; received 2 of 1 to 16"):
        unpack_header(block_of([(1, 16, 50.0), (1, 1, 50.0)], 0, version))


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
    liar = stream_v1.header_of(honest)
    for name, value in fields.items():
        object.__setattr__(liar, name, value)
    with pytest.raises(CorruptInput, match=words):
        unpack_header(stream_v1.pack_header(liar))
    with pytest.raises(CorruptInput, match=words), StreamReader(stream_v1.pack_header(liar)):
        pass


def test_a_name_is_4096_bytes_long_at_most():
    def named(count):
        tokens = Tokens((np.zeros(0, int),), (16,), (50.0,), weights="x" * count)
        return headers.StreamHeader(format=tokens.format, order="parallel", coder="raw")

    assert unpack_header(pack_header(named(4096))) is not None
    with pytest.raises(UnsupportedInput, match="4097 bytes"):
        pack_header(named(4097))
    body = pack_header(named(4096))[14:-4].replace(varint(4097) + b"x", varint(4098) + b"xx")
    with pytest.raises(CorruptInput, match="longer than a header's 4096"):
        unpack_header(sealed(body))


def test_digests_are_kept_as_far_as_messages_show_them():
    tokens = replace(cases.parallel(9), weights_sha256="0123456789abcdef" * 4)
    read = decode_tokens(cases.encoded(tokens)).tokens
    assert read.weights_sha256 == "0123456789ab"
    assert replace(read, weights_sha256=tokens.weights_sha256) == tokens
    with pytest.raises(UnsupportedInput, match="is no SHA-256"):
        cases.encoded(replace(tokens, weights_sha256="c0ffee"))


@pytest.mark.parametrize("rate_hz", [1e-300, 3.7, 75.0, 1e300])
@pytest.mark.parametrize("kbps", [None, 6.0, 1.1, 5e-324, 1e300])
def test_rates_come_back_to_the_bit(rate_hz, kbps):
    for sample_rate_hz in (0, 24_000, 44_100):
        known = TokenFormat((16,), (rate_hz,), sample_rate_hz=sample_rate_hz, bandwidth_kbps=kbps)
        header = headers.StreamHeader(format=known, order="parallel", coder="raw", stream_id=b"abcd")
        assert unpack_header(pack_header(header)) == header
        audio, exact = "0123456789abcdef" * 2, "0123456789ab"
        full = replace(header, audio_sha256=audio, exact_sha256=exact, parity=headers.Parity(20, 2, 3))
        assert unpack_header(pack_header(full)) == full
