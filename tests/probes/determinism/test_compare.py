import base64
import hashlib
import zlib

import numpy as np
import pytest

from codecbook.errors import CorruptInput
from codecbook.probes.determinism.compare import (
    compare_cdf,
    compare_logits,
    intervals,
    pack_codes,
    step_hashes,
    unpack_codes,
)


def test_equal_logits_have_no_difference() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 2, 8)).astype(np.float32)
    logits[0, 0, 0, 0] = -np.inf
    found = compare_logits(logits, logits.copy())
    assert (found.count, found.differing, found.mean_abs, found.largest) == (96, 0, 0.0, 0.0)
    assert set(found.grid_mismatches.values()) == {0}
    assert compare_logits(np.ones((1, 1, 1, 2), np.int32), np.ones((1, 1, 1, 2), np.int32)).grid_mismatches == {}


def test_rounded_logits_differ_as_the_rule_says() -> None:
    random = np.random.default_rng(0)
    a = random.normal(scale=3.0, size=(4, 50, 2, 1000))
    b = a + random.normal(scale=1e-4, size=a.shape)
    found = compare_logits(a, b)
    assert found.differing == a.size
    np.testing.assert_allclose(found.mean_abs, 1e-4 * np.sqrt(2 / np.pi), rtol=0.02)  # E|d| of a normal
    for step, count in found.grid_mismatches.items():
        expected = a.size * found.mean_abs / step
        if expected > 400:  # five standard deviations of a count of 400 are a quarter of it
            np.testing.assert_allclose(count, expected, rtol=0.25)


def test_the_first_differing_value_is_named() -> None:
    cdf = np.cumsum(np.full((2, 3, 2, 4), 4), axis=-1)
    codes = np.full((2, 3, 2), 3)
    other = cdf.copy()
    other[1, 2, 0, 1] += 1
    found = compare_cdf(cdf, other, codes)
    assert (found.rows, found.rows_differing, found.intervals_differing) == (12, 1, 0)
    assert found.first == (1, 2, 0, 1)
    assert found.first_frames == [-1, 2]
    other[0, 1, 1, 2] += 1  # where code 3 begins
    found = compare_cdf(cdf, other, codes)
    assert found.first == (0, 1, 1, 2)
    assert (found.intervals_differing, found.segment_intervals_differing) == (1, [1, 0])
    assert compare_cdf(cdf, cdf, codes).first is None


def test_intervals_begin_at_zero_for_code_zero() -> None:
    cdf = np.array([[[[2, 5, 9]]]])
    assert [intervals(cdf, np.array([[[code]]])).ravel().tolist() for code in range(3)] == [[0, 2], [2, 5], [5, 9]]


def test_hashes_are_per_frame_and_free_of_byte_order() -> None:
    array = np.arange(12, dtype=np.int32).reshape(2, 3, 2)
    hashes = step_hashes(array)
    assert len(set(hashes)) == 6
    assert step_hashes(array.astype(">i4")) == hashes
    # from sha256sum of the eight bytes 00 00 00 00 01 00 00 00
    assert hashes[0] == hashlib.sha256(bytes([0, 0, 0, 0, 1, 0, 0, 0])).hexdigest()[:16]
    array[1, 0, 0] += 1
    assert [a != b for a, b in zip(hashes, step_hashes(array), strict=True)] == [False] * 3 + [True] + [False] * 2


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
