"""Weights without loss, below the order-0 entropy of their exponents: coarse integers by prediction, then the rest.

Each value lies in one of many equal intervals, as wide as the spacing of floats at the row's largest. Which one is
coded like a quantised entry (module `entropy`): by its column's usual size and, in tables, by what the columns before
it lead one to expect, none of which a coder of exponents can see. Which of the interval's floats it is, where small
values have several, is as good as even. But for the two next to zero, intervals hold a power of two of floats, so that
no bit is lost. What is not finite lies in no interval: such a matrix is stored by its exponents.
"""

import numpy as np

from codecbook.errors import CorruptInput
from codecbook.probes.weights.schemes.entropy import decode_bits, decode_integers, encode_bits, encode_integers
from codecbook.probes.weights.schemes.lossless import (
    SOURCES,
    Source,
    decode_exponents,
    encode_exponents,
    source_bits,
    values_of,
)
from codecbook.probes.weights.schemes.packing import pack, unpack

_BY_EXPONENTS = 255  # instead of a type


def encode_predicted(matrix: np.ndarray, source_dtype: str, **_: object) -> bytes:
    """Return the bytes of a matrix ``[R, C]``."""
    if not np.isfinite(matrix).all():
        return bytes([_BY_EXPONENTS]) + encode_exponents(matrix, source_dtype)
    source, sizes = SOURCES[source_dtype], np.abs(matrix)
    spacings = _spacings(sizes.max(axis=1), source)
    intervals = np.ldexp(sizes.astype(float), -spacings[:, None]).astype(np.int64)
    first, widths = _floats_of(intervals, spacings, source_dtype)
    rest = source_bits(sizes, source_dtype).astype(np.int64) - first
    parts = (
        encode_integers(np.diff(spacings, prepend=0)[:, None]),
        # by the sign's own bit, which zero has too
        encode_integers(np.where(np.signbit(matrix), -1 - intervals, intervals)),
        encode_bits(rest.ravel(), widths.ravel()),
    )
    return bytes([list(SOURCES).index(source_dtype)]) + pack(*(np.frombuffer(part, np.uint8) for part in parts))


def decode_predicted(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 ``[R, C]``."""
    if data[0] == _BY_EXPONENTS:
        return decode_exponents(data[1:], shape)
    parts = [part.tobytes() for part in unpack(data[1:])]
    if data[0] >= len(SOURCES) or len(parts) != 3:
        raise CorruptInput("A coded matrix has no type or other than 3 parts; the file is damaged, fetch it again.")
    source_dtype = list(SOURCES)[data[0]]
    source = SOURCES[source_dtype]
    spacings = np.cumsum(decode_integers(parts[0], (shape[0], 1))[:, 0])
    signed = decode_integers(parts[1], shape)
    intervals = np.where(signed < 0, -1 - signed, signed)
    if np.abs(spacings).max() > 1 << source.exponent_bits or intervals.max() >> source.mantissa_bits + 1:
        raise CorruptInput("A coded matrix has values beyond its type; the file is damaged, fetch it again.")
    first, widths = _floats_of(intervals, spacings, source_dtype)
    bits = first + decode_bits(parts[2], widths.ravel()).reshape(shape)
    bits |= (signed < 0).astype(np.int64) << source.exponent_bits + source.mantissa_bits
    return values_of(bits.astype(source.bits), source_dtype).reshape(shape)


def _least(source: Source) -> int:
    """Return the exponent of the smallest float."""
    return 2 - (1 << source.exponent_bits - 1) - source.mantissa_bits


def _spacings(largest: np.ndarray, source: Source) -> np.ndarray:
    """Return the exponent of the spacing of floats at the largest value of each row, int64 ``[R]``."""
    exponents = np.frexp(largest)[1].astype(np.int64) - 1 - source.mantissa_bits
    return np.where(largest > 0, np.maximum(exponents, _least(source)), _least(source))


def _floats_of(intervals: np.ndarray, spacings: np.ndarray, source_dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the bits of each interval's least float, and how many bits tell its floats apart, both int64."""
    source = SOURCES[source_dtype]

    def bits(numbers: np.ndarray) -> np.ndarray:
        values = np.ldexp(numbers.astype(float), spacings[:, None]).astype(np.float32)
        return source_bits(values, source_dtype).astype(np.int64)

    leading = np.frexp(np.maximum(intervals, 1).astype(float))[1] - 1
    widths = np.minimum(source.mantissa_bits - leading, (spacings - _least(source))[:, None])
    next_to_zero = np.frexp((bits(np.ones_like(intervals[:, :1])) - 1).astype(float))[1]
    return bits(intervals), np.where(intervals == 0, next_to_zero, widths).astype(np.int64)
