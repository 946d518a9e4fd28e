"""The coders of encodec: against the package, the golden files, and a coder with unbounded integers."""

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.codecs import encodec_package  # noqa: F401  lets encodec be imported without torchaudio
from codecbook.coding import arithmetic as ac
from codecbook.coding.counts import TOTAL, cdf_grid, cdf_upstream
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.paths import extra_dir

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "coding" / "coding.npz"
UPSTREAM = (ac.encode_upstream, ac.decode_upstream, ac.UpstreamEncoder, ac.UpstreamDecoder)
GRID = (ac.encode_grid, ac.decode_grid, ac.GridEncoder, ac.GridDecoder)
BOTH = pytest.mark.parametrize("coder", [UPSTREAM, GRID], ids=["upstream", "grid"])


def package_encode(symbols: list[int], rows: np.ndarray) -> bytes:
    from encodec.quantization.ac import ArithmeticCoder

    file = io.BytesIO()
    coder = ArithmeticCoder(file)
    for symbol, row in zip(symbols, rows, strict=True):
        coder.push(symbol, torch.from_numpy(row))
    coder.flush()
    return file.getvalue()


def package_decode(data: bytes, rows: np.ndarray) -> tuple[list[int | None], int]:
    """Return the symbols, and how many bytes were read."""
    from encodec.quantization.ac import ArithmeticDecoder

    file = io.BytesIO(data)
    decoder = ArithmeticDecoder(file)
    return [decoder.pull(torch.from_numpy(row)) for row in rows], file.tell()


def grid_encode_unbounded(symbols: list[int], rows: np.ndarray) -> bytes:
    """Encode as acv=4 with the window that the format describes, as long as it may become."""
    low = high = 0
    width = 0
    bits: list[int] = []
    for symbol, row in zip(symbols, rows.tolist(), strict=True):
        while high - low + 1 < TOTAL:
            low, high, width = 2 * low, 2 * high + 1, width + 1
        span = high - low + 1
        high = low + span * row[symbol] // TOTAL - 1
        low = low + (span * row[symbol - 1] // TOTAL if symbol else 0)
        while width and low >> (width - 1) == high >> (width - 1):
            width -= 1
            bits.append(low >> width)
            low, high = low % 2**width, high % 2**width
    bits += [(low >> place) & 1 for place in reversed(range(width))]
    return b"".join(
        sum(bit << i for i, bit in enumerate(bits[at : at + 8])).to_bytes() for at in range(0, len(bits), 8)
    )


def codes_or_none(decode: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        return decode()
    except CorruptInput:
        return None


def pushes_until(refusal: type[Exception], push: Callable, symbols: list[int], rows: np.ndarray) -> int:
    """Return how many symbols were taken before the first refusal."""
    for index, (symbol, row) in enumerate(zip(symbols, rows, strict=True)):
        try:
            push(symbol, row)
        except refusal:
            return index
    return len(symbols)


def random_case(V: int, T: int, K: int, scale: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return symbols [K, T], drawn now from the model and now evenly, and logits float32 [T, V, K]."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, size=(T, V, K)).astype(np.float32)
    likely = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1).T
    return np.where(rng.random((K, T)) < 0.8, likely, rng.integers(0, V, size=(K, T))), logits


@pytest.mark.parametrize(("name", "coder"), [("upstream", UPSTREAM), ("pr95_qstep128", GRID), ("pr95_qstep64", GRID)])
def test_given_golden(name: str, coder, assert_roundtrip: Callable) -> None:
    extra = extra_dir()
    if extra is None:
        pytest.skip("CODECBOOK_EXTRA is not set, so its golden files are not compared")
    with np.load(extra / "golden" / name / "cdf.npz") as golden:
        symbols, cdf = golden["symbols"], golden["cdf"]
    encode, decode, encoder, decoder = coder
    data = assert_roundtrip(encode, decode, encoder(), decoder, symbols, cdf)
    assert data == (extra / "golden" / name / "ac_payload.bin").read_bytes()


@pytest.mark.parametrize(("name", "coder"), [("upstream", UPSTREAM), ("qstep128", GRID), ("qstep64", GRID)])
def test_own_golden(name: str, coder) -> None:
    with np.load(GOLDEN) as golden:
        symbols, cdf, data = golden["symbols"], golden[f"{name}_cdf"], golden[f"{name}_bytes"].tobytes()
    assert coder[0](symbols, cdf) == data
    np.testing.assert_array_equal(coder[1](data, cdf), symbols)


@pytest.mark.parametrize(("V", "T", "scale"), [(2, 200, 0.5), (3, 200, 3), (1024, 40, 4), (65536, 4, 2)])
def test_upstream_equals_the_package(V: int, T: int, scale: float) -> None:
    symbols, logits = random_case(V, T, 3, scale, seed=V)
    cdf = cdf_upstream(logits)
    rows, order = cdf.reshape(-1, V), symbols.T.ravel().tolist()
    data = ac.encode_upstream(symbols, cdf)
    assert data == package_encode(order, rows)
    assert package_decode(data, rows) == (order, len(data))
    np.testing.assert_array_equal(ac.decode_upstream(data, cdf), symbols)


@pytest.mark.parametrize("V", [2, 5, 1024, 65536])
def test_grid_equals_the_unbounded_coder(V: int) -> None:
    symbols, logits = random_case(V, 6, 2, 3, seed=V)
    cdf = cdf_grid(logits)
    data = ac.encode_grid(symbols, cdf)
    assert data == grid_encode_unbounded(symbols.T.ravel().tolist(), cdf.reshape(-1, V))
    np.testing.assert_array_equal(ac.decode_grid(data, cdf), symbols)


@BOTH
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_roundtrip(coder, assert_roundtrip: Callable, data: st.DataObject) -> None:
    V = data.draw(st.integers(1, 6))
    K, T = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 12))
    widths = data.draw(st.lists(st.integers(2, 2**20), min_size=T * K * (V - 1), max_size=T * K * (V - 1)))
    cdf = np.full((T, K, V), TOTAL, dtype=np.int64)
    cdf[:, :, :-1] = np.cumsum(np.array(widths, dtype=np.int64).reshape(T, K, V - 1), axis=2)
    codes = data.draw(st.lists(st.integers(0, V - 1), min_size=T * K, max_size=T * K))
    symbols = np.array(codes, dtype=np.int64).reshape(K, T)
    encode, decode, encoder, decoder = coder
    stream = assert_roundtrip(encode, decode, encoder(), decoder, symbols, cdf)
    rows, order = cdf.reshape(-1, V), symbols.T.ravel().tolist()
    assert stream == (package_encode if coder is UPSTREAM else grid_encode_unbounded)(order, rows)


