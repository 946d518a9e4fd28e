"""Integer logits to integer CDFs, with nothing but integers in between.

`cdf_exact` is the normative text of this project's own streams. It is the last step of a language model that is
evaluated in integers: there, equal weights and tokens give equal logits on every machine, and here equal logits give
equal intervals.
"""

import functools
from typing import Any

import numpy as np

from codecbook.coding.cdf import as_array, as_columns
from codecbook.compiled import kernel, kernel_or
from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.spec import power_table

EXACT_TOTAL_BITS = 20
"""Codes share 2^20 by default: at 1024 codes the forced width of 1 costs next to nothing."""
MAX_TOTAL_BITS = 24
_ROWS_AT_ONCE = 256  # bounds the intermediate arrays where there is no compiler; rows do not interact


def cdf_exact(logits: Any, total_bits: int = EXACT_TOTAL_BITS) -> np.ndarray:
    """Return the CDF of integer logits, the same on every machine. Normative.

    A logit is an integer in units of 2^-8 bit: base 2, so that 256 more means twice the probability. For one
    column ``z[0..V-1]``, with ``>>`` and division rounding down and no value reaching 2^63:

    1. ``d[v] = max(z) - z[v]``
    2. ``e[v] = E[d[v]]`` if ``d[v] < 6144``, else 0, with ``E[d] = floor(2^(24 - d/256) + 1/2)``. E runs from 2^24
       down to 1 and is made by integer square roots (`exact_exp_table`).
    3. ``A[v] = e[0] + ... + e[v]``
    4. ``M = ((2^total_bits - V) << 32) // A[V-1]``
    5. ``cdf[v] = v + 1 + ((A[v] * M) >> 32)`` for ``v < V-1``, and ``cdf[V-1] = 2^total_bits``.

    Every code owns at least 1. Scaling the running sum rather than each weight leaves no remainder to deal out (and
    so no search for a largest element, whose tie order depends on the device): a width is off its ideal by little
    more than 1, except the last, which also takes the at most ``A[V-1] / 2^32 + 1`` that rounding M down loses (5
    of 2^20 for 1024 equal codes). ``A[v] * M`` stays below ``2^(total_bits + 32)``, hence exact in float64 too for
    ``total_bits <= 20``, on devices that lack fast 64-bit integers.

    Args:
        logits: int32 or int64 ``[T, V, K]`` (or ``[V]``), within the int32 range.
        total_bits: 1 to 24; V must be below ``2^total_bits``.

    Returns:
        int64 ``[T, K, V]``, strictly increasing, last value ``2^total_bits``.

    Raises UnsupportedInput: float logits, values outside int32, V too large, or another shape.
    """
    array = as_array(logits)
    if array.dtype.kind not in "iu" or array.dtype == np.uint64:
        raise UnsupportedInput(
            f"Logits must be signed integers of up to 64 bits, as no float enters this rule; received {array.dtype}."
        )
    if not 1 <= total_bits <= MAX_TOTAL_BITS:
        raise UnsupportedInput(f"total_bits={total_bits} is outside 1..{MAX_TOTAL_BITS}.")
    columns, shape = as_columns(array, "Logits")
    V = columns.shape[1]
    if (1 << total_bits) <= V:
        raise UnsupportedInput(f"{V} codes do not fit a total of 2^{total_bits}; raise total_bits.")
    rows = columns.transpose(0, 2, 1).reshape(-1, V).astype(np.int64)
    if rows.size and (rows.min() < -(2**31) or rows.max() >= 2**31):
        raise UnsupportedInput(f"Integer logits reach from {rows.min()} to {rows.max()}, outside int32; rescale them.")
    cdf = np.empty_like(rows)
    _exact_rows(rows, exact_exp_table(), total_bits, cdf)
    return cdf.reshape(shape)


@functools.cache
def exact_exp_table() -> np.ndarray:
    """Return ``E[d] = floor(2^(24 - d/256) + 1/2)`` for ``d`` = 0..6143 (`power_table`), int64 and read-only."""
    table = power_table(24)
    table.flags.writeable = False
    return table


@kernel
def exact_row(logits, table, total_bits, cdf):
    """Write `cdf_exact` of one column of logits ``[V]`` into `cdf`, int64 ``[V]``, without any check.

    For kernels that put out one row at a time; `table` is `exact_exp_table`.
    """
    V = logits.shape[0]
    top = np.int64(logits[0])
    for v in range(1, V):
        top = max(top, np.int64(logits[v]))
    total = np.int64(0)
    for v in range(V):
        distance = top - np.int64(logits[v])
        if distance < table.shape[0]:
            total += table[distance]
        cdf[v] = total
    scale = (((1 << total_bits) - V) << 32) // total
    for v in range(V - 1):
        cdf[v] = v + 1 + ((cdf[v] * scale) >> 32)
    cdf[V - 1] = 1 << total_bits


def _exact_rows_of_arrays(logits: np.ndarray, table: np.ndarray, total_bits: int, cdf: np.ndarray) -> None:
    for start in range(0, len(logits), _ROWS_AT_ONCE):
        part = logits[start : start + _ROWS_AT_ONCE]
        distance = part.max(axis=1, keepdims=True) - part
        weights = np.where(distance < len(table), table[np.minimum(distance, len(table) - 1)], 0)
        sums = np.cumsum(weights, axis=1)
        V = sums.shape[1]
        scale = (((1 << total_bits) - V) << 32) // sums[:, -1:]
        sums[:, :-1] = np.arange(1, V) + ((sums[:, :-1] * scale) >> 32)
        sums[:, -1] = 1 << total_bits
        cdf[start : start + _ROWS_AT_ONCE] = sums


@kernel_or(_exact_rows_of_arrays)
def _exact_rows(logits, table, total_bits, cdf):
    for n in range(logits.shape[0]):
        exact_row(logits[n], table, total_bits, cdf[n])
