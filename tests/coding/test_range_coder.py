"""The range coder against its text in unbounded integers, its rate, its endings, and damage."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.coding.cdf import coded_intervals, ideal_bits
from codecbook.coding.counts import cdf_exact
from codecbook.coding.range_coder import RangeDecoder, RangeEncoder, decode_range, encode_range
from codecbook.errors import CorruptInput, UnsupportedInput

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "coding" / "coding.npz"
THIRDS = [349525, 699050, 1048576]


def encode_intervals(low: object, high: object, total_bits: int = 20) -> bytes:
    encoder = RangeEncoder(total_bits)
    encoder.push_intervals(low, high)
    return encoder.finish()


def encode_unbounded(intervals: list[tuple[int, int]], total_bits: int) -> bytes:
    """Encode with one number that grows by a byte at a time, so that no carry needs care."""
    low, span, written = 0, 2**56, 0
    for start, end in intervals:
        unit = span // 2**total_bits
        low, span = low + unit * start, unit * (end - start)
        while span < 2**48:
            low, span, written = low * 256, span * 256, written + 1
    assert -(-low // 2**48) * 2**48 < low + span
    return (-(-low // 2**48)).to_bytes(written + 1)


def decode_unbounded(data: bytes, rows: list[list[int]], total_bits: int) -> list[int]:
    """Decode by comparing one number, the whole message, with the interval so far."""
    length = len(data) + 7
    message = int.from_bytes(data) * 256**7
    low, span, shifted = 0, 2**56, 0
    symbols = []
    for row in rows:
        unit = span // 2**total_bits
        offset = message // 256 ** (length - 7 - shifted) - low
        symbol = next(s for s, end in enumerate(row) if offset < unit * end)
        start = row[symbol - 1] if symbol else 0
        low, span = low + unit * start, unit * (row[symbol] - start)
        while span < 2**48:
            low, span, shifted = low * 256, span * 256, shifted + 1
        symbols.append(symbol)
    return symbols


def draw_symbols(row: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return symbols [1, count] of exactly the row's distribution."""
    points = np.random.default_rng(seed).integers(0, row[-1], size=(1, count))
    return np.searchsorted(row, points, side="right")


@pytest.mark.parametrize("total_bits", [20, 24])
def test_own_golden(total_bits: int, assert_roundtrip: Callable) -> None:
    with np.load(GOLDEN) as golden:
        symbols, cdf = golden["symbols"], golden[f"exact{total_bits}_cdf"].astype(np.int64)
        wanted = golden[f"exact{total_bits}_bytes"].tobytes()
    data = assert_roundtrip(
        lambda symbols, cdf: encode_range(symbols, cdf, total_bits),
        lambda data, cdf: decode_range(data, cdf, total_bits),
        RangeEncoder(total_bits),
        lambda data: RangeDecoder(data, total_bits),
        symbols,
        cdf,
    )
    assert data == wanted


def test_literal_bytes() -> None:
    assert encode_intervals(np.array([0]), np.array([2**19])) == b"\0"
    assert encode_intervals(np.array([2**19]), np.array([2**20])) == b"\x80"
    assert encode_intervals(np.array([1]), np.array([2**20])) == b"\x01"
    assert encode_intervals(np.array([699050] * 8), np.array([2**20] * 8)) == b"\xff\xf7"
    assert encode_intervals(np.array([1, 0, 5]), np.array([2, 1, 6]), 24) == bytes([0, 0, 1, 0, 0, 0, 0, 0, 5])


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_roundtrip_and_text(assert_roundtrip: Callable, data: st.DataObject) -> None:
    total_bits = data.draw(st.sampled_from([1, 4, 20, 24]))
    V = data.draw(st.integers(1, min(6, 2**total_bits - 1)))
    K, T = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 15))
    weights = data.draw(st.lists(st.integers(0, 30), min_size=T * V * K, max_size=T * V * K))
    logits = -400 * np.array(weights, dtype=np.int64).reshape(T, V, K)
    cdf = cdf_exact(logits, total_bits)
    codes = data.draw(st.lists(st.integers(0, V - 1), min_size=T * K, max_size=T * K))
    symbols = np.array(codes, dtype=np.int64).reshape(K, T)
    stream = assert_roundtrip(
        lambda symbols, cdf: encode_range(symbols, cdf, total_bits),
        lambda data, cdf: decode_range(data, cdf, total_bits),
        RangeEncoder(total_bits),
        lambda data: RangeDecoder(data, total_bits),
        symbols,
        cdf,
    )
    low, high = (ends.ravel().tolist() for ends in coded_intervals(symbols, cdf))
    assert stream == encode_unbounded(list(zip(low, high, strict=True)), total_bits)
    assert decode_unbounded(stream, cdf.reshape(-1, V).tolist(), total_bits) == symbols.T.ravel().tolist()


