"""Find a stream's header and segments, by its footer, or by their marks where the footer is damaged."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import BinaryIO

from codecbook.coding.ecdc.header import MAGIC as ECDC_MAGIC
from codecbook.coding.stream import header as headers
from codecbook.coding.stream.header import HEADER_MAGIC, TAIL_BYTES, StreamHeader
from codecbook.coding.stream.segment import (
    SEGMENT_HEADER_BYTES,
    SEGMENT_MAGIC,
    SegmentError,
    SegmentHeader,
    unpack_segment_header,
)
from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput

StreamLike = bytes | bytearray | memoryview | str | Path | BinaryIO
_BLOCK_BYTES = 1 << 20


class StreamSource:
    """A stream's bytes, read where they are wanted; nothing is kept.

    Args:
        stream: The bytes, a path, or a binary file that can seek.

    Raises:
        MissingInput: There is no such file.
        UnsupportedInput: Something else, or a file that cannot seek.
    """

    def __init__(self, stream: StreamLike) -> None:
        self._owned = isinstance(stream, str | Path)
        if isinstance(stream, str | Path):
            path = Path(stream)
            if not path.is_file():
                raise MissingInput(f"There is no stream at {path}; check the path.")
            self._file: BinaryIO = path.open("rb")
        elif isinstance(stream, bytes | bytearray | memoryview):
            self._file = io.BytesIO(stream)
        else:
            self._file = stream
        try:
            self.size = self._file.seek(0, io.SEEK_END)
        except (AttributeError, OSError, TypeError) as error:
            raise UnsupportedInput(
                f"A stream is given as bytes, a path or a binary file that can seek; received {type(stream).__name__}."
            ) from error

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes; fewer where the stream ends before."""
        if offset >= self.size or count <= 0 or offset < 0:
            return b""
        self._file.seek(offset)
        return self._file.read(min(count, self.size - offset))

    def find(self, marker: bytes, start: int) -> Iterator[int]:
        """Yield where a marker occurs, from `start` on, in memory that does not grow."""
        while start < self.size:
            block = self.read(start, _BLOCK_BYTES)
            place = block.find(marker)
            while place >= 0:
                yield start + place
                place = block.find(marker, place + 1)
            if start + len(block) >= self.size:
                return
            start += len(block) - len(marker) + 1

    def __enter__(self) -> "StreamSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close a file that was opened here."""
        if self._owned:
            self._file.close()


@dataclass(frozen=True)
class Located:
    """A stream's plan."""

    header: StreamHeader
    header_bytes: int  # length of a header block
    segments: dict[int, SegmentHeader]  # those found, by number
    offsets: list[int] | None  # where each begins as the index says it; None where the index is of no use
    refused: dict[int, tuple[str, str]]  # kind of damage and reason of those not to be decoded, by number
    end_of_segments: int  # where the footer begins, or the stream ends
    notes: tuple[str, ...]  # what is wrong with parts that are there twice


def locate(source: StreamSource) -> Located:
    """Find everything that can be found in a stream.

    Raises:
        CorruptInput: Neither copy of the header can be read, or this is no stream of codecbook at all.
        UnsupportedInput: A later version of the format.
    """
    notes: list[str] = []
    lead, lead_bytes, problem = _header_at(source, 0)
    footer = _footer_offset(source)
    copy, copy_bytes, _ = _header_at(source, footer) if footer else (None, 0, None)
    if isinstance(problem, UnsupportedInput):
        raise problem
    header, header_bytes = (lead, lead_bytes) if lead else (copy, copy_bytes)
    if header is None:
        header, header_bytes = _search_header(source, problem)
    if lead is None:
        notes.append(f"The first copy of the header is damaged ({problem}); the second was used.")
    start = lead_bytes if lead else 0
    index = None
    if not footer:
        notes.append("The last bytes are not the stream's: it is cut off, goes on, or is damaged; it was searched.")
    elif copy != header:
        notes.append("The second copy of the header is damaged, or of another stream; segments were searched.")
    else:
        index = _index_at(source, header, footer + copy_bytes)
        if index is None:
            notes.append("The index of segments is damaged; they were searched.")
    end = footer or source.size
    if index is None:
        segments, offsets, refused = _scan(source, header, start, notes), None, {}
    else:
        segments, refused = _indexed(source, header, index)
        offsets = [offset for offset, _ in index]
        notes += _out_of_place(offsets, segments, header_bytes, end)
    refused.update(_overlapping(segments))
    refused.update(_misplaced(header, segments, refused))
    return Located(header, header_bytes, segments, offsets, refused, end, tuple(notes))


def _header_at(source: StreamSource, offset: int) -> tuple[StreamHeader | None, int, CodecbookError | None]:
    """Return the header at a place and its length, or what is wrong with it."""
    length = headers.header_block_bytes(source.read(offset, headers.HEADER_FRAME_BYTES))
    if length == 0:
        return None, 0, CorruptInput("there is no mark of a header")
    try:
        return headers.unpack_header(source.read(offset, length)), length, None
    except CodecbookError as error:
        return None, length, error


def _footer_offset(source: StreamSource) -> int:
    """Return where the footer begins, or 0 where the last bytes do not say."""
    try:
        return headers.unpack_tail(source.read(source.size - TAIL_BYTES, TAIL_BYTES), source.size)
    except CorruptInput:
        return 0


