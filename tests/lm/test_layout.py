"""Orders that put a whole frame into one row: SNAC's tree, and large codebooks as bytes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.models import build_lm
from codecbook.lm.sampling import sample
from codecbook.tokens import Tokens, tokens_from_frames
from codecbook.tokens.layout import (
    SNAC_CODEBOOK_SIZES,
    SNAC_FRAME_RATE_HZ,
    Layout,
    levels_of_columns,
    natural_order,
    orpheus_flatten,
)

PROPERTY = settings(deadline=None, derandomize=True, max_examples=40)


def _tree(num_frames: int, sizes: tuple[int, ...], seed: int = 0) -> Tokens:
    rng = np.random.default_rng(seed)
    codes = tuple(rng.integers(0, size, num_frames << level) for level, size in enumerate(sizes))
    rates = tuple(SNAC_FRAME_RATE_HZ * 2**level for level in range(len(sizes)))
    return Tokens(codes, sizes, rates, codec="snac_24khz", sample_rate_hz=24_000, channels=1)


def test_grouped_rows_by_hand():
    levels = (np.array([1, 2]), np.array([10, 11, 20, 21]), np.array([100, 101, 102, 103, 200, 201, 202, 203]))
    tokens = Tokens(levels, (4, 32, 256), (10.0, 20.0, 40.0))
    layout = Layout("grouped", tokens.format)
    assert levels_of_columns(3) == (0, 1, 2, 2, 1, 2, 2)
    assert layout.codebook_sizes == (4, 32, 256, 256, 32, 256, 256)
    assert (layout.rows_per_frame, layout.frame_rate_hz) == (1, 10.0)
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
    tokens = _tree(5, SNAC_CODEBOOK_SIZES)
    rows = Layout("grouped", tokens.format).to_rows(tokens)
    offsets = 4096 * np.array([0, 1, 2, 2, 1, 2, 2])
    np.testing.assert_array_equal((rows + offsets).reshape(-1), orpheus_flatten(tokens))


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
    with pytest.raises(UnsupportedInput, match="shape"):
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
    with pytest.raises(UnsupportedInput, match="power of 256"):
        Layout("bytes", one_rate)
    with pytest.raises(UnsupportedInput, match="of one rate"):
        Layout("bytes", _tree(2, (256, 256)))


@pytest.mark.parametrize("order", ["grouped", "orpheus", "orpheus_per_position"])
def test_rows_that_double_with_each_level_have_a_limit(order):
    def levels(count):
        return Tokens((np.zeros(0, int),) * count, (16,) * count, tuple(2.0**level for level in range(count)))

    assert Layout("grouped", levels(10)).codebook_sizes == (16,) * 1023
    for count in (11, 30, 1000):  # a billion columns, and more
        with pytest.raises(UnsupportedInput, match=f"up to 10 codebooks.*received {count}"):
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
