"""CDF arrays: their axes, their checks, the intervals that codes own in them; and what all coders of them offer.

A CDF is int64 ``[T, K, V]``, inclusive: in row ``(t, k)`` code ``v`` owns ``cdf[v-1] <= x < cdf[v]``, with
``cdf[-1] = 0``. Coders go through it frame by frame, within a frame codebook by codebook.
"""

import sys
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from codecbook.compiled import kernel_or
from codecbook.errors import CorruptInput, UnsupportedInput


def as_array(values: Any) -> np.ndarray:
    """Return an array or torch tensor (of any device, not bfloat16) as a numpy array, if possible without a copy."""
    torch = sys.modules.get("torch")  # a caller that has a tensor has imported torch already
    if torch is None or not isinstance(values, torch.Tensor):
        return np.asarray(values)
    if values.dtype == torch.bfloat16:
        raise UnsupportedInput("A bfloat16 tensor has no numpy counterpart; cast it with .float() first.")
    return values.detach().cpu().numpy()


def as_columns(array: np.ndarray, name: str) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return columns as ``[T, V, K]``, and the shape of their CDF: ``[T, K, V]``, or ``[V]`` for one column ``[V]``."""
    if array.ndim not in (1, 3) or array.shape[array.ndim // 2] == 0:
        raise UnsupportedInput(f"{name} need the axes [T, V, K] or [V], V >= 1; received shape {list(array.shape)}.")
    if array.ndim == 1:
        return array[None, :, None], array.shape
    T, V, K = array.shape
    return array, (T, K, V)


def as_cdf(cdf: Any, min_width: int, last_range: tuple[int, int]) -> np.ndarray:
    """Return a CDF as int64 ``[T, K, V]``; where `min_width` is above 0, its widths and last values are checked too."""
    array = as_array(cdf)
    if array.dtype.kind not in "iu" or array.ndim != 3 or array.shape[2] == 0:
        raise UnsupportedInput(f"A CDF must be integers [T, K, V], V >= 1; received {array.dtype} {list(array.shape)}.")
    array = array.astype(np.int64, copy=False)
    if min_width > 0:
        row = int(_first_bad_row(array, min_width, *last_range))
        if row >= 0:
            t, k = divmod(row, array.shape[1])
            raise UnsupportedInput(
                f"The CDF of frame {t}, codebook {k} has a width below {min_width}, or ends at {array[t, k, -1]} "
                f"outside {last_range[0]}..{last_range[1]}; make it with codecbook.coding.counts, by the rule of "
                "this coder."
            )
    return array


def coded_intervals(symbols: Any, cdf: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what the coding of symbols ``[K, T]`` depends on: ``cdf[symbol-1]`` and ``cdf[symbol]``.

    Both are int64 ``[T, K]``, in coding order when flattened. Two machines whose intervals agree produce the same
    bytes, whatever the rest of their CDFs ``[T, K, V]``.

    Raises:
        CorruptInput: A symbol outside ``0..V-1``.
        UnsupportedInput: Axes that do not match, or not integers.
    """
    codes, rows = as_array(symbols), as_array(cdf)
    are_integers = codes.dtype.kind in "iu" and rows.dtype.kind in "iu"
    if not are_integers or codes.ndim != 2 or rows.ndim != 3 or codes.shape != rows.shape[1::-1]:
        raise UnsupportedInput(
            f"Symbols {codes.dtype} {list(codes.shape)} do not match a CDF {rows.dtype} {list(rows.shape)}; give "
            "integers [K, T] for an integer CDF [T, K, V]."
        )
    rows = rows.astype(np.int64, copy=False)
    T, K, V = rows.shape
    chosen = codes.T.astype(np.int64, copy=False)
    bad = np.argwhere((chosen < 0) | (chosen >= V))
    if bad.size:
        t, k = bad[0]
        raise CorruptInput(f"Symbol {codes[k, t]} of codebook {k}, frame {t} is outside 0..{V - 1}; they are damaged.")
    t, k = np.arange(T)[:, None], np.arange(K)
    return np.where(chosen > 0, rows[t, k, np.maximum(chosen - 1, 0)], 0), rows[t, k, chosen]


def ideal_bits(cum_low: np.ndarray, cum_high: np.ndarray, total: int) -> float:
    """Return the code length in bits that no coder of these intervals can undercut: sum of log2(total / width)."""
    widths = np.asarray(cum_high, dtype=np.float64) - np.asarray(cum_low, dtype=np.float64)
    return float(np.log2(total / widths).sum())


class Encoder(ABC):
    """What encodes as symbols come: `push` or `push_frames`, then `finish`; or all at once, `encode`.

    All refuse a symbol out of range (CorruptInput), and rows that this coder cannot use or a symbol that it cannot
    express (UnsupportedInput).
    """

    @abstractmethod
    def push_frames(self, symbols: Any, cdf: Any) -> None:
        """Encode symbols ``[K, T]`` of rows ``[T, K, V]``."""

    @abstractmethod
    def finish(self) -> bytes:
        """Return all bytes; the encoder is then empty again."""

    def push(self, symbol: int, cdf_row: np.ndarray) -> None:
        """Encode one symbol of a row ``[V]``."""
        self.push_frames(np.array([[symbol]]), np.asarray(cdf_row)[None, None])

    def encode(self, symbols: Any, cdf: Any) -> bytes:
        """Return the bytes of symbols ``[K, T]`` of rows ``[T, K, V]``."""
        self.push_frames(symbols, cdf)
        return self.finish()


class Decoder(ABC):
    """What decodes as rows come, to the encoder's symbols: `pull`, `pull_frames`, or `decode`.

    All refuse rows that this coder cannot use (UnsupportedInput), and notice where the bytes run out or point at no
    symbol (CorruptInput).
    """

    @abstractmethod
    def pull_frames(self, cdf: Any) -> np.ndarray:
        """Decode the codes ``[T, K]`` of all rows ``[T, K, V]``."""

    def pull(self, cdf_row: np.ndarray) -> int:
        """Decode one symbol of a row ``[V]``."""
        return int(self.pull_frames(np.asarray(cdf_row)[None, None])[0, 0])

    def decode(self, cdf: Any) -> np.ndarray:
        """Decode codes int64 ``[K, T]`` of rows ``[T, K, V]``."""
        return np.ascontiguousarray(self.pull_frames(cdf).T)


def _first_bad_row_of_arrays(cdf: np.ndarray, min_width: int, least_last: int, greatest_last: int) -> int:
    last = cdf[:, :, -1]
    bad = (cdf[:, :, 0] < min_width) | (last < least_last) | (last > greatest_last)
    bad |= (cdf[:, :, 1:] - cdf[:, :, :-1] < min_width).any(axis=2)
    places = np.flatnonzero(bad)
    return int(places[0]) if places.size else -1


@kernel_or(_first_bad_row_of_arrays)
def _first_bad_row(cdf, min_width, least_last, greatest_last):
    """Return the place ``t K + k`` of the first row with a narrow code or an end out of range, or -1."""
    T, K, V = cdf.shape
    for t in range(T):
        for k in range(K):
            below = np.int64(0)
            for v in range(V):
                if cdf[t, k, v] - below < min_width:
                    return t * K + k
                below = cdf[t, k, v]
            if below < least_last or below > greatest_last:
                return t * K + k
    return -1