@BOTH
@pytest.mark.parametrize("row", [[TOTAL], [2, TOTAL], [TOTAL - 2, TOTAL], [5592405, 11184810, TOTAL]])
def test_every_message_of_a_tiny_alphabet(coder, row: list[int]) -> None:
    cdf = np.broadcast_to(np.array(row), (6, 1, len(row)))
    for message in itertools.product(range(len(row)), repeat=6):
        symbols = np.array([message])
        np.testing.assert_array_equal(coder[1](coder[0](symbols, cdf), cdf), symbols)


@BOTH
def test_undecided_bits_do_not_accumulate(coder, assert_roundtrip: Callable) -> None:
    # the middle half of the middle half of ...: no bit is decided until the last symbol
    cdf = np.tile([TOTAL // 4, 3 * TOTAL // 4, TOTAL], (2002, 1, 1))
    symbols = np.ones((1, 2002), dtype=np.int64)
    symbols[0, -2:] = 0, 2
    encode, decode, encoder, decoder = coder
    data = assert_roundtrip(encode, decode, encoder(), decoder, symbols, cdf)
    if coder is GRID:
        assert data == grid_encode_unbounded(symbols[0].tolist(), cdf[:, 0])
        return
    # the package's decoder reads it, although its encoder refuses a window of more than 62 bits
    assert package_decode(data, cdf[:, 0])[0] == symbols[0].tolist()
    with pytest.raises(AssertionError):
        package_encode(symbols[0].tolist(), cdf[:, 0])


def test_upstream_segments_follow_each_other() -> None:
    cases = [random_case(64, 5 + seed, 2, 3, seed) for seed in range(4)]
    cdfs = [cdf_upstream(logits) for _, logits in cases]
    streams = [ac.encode_upstream(symbols, cdf) for (symbols, _), cdf in zip(cases, cdfs, strict=True)]
    data = b"".join(streams)
    for (symbols, _), cdf, stream in zip(cases, cdfs, streams, strict=True):
        decoder = ac.UpstreamDecoder(data)
        np.testing.assert_array_equal(decoder.pull_frames(cdf), symbols.T)
        assert decoder.bytes_consumed == len(stream)
        data = data[decoder.bytes_consumed :]


def test_upstream_cdf_that_ends_above_its_total() -> None:
    row = np.array([TOTAL - 1, TOTAL + 2])
    with pytest.raises(UnsupportedInput, match="no place"):
        ac.UpstreamEncoder().push(1, row)
    with pytest.raises(AssertionError):
        package_encode([1], row[None])
    with pytest.raises(CorruptInput, match="exceeds the range"):
        ac.UpstreamDecoder(b"\xff" * 9).pull(row)
    cdf = np.tile(row, (50, 1, 1))
    symbols = np.zeros((1, 50), dtype=np.int64)
    assert ac.encode_upstream(symbols, cdf) == package_encode([0] * 50, cdf[:, 0])


def test_upstream_fails_at_the_symbol_where_the_package_fails() -> None:
    from encodec.quantization.ac import ArithmeticCoder

    # two codes, one of them nearly certain: the CDF often ends one too high, and in the end where that has no room
    symbols, logits = random_case(2, 300, 3, 6, seed=2)
    rows = cdf_upstream(logits).reshape(-1, 2)
    order = symbols.T.ravel().tolist()
    package = ArithmeticCoder(io.BytesIO())
    ours = pushes_until(UnsupportedInput, ac.UpstreamEncoder().push, order, rows)
    theirs = pushes_until(AssertionError, lambda symbol, row: package.push(symbol, torch.from_numpy(row)), order, rows)
    assert ours == theirs
    assert 0 < ours < len(order)


def test_upstream_notices_bytes_that_belong_to_no_symbol() -> None:
    half_empty = np.array([TOTAL // 4, TOTAL // 2])
    with pytest.raises(CorruptInput, match="between two symbols"):
        ac.UpstreamDecoder(b"\xff" * 9).pull(half_empty)
    with pytest.raises(RuntimeError):
        package_decode(b"\xff" * 9, half_empty[None])


def test_grid_decodes_noise_without_complaint() -> None:
    cdf = cdf_grid(np.random.default_rng(0).normal(0, 2, size=(75, 32, 8)).astype(np.float32))
    noise = np.random.default_rng(1).bytes(1000)
    codes = ac.decode_grid(noise, cdf)
    assert codes.shape == (8, 75)
    assert len(np.unique(codes)) > 5


@BOTH
def test_streams_break_off_where_the_bytes_end(coder) -> None:
    symbols, logits = random_case(16, 30, 2, 1, seed=3)
    cdf = cdf_upstream(logits) if coder is UPSTREAM else cdf_grid(logits)
    data = coder[0](symbols, cdf)
    for length in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(CorruptInput, match=f"its {length} bytes are used up"):
            coder[1](data[:length], cdf)
    np.testing.assert_array_equal(coder[1](data + b"more", cdf), symbols)


@BOTH
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=40), seed=st.integers(0, 3))
def test_damage_gives_symbols_or_corrupt_input(coder, data: bytes, seed: int) -> None:
    _, logits = random_case(8, 40, 1, 9, seed)
    cdf = cdf_upstream(logits) if coder is UPSTREAM else cdf_grid(logits)
    codes = codes_or_none(lambda: coder[1](data, cdf))
    assert codes is None or (codes.min() >= 0 and codes.max() < 8)


@BOTH
@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(min_size=20, max_size=40),
    rows=st.lists(st.lists(st.integers(-(2**25), 2**25), min_size=3, max_size=3), min_size=9, max_size=9),
)
def test_unchecked_rows_never_hang_or_crash(coder, data: bytes, rows: list[list[int]]) -> None:
    decoder = coder[3](data, check=False)
    codes = codes_or_none(lambda: decoder.pull_frames(np.array(rows)[:, None]))
    assert codes is None or set(codes.ravel().tolist()) <= {0, 1, 2}


@BOTH
def test_rows_of_the_wrong_kind_are_refused(coder) -> None:
    encode, _, encoder, decoder = coder
    for row in ([4, 4, TOTAL], [4, 8, TOTAL + 5000], [1.0, TOTAL]):
        with pytest.raises(UnsupportedInput):
            encoder().push(0, np.array(row))
        with pytest.raises(UnsupportedInput):
            decoder(b"12345678").pull(np.array(row))
    if coder is GRID:
        with pytest.raises(UnsupportedInput, match=r"ends at 16777215 outside"):
            encode(np.zeros((1, 1), dtype=int), np.array([[[4, TOTAL - 1]]]))
    with pytest.raises(CorruptInput, match="Symbol 2"):
        encoder().push(2, np.array([4, TOTAL]))


@BOTH
def test_nothing_is_no_bytes(coder) -> None:
    assert coder[0](np.empty((2, 0), dtype=int), np.empty((0, 2, 4), dtype=int)) == b""
    assert coder[1](b"", np.empty((0, 2, 4), dtype=int)).shape == (2, 0)
