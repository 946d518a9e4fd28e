"""Find a stream's header and segments, by its footer, or by their marks where the footer is damaged."""

import bisect
import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import BinaryIO

from codecbook.coding.ecdc.header import MAGIC as ECDC_MAGIC
from codecbook.coding.stream import header as headers
from codecbook.coding.stream.header import HEADER_MAGIC, MAX_HEADER_BYTES, TAIL_BYTES, StreamHeader, pack_header
from codecbook.coding.stream.segment import (
    SEGMENT_HEADER_BYTES,
    SEGMENT_MAGIC,
    Damage,
    SegmentError,
    SegmentHeader,
    damage_of,
    unpack_segment_header,
)
from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput

StreamLike = bytes | bytearray | memoryview | str | Path | BinaryIO
_BLOCK_BYTES = 1 << 20
_MISSING = ("missing", "not found: the bytes, or the mark that begins them, are lost")
_Found = dict[int, SegmentHeader]  # by number
_Refused = dict[int, tuple[str, str]]  # kind and reason of those not to be decoded, by number


class StreamSource:
    """A stream's bytes, read where they are wanted; nothing is kept."""

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
        if not 0 <= offset < self.size:
            return b""
        self._file.seek(offset)
        return self._file.read(min(count, self.size - offset))

    def find(self, marker: bytes, start: int) -> Iterator[int]:
        """Yield where a marker occurs, from `start` on, in memory that does not grow."""
        while start < self.size:
            block = self.read(start, _BLOCK_BYTES)
            yield from (start + match.start() for match in re.finditer(re.escape(marker), block))
            if start + len(block) >= self.size:
                return
            start += len(block) - len(marker) + 1

    def close(self) -> None:
        """Close a file that was opened here."""
        if self._owned:
            self._file.close()


def locate(
    source: StreamSource,
) -> tuple[StreamHeader, list[SegmentHeader], list[SegmentHeader | Damage], tuple[str, ...]]:
    """Find everything that can be found in a stream.

    Returns its header; all segments that are there, as they lie in the stream; by number, those to be decoded and what
    is known to be lost between them; and what is wrong with parts that are there twice. Where neither copy of the
    header can be read, or this is no stream of codecbook, CorruptInput is raised; for a later version UnsupportedInput.
    """
    notes: list[str] = []
    lead = _header_at(source, 0)
    footer = headers.unpack_tail(source.read(source.size - TAIL_BYTES, TAIL_BYTES), source.size)
    copy = _header_at(source, footer) if footer else None
    if isinstance(lead, UnsupportedInput):
        raise lead
    if isinstance(lead, StreamHeader):
        header = lead
    else:
        header = copy if isinstance(copy, StreamHeader) else _search_header(source, lead)
        notes.append(f"The first copy of the header is damaged ({lead}); the second was used.")
    header_bytes = len(pack_header(header))
    index, end = None, footer or source.size
    if not footer:
        notes.append("The last bytes are not the stream's: it is cut off, goes on, or is damaged; it was searched.")
    elif copy != header:
        notes.append("The second copy of the header is damaged, or of another stream; segments were searched.")
    else:
        length, place = headers.index_bytes(header.num_segments), footer + header_bytes
        if place + length + TAIL_BYTES == source.size:
            index = headers.unpack_index(source.read(place, length), header)
        if index is None:
            notes.append("The index of segments is damaged; they were searched.")
    if index is None:
        offsets: list[int] = []
        segments, refused = _scan(source, header, header_bytes if header is lead else 0, notes), {}
    else:
        offsets = [*(offset for offset, _ in index), end]
        segments, refused = _indexed(source, header, index)
        notes += _out_of_place(offsets, segments, header_bytes)
    in_place = sorted(segments.values(), key=lambda segment: segment.offset)
    refused |= _overlapping(in_place)
    refused |= _misplaced(header, segments, refused)
    parts = _parts(header, segments, refused, offsets, header_bytes, end)
    return header, in_place, list(parts), tuple(notes)


def _header_at(source: StreamSource, offset: int) -> StreamHeader | CodecbookError:
    """Return the header at a place, or what is wrong with it."""
    try:
        return headers.unpack_header(source.read(offset, MAX_HEADER_BYTES))
    except CodecbookError as error:
        return error


def _search_header(source: StreamSource, problem: CodecbookError) -> StreamHeader:
    for offset in source.find(HEADER_MAGIC, 1):
        header = _header_at(source, offset)
        if isinstance(header, StreamHeader):
            return header
        if isinstance(header, UnsupportedInput):
            raise header
    start = source.read(0, len(HEADER_MAGIC))
    if start.startswith(ECDC_MAGIC):
        raise UnsupportedInput("This is an .ecdc stream of EnCodec; read it with codecbook.coding.ecdc.read_ecdc.")
    if start != HEADER_MAGIC:
        raise CorruptInput(
            f"This is no stream of codecbook, or its beginning and end are lost: {source.size} bytes that begin with "
            f"{start!r} instead of {HEADER_MAGIC!r}. Check which file it is."
        )
    raise CorruptInput(f"No copy of the stream's header can be read ({problem}); copy the stream again.")


