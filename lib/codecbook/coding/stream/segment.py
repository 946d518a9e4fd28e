"""One segment of a stream: its own header, what its payload holds, and the checks that a decoder makes.

``docs/stream-format.md``, section 4, is the normative text.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from codecbook.coding.exact import segments as exact_segments
from codecbook.coding.stream.header import StreamHeader
from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.lm.exact import ExactLM
from codecbook.tokens.bits import pack_bits, unpack_bits

SEGMENT_MAGIC = b"\xc5SEG"
_HEAD = struct.Struct("<4sIIIII8sQ")
_CRC = struct.Struct("<I")
SEGMENT_HEADER_BYTES = _HEAD.size + _CRC.size
_MAX_BYTES_PER_CODE = 4
_SLACK_BYTES = 64


@dataclass(frozen=True)
class SegmentHeader:
    """What stands before a segment's payload, and where the segment was found."""

    index: int  # number of the segment, from 0
    first_row: int  # rows before it
    num_rows: int  # 1 or more
    payload_bytes: int
    payload_crc: int  # CRC-32
    token_digest: bytes  # first 8 bytes of the SHA-256 of side information and rows
    interval_hash: int  # of the coded intervals, 64 bits; 0 for raw coding
    crc: int  # CRC-32 of all of this and the stream's id
    offset: int = 0  # where it begins in the stream

    @property
    def end(self) -> int:
        """Where it ends, exclusive."""
        return self.offset + SEGMENT_HEADER_BYTES + self.payload_bytes

    @property
    def end_row(self) -> int:
        """Rows before it and in it."""
        return self.first_row + self.num_rows


@dataclass(frozen=True)
class SegmentContent:
    """What a segment carries."""

    rows: np.ndarray  # int64 [T, K]
    codec_segment_frames: tuple[int, ...] = ()  # rows of each of the codec's own segments in it
    scales: tuple[float, ...] = ()  # a gain for each of these; one for a codec with a gain but no segments


class SegmentError(Exception):
    """A segment that cannot be decoded: what becomes `Damage`, with its kind, and does not leave this room."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def pack_segment(
    header: StreamHeader, model: ExactLM | None, index: int, first_row: int, content: SegmentContent
) -> tuple[SegmentHeader, bytes]:
    """Encode a segment; return its header with the CRC filled in, and its bytes, header included.

    Raises:
        UnsupportedInput: Content that the header does not allow.
    """
    side = _pack_side(header, content)
    interval_hash = 0
    if header.coder == "raw":
        coded = pack_bits(content.rows, header.columns)
    else:
        assert model is not None, "the caller has checked the model against the header"
        segment = exact_segments.encode_frames(model, content.rows)
        coded, interval_hash = segment.payload, segment.interval_hash
    payload = side + coded
    if len(payload) > max_payload_bytes(header, len(content.rows)):
        raise UnsupportedInput(f"A payload of {len(payload)} bytes is longer than the format allows.")
    head = _HEAD.pack(
        SEGMENT_MAGIC, index, first_row, len(content.rows), len(payload), zlib.crc32(payload),
        token_digest(side, content.rows), interval_hash,
    )  # fmt: skip
    data = head + _CRC.pack(zlib.crc32(header.stream_id + head))
    return unpack_segment_header(data, header), data + payload


def unpack_segment_header(data: bytes, header: StreamHeader, offset: int = 0) -> SegmentHeader:
    """Return what the first `SEGMENT_HEADER_BYTES` of a segment say.

    Raises:
        SegmentError: They are damaged, of another stream, or claim what this stream cannot hold.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        raise SegmentError("header", "its header is cut off")
    magic, *fields = _HEAD.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _HEAD.size)
    if magic != SEGMENT_MAGIC or crc != zlib.crc32(header.stream_id + data[: _HEAD.size]):
        raise SegmentError("header", "its header's checksum differs: the header is damaged, or of another stream")
    segment = SegmentHeader(*fields, crc=crc, offset=offset)
    if not (
        segment.index < header.num_segments
        and 1 <= segment.num_rows <= header.rows_per_segment
        and segment.end_row <= header.num_rows
        and segment.payload_bytes <= max_payload_bytes(header, segment.num_rows)
    ):
        raise SegmentError(
            "header",
            f"its header claims number {segment.index}, rows {segment.first_row} to {segment.end_row} and "
            f"{segment.payload_bytes} bytes, which this stream of {header.num_segments} segments and "
            f"{header.num_rows} rows cannot hold",
        )
    return segment


