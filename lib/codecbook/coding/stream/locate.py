"""Find a stream's header and segments, by its footer, or by their marks where the footer is damaged."""

import contextlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from types import ModuleType
from typing import BinaryIO
from zlib import crc32

from codecbook.coding.ecdc.header import MAGIC as ECDC_MAGIC
from codecbook.coding.stream import version1, version2
from codecbook.coding.stream.header import HEADER_MAGIC, MAX_HEADER_BYTES, StreamHeader, is_sealed, open_header
from codecbook.coding.stream.inner_code import HEAD_BYTES, find_inner_code, remove_inner_code
from codecbook.coding.stream.parity import group_of, restore
from codecbook.coding.stream.segment import Damage, SegmentError, SegmentHeader, damage_of
from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput

StreamLike = bytes | bytearray | memoryview | str | Path | BinaryIO
_BLOCK_BYTES = 1 << 20
_MISSING = ("missing", "not found: its bytes are lost, or the header that begins them is damaged")
VERSIONS: dict[int, ModuleType] = {2: version2, 1: version1}
"""What reads each version of the format."""
_Found = dict[int, SegmentHeader]  # by number
_Refused = dict[int, tuple[str, str]]  # kind and reason of those not to be decoded, by number


class StreamSource:
    """A stream's bytes, read where they are wanted; nothing is kept, but of a stream with an inner code all.

    Attributes:
        size: Bytes of the stream, without an inner code.
        stored_bytes: And with it.
        notes: What the inner code has corrected.
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
        self.stored_bytes, self.notes = self.size, list[str]()
        first = self.read(0, HEAD_BYTES)
        if first.startswith(HEADER_MAGIC) or self.size < 2 * HEAD_BYTES:
            return
        if found := find_inner_code(first, self.read(self.size - HEAD_BYTES, HEAD_BYTES), self.size):
            data, note = remove_inner_code(self.read(0, self.size), *found)
            self.close()
            self._file, self._owned, self.size = io.BytesIO(data), True, len(data)
            self.notes += [note] if note else []

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes; fewer where the stream ends before."""
        if not 0 <= offset < self.size:
            return b""
        self._file.seek(offset)
        return self._file.read(min(count, self.size - offset))

    def find(self, marks: Iterable[bytes], start: int) -> Iterator[int]:
        """Yield where one of these marks occurs, from `start` on, in memory that does not grow."""
        pattern, longest = re.compile(b"|".join(map(re.escape, marks))), max(map(len, marks))
        while start < self.size:
            block = self.read(start, _BLOCK_BYTES)
            yield from (start + match.start() for match in pattern.finditer(block))
            if start + len(block) >= self.size:
                return
            start += len(block) - longest + 1

    def close(self) -> None:
        """Close a file that was opened here."""
        if self._owned:
            self._file.close()