def _search_header(source: StreamSource, problem: CodecbookError | None) -> tuple[StreamHeader, int]:
    for offset in source.find(HEADER_MAGIC, 1):
        header, length, other = _header_at(source, offset)
        if header:
            return header, length
        if isinstance(other, UnsupportedInput):
            raise other
    start = source.read(0, len(HEADER_MAGIC))
    if start.startswith(ECDC_MAGIC):
        raise UnsupportedInput("This is an .ecdc stream of EnCodec; read it with codecbook.coding.ecdc.read_ecdc.")
    if start != HEADER_MAGIC:
        raise CorruptInput(
            f"This is no stream of codecbook, or its beginning and end are lost: {source.size} bytes that begin with "
            f"{start!r} instead of {HEADER_MAGIC!r}. Check which file it is."
        )
    raise CorruptInput(f"No copy of the stream's header can be read ({problem}); copy the stream again.")


def _index_at(source: StreamSource, header: StreamHeader, offset: int) -> list[tuple[int, int]] | None:
    length = headers.index_block_bytes(header.num_segments)
    if offset + length + TAIL_BYTES != source.size:
        return None
    try:
        return headers.unpack_index(source.read(offset, length), header.num_segments, header.stream_id)
    except CorruptInput:
        return None


def _indexed(
    source: StreamSource, header: StreamHeader, index: list[tuple[int, int]]
) -> tuple[dict[int, SegmentHeader], dict[int, tuple[str, str]]]:
    segments: dict[int, SegmentHeader] = {}
    refused: dict[int, tuple[str, str]] = {}
    for number, (offset, crc) in enumerate(index):
        try:
            segment = _segment_at(source, header, offset)
        except SegmentError as error:
            refused[number] = (error.kind, str(error))
            continue
        if segment.index != number or segment.crc != crc:
            refused[number] = ("header", "its header is intact, but not the one that the index was made for")
            continue
        segments[number] = segment
    return segments, refused


def _out_of_place(offsets: list[int], segments: dict[int, SegmentHeader], start: int, end: int) -> list[str]:
    """Return a note where an index that is intact leaves gaps between segments, or has them in another order."""
    expected: int | None = start
    for number, offset in enumerate([*offsets, end]):
        if expected not in (None, offset):
            part = f"segment {number}" if number < len(offsets) else "the second copy of the header"
            return [
                f"Bytes {expected} to {offset} belong to no segment, or segments are in another order than their "
                f"numbers: {part} begins at byte {offset}, not {expected}. All were read where the index says."
            ]
        # where a segment ends whose header is lost is not known
        expected = segments[number].end if number in segments else None
    return []


def _scan(source: StreamSource, header: StreamHeader, start: int, notes: list[str]) -> dict[int, SegmentHeader]:
    """Go from segment to segment, and search for the next mark where none follows; time linear in the length."""
    segments: dict[int, SegmentHeader] = {}
    while start < source.size:
        found = _first_segment(source, header, start)
        if found is None:
            break
        if found.index in segments:
            notes.append(f"Segment {found.index} is there twice; its first copy was used.")
        segments.setdefault(found.index, found)
        # a segment that lost some of its bytes reaches into the next one, whose mark then lies before its end
        whole = found.end == source.size or _begins_block(source, header, found.end)
        start = found.end if whole else found.offset + SEGMENT_HEADER_BYTES
    return segments


def _first_segment(source: StreamSource, header: StreamHeader, start: int) -> SegmentHeader | None:
    # mostly it is right here, and no block need be read to search it
    for offset in chain([start], source.find(SEGMENT_MAGIC, start)):
        try:
            return _segment_at(source, header, offset)
        except SegmentError:
            continue
    return None


def _segment_at(source: StreamSource, header: StreamHeader, offset: int) -> SegmentHeader:
    return unpack_segment_header(source.read(offset, SEGMENT_HEADER_BYTES), header, offset)


def _begins_block(source: StreamSource, header: StreamHeader, offset: int) -> bool:
    if source.read(offset, len(HEADER_MAGIC)) == HEADER_MAGIC:
        return True
    try:
        _segment_at(source, header, offset)
    except SegmentError:
        return False
    return True


def _overlapping(segments: dict[int, SegmentHeader]) -> dict[int, tuple[str, str]]:
    """Return which segments reach into the next: they have lost bytes, and need not be read."""
    in_place = sorted(segments.values(), key=lambda found: found.offset)
    return {
        found.index: (
            "payload",
            f"it should be {found.end - found.offset} bytes long, and segment {after.index} begins "
            f"{after.offset - found.offset} bytes after its beginning: bytes are lost",
        )
        for found, after in pairwise(in_place)
        if found.end > after.offset
    }


def _misplaced(
    header: StreamHeader, segments: dict[int, SegmentHeader], refused: dict[int, tuple[str, str]]
) -> dict[int, tuple[str, str]]:
    """Return which segments contradict those before them, or leave too few rows for those that are missing."""
    wrong: dict[int, tuple[str, str]] = {}
    next_index, row = 0, 0
    for number in sorted(segments.keys() - refused.keys()):
        found = segments[number]
        missing = number - next_index
        if not row + missing <= found.first_row <= row + missing * header.rows_per_segment:
            reason = f"its header says that it begins at row {found.first_row}, which does not follow row {row}"
            wrong[number] = ("position", reason)
            continue
        if number + 1 == header.num_segments and found.end_row != header.num_rows:
            wrong[number] = ("position", f"it is the last, and ends at row {found.end_row} of {header.num_rows}")
            continue
        next_index, row = number + 1, found.end_row
    return wrong
