"""An inner code around a whole stream: scattered bytes that are wrong are corrected before the stream is read.

Reed-Solomon blocks of up to 255 bytes, interleaved, by the package reedsolo. ``docs/stream-format.md``, section 11, is
the normative text. What cannot be corrected is left as it is: the stream's own checks then find it.
"""

import struct
import zlib

import numpy as np
from reedsolo import ReedSolomonError, RSCodec

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
    codec, parts, place = RSCodec(parity), list[bytes](), HEAD_BYTES
    corrected = hopeless = num_blocks = 0
    for start in range(0, length, depth * (_BLOCK_BYTES - parity)):
        size = min(depth * (_BLOCK_BYTES - parity), length - start)
        count = -(-size // (_BLOCK_BYTES - parity))
        stored = data[place : place + size + parity * count].ljust(size + parity * count, b"\0")
        place += size + parity * count
        part, ends = bytearray(stored[:size]), stored[size:]
        num_blocks += count
        for i in range(count):
            block = bytes(part[i::count]) + ends[i::count]
            if all(codec.check(block)):
                continue
            try:
                part[i::count], _, wrong = codec.decode(block)
                corrected += len(wrong)
            except ReedSolomonError:
                hopeless += 1
        parts.append(bytes(part))
    notes = [f"The inner code corrected {corrected} bytes."] if corrected else []
    if hopeless:
        notes.append(f"Of the inner code's {num_blocks} blocks, {hopeless} cannot be corrected.")
    if place + HEAD_BYTES != len(data):
        notes.append("Bytes of the inner code are lost or added; it corrects neither.")
    return b"".join(parts), " ".join(notes)
