import numpy as np
import pytest

from codecbook.compiled import numba
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.probes.weights.schemes import entropy
from codecbook.probes.weights.schemes.entropy import (
    decode_bits,
    decode_integers,
    encode_bits,
    encode_integers,
    predicted_rest,
)

RANDOM = np.random.default_rng(0)
HUGE = (1 << 40) - 1
KERNELS = ("_level", "_scaled", "_code", "_code_symbol", "_code_bits", "_code_all_bits", "_code_far")


def correlated(R: int = 2000, C: int = 16) -> np.ndarray:
    """Columns that follow from those before, but for a little."""
    factors = RANDOM.standard_normal((R, 3)) @ RANDOM.standard_normal((3, C))
    return np.rint(60 * factors + RANDOM.standard_normal((R, C))).astype(np.int64)


CASES = {
    "zeros": np.zeros((40, 9), dtype=np.int64),
    "one": np.array([[-1]]),
    "one row": RANDOM.integers(-9, 9, (1, 300)),
    "one column": RANDOM.integers(-900, 900, (300, 1)),
    "no rows": np.zeros((0, 4), dtype=np.int64),
    "no columns": np.zeros((4, 0), dtype=np.int64),
    "tiny": RANDOM.integers(-1, 2, (30, 20)),
    "huge": RANDOM.integers(-(1 << 39), 1 << 39, (30, 20)),
    "largest": np.tile([[HUGE, -HUGE, 0]], (30, 20)),
    "largest columns": np.tile([[HUGE, HUGE, HUGE - 1]], (50, 1)),
    "one outlier": np.where(np.arange(600).reshape(20, 30) == 99, HUGE, 1),
    "correlated": correlated(200, 12),
    "equal columns": np.repeat(RANDOM.integers(-500, 500, (90, 1)), 6, axis=1),
    "Cauchy": np.clip(RANDOM.standard_cauchy((60, 40)) * 1e4, -HUGE, HUGE).astype(np.int64),
}


@pytest.mark.parametrize("name", CASES)
def test_entries_come_back(name: str) -> None:
    entries = CASES[name]
    found = decode_integers(encode_integers(entries), entries.shape)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, entries)


@pytest.mark.skipif(numba is None, reason="numba is not installed, so that all runs are plain Python")
@pytest.mark.parametrize("name", CASES)
def test_plain_python_has_the_same_bytes_and_no_number_beyond_64_bits(name: str, monkeypatch) -> None:
    entries = CASES[name][:12]
    data = encode_integers(entries)
    for kernel in KERNELS:
        monkeypatch.setattr(entropy, kernel, getattr(entropy, kernel).py_func)
    assert encode_integers(entries) == data  # where a number wraps, numpy warns, and warnings are errors here
    np.testing.assert_array_equal(decode_integers(data, entries.shape), entries)


@pytest.mark.parametrize("deviation", [0.3, 1.0, 4.0, 50.0, 3000.0])
def test_normal_entries_take_their_entropy(deviation: float) -> None:
    entries = np.rint(deviation * np.random.default_rng(1).standard_normal((500, 64))).astype(np.int64)
    values = np.arange(-40, 41) if deviation < 4 else np.arange(-10 * deviation, 10 * deviation + 1)
    shares = np.exp(-0.5 * (values / deviation) ** 2)
    if deviation < 1:  # a bin is wide: its integral, by sums
        fine = values[:, None] + (np.arange(1000) + 0.5) / 1000 - 0.5
        shares = np.exp(-0.5 * (fine / deviation) ** 2).sum(axis=1)
    shares = shares[shares > 0] / shares.sum()
    entropy_bits = -(shares * np.log2(shares)).sum()
    assert 8 * len(encode_integers(entries)) / entries.size == pytest.approx(
        entropy_bits, abs=0.1 if deviation == 1 else 0.05
    )


