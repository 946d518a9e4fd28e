"""Version 2 of the format, which is written; ``docs/stream-format.md`` is the normative text."""

import binascii
import hashlib
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from codecbook.coding.stream.header import (
    CRC,
    MAX_BODY_BYTES,
    MAX_COLUMNS,
    ROW_ORDERS,
    IndexEntry,
    Parity,
    StreamHeader,
    check_text,
    digest_bytes,
    frame_header,
    is_sealed,
    sealed,
    side_error,
)
from codecbook.coding.stream.segment import Segment, SegmentError, SegmentHeader, check_claims
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import TokenFormat

VERSION = 2
DIGEST_BYTES = 6
"""What is kept of the SHA-256 of weights: what error messages show of it."""
SEGMENT_MARK, PARITY_MARK, COPY_MARK, _TAIL_MARK = b"\xc5S", b"\xc5P", b"\xc5H", b"BS"
SEGMENT_MARKS = (SEGMENT_MARK, PARITY_MARK)
MAX_HEAD_BYTES = 2 + 5 * 256 + 16
"""Of a segment's own header: of one of parity, which has the lengths of others."""
TAIL_BYTES = 6
_CODECS = (
    "encodec_24khz", "encodec_48khz", "snac_24khz", "snac_32khz", "snac_44khz", "dac_16khz", "dac_24khz", "dac_44khz",
    "mimi", "neucodec", "lyra_v2", "fsq_50hz", "units_25hz",
)  # fmt: skip
_NO_SAMPLES = (1 << 40) - 1
_FLAGS = (
    "exact", "order", "order", "bandwidth", "digest", "source_bitrate", "mid", "segments", "scales", "count", "parity",
    "audio",
)  # fmt: skip
_FLAG = {name: 1 << _FLAGS.index(name) for name in _FLAGS}


@dataclass(frozen=True)
class ParityHeader:
    """A segment that restores others, as it was found."""

    number: int
    lengths: tuple[int, ...]  # of the segments of its group, all of their bytes
    payload_crc: int
    offset: int
    head_bytes: int

    @property
    def end(self) -> int:
        """Where it ends, exclusive: it is as long as the longest of its group."""
        return self.offset + self.head_bytes + max(self.lengths)


