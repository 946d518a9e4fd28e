"""Weights without loss, in their source's own type: as they are, as byte planes, or with their exponents coded.

Trained weights use a few of their exponents much more often than others, while sign and mantissa look random; so all
that a lossless coder can gain is in the exponents (Hershcovitch et al. 2024, ZipNN; Zhang et al. 2025, DFloat11).
"""

from dataclasses import dataclass

import numpy as np
import zstandard

from codecbook.coding.range_coder import RangeDecoder, RangeEncoder
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.measure.information import entropy_bits
from codecbook.probes.weights.schemes.packing import pack, unpack

_TOTAL_BITS = 16
_AT_ONCE = 1 << 16  # exponents decoded at a time
_ZSTD_LEVEL = 19


@dataclass(frozen=True)
class Source:
    """How a type of float is laid out: sign, exponent, mantissa, from the top bit down."""

    bits: str  # numpy type of its bits, little-endian
    exponent_bits: int

    @property
    def mantissa_bits(self) -> int:
        """Those below the exponent."""
        return 8 * np.dtype(self.bits).itemsize - 1 - self.exponent_bits


SOURCES = {"F16": Source("<u2", 5), "BF16": Source("<u2", 8), "F32": Source("<u4", 8)}


def source_bits(matrix: np.ndarray, source_dtype: str) -> np.ndarray:
    """Return the bits of float32 values in the type they came from: uint16 or uint32, little-endian.

    Raises UnsupportedInput: another type, or a value that this type does not have.
    """
    values = np.ascontiguousarray(matrix, dtype=np.float32)
    if source_dtype == "F32":
        bits = values.view(np.uint32)
    elif source_dtype == "BF16":
        bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    elif source_dtype == "F16":
        with np.errstate(over="ignore"):
            bits = values.astype(np.float16).view(np.uint16)
    else:
        raise UnsupportedInput(f"Weights of type {source_dtype} are not known here; give {', '.join(SOURCES)}.")
    if not np.array_equal(values_of(bits, source_dtype).view(np.uint32), values.view(np.uint32)):
        raise UnsupportedInput(f"Some weights are no values of {source_dtype}; name the type that they are stored in.")
    return bits.astype(SOURCES[source_dtype].bits, copy=False)


def values_of(bits: np.ndarray, source_dtype: str) -> np.ndarray:
    """Return the float32 values of `source_bits`."""
    if source_dtype == "F16":
        return bits.astype(np.uint16, copy=False).view(np.float16).astype(np.float32)
    wide = bits.astype(np.uint32)
    return (wide << 16 if source_dtype == "BF16" else wide).view(np.float32)


def rounded_bits(matrix: np.ndarray, to_dtype: str) -> np.ndarray:
    """Return the bits of the nearest values (ties to even) of F16 or BF16.

    Raises UnsupportedInput: a value beyond the type's range.
    """
    if to_dtype == "F16":
        with np.errstate(over="ignore"):
            bits = matrix.astype(np.float16).view(np.uint16)
    else:
        wide = np.ascontiguousarray(matrix, dtype=np.float32).view(np.uint32)
        bits = ((wide + 0x7FFF + (wide >> 16 & 1)) >> 16).astype(np.uint16)
    if not np.isfinite(values_of(bits, to_dtype)).all():
        raise UnsupportedInput(f"Weights reach {np.abs(matrix).max():.3g}, which {to_dtype} does not have.")
    return bits


def encode_raw(matrix: np.ndarray, source_dtype: str, to_dtype: str | None = None, **_: object) -> bytes:
    """Return a byte for the type and the values' bits: in the source's type, or rounded to another."""
    to_dtype = to_dtype or source_dtype
    bits = source_bits(matrix, source_dtype) if to_dtype == source_dtype else rounded_bits(matrix, to_dtype)
    return _tagged(to_dtype, bits.astype(SOURCES[to_dtype].bits, copy=False).tobytes())


