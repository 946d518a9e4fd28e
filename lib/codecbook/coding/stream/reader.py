"""Read a stream, whole or in part, damaged or not: `StreamReader`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from codecbook.coding.stream.locate import StreamLike, StreamSource, locate
from codecbook.coding.stream.segment import SEGMENT_HEADER_BYTES, SegmentContent, SegmentError, decode_segment
from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput
from codecbook.lm.exact import ExactLM
from codecbook.tokens import Tokens

MAX_FILLED_S = 600.0
"""Seconds of lost codes that are filled in where little else is there: a header may claim anything."""
MAX_FILLED_CODES = 1 << 22
"""And that many codes: a header may claim any rate as well."""


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


@dataclass(frozen=True)
class StreamSegment:
    """A segment as it was read, or several that follow each other and are missing."""

    index: int  # number of the first
    first_row: int
    num_rows: int
    content: SegmentContent | None = None  # None where it was not read, or `damage` says why
    damage: Damage | None = None


@dataclass(frozen=True)
class StreamTokens:
    """Tokens of a stream, or of a stretch of it."""

    tokens: Tokens  # code 0 stands for each one that is lost, and scale 0 for each scale
    first_row: int  # rows of the stream before these
    start_s: float  # where these begin
    damage: tuple[Damage, ...]  # what is lost
    notes: tuple[str, ...]  # what is wrong with parts that are there twice, so that nothing was lost


class StreamReader:
    """Read a stream segment by segment; what is kept is its plan, about 500 bytes per segment.

    Args:
        stream: Bytes, a path, or a binary file that can seek.
        model: The exact language model, for streams that were made with one (``header.lm_name`` and
            ``header.lm_sha256`` say which).

    Attributes:
        header: What the stream says of itself.
        notes: What is wrong with parts of the stream that are there twice.
        num_bytes: Length of the stream.
        model: The language model; may be set as long as nothing was read.

    Raises:
        CorruptInput: No copy of the header can be read, or this is no stream.
        UnsupportedInput: A later version of the format.
    """

    def __init__(self, stream: StreamLike, model: ExactLM | None = None) -> None:
        self._source = StreamSource(stream)
        try:
            self._plan = locate(self._source)
        except BaseException:
            self._source.close()
            raise
        self.header, self.notes, self.num_bytes = self._plan.header, self._plan.notes, self._source.size
        self.model = model

    def __enter__(self) -> "StreamReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, where it was opened here."""
        self._source.close()

    def segments(self, first_row: int = 0, end_row: int | None = None) -> Iterator[StreamSegment]:
        """Decode the segments that hold some of these rows, in order, one at a time.

        Args:
            first_row: Leave out segments that end before.
            end_row: Leave out segments that begin here or later; None goes to the end.

        Raises:
            MissingWeights: The stream needs a language model, and none was given.
            UnsupportedInput: It needs another one.
        """
        self._check_model()
        end_row = self.header.num_rows if end_row is None else end_row
        for part in self.outline():
            if part.first_row >= end_row:
                return
            if part.first_row + part.num_rows <= first_row:
                continue
            yield self._decoded(part) if part.damage is None else part

    def read(self, start_s: float = 0.0, end_s: float | None = None) -> StreamTokens:
        """Return the tokens of whole segments that cover a stretch of time; of all, by default.

        Args:
            start_s: Beginning in seconds.
            end_s: End in seconds; None for the end of the stream.

        Raises:
            CorruptInput: Nothing can be decoded, or so much is missing within it that filling it in is refused.
            MissingWeights: As `segments`.
            UnsupportedInput: As `segments` and the function `check_stretch`.
        """
        check_stretch(self.header.duration_s, start_s, end_s)
        first_row, end_row = self.row_at(start_s), self.header.num_rows
        if end_s is not None:
            end_row = min(end_row, max(self.row_at(end_s), first_row) + 1)
        narrow = np.min_scalar_type(max(self.header.columns) - 1)  # of hours, many megabytes
        return self._joined([_with_rows_as(narrow, part) for part in self.segments(first_row, end_row)])

    def row_at(self, seconds: float) -> int:
        """Return the row that begins last at or before a time."""
        if self.header.num_rows == 0:
            return 0
        least, end = 0, self.header.num_rows
        while end - least > 1:
            middle = (least + end) // 2
            least, end = (middle, end) if self.header.start_of_row(middle) <= seconds else (least, middle)
        return least

    def segment_bytes(self) -> list[tuple[int, int, int]]:
        """Return (offset, end, rows) of every segment that was found; its first 44 bytes are its header."""
        return [
            (found.offset, found.end, found.num_rows)
            for found in sorted(self._plan.segments.values(), key=lambda found: found.offset)
        ]

    def _check_model(self) -> None:
        wanted = self.header.lm_sha256
        if self.header.coder == "raw":
            return
        if self.model is None:
            raise MissingWeights(
                f"This stream was coded with the language model {self.header.lm_name!r} (SHA-256 {wanted[:12]}...), "
                "and none was given; load it with codecbook.lm.exact.load_exact and pass it."
            )
        sizes = self.header.columns
        if self.model.sha256 != wanted or tuple(self.model.codebook_sizes) != sizes:
            raise UnsupportedInput(
                f"This stream was coded with the language model {self.header.lm_name!r} (SHA-256 {wanted[:12]}...), "
                f"not with this one ({self.model.sha256[:12]}...); pass that one."
            )

    def outline(self) -> Iterator[StreamSegment]:
        """Yield every segment's place without its content, and its damage where that is known before decoding."""
        plan = self._plan
        usable = [number for number in sorted(plan.segments) if number not in plan.refused]
        index, row, end_byte = 0, 0, plan.header_bytes
        for number in usable:
            found = plan.segments[number]
            if number > index:
                yield from self._lost(index, number, row, found.first_row, (end_byte, found.offset))
            yield StreamSegment(number, found.first_row, found.num_rows)
            index, row, end_byte = number + 1, found.end_row, found.end
        total = self.header.num_segments
        if index < total:
            end = max(end_byte, plan.end_of_segments)
            yield from self._lost(index, total, row, self.header.num_rows, (min(end_byte, end), end))

    def _lost(
        self, first: int, end: int, first_row: int, end_row: int, place: tuple[int, int]
    ) -> Iterator[StreamSegment]:
        """Yield segments that cannot be decoded: one by one where the index or their headers tell them apart."""
        plan, full = self._plan, self.header.rows_per_segment
        ends = [*(plan.offsets or []), plan.end_of_segments]
        for number, count in self._lost_runs(first, end):
            after = end - number - count
            rows_end = end_row if not after else min(first_row + count * full, end_row - after)
            why = plan.refused.get(number, ("missing", "not found: the bytes, or the mark that begins them, are lost"))
            found = plan.segments.get(number)
            if plan.offsets is not None:
                bounds = (ends[number], ends[number + 1])
            else:
                bounds = (found.offset, min(found.end, place[1])) if found else place
            yield self._damaged(why, (number, count), (first_row, rows_end), bounds)
            first_row = rows_end

    def _lost_runs(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (number, count): a header may claim billions of segments, and what is missing is not counted out."""
        if self._plan.offsets is not None:  # as many as the index has room for
            yield from ((number, 1) for number in range(first, end))
            return
        for number in sorted(number for number in self._plan.refused if first <= number < end):
            if number > first:
                yield first, number - first
            yield number, 1
            first = number + 1
        if first < end:
            yield first, end - first

    def _damaged(
        self, why: tuple[str, str], segments: tuple[int, int], rows: tuple[int, int], place: tuple[int, int]
    ) -> StreamSegment:
        start_s, end_s = self.header.time_range_s(*rows)
        count = rows[1] - rows[0]
        damage = Damage(why[0], *segments, rows[0], count, *place, start_s, end_s, why[1])
        return StreamSegment(segments[0], rows[0], count, damage=damage)

    def _decoded(self, part: StreamSegment) -> StreamSegment:
        found = self._plan.segments[part.index]
        payload = self._source.read(found.offset + SEGMENT_HEADER_BYTES, found.payload_bytes)
        try:
            content = decode_segment(self.header, self.model, found, payload)
        except SegmentError as error:
            rows = (found.first_row, found.end_row)
            place = (found.offset, min(found.end, self._source.size))
            return self._damaged((error.kind, str(error)), (part.index, 1), rows, place)
        return replace(part, content=content)

    def _joined(self, parts: list[StreamSegment]) -> StreamTokens:
        damage = tuple(part.damage for part in parts if part.damage)
        if parts and len(damage) == len(parts):
            raise CorruptInput(
                f"None of the stream's segments can be decoded; the first: {damage[0]}. Copy the stream again."
            )
        parts, cut = self._without_endless_loss(parts)
        first_row = parts[0].first_row if parts else 0
        header = self.header
        rows = np.zeros((sum(part.num_rows for part in parts), len(header.columns)), dtype=np.int64)
        frames: list[int] = []
        scales: list[float] = []
        for part in parts:
            if part.content:
                place = part.first_row - first_row
                rows[place : place + part.num_rows] = part.content.rows
            own_frames, own_scales = self._segmentation(part)
            frames += own_frames
            scales += own_scales
        if header.has_scales and not header.has_codec_segments:
            scales = next((list(part.content.scales) for part in parts if part.content), [0.0])
        is_whole = first_row == 0 and len(rows) == header.num_rows and not cut
        tokens = header.layout.to_tokens(
            rows,
            num_samples=header.num_samples if is_whole else None,
            segment_frames=tuple(frames),
            scales=tuple(scales),
        )
        return StreamTokens(tokens, first_row, header.start_of_row(first_row), damage, self.notes)

    def _segmentation(self, part: StreamSegment) -> tuple[list[int], list[float]]:
        """Return frames and scales of the codec's segments in a part; full ones where it is lost."""
        if part.content:
            return list(part.content.codec_segment_frames), list(part.content.scales)
        full = self.header.codec_segment_frames
        if not full or not part.num_rows:
            return [], []
        frames = [full] * (part.num_rows // full) + [part.num_rows % full] * (part.num_rows % full > 0)
        return frames, [0.0] * (len(frames) * self.header.has_scales)

    def _without_endless_loss(self, parts: list[StreamSegment]) -> tuple[list[StreamSegment], bool]:
        """Leave out what is missing at the end where it is far more than what is there.

        Raises:
            CorruptInput: It is missing before the end.
        """
        rate_hz, columns = self.header.format.frame_rates_hz[0], len(self.header.columns)
        intact = sum(part.num_rows for part in parts if part.content)
        lost = sum(part.num_rows for part in parts if part.damage)
        limit = max(2 * intact, min(MAX_FILLED_S * rate_hz, MAX_FILLED_CODES // columns))
        end = len(parts)
        while lost > limit and parts[end - 1].damage:
            lost -= parts[end - 1].num_rows
            end -= 1
        if lost > limit:
            raise CorruptInput(
                f"{lost} rows ({lost / rate_hz:.0f} s) of codes are lost and {intact} are there; read what there is "
                "with StreamReader.segments, which fills nothing in."
            )
        return parts[:end], end < len(parts)


def check_stretch(length_s: float, start_s: float, end_s: float | None) -> None:
    """Refuse a stretch of time of which a recording holds nothing; all of it may be empty.

    Args:
        length_s: Of the recording, in seconds.
        start_s: Beginning in seconds.
        end_s: End in seconds; None for the end of the recording.

    Raises:
        UnsupportedInput: Times that are negative or not finite, that end before they begin, or outside of the
            recording.
    """
    if start_s == 0 and end_s is None:
        return
    if not all(math.isfinite(time_s) and time_s >= 0 for time_s in (start_s, end_s or 0.0)):
        until = "on" if end_s is None else f"to {end_s} s"
        raise UnsupportedInput(
            f"A stretch from {start_s} s {until} is none; give seconds from 0 on, or no end for all of it."
        )
    if end_s is not None and not start_s < end_s:
        raise UnsupportedInput(f"A stretch from {start_s} to {end_s} s is none; give the end after the start.")
    if start_s >= length_s:
        raise UnsupportedInput(
            f"A stretch from {start_s} s on lies outside of the recording, which is {length_s:.3f} s long; start "
            "within it."
        )


def _with_rows_as(dtype: np.dtype, part: StreamSegment) -> StreamSegment:
    if part.content is None:
        return part
    return replace(part, content=replace(part.content, rows=part.content.rows.astype(dtype)))
