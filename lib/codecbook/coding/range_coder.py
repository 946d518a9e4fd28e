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

from codecbook.coding import range_kernels as kernels
from codecbook.coding.cdf import CdfSource, as_cdf, coded_intervals, decode_frames
from codecbook.coding.exact_counts import EXACT_TOTAL_BITS, MAX_TOTAL_BITS
from codecbook.errors import CorruptInput, UnsupportedInput


def encode_range(symbols: Any, cdf: Any, total_bits: int = EXACT_TOTAL_BITS) -> bytes:
    """Encode symbols, frame by frame and within a frame codebook by codebook.

    Args:
        symbols: Integers ``[K, T]``.
        cdf: int64 ``[T, K, V]``, widths >= 1, last value ``2^total_bits``, as `cdf_exact` makes it.
        total_bits: 1 to 24.

    Raises:
        CorruptInput: A symbol outside ``0..V-1``.
        UnsupportedInput: Another CDF or shape.
    """
    encoder = RangeEncoder(total_bits)
    encoder.push_frames(symbols, cdf)
    return encoder.finish()


def encode_intervals(cum_low: np.ndarray, cum_high: np.ndarray, total_bits: int = EXACT_TOTAL_BITS) -> bytes:
    """Encode symbols that are given by what they own: ``cum_low <= x < cum_high`` of ``2^total_bits``.

    Args:
        cum_low: Integers of any shape, coded in C order; ``0 <= cum_low < cum_high``.
        cum_high: Of the same shape, at most ``2^total_bits``.
        total_bits: 1 to 24.

    Raises:
        UnsupportedInput: An empty interval, or one out of range.
    """
    encoder = RangeEncoder(total_bits)
    encoder.push_intervals(cum_low, cum_high)
    return encoder.finish()


def decode_range(
    data: bytes, cdf: CdfSource, num_frames: int | None = None, total_bits: int = EXACT_TOTAL_BITS
) -> np.ndarray:
    """Decode a stream of `encode_range`, all of it.

    Args:
        data: The bytes that the encoder returned, neither more nor fewer.
        cdf: What the encoder used, at once or frame by frame.
        num_frames: T, needed if `cdf` is a function.
        total_bits: As for the encoder.

    Returns:
        int64 ``[K, T]``.

    Raises:
        CorruptInput: The bytes end early, go on, or are not those of any message; see `RangeDecoder`.
        UnsupportedInput: Another CDF or shape.
    """
    decoder = RangeDecoder(data, total_bits)
    codes = decode_frames(decoder.pull_frames, cdf, num_frames)
    decoder.finish()
    return codes


class _RangeCoder:
    def __init__(self, total_bits: int) -> None:
        if not 1 <= total_bits <= MAX_TOTAL_BITS:
            raise UnsupportedInput(f"total_bits={total_bits} is outside 1..{MAX_TOTAL_BITS}.")
        self.total_bits = total_bits
        self._state = kernels.fresh_state()

    @property
    def interval(self) -> tuple[int, int]:
        """What the last symbol owned: ``(cum_low, cum_high)``; (0, 0) before the first."""
        return int(self._state[kernels.CUM_LOW]), int(self._state[kernels.CUM_HIGH])

    def _as_cdf(self, cdf: Any) -> np.ndarray:
        return as_cdf(cdf, 1, (1 << self.total_bits, 1 << self.total_bits))


