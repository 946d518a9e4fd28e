"""The range coder of this project's own streams. Normative.

A message is a number in [0, 1), written in base 256, inside an interval that every symbol narrows to its share. All
quantities are integers below 2^57.

Encoder. ``low = 0``, ``range = 2^56``, no bytes. For a symbol that owns ``[c0, c1)`` of ``2^b`` (b = total bits, up
to 24):

1. ``unit = range >> b``; ``low += unit * c0``; ``range = unit * (c1 - c0)``.
2. Carry: if ``low >= 2^56``, subtract 2^56 and add 1 to the bytes written so far, read as one big-endian number.
3. While ``range < 2^48``: write the byte ``low >> 48``; ``low = (low mod 2^48) << 8``; ``range <<= 8``.

End. One more byte, ``ceil(low / 2^48)``; if that is 256, carry as in 2 and write 0. It names the first multiple of
2^48 in the interval, which is there since ``range >= 2^48``; the zeros that would follow are not written.

Decoder. ``offset`` = the first 7 bytes, big-endian, zeros standing in past the end; ``range = 2^56``. Then, per
symbol: ``unit = range >> b``; ``x = offset // unit`` (``x >= 2^b`` is damage); the symbol is the one with
``c0 <= x < c1``; ``offset -= unit * c0``; ``range = unit * (c1 - c0)``; while ``range < 2^48``: ``offset = (offset <<
8) + next byte``, ``range <<= 8``. Exactly 6 zeros stand in for a whole stream; one more, and it is truncated. After the
last symbol the decoder knows how the encoder would have ended, and `RangeDecoder.finish` compares: a sequence of
symbols has exactly one byte string. That notices most cut or lengthened streams, but not those that happen to be the
bytes of another message, as a changed bit often makes them; where damage must be found, add a checksum. (Leaving out
the last byte where zeros would do is possible and saves a fifth of a byte, but then most streams that are cut by one
byte pass as another message.)

Why this one. Rounding ``unit`` down wastes at most 2^-24 of the range per symbol (10^-7 bit), and the end costs one
byte. A carryless coder (Subbotin) cuts the range short wherever a carry might come, which costs rate and another
case to specify. rANS decodes faster, but encodes last symbol first, so that an encoder holds a whole segment's
intervals before the first byte. Propagating the carry into the bytes written is the one step of this coder that is
not local, and it is one sentence. After G. N. N. Martin, "Range encoding" (1979), and M. Schindler's byte-wise form.
"""

from typing import Any

import numpy as np

from codecbook.coding.cdf import Decoder, Encoder, as_cdf, coded_intervals
from codecbook.coding.exact.counts import EXACT_TOTAL_BITS, MAX_TOTAL_BITS
from codecbook.compiled import kernel
from codecbook.errors import CorruptInput, UnsupportedInput

TOP_BITS = 56
BOTTOM_BITS = 48
WINDOW_BYTES = 7
IMPLIED_BYTES = 6  # zeros that stand in for the end of every stream
LOW, RANGE, POSITION, OFFSET = range(4)  # places in the state array
EXHAUSTED, NO_SYMBOL = -1, -2


def encode_range(symbols: Any, cdf: Any, total_bits: int = EXACT_TOTAL_BITS) -> bytes:
    """Encode symbols ``[K, T]`` by a CDF of `cdf_exact`, whose last values are ``2^total_bits``, 1 to 24 bits."""
    return RangeEncoder(total_bits).encode(symbols, cdf)


def decode_range(data: bytes, cdf: Any, total_bits: int = EXACT_TOTAL_BITS) -> np.ndarray:
    """Decode codes int64 ``[K, T]`` of all bytes that `encode_range` returned, with the encoder's CDF.

    Raises CorruptInput where the bytes end early, go on, or are not those of any message; see `RangeDecoder`.
    """
    decoder = RangeDecoder(data, total_bits)
    codes = decoder.decode(cdf)
    decoder.finish()
    return codes


