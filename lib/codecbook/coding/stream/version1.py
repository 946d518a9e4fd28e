"""Version 1 of the format, which is read and no longer written; ``docs/stream-format-1.md`` is the normative text."""

import hashlib
import struct
from typing import Any

import numpy as np

from codecbook.coding.stream import header as headers
from codecbook.coding.stream.fields import Fields
from codecbook.coding.stream.header import StreamHeader
from codecbook.coding.stream.segment import SegmentError, SegmentHeader, check_claims
from codecbook.errors import CorruptInput

VERSION = 1
_FIXED = struct.Struct("<BBHIHIIIQddHII8s32s32s")
_OPTIONAL = ("num_samples", "bandwidth_kbps", "source_bitrate_kbps", "mid_codebooks")
_NAMES = (
    "coder", "order", "flags", "sample_rate_hz", "channels", "rows_per_segment", "num_rows", "num_segments", *_OPTIONAL,
    "codec_segment_frames", "codec_segment_stride", "stream_id", "weights_sha256", "lm_sha256",
)  # fmt: skip
_RUN = struct.Struct("<HId")
_TAIL = struct.Struct("<QQI8s")
_HEAD = struct.Struct("<4sIIIII16s")
_TAIL_MAGIC = b"\n\x1a\n\rSBC\x89"
SEGMENT_MARKS = (b"\xc5SEG",)
COPY_MARK = b"\x89CBS\r\n\x1a\n"
MAX_HEAD_BYTES = _HEAD.size + headers.CRC.size
TAIL_BYTES = _TAIL.size


def unpack_body(body: bytes) -> StreamHeader:
    """Parse a header's body; what contradicts itself raises one of many errors."""
    fields = Fields(body)
    values: dict[str, Any] = dict(zip(_NAMES, _FIXED.unpack(fields.take(_FIXED.size)), strict=True))
    runs = [_RUN.unpack(fields.take(_RUN.size)) for _ in range(fields.fixed(2))]
    values |= headers.codebooks_of(runs) | {"version": VERSION, "body_bytes": len(body)}
    values |= {name: fields.take(fields.fixed(2)).decode() for name in ("codec", "weights", "lm_name")}
    if fields.place != len(body):
        raise CorruptInput(f"its fields take {fields.place} bytes, not {len(body)}")
    flags = values.pop("flags")
    values |= {name: None for i, name in enumerate(_OPTIONAL) if not flags >> i & 1}
    values |= {name: values[name].hex() if any(values[name]) else "" for name in ("weights_sha256", "lm_sha256")}
    values |= {"order": headers.ROW_ORDERS[values["order"]], "coder": headers.CODERS[values["coder"]]}
    return headers.header_of(values | {"has_scales": bool(flags >> 5 & 1)})


def open_copy(data: bytes) -> bytes:
    """Return the body of the second copy of the header, which is like the first."""
    return headers.open_header(data)[1]


def copy_bytes(header: StreamHeader) -> int:
    """Return how long the second copy of a header that was read is."""
    return header.block_bytes


def unpack_tail(tail: bytes, stream_bytes: int) -> int:
    """Return where the footer begins, or 0 where these are not the last bytes of a stream of this length."""
    if len(tail) != TAIL_BYTES:
        return 0
    start, claimed, _, magic = _TAIL.unpack(tail)
    is_intact = magic == _TAIL_MAGIC and headers.is_sealed(tail[: -len(magic)]) and start <= stream_bytes == claimed
    return start if is_intact else 0


def unpack_head(data: bytes, header: StreamHeader, offset: int) -> SegmentHeader:
    """Parse a segment's own header, which stands at `offset` in the stream.

    Raises SegmentError where it is damaged, of another stream, or claims what this stream cannot hold.
    """
    data = data[:MAX_HEAD_BYTES]
    if len(data) < MAX_HEAD_BYTES:
        raise SegmentError("header", "its header is cut off")
    magic, *fields = _HEAD.unpack_from(data)
    if magic not in SEGMENT_MARKS or not headers.is_sealed(data, header.stream_id):
        raise SegmentError("header", "its header's checksum differs: the header is damaged, or of another stream")
    return check_claims(header, SegmentHeader(*fields, offset=offset, head_bytes=MAX_HEAD_BYTES))


def frames_of(header: StreamHeader, num_rows: int, fields: Fields) -> list[int]:
    """Return how many rows each of the codec's segments has, from a payload's beginning."""
    return [fields.fixed(4) for _ in range(fields.fixed(4))]


def check_of(header: StreamHeader, found: SegmentHeader, side: bytes, rows: np.ndarray, interval_hash: int) -> bytes:
    """Return the checksum of codes, ``sha256[:8]`` of side information and rows, and the hash of the intervals."""
    digest = hashlib.sha256(side + np.ascontiguousarray(rows, dtype="<u4").tobytes()).digest()[:8]
    return digest + interval_hash.to_bytes(8, "little")
