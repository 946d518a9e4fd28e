"""Codes as text."""

import base64
import zlib

import numpy as np
import pytest

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.probes.determinism.packing import pack_codes, unpack_codes

CODES = np.array([[0, 65535, 3], [1023, 7, 256]], dtype=np.int64)
# u32 2, u32 3, then six u16, all little-endian
PAYLOAD = bytes.fromhex("02000000 03000000 0000 ffff 0300 ff03 0700 0001")


def text_of(payload: bytes) -> str:
    return base64.b64encode(zlib.compress(payload)).decode()


def test_the_layout_is_what_the_format_says() -> None:
    assert zlib.decompress(base64.b64decode(pack_codes(CODES))) == PAYLOAD
    np.testing.assert_array_equal(unpack_codes(text_of(PAYLOAD)), CODES)


@pytest.mark.parametrize("shape", [(1, 1), (75, 8), (0, 4), (3, 0)])
def test_codes_survive(shape: tuple[int, int]) -> None:
    codes = np.random.default_rng(0).integers(0, 1024, shape)
    back = unpack_codes(pack_codes(codes))
    assert (back.dtype, back.shape) == (np.int64, shape)
    np.testing.assert_array_equal(back, codes)


@pytest.mark.parametrize("codes", [np.zeros((2, 2)), np.zeros(3, int), np.array([[-1]]), np.array([[65536]])])
def test_what_does_not_fit_is_refused(codes: np.ndarray) -> None:
    with pytest.raises(UnsupportedInput):
        pack_codes(codes)


@pytest.mark.parametrize(
    "text",
    [
        "", "no base64!", "€", pack_codes(CODES)[:-8], base64.b64encode(PAYLOAD).decode(), text_of(PAYLOAD[:7]),
        text_of(PAYLOAD[:-2]), text_of(PAYLOAD + b"\0\0"), text_of(b"\xff" * 20), None,
        base64.b64encode(zlib.compress(PAYLOAD) + b"more").decode(), text_of(bytes((1 << 26) + 1)),
    ],
)  # fmt: skip
def test_damage_is_found(text: str) -> None:
    with pytest.raises(CorruptInput, match="acked codes"):
        unpack_codes(text)


def test_a_flipped_bit_is_never_another_array() -> None:
    data = bytearray(base64.b64decode(pack_codes(CODES)))
    found = 0
    for place in range(len(data)):
        for bit in range(8):
            data[place] ^= 1 << bit
            try:  # a few bits, such as those that fill up the last byte, mean nothing
                np.testing.assert_array_equal(unpack_codes(base64.b64encode(data).decode()), CODES)
            except CorruptInput:
                found += 1
            data[place] ^= 1 << bit
    assert found >= 0.9 * 8 * len(data)