class RangeEncoder(Encoder):
    """Encode as symbols come; also by `push_intervals`, as shares of ``2^total_bits``, 1 to 24 bits."""

    def __init__(self, total_bits: int = EXACT_TOTAL_BITS) -> None:
        self.total_bits = _checked_bits(total_bits)
        self._state, self._buffer = fresh_state(), np.zeros(64, dtype=np.uint8)

    def push_frames(self, symbols: Any, cdf: Any) -> None:
        """Encode symbols ``[K, T]`` of rows ``[T, K, V]``."""
        self.push_intervals(*coded_intervals(symbols, _as_cdf(cdf, self.total_bits)))

    def push_intervals(self, cum_low: Any, cum_high: Any) -> None:
        """Encode symbols by what they own: integers of one shape, in C order, ``cum_low <= x < cum_high``."""
        low, high = (np.ascontiguousarray(ends, dtype=np.int64).ravel() for ends in (cum_low, cum_high))
        bad = np.flatnonzero((low < 0) | (low >= high) | (high > 1 << self.total_bits))
        if bad.size:
            raise UnsupportedInput(
                f"Interval {low[bad[0]]}..{high[bad[0]]} (symbol {bad[0]} of this call) is empty or outside "
                f"0..2^{self.total_bits}; make the CDF with codecbook.coding.counts.cdf_exact."
            )
        needed = int(self._state[POSITION]) + 3 * low.size + 8  # a symbol shifts out at most 24 bits
        if needed > len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.zeros(needed, dtype=np.uint8)])
        _encode_all(self._state, self._buffer, low, high, self.total_bits)

    def finish(self) -> bytes:
        """Return all bytes; the encoder is then empty again."""
        encode_end(self._state, self._buffer)
        data = self._buffer[: self._state[POSITION]].tobytes()
        self._state = fresh_state()
        return data


class RangeDecoder(Decoder):
    """Decode as rows come, all bytes of one stream; then `finish` checks how they end.

    Until then symbols are provisional: those decoded from damaged bytes look like any others.
    """

    def __init__(self, data: bytes, total_bits: int = EXACT_TOTAL_BITS) -> None:
        self.total_bits = _checked_bits(total_bits)
        self._state, self._data = fresh_state(), np.frombuffer(data, dtype=np.uint8)
        start_decoding(self._state, self._data)

    def pull_frames(self, cdf: Any) -> np.ndarray:
        """Decode the codes ``[T, K]`` of all rows ``[T, K, V]``."""
        rows = _as_cdf(cdf, self.total_bits)
        codes = np.empty(rows.shape[0] * rows.shape[1], dtype=np.int64)
        done = int(_decode_all(self._state, self._data, rows, self.total_bits, codes))
        if done < len(codes):
            reason = (
                f"its {len(self._data)} bytes are used up, so they are truncated or damaged"
                if codes[done] == EXHAUSTED
                else "its bytes point beyond all symbols, so they are damaged"
            )
            raise CorruptInput(f"The stream breaks off at symbol {done} of this call: {reason}.")
        return codes.reshape(rows.shape[:2])

    def finish(self) -> None:
        """Raise CorruptInput unless the encoder of these symbols wrote exactly these bytes."""
        written = int(self._state[POSITION]) - IMPLIED_BYTES
        if written != len(self._data):
            raise CorruptInput(f"These symbols take {written} bytes, the stream has {len(self._data)}; it is damaged.")
        if int(self._state[OFFSET]) != -int(self._state[LOW]) % (1 << BOTTOM_BITS):
            raise CorruptInput("The last bytes are not of these symbols; the stream is damaged, or the CDF another.")


def _checked_bits(total_bits: int) -> int:
    if not 1 <= total_bits <= MAX_TOTAL_BITS:
        raise UnsupportedInput(f"total_bits={total_bits} is outside 1..{MAX_TOTAL_BITS}.")
    return total_bits


def _as_cdf(cdf: Any, total_bits: int) -> np.ndarray:
    return as_cdf(cdf, 1, (1 << total_bits, 1 << total_bits))


def fresh_state() -> np.ndarray:
    """Return the state of a coder that has seen nothing."""
    state = np.zeros(4, dtype=np.int64)
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
    return least


@kernel
def _encode_all(state, buffer, cum_low, cum_high, total_bits):
    """Encode intervals ``[N]``, unchecked; `buffer` needs room for 3 bytes each."""
    for n in range(cum_low.shape[0]):
        encode_step(state, buffer, cum_low[n], cum_high[n], total_bits)


@kernel
def _decode_all(state, data, cdf, total_bits, codes):
    """Decode a code per row; return how many there are. If too few, the next place of `codes` says why."""
    T, K, _ = cdf.shape
    for n in range(T * K):
        codes[n] = decode_step(state, data, cdf[n // K, n % K], total_bits)
        if codes[n] < 0:
            return n
    return T * K
