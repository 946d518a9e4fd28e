import importlib.util
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.paths import extra_dir
from codecbook.tokens import Tokens, npq, tokens_from_frames
from codecbook.tokens.npq import inspect_npq, read_npq, write_npq

PROPERTY = settings(deadline=None, derandomize=True, max_examples=80)
GOLDEN = Path(__file__).parents[1] / "golden" / "npq"

# name: layout, sizes, rate, source bitrate, T, storage, channels, mid codebooks
GOOD = {
    "v1_u8": ("v1", (256, 256), 50.0, None, 9, "u8", 0, None),
    "v1_u16": ("v1", (1024, 1024, 512), 75.0, 192.0, 12, "u16", 0, None),
    "v1_u32": ("v1", (65536,), 12.5, 128.0, 5, "u32", 0, None),
    "v1_no_frames": ("v1", (1024,), 75.0, None, 0, "u16", 0, None),
    "legacy_a": ("legacy_a", (1024,) * 3, 86.1328125, 192.0, 8, "u16", 0, None),
    "legacy_a_one_codebook": ("legacy_a", (1024,), 75.0, 64.0, 8, "u16", 0, None),
    "legacy_b": ("legacy_b", (1024,) * 3, 86.1328125, None, 8, "u16", 0, None),
    "legacy_b_long": ("legacy_b", (64, 40, 64), 86.1328125, None, 60, "u16", 0, None),
    "npq2_mid_side": ("npq2", (1024, 1024, 256), 86.1328125, 256.0, 6, "u16", 2, 2),
    "npq2_mono": ("npq2", (1024, 1024), 86.1328125, None, 6, "u16", 1, None),
}
BAD = {
    "bad_magic": (UnsupportedInput, r"field magic is b'NPQX'"),
    "bad_version": (UnsupportedInput, "field version is 9"),
    "bad_K_zero": (CorruptInput, "field K is 0"),
    "bad_K_huge": (CorruptInput, "field K claims 65535 codebooks"),
    "bad_rate_nan": (CorruptInput, "field frame rate is nan"),
    "bad_rate_zero": (CorruptInput, "field frame rate is 0.0"),
    "bad_bitrate_negative": (CorruptInput, "field bitrate is -1.0"),
    "bad_T_huge": (CorruptInput, "fields T = 4294967295, .* the file holds 72"),
    "bad_vocab_zero": (CorruptInput, r"field vocab\[0\] is 0"),
    "bad_vocab_beyond_dtype": (CorruptInput, r"field vocab\[1\] is 1048576, where dtype u16"),
    "bad_dtype": (UnsupportedInput, "field dtype is 7"),
    "bad_code": (CorruptInput, "payload: code 1024 of codebook 1 in frame 4"),
    "bad_truncated": (CorruptInput, "payload is cut off"),
    "bad_trailing_bytes": (CorruptInput, "trailing bytes"),
    "bad_header_only": (CorruptInput, "header is cut off: 15 bytes"),
    "bad_npq2_channel_mode": (UnsupportedInput, "field channel mode is 2"),
    "bad_npq2_no_mid": (CorruptInput, "k_mid = 0"),
    "bad_npq2_side_in_mono": (CorruptInput, "k_side = 1 contradict channel mode 0"),
    "bad_npq2_version": (UnsupportedInput, "field version is 2"),
}


