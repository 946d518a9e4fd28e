"""The arithmetic coders of ``.ecdc``: upstream's, and that of ``acv=4``. Bit for bit.

Both keep a window of ``W = max_bit + 1`` bits with ``low <= high`` in it, which starts empty. Before a symbol the
window is widened (``low`` by 0 bits, ``high`` by 1 bits) until ``range = high - low + 1 >= 2^24``; then it is
narrowed to the symbol's share, and leading bits on which ``low`` and ``high`` agree leave it. Bits fill bytes from
the least significant end, the last byte is padded with zeros, and the end of a stream is the rest of ``low``. The two
differ in how the share ``[c0, c1)`` of ``2^24`` is rounded:

- upstream: ``low + ceil(c0 range / 2^24)`` to ``low + floor((c1 - 1) range / 2^24)``,
- acv=4:    ``low + floor(c0 range / 2^24)`` to ``low + floor(c1 range / 2^24) - 1``.

Upstream computes its share in floats, without loss: each product has at most 51 bits. Integers give the same numbers.
(What differs between machines in upstream's streams is the CDF, not the coder.) Upstream's rounding leaves integers
between two shares that belong to no symbol, and its CDF ends short of 2^24 as a rule: a damaged stream may land there,
which is reported. The intervals of acv=4 cover the window entirely: **any** bytes decode to symbols without complaint
until they run out. The absence of an exception proves nothing; compare checksums.

While ``low`` = 01... and ``high`` = 10..., no bit is decided and the window grows (upstream's encoder gives up beyond
62 bits). Here that second bit, which will be the opposite of the first, is dropped from all three numbers, counted as
pending, and written after the next decided bit. Since the coder adds to ``low`` and subtracts from ``high`` only, and
the range is what it was, the bytes are the same. It leaves ``range > window / 4``, and the window is widened only below
a range of 2^24: so it never exceeds 27 bits, and all integers stay below 2^63.
"""

from typing import Any

import numpy as np

from codecbook.coding.cdf import Decoder, Encoder, as_cdf, coded_intervals
from codecbook.coding.counts import TOTAL, TOTAL_BITS
from codecbook.compiled import kernel
from codecbook.errors import CorruptInput, UnsupportedInput

_MOST_ABOVE_TOTAL = 1024  # upstream's float32 rounding adds a few units to 2^24 at most
EXHAUSTED, NO_SYMBOL, OVERFLOW = -1, -2, -3
_REASONS = {
    EXHAUSTED: "its {} bytes are used up: it is truncated or damaged",
    NO_SYMBOL: "its bytes point between two symbols: they are damaged, or the CDF is not the encoder's (another model "
    "or machine made it)",
    OVERFLOW: "the interval exceeds the range, which no encoder writes: the bytes are damaged",
}
LOW, HIGH, MAX_BIT, PENDING, BITS, CURRENT = range(6)  # places in the state array


def encode_upstream(symbols: Any, cdf: Any) -> bytes:
    """Encode symbols ``[K, T]`` as package ``encodec`` 0.1.1 does, by a CDF of `codecbook.coding.counts.cdf_upstream`.

    Raises UnsupportedInput for a symbol that this coder cannot express; see `UpstreamEncoder`.
    """
    return UpstreamEncoder().encode(symbols, cdf)


def decode_upstream(data: bytes, cdf: Any) -> np.ndarray:
    """Decode codes int64 ``[K, T]`` with the encoder's CDF; bytes beyond the last symbol are left alone.

    Raises CorruptInput where the bytes run out, or point between the symbols.
    """
    return UpstreamDecoder(data).decode(cdf)


def encode_grid(symbols: Any, cdf: Any) -> bytes:
    """Encode as ``acv=4`` does, by a CDF of `codecbook.coding.counts.cdf_grid`; see `encode_upstream`."""
    return GridEncoder().encode(symbols, cdf)


def decode_grid(data: bytes, cdf: Any) -> np.ndarray:
    """Decode a stream of `encode_grid`; see `decode_upstream`. Damage shows only where the bytes run out."""
    return GridDecoder(data).decode(cdf)


