"""One segment of a stream: its own header, what its payload holds, and the checks that a decoder makes.

``docs/stream-format.md``, section 4, is the normative text.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from codecbook.coding.exact import frames as exact_frames
from codecbook.coding.stream.header import StreamHeader, is_sealed, sealed
from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.tokens.bits import pack_bits, unpack_bits

SEGMENT_MAGIC = b"\xc5SEG"
_HEAD = struct.Struct("<4sIIIII8sQ")
_CRC_BYTES = 4
SEGMENT_HEADER_BYTES = _HEAD.size + _CRC_BYTES


@dataclass(frozen=True)
class Segment:
    """Rows that are coded together, as they are written or were read."""

    index: int  # number of the segment, from 0
    first_row: int  # rows before it
    rows: np.ndarray  # int64 [T, K]
    codec_segment_frames: tuple[int, ...] = ()  # rows of each of the codec's own segments in it
    scales: tuple[float, ...] = ()  # a gain for each of these; one for a codec with a gain but no segments

    @property
    def num_rows(self) -> int:
        """``T``."""
        return len(self.rows)


@dataclass(frozen=True)
class SegmentHeader:
    """What stands before a segment's payload, and where the segment was found."""

    index: int
    first_row: int
    num_rows: int  # 1 or more
    payload_bytes: int
    payload_crc: int  # CRC-32
    token_digest: bytes  # first 8 bytes of the SHA-256 of side information and rows
    interval_hash: int  # of the coded intervals, 64 bits; 0 for raw coding
    crc: int  # CRC-32 of all of this and the stream's id
    offset: int  # where it begins in the stream

    @property
    def end(self) -> int:
        """Where it ends, exclusive."""
        return self.offset + SEGMENT_HEADER_BYTES + self.payload_bytes

    @property
    def end_row(self) -> int:
        """Rows before it and in it."""
        return self.first_row + self.num_rows


@dataclass(frozen=True)
class Damage:
    """A segment, or several that follow each other, whose codes are lost.

    Its `kind` is ``"missing"`` (not found in the stream), ``"header"`` (the segment's own header is damaged or not the
    one that was written), ``"payload"`` (its bytes are damaged or cut off), ``"coder"`` (its bytes pass their checksum
    and cannot be decoded), ``"intervals"`` (the language model computes other intervals here than where the stream was
    made), ``"tokens"`` (decoded codes do not pass their checksum), or ``"position"`` (it contradicts its neighbours).
    """

    kind: str
    segment: int  # number of the first, from 0
    num_segments: int
    first_row: int
    num_rows: int
    first_byte: int  # where in the stream their bytes begin, or should
    end_byte: int  # exclusive; equal to first_byte where nothing is there
    start_s: float  # of the audio that is lost
    end_s: float
    reason: str

    def __str__(self) -> str:
        last = self.segment + self.num_segments - 1
        name = f"Segment {self.segment}" if self.num_segments == 1 else f"Segments {self.segment} to {last}"
        return (
            f"{name} ({self.start_s:.3f} to {self.end_s:.3f} s, bytes {self.first_byte} to {self.end_byte}): "
            f"{self.reason}"
        )


class SegmentError(Exception):
    """A segment that cannot be decoded; its arguments are kind and reason of the `Damage` that it becomes."""


def damage_of(
    header: StreamHeader, why: tuple[str, str], segments: tuple[int, int], rows: tuple[int, int], place: tuple[int, int]
) -> Damage:
    """Return the damage of (kind, reason), (segment, how many), (first row, end row) and (first byte, end byte)."""
    kind, reason = why
    start_s, end_s = header.time_range_s(*rows)
    return Damage(kind, *segments, rows[0], rows[1] - rows[0], *place, start_s, end_s, reason)


def pack_segment(header: StreamHeader, model: ExactLM | None, segment: Segment) -> bytes:
    """Return a segment's bytes, of which the first 44 are its own header."""
    rows, side, interval_hash = segment.rows, _pack_side(header, segment), 0
    if header.coder == "raw":
        coded = pack_bits(rows, header.columns)
    else:
        assert model is not None, "the caller has checked the model against the header"
        exact = exact_frames.encode_frames(model, rows)
        coded, interval_hash = exact.payload, exact.interval_hash
    payload = side + coded
    head = _HEAD.pack(
        SEGMENT_MAGIC, segment.index, segment.first_row, len(rows), len(payload), zlib.crc32(payload),
        _token_digest(side, rows), interval_hash,
    )  # fmt: skip
    return sealed(head, header.stream_id) + payload


