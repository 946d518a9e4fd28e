"""Read a stream, whole or in part, damaged or not: `StreamReader`; `inspect` it, or `verify` it to its last code."""

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from zlib import crc32

import numpy as np

from codecbook.coding.exact.frames import streams_side_by_side
from codecbook.coding.stream.header import StreamHeader
from codecbook.coding.stream.locate import Located, StreamLike, StreamSource
from codecbook.coding.stream.models import LMLike, check_lm, lm_of
from codecbook.coding.stream.segment import (
    Damage,
    Segment,
    SegmentError,
    SegmentHeader,
    damage_of,
    decode_rows,
    parse_side,
)
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.tokens import Tokens
from codecbook.tokens.bits import unpack_bits

Progress = Callable[[float, float | None], None]
"""Takes the seconds of audio that are done, and of all where that is known."""
MAX_FILLED_S = 600.0
"""Seconds of lost codes that are filled in where little else is there: a header may claim anything."""
MAX_FILLED_CODES = 1 << 22
"""And that many codes: a header may claim any rate as well."""


@dataclass(frozen=True)
class StreamTokens:
    """Tokens of a stream, or of a stretch of it."""

    tokens: Tokens  # code 0 stands for each one that is lost, and scale 0 for each scale
    first_row: int  # rows of the stream before these
    start_s: float  # where these begin
    damage: tuple[Damage, ...]  # what is lost
    notes: tuple[str, ...]  # what is wrong with parts that are there twice, so that nothing was lost
    lost: np.ndarray = field(compare=False)  # bool [T], rows for which 0 stands


@dataclass(frozen=True)
class StreamReport:
    """What a stream holds."""

    num_bytes: int  # of the stream, with its inner code if it has one
    duration_s: float  # of the audio
    header: StreamHeader
    segments: tuple[tuple[int, int, int], ...]  # offset, end, rows of each one found
    parity_segments: tuple[tuple[int, int], ...]  # offset, end of each one found
    payload_bytes: int  # of these, without their own headers
    damage: tuple[Damage, ...]  # of a stream that was looked at alone, what is known without decoding it
    notes: tuple[str, ...]  # what is wrong with parts that are there twice

    @property
    def bitrate_kbps(self) -> float:
        """Bits of the whole stream per second of audio, in kbps."""
        return self.num_bytes * 8 / 1000 / self.duration_s if self.duration_s else 0.0


@dataclass(frozen=True)
class _Opened:
    """A segment that passed the checks of its bytes."""

    num_rows: int
    frames: tuple[int, ...]  # of the codec's segments in it
    scales: tuple[float, ...]
    side: bytes  # what both are read from
    coded: bytes  # rows


