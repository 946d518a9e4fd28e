"""The arithmetic coders of ``.ecdc``: upstream's, and that of ``acv=4``. Bit for bit.

Both keep a window of ``W = max_bit + 1`` bits with ``low <= high`` in it, which starts empty. Before a symbol the
window is widened (``low`` by 0 bits, ``high`` by 1 bits) until ``range = high - low + 1 >= 2^24``; then it is
narrowed to the symbol's share, and leading bits on which ``low`` and ``high`` agree leave it. Bits fill bytes from
the least significant end, the last byte is padded with zeros, and the end of a stream is the rest of ``low``. The two
differ in how the share ``[c0, c1)`` of ``2^24`` is rounded:

- upstream: ``low + ceil(c0 range / 2^24)`` to ``low + floor((c1 - 1) range / 2^24)``,
- acv=4:    ``low + floor(c0 range / 2^24)`` to ``low + floor(c1 range / 2^24) - 1``.

Upstream computes its share in floats, but nothing is lost there: range stays below 2^26, so that each product has at
most 51 bits and float64 holds it exactly. Integer arithmetic gives the same numbers, and is used here. (What differs
between machines in upstream's streams is the CDF, not the coder.)

Upstream's rounding leaves integers between two shares that belong to no symbol, and its CDF ends short of 2^24 as a
rule: a damaged stream may land there, which is reported. The intervals of acv=4 cover the window entirely: **any**
bytes decode to symbols without complaint until they run out. No exception proves nothing; compare checksums.

While ``low`` = 01... and ``high`` = 10..., no bit is decided and the window grows (upstream's encoder gives up beyond
62 bits). `codecbook.coding.arithmetic_kernels` keeps the state small instead; the bytes are the same.
"""

from typing import Any

import numpy as np

from codecbook.coding import arithmetic_kernels as kernels
from codecbook.coding.cdf import CdfSource, as_cdf, coded_intervals, decode_frames
from codecbook.coding.counts import TOTAL
from codecbook.errors import CorruptInput, UnsupportedInput

_MOST_ABOVE_TOTAL = 1024  # upstream's float32 rounding adds a few units to 2^24 at most


def encode_upstream(symbols: Any, cdf: Any) -> bytes:
    """Encode with the coder of package ``encodec`` 0.1.1.

    Args:
        symbols: Integers ``[K, T]``.
        cdf: int64 ``[T, K, V]`` from `codecbook.coding.counts.cdf_upstream`.

    Raises:
        CorruptInput: A symbol outside ``0..V-1``.
        UnsupportedInput: Another CDF or shape, or a symbol that this coder cannot express; see `UpstreamEncoder`.
    """
    encoder = UpstreamEncoder()
    encoder.push_frames(symbols, cdf)
    return encoder.finish()


def decode_upstream(data: bytes, cdf: CdfSource, num_frames: int | None = None) -> np.ndarray:
    """Decode a stream of `encode_upstream`; bytes beyond the last symbol are left alone.

    Args:
        data: The coder's bytes.
        cdf: What the encoder used, at once or frame by frame.
        num_frames: T, needed if `cdf` is a function.

    Returns:
        int64 ``[K, T]``.

    Raises:
        CorruptInput: The bytes run out, or point between the symbols.
        UnsupportedInput: Another CDF or shape.
    """
    return decode_frames(UpstreamDecoder(data).pull_frames, cdf, num_frames)


def encode_grid(symbols: Any, cdf: Any) -> bytes:
    """Encode with the coder of ``acv=4``; `cdf` is from `codecbook.coding.counts.cdf_grid`, see `encode_upstream`."""
    encoder = GridEncoder()
    encoder.push_frames(symbols, cdf)
    return encoder.finish()


def decode_grid(data: bytes, cdf: CdfSource, num_frames: int | None = None) -> np.ndarray:
    """Decode a stream of `encode_grid`; see `decode_upstream`. Damage shows only where the bytes run out."""
    return decode_frames(GridDecoder(data).pull_frames, cdf, num_frames)


class _Coder:
    """What encoders and decoders of one kind share: its rounding, and the CDFs it takes."""

    _upstream: bool

    def __init__(self, check: bool = True) -> None:
        self._check = check
        self._state = kernels.fresh_state()

    def _as_cdf(self, cdf: Any) -> np.ndarray:
        least = 2 if self._upstream else 1
        last_range = (1, TOTAL + _MOST_ABOVE_TOTAL) if self._upstream else (TOTAL, TOTAL)
        return as_cdf(cdf, least if self._check else 0, last_range)


