import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.models import build_lm
from codecbook.lm.sampling import sample
from codecbook.tokens import TokenFormat, Tokens, tokens_from_frames
from codecbook.tokens.layout import Layout, natural_order

PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)
SNAC_SIZES = (4096, 4096, 4096)
SNAC_RATE_HZ = 24_000 / 2048  # of the coarsest level


def _tree(num_frames: int, sizes: tuple[int, ...], seed: int = 0) -> Tokens:
    rng = np.random.default_rng(seed)
    codes = tuple(rng.integers(0, size, num_frames << level) for level, size in enumerate(sizes))
    rates = tuple(SNAC_RATE_HZ * 2**level for level in range(len(sizes)))
    return Tokens(codes, sizes, rates, codec="snac_24khz", sample_rate_hz=24_000, channels=1)


def _flat(order: str, sizes: tuple[int, ...] = SNAC_SIZES) -> Layout:
    rates = (50.0,) * len(sizes) if order == "flat" else tuple(SNAC_RATE_HZ * 2**level for level in range(len(sizes)))
    return Layout(order, TokenFormat(sizes, rates))


@PROPERTY
@given(st.integers(0, 20), st.lists(st.integers(1, 4096), min_size=1, max_size=6), st.integers(0, 99))
def test_flat_rows_go_back(num_frames, sizes, seed):
    rng = np.random.default_rng(seed)
    codes = tuple(rng.integers(0, size, num_frames) for size in sizes)
    tokens = Tokens(codes, tuple(sizes), (50.0,) * len(sizes), codec="c")
    layout = Layout("flat", tokens.format)
    rows = layout.to_rows(tokens)
    assert rows.shape == (num_frames * len(sizes), 1)
    assert rows.size == 0 or 0 <= rows.min() <= rows.max() < layout.codebook_sizes[0] == sum(sizes)
    assert layout.to_tokens(rows) == tokens


@PROPERTY
@given(
    st.integers(0, 8),
    st.lists(st.integers(1, 4096), min_size=1, max_size=4),
    st.integers(0, 99),
    st.sampled_from(["orpheus", "orpheus_per_position"]),
)
def test_orpheus_rows_go_back_for_any_sizes_and_levels(num_frames, sizes, seed, order):
    tokens = _tree(num_frames, tuple(sizes), seed)
    layout = Layout(order, tokens.format)
    rows = layout.to_rows(tokens)
    assert rows.shape == (num_frames * (2 ** len(sizes) - 1), 1)
    assert rows.size == 0 or 0 <= rows.min() <= rows.max() < layout.codebook_sizes[0]
    assert layout.to_tokens(rows) == tokens


def test_flat_rows_by_hand():
    tokens = Tokens((np.array([1, 2]), np.array([3, 4])), (1024, 1024), (75.0, 75.0))
    assert Layout("flat", tokens.format).to_rows(tokens).tolist() == [[1], [1027], [2], [1028]]


def test_orpheus_rows_by_hand():
    """Two coarsest frames, codes chosen to tell level and index: 100 level + index."""
    codes = tuple(100 * level + np.arange(2 << level) for level in range(3))
    tokens = Tokens(codes, SNAC_SIZES, tuple(SNAC_RATE_HZ * 2**n for n in range(3)))
    one, two = 4096, 8192
    expected = [0, one + 100, two + 200, two + 201, one + 101, two + 202, two + 203]
    expected += [1, one + 102, two + 204, two + 205, one + 103, two + 206, two + 207]
    by_level, by_position = (Layout(order, tokens.format) for order in ("orpheus", "orpheus_per_position"))
    assert by_level.to_rows(tokens)[:, 0].tolist() == expected
    first = [0, 4096 + 100, 8192 + 200, 12288 + 201, 16384 + 101, 20480 + 202, 24576 + 203]
    assert by_position.to_rows(tokens)[:7, 0].tolist() == first
    assert by_level.to_tokens(np.array(expected)[:, None]) == tokens
    assert (by_level.codebook_sizes, by_position.codebook_sizes) == ((12288,), (28672,))
    assert by_level.frame_rate_hz == pytest.approx(82.03, abs=0.01)


def test_codebooks_of_other_lengths_are_refused():
    tokens = Tokens((np.array([1, 2]), np.array([3, 4])), (8, 8), (25.0, 50.0))
    with pytest.raises(UnsupportedInput, match="do not double"):
        Layout("orpheus", tokens.format).to_rows(tokens)
    tokens = Tokens((np.array([1]), np.array([3, 4])), (8, 8), (50.0, 50.0))
    with pytest.raises(UnsupportedInput, match="no common frames"):
        Layout("flat", tokens.format).to_rows(tokens)


