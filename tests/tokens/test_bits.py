"""Codes at fixed width: the bits that the text of ``.cbs`` and the package encodec define."""

import io
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from codecbook.codecs import encodec_package  # noqa: F401  lets encodec be imported without torchaudio
from codecbook.errors import CorruptInput
from codecbook.tokens import bits
from codecbook.tokens.bits import pack_bits, packed_bytes, unpack_bits

sys.path.insert(0, str(Path(__file__).parents[1] / "coding"))  # the independent decoder lies there

import plain_decoder

SIZES = [(5,), (2, 3, 1000, 1 << 20), (2, 7), (1 << 31, 2), (256, 256), (2,) * 9]


def package_pack(codes: np.ndarray, num_bits: int) -> bytes:
    from encodec.binary import BitPacker

    file = io.BytesIO()
    packer = BitPacker(num_bits, file)
    for value in codes.ravel().tolist():
        packer.push(value)
    packer.flush()
    return file.getvalue()


@pytest.mark.parametrize("block_bits", [1, 100, 1 << 18])
@pytest.mark.parametrize("num_rows", [1, 7, 8, 9, 65])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rows_are_packed_as_the_text_says(sizes, num_rows, block_bits, monkeypatch):
    monkeypatch.setattr(bits, "_BLOCK_BITS", block_bits)
    rows = np.random.default_rng(num_rows).integers(0, sizes, (num_rows, len(sizes)))
    rows[-1] = np.array(sizes) - 1
    data = pack_bits(rows, sizes)
    assert len(data) == packed_bytes(sizes, num_rows)
    assert plain_decoder.unpack_raw(data, sizes, num_rows) == rows.tolist()
    again = unpack_bits(data, sizes, num_rows)
    assert again.dtype == np.int64
    np.testing.assert_array_equal(again, rows)


@pytest.mark.parametrize("num_bits", [1, 3, 4, 8, 10, 16, 31])
@pytest.mark.parametrize(("T", "K"), [(1, 1), (7, 3), (75, 8), (0, 2)])
def test_equals_the_package(num_bits, T, K):
    rows, sizes = np.random.default_rng(num_bits).integers(0, 1 << num_bits, (T, K)), (1 << num_bits,) * K
    data = pack_bits(rows, sizes)
    assert data == package_pack(rows, num_bits)
    np.testing.assert_array_equal(unpack_bits(data, sizes, T), rows)


def test_the_bytes_are_these():
    # 3 bits, 1 bit and 5 bits: 001 1 00001 | 110 0 11111, each from its lowest bit
    rows = np.array([[1, 1, 1], [6, 0, 31]])
    assert pack_bits(rows, (8, 2, 32)) == bytes([0b0001_1_001, 0b111_0_110_0, 0b11])
    # 1, 1023, 512 of 10 bits, the first in the lowest bits
    assert pack_bits(np.array([[1, 1023], [512, 0]]), (1024, 1024)) == bytes([0x01, 0xFC, 0x0F, 0x20, 0x00])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x00", "take 2 bytes, not 1"),
        (b"\x00" * 3, "take 2 bytes, not 3"),
        (b"\x00\x02", "bits after the last code"),
        (b"\x28\x00", "Code 5 of row 1, column 0 is beyond"),
    ],
)
def test_damaged_bytes_are_refused(data, words):
    # three codes of 3 bits: 9 bits, and 7 that are left
    assert unpack_bits(b"\x0a\x01", (5,), 3).tolist() == [[2], [1], [4]]
    with pytest.raises(CorruptInput, match=words):
        unpack_bits(data, (5,), 3)


@pytest.mark.parametrize("columns", [1, 1024])
def test_memory_is_that_of_the_rows(columns):
    """The largest segment that a stream may have holds 8 MiB of codes; its bits as integers would be 260 MB."""
    sizes = (1 << 31,) * columns
    rows = np.random.default_rng(0).integers(0, 1 << 31, ((1 << 20) // columns, columns))
    tracemalloc.start()
    data = pack_bits(rows, sizes)
    again = unpack_bits(data, sizes, len(rows))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(again, rows)
    assert peak < 40e6