@st.composite
def framed(draw) -> Tokens:
    sizes = tuple(draw(st.lists(st.sampled_from([1, 2, 256, 257, 1024, 65536, 2**31]), min_size=1, max_size=5)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    num_frames = draw(st.integers(0, 20))
    mid = draw(st.none() | st.integers(1, len(sizes)))
    return Tokens(
        codes=tuple(rng.integers(0, size, num_frames) for size in sizes),
        codebook_sizes=sizes,
        frame_rates_hz=(draw(st.floats(1, 1000, width=32)),) * len(sizes),
        source_bitrate_kbps=draw(st.none() | st.floats(1, 1000, width=32)),
        channels=0 if mid is None else 2,
        mid_codebooks=mid,
    )


def golden_codes(num_frames: int, sizes: tuple[int, ...]) -> np.ndarray:
    t, k = np.ogrid[:num_frames, : len(sizes)]
    return (7 * t + 31 * k) % np.array(sizes)


def assert_error_or_valid(path: Path) -> None:
    """Read a file of any bytes: an error of ours, or tokens that write and read again; never much memory."""
    tracemalloc.start()
    try:
        tokens = read_npq(path)
    except CodecbookError:
        return
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes < 2_000_000
    again = write_npq(path.with_suffix(".again"), tokens, overwrite=True)
    assert read_npq(again).same_codes(tokens)


def test_every_golden_file_is_tested():
    assert {path.stem for path in GOLDEN.glob("*.npq")} == GOOD.keys() | BAD.keys()


def test_golden_files_are_what_their_script_makes():
    spec = importlib.util.spec_from_file_location("make_npq", GOLDEN / "make_npq.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert {path.name: path.read_bytes() for path in GOLDEN.glob("*.npq")} == script.files()


@pytest.mark.parametrize("name", GOOD)
def test_a_golden_file_reads_as_its_description_says(name):
    layout, sizes, rate_hz, bitrate_kbps, num_frames, storage, channels, mid = GOOD[name]
    path = GOLDEN / f"{name}.npq"
    header = inspect_npq(path)
    assert (header.layout, header.storage, header.num_frames) == (layout, storage, num_frames)
    assert (header.channels, header.mid_codebooks) == (channels, mid)
    assert header.header_bytes + header.payload_bytes == path.stat().st_size
    assert read_npq(path) == tokens_from_frames(
        golden_codes(num_frames, sizes),
        sizes,
        rate_hz,
        source_bitrate_kbps=bitrate_kbps,
        channels=channels,
        mid_codebooks=mid,
    )


@pytest.mark.parametrize("name", ["v1_u8", "v1_u16", "v1_u32", "v1_no_frames", "npq2_mid_side"])
def test_layout_and_storage_are_chosen_as_existing_writers_do(name, tmp_path):
    path = GOLDEN / f"{name}.npq"
    written = write_npq(tmp_path / "x.npq", read_npq(path))
    assert written.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_by_the_name_of_its_field(name):
    error, message = BAD[name]
    path = GOLDEN / f"{name}.npq"
    with pytest.raises(error, match=message) as caught:
        read_npq(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(MissingInput, match="no NPQ file at"):
        read_npq(tmp_path / "absent.npq")
    with pytest.raises(MissingInput, match="no NPQ file at"):
        read_npq(tmp_path)


@PROPERTY
@given(framed())
def test_roundtrip(tmp_path_factory, tokens):
    path = tmp_path_factory.getbasetemp() / "roundtrip.npq"
    write_npq(path, tokens, overwrite=True)
    assert read_npq(path) == tokens
    assert inspect_npq(path).layout == ("v1" if tokens.mid_codebooks is None else "npq2")


@PROPERTY
@given(st.sampled_from([b"", b"NPQ1", b"NPQ2", b"NPQ1\x01\x00", b"NPQ1\x01\x00\x02\x00"]), st.binary(max_size=300))
def test_random_bytes_give_an_error_or_valid_tokens(tmp_path_factory, start, rest):
    path = tmp_path_factory.getbasetemp() / "random.npq"
    path.write_bytes(start + rest)
    assert_error_or_valid(path)


@settings(PROPERTY, max_examples=300)
@given(st.sampled_from(sorted(GOOD)), st.integers(0, 2**16), st.integers(0, 7))
def test_flipped_bits_give_an_error_or_valid_tokens(tmp_path_factory, name, at, bit):
    data = bytearray((GOLDEN / f"{name}.npq").read_bytes())
    data[at % len(data)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.npq"
    path.write_bytes(data)
    assert_error_or_valid(path)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_every_truncation_is_refused(tmp_path, name):
    data = (GOLDEN / f"{name}.npq").read_bytes()
    path = tmp_path / "cut.npq"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CodecbookError):
            read_npq(path)


def test_a_file_that_shrinks_while_open_is_refused(tmp_path, monkeypatch):
    path = write_npq(tmp_path / "x.npq", read_npq(GOLDEN / "v1_u16.npq"))
    parse = npq._parse_header

    def parse_and_cut(head, file_bytes):
        path.write_bytes(path.read_bytes()[:-30])
        return parse(head, file_bytes)

    monkeypatch.setattr(npq, "_parse_header", parse_and_cut)
    with pytest.raises(CorruptInput, match="as the file changed"):
        read_npq(path)


def test_the_header_of_a_gigabyte_is_read_within_megabytes(tmp_path):
    num_frames, count = 1 << 26, 8
    path = write_npq(tmp_path / "big.npq", tokens_from_frames(np.zeros((1, count), int), 1024, 75.0))
    with path.open("rb+") as file:  # sparse: the file system keeps no gigabyte of zeros
        file.seek(16)
        file.write(num_frames.to_bytes(4, "little"))
        file.truncate(21 + 4 * count + num_frames * count * 2)
    tracemalloc.start()
    try:
        assert inspect_npq(path).num_frames == num_frames
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        path.unlink()
    assert peak_bytes < 2_000_000


def test_what_npq_cannot_hold_is_refused(tmp_path):
    several_rates = Tokens((np.array([1]), np.array([1, 2])), (8, 8), (1.0, 2.0))
    with pytest.raises(UnsupportedInput, match=r"codecbook\.tokens\.parquet"):
        write_npq(tmp_path / "x.npq", several_rates)
    large = tokens_from_frames(np.zeros((2, 1), int), 2**32, 75.0)
    with pytest.raises(UnsupportedInput, match=r"field vocab\[0\] is 4294967296, where dtype u32"):
        write_npq(tmp_path / "x.npq", large)
    with pytest.raises(UnsupportedInput, match="field frame rate is 1000000000"):
        write_npq(tmp_path / "x.npq", tokens_from_frames(np.zeros((2, 1), int), 8, 1e9))
    assert not list(tmp_path.iterdir())


def _extra_files(pattern: str) -> list[Path]:
    folder = extra_dir()
    return sorted((folder / "golden" / "npq").glob(pattern)) if folder else []


@pytest.mark.skipif(not _extra_files("*.tokens.npy"), reason="CODECBOOK_EXTRA names no folder with golden/npq")
def test_further_golden_files(tmp_path):
    for codes_path in _extra_files("*.tokens.npy"):
        path = codes_path.with_name(codes_path.name.replace(".tokens.npy", ".npq"))
        tokens = read_npq(path)
        np.testing.assert_array_equal(tokens.to_frames(), np.load(codes_path))
        layout = inspect_npq(path).layout
        assert layout == path.stem.removesuffix("_ambiguous") or layout == path.stem.split("_")[0]
        if not layout.startswith("legacy"):
            assert write_npq(tmp_path / path.name, tokens).read_bytes() == path.read_bytes()


@pytest.mark.skipif(not _extra_files("bad_*.npq"), reason="CODECBOOK_EXTRA names no folder with golden/npq")
def test_further_bad_files():
    fields = {
        "bad_K0": "field K is 0",
        "bad_dtype": "field dtype is 7",
        "bad_huge_T": "fields T = 4294967295",
        "bad_magic": "field magic",
        "bad_token_out_of_vocab": "payload: code",
        "bad_trailing_bytes": "trailing bytes",
        "bad_truncated": "payload is cut off",
    }
    for path in _extra_files("bad_*.npq"):
        with pytest.raises(CodecbookError, match=fields.get(path.stem, "field")):
            read_npq(path)