def test_an_incomplete_frame_is_refused():
    with pytest.raises(CorruptInput, match=r"9 rows of order 'orpheus' are no multiple of the 7 .* cut 2 off"):
        _flat("orpheus").to_tokens(np.arange(9)[:, None])
    with pytest.raises(CorruptInput, match="3 rows of order 'flat' are no multiple of the 2"):
        _flat("flat", (8, 8)).to_tokens(np.array([[1], [9], [1]]))


@pytest.mark.parametrize("wrong", [7, 16, -1])
def test_a_token_of_another_codebook_is_named(wrong):
    rows = np.array([[1], [9], [2], [wrong], [99], [99]])
    with pytest.raises(CorruptInput, match=rf"Value {wrong} at index 3 \(row 1, column 1\) .* must lie in 8\.\.15"):
        _flat("flat", (8, 8)).to_tokens(rows)


def test_a_lost_token_is_found_by_the_order():
    layout = _flat("orpheus")
    rows = layout.to_rows(layout.format.tokens([np.zeros(2, int), np.zeros(4, int), np.zeros(8, int)]))
    shifted = np.append(np.delete(rows, 3), 0)[:, None]
    with pytest.raises(CorruptInput, match=r"Value 4096 at index 3 .* must lie in 8192\.\.12287"):
        layout.to_tokens(shifted)
    with pytest.raises(CorruptInput, match=r"at index 3 .* must lie in 12288\.\.16383"):
        _flat("orpheus_per_position").to_tokens(rows)


@pytest.mark.parametrize("order", ["flat", "orpheus", "grouped", "parallel"])
def test_rows_of_another_shape_or_type_are_refused(order):
    layout = Layout(order, TokenFormat((8,), (50.0,)))
    with pytest.raises(UnsupportedInput, match="Rows of order"):
        layout.to_tokens(np.zeros((2, 2), int))
    with pytest.raises(UnsupportedInput, match="float64"):
        layout.to_tokens(np.zeros((7, 1)))


def test_grouped_rows_by_hand():
    levels = (np.array([1, 2]), np.array([10, 11, 20, 21]), np.array([100, 101, 102, 103, 200, 201, 202, 203]))
    tokens = Tokens(levels, (4, 32, 256), (10.0, 20.0, 40.0))
    layout = Layout("grouped", tokens.format)
    assert layout.codebook_sizes == (4, 32, 256, 256, 32, 256, 256)
    assert layout.frame_rate_hz == 10.0
    assert layout.levels == (0, 1, 2, 2, 1, 2, 2)
    expected = [[1, 10, 100, 101, 11, 102, 103], [2, 20, 200, 201, 21, 202, 203]]
    rows = layout.to_rows(tokens)
    assert rows.dtype == np.int64
    np.testing.assert_array_equal(rows, expected)


@PROPERTY
@given(st.integers(0, 9), st.lists(st.integers(1, 4096), min_size=1, max_size=4), st.integers(0, 99))
def test_grouped_rows_go_back_for_any_sizes_and_levels(num_frames, sizes, seed):
    tokens = _tree(num_frames, tuple(sizes), seed)
    layout = Layout("grouped", tokens.format)
    rows = layout.to_rows(tokens)
    assert rows.shape == (num_frames, 2 ** len(sizes) - 1)
    assert (rows < np.array(layout.codebook_sizes)).all()
    assert layout.to_tokens(rows) == tokens


def test_a_grouped_row_is_the_orpheus_order_without_offsets():
    tokens = _tree(5, SNAC_SIZES)
    rows = Layout("grouped", tokens.format).to_rows(tokens)
    offsets = 4096 * np.array([0, 1, 2, 2, 1, 2, 2])
    expected = Layout("orpheus", tokens.format).to_rows(tokens)
    np.testing.assert_array_equal((rows + offsets).reshape(-1, 1), expected)


