"""An inner code around a whole stream: scattered bytes that are wrong are corrected before the stream is read.

Reed-Solomon blocks of up to 255 bytes, interleaved, by the package reedsolo. ``docs/stream-format.md``, section 11, is
the normative text. What cannot be corrected is left as it is: the stream's own checks then find it.
"""

import functools
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from reedsolo import ReedSolomonError, RSCodec, gf_mul, gf_pow, init_tables

from codecbook.errors import UnsupportedInput

DEFAULT_INNER_PARITY = 22
"""Of 255 bytes: with 1 % of wrong bytes, 12 or more of them meet in one of 77,000 blocks."""
_BLOCK_BYTES = 255
# more would spread longer bursts, and the wrong bytes of a block that cannot be corrected over more segments
_DEPTH = 8
_MAGIC = b"\x89CBR"
_HEAD = struct.Struct("<4sBBHI")
_HEAD_PARITY = 8
HEAD_BYTES = _HEAD.size + 4 + _HEAD_PARITY
"""Of the head, which stands at both ends."""


def check_inner_parity(parity: int) -> int:
    """Return a number of parity bytes for each block of 255; UnsupportedInput: an odd one, or outside 2..128."""
    if not (2 <= parity <= 128 and parity % 2 == 0):
        raise UnsupportedInput(f"{parity} parity bytes in a block of {_BLOCK_BYTES}; give an even number, 2 to 128.")
    return parity


def add_inner_code(data: bytes, parity: int = DEFAULT_INNER_PARITY) -> bytes:
    """Return a stream with `parity` bytes for every ``255 - parity``, of which any half may be wrong in a block."""
    fields = _HEAD.pack(_MAGIC, 1, check_inner_parity(parity), _DEPTH, len(data))
    head = bytes(RSCodec(_HEAD_PARITY).encode(fields + struct.pack("<I", zlib.crc32(fields))))
    codec, parts, step = RSCodec(parity), [head], _DEPTH * (_BLOCK_BYTES - parity)
    for start in range(0, len(data), step):
        part = data[start : start + step]
        count = -(-len(part) // (_BLOCK_BYTES - parity))
        ends = [codec.encode(part[i::count])[-parity:] for i in range(count)]
        parts += [part, np.array([list(end) for end in ends], dtype=np.uint8).T.tobytes()]
    return b"".join([*parts, head])


def find_inner_code(first: bytes, last: bytes, num_bytes: int) -> tuple[int, int, int] | None:
    """Return parity, depth and bytes of the stream within, or None where there is no inner code.

    `first` and `last` are the `HEAD_BYTES` at both ends of the file, of `num_bytes`.
    """
    for block in (first, last):
        try:
            fields = bytes(RSCodec(_HEAD_PARITY).decode(block)[0])
        except ReedSolomonError:
            continue
        if len(fields) != _HEAD.size + 4 or zlib.crc32(fields[:-4]).to_bytes(4, "little") != fields[-4:]:
            continue
        magic, version, parity, depth, length = _HEAD.unpack_from(fields)
        if magic == _MAGIC and version == 1 and 2 <= parity <= 128 and depth and length <= num_bytes:
            return parity, depth, length
    return None


def remove_inner_code(data: bytes, parity: int, depth: int, length: int) -> tuple[bytes, str]:
    """Return the stream within, corrected as far as can be, and a note of what was wrong, or nothing.

    The other arguments are those of `find_inner_code`.
    """
    codec, parts, place = RSCodec(parity), list[bytearray](), HEAD_BYTES
    blocks: list[tuple[bytearray, slice, bytes]] = []  # part, its bytes, all bytes of the block
    for start in range(0, length, depth * (_BLOCK_BYTES - parity)):
        size = min(depth * (_BLOCK_BYTES - parity), length - start)
        count = -(-size // (_BLOCK_BYTES - parity))
        stored = data[place : place + size + parity * count].ljust(size + parity * count, b"\0")
        place += size + parity * count
        part, ends = bytearray(stored[:size]), stored[size:]
        blocks += [(part, slice(i, None, count), bytes(part[i::count]) + ends[i::count]) for i in range(count)]
        parts.append(part)
    corrected = hopeless = 0
    for intact, (part, places, block) in zip(_are_intact([block for *_, block in blocks], parity), blocks, strict=True):
        if intact:
            continue
        try:
            part[places], _, wrong = codec.decode(block)
            corrected += len(wrong)
        except ReedSolomonError:
            hopeless += 1
    notes = [f"The inner code corrected {corrected} bytes."] if corrected else []
    if hopeless:
        notes.append(f"Of the inner code's {len(blocks)} blocks, {hopeless} cannot be corrected.")
    if place + HEAD_BYTES != len(data):
        notes.append("Bytes of the inner code are lost or added; it corrects neither.")
    return b"".join(parts), " ".join(notes)


def _are_intact(blocks: Sequence[bytes], parity: int) -> np.ndarray:
    """Say of each block whether its polynomial is 0 at all roots of the code, as an intact one's is.

    All blocks at once, by Horner's rule; reedsolo takes milliseconds a block.
    """
    times_root = _multiples(parity)
    values, roots = np.zeros((len(blocks), parity), dtype=np.uint8), np.arange(parity)
    # zeros in front of a short block change no value
    padded = np.frombuffer(b"".join(block.rjust(_BLOCK_BYTES, b"\0") for block in blocks), dtype=np.uint8)
    for column in padded.reshape(-1, _BLOCK_BYTES).T:
        values = times_root[roots, values] ^ column[:, None]
    return values.max(axis=1) == 0


@functools.cache
def _multiples(parity: int) -> np.ndarray:
    """Return products of the roots of reedsolo's code, 2^0 .. 2^(parity - 1), with every byte: ``[parity, 256]``."""
    init_tables()  # of its default field, which RSCodec takes
    return np.array([[gf_mul(value, gf_pow(2, i)) for value in range(256)] for i in range(parity)], dtype=np.uint8)