def decode_raw(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 ``[R, C]``."""
    name, body = _untagged(data)
    return values_of(np.frombuffer(body, SOURCES[name].bits), name).reshape(shape)


def encode_planes(matrix: np.ndarray, source_dtype: str, **_: object) -> bytes:
    """Return zstd of the values' first bytes, then their second bytes, and so on."""
    bits = source_bits(matrix, source_dtype)
    planes = bits.reshape(-1, 1).view(np.uint8).T
    return _tagged(source_dtype, zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(planes.tobytes()))


def decode_planes(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 ``[R, C]``."""
    name, body = _untagged(data)
    size = np.dtype(SOURCES[name].bits).itemsize
    try:
        if zstandard.frame_content_size(body) != size * shape[0] * shape[1]:
            raise CorruptInput("Compressed byte planes are not of this matrix's size; fetch the file again.")
        planes = np.frombuffer(zstandard.ZstdDecompressor().decompress(body), np.uint8)
    except zstandard.ZstdError as error:
        raise CorruptInput(f"Compressed byte planes are damaged ({error}); fetch the file again.") from error
    bits = np.ascontiguousarray(planes.reshape(size, -1).T).view(SOURCES[name].bits)
    return values_of(bits, name).reshape(shape)


def encode_exponents(matrix: np.ndarray, source_dtype: str, **_: object) -> bytes:
    """Return exponents by the range coder at their order-0 entropy, and signs and mantissas as they are.

    The frequencies, of 2^16, are stored. Source: DFloat11 (Zhang et al. 2025), which has a Huffman code instead.
    """
    source, bits = SOURCES[source_dtype], source_bits(matrix, source_dtype).ravel()
    exponents, rest = _split(bits, source)
    present, codes, counts = np.unique(exponents, return_inverse=True, return_counts=True)
    frequencies = counts * ((1 << _TOTAL_BITS) - len(present)) // counts.sum() + 1
    frequencies[counts.argmax()] += (1 << _TOTAL_BITS) - frequencies.sum()
    high = np.cumsum(frequencies)
    encoder = RangeEncoder(_TOTAL_BITS)
    encoder.push_intervals((high - frequencies)[codes], high[codes])
    coded = np.frombuffer(encoder.finish(), np.uint8)
    return _tagged(source_dtype, pack(present.astype(np.uint8), (frequencies - 1).astype(np.uint16), coded, *rest))


def decode_exponents(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 ``[R, C]``."""
    name, body = _untagged(data)
    present, frequencies, coded, *rest = unpack(body)
    row = np.cumsum(frequencies.astype(np.int64) + 1)
    decoder, count = RangeDecoder(coded.tobytes(), _TOTAL_BITS), shape[0] * shape[1]
    parts = []
    for start in range(0, count, _AT_ONCE):
        rows = np.broadcast_to(row, (min(_AT_ONCE, count - start), 1, len(row)))
        parts.append(decoder.pull_frames(rows)[:, 0])
    decoder.finish()
    bits = _joined(present[np.concatenate(parts)], rest, SOURCES[name])
    return values_of(bits, name).reshape(shape)


def exponent_bound_bits(matrix: np.ndarray, source_dtype: str) -> float:
    """Return the bits of a matrix if exponents took their order-0 entropy, and signs and mantissas all of theirs."""
    source = SOURCES[source_dtype]
    exponents, _ = _split(source_bits(matrix, source_dtype).ravel(), source)
    counts = np.unique(exponents, return_counts=True)[1]
    return matrix.size * (1 + source.mantissa_bits) + float(entropy_bits(counts)) * matrix.size


def _split(bits: np.ndarray, source: Source) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return exponents, and sign and mantissa together: one array of up to 16 bits, or the low 16 and those above."""
    mantissa = source.mantissa_bits
    exponents = bits >> mantissa & ((1 << source.exponent_bits) - 1)
    sign = bits >> (mantissa + source.exponent_bits)
    rest = bits & ((1 << mantissa) - 1) | sign << mantissa
    return exponents, [rest.astype(np.uint16)] + ([(rest >> 16).astype(np.uint8)] if mantissa > 15 else [])


def _joined(exponents: np.ndarray, parts: list[np.ndarray], source: Source) -> np.ndarray:
    mantissa, rest = source.mantissa_bits, parts[0].astype(np.uint32)
    if mantissa > 15:
        rest = rest | parts[1].astype(np.uint32) << 16
    sign, fraction = rest >> mantissa, rest & ((1 << mantissa) - 1)
    wide = sign << (mantissa + source.exponent_bits) | exponents.astype(np.uint32) << mantissa | fraction
    return wide.astype(source.bits)


def _tagged(source_dtype: str, body: bytes) -> bytes:
    return bytes([list(SOURCES).index(source_dtype)]) + body


def _untagged(data: bytes) -> tuple[str, bytes]:
    if not data or data[0] >= len(SOURCES):
        raise CorruptInput(f"Stored weights begin with {data[:1].hex() or 'nothing'}, no type; fetch the file again.")
    return list(SOURCES)[data[0]], data[1:]
