import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import Tokens
from codecbook.tokens import layout as orders

PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def framed(draw) -> Tokens:
    """Tokens of one rate, with codebooks of several sizes."""
    sizes = tuple(draw(st.lists(st.integers(1, 4096), min_size=1, max_size=6)))
    num_frames = draw(st.integers(0, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = tuple(rng.integers(0, size, num_frames) for size in sizes)
    return Tokens(codes, sizes, (draw(st.floats(1, 1000)),) * len(sizes), codec="c")


@st.composite
def tree(draw) -> Tokens:
    """Tokens whose levels double in rate, as SNAC's do."""
    sizes = tuple(draw(st.lists(st.integers(1, 4096), min_size=1, max_size=4)))
    num_frames = draw(st.integers(0, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = tuple(rng.integers(0, size, num_frames << level) for level, size in enumerate(sizes))
    rate = draw(st.floats(1, 100))
    return Tokens(codes, sizes, tuple(rate * 2**level for level in range(len(sizes))), codec="c")


@PROPERTY
@given(framed())
def test_rvq_flat_roundtrip(tokens):
    flat = orders.rvq_flatten(tokens)
    assert flat.size == 0 or 0 <= flat.min() <= flat.max() < orders.flat_vocabulary_size(tokens.codebook_sizes)
    assert orders.rvq_unflatten(flat, tokens.codebook_sizes, tokens.frame_rates_hz[0], codec="c") == tokens


@PROPERTY
@given(tree(), st.booleans())
def test_orpheus_roundtrip(tokens, per_position):
    flat = orders.orpheus_flatten(tokens, per_position)
    size = orders.orpheus_vocabulary_size(tokens.codebook_sizes, per_position)
    assert flat.size == 0 or 0 <= flat.min() <= flat.max() < size
    back = orders.orpheus_unflatten(flat, tokens.codebook_sizes, tokens.frame_rates_hz[0], per_position, codec="c")
    assert back == tokens


def test_rvq_flat_by_hand():
    tokens = Tokens((np.array([1, 2]), np.array([3, 4])), (1024, 1024), (75.0, 75.0))
    assert orders.rvq_flatten(tokens).tolist() == [1, 1027, 2, 1028]


def test_orpheus_by_hand():
    """Two coarsest frames, codes chosen to tell level and index: 100 level + index."""
    codes = tuple(100 * level + np.arange(2 << level) for level in range(3))
    tokens = Tokens(codes, orders.SNAC_CODEBOOK_SIZES, tuple(orders.SNAC_FRAME_RATE_HZ * 2**n for n in range(3)))
    one, two = 4096, 8192
    expected = [0, one + 100, two + 200, two + 201, one + 101, two + 202, two + 203]
    expected += [1, one + 102, two + 204, two + 205, one + 103, two + 206, two + 207]
    assert orders.orpheus_flatten(tokens).tolist() == expected
    first = [0, 4096 + 100, 8192 + 200, 12288 + 201, 16384 + 101, 20480 + 202, 24576 + 203]
    assert orders.orpheus_flatten(tokens, per_position=True).tolist()[:7] == first
    assert orders.orpheus_unflatten(np.array(expected)) == tokens
    assert orders.orpheus_vocabulary_size() == 12288
    assert orders.orpheus_vocabulary_size(per_position=True) == 28672


def test_orpheus_wants_levels_that_double():
    tokens = Tokens((np.array([1, 2]), np.array([3, 4])), (8, 8), (50.0, 50.0))
    with pytest.raises(UnsupportedInput, match="do not double"):
        orders.orpheus_flatten(tokens)


def test_the_flat_order_refuses_several_rates():
    tokens = Tokens((np.array([1]), np.array([3, 4])), (8, 8), (25.0, 50.0))
    with pytest.raises(UnsupportedInput, match="no common frames"):
        orders.rvq_flatten(tokens)


def test_an_incomplete_frame_is_refused():
    with pytest.raises(CorruptInput, match=r"9 Orpheus-flat tokens are no multiple of the 7 .* cut 2 off"):
        orders.orpheus_unflatten(np.arange(9))
    with pytest.raises(CorruptInput, match="3 RVQ-flat tokens are no multiple of the 2"):
        orders.rvq_unflatten(np.array([1, 9, 1]), (8, 8), 50.0)


@pytest.mark.parametrize("wrong", [7, 16, -1])
def test_a_token_of_another_codebook_is_named(wrong):
    with pytest.raises(CorruptInput, match=rf"token {wrong} at index 3 \(row 1, column 1\) must lie in 8\.\.15"):
        orders.rvq_unflatten(np.array([1, 9, 2, wrong, 99, 99]), (8, 8), 50.0)


def test_a_lost_token_is_found_by_the_order():
    flat = orders.orpheus_flatten(
        Tokens((np.zeros(2, int), np.zeros(4, int), np.zeros(8, int)), (4096,) * 3, (1.0, 2.0, 4.0))
    )
    shifted = np.append(np.delete(flat, 3), 0)
    with pytest.raises(CorruptInput, match=r"token 4096 at index 3 .* must lie in 8192\.\.12287"):
        orders.orpheus_unflatten(shifted)
    with pytest.raises(CorruptInput, match=r"at index 3 .* must lie in 12288\.\.16383"):
        orders.orpheus_unflatten(flat, per_position=True)


def test_arrays_of_another_shape_or_type_are_refused():
    with pytest.raises(UnsupportedInput, match="integers with 1 axes"):
        orders.rvq_unflatten(np.zeros((2, 2), int), (8, 8), 50.0)
    with pytest.raises(UnsupportedInput, match="float64"):
        orders.orpheus_unflatten(np.zeros(7))
    with pytest.raises(UnsupportedInput, match="codebook_sizes is empty"):
        orders.rvq_unflatten(np.zeros(2, int), (), 50.0)
