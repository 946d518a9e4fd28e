"""Integer counts: the normative text in plain Python, its table in decimal arithmetic, golden rows."""

import hashlib
from decimal import ROUND_FLOOR, Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.coding.counts import cdf_exact
from codecbook.coding.exact import counts as exact_counts
from codecbook.coding.exact.counts import exact_exp_table, exact_row
from codecbook.errors import UnsupportedInput

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "coding" / "coding.npz"
TABLE_SHA256 = "ccd8b7ab6d45a731a11394bca9e33b730ffca6eb0e2fa76de0fde6be2e9272b1"


def exact_in_plain_python(logits: list[int], total_bits: int) -> list[int]:
    table = exact_exp_table().tolist()
    top = max(logits)
    distances = [top - z for z in logits]
    weights = [table[d] if d < 6144 else 0 for d in distances]
    V, running, cdf = len(weights), 0, []
    scale = ((2**total_bits - V) * 2**32) // sum(weights)
    for v, weight in enumerate(weights):
        running += weight
        cdf.append(v + 1 + running * scale // 2**32)
    return [*cdf[:-1], 2**total_bits]


def test_table_is_the_rounded_power_of_two() -> None:
    with localcontext() as context:
        context.prec = 40
        for d, entry in enumerate(exact_exp_table().tolist()):
            power = Decimal(2) ** (Decimal(6144 - d) / 256)
            assert entry == int((power + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def test_table_never_changes() -> None:
    table = exact_exp_table()
    assert (len(table), table[0], table[256], table[-1]) == (6144, 2**24, 2**23, 1)
    assert hashlib.sha256(table.astype("<u4").tobytes()).hexdigest() == TABLE_SHA256


@pytest.mark.parametrize("total_bits", [20, 24])
def test_own_golden(total_bits: int) -> None:
    with np.load(GOLDEN) as golden:
        np.testing.assert_array_equal(cdf_exact(golden["units"], total_bits), golden[f"exact{total_bits}_cdf"])


def test_literal_rows() -> None:
    # half, quarter, eighth, eighth; 2^20 - 4 to share, the last takes what rounding leaves
    assert cdf_exact(np.array([512, 256, 0, 0])).tolist() == [524287, 786431, 917503, 1048576]
    assert cdf_exact(np.array([7])).tolist() == [1048576]
    assert cdf_exact(np.array([0, -6144, 0]), total_bits=4).tolist() == [7, 8, 16]


@settings(max_examples=150, deadline=None)
@given(
    logits=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-7000, 0), min_size=1, max_size=40),
    total_bits=st.integers(6, 24),
)
def test_rows_follow_the_text(logits: list[int], total_bits: int) -> None:
    row = cdf_exact(np.array(logits), total_bits)
    assert row.tolist() == exact_in_plain_python(logits, total_bits)
    assert np.diff(row, prepend=0).min() >= 1


@pytest.mark.parametrize("V", [2, 1024, 65536])
@pytest.mark.parametrize("spread", [0, 300, 5000])
def test_wide_rows_follow_the_text_and_stay_near_their_share(V: int, spread: int) -> None:
    logits = np.random.default_rng(V).integers(-spread, spread + 1, size=V)
    row = cdf_exact(logits)
    assert row.tolist() == exact_in_plain_python(logits.tolist(), 20)
    weights = exact_exp_table()[np.minimum(logits.max() - logits, 6143)] * (logits.max() - logits < 6144)
    share = 1 + weights * ((2**20 - V) / weights.sum())
    excess = np.diff(row, prepend=0) - share
    assert np.abs(excess[:-1]).max(initial=0) < 1.01
    assert excess[-1] < weights.sum() / 2**32 + 2


def test_matrix_holds_the_rows_of_its_columns() -> None:
    logits = np.random.default_rng(0).integers(-3000, 3000, size=(4, 17, 3))
    for array in (logits, logits.astype(np.int32), torch.from_numpy(logits)):
        cdf = cdf_exact(array)
        assert cdf.shape == (4, 3, 17)
        assert cdf.dtype == np.int64
        for t in range(4):
            for k in range(3):
                np.testing.assert_array_equal(cdf[t, k], cdf_exact(logits[t, :, k]))
    assert cdf_exact(np.zeros((0, 5, 2), dtype=np.int32)).shape == (0, 2, 5)


def test_row_kernel_equals_the_checked_function() -> None:
    logits = np.random.default_rng(1).integers(-3000, 3000, size=50).astype(np.int32)
    row = np.empty(50, dtype=np.int64)
    exact_row(logits, exact_exp_table(), 22, row)
    np.testing.assert_array_equal(row, cdf_exact(logits, 22))


@pytest.mark.parametrize(
    ("values", "total_bits", "message"),
    [
        (np.ones(4), 20, "float64"),
        (np.ones(4, dtype=np.uint64), 20, "uint64"),
        (np.ones((2, 2), dtype=int), 20, "axes"),
        (np.ones(4, dtype=int), 25, "total_bits=25"),
        (np.ones(4, dtype=int), 0, "total_bits=0"),
        (np.ones(16, dtype=int), 4, "16 codes"),
        (np.array([1, 2**41]), 20, "2199023255552"),
    ],
)
def test_refused_input(values, total_bits, message) -> None:
    with pytest.raises(UnsupportedInput, match=message):
        cdf_exact(values, total_bits)


@pytest.mark.parametrize(("rows", "V", "spread"), [(1, 1, 5), (700, 3, 9000), (300, 1024, 3000), (3, 5000, 2**31)])
@pytest.mark.parametrize("total_bits", [20, 24])
def test_whole_arrays_equal_the_kernel(rows: int, V: int, spread: int, total_bits: int) -> None:
    # what runs where there is no compiler
    logits = np.random.default_rng(V).integers(-spread, spread, size=(rows, V))
    found, expected = np.empty_like(logits), np.empty_like(logits)
    exact_counts._exact_rows(logits, exact_exp_table(), total_bits, expected)
    exact_counts._exact_rows_of_arrays(logits, exact_exp_table(), total_bits, found)
    np.testing.assert_array_equal(found, expected)


def test_byte_order_of_logits_changes_nothing() -> None:
    logits = np.random.default_rng(0).integers(-9000, 9000, size=(3, 11, 2))
    np.testing.assert_array_equal(cdf_exact(logits.astype(">i4")), cdf_exact(logits))
