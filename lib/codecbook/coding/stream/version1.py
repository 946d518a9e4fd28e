"""Version 1 of the format, which is read and no longer written; ``docs/stream-format-1.md`` is the normative text."""

import hashlib
import itertools
import struct

import numpy as np

from codecbook.coding.stream.header import (
    CODERS,
    CRC,
    MAX_COLUMNS,
    ROW_ORDERS,
    IndexEntry,
    StreamHeader,
    check_text,
    digest_bytes,
    frame_header,
    is_sealed,
    open_header,
    side_error,
)
from codecbook.coding.stream.segment import SegmentError, SegmentHeader, check_claims
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import TokenFormat

VERSION = 1
_FIXED = struct.Struct("<BBHIHIIIQddHII8s32s32s")
_RUN = struct.Struct("<HId")
_INDEX_START = struct.Struct("<4sI")
_INDEX_ENTRY = struct.Struct("<QI")
_TAIL = struct.Struct("<QQI8s")
_HEAD = struct.Struct("<4sIIIII16s")
_INDEX_MAGIC = b"\xc5IDX"
_TAIL_MAGIC = b"\n\x1a\n\rSBC\x89"
SEGMENT_MARKS = (b"\xc5SEG",)
COPY_MARK = b"\x89CBS\r\n\x1a\n"
MAX_HEAD_BYTES = _HEAD.size + CRC.size
TAIL_BYTES = _TAIL.size


def pack_header(header: StreamHeader) -> bytes:
    """Return a header block, and refuse a field that it cannot hold."""
    known = header.format
    optional = (header.num_samples, known.bandwidth_kbps, known.source_bitrate_kbps, known.mid_codebooks)
    flags = (*(value is not None for value in optional), header.codec_segment_frames > 0, header.has_scales)
    books = zip(known.codebook_sizes, known.frame_rates_hz, strict=True)
    runs = [(len(list(alike)), *book) for book, alike in itertools.groupby(books)]
    try:
        body = _FIXED.pack(
            CODERS.index(header.coder), ROW_ORDERS.index(header.order), sum(flag << i for i, flag in enumerate(flags)),
            known.sample_rate_hz, known.channels, header.rows_per_segment, header.num_rows, header.num_segments,
            *(value or 0 for value in optional), header.codec_segment_frames, header.codec_segment_stride,
            header.stream_id, digest_bytes(known.weights_sha256), digest_bytes(header.lm_sha256),
        )  # fmt: skip
        body += struct.pack("<H", len(runs)) + b"".join(_RUN.pack(*run) for run in runs)
    except struct.error as error:
        raise UnsupportedInput(f"The tokens do not fit a stream's header ({error}); check their fields.") from error
    for text in (known.codec, known.weights, header.lm_name):
        data = check_text(text)
        body += struct.pack("<H", len(data)) + data
    return frame_header(VERSION, body)


def unpack_body(body: bytes) -> StreamHeader:
    """Parse a header's body; what contradicts itself raises one of many errors."""
    (
        coder, order, flags, sample_rate_hz, channels, rows_per_segment, num_rows, num_segments, *optional,
        segment_frames, segment_stride, stream_id, codec_sha256, lm_sha256,
    ) = _FIXED.unpack_from(body)  # fmt: skip
    num_samples, bandwidth, source_bitrate, mid = (
        value if flags >> i & 1 else None for i, value in enumerate(optional)
    )
    place = _FIXED.size + 2
    (count,) = struct.unpack_from("<H", body, place - 2)
    runs = [_RUN.unpack_from(body, place + i * _RUN.size) for i in range(count)]
    if sum(run[0] for run in runs) > MAX_COLUMNS:
        raise CorruptInput(f"{sum(run[0] for run in runs)} codebooks are claimed, of at most {MAX_COLUMNS}")
    place += count * _RUN.size
    texts = []
    for _ in range(3):
        (length,) = struct.unpack_from("<H", body, place)
        texts.append(body[place + 2 : place + 2 + length].decode())
        place += 2 + length
    if place != len(body):
        raise CorruptInput(f"its fields take {place} bytes, not {len(body)}")
    codec, weights, lm_name = texts
    known = TokenFormat(
        codebook_sizes=tuple(run[1] for run in runs for _ in range(run[0])),
        frame_rates_hz=tuple(run[2] for run in runs for _ in range(run[0])),
        codec=codec, weights=weights, weights_sha256=codec_sha256.hex() if any(codec_sha256) else "",
        sample_rate_hz=sample_rate_hz, channels=channels,
        bandwidth_kbps=bandwidth, source_bitrate_kbps=source_bitrate, mid_codebooks=mid,
    )  # fmt: skip
    return StreamHeader(
        format=known, order=ROW_ORDERS[order], coder=CODERS[coder],
        lm_name=lm_name, lm_sha256=lm_sha256.hex() if any(lm_sha256) else "",
        rows_per_segment=rows_per_segment, num_rows=num_rows, num_segments=num_segments, num_samples=num_samples,
        codec_segment_frames=segment_frames, codec_segment_stride=segment_stride, has_scales=bool(flags >> 5 & 1),
        stream_id=stream_id, version=VERSION,
    )  # fmt: skip


