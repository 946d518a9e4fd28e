"""The inner code: scattered wrong bytes are corrected, the rest is left to the stream's own checks."""

import numpy as np
import pytest
import reedsolo
import stream_cases as cases

from codecbook.coding import inspect
from codecbook.coding.stream import decode_tokens, encode_tokens
from codecbook.coding.stream.inner_code import HEAD_BYTES, add_inner_code, find_inner_code, remove_inner_code
from codecbook.errors import CorruptInput, UnsupportedInput

TOKENS = cases.parallel(2000, sizes=(1024,) * 8)


def found(data):
    return find_inner_code(data[:HEAD_BYTES], data[-HEAD_BYTES:], len(data))


@pytest.mark.parametrize("size", [1, 234, 235, 236, 470, 5000, 8 * 235, 8 * 235 + 1, 40_000])
@pytest.mark.parametrize("parity", [2, 20])
def test_bytes_come_back(size, parity):
    data = np.random.default_rng(size).bytes(size)
    coded = add_inner_code(data, parity)
    settings = found(coded)
    assert settings == (parity, 8, size)
    assert remove_inner_code(coded, *settings) == (data, "")
    assert coded[HEAD_BYTES:].startswith(data[:200]), "the stream's bytes stand in it as they are"


def test_it_is_what_the_text_says():
    data = bytes(range(256)) * 2  # 512 bytes: three blocks
    coded = add_inner_code(data, 20)
    assert len(coded) == 2 * HEAD_BYTES + 512 + 3 * 20
    ends = coded[HEAD_BYTES + 512 : -HEAD_BYTES]
    for i in range(3):
        assert bytes(reedsolo.RSCodec(20).encode(data[i::3])) == data[i::3] + ends[i::3]
    # a code word is a multiple of the generator: each root gives 0
    _, exp, _ = reedsolo.init_tables(0x11D)
    for root in range(20):
        assert reedsolo.gf_poly_eval(list(data[0::3] + ends[0::3]), exp[root]) == 0


@pytest.mark.parametrize("first", [0, 100, 3000, -64, -100])
def test_a_burst_is_spread_over_blocks(first):
    data = encode_tokens(TOKENS, segment_s=1.0)
    coded = bytearray(add_inner_code(data))
    start = first % len(coded)
    for i in range(start, min(start + 60, len(coded))):
        coded[i] ^= 0x55
    assert decode_tokens(bytes(coded)).tokens == TOKENS


def test_one_percent_of_wrong_bytes_costs_nothing():
    data = encode_tokens(TOKENS, segment_s=1.0)
    rng = np.random.default_rng(0)
    coded = np.frombuffer(add_inner_code(data), dtype=np.uint8)
    for _ in range(3):
        errors = rng.random(len(coded)) < 0.01
        noisy = np.where(errors, coded ^ rng.integers(1, 256, len(coded)), coded).astype(np.uint8).tobytes()
        read = decode_tokens(noisy)
        assert read.tokens == TOKENS
        assert not read.damage
        assert "The inner code corrected" in read.notes[0]
    # the same stream without it does not survive
    plain = np.frombuffer(data, dtype=np.uint8)
    errors = rng.random(len(plain)) < 0.01
    noisy = np.where(errors, plain ^ rng.integers(1, 256, len(plain)), plain).astype(np.uint8).tobytes()
    assert cases.outcome(noisy, TOKENS) is None or len(decode_tokens(noisy).damage) > 0


def test_what_cannot_be_corrected_is_found_by_the_stream():
    data = encode_tokens(TOKENS, segment_s=1.0)
    rng = np.random.default_rng(0)
    coded = add_inner_code(data, 8)
    for count in (50, 500, 2000):
        noisy = bytearray(coded)
        for at in rng.integers(HEAD_BYTES, len(noisy) - HEAD_BYTES, count):
            noisy[at] = int(rng.integers(256))
        result = cases.outcome(bytes(noisy), TOKENS)
        assert result is None or result[1]
    for cut in (coded[:-1000], coded[:3000] + coded[3001:], coded[:3000] + b"x" + coded[3000:], coded[500:]):
        result = cases.outcome(cut, TOKENS)
        assert result is None or any("lost or added" in note for note in result[1])


def test_the_size_of_all_is_reported():
    data = encode_tokens(TOKENS, segment_s=1.0)
    coded = add_inner_code(data)
    assert (inspect(data).num_bytes, inspect(coded).num_bytes) == (len(data), len(coded))
    assert len(coded) < 1.11 * len(data)


@pytest.mark.parametrize("parity", [1, 3, 0, 130])
def test_impossible_parities(parity):
    with pytest.raises(UnsupportedInput, match="parity bytes in a block"):
        add_inner_code(b"abc", parity)


def test_heads_without_a_stream_between_them():
    coded = add_inner_code(encode_tokens(TOKENS))
    for data in (coded[:HEAD_BYTES], coded[:HEAD_BYTES] * 2, coded[:HEAD_BYTES] + bytes(100)):
        with pytest.raises(CorruptInput):
            decode_tokens(data)