class Located:
    """Everything that can be found in a stream.

    Attributes:
        header: What the stream says of itself.
        version: The module that reads its version.
        in_place: All segments that are there, as they lie in the stream.
        parities: Those of parity, by number.
        parts: By number, those to be decoded and what is known to be lost between them.
        notes: What is wrong with parts that are there twice, and what was restored.

    Where neither copy of the header can be read, or this is no stream of codecbook, CorruptInput is raised; for a later
    version UnsupportedInput.
    """

    def __init__(self, source: StreamSource) -> None:
        self._source, self.notes = source, source.notes
        lead, copy, footer = _headers(source)
        if isinstance(lead, StreamHeader):
            header = lead
        else:
            header = copy if isinstance(copy, StreamHeader) else _search_header(source, lead)
            self.notes.append(f"The first copy of the header is damaged ({lead}); the second was used.")
        self.header, self.version = header, VERSIONS[header.version]
        if not footer:
            self.notes.append("The last bytes are not the stream's: it is cut off, goes on, or is damaged.")
        elif copy != header:
            self.notes.append("The second copy of the header is damaged, or of another stream.")
        else:
            place = footer + self.version.copy_bytes(header)
            if not is_sealed(source.read(place, source.size - self.version.TAIL_BYTES - place), header.stream_id):
                self.notes.append("The index of segments is damaged.")
        self.parities: _Found = {}
        start = header.block_bytes if header is lead else 0
        segments = self._scan(start, start or -1, footer if copy == header else -1)
        self.in_place = list(segments.values())
        refused = _overlapping(self.in_place)
        # with parity all payloads are checked at once, so that what is damaged is restored before it is decoded
        self._usable = {
            number: found for number, found in segments.items()
            if number not in refused and (header.parity is None or self._intact(found))
        }  # fmt: skip
        for number in self.parities:
            for found in self._restored(number):
                segments[found.index] = found
                refused.pop(found.index, None)
        refused |= _misplaced(header, segments, refused)
        self.parts = list(_parts(header, segments, refused, header.block_bytes, footer or source.size))

    def _restored(self, number: int) -> list[SegmentHeader]:
        """Restore what is lost of the segments that a segment of parity stands for."""
        parity, group = self.header.parity, group_of(self.header, number)
        assert parity is not None, "only a stream with parity has such segments"
        if all(index in self._usable for index in group):
            return []
        first = number // parity.groups // parity.parity * parity.parity * parity.groups + number % parity.groups
        heads = [self.parities.get(first + i * parity.groups) for i in range(parity.parity)]
        lengths = next((head.lengths for head in heads if head), ())
        intact = [self._intact(head) if head and head.lengths == lengths else None for head in heads]
        payloads = {i: data[-max(lengths) :] for i, data in enumerate(intact) if data}
        if not payloads:
            return []
        members = {i: data for i, index in enumerate(group) if (data := self._intact(self._usable.get(index)))}
        members = {i: data for i, data in members.items() if len(data) == lengths[i]}
        restored = []
        for i, data in restore(members, payloads, lengths).items():
            try:
                found = self.version.unpack_head(data, self.header, 0)
            except SegmentError:
                continue
            if not found.lengths and found.index == group[i] and found.end == len(data):
                self.notes.append(f"Segment {found.index} was lost or damaged, and was restored from parity.")
                self._usable[found.index] = found = replace(found, restored=data)
                restored.append(found)
        return restored

    def _intact(self, found: SegmentHeader | None) -> bytes | None:
        """Return all bytes of a segment whose payload's checksum is right."""
        if found is None or found.restored is not None:
            return found and found.restored
        data = self._source.read(found.offset, found.end - found.offset)
        is_intact = found.offset + len(data) == found.end and crc32(data[found.head_bytes :]) == found.payload_crc
        return data if is_intact else None

    def _scan(self, start: int, expected: int, footer: int) -> _Found:
        """Go from segment to segment, and search for the next mark where none follows; time linear in the length.

        The first one is expected where the header ends; -1 where that is not known.
        """
        segments: _Found = {}
        source, marks, number, odd = self._source, self.version.SEGMENT_MARKS, -1, list[str]()
        found = self._first_segment(chain([start], source.find(marks, start)))
        while found is not None:
            if found.lengths:
                self.parities.setdefault(found.index, found)
            elif found.index in segments:
                self.notes.append(f"Segment {found.index} is there twice; its first copy was used.")
            else:
                segments[found.index] = found
                if found.index < number or (found.index == number + 1 and -1 < expected < found.offset):
                    odd.append(f"segment {found.index} begins at byte {found.offset}, not {expected}")
                number = found.index
            expected = found.end
            following = self._first_segment([expected])
            if following is None:
                # a segment that lost some of its bytes reaches into the next one, whose mark then lies before its end
                is_end = expected == source.size or isinstance(_header_at(source, expected, self.version), StreamHeader)
                start = expected if is_end else found.offset + found.head_bytes
                following = self._first_segment(source.find(marks, start))
            found = following
        if number + 1 == self.header.num_segments and -1 < expected < footer:
            odd.append(f"the second copy of the header begins at byte {footer}, not {expected}")
        if odd:
            self.notes.append(f"Bytes are of no segment, or segments are not in the order of their numbers: {odd[0]}.")
        return segments

    def _first_segment(self, offsets: Iterable[int]) -> SegmentHeader | None:
        for offset in offsets:
            data = self._source.read(offset, self.version.MAX_HEAD_BYTES)
            with contextlib.suppress(SegmentError):
                return self.version.unpack_head(data, self.header, offset)
        return None


