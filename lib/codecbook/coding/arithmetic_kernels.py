"""The state machine behind `codecbook.coding.arithmetic`, on integers below 2^63.

State: ``low``, ``high`` and (decoding) ``current`` in a window of ``max_bit + 1`` bits. While ``low`` = 01... and
``high`` = 10..., the next bit is undecided, but the one after it will be its opposite: that second bit is dropped from
all three and counted as pending, and written after the next decided bit. Since the coder adds to ``low`` and
subtracts from ``high`` only, and the range is what it was, nothing else changes. It leaves ``range > window / 4``,
and the window is widened only below a range of 2^24: so it never exceeds 27 bits.
"""

import numpy as np

from codecbook.coding.counts import TOTAL, TOTAL_BITS
from codecbook.compiled import kernel

EXHAUSTED, NO_SYMBOL, OVERFLOW = -1, -2, -3
LOW, HIGH, MAX_BIT, PENDING, BITS, CURRENT = range(6)  # places in the state array


def fresh_state() -> np.ndarray:
    """Return the state of a coder that has seen nothing: an empty window."""
    state = np.zeros(6, dtype=np.int64)
    state[MAX_BIT] = -1
    return state


@kernel
def _put_bit(state, buffer, bit):
    place = state[BITS]
    buffer[place >> 3] |= np.uint8(bit << (place & 7))
    state[BITS] = place + 1


@kernel
def _settle(state, buffer, writing):
    """Take decided bits out of the window: write them, or (decoding) forget them."""
    low, high, current = state[LOW], state[HIGH], state[CURRENT]
    max_bit = state[MAX_BIT]
    while max_bit >= 0:
        top = np.int64(1) << max_bit
        bit = low >> max_bit
        if bit == high >> max_bit:
            drop = bit << max_bit
            if writing:
                _put_bit(state, buffer, bit)
                for _ in range(state[PENDING]):
                    _put_bit(state, buffer, 1 - bit)
            state[PENDING] = 0
        elif max_bit > 0 and low >= top >> 1 and high < top + (top >> 1):
            drop = top >> 1
            state[PENDING] += 1
        else:
            break
        low, high, current, max_bit = low - drop, high - drop, current - drop, max_bit - 1
    state[LOW], state[HIGH], state[CURRENT] = low, high, current
    state[MAX_BIT] = max_bit


@kernel
def _share(span, cum_low, cum_high, upstream):
    if upstream:
        return -((-cum_low * span) >> TOTAL_BITS), ((cum_high - 1) * span) >> TOTAL_BITS
    return (cum_low * span) >> TOTAL_BITS, ((cum_high * span) >> TOTAL_BITS) - 1


@kernel
def push_all(state, buffer, cum_low, cum_high, upstream):
    """Encode intervals; return -1, or the index of one that has no place in the range."""
    for n in range(cum_low.shape[0]):
        while state[HIGH] - state[LOW] + 1 < TOTAL:
            state[LOW] <<= 1
            state[HIGH] = (state[HIGH] << 1) | 1
            state[MAX_BIT] += 1
        span = state[HIGH] - state[LOW] + 1
        first, last = _share(span, cum_low[n], cum_high[n], upstream)
        if first < 0 or last < first or state[LOW] + last >= np.int64(1) << (state[MAX_BIT] + 1):
            return n
        state[HIGH] = state[LOW] + last
        state[LOW] += first
        _settle(state, buffer, True)
    return -1


@kernel
def flush(state, buffer):
    """Write what is left of ``low``: its top bit, the bits dropped after it (all ones), the others."""
    if state[MAX_BIT] >= 0:
        _put_bit(state, buffer, state[LOW] >> state[MAX_BIT])
        for _ in range(state[PENDING]):
            _put_bit(state, buffer, 1)
        for place in range(state[MAX_BIT] - 1, -1, -1):
            _put_bit(state, buffer, (state[LOW] >> place) & 1)


@kernel
def _find_upstream(offset, row, span):
    """Return the code whose interval holds `offset`, and the interval; the code is -1 where there is none."""
    least, most = 0, row.shape[0] - 1
    while least <= most:
        code = (least + most) >> 1
        first, last = _share(span, row[code - 1] if code > 0 else np.int64(0), row[code], True)
        if offset < first:
            most = code - 1
        elif offset > last:
            least = code + 1
        else:
            return code, first, last
    return -1, np.int64(0), np.int64(0)


@kernel
def _find_grid(offset, row, span):
    """Return the least code whose share ends beyond `offset`, as a binary search has it; -1 where there is none.

    ``floor(c span / 2^24) <= offset`` says the same as ``c <= ((offset + 1) 2^24 - 1) // span``, which is the form
    that the pull request searches with; so that even for a faulty row the search goes the same way.
    """
    least, end = 0, row.shape[0]
    while least < end:
        code = (least + end) >> 1
        if (row[code] * span) >> TOTAL_BITS <= offset:
            least = code + 1
        else:
            end = code
    if least == row.shape[0]:
        return -1, np.int64(0), np.int64(0)
    first, last = _share(span, row[least - 1] if least > 0 else np.int64(0), row[least], False)
    return least, first, last


@kernel
def pull_all(state, data, cdf, upstream, codes):
    """Decode a code per row; return how many there are. If too few, the next place of `codes` says why."""
    T, K, _ = cdf.shape
    nowhere = np.empty(0, dtype=np.uint8)
    for n in range(T * K):
        while state[HIGH] - state[LOW] + 1 < TOTAL:
            place = state[BITS]
            if place >= 8 * data.shape[0]:
                codes[n] = EXHAUSTED
                return n
            state[CURRENT] = (state[CURRENT] << 1) | ((data[place >> 3] >> (place & 7)) & 1)
            state[LOW] <<= 1
            state[HIGH] = (state[HIGH] << 1) | 1
            state[MAX_BIT] += 1
            state[BITS] = place + 1
        span = state[HIGH] - state[LOW] + 1
        offset = state[CURRENT] - state[LOW]
        row = cdf[n // K, n % K]
        code, first, last = _find_upstream(offset, row, span) if upstream else _find_grid(offset, row, span)
        codes[n] = code
        if code < 0:
            codes[n] = NO_SYMBOL
            return n
        if first < 0 or last < first or state[LOW] + last >= np.int64(1) << (state[MAX_BIT] + 1):
            codes[n] = OVERFLOW
            return n
        state[HIGH] = state[LOW] + last
        state[LOW] += first
        _settle(state, nowhere, False)
    return T * K