class RangeEncoder(_RangeCoder):
    """Encode as symbols come: `push`, `push_frames` or `push_intervals`, then `finish`.

    Args:
        total_bits: Intervals are shares of ``2^total_bits``, 1 to 24.
    """

    def __init__(self, total_bits: int = EXACT_TOTAL_BITS) -> None:
        super().__init__(total_bits)
        self._buffer = np.zeros(64, dtype=np.uint8)

    def push(self, symbol: int, cdf_row: np.ndarray) -> None:
        """Encode one symbol of a row ``[V]``; see `encode_range` for what it raises."""
        self.push_frames(np.array([[symbol]]), np.asarray(cdf_row)[None, None])

    def push_frames(self, symbols: Any, cdf: Any) -> None:
        """Encode symbols ``[K, T]`` of rows ``[T, K, V]``; see `encode_range` for what it raises."""
        self.push_intervals(*coded_intervals(symbols, self._as_cdf(cdf)))

    def push_intervals(self, cum_low: Any, cum_high: Any) -> None:
        """Encode what one or more symbols own; see `encode_intervals`."""
        low, high = np.asarray(cum_low), np.asarray(cum_high)
        if low.shape != high.shape or low.dtype.kind not in "iu" or high.dtype.kind not in "iu":
            raise UnsupportedInput(
                f"Interval ends must be integers of one shape; received {low.dtype} {list(low.shape)} and "
                f"{high.dtype} {list(high.shape)}."
            )
        bad = np.flatnonzero((low < 0) | (low >= high) | (high > 1 << self.total_bits))
        if bad.size:
            raise UnsupportedInput(
                f"Interval {low.flat[bad[0]]}..{high.flat[bad[0]]} (symbol {bad[0]} of this call) is empty or "
                f"outside 0..2^{self.total_bits}; make the CDF with codecbook.coding.counts.cdf_exact."
            )
        needed = int(self._state[kernels.POSITION]) + 3 * low.size + 8  # a symbol shifts out at most 24 bits
        if needed > len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.zeros(needed, dtype=np.uint8)])
        low, high = (np.ascontiguousarray(ends, dtype=np.int64).ravel() for ends in (low, high))
        kernels.encode_all(self._state, self._buffer, low, high, self.total_bits)

    def finish(self) -> bytes:
        """Return all bytes; the encoder is then empty again."""
        kernels.encode_end(self._state, self._buffer)
        data = self._buffer[: self._state[kernels.POSITION]].tobytes()
        self._state = kernels.fresh_state()
        return data


class RangeDecoder(_RangeCoder):
    """Decode as rows come: `pull` or `pull_frames`, then `finish`, which says whether the bytes end as they must.

    Until then symbols are provisional: those decoded from damaged bytes look like any others.

    Args:
        data: The bytes of one stream.
        total_bits: As for the encoder.
    """

    def __init__(self, data: bytes, total_bits: int = EXACT_TOTAL_BITS) -> None:
        super().__init__(total_bits)
        self._data = np.frombuffer(data, dtype=np.uint8)
        kernels.start_decoding(self._state, self._data)

    def pull(self, cdf_row: np.ndarray) -> int:
        """Decode one symbol of a row ``[V]``, equal to the encoder's.

        Raises:
            CorruptInput: The bytes are used up, or point beyond all symbols.
            UnsupportedInput: A row that is not increasing, or does not end at ``2^total_bits``.
        """
        return int(self.pull_frames(np.asarray(cdf_row)[None, None])[0, 0])

    def pull_frames(self, cdf: Any) -> np.ndarray:
        """Decode the codes ``[T, K]`` of all rows ``[T, K, V]``; see `pull`."""
        rows = self._as_cdf(cdf)
        codes = np.empty(rows.shape[0] * rows.shape[1], dtype=np.int64)
        done = int(kernels.decode_all(self._state, self._data, rows, self.total_bits, codes))
        if done < len(codes):
            reason = (
                f"its {len(self._data)} bytes are used up, so they are truncated or damaged"
                if codes[done] == kernels.EXHAUSTED
                else "its bytes point beyond all symbols, so they are damaged"
            )
            raise CorruptInput(f"The stream breaks off at symbol {done} of this call: {reason}.")
        return codes.reshape(rows.shape[:2])

    def finish(self) -> None:
        """Check that the encoder of these symbols wrote exactly these bytes.

        Raises:
            CorruptInput: It did not: bytes are missing, too many or altered, or the CDF was not the encoder's.
        """
        written = int(self._state[kernels.POSITION]) - kernels.IMPLIED_BYTES
        if written != len(self._data):
            raise CorruptInput(
                f"These symbols take {written} bytes, the stream has {len(self._data)}; it is cut off, goes "
                "on, or is damaged."
            )
        if int(self._state[kernels.OFFSET]) != -int(self._state[kernels.LOW]) % (1 << kernels.BOTTOM_BITS):
            raise CorruptInput(
                "The last bytes are not those that these symbols end with; the stream is damaged, or the CDF is not "
                "the encoder's."
            )
