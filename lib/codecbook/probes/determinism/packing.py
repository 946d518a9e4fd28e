"""Codes as text, for result files: shape and codes little-endian, deflated, in base64. Normative for the format.

::

    base64(zlib(u32 T, u32 K, u16 code [T, K]))

A module of its own, as each cell's process needs it, and needs nothing of what consequences are measured with.
"""

import base64
import binascii
import struct
import zlib

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput

_HEADER = struct.Struct("<II")
_LARGEST_CODE = 0xFFFF
_LARGEST_BYTES = 1 << 26


def pack_codes(codes: np.ndarray) -> str:
    """Return the codes of a segment as ASCII text.

    Args:
        codes: Integers ``[T, K]``, 0 to 65535.

    Raises:
        UnsupportedInput: Other axes, no integers, or a code outside that range.

    Example:
        >>> unpack_codes(pack_codes(np.array([[3, 1023]]))).tolist()
        [[3, 1023]]
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise UnsupportedInput(
            f"Codes to pack are {codes.dtype} {list(codes.shape)}; give integers [T, K] of one segment."
        )
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) <= _LARGEST_CODE:
        raise UnsupportedInput(
            f"Codes from {codes.min()} to {codes.max()} do not fit 16 bits; only codebooks of up to 65536 codes do."
        )
    payload = _HEADER.pack(*codes.shape) + codes.astype("<u2").tobytes()
    return base64.b64encode(zlib.compress(payload, 9)).decode("ascii")


def unpack_codes(text: str) -> np.ndarray:
    """Return the codes, int64 ``[T, K]``, that `pack_codes` made text of.

    Raises:
        CorruptInput: The text is cut off, altered or no such text, or unpacks to more than 64 MiB.
    """
    advice = "take the text again from the result that it was written to."
    try:
        inflate = zlib.decompressobj()
        payload = inflate.decompress(base64.b64decode(text, validate=True), _LARGEST_BYTES)
    except (binascii.Error, zlib.error, TypeError, ValueError) as error:
        raise CorruptInput(f"These are no packed codes ({error}); {advice}") from error
    if not inflate.eof or inflate.unused_data or len(payload) < _HEADER.size:
        raise CorruptInput(
            f"Packed codes end early, go on too long, or exceed {_LARGEST_BYTES} bytes ({len(payload)} bytes were "
            f"read); {advice}"
        )
    shape = _HEADER.unpack_from(payload)
    if len(payload) != _HEADER.size + 2 * shape[0] * shape[1]:
        raise CorruptInput(
            f"Packed codes name {shape[0]} frames of {shape[1]} codes, and {len(payload) - _HEADER.size} bytes follow; "
            + advice
        )
    return np.frombuffer(payload, dtype="<u2", offset=_HEADER.size).reshape(shape).astype(np.int64)