def test_columns_and_rows_of_other_sizes_are_learned() -> None:
    random = np.random.default_rng(2)
    sizes = np.exp(random.standard_normal((400, 1))) * np.exp(random.standard_normal((1, 64)))
    drawn = 20 * sizes * random.standard_normal((400, 64))
    own_bits = np.log2(np.maximum(20 * sizes, 0.5) * np.sqrt(2 * np.pi * np.e)).mean()
    at_once = np.log2(drawn.std() * np.sqrt(2 * np.pi * np.e))
    bits = 8 * len(encode_integers(np.rint(drawn).astype(np.int64))) / drawn.size
    assert bits < own_bits + 0.35 < at_once - 0.5


def test_columns_that_follow_from_others_take_little_more_than_what_is_new() -> None:
    entries = correlated()
    alone = np.log2(entries.std(axis=0) * np.sqrt(2 * np.pi * np.e)).mean()
    bits = 8 * len(encode_integers(entries)) / entries.size
    assert bits < alone - 3
    left = predicted_rest(entries)
    assert left.shape == entries.shape
    assert left[:, 3:].std() < 3 < entries[:, 3:].std() / 10


def test_zeros_cost_almost_nothing() -> None:
    assert len(encode_integers(np.zeros((1000, 100), dtype=np.int64))) < 100


@pytest.mark.parametrize("entries", [np.array([[1 << 40]]), np.array([[-(1 << 40)]]), np.zeros(3, dtype=np.int64)])
def test_what_is_no_matrix_of_such_integers_is_refused(entries: np.ndarray) -> None:
    with pytest.raises(UnsupportedInput, match="no matrix below"):
        encode_integers(entries)


@pytest.mark.parametrize("name", ["correlated", "huge", "tiny", "equal columns", "zeros"])
def test_damaged_bytes_are_refused_or_decode_to_integers_of_that_size(name: str) -> None:
    entries = CASES[name][:40]
    data = encode_integers(entries)
    for end in range(len(data)):
        with pytest.raises(CorruptInput):
            decode_integers(data[:end], entries.shape)
    with pytest.raises(CorruptInput):
        decode_integers(data + b"\1", entries.shape)
    random = np.random.default_rng(3)
    places = [*range(min(40, len(data))), *random.integers(len(data), size=100)]
    for place in places:
        for value in {0, 255, data[place] ^ 1 << int(random.integers(8))} - {data[place]}:
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            try:
                found = decode_integers(changed, entries.shape)
            except CorruptInput:
                continue
            assert found.shape == entries.shape
            assert np.abs(found).max(initial=0) <= HUGE


@pytest.mark.parametrize("size", [0, 1, 2, 5, 50, 2000])
def test_bytes_of_noise_are_no_matrix(size: int) -> None:
    random = np.random.default_rng(size)
    for first in (0, 0, 5, 8, 255):
        with pytest.raises(CorruptInput):
            decode_integers(bytes([first])[:size] + random.bytes(max(0, size - 1)), (200, 20))


def test_a_predictor_of_enormous_coefficients_is_refused() -> None:
    lags = np.full((4, 3), 1 << 39)
    stored = encode_integers(lags)
    assert stored[0] == 0
    head = bytes([8]) + (len(stored) - 1).to_bytes(4, "little") + stored[1:]
    with pytest.raises(CorruptInput, match="beyond all bounds"):
        decode_integers(head + bytes(40), (30, 4))


def test_numbers_of_stated_widths_come_back() -> None:
    widths = np.array([0, 1, 5, 16, 17, 40, 0, 33])
    values = np.array([0, 1, 19, 65535, 65536, HUGE, 0, 1 << 32])
    data = encode_bits(values, widths)
    assert len(data) <= widths.sum() // 8 + 2
    np.testing.assert_array_equal(decode_bits(data, widths), values)
    for end in range(len(data)):
        with pytest.raises(CorruptInput):
            decode_bits(data[:end], widths)
    with pytest.raises(CorruptInput):
        decode_bits(data + b"\1", widths)
    assert len(decode_bits(encode_bits(values[:0], widths[:0]), widths[:0])) == 0


def test_golden_bytes() -> None:
    entries = np.array([[3, -1, 0], [2, 0, 90]])
    assert encode_integers(entries).hex() == "00288759ddc3b0"