def unpack_header(data: bytes, copy_of: ModuleType | None = None) -> StreamHeader:
    """Parse the header block that `data` begins with, or the second copy of a version; `MAX_HEADER_BYTES` at most.

    Raises:
        CorruptInput: There is none, it is damaged, or contradicts itself.
        UnsupportedInput: It is intact, and of a later version of the format.
    """
    if copy_of is None:
        number, body = open_header(data)
        if number not in VERSIONS:
            raise UnsupportedInput(
                f"The stream is of version {number}; {min(VERSIONS)} to {max(VERSIONS)} are read: update codecbook."
            )
        version = VERSIONS[number]
    else:
        version, body = copy_of, copy_of.open_copy(data)
    try:
        header = version.unpack_body(body)
        is_canonical = version is version1 or open_header(version2.pack_header(header))[1] == body
    except (ValueError, ArithmeticError, LookupError) as error:
        raise CorruptInput(f"The header contradicts itself ({error}); encode the recording again.") from error
    if not is_canonical:
        raise CorruptInput("The header is not as its fields are written; encode the recording again.")
    return header


def _header_at(source: StreamSource, offset: int, copy_of: ModuleType | None = None) -> StreamHeader | CodecbookError:
    """Return the header at a place, or what is wrong with it."""
    try:
        return unpack_header(source.read(offset, MAX_HEADER_BYTES), copy_of)
    except CodecbookError as error:
        return error


def _headers(source: StreamSource) -> tuple[StreamHeader | CodecbookError, StreamHeader | CodecbookError | None, int]:
    """Return the first copy of the header, the second and where it begins, 0 where the tail is damaged."""
    lead = _header_at(source, 0)
    if isinstance(lead, UnsupportedInput):
        raise lead
    versions = [VERSIONS[lead.version]] if isinstance(lead, StreamHeader) else VERSIONS.values()
    for version in versions:
        footer = version.unpack_tail(source.read(source.size - version.TAIL_BYTES, version.TAIL_BYTES), source.size)
        copy = _header_at(source, footer, version) if footer else None
        if footer and (len(versions) == 1 or isinstance(copy, StreamHeader)):
            return lead, copy, footer
    return lead, None, 0


def _search_header(source: StreamSource, problem: CodecbookError) -> StreamHeader:
    for offset in source.find([version.COPY_MARK for version in VERSIONS.values()], 1):
        for version in VERSIONS.values():
            header = _header_at(source, offset, version)
            if isinstance(header, StreamHeader):
                return header
    start = source.read(0, len(HEADER_MAGIC))
    if start.startswith(ECDC_MAGIC):
        raise UnsupportedInput("This is an .ecdc stream of EnCodec; read it with codecbook.coding.ecdc.read_ecdc.")
    if start != HEADER_MAGIC:
        raise CorruptInput(f"{source.size} bytes that begin with {start!r} are no stream of codecbook; check the file.")
    raise CorruptInput(f"No copy of the stream's header can be read ({problem}); copy the stream again.")


def _overlapping(in_place: list[SegmentHeader]) -> _Refused:
    """Return which segments reach into the next: they have lost bytes, and need not be read."""
    return {
        found.index: (
            "payload",
            f"it should end at byte {found.end}, and segment {after.index} begins at {after.offset}: bytes are lost",
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
    header: StreamHeader, segments: _Found, refused: _Refused, start: int, end: int
) -> Iterator[SegmentHeader | Damage]:
    """Yield by number the segments that can be decoded, and between them what is lost."""
    lost: list[tuple[int, int]] = []  # number and how many, since the last one that can be decoded
    number, row, place = 0, 0, start
    for following in (*(segments[index] for index in sorted(segments)), None):
        after = header.num_segments if following is None else following.index
        if after > number:  # all together, as there may be billions
            lost.append((number, after - number))
        number = after + 1
        if after in refused:
            lost.append((after, 1))
            continue
        end_row, place_end = header.num_rows, max(place, end)
        if following is not None:
            end_row = following.first_row
            place_end = place if following.restored is not None else max(place, following.offset)
        for first, count in lost:
            left = after - first - count
            rows_end = min(row + count * header.rows_per_segment, end_row - left) if left else end_row
            found = segments.get(first)
            where = (found.offset, min(found.end, place_end)) if found else (place, place_end)
            yield damage_of(header, refused.get(first, _MISSING), (first, count), (row, rows_end), where)
            row = rows_end
        lost = []
        if following is not None:
            yield following
            row = following.end_row
            place = place if following.restored is not None else following.end
