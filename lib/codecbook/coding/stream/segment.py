"""One segment of a stream: what it holds, what is known of it before it is decoded, and what becomes of a lost one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from codecbook.coding.exact import frames as exact_frames
from codecbook.coding.stream.fields import Fields
from codecbook.coding.stream.header import StreamHeader
from codecbook.errors import CodecbookError
from codecbook.lm.exact.spec import ExactLM
from codecbook.tokens.bits import pack_bits, unpack_bits


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
    num_rows: int
    payload_bytes: int
    payload_crc: int  # CRC-32
    check: bytes  # of what is decoded; see `version1` and `version2`
    offset: int  # where it begins in the stream
    head_bytes: int  # of all this, before the payload
    restored: bytes | None = None  # all of a segment that parity has restored: it is not in the stream
    lengths: tuple[int, ...] = ()  # of one of parity, which has no rows: all bytes of each segment of its group

    @property
    def end(self) -> int:
        """Where it ends, exclusive."""
        return self.offset + (0 if self.restored is not None else self.head_bytes + self.payload_bytes)

    @property
    def end_row(self) -> int:
        """Rows before it and in it."""
        return self.first_row + self.num_rows


@dataclass(frozen=True)
class Damage:
    """A segment, or several that follow each other, whose codes are lost.

    Its `kind` is ``"missing"`` (its bytes, or its own header, are not found), ``"payload"`` (its bytes are damaged or
    cut off), ``"coder"`` (its bytes pass their checksum and cannot be decoded), ``"intervals"`` (the
    language model computes other intervals here than where the stream was made), ``"tokens"`` (decoded codes do not
    pass their checksum), or ``"position"`` (it contradicts its neighbours).
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
    salvaged: np.ndarray | None = field(default=None, compare=False, repr=False)
    """Of raw codes whose payload is damaged, int64 ``[T, K]`` rows from the first on, of which some are wrong."""

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


def code_rows(header: StreamHeader, model: ExactLM | None, segments: Sequence[np.ndarray]) -> list[tuple[bytes, int]]:
    """Return the coded rows of segments, integers ``[T, K]``, each with the 64-bit hash of its intervals.

    Raw coding has no intervals; its hash is 0.
    """
    if header.coder == "raw":
        return [(pack_bits(rows, header.columns), 0) for rows in segments]
    assert model is not None, "the caller has checked the model against the header"
    coded = exact_frames.encode_many(model, segments, header.adapt_step)
    return [(one.payload, one.interval_hash) for one in coded]


def decode_rows(
    header: StreamHeader, model: ExactLM | None, segments: Sequence[tuple[bytes, int]]
) -> list[tuple[np.ndarray, int] | SegmentError]:
    """Decode what `code_rows` made of several segments, with the number of rows of each, side by side.

    Returns for each of them its rows, int64 ``[T, K]``, and the hash of its intervals, or what is wrong with it.
    """
    hint, found = "", list[tuple[np.ndarray, int] | CodecbookError]()
    if header.coder == "exact":
        assert model is not None, "the caller has checked the model against the header"
        hint = "; they are intact, so the language model computes otherwise here, or this coder did not write them"
        try:
            payloads, counts = [coded for coded, _ in segments], [num_rows for _, num_rows in segments]
            found += exact_frames.decode_many(model, payloads, counts, header.adapt_step)
        except CodecbookError as error:
            found += [error] * len(segments)
    else:
        found += [_unpacked(header, *segment) for segment in segments]
    return [
        SegmentError("coder", f"its bytes cannot be decoded{hint} ({result})")
        if isinstance(result, CodecbookError)
        else result
        for result in found
    ]


def _unpacked(header: StreamHeader, coded: bytes, num_rows: int) -> tuple[np.ndarray, int] | CodecbookError:
    try:
        return unpack_bits(coded, header.columns, num_rows), 0
    except CodecbookError as error:
        return error


def parse_side(
    header: StreamHeader, num_rows: int, payload: bytes, frames_of: Callable[[Fields], list[int]]
) -> tuple[tuple[int, ...], tuple[float, ...], bytes]:
    """Return the codec's segments in so many rows, their scales, and what follows them in the payload.

    The segments are read by `frames_of`. Raises SegmentError where they cannot be.
    """
    fields, most = Fields(payload), header.codec_segment_frames
    try:
        frames = frames_of(fields) if most else []
        scales = np.frombuffer(fields.take(4 * header.has_scales * max(1, len(frames))), dtype="<f4").tolist()
    except (IndexError, ValueError) as error:
        raise SegmentError("coder", f"its side information cannot be read ({error})") from error
    if most and (sum(frames) != num_rows or frames[-1] < 1 or sorted([most, *frames], reverse=True) != [most, *frames]):
        raise SegmentError(
            "coder", f"its codec's segments do not make up its {num_rows} rows, or one is longer than the one before it"
        )
    if not np.isfinite(scales).all():
        raise SegmentError("coder", "a scale in it is not finite")
    return tuple(frames), tuple(scales), payload[fields.place :]


def check_claims(header: StreamHeader, segment: SegmentHeader) -> SegmentHeader:
    """Return what a segment says of itself, or raise SegmentError where the stream cannot hold that."""
    # what no sensible coder exceeds, so that a reader knows what it may read
    max_payload_bytes = (4 * len(header.columns) + 8) * segment.num_rows + 64
    if not (
        segment.index < header.num_segments
        and 1 <= segment.num_rows <= header.rows_per_segment
        and segment.end_row <= header.num_rows
        and segment.payload_bytes <= max_payload_bytes
    ):
        raise SegmentError("header", f"its header claims what a stream of {header.num_rows} rows cannot hold")
    return segment