class StreamReader:
    """Read a stream segment by segment; what is kept is where these are, about 500 bytes per segment.

    Attributes:
        header: What the stream says of itself; where it names an exact language model, decoding needs `model`.
        model: The language model; may be set as long as nothing was read.
        damage: What is known to be lost without decoding anything.
        num_bytes: Length of the stream, with its inner code if it has one.
        notes: What is wrong with parts of the stream that are there twice, and what was restored.

    No readable header, or no stream, raises CorruptInput; a later version of the format UnsupportedInput.
    """

    def __init__(self, stream: StreamLike, model: ExactLM | None = None) -> None:
        self._source = StreamSource(stream)
        try:
            self._located = Located(self._source)
        except BaseException:
            self.close()
            raise
        self.header, self._parts = self._located.header, self._located.parts
        self.damage = tuple(part for part in self._parts if isinstance(part, Damage))
        self.num_bytes, self.model = self._source.stored_bytes, model
        self.notes = tuple(self._located.notes)

    def __enter__(self) -> "StreamReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, where it was opened here."""
        self._source.close()

    def segments(self, first_row: int = 0, end_row: int | None = None) -> Iterator[Segment | Damage]:
        """Decode the segments that hold some of these rows, and yield them in order; those that cannot be are damage.

        With a language model several are decoded side by side, which is faster and changes no code.

        Raises:
            MissingWeights: The stream needs a language model, and none was given.
            UnsupportedInput: It needs another one.
        """
        check_lm(self.header, self.model)
        end_row = self.header.num_rows if end_row is None else end_row
        wanted = [
            part for part in self._parts if part.first_row < end_row and part.first_row + part.num_rows > first_row
        ]
        width = 1 if self.model is None else streams_side_by_side(self.model)
        for start in range(0, len(wanted), width):
            yield from self._decoded(wanted[start : start + width])

    def _salvaged(self, found: SegmentHeader) -> np.ndarray | None:
        """Return what is there of raw codes, right or wrong; of a codec with segments or scales nothing."""
        header = self.header
        if header.coder != "raw" or header.codec_segment_frames or header.has_scales:
            return None
        payload = self._source.read(found.offset + found.head_bytes, found.payload_bytes)
        return unpack_bits(payload, header.columns, found.num_rows, damaged=True)

    def _decoded(self, parts: Sequence[SegmentHeader | Damage]) -> Iterator[Segment | Damage]:
        """Decode segments side by side."""
        opened = [self._opened(part) for part in parts if isinstance(part, SegmentHeader)]
        sound = [(payload.coded, payload.num_rows) for payload in opened if isinstance(payload, _Opened)]
        decoded = iter(decode_rows(self.header, self.model, sound))
        payloads = iter(opened)
        for part in parts:
            if isinstance(part, Damage):
                yield part
                continue
            payload = next(payloads)
            result = self._checked(part, payload, next(decoded)) if isinstance(payload, _Opened) else payload
            if isinstance(result, SegmentError):
                place = (part.offset, min(part.end, self._source.size))
                damage = damage_of(self.header, result.args, (part.index, 1), (part.first_row, part.end_row), place)
                yield replace(damage, salvaged=self._salvaged(part) if damage.kind == "payload" else None)
            else:
                yield result

    def _opened(self, found: SegmentHeader) -> "_Opened | SegmentError":
        """Read a segment and its side information; no code is decoded yet."""
        if found.restored is None:
            payload = self._source.read(found.offset + found.head_bytes, found.payload_bytes)
        else:
            payload = found.restored[found.head_bytes :]
        if len(payload) < found.payload_bytes:
            return SegmentError("payload", f"{len(payload)} of its {found.payload_bytes} bytes are there")
        if crc32(payload) != found.payload_crc:
            return SegmentError("payload", "its payload's checksum differs: bytes in it are damaged")
        frames_of = partial(self._located.version.frames_of, self.header, found.num_rows)
        try:
            frames, scales, coded = parse_side(self.header, found.num_rows, payload, frames_of)
        except SegmentError as error:
            return error
        return _Opened(found.num_rows, frames, scales, payload[: len(payload) - len(coded)], coded)

    def _checked(
        self, found: SegmentHeader, opened: "_Opened", decoded: tuple[np.ndarray, int] | SegmentError
    ) -> Segment | SegmentError:
        """Make every check of a decoded segment that its own header allows."""
        if isinstance(decoded, SegmentError):
            return decoded
        rows, interval_hash = decoded
        header = self.header
        check = self._located.version.check_of(header, found, opened.side, rows, interval_hash)
        if check != found.check and (header.coder == "raw" or check[8:] == found.check[8:] != b""):
            return SegmentError("tokens", "the decoded codes do not pass their checksum")
        if check != found.check:
            return SegmentError(
                "intervals",
                "the language model computes other intervals here than where the stream was made; the segment is "
                "intact, and its codes cannot be had on this machine",
            )
        return Segment(found.index, found.first_row, rows, opened.frames, opened.scales)

    def read(self, start_s: float = 0.0, end_s: float | None = None, *, salvage: bool = False) -> StreamTokens:
        """Return the tokens of whole segments that cover a stretch of time; of all, by default.

        With `salvage`, what is there of damaged segments of raw codes stands in its place, some of it wrong; they are
        reported all the same.

        Raises:
            CorruptInput: Nothing can be decoded, or so much is missing within it that filling it in is refused.
            CodecbookError: As `segments` and `check_stretch`.
        """
        header = self.header
        check_stretch(header.duration_s, start_s, end_s)
        first_row, end_row = self.row_at(start_s), header.num_rows
        if end_s is not None:
            end_row = min(end_row, max(self.row_at(end_s), first_row) + 1)
        narrow = np.min_scalar_type(max(header.columns) - 1)  # of hours, many megabytes
        parts = [
            replace(part, rows=part.rows.astype(narrow)) if isinstance(part, Segment) else part
            for part in self.segments(first_row, end_row)
        ]
        damage = tuple(part for part in parts if isinstance(part, Damage))
        if parts and len(damage) == len(parts):
            raise CorruptInput(f"No segment can be decoded; the first: {damage[0]}. Copy the stream again.")
        kept = self._without_endless_loss(parts)
        first_row = kept[0].first_row if kept else 0
        rows = np.zeros((sum(part.num_rows for part in kept), len(header.columns)), dtype=np.int64)
        lost = np.ones(len(rows), dtype=bool)
        frames: list[int] = []
        scales: list[float] = []
        unit = header.codec_segment_frames
        for part in kept:
            found = part.rows if isinstance(part, Segment) else part.salvaged if salvage else None
            if found is not None:
                place = part.first_row - first_row
                rows[place : place + len(found)] = found
                lost[place : place + len(found)] = False
            if isinstance(part, Segment):
                frames += part.codec_segment_frames
                scales += part.scales
            elif unit:  # of the codec's segments that are lost, all but the last are full
                gone = [min(unit, part.num_rows - row) for row in range(0, part.num_rows, unit)]
                frames += gone
                scales += [0.0] * (len(gone) * header.has_scales)
        if header.has_scales and not unit:
            scales = next((list(part.scales) for part in kept if isinstance(part, Segment)), [0.0])
        is_whole = first_row == 0 and len(rows) == header.num_rows and len(kept) == len(parts)
        tokens = header.layout.to_tokens(
            rows, num_samples=header.num_samples if is_whole else None,
            segment_frames=tuple(frames), scales=tuple(scales),
        )  # fmt: skip
        return StreamTokens(tokens, first_row, header.start_of_row(first_row), damage, self.notes, lost)

    def row_at(self, seconds: float) -> int:
        """Return the row that begins last at or before a time."""
        after = bisect.bisect_right(range(self.header.num_rows), seconds, key=self.header.start_of_row)
        return max(0, after - 1)

    def report(self, damage: Sequence[Damage], notes: Sequence[str] = ()) -> StreamReport:
        """Return a report with what was found to be lost, and further notes."""
        segments = tuple((found.offset, found.end, found.num_rows) for found in self._located.in_place)
        parities = [(found.offset, found.end) for found in self._located.parities.values()]
        duration_s, all_notes = self.header.duration_s, (*self.notes, *notes)
        payload_bytes = sum(found.payload_bytes for found in self._located.in_place)
        return StreamReport(
            self.num_bytes, duration_s, self.header, segments, tuple(sorted(parities)), payload_bytes, tuple(damage),
            all_notes,
        )  # fmt: skip

    def _without_endless_loss(self, parts: list[Segment | Damage]) -> list[Segment | Damage]:
        """Leave out what is missing at the end where it is far more than what is there; refuse that elsewhere."""
        rate_hz, columns = self.header.format.frame_rates_hz[0], len(self.header.columns)
        intact = sum(part.num_rows for part in parts if isinstance(part, Segment))
        lost = sum(part.num_rows for part in parts) - intact
        limit = max(2 * intact, min(MAX_FILLED_S * rate_hz, MAX_FILLED_CODES // columns))
        end = len(parts)
        while lost > limit and isinstance(parts[end - 1], Damage):
            end -= 1
            lost -= parts[end].num_rows
        if lost > limit:
            raise CorruptInput(
                f"{lost} rows ({lost / rate_hz:.0f} s) are lost, {intact} intact; read those by StreamReader.segments."
            )
        return parts[:end]


def check_stretch(length_s: float, start_s: float, end_s: float | None) -> None:
    """Refuse a stretch of time of which a recording of this length holds nothing; all of it may be empty.

    Raises UnsupportedInput: times that are negative or not finite, that end before they begin, or outside of the
    recording.
    """
    if start_s == 0 and end_s is None:
        return
    given = f"A stretch from {start_s} s {'on' if end_s is None else f'to {end_s} s'}"
    if not all(math.isfinite(time_s) and time_s >= 0 for time_s in (start_s, end_s or 0.0)):
        raise UnsupportedInput(f"{given} is none; give seconds from 0 on, or no end for all of it.")
    if end_s is not None and not start_s < end_s:
        raise UnsupportedInput(f"{given} is none; give the end after the start.")
    if start_s >= length_s:
        raise UnsupportedInput(f"{given} lies outside of the recording, which is {length_s:.3f} s long.")


def inspect(stream: StreamLike) -> StreamReport:
    """Say what a stream is, without its weights; headers are checked, payloads are not.

    Segments that are missing, or whose headers are damaged, are in the report's ``damage``. Raises CodecbookError: as
    `StreamReader`.
    """
    with StreamReader(stream) as reader:
        return reader.report(reader.damage)


def verify(stream: StreamLike, *, lm: LMLike = "default", on_progress: Progress | None = None) -> StreamReport:
    """Decode all codes of a stream and make every check; no audio, no codec.

    `lm` is the language model, where it is not found by name; `on_progress` is called after each segment. Raises
    CodecbookError: as `StreamReader` and `codecbook.coding.stream.models.lm_of`.
    """
    with StreamReader(stream) as reader:
        reader.model, header = lm_of(reader.header, lm), reader.header
        damage: list[Damage] = []
        notes: list[str] = []
        longest = header.codec_segment_frames
        for part in reader.segments():
            if isinstance(part, Damage):
                damage.append(part)
            elif part.codec_segment_frames:
                if part.codec_segment_frames[0] > longest:
                    notes = [
                        f"Segment {part.index} begins with a longer segment of the codec than the one before it; times "
                        "from there on are wrong."
                    ]
                longest = part.codec_segment_frames[-1]
            if on_progress is not None:
                on_progress(header.start_of_row(part.first_row + part.num_rows), header.duration_s)
        return reader.report(damage, notes)
