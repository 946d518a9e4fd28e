"""What follows a stream's segments beside the header's second copy: the index of segments, and the tail.

``docs/stream-format.md``, sections 5 and 6, is the normative text.
"""

import struct
import zlib

from codecbook.errors import CorruptInput

INDEX_MAGIC = b"\xc5IDX"
TAIL_MAGIC = b"\n\x1a\n\rSBC\x89"
_INDEX_START = struct.Struct("<4sI")
_ENTRY = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_TAIL = struct.Struct("<QQI8s")
TAIL_BYTES = _TAIL.size


def pack_index(entries: list[tuple[int, int]], stream_id: bytes) -> bytes:
    """Return the index block.

    Args:
        entries: Per segment: where it begins in the stream, and the CRC-32 at the end of its header.
        stream_id: Of the header.
    """
    block = _INDEX_START.pack(INDEX_MAGIC, len(entries)) + b"".join(_ENTRY.pack(*entry) for entry in entries)
    return block + _CRC.pack(zlib.crc32(stream_id + block))


def index_block_bytes(num_segments: int) -> int:
    """Return how long the index of so many segments is."""
    return _INDEX_START.size + num_segments * _ENTRY.size + _CRC.size


def parse_index(block: bytes, num_segments: int, stream_id: bytes) -> list[tuple[int, int]]:
    """Parse an index block that is `index_block_bytes` long; see `pack_index`.

    Raises:
        CorruptInput: It is damaged, of another stream, or of another number of segments.
    """
    intact = len(block) == index_block_bytes(num_segments) and _INDEX_START.unpack_from(block) == (
        INDEX_MAGIC,
        num_segments,
    )
    if not intact or zlib.crc32(stream_id + block[:-4]) != _CRC.unpack(block[-4:])[0]:
        raise CorruptInput("The index of segments is damaged.")
    return list(_ENTRY.iter_unpack(block[_INDEX_START.size : -4]))


def pack_tail(footer_offset: int, file_bytes: int) -> bytes:
    """Return the last bytes of a stream: where its footer begins and how long all of it is."""
    numbers = struct.pack("<QQ", footer_offset, file_bytes)
    return numbers + _CRC.pack(zlib.crc32(numbers)) + TAIL_MAGIC


def parse_tail(block: bytes, file_bytes: int) -> int:
    """Return where the footer begins.

    Raises:
        CorruptInput: These are not the last bytes of a stream of this length.
    """
    if len(block) != TAIL_BYTES:
        raise CorruptInput("There is no room for the stream's last bytes.")
    footer_offset, claimed, crc, magic = _TAIL.unpack(block)
    if (
        magic != TAIL_MAGIC
        or crc != zlib.crc32(block[:16])
        or claimed != file_bytes
        or footer_offset > file_bytes
    ):
        raise CorruptInput("The last bytes are not a stream's: it is cut off, goes on, or is damaged there.")
    return footer_offset
