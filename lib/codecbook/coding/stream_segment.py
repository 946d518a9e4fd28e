"""One segment of a stream: its own header, what its payload holds, and the checks that a decoder makes.

``docs/stream-format.md``, section 4, is the normative text.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from codecbook.coding import exact_segments
from codecbook.coding.stream_header import StreamHeader
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.lm.exact import ExactLM

SEGMENT_MAGIC = b"\xc5SEG"
_HEAD = struct.Struct("<4sIIIII8sQ")
_CRC = struct.Struct("<I")
SEGMENT_HEADER_BYTES = _HEAD.size + _CRC.size
_MAX_BYTES_PER_CODE = 4
_SLACK_BYTES = 64
_RAW_BLOCK_BITS = 1 << 18


@dataclass(frozen=True)
class SegmentHeader:
    """What stands before a segment's payload.

    Attributes:
        index: Number of the segment, from 0.
        first_row: Rows before it.
        num_rows: Rows in it, 1 or more.
        payload_bytes: Length of the payload.
        payload_crc: CRC-32 of the payload.
        token_digest: First 8 bytes of the SHA-256 of side information and rows.
        interval_hash: Rolling hash of the coded intervals, 64 bits; 0 for raw coding.
        crc: CRC-32 of all of this and the stream's id.
    """

    index: int
    first_row: int
    num_rows: int
    payload_bytes: int
    payload_crc: int
    token_digest: bytes
    interval_hash: int
    crc: int = 0


@dataclass(frozen=True)
class SegmentContent:
    """What a segment carries.

    Attributes:
        rows: int64 ``[T, K]``.
        codec_segment_frames: Rows of each of the codec's own segments in it; empty for a codec without.
        scales: One gain for each of these; for a codec with a gain but no segments, that gain.
    """

    rows: np.ndarray
    codec_segment_frames: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()


class SegmentError(Exception):
    """A segment that cannot be decoded: what becomes `Damage`, and does not leave this room.

    Args:
        kind: One of `codecbook.coding.stream_damage.DAMAGE_KINDS`.
        message: Why, as part of a sentence.
    """

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
        coded = pack_raw(content.rows, header.columns)
    else:
        assert model is not None, "whoever packs has checked the model against the header"
        segment = exact_segments.encode_frames(model, content.rows)
        coded, interval_hash = segment.payload, segment.interval_hash
    payload = side + coded
    if len(payload) > max_payload_bytes(header, len(content.rows)):
        raise UnsupportedInput(f"A payload of {len(payload)} bytes is longer than the format allows.")
    head = _HEAD.pack(
        SEGMENT_MAGIC,
        index,
        first_row,
        len(content.rows),
        len(payload),
        zlib.crc32(payload),
        token_digest(side, content.rows),
        interval_hash,
    )
    crc = zlib.crc32(header.stream_id + head)
    data = head + _CRC.pack(crc)
    return parse_segment_header(data, header), data + payload


def parse_segment_header(data: bytes, header: StreamHeader) -> SegmentHeader:
    """Parse the first `SEGMENT_HEADER_BYTES` of a segment.

    Raises:
        SegmentError: They are damaged, of another stream, or claim what this stream cannot hold.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        raise SegmentError("header", "its header is cut off")
    magic, *fields = _HEAD.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _HEAD.size)
    if magic != SEGMENT_MAGIC or crc != zlib.crc32(header.stream_id + data[: _HEAD.size]):
        raise SegmentError(
            "header", "its header's checksum differs: the header is damaged, or of another stream"
        )
    segment = SegmentHeader(*fields, crc=crc)
    if not (
        segment.index < header.num_segments
        and 1 <= segment.num_rows <= header.rows_per_segment
        and segment.first_row + segment.num_rows <= header.num_rows
        and segment.payload_bytes <= max_payload_bytes(header, segment.num_rows)
    ):
        raise SegmentError(
            "header",
            f"its header claims number {segment.index}, rows {segment.first_row} to "
            f"{segment.first_row + segment.num_rows} and {segment.payload_bytes} bytes, which this stream of "
            f"{header.num_segments} segments and {header.num_rows} rows cannot hold",
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


def _decode_rows(
    header: StreamHeader, model: ExactLM | None, coded: bytes, num_rows: int
) -> tuple[np.ndarray, int]:
    try:
        if header.coder == "raw":
            return unpack_raw(coded, header.columns, num_rows), 0
        assert model is not None, "whoever reads has checked the model against the header"
        return exact_segments.decode_frames(model, coded, num_rows)
    except CodecbookError as error:
        hint = (
            ""
            if header.coder == "raw"
            else "; they are intact, so the language model computes otherwise here, or this coder did not write them"
        )
        raise SegmentError("coder", f"its bytes cannot be decoded{hint} ({error})") from error


def _pack_side(header: StreamHeader, content: SegmentContent) -> bytes:
    frames = np.asarray(content.codec_segment_frames, dtype="<u4")
    scales = np.asarray(content.scales, dtype="<f4")
    if len(frames) and (frames.sum() != len(content.rows) or frames.max() > header.codec_segment_frames):
        raise UnsupportedInput(
            f"Segments of {frames.tolist()} frames do not make {len(content.rows)} rows of up to "
            f"{header.codec_segment_frames}."
        )
    if header.has_codec_segments != bool(len(frames)) or len(scales) != header.has_scales * max(
        1, len(frames)
    ):
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
        if (
            frames.min() < 1
            or frames.max() > header.codec_segment_frames
            or frames.sum(dtype=np.int64) != num_rows
        ):
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


def raw_widths(codebook_sizes: tuple[int, ...]) -> list[int]:
    """Return the bits of each column of raw coding: as many as its largest code has."""
    return [(size - 1).bit_length() for size in codebook_sizes]


def pack_raw(rows: np.ndarray, codebook_sizes: tuple[int, ...]) -> bytes:
    """Pack rows ``[T, K]`` at fixed widths, row by row, the lowest bit of a code and of a byte first."""
    columns, places, _ = _raw_bits(codebook_sizes)
    block = _raw_block_rows(len(columns))
    parts = []
    for start in range(0, len(rows), block):
        bits = (rows[start : start + block, columns] >> places) & 1
        parts.append(np.packbits(bits.astype(np.uint8), bitorder="little").tobytes())
    return b"".join(parts)


def _raw_bits(codebook_sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of each bit of a row its column and its place in the code, and where each column with bits begins."""
    widths = np.array(raw_widths(codebook_sizes), dtype=np.int64)
    columns, starts = np.repeat(np.arange(len(widths)), widths), np.cumsum(widths) - widths
    return columns, np.arange(len(columns)) - starts[columns], starts[widths > 0]


def _raw_block_rows(bits_per_row: int) -> int:
    """Return how many rows are spread out into bits at a time, a multiple of 8: they begin and end with a byte."""
    return 8 * max(1, _RAW_BLOCK_BITS // (8 * max(1, bits_per_row)))


def unpack_raw(data: bytes, codebook_sizes: tuple[int, ...], num_rows: int) -> np.ndarray:
    """Undo `pack_raw`.

    Raises:
        CorruptInput: Another number of bytes, a code beyond its codebook, or bits after the last code.
    """
    columns, places, starts = _raw_bits(codebook_sizes)
    used = num_rows * len(columns)
    if len(data) != -(-used // 8):
        raise CorruptInput(f"{num_rows} raw rows take {-(-used // 8)} bytes, not {len(data)}")
    if used % 8 and data[-1] >> used % 8:
        raise CorruptInput("bits after the last code are not zero")
    packed, block = np.frombuffer(data, dtype=np.uint8), _raw_block_rows(len(columns))
    rows, filled = np.zeros((num_rows, len(codebook_sizes)), dtype=np.int64), columns[starts]
    for start in range(0, num_rows if used else 0, block):
        part = rows[start : start + block]
        first = start * len(columns) // 8
        bits = np.unpackbits(packed[first:], count=part.shape[0] * len(columns), bitorder="little")
        values = bits.reshape(len(part), -1).astype(np.int64) << places
        part[:, filled] = np.add.reduceat(values, starts, axis=1)
    beyond = rows >= np.asarray(codebook_sizes)
    if beyond.any():
        row, column = (int(at) for at in np.argwhere(beyond)[0])
        raise CorruptInput(f"code {rows[row, column]} of row {row}, column {column} is beyond its codebook")
    return rows