def segment_crc(data: bytes) -> int:
    """Return the CRC-32 at the end of a segment's own header, which the index repeats."""
    return int.from_bytes(data[_HEAD.size : SEGMENT_HEADER_BYTES], "little")


def unpack_segment_header(data: bytes, header: StreamHeader, offset: int = 0) -> SegmentHeader:
    """Parse a segment's own header, `SEGMENT_HEADER_BYTES` that stand at `offset` in the stream.

    Raises SegmentError where they are damaged, of another stream, or claim what this stream cannot hold.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        raise SegmentError("header", "its header is cut off")
    magic, *fields = _HEAD.unpack_from(data)
    if magic != SEGMENT_MAGIC or not is_sealed(data, header.stream_id):
        raise SegmentError("header", "its header's checksum differs: the header is damaged, or of another stream")
    segment = SegmentHeader(*fields, crc=segment_crc(data), offset=offset)
    # what no sensible coder exceeds, so that a reader knows what it may read
    max_payload_bytes = (4 * len(header.columns) + 8) * segment.num_rows + 64
    if not (
        segment.index < header.num_segments
        and 1 <= segment.num_rows <= header.rows_per_segment
        and segment.end_row <= header.num_rows
        and segment.payload_bytes <= max_payload_bytes
    ):
        raise SegmentError(
            "header",
            f"its header claims number {segment.index}, rows {segment.first_row} to {segment.end_row} and "
            f"{segment.payload_bytes} bytes, which this stream of {header.num_segments} segments and "
            f"{header.num_rows} rows cannot hold",
        )
    return segment


def decode_segment(header: StreamHeader, model: ExactLM | None, found: SegmentHeader, payload: bytes) -> Segment:
    """Decode a payload and make every check that the segment's own header, `found`, allows; else SegmentError."""
    if len(payload) < found.payload_bytes:
        raise SegmentError("payload", f"{len(payload)} of its {found.payload_bytes} bytes are there")
    if zlib.crc32(payload) != found.payload_crc:
        raise SegmentError("payload", "its payload's checksum differs: bytes in it are damaged")
    frames, scales, coded = _parse_side(header, found.num_rows, payload)
    try:
        if header.coder == "raw":
            rows, interval_hash = unpack_bits(coded, header.columns, found.num_rows), 0
        else:
            assert model is not None, "the caller has checked the model against the header"
            rows, interval_hash = exact_frames.decode_frames(model, coded, found.num_rows)
    except CodecbookError as error:
        hint = "; they are intact, so the language model computes otherwise here, or this coder did not write them"
        hint = hint if header.coder == "exact" else ""
        raise SegmentError("coder", f"its bytes cannot be decoded{hint} ({error})") from error
    if interval_hash != found.interval_hash:
        raise SegmentError(
            "intervals",
            "the language model computes other intervals here than where the stream was made; the segment is intact, "
            "and its codes cannot be had on this machine",
        )
    if _token_digest(payload[: len(payload) - len(coded)], rows) != found.token_digest:
        raise SegmentError("tokens", "the decoded codes do not pass their checksum")
    return Segment(found.index, found.first_row, rows, frames, scales)


def _pack_side(header: StreamHeader, segment: Segment) -> bytes:
    frames = np.asarray(segment.codec_segment_frames, dtype="<u4")
    scales = np.asarray(segment.scales, dtype="<f4")
    if bool(header.codec_segment_frames) != bool(len(frames)) or len(scales) != header.has_scales * max(1, len(frames)):
        raise UnsupportedInput(
            f"{len(frames)} segments of the codec with {len(scales)} scales are not what the stream's header says."
        )
    count = struct.pack("<I", len(frames)) if len(frames) else b""
    return count + frames.tobytes() + scales.tobytes()


def _parse_side(
    header: StreamHeader, num_rows: int, payload: bytes
) -> tuple[tuple[int, ...], tuple[float, ...], bytes]:
    """Return the codec's segments, their scales, and what follows them in the payload."""
    place, frames = 0, np.zeros(0, dtype="<u4")
    if header.codec_segment_frames:
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


def _token_digest(side: bytes, rows: np.ndarray) -> bytes:
    return hashlib.sha256(side + np.ascontiguousarray(rows, dtype="<u4").tobytes()).digest()[:8]