def _indexed(source: StreamSource, header: StreamHeader, index: list[tuple[int, int]]) -> tuple[_Found, _Refused]:
    segments: _Found = {}
    refused: _Refused = {}
    for number, (offset, crc) in enumerate(index):
        try:
            segment = _segment_at(source, header, offset)
        except SegmentError as error:
            refused[number] = error.args
            continue
        if segment.index != number or segment.crc != crc:
            refused[number] = ("header", "its header is intact, but not the one that the index was made for")
            continue
        segments[number] = segment
    return segments, refused


def _out_of_place(offsets: list[int], segments: _Found, start: int) -> list[str]:
    """Return a note where an index that is intact leaves gaps between segments, or has them in another order."""
    expected: int | None = start
    for number, offset in enumerate(offsets):
        if expected not in (None, offset):
            part = f"segment {number}" if number < len(offsets) - 1 else "the second copy of the header"
            return [
                f"Bytes {expected} to {offset} belong to no segment, or segments are in another order than their "
                f"numbers: {part} begins at byte {offset}, not {expected}. All were read where the index says."
            ]
        # where a segment ends whose header is lost is not known
        expected = segments[number].end if number in segments else None
    return []


def _scan(source: StreamSource, header: StreamHeader, start: int, notes: list[str]) -> _Found:
    """Go from segment to segment, and search for the next mark where none follows; time linear in the length."""
    segments: _Found = {}
    # mostly the next one is right here, and no block need be read to search it
    while (found := _first_segment(source, header, chain([start], source.find(SEGMENT_MAGIC, start)))) is not None:
        if found.index in segments:
            notes.append(f"Segment {found.index} is there twice; its first copy was used.")
        segments.setdefault(found.index, found)
        # a segment that lost some of its bytes reaches into the next one, whose mark then lies before its end
        is_whole = (
            found.end == source.size
            or source.read(found.end, len(HEADER_MAGIC)) == HEADER_MAGIC
            or _first_segment(source, header, [found.end]) is not None
        )
        start = found.end if is_whole else found.offset + SEGMENT_HEADER_BYTES
    return segments


def _first_segment(source: StreamSource, header: StreamHeader, offsets: Iterable[int]) -> SegmentHeader | None:
    for offset in offsets:
        try:
            return _segment_at(source, header, offset)
        except SegmentError:
            continue
    return None


def _segment_at(source: StreamSource, header: StreamHeader, offset: int) -> SegmentHeader:
    return unpack_segment_header(source.read(offset, SEGMENT_HEADER_BYTES), header, offset)


def _overlapping(in_place: list[SegmentHeader]) -> _Refused:
    """Return which segments reach into the next: they have lost bytes, and need not be read."""
    return {
        found.index: (
            "payload",
            f"it should be {found.end - found.offset} bytes long, and segment {after.index} begins "
            f"{after.offset - found.offset} bytes after its beginning: bytes are lost",
        )
        for found, after in pairwise(in_place)
        if found.end > after.offset
    }


def _misplaced(header: StreamHeader, segments: _Found, refused: _Refused) -> _Refused:
    """Return which segments contradict those before them, or leave too few rows for those that are missing."""
    wrong: _Refused = {}
    next_index, row = 0, 0
    for number in sorted(segments.keys() - refused.keys()):
        found = segments[number]
        missing = number - next_index
        if not row + missing <= found.first_row <= row + missing * header.rows_per_segment:
            reason = f"its header says that it begins at row {found.first_row}, which does not follow row {row}"
            wrong[number] = ("position", reason)
        elif number + 1 == header.num_segments and found.end_row != header.num_rows:
            wrong[number] = ("position", f"it is the last, and ends at row {found.end_row} of {header.num_rows}")
        else:
            next_index, row = number + 1, found.end_row
    return wrong


def _parts(
    header: StreamHeader, segments: _Found, refused: _Refused, offsets: list[int], start: int, end: int
) -> Iterator[SegmentHeader | Damage]:
    """Yield by number the segments that can be decoded, and between them what is lost.

    `offsets` say where each segment begins, and the footer, as the index has it; they are empty where it is of no use.
    """
    known_lost = sorted(refused)
    usable = [segments[number] for number in sorted(segments.keys() - refused.keys())]
    number, row, place = 0, 0, start
    for following in (*usable, None):
        if following is None:
            after, end_row, place_end = header.num_segments, header.num_rows, max(place, end)
        else:
            after, end_row, place_end = following.index, following.first_row, following.offset
        alone = known_lost[bisect.bisect_left(known_lost, number) : bisect.bisect_left(known_lost, after)]
        for first, count in _runs(number, after, alone):
            left = after - first - count
            rows_end = min(row + count * header.rows_per_segment, end_row - left) if left else end_row
            bounds, found = (place, place_end), segments.get(first)
            if offsets:
                bounds = (offsets[first], offsets[first + 1])
            elif found:
                bounds = (found.offset, min(found.end, place_end))
            yield damage_of(header, refused.get(first, _MISSING), (first, count), (row, rows_end), bounds)
            row = rows_end
        if following is not None:
            yield following
            number, row, place = following.index + 1, following.end_row, following.end


def _runs(first: int, end: int, alone: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield (number, how many) of lost segments: some alone, all between them together, as there may be billions."""
    for number in [*alone, end]:
        if number > first:
            yield first, number - first
        if number < end:
            yield number, 1
        first = number + 1
