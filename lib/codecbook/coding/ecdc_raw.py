"""Codes without an entropy coder, as ``.ecdc`` packs them: frame by frame, least significant bit first."""

from typing import Any

import numpy as np

from codecbook.coding.cdf import as_array
from codecbook.errors import CorruptInput, UnsupportedInput

MAX_BITS = 32


def packed_bytes(num_codes: int, bits: int) -> int:
    """Return how many bytes `num_codes` codes of `bits` bits take."""
    return (num_codes * bits + 7) // 8


def pack_codes(codes: Any, bits: int) -> bytes:
    """Pack the codes of one segment; the last byte is filled up with zeros.

    Args:
        codes: Integers ``[K, T]``, ``0 <= code < 2^bits``.
        bits: 1 to 32.

    Raises:
        CorruptInput: A code out of range.
        UnsupportedInput: Other axes or types, or `bits` out of range.
    """
    _check_bits(bits)
    array = as_array(codes)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise UnsupportedInput(f"Codes must be integers [K, T]; received {array.dtype} {list(array.shape)}.")
    if array.size and (array.min() < 0 or array.max() >= 1 << bits):
        raise CorruptInput(
            f"Codes reach from {array.min()} to {array.max()}, outside 0..{(1 << bits) - 1}; they are damaged, or of a "
            "larger codebook."
        )
    flat = array.T.ravel().astype(np.int64)
    # one column of bits at a time: all at once would take eight bytes for every bit
    planes = np.empty((flat.size, bits), dtype=np.uint8)
    for place in range(bits):
        planes[:, place] = (flat >> place) & 1
    return np.packbits(planes, bitorder="little").tobytes()


def unpack_codes(data: bytes, num_codebooks: int, num_frames: int, bits: int) -> np.ndarray:
    """Unpack the codes of one segment, int64 ``[K, T]``.

    Args:
        data: Exactly the bytes of the segment.
        num_codebooks: K.
        num_frames: T.
        bits: 1 to 32.

    Raises:
        CorruptInput: Too few or too many bytes, or padding that is not zero.
        UnsupportedInput: `bits` out of range.
    """
    _check_bits(bits)
    count = num_codebooks * num_frames
    if len(data) != packed_bytes(count, bits):
        raise CorruptInput(
            f"{count} codes of {bits} bits take {packed_bytes(count, bits)} bytes; the stream has {len(data)}: it is "
            "cut off, goes on, or its header is damaged."
        )
    stream = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    if stream[count * bits :].any():
        raise CorruptInput("The bits after the last code are not zero; the stream is damaged.")
    planes = stream[: count * bits].reshape(count, bits)
    codes = np.zeros(count, dtype=np.int64)
    for place in range(bits):
        codes |= planes[:, place].astype(np.int64) << place
    return np.ascontiguousarray(codes.reshape(num_frames, num_codebooks).T)


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise UnsupportedInput(f"bits={bits} is outside 1..{MAX_BITS}; codebooks have 2 to 2^32 codes here.")