class _Encoder(Encoder):
    """Encode as symbols come; `check` False takes rows that do not increase, to show what a faulty CDF does."""

    _upstream: bool

    def __init__(self, check: bool = True) -> None:
        self._check = check
        self._state, self._buffer = _fresh_state(), np.zeros(64, dtype=np.uint8)

    def push_frames(self, symbols: Any, cdf: Any) -> None:
        low, high = (ends.ravel() for ends in coded_intervals(symbols, _as_cdf(cdf, self._upstream, self._check)))
        self._reserve(len(low))
        stopped = int(_push_all(self._state, self._buffer, low, high, self._upstream))
        if stopped >= 0:
            raise UnsupportedInput(
                f"The interval {low[stopped]}..{high[stopped]} of 2^24 (symbol {stopped} of this call) has no place in "
                "the coder's range; its CDF is not increasing, or rounding made it end above 2^24 (the package encodec "
                "fails an assertion here): code this segment raw."
            )

    def finish(self) -> bytes:
        self._reserve(0)
        _flush(self._state, self._buffer)
        data = self._buffer[: (self._state[BITS] + 7) // 8].tobytes()
        self._state, self._buffer = _fresh_state(), np.zeros(64, dtype=np.uint8)
        return data

    def _reserve(self, count: int) -> None:
        # a symbol widens the window by at most 24 bits, and every bit leaves once
        bits = int(self._state[BITS] + self._state[PENDING]) + 24 * count + 64
        if bits > 8 * len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.zeros(bits // 8, dtype=np.uint8)])


class _Decoder(Decoder):
    """Decode as rows come, from the first byte of `data` on, which may go on beyond the stream's end."""

    _upstream: bool

    def __init__(self, data: bytes, check: bool = True) -> None:
        self._check = check
        self._state, self._data = _fresh_state(), np.frombuffer(data, dtype=np.uint8)

    @property
    def bytes_consumed(self) -> int:
        """Bytes read so far; after the last symbol, the length of what the encoder wrote."""
        return int(self._state[BITS] + 7) // 8

    def pull_frames(self, cdf: Any) -> np.ndarray:
        rows = _as_cdf(cdf, self._upstream, self._check)
        codes = np.empty(rows.shape[0] * rows.shape[1], dtype=np.int64)
        done = int(_pull_all(self._state, self._data, rows, self._upstream, codes))
        if done < len(codes):
            reason = _REASONS[int(codes[done])].format(len(self._data))
            raise CorruptInput(f"The stream breaks off at symbol {done} of this call: {reason}.")
        return codes.reshape(rows.shape[:2])


class UpstreamEncoder(_Encoder):
    """The coder of package ``encodec`` 0.1.1.

    Upstream's CDF may end a little above 2^24, which is common where the model is sure of one code. Then the last
    code's interval reaches beyond the coder's range, and where that has no room the package fails an assertion;
    `push` raises UnsupportedInput at the same symbol.
    """

    _upstream = True


class GridEncoder(_Encoder):
    """The coder of ``acv=4``."""

    _upstream = False


class UpstreamDecoder(_Decoder):
    """Its decoder. Segments of a file follow each other without a length: the next one begins at `bytes_consumed`."""

    _upstream = True


class GridDecoder(_Decoder):
    """Its decoder. Damaged bytes give symbols too."""

    _upstream = False


def _as_cdf(cdf: Any, upstream: bool, check: bool) -> np.ndarray:
    if upstream:
        return as_cdf(cdf, 2 if check else 0, (1, TOTAL + _MOST_ABOVE_TOTAL))
    return as_cdf(cdf, 1 if check else 0, (TOTAL, TOTAL))


def _fresh_state() -> np.ndarray:
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
def _narrow(state, buffer, first, last, writing):
    """Narrow the window to a symbol's share, and settle it; False where the share has no place in it."""
    if first < 0 or last < first or state[LOW] + last >= np.int64(1) << (state[MAX_BIT] + 1):
        return False
    state[HIGH] = state[LOW] + last
    state[LOW] += first
    _settle(state, buffer, writing)
    return True


@kernel
def _share(span, cum_low, cum_high, upstream):
    if upstream:
        return -((-cum_low * span) >> TOTAL_BITS), ((cum_high - 1) * span) >> TOTAL_BITS
    return (cum_low * span) >> TOTAL_BITS, ((cum_high * span) >> TOTAL_BITS) - 1


@kernel
def _push_all(state, buffer, cum_low, cum_high, upstream):
    """Encode intervals; return -1, or the index of one that has no place in the range."""
    for n in range(cum_low.shape[0]):
        while state[HIGH] - state[LOW] + 1 < TOTAL:
            state[LOW] <<= 1
            state[HIGH] = (state[HIGH] << 1) | 1
            state[MAX_BIT] += 1
        span = state[HIGH] - state[LOW] + 1
        first, last = _share(span, cum_low[n], cum_high[n], upstream)
        if not _narrow(state, buffer, first, last, True):
            return n
    return -1


@kernel
def _flush(state, buffer):
    """Write what is left of ``low``: its top bit, the bits dropped after it (all ones), the others."""
    if state[MAX_BIT] >= 0:
        _put_bit(state, buffer, state[LOW] >> state[MAX_BIT])
        for _ in range(state[PENDING]):
            _put_bit(state, buffer, 1)
        for place in range(state[MAX_BIT] - 1, -1, -1):
            _put_bit(state, buffer, (state[LOW] >> place) & 1)


@kernel
def _find(offset, row, span, upstream):
    """Return the code whose share holds `offset`, and the share; NO_SYMBOL where there is none.

    It is the least whose share ends at `offset` or later, by binary search. For acv=4, ``floor(c span / 2^24) <=
    offset`` says the same as ``c <= ((offset + 1) 2^24 - 1) // span``, which is the form that the pull request searches
    with; so that even for a faulty row the search goes the same way.
    """
    least, end = 0, row.shape[0]
    while least < end:
        code = (least + end) >> 1
        if _share(span, np.int64(0), row[code], upstream)[1] < offset:
            least = code + 1
        else:
            end = code
    if least == row.shape[0]:
        return NO_SYMBOL, np.int64(0), np.int64(0)
    first, last = _share(span, row[least - 1] if least > 0 else np.int64(0), row[least], upstream)
    return (NO_SYMBOL if upstream and first > offset else least), first, last


@kernel
def _pull_all(state, data, cdf, upstream, codes):
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
        code, first, last = _find(offset, cdf[n // K, n % K], span, upstream)
        codes[n] = code
        if code >= 0 and not _narrow(state, nowhere, first, last, False):
            codes[n] = OVERFLOW
        if codes[n] < 0:
            return n
    return T * K