class _Encoder(_Coder):
    def __init__(self, check: bool = True) -> None:
        super().__init__(check)
        self._buffer = np.zeros(64, dtype=np.uint8)

    def push(self, symbol: int, cdf_row: np.ndarray) -> None:
        """Encode one symbol.

        Args:
            symbol: ``0..V-1``.
            cdf_row: Integers ``[V]``.

        Raises:
            CorruptInput: A symbol out of range.
            UnsupportedInput: A row that this coder cannot use, or a symbol that it cannot express.
        """
        self.push_frames(np.array([[symbol]]), np.asarray(cdf_row)[None, None])

    def push_frames(self, symbols: Any, cdf: Any) -> None:
        """Encode symbols ``[K, T]`` of rows ``[T, K, V]``; see `push`."""
        rows = self._as_cdf(cdf)
        low, high = (ends.ravel() for ends in coded_intervals(symbols, rows))
        self._reserve(len(low))
        stopped = int(kernels.push_all(self._state, self._buffer, low, high, self._upstream))
        if stopped >= 0:
            raise UnsupportedInput(
                f"The interval {low[stopped]}..{high[stopped]} of 2^24 (symbol {stopped} of this call) has no place in "
                "the coder's range; its CDF is not increasing, or rounding made it end above 2^24 (the package encodec "
                "fails an assertion here): code this segment raw."
            )

    def finish(self) -> bytes:
        """Return all bytes; the encoder is then empty again."""
        self._reserve(0)
        kernels.flush(self._state, self._buffer)
        data = self._buffer[: (self._state[kernels.BITS] + 7) // 8].tobytes()
        self._state = kernels.fresh_state()
        self._buffer = np.zeros(64, dtype=np.uint8)
        return data

    def _reserve(self, count: int) -> None:
        # a symbol widens the window by at most 24 bits, and every bit leaves once
        bits = int(self._state[kernels.BITS] + self._state[kernels.PENDING]) + 24 * count + 64
        if bits > 8 * len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.zeros(bits // 8, dtype=np.uint8)])


class UpstreamEncoder(_Encoder):
    """Encode as package ``encodec`` 0.1.1 does, as symbols come: `push` or `push_frames`, then `finish`.

    Upstream's CDF may end a little above 2^24, which is common where the model is sure of one code. Then the last
    code's interval reaches beyond the coder's range, and where that has no room the package fails an assertion;
    `push` raises UnsupportedInput at the same symbol.

    Args:
        check: False skips the check that every row is increasing (needed only to show what a faulty CDF does).
    """

    _upstream = True


class GridEncoder(_Encoder):
    """Encode as ``acv=4`` does, as symbols come: `push` or `push_frames`, then `finish`.

    Args:
        check: False skips the check that every row is increasing (needed only to show what a faulty CDF does).
    """

    _upstream = False


class _Decoder(_Coder):
    def __init__(self, data: bytes, check: bool = True) -> None:
        super().__init__(check)
        self._data = np.frombuffer(data, dtype=np.uint8)

    @property
    def bytes_consumed(self) -> int:
        """Bytes read so far; after the last symbol, the length of what the encoder wrote."""
        return int(self._state[kernels.BITS] + 7) // 8

    def pull(self, cdf_row: np.ndarray) -> int:
        """Decode one symbol.

        Args:
            cdf_row: Integers ``[V]``, equal to the encoder's.

        Raises:
            CorruptInput: The bytes run out, or point at no symbol.
            UnsupportedInput: A row that this coder cannot use.
        """
        return int(self.pull_frames(np.asarray(cdf_row)[None, None])[0, 0])

    def pull_frames(self, cdf: Any) -> np.ndarray:
        """Decode the codes ``[T, K]`` of all rows ``[T, K, V]``; see `pull`."""
        rows = self._as_cdf(cdf)
        codes = np.empty(rows.shape[0] * rows.shape[1], dtype=np.int64)
        done = int(kernels.pull_all(self._state, self._data, rows, self._upstream, codes))
        if done < len(codes):
            reason = {
                kernels.EXHAUSTED: f"its {len(self._data)} bytes are used up: it is truncated or damaged",
                kernels.NO_SYMBOL: "its bytes point between two symbols: they are damaged, or the CDF is not the "
                "encoder's (another model or machine made it)",
                kernels.OVERFLOW: "the interval exceeds the range, which no encoder writes: the bytes are damaged",
            }[int(codes[done])]
            raise CorruptInput(f"The stream breaks off at symbol {done} of this call: {reason}.")
        return codes.reshape(rows.shape[:2])


class UpstreamDecoder(_Decoder):
    """Decode what `UpstreamEncoder` wrote, as rows come: `pull` or `pull_frames`.

    Segments of an upstream file follow each other without a length: start the next one `bytes_consumed` further.

    Args:
        data: From the first byte of the stream on; it may go on beyond its end.
        check: False skips the check that every row is increasing.
    """

    _upstream = True


class GridDecoder(_Decoder):
    """Decode what `GridEncoder` wrote, as rows come: `pull` or `pull_frames`. Damaged bytes give symbols too.

    Args:
        data: The stream's bytes.
        check: False skips the check that every row is increasing (needed only to show what a faulty CDF does).
    """

    _upstream = False
