"""The steps of `codecbook.coding.range_coder`, compiled; that file's text defines them.

They check nothing, and can be called from a kernel that makes a CDF row, codes a symbol and goes on.
"""

import numpy as np

from codecbook.compiled import kernel

TOP_BITS = 56
BOTTOM_BITS = 48
WINDOW_BYTES = 7
IMPLIED_BYTES = 6  # zeros that stand in for the end of every stream
LOW, RANGE, POSITION, OFFSET, CUM_LOW, CUM_HIGH = range(6)  # places in the state array
EXHAUSTED, NO_SYMBOL = -1, -2


def fresh_state() -> np.ndarray:
    """Return the state of a coder that has seen nothing."""
    state = np.zeros(6, dtype=np.int64)
    state[RANGE] = 1 << TOP_BITS
    return state


@kernel
def _carry(buffer, position):
    """Add 1 to the bytes before `position`; there is a byte below 255, since the message stays below 1."""
    place = position - 1
    while buffer[place] == 255:
        buffer[place] = 0
        place -= 1
    buffer[place] += 1


@kernel
def encode_step(state, buffer, cum_low, cum_high, total_bits):
    """Encode one interval, unchecked; `buffer`, uint8, needs room for 3 bytes from ``state[POSITION]`` on."""
    unit = state[RANGE] >> total_bits
    low = state[LOW] + unit * cum_low
    span = unit * (cum_high - cum_low)
    position = state[POSITION]
    if low >> TOP_BITS:
        low -= 1 << TOP_BITS
        _carry(buffer, position)
    while span < 1 << BOTTOM_BITS:
        buffer[position] = low >> BOTTOM_BITS
        position += 1
        low = (low & ((1 << BOTTOM_BITS) - 1)) << 8
        span <<= 8
    state[LOW], state[RANGE], state[POSITION] = low, span, position
    state[CUM_LOW], state[CUM_HIGH] = cum_low, cum_high


@kernel
def encode_end(state, buffer):
    """Write the last byte, for which `buffer` needs room."""
    position = state[POSITION]
    top = (state[LOW] + (1 << BOTTOM_BITS) - 1) >> BOTTOM_BITS
    if top == 256:
        _carry(buffer, position)
        top = 0
    buffer[position] = top
    state[POSITION] = position + 1


@kernel
def start_decoding(state, data):
    """Fill the window of a fresh state from the first bytes of `data`, uint8."""
    for place in range(WINDOW_BYTES):
        byte = np.int64(data[place]) if place < data.shape[0] else np.int64(0)
        state[OFFSET] = (state[OFFSET] << 8) | byte
    state[POSITION] = WINDOW_BYTES


@kernel
def decode_step(state, data, row, total_bits):
    """Decode one code of a row ``[V]``, unchecked; EXHAUSTED or NO_SYMBOL where there is none."""
    unit = state[RANGE] >> total_bits
    target = state[OFFSET] // unit
    least, end = 0, row.shape[0]
    while least < end:
        middle = (least + end) >> 1
        if row[middle] <= target:
            least = middle + 1
        else:
            end = middle
    if least == row.shape[0]:
        return NO_SYMBOL
    cum_low = row[least - 1] if least > 0 else np.int64(0)
    low = (state[LOW] + unit * cum_low) & ((1 << TOP_BITS) - 1)
    offset = state[OFFSET] - unit * cum_low
    span = unit * (row[least] - cum_low)
    position = state[POSITION]
    while span < 1 << BOTTOM_BITS:
        if position >= data.shape[0] + IMPLIED_BYTES:
            return EXHAUSTED
        byte = np.int64(data[position]) if position < data.shape[0] else np.int64(0)
        offset = (offset << 8) | byte
        position += 1
        low = (low & ((1 << BOTTOM_BITS) - 1)) << 8
        span <<= 8
    state[LOW], state[RANGE], state[POSITION], state[OFFSET] = low, span, position, offset
    state[CUM_LOW], state[CUM_HIGH] = cum_low, row[least]
    return least


@kernel
def encode_all(state, buffer, cum_low, cum_high, total_bits):
    """Encode intervals ``[N]``, unchecked; `buffer` needs room for 3 bytes each."""
    for n in range(cum_low.shape[0]):
        encode_step(state, buffer, cum_low[n], cum_high[n], total_bits)


@kernel
def decode_all(state, data, cdf, total_bits, codes):
    """Decode a code per row; return how many there are. If too few, the next place of `codes` says why."""
    T, K, _ = cdf.shape
    for n in range(T * K):
        codes[n] = decode_step(state, data, cdf[n // K, n % K], total_bits)
        if codes[n] < 0:
            return n
    return T * K