class _Fields:
    """Reads fields one after the other; IndexError where they end too early."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, count: int) -> bytes:
        self.place += count
        if self.place > len(self.data):
            raise IndexError("it ends within a field")
        return self.data[self.place - count : self.place]

    def fixed(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number is longer than ten bytes")

    def number(self) -> float:
        """Read a number of thousandths, or any."""
        value = self.varint()
        return struct.unpack("<d", self.take(8))[0] if value == 1 else value // 2 / 1000

    def rate(self, sample_rate_hz: int) -> float:
        value = self.varint()
        return struct.unpack("<d", self.take(8))[0] if value == 1 else sample_rate_hz / (value // 2)

    def text(self, usual: str) -> str:
        length = self.varint()
        return self.take(length - 1).decode() if length else usual


def _varint(value: int) -> bytes:
    if value < 0:
        raise struct.error(f"{value} is negative")
    data = bytearray()
    while value >= 128:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def _number(value: float) -> bytes:
    thousandths = round(value * 1000) if 0 < value < 1e12 else 0
    if thousandths and thousandths / 1000 == value:
        return _varint(2 * thousandths)
    return b"\x01" + struct.pack("<d", value)


def _rate(rate_hz: float, sample_rate_hz: int) -> bytes:
    step = round(sample_rate_hz / rate_hz) if sample_rate_hz / rate_hz < 1e9 else 0
    return _varint(2 * step) if step and sample_rate_hz / step == rate_hz else b"\x01" + struct.pack("<d", rate_hz)


def _text(text: str, usual: str) -> bytes:
    data = check_text(text)
    return b"\x00" if text == usual else _varint(len(data) + 1) + data


def _body(header: StreamHeader) -> bytes:
    known, parity = header.format, header.parity
    has_count = bool(header.codec_segment_frames) or header.num_segments != -(
        -header.num_rows // header.rows_per_segment
    )
    flags = {
        "exact": header.coder == "exact", "bandwidth": known.bandwidth_kbps is not None,
        "digest": bool(known.weights_sha256), "source_bitrate": known.source_bitrate_kbps is not None,
        "mid": known.mid_codebooks is not None, "segments": header.codec_segment_frames > 0,
        "scales": header.has_scales, "count": has_count, "parity": parity is not None,
        "audio": bool(header.audio_sha256),
    }  # fmt: skip
    data = _varint(sum(_FLAG[name] for name, is_set in flags.items() if is_set) + 2 * ROW_ORDERS.index(header.order))
    data += b"".join(map(_varint, (known.sample_rate_hz, known.channels, header.rows_per_segment)))
    data += struct.pack("<I", header.num_rows)
    data += struct.pack("<I", header.num_segments) if has_count else b""
    samples = _NO_SAMPLES if header.num_samples is None else header.num_samples
    if not 0 <= samples <= _NO_SAMPLES:
        raise struct.error(f"num_samples={header.num_samples} is outside 0..{_NO_SAMPLES - 1}")
    data += samples.to_bytes(5, "little")
    data += b"".join(_number(rate) for rate in (known.bandwidth_kbps, known.source_bitrate_kbps) if rate is not None)
    data += b"" if known.mid_codebooks is None else _varint(known.mid_codebooks)
    if header.codec_segment_frames:
        data += _varint(header.codec_segment_frames) + _varint(header.codec_segment_stride)
    if parity:
        data += _varint(parity.count) + _varint(parity.parity) + _varint(parity.groups)
    data += header.stream_id.ljust(4, b"\0")
    data += digest_bytes(known.weights_sha256, DIGEST_BYTES) if known.weights_sha256 else b""
    data += digest_bytes(header.audio_sha256, 16) if header.audio_sha256 else b""
    books = zip(known.codebook_sizes, known.frame_rates_hz, strict=True)
    runs = [(len(list(alike)), *book) for book, alike in itertools.groupby(books)]
    data += _varint(len(runs))
    for count, size, rate_hz in runs:
        data += _varint(count) + _varint(size) + _rate(rate_hz, known.sample_rate_hz)
    data += _varint(_CODECS.index(known.codec) + 1) if known.codec in _CODECS else b"\0" + _text(known.codec, "-")
    data += _text(known.weights, _usual_weights(known.codec))
    if header.coder == "exact":
        data += digest_bytes(header.lm_sha256, DIGEST_BYTES) + _text(header.lm_name, _usual_lm(known.codec))
    return data


def _usual_weights(codec: str) -> str:
    return f"bundled: {codec}_mini"


def _usual_lm(codec: str) -> str:
    return f"lm_{codec}_mini"


def pack_header(header: StreamHeader) -> bytes:
    """Return the first header block, and refuse a field that it cannot hold."""
    try:
        return frame_header(VERSION, _body(header))
    except struct.error as error:
        raise UnsupportedInput(f"The tokens do not fit a stream's header ({error}); check their fields.") from error


def unpack_body(body: bytes) -> StreamHeader:
    """Parse a header's body; what contradicts itself raises one of many errors."""
    fields = _Fields(body)
    flags = fields.varint()
    is_set = {name: bool(flags & bit) for name, bit in _FLAG.items()}
    order = ROW_ORDERS[flags >> 1 & 3]
    sample_rate_hz, channels, rows_per_segment = fields.varint(), fields.varint(), fields.varint()
    num_rows = fields.fixed(4)
    num_segments = fields.fixed(4) if is_set["count"] else -(-num_rows // rows_per_segment)
    samples = fields.fixed(5)
    bandwidth = fields.number() if is_set["bandwidth"] else None
    source_bitrate = fields.number() if is_set["source_bitrate"] else None
    mid = fields.varint() if is_set["mid"] else None
    segments = (fields.varint(), fields.varint()) if is_set["segments"] else (0, 0)
    parity = Parity(fields.varint(), fields.varint(), fields.varint()) if is_set["parity"] else None
    stream_id = fields.take(4)
    digest = fields.take(DIGEST_BYTES).hex() if is_set["digest"] else ""
    audio = fields.take(16).hex() if is_set["audio"] else ""
    runs: list[tuple[int, int, float]] = []
    for _ in range(fields.varint()):
        runs.append((fields.varint(), fields.varint(), fields.rate(sample_rate_hz)))
        if sum(count for count, _, _ in runs) > MAX_COLUMNS:
            raise CorruptInput(f"{sum(run[0] for run in runs)} codebooks are claimed, of at most {MAX_COLUMNS}")
    number = fields.varint()
    codec = _CODECS[number - 1] if number else fields.text("-")
    weights = fields.text(_usual_weights(codec))
    lm_sha256, lm_name = "", ""
    if is_set["exact"]:
        lm_sha256, lm_name = fields.take(DIGEST_BYTES).hex(), fields.text(_usual_lm(codec))
    if fields.place != len(body):
        raise CorruptInput(f"its fields take {fields.place} bytes, not {len(body)}")
    known = TokenFormat(
        codebook_sizes=tuple(run[1] for run in runs for _ in range(run[0])),
        frame_rates_hz=tuple(run[2] for run in runs for _ in range(run[0])),
        codec=codec, weights=weights, weights_sha256=digest, sample_rate_hz=sample_rate_hz, channels=channels,
        bandwidth_kbps=bandwidth, source_bitrate_kbps=source_bitrate, mid_codebooks=mid,
    )  # fmt: skip
    return StreamHeader(
        format=known, order=order, coder="exact" if is_set["exact"] else "raw", lm_name=lm_name, lm_sha256=lm_sha256,
        rows_per_segment=rows_per_segment, num_rows=num_rows, num_segments=num_segments,
        num_samples=None if samples == _NO_SAMPLES else samples,
        codec_segment_frames=segments[0], codec_segment_stride=segments[1], has_scales=is_set["scales"],
        stream_id=stream_id, version=VERSION, parity=parity, audio_sha256=audio,
    )  # fmt: skip


def pack_copy(header: StreamHeader) -> bytes:
    """Return the second copy of the header: a mark, the length of the body, the body, CRC-32."""
    body = _body(header)
    return sealed(COPY_MARK + _varint(len(body)) + body)


def open_copy(data: bytes) -> bytes:
    """Return the body of the copy that `data` begins with; CorruptInput where there is none, or it is damaged."""
    fields = _Fields(data)
    try:
        if fields.take(2) != COPY_MARK or (length := fields.varint()) > MAX_BODY_BYTES:
            raise CorruptInput("there is no mark of a header")
        start = fields.place
        fields.take(length + CRC.size)
    except (IndexError, ValueError) as error:
        raise CorruptInput(f"the second copy of the header is cut off ({error})") from error
    if not is_sealed(data[: fields.place]):
        raise CorruptInput("the checksum of the header's second copy differs")
    return data[start : fields.place - CRC.size]


def pack_footer(header: StreamHeader, lengths: Iterable[int]) -> bytes:
    """Return what follows the segments: the copy of the header, the index and the tail.

    `lengths` are those of all segments, of parity too, in bytes, as they lie in the stream.
    """
    index = b"".join(length.to_bytes(3, "little") for length in lengths)
    footer = pack_copy(header) + sealed(index, header.stream_id)
    return footer + struct.pack("<I", len(footer) + TAIL_BYTES) + _TAIL_MARK


def unpack_tail(tail: bytes, stream_bytes: int) -> int:
    """Return where the footer begins, or 0 where these are not the last bytes of a stream of this length."""
    length = int.from_bytes(tail[:4], "little")
    is_intact = len(tail) == TAIL_BYTES and tail.endswith(_TAIL_MARK) and TAIL_BYTES < length < stream_bytes
    return stream_bytes - length if is_intact else 0


def index_bytes(header: StreamHeader) -> int:
    """Return how long a stream's index is."""
    return 3 * (header.num_segments + header.num_parity_segments) + CRC.size


def unpack_index(block: bytes, header: StreamHeader, first: int, end: int) -> list[IndexEntry] | None:
    """Parse the index of segments, which lie between these bytes; None where it is damaged, or another stream's."""
    if not is_sealed(block, header.stream_id):
        return None
    lengths = np.frombuffer(block[: -CRC.size], dtype=np.uint8).reshape(-1, 3) @ np.array([1, 1 << 8, 1 << 16])
    places = [first, *(first + np.cumsum(lengths)).tolist()]
    if places[-1] != end:
        return None
    return [
        IndexEntry(number, *place, is_parity=is_parity)
        for (is_parity, number), place in zip(plan(header), pairwise(places), strict=True)
    ]


def plan(header: StreamHeader) -> Iterator[tuple[bool, int]]:
    """Yield for each segment, as they lie in the stream, whether it is one of parity, and its number."""
    parity = header.parity
    if parity is None:
        yield from ((False, number) for number in range(header.num_segments))
        return
    size = parity.count * parity.groups
    for block, start in enumerate(range(0, header.num_segments, size)):
        end = min(start + size, header.num_segments)
        yield from ((False, number) for number in range(start, end))
        for row in range(parity.parity):
            yield from (
                (True, parity_number(parity, block, row, group)) for group in parity_groups(parity, end - start)
            )


def parity_groups(parity: Parity, num_segments: int) -> list[int]:
    """Return in which order the groups of a block of so many segments follow it.

    The group of the last segment comes last: a burst across the end of a block hits each group but once.
    """
    count = min(parity.groups, num_segments)
    return [(num_segments + i) % count for i in range(count)]


def parity_number(parity: Parity, block: int, row: int, group: int) -> int:
    """Return the number of a segment of parity: of a block, which of its group, and the group in the block."""
    return (block * parity.parity + row) * parity.groups + group


def group_of(header: StreamHeader, number: int) -> range:
    """Return the numbers of the segments that a segment of parity stands for."""
    assert header.parity is not None, "a stream with parity"
    row, group = divmod(number, header.parity.groups)
    start = row // header.parity.parity * header.parity.count * header.parity.groups
    end = min(start + header.parity.count * header.parity.groups, header.num_segments)
    return range(start + group, end, header.parity.groups)


def pack_segment(header: StreamHeader, segment: Segment, coded: bytes, interval_hash: int) -> bytes:
    """Return a segment's bytes: its own header, side information, and rows as `segment.code_rows` has coded them."""
    side = _pack_side(header, segment)
    payload = side + coded
    rows: tuple[int, ...] = (0,)
    if (segment.num_rows, segment.first_row) != _full(header, segment.index):
        rows = (segment.num_rows, segment.first_row)
    check = _digest(header, segment.index, segment.first_row, side, segment.rows, interval_hash)
    return _pack_head(header, SEGMENT_MARK, (segment.index, *rows, len(payload)), check, payload) + payload


def pack_parity(header: StreamHeader, number: int, lengths: Sequence[int], payload: bytes) -> bytes:
    """Return the bytes of a segment of parity, which stands for others of these lengths."""
    return _pack_head(header, PARITY_MARK, (number, *lengths), b"", payload) + payload


def _pack_head(header: StreamHeader, mark: bytes, numbers: Iterable[int], check: bytes, payload: bytes) -> bytes:
    head = mark + b"".join(map(_varint, numbers)) + check + CRC.pack(binascii.crc32(payload))
    return head + crc16(header, head)


def crc16(header: StreamHeader, head: bytes) -> bytes:
    """Return the checksum of a segment's own header."""
    return binascii.crc_hqx(header.stream_id + head, 0).to_bytes(2, "little")


def _full(header: StreamHeader, index: int) -> tuple[int, int]:
    return header.rows_per_segment, index * header.rows_per_segment


def unpack_head(data: bytes, header: StreamHeader, offset: int) -> SegmentHeader | ParityHeader:
    """Parse the header of a segment, or of one of parity, which stands at `offset` in the stream.

    Raises SegmentError where it is damaged, of another stream, or claims what this stream cannot hold.
    """
    fields = _Fields(data[:MAX_HEAD_BYTES])
    number, lengths, rows, check = 0, [], (0, 0), b""
    try:
        mark, number = fields.take(2), fields.varint()
        if mark == PARITY_MARK and header.parity and number < header.num_segments * header.parity.parity:
            lengths = [fields.varint() for _ in group_of(header, number)]
        elif mark == SEGMENT_MARK:
            rows = _full(header, number)
            if count := fields.varint():
                rows = (count, fields.varint())
            lengths, check = [fields.varint()], fields.take(8)
        payload_crc = fields.fixed(4)
        head = fields.data[: fields.place]
        is_intact = bool(lengths) and fields.take(2) == crc16(header, head)
    except (IndexError, ValueError) as error:
        raise SegmentError("header", "its header is cut off") from error
    if not is_intact:
        raise SegmentError("header", "its header's checksum differs: the header is damaged, or of another stream")
    if not check:
        return ParityHeader(number, tuple(lengths), payload_crc, offset, fields.place)
    found = SegmentHeader(number, rows[1], rows[0], lengths[0], payload_crc, check, offset, fields.place)
    return check_claims(header, found)


def _pack_side(header: StreamHeader, segment: Segment) -> bytes:
    frames = segment.codec_segment_frames
    full = len(list(itertools.takewhile(lambda count: count == header.codec_segment_frames, frames)))
    scales = np.asarray(segment.scales, dtype="<f4")
    if bool(header.codec_segment_frames) != bool(frames) or len(scales) != header.has_scales * max(1, len(frames)):
        raise UnsupportedInput(
            f"{len(frames)} segments of the codec with {len(scales)} scales are not what the stream's header says."
        )
    counts = (full, len(frames) - full, *frames[full:]) if frames else ()
    return b"".join(map(_varint, counts)) + scales.tobytes()


def parse_side(header: StreamHeader, num_rows: int, payload: bytes) -> tuple[tuple[int, ...], tuple[float, ...], bytes]:
    """Return the codec's segments, their scales, and what follows them in the payload."""
    fields, frames = _Fields(payload), []
    try:
        if header.codec_segment_frames:
            full, others = fields.varint(), fields.varint()
            if not 1 <= full + others <= num_rows:
                raise SegmentError("coder", f"it claims {full + others} segments of the codec in {num_rows} rows")
            frames = [header.codec_segment_frames] * full + [fields.varint() for _ in range(others)]
        scales = np.frombuffer(fields.take(4 * header.has_scales * max(1, len(frames))), dtype="<f4").tolist()
    except (IndexError, ValueError) as error:
        raise SegmentError("coder", f"its payload ends within the side information ({error})") from error
    if error := side_error(header, num_rows, frames, scales):
        raise SegmentError("coder", error)
    return tuple(frames), tuple(scales), payload[fields.place :]


def check_of(header: StreamHeader, found: SegmentHeader, side: bytes, rows: np.ndarray, interval_hash: int) -> bytes:
    """Return the checksum of all that is decoded from a segment: ``sha256[:8]``."""
    return _digest(header, found.index, found.first_row, side, rows, interval_hash)


def _digest(
    header: StreamHeader, index: int, first_row: int, side: bytes, rows: np.ndarray, interval_hash: int
) -> bytes:
    place = header.stream_id + struct.pack("<IIIQ", index, first_row, len(rows), interval_hash)
    return hashlib.sha256(place + side + np.ascontiguousarray(rows, dtype="<u4").tobytes()).digest()[:8]