@PROPERTY
@given(st.integers(0, 9), st.sampled_from([(256,), (65_536,), (65_536, 256), (2**24,)]), st.integers(0, 99))
def test_bytes_go_back_for_any_power_of_256(num_frames, sizes, seed):
    rng = np.random.default_rng(seed)
    frames = np.stack([rng.integers(0, size, num_frames) for size in sizes], axis=1)
    tokens = tokens_from_frames(frames, sizes, 50.0, codec="fsq_50hz")
    layout = Layout("bytes", tokens.format)
    rows = layout.to_rows(tokens)
    assert set(layout.codebook_sizes) == {256}
    assert layout.to_tokens(rows) == tokens
    if sizes == (65_536,):
        np.testing.assert_array_equal(rows, np.stack([frames[:, 0] >> 8, frames[:, 0] & 255], axis=1))


@pytest.mark.parametrize(
    ("sizes", "rates", "order"),
    [
        ((1024,) * 8, (75.0,) * 8, "parallel"),
        ((512,), (25.0,), "parallel"),
        ((256, 256), (25.0, 25.0), "parallel"),
        ((65_536,), (50.0,), "bytes"),
        ((4096,) * 3, (11.7, 23.4, 46.8), "grouped"),
    ],
)
def test_each_codec_has_a_natural_order(sizes, rates, order):
    tokens = Tokens(tuple(np.zeros(0, dtype=int) for _ in sizes), sizes, rates)
    assert natural_order(tokens) == order
    Layout(order, tokens)


def test_rows_that_cannot_be_are_refused():
    layout = Layout("grouped", _tree(1, (4, 8, 16)).format)
    with pytest.raises(UnsupportedInput, match="Rows of order"):
        layout.to_tokens(np.zeros((2, 6), dtype=np.int64))
    with pytest.raises(UnsupportedInput, match="integers"):
        layout.to_tokens(np.zeros((2, 7)))
    rows = np.zeros((2, 7), dtype=np.int64)
    for value in (-1, 8):
        rows[1, 4] = value
        with pytest.raises(CorruptInput, match="row 1, column 4"):
            layout.to_tokens(rows)
    wide = Layout("bytes", tokens_from_frames(np.zeros((0, 1), dtype=int), 65_536, 50.0).format)
    with pytest.raises(CorruptInput, match=r"0\.\.255"):
        wide.to_tokens(np.array([[0, 256]]))


def test_codebooks_that_do_not_fit_are_refused():
    one_rate = tokens_from_frames(np.zeros((3, 2), dtype=int), 1024, 75.0)
    with pytest.raises(UnsupportedInput, match="double"):
        Layout("grouped", one_rate)
    with pytest.raises(UnsupportedInput, match="powers of 256"):
        Layout("bytes", one_rate)
    with pytest.raises(UnsupportedInput, match="of one rate"):
        Layout("bytes", _tree(2, (256, 256)))


@pytest.mark.parametrize("order", ["grouped", "orpheus", "orpheus_per_position"])
def test_rows_that_double_with_each_level_have_a_limit(order):
    def levels(count):
        return Tokens((np.zeros(0, int),) * count, (16,) * count, tuple(2.0**level for level in range(count)))

    assert Layout("grouped", levels(10)).codebook_sizes == (16,) * 1023
    for count in (11, 30, 1000):  # a billion columns, and more
        with pytest.raises(UnsupportedInput, match=f"up to 10 codebooks, not {count}"):
            Layout(order, levels(count))
    with pytest.raises(UnsupportedInput, match="up to 10 codebooks"):  # 2.0**1024 is beyond floats
        Layout(order, Tokens((np.zeros(0, int),) * 1025, (16,) * 1025, (50.0,) * 1025))


@pytest.mark.parametrize("order", ["grouped", "bytes"])
def test_a_model_with_in_frame_conditioning_reads_and_draws_such_rows(order):
    if order == "grouped":
        tokens = _tree(12, (16, 16, 16))
    else:
        frames = np.random.default_rng(0).integers(0, 65_536, (12, 1))
        tokens = tokens_from_frames(frames, 65_536, 50.0, codec="fsq_50hz")
    corpus = Corpus.from_tokens({"a": tokens}, order=order)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_lm(
            "rvq_transformer",
            {"codebook_sizes": corpus.codebook_sizes, "dim": 16, "layers": 1, "heads": 2, "hidden": 16},
        )
    assert model.num_codebooks == (7 if order == "grouped" else 2)
    drawn = sample(model, 5, prompt=corpus.clip(0)[:2], seed=1)
    assert corpus.layout is not None
    back = corpus.layout.to_tokens(drawn)
    assert back.codec == tokens.codec
    np.testing.assert_array_equal(corpus.layout.to_rows(back), drawn)