@pytest.mark.parametrize("row", [[16], [1, 16], [15, 16], [5, 10, 16], [7, 8, 9, 16]])
def test_every_message_of_a_tiny_alphabet_has_its_own_bytes(row: list[int]) -> None:
    cdf = np.broadcast_to(np.array(row), (5, 1, len(row)))
    streams = {}
    for message in itertools.product(range(len(row)), repeat=5):
        data = encode_range(np.array([message]), cdf, 4)
        assert tuple(decode_range(data, cdf, 4)[0]) == message
        streams[data] = message
    assert len(streams) == len(row) ** 5


def test_bytes_are_refused_unless_an_encoder_writes_them() -> None:
    cdf = np.broadcast_to(np.array([5, 10, 16]), (4, 1, 3))
    valid = {encode_range(np.array([message]), cdf, 4) for message in itertools.product(range(3), repeat=4)}
    candidates = [
        b"",
        b"\0\0\0",
        *(bytes([a]) for a in range(256)),
        *(bytes([a, b]) for a in range(256) for b in (0, 1, 90)),
    ]
    accepted = set()
    for data in candidates:
        try:
            decode_range(data, cdf, 4)
        except CorruptInput:
            continue
        accepted.add(data)
    assert accepted == valid & set(candidates)
    assert len(accepted) > 50


def test_carry_runs_through_many_bytes() -> None:
    # every symbol holds the message's midpoint, so that the bytes are 7f ff ff ... until the last one lands above it
    low, span, intervals = 0, 2**56, []
    middle = 2**55
    for _ in range(60):
        unit = span >> 20
        symbol = next(s for s, end in enumerate(THIRDS) if low + unit * end > middle)
        start = THIRDS[symbol - 1] if symbol else 0
        intervals.append((start, THIRDS[symbol]))
        low, span = low + unit * start, unit * (THIRDS[symbol] - start)
        while span < 2**48:
            low, span, middle = low * 256, span * 256, middle * 256
    below, above = [(0, 1)], [(THIRDS[2] - 1, THIRDS[2])]
    for end, first_bytes in ((below, b"\x7f\xff\xff\xff\xff\xff"), (above, b"\x80\x00\x00\x00\x00\x00")):
        case = intervals + end
        data = encode_intervals(*np.array(case).T)
        assert data.startswith(first_bytes)
        assert data == encode_unbounded(case, 20)


@pytest.mark.parametrize(
    ("weights", "total_bits"),
    [
        ([1] * 64, 20),
        ([2**30, 1], 20),
        ([2**30, 1], 24),
        ([999, 1], 20),
        ([2**s for s in range(24)], 24),
        ([1, 0, 7, 1000, 3, 500], 22),
    ],
    ids=["uniform", "certain", "certain24", "skewed", "octaves", "few"],
)
def test_rate_is_the_ideal_code_length(weights: list[int], total_bits: int) -> None:
    count = 1_000_000
    shares = np.cumsum(weights) * ((1 << total_bits) - len(weights)) // sum(weights)
    row = shares + np.arange(1, len(weights) + 1)
    symbols = draw_symbols(row, count, seed=1)
    cdf = np.broadcast_to(row, (count, 1, len(row)))
    low, high = coded_intervals(symbols, cdf)
    data = encode_intervals(low, high, total_bits)
    ideal_bytes = ideal_bits(low, high, 2**total_bits) / 8
    assert ideal_bytes - 1 < len(data) < 1.0001 * ideal_bytes + 4
    assert len(data) < 1.000001 * ideal_bytes + 2
    np.testing.assert_array_equal(decode_range(data, cdf, total_bits), symbols)


@pytest.mark.parametrize("V", [2, 1024, 65536])
def test_wide_alphabets(V: int) -> None:
    logits = np.random.default_rng(V).integers(-2000, 2000, size=(7, V, 2))
    cdf = cdf_exact(logits)
    symbols = np.random.default_rng(0).integers(0, V, size=(2, 7))
    np.testing.assert_array_equal(decode_range(encode_range(symbols, cdf), cdf), symbols)


def test_cut_and_changed_streams_are_noticed_unless_they_are_another_message() -> None:
    cdf = cdf_exact(np.random.default_rng(5).integers(-1500, 1500, size=(40, 20, 1)))
    noticed = unnoticed = 0
    for seed in range(40):
        symbols = np.random.default_rng(seed).integers(0, 20, size=(1, 40))
        data = encode_range(symbols, cdf)
        with pytest.raises(CorruptInput, match="bytes, the stream has"):
            decode_range(data + b"\0", cdf)
        changed = bytearray(data)
        changed[-1] ^= 1
        for damaged in (*(data[:length] for length in range(len(data))), data + b"\xff", bytes(changed)):
            try:
                codes = decode_range(damaged, cdf)
            except CorruptInput:
                noticed += 1
                continue
            unnoticed += 1
            assert encode_range(codes, cdf) == damaged
    assert unnoticed < 0.05 * noticed