def open_copy(data: bytes) -> bytes:
    """Return the body of the second copy of the header, which is like the first."""
    return open_header(data)[1]


def pack_copy(header: StreamHeader) -> bytes:
    """Return the second copy of the header."""
    return pack_header(header)


def unpack_tail(tail: bytes, stream_bytes: int) -> int:
    """Return where the footer begins, or 0 where these are not the last bytes of a stream of this length."""
    if len(tail) != TAIL_BYTES:
        return 0
    start, claimed, _, magic = _TAIL.unpack(tail)
    is_intact = magic == _TAIL_MAGIC and is_sealed(tail[: -len(magic)]) and start <= stream_bytes == claimed
    return start if is_intact else 0


def index_bytes(header: StreamHeader) -> int:
    """Return how long a stream's index is."""
    return _INDEX_START.size + header.num_segments * _INDEX_ENTRY.size + CRC.size


def unpack_index(block: bytes, header: StreamHeader, first: int, end: int) -> list[IndexEntry] | None:
    """Parse the index of segments, which lie between these bytes; None where it is damaged, or another stream's."""
    start = _INDEX_START.pack(_INDEX_MAGIC, header.num_segments)
    if not block.startswith(start) or not is_sealed(block, header.stream_id):
        return None
    entries = list(_INDEX_ENTRY.iter_unpack(block[len(start) : -CRC.size]))
    ends = [offset for offset, _ in entries[1:]] + [end]
    return [IndexEntry(i, offset, ends[i], crc) for i, (offset, crc) in enumerate(entries)]


def unpack_head(data: bytes, header: StreamHeader, offset: int) -> SegmentHeader:
    """Parse a segment's own header, which stands at `offset` in the stream.

    Raises SegmentError where it is damaged, of another stream, or claims what this stream cannot hold.
    """
    data = data[:MAX_HEAD_BYTES]
    if len(data) < MAX_HEAD_BYTES:
        raise SegmentError("header", "its header is cut off")
    magic, *fields = _HEAD.unpack_from(data)
    if magic not in SEGMENT_MARKS or not is_sealed(data, header.stream_id):
        raise SegmentError("header", "its header's checksum differs: the header is damaged, or of another stream")
    crc = int.from_bytes(data[_HEAD.size :], "little")
    return check_claims(header, SegmentHeader(*fields, offset=offset, head_bytes=MAX_HEAD_BYTES, crc=crc))


def parse_side(header: StreamHeader, num_rows: int, payload: bytes) -> tuple[tuple[int, ...], tuple[float, ...], bytes]:
    """Return the codec's segments, their scales, and what follows them in the payload."""
    place, frames = 0, np.zeros(0, dtype="<u4")
    if header.codec_segment_frames:
        count = int.from_bytes(payload[:4], "little")
        place = 4 + 4 * count
        if not 1 <= count <= num_rows or len(payload) < place:
            raise SegmentError("coder", f"it claims {count} segments of the codec in {num_rows} rows")
        frames = np.frombuffer(payload[4:place], dtype="<u4")
    end = place + 4 * header.has_scales * max(1, len(frames))
    if len(payload) < end:
        raise SegmentError("coder", "its payload ends within the scales")
    scales = tuple(np.frombuffer(payload[place:end], dtype="<f4").tolist())
    if error := side_error(header, num_rows, frames.tolist(), scales):
        raise SegmentError("coder", error)
    return tuple(frames.tolist()), scales, payload[end:]


def check_of(header: StreamHeader, found: SegmentHeader, side: bytes, rows: np.ndarray, interval_hash: int) -> bytes:
    """Return the checksum of codes, ``sha256[:8]`` of side information and rows, and the hash of the intervals."""
    digest = hashlib.sha256(side + np.ascontiguousarray(rows, dtype="<u4").tobytes()).digest()[:8]
    return digest + interval_hash.to_bytes(8, "little")
