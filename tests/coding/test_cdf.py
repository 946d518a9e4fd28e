"""The axes of CDFs, their checks, and the intervals that symbols own."""

import numpy as np
import pytest
import torch

from codecbook.coding import cdf as cdf_module
from codecbook.coding.cdf import as_array, as_cdf, as_columns, coded_intervals, ideal_bits
from codecbook.errors import CorruptInput, UnsupportedInput

CDF = np.array([[[2, 5, 8], [1, 2, 8]], [[3, 6, 8], [6, 7, 8]]])  # [T, K, V] = [2, 2, 3]
SYMBOLS = np.array([[0, 2], [1, 0]])  # [K, T]


def test_intervals_come_frame_by_frame() -> None:
    low, high = coded_intervals(SYMBOLS, CDF)
    assert low.tolist() == [[0, 1], [6, 0]]
    assert high.tolist() == [[2, 2], [8, 6]]
    assert low.dtype == high.dtype == np.int64


def test_intervals_of_one_row_for_all_need_no_copy_of_it() -> None:
    row = np.array([1, 4, 8])
    symbols = np.arange(12).reshape(2, 6) % 3
    cdf = np.broadcast_to(row, (6, 2, 3))
    low, high = coded_intervals(symbols, cdf)
    np.testing.assert_array_equal(high, row[symbols.T])
    np.testing.assert_array_equal(low, np.array([0, 1, 4])[symbols.T])
    assert as_cdf(cdf, 1, (8, 8)).base is not None


def test_ideal_bits() -> None:
    assert ideal_bits(np.array([0, 4, 0]), np.array([4, 6, 8]), 8) == 1 + 2 + 0


@pytest.mark.parametrize("symbol", [-1, 3])
def test_symbols_out_of_range(symbol: int) -> None:
    symbols = SYMBOLS.copy()
    symbols[1, 0] = symbol
    with pytest.raises(CorruptInput, match=f"Symbol {symbol} of codebook 1, frame 0 is outside 0..2"):
        coded_intervals(symbols, CDF)


@pytest.mark.parametrize(
    ("symbols", "cdf"),
    [(SYMBOLS[:, :1], CDF), (SYMBOLS[0], CDF), (SYMBOLS, CDF[0]), (SYMBOLS.astype(float), CDF)],
    ids=["frames", "one axis", "CDF axes", "floats"],
)
def test_symbols_that_do_not_match(symbols: np.ndarray, cdf: np.ndarray) -> None:
    with pytest.raises(UnsupportedInput, match="do not match"):
        coded_intervals(symbols, cdf)


@pytest.mark.parametrize(
    ("row", "min_width"),
    [([4, 4, 12], 1), ([4, 3, 12], 1), ([0, 8, 12], 1), ([4, 7, 12], 4), ([4, 8, 13], 1), ([4, 8, 11], 1)],
    ids=["empty", "falling", "first empty", "narrow", "ends late", "ends early"],
)
def test_cdf_check_names_the_row(row: list[int], min_width: int) -> None:
    cdf = np.tile([4, 8, 12], (3, 2, 1))
    assert as_cdf(cdf, min_width, (12, 12)) is cdf
    cdf[2, 1] = row
    with pytest.raises(UnsupportedInput, match=f"frame 2, codebook 1 has a width below {min_width}"):
        as_cdf(cdf, min_width, (12, 12))
    assert as_cdf(cdf, 0, (12, 12)) is cdf


@pytest.mark.parametrize("cdf", [CDF.astype(float), CDF[0], np.zeros((2, 2, 0), dtype=int)])
def test_other_arrays_are_no_cdf(cdf: np.ndarray) -> None:
    with pytest.raises(UnsupportedInput, match="must be integers"):
        as_cdf(cdf, 1, (8, 8))


def test_tensors_and_columns() -> None:
    tensor = torch.ones(2, 3, 4, requires_grad=True)
    array = as_array(tensor)
    assert as_columns(array, "x")[1] == (2, 4, 3)
    columns, shape = as_columns(np.arange(5), "x")
    assert (columns.shape, shape) == ((1, 5, 1), (5,))
    with pytest.raises(UnsupportedInput, match="bfloat16"):
        as_array(torch.ones(1, dtype=torch.bfloat16))


@pytest.mark.parametrize("seed", range(40))
def test_whole_arrays_find_what_the_kernels_find(seed: int) -> None:
    # what runs where there is no compiler
    random = np.random.default_rng(seed)
    T, K, V = random.integers(1, 5, size=3).tolist()
    cdf = np.cumsum(random.integers(0 if seed % 2 else 1, 4, size=(T, K, V)), axis=2)
    for limits in ((1, 1, 4 * V), (2, V, 2 * V), (1, 10**6, 10**6)):
        expected = cdf_module._first_bad_row(cdf, *limits)
        assert cdf_module._first_bad_row_of_arrays(cdf, *limits) == expected


def test_whole_arrays_take_no_rows_and_views() -> None:
    nothing = np.zeros((0, 3, 4), dtype=np.int64)
    assert cdf_module._first_bad_row_of_arrays(nothing, 1, 4, 4) == -1
    view = np.broadcast_to(np.array([1, 4, 8]), (6, 2, 3))
    assert cdf_module._first_bad_row_of_arrays(view, 1, 8, 8) == -1