def max_payload_bytes(header: StreamHeader, num_rows: int) -> int:
    """Return how long a payload may be: what no sensible coder exceeds, so that a reader knows what it may read."""
    codes = num_rows * len(header.columns)
    return _MAX_BYTES_PER_CODE * codes + 8 * num_rows + _SLACK_BYTES


def decode_segment(
    header: StreamHeader, model: ExactLM | None, segment: SegmentHeader, payload: bytes
) -> SegmentContent:
    """Decode a payload and make every check that the segment's header allows.

    Raises:
        SegmentError: It is not what was written, or does not decode to what was encoded.
    """
    if len(payload) < segment.payload_bytes:
        raise SegmentError("payload", f"{len(payload)} of its {segment.payload_bytes} bytes are there")
    if zlib.crc32(payload) != segment.payload_crc:
        raise SegmentError("payload", "its payload's checksum differs: bytes in it are damaged")
    frames, scales, coded = _parse_side(header, segment.num_rows, payload)
    rows, interval_hash = _decode_rows(header, model, coded, segment.num_rows)
    if interval_hash != segment.interval_hash:
        raise SegmentError(
            "intervals",
            "the language model computes other intervals here than where the stream was made; the segment is intact, "
            "and its codes cannot be had on this machine",
        )
    if token_digest(payload[: len(payload) - len(coded)], rows) != segment.token_digest:
        raise SegmentError("tokens", "the decoded codes do not pass their checksum")
    return SegmentContent(rows, frames, scales)


def _decode_rows(header: StreamHeader, model: ExactLM | None, coded: bytes, num_rows: int) -> tuple[np.ndarray, int]:
    try:
        if header.coder == "raw":
            return unpack_bits(coded, header.columns, num_rows), 0
        assert model is not None, "the caller has checked the model against the header"
        return exact_segments.decode_frames(model, coded, num_rows)
    except CodecbookError as error:
        hint = "; they are intact, so the language model computes otherwise here, or this coder did not write them"
        hint = hint if header.coder == "exact" else ""
        raise SegmentError("coder", f"its bytes cannot be decoded{hint} ({error})") from error


def _pack_side(header: StreamHeader, content: SegmentContent) -> bytes:
    frames = np.asarray(content.codec_segment_frames, dtype="<u4")
    scales = np.asarray(content.scales, dtype="<f4")
    if len(frames) and (frames.sum() != len(content.rows) or frames.max() > header.codec_segment_frames):
        raise UnsupportedInput(
            f"Segments of {frames.tolist()} frames do not make {len(content.rows)} rows of up to "
            f"{header.codec_segment_frames}."
        )
    if header.has_codec_segments != bool(len(frames)) or len(scales) != header.has_scales * max(1, len(frames)):
        raise UnsupportedInput(
            f"{len(frames)} segments of the codec with {len(scales)} scales are not what the stream's header says."
        )
    count = struct.pack("<I", len(frames)) if header.has_codec_segments else b""
    return count + frames.tobytes() + scales.tobytes()


def _parse_side(
    header: StreamHeader, num_rows: int, payload: bytes
) -> tuple[tuple[int, ...], tuple[float, ...], bytes]:
    """Return the codec's segments, their scales, and what follows them in the payload."""
    place, frames = 0, np.zeros(0, dtype="<u4")
    if header.has_codec_segments:
        count = int.from_bytes(payload[:4], "little")
        place = 4 + 4 * count
        if not 1 <= count <= num_rows or len(payload) < place:
            raise SegmentError("coder", f"it claims {count} segments of the codec in {num_rows} rows")
        frames = np.frombuffer(payload[4:place], dtype="<u4")
        if frames.min() < 1 or frames.max() > header.codec_segment_frames or frames.sum(dtype=np.int64) != num_rows:
            raise SegmentError("coder", f"its codec's segments do not make up its {num_rows} rows")
        if (frames[1:] > frames[:-1]).any():
            raise SegmentError("coder", "one of its codec's segments is longer than the one before it")
    end = place + 4 * header.has_scales * max(1, len(frames))
    if len(payload) < end:
        raise SegmentError("coder", "its payload ends within the scales")
    scales = np.frombuffer(payload[place:end], dtype="<f4")
    if not np.isfinite(scales).all():
        raise SegmentError("coder", "a scale in it is not finite")
    return tuple(frames.tolist()), tuple(scales.tolist()), payload[end:]


def token_digest(side: bytes, rows: np.ndarray) -> bytes:
    """Return the checksum of a segment's content: 8 bytes of SHA-256 over side information and rows."""
    return hashlib.sha256(side + np.ascontiguousarray(rows, dtype="<u4").tobytes()).digest()[:8]