def test_reading_past_the_end_is_reported_at_once() -> None:
    row = np.array(THIRDS)
    data = encode_range(np.array([[1] * 100]), np.broadcast_to(row, (100, 1, 3)))
    decoder = RangeDecoder(data)
    assert decoder.pull_frames(np.tile(row, (100, 1, 1))).tolist() == [[1]] * 100
    # six zeros stand in for the end of a stream; the seventh is one too many, and comes within 8 bits
    with pytest.raises(CorruptInput, match=f"its {len(data)} bytes are used up"):
        decoder.pull_frames(np.tile(row, (6, 1, 1)))


def test_bytes_beyond_all_symbols_are_reported() -> None:
    # the part of the range that rounding `unit` down leaves over, 2^-24 of it at most
    decoder = RangeDecoder(b"\xff" * 7, 24)
    rows = np.tile([5, 2**24], (9, 1, 1))
    with pytest.raises(CorruptInput, match="symbol 2 of this call: its bytes point beyond all symbols"):
        decoder.pull_frames(rows)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60), seed=st.integers(0, 3))
def test_damage_gives_one_valid_message_or_corrupt_input(data: bytes, seed: int) -> None:
    cdf = cdf_exact(np.random.default_rng(seed).integers(-3000, 0, size=(30, 9, 1)))
    try:
        codes = decode_range(data, cdf)
    except CorruptInput:
        return
    assert encode_range(codes, cdf) == data


def test_other_models_are_mostly_noticed_at_the_end() -> None:
    rng = np.random.default_rng(8)
    cdf, other = (cdf_exact(rng.integers(-1500, 1500, size=(60, 30, 1))) for _ in range(2))
    symbols = rng.integers(0, 30, size=(1, 60))
    with pytest.raises(CorruptInput):
        decode_range(encode_range(symbols, cdf), other)


def test_refused_input() -> None:
    for total_bits in (0, 25):
        with pytest.raises(UnsupportedInput, match=f"total_bits={total_bits}"):
            RangeEncoder(total_bits)
    for low, high in ((3, 3), (4, 3), (-1, 3), (3, 2**20 + 1)):
        with pytest.raises(UnsupportedInput, match=rf"Interval {low}\.\.{high} \(symbol 1 of"):
            encode_intervals(np.array([0, low]), np.array([1, high]))
    row = np.array([5, 5, 2**20])
    for refused in (row, np.array([5, 6]), np.array([5, 2**21])):
        with pytest.raises(UnsupportedInput):
            RangeEncoder().push(0, refused)
        with pytest.raises(UnsupportedInput):
            RangeDecoder(b"12345678").pull(refused)
    with pytest.raises(CorruptInput, match="Symbol 2"):
        RangeEncoder().push(2, np.array([5, 2**20]))


def test_nothing_but_numpy_is_needed(numpy_alone: Callable[..., str]) -> None:
    code = """
import numpy as np
from codecbook.coding.exact.counts import cdf_exact
from codecbook.coding.range_coder import RangeDecoder, decode_range, encode_range
from codecbook.errors import CorruptInput, UnsupportedInput

with np.load(sys.argv[1]) as arrays:
    golden = dict(arrays)
for bits in (20, 24):
    cdf = cdf_exact(golden["units"], bits)
    assert (cdf == golden[f"exact{bits}_cdf"]).all()
    data = encode_range(golden["symbols"], cdf, bits)
    assert data == golden[f"exact{bits}_bytes"].tobytes()
    assert (decode_range(data, cdf, bits) == golden["symbols"]).all()
    big = cdf.astype(">i8")
    assert encode_range(golden["symbols"].astype(">i2"), big, bits) == data
    assert (decode_range(data, big, bits) == golden["symbols"]).all()
    for damaged in (data[:-1], data + bytes(1), b""):
        try:
            decode_range(damaged, cdf, bits)
        except CorruptInput:
            continue
        raise AssertionError("damage went unnoticed")
cdf[1, 0, 1] = cdf[1, 0, 0]
try:
    encode_range(golden["symbols"], cdf, 24)
except UnsupportedInput as error:
    print(error)
"""
    assert "frame 1, codebook 0 has a width below 1" in numpy_alone(code, str(GOLDEN))


def test_a_carry_and_full_intervals_where_kernels_are_not_compiled(numpy_alone: Callable[..., str]) -> None:
    # symbols that keep the message just below a carry, then one that carries through all of it
    code = """
import numpy as np
from codecbook.coding.range_coder import RangeEncoder

low = np.array([(1 << 24) - 1] * 400 + [(1 << 24) - 2], dtype=np.int64)
encoder = RangeEncoder(24)
encoder.push_intervals(low, low + 1)
print(encoder.finish().hex())
"""
    low = np.array([(1 << 24) - 1] * 400 + [(1 << 24) - 2], dtype=np.int64)
    assert numpy_alone(code).strip() == encode_intervals(low, low + 1, 24).hex()
