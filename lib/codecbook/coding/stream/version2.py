"""Version 2 of the format, which is written; ``docs/stream-format.md`` is the normative text."""

import binascii
import hashlib
import itertools
import struct
from collections.abc import Iterable, Sequence

import numpy as np

from codecbook.coding.stream import fields as kinds
from codecbook.coding.stream import header as headers
from codecbook.coding.stream.header import StreamHeader
from codecbook.coding.stream.parity import group_of
from codecbook.coding.stream.segment import Segment, SegmentError, SegmentHeader, check_claims
from codecbook.errors import CorruptInput, UnsupportedInput

VERSION = 2
SEGMENT_MARK, PARITY_MARK, COPY_MARK, _TAIL_MARK = b"\xc5S", b"\xc5P", b"\xc5H", b"BS"
SEGMENT_MARKS = (SEGMENT_MARK, PARITY_MARK)
MAX_HEAD_BYTES = 2 + 5 * 256 + 16
"""Of a segment's own header: of one of parity, which has the lengths of others."""
TAIL_BYTES = 6
_CODECS = (
    "encodec_24khz", "encodec_48khz", "snac_24khz", "snac_32khz", "snac_44khz", "dac_16khz", "dac_24khz", "dac_44khz",
    "mimi", "neucodec", "lyra_v2", "fsq_50hz", "units_25hz",
)  # fmt: skip
_USUAL_WEIGHTS, _USUAL_LM = "bundled: {}_mini", "lm_{}_mini"
_WEIGHTS = kinds.digest(6)  # what error messages show of a SHA-256
_EXACT, _ORDER, _SCALES, _COUNT = 0, 1, 8, 9  # bits of the flags without a field of their own, and of one with
_BODY: tuple[tuple[str, kinds.Kind, int | None], ...] = (
    ("sample_rate_hz", kinds.VARINT, None), ("channels", kinds.VARINT, None), ("rows_per_segment", kinds.VARINT, None),
    ("num_rows", kinds.fixed(4), None), ("num_segments", kinds.fixed(4), _COUNT), ("num_samples", kinds.SAMPLES, None),
    ("bandwidth_kbps", kinds.NUMBER, 3), ("source_bitrate_kbps", kinds.NUMBER, 5), ("mid_codebooks", kinds.VARINT, 6),
    ("codec_segment_frames", kinds.VARINT, 7), ("codec_segment_stride", kinds.VARINT, 7), ("parity", kinds.PARITY, 10),
    ("stream_id", kinds.STREAM_ID, None), ("weights_sha256", _WEIGHTS, 4), ("audio_sha256", kinds.digest(16), 11),
    ("exact_sha256", _WEIGHTS, 12), ("adapt_step", kinds.VARINT, 13),
)  # fmt: skip
"""Fields of a body up to its codebooks, and the bit of the flags that says whether one is there."""


def _body(header: StreamHeader) -> bytes:
    known = header.format
    values = {**vars(header), **vars(known)}
    if not header.codec_segment_frames:
        values["codec_segment_stride"] = 0
    bits = {bit for name, _, bit in _BODY if bit and values[name] not in (None, 0, "")} - {_COUNT}
    if header.codec_segment_frames or header.num_segments != -(-header.num_rows // header.rows_per_segment):
        bits.add(_COUNT)
    flags = sum(1 << bit for bit in bits) | header.has_scales << _SCALES
    flags |= headers.CODERS.index(header.coder) << _EXACT | headers.ROW_ORDERS.index(header.order) << _ORDER
    data = kinds.varint(flags)
    data += b"".join(kind.write(values[name]) for name, kind, bit in _BODY if bit is None or bit in bits)
    runs, rate_hz = headers.runs_of(known), known.sample_rate_hz
    data += kinds.varint(len(runs))
    for count, size, rate in runs:
        step = round(rate_hz / rate) if rate_hz / rate < 1e9 else 0
        data += kinds.varint(count) + kinds.varint(size) + kinds.scaled(rate, step, lambda step: rate_hz / step)
    is_known = known.codec in _CODECS
    data += kinds.varint(_CODECS.index(known.codec) + 1) if is_known else b"\0" + kinds.text(known.codec, "-")
    data += kinds.text(known.weights, _USUAL_WEIGHTS.format(known.codec))
    if header.coder == "exact":
        data += _WEIGHTS.write(header.lm_sha256) + kinds.text(header.lm_name, _USUAL_LM.format(known.codec))
    return data


def pack_header(header: StreamHeader) -> bytes:
    """Return the first header block, and refuse a field that it cannot hold."""
    try:
        return headers.frame_header(VERSION, _body(header))
    except OverflowError as error:
        raise UnsupportedInput(f"The tokens do not fit a stream's header ({error}); check their fields.") from error


def unpack_body(body: bytes) -> StreamHeader:
    """Parse a header's body; what contradicts itself raises one of many errors."""
    fields = kinds.Fields(body)
    flags = fields.varint()
    values = {name: kind.read(fields) for name, kind, bit in _BODY if bit is None or flags >> bit & 1}
    values.setdefault("num_segments", -(-values["num_rows"] // values["rows_per_segment"]))
    rate_hz = values["sample_rate_hz"]
    runs = [
        (fields.varint(), fields.varint(), fields.scaled(lambda step: rate_hz / step)) for _ in range(fields.varint())
    ]
    number = fields.varint()
    codec = _CODECS[number - 1] if number else fields.text("-")
    values |= headers.codebooks_of(runs) | {"codec": codec, "weights": fields.text(_USUAL_WEIGHTS.format(codec))}
    if flags >> _EXACT & 1:
        values |= {"lm_sha256": _WEIGHTS.read(fields), "lm_name": fields.text(_USUAL_LM.format(codec))}
    if fields.place != len(body):
        raise CorruptInput(f"its fields take {fields.place} bytes, not {len(body)}")
    values |= {"order": headers.ROW_ORDERS[flags >> _ORDER & 3], "coder": headers.CODERS[flags >> _EXACT & 1]}
    values |= {"has_scales": bool(flags >> _SCALES & 1), "version": VERSION, "body_bytes": len(body)}
    return headers.header_of(values)


def pack_copy(header: StreamHeader) -> bytes:
    """Return the second copy of the header: a mark, the length of the body, the body, CRC-32."""
    body = _body(header)
    return headers.sealed(COPY_MARK + kinds.varint(len(body)) + body)


def copy_bytes(header: StreamHeader) -> int:
    """Return how long the second copy of a header that was read is."""
    return len(COPY_MARK) + len(kinds.varint(header.body_bytes)) + header.body_bytes + headers.CRC.size


def open_copy(data: bytes) -> bytes:
    """Return the body of the copy that `data` begins with; CorruptInput where there is none, or it is damaged."""
    fields = kinds.Fields(data)
    try:
        if fields.take(2) != COPY_MARK or (length := fields.varint()) > headers.MAX_BODY_BYTES:
            raise CorruptInput("there is no mark of a header")
        start = fields.place
        fields.take(length + headers.CRC.size)
    except (IndexError, ValueError) as error:
        raise CorruptInput(f"the second copy of the header is cut off ({error})") from error
    if not headers.is_sealed(data[: fields.place]):
        raise CorruptInput("the checksum of the header's second copy differs")
    return data[start : fields.place - headers.CRC.size]


def pack_footer(header: StreamHeader, lengths: Iterable[int]) -> bytes:
    """Return what follows the segments: the copy of the header, the index and the tail.

    `lengths` are those of all segments, of parity too, in bytes, as they lie in the stream.
    """
    index = b"".join(length.to_bytes(3, "little") for length in lengths)
    footer = pack_copy(header) + headers.sealed(index, header.stream_id)
    return footer + struct.pack("<I", len(footer) + TAIL_BYTES) + _TAIL_MARK


def unpack_tail(tail: bytes, stream_bytes: int) -> int:
    """Return where the footer begins, or 0 where these are not the last bytes of a stream of this length."""
    length = int.from_bytes(tail[:4], "little")
    is_intact = len(tail) == TAIL_BYTES and tail.endswith(_TAIL_MARK) and TAIL_BYTES < length < stream_bytes
    return stream_bytes - length if is_intact else 0


def pack_segment(header: StreamHeader, segment: Segment, coded: bytes, interval_hash: int) -> bytes:
    """Return a segment's bytes: its own header, side information, and rows as `segment.code_rows` has coded them."""
    side = _pack_side(header, segment)
    payload = side + coded
    rows: tuple[int, ...] = (0,)
    if (segment.num_rows, segment.first_row) != _full(header, segment.index):
        rows = (segment.num_rows, segment.first_row)
    check = check_of(header, segment, side, segment.rows, interval_hash)
    return _pack_head(header, SEGMENT_MARK, (segment.index, *rows, len(payload)), check, payload) + payload


def pack_parity(header: StreamHeader, number: int, lengths: Sequence[int], payload: bytes) -> bytes:
    """Return the bytes of a segment of parity, which stands for others of these lengths."""
    return _pack_head(header, PARITY_MARK, (number, *lengths), b"", payload) + payload


def _pack_head(header: StreamHeader, mark: bytes, numbers: Iterable[int], check: bytes, payload: bytes) -> bytes:
    head = mark + b"".join(map(kinds.varint, numbers)) + check + headers.CRC.pack(binascii.crc32(payload))
    return head + crc16(header, head)


def crc16(header: StreamHeader, head: bytes) -> bytes:
    """Return the checksum of a segment's own header."""
    return binascii.crc_hqx(header.stream_id + head, 0).to_bytes(2, "little")


def _full(header: StreamHeader, index: int) -> tuple[int, int]:
    return header.rows_per_segment, index * header.rows_per_segment


def unpack_head(data: bytes, header: StreamHeader, offset: int) -> SegmentHeader:
    """Parse the header of a segment, or of one of parity, which stands at `offset` in the stream.

    Raises SegmentError where it is damaged, of another stream, or claims what this stream cannot hold.
    """
    fields = kinds.Fields(data[:MAX_HEAD_BYTES])
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
        longest = max(lengths)
        return SegmentHeader(number, 0, 0, longest, payload_crc, b"", offset, fields.place, lengths=tuple(lengths))
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
    return b"".join(map(kinds.varint, counts)) + scales.tobytes()


def frames_of(header: StreamHeader, num_rows: int, fields: kinds.Fields) -> list[int]:
    """Return how many rows each of the codec's segments has, from a payload's beginning."""
    full, others = fields.varint(), fields.varint()
    if full + others > num_rows:
        raise ValueError(f"it claims {full + others} segments of the codec in {num_rows} rows")
    return [header.codec_segment_frames] * full + [fields.varint() for _ in range(others)]


def check_of(
    header: StreamHeader, found: Segment | SegmentHeader, side: bytes, rows: np.ndarray, interval_hash: int
) -> bytes:
    """Return the checksum of all that is decoded from a segment: ``sha256[:8]``."""
    place = header.stream_id + struct.pack("<IIIQ", found.index, found.first_row, len(rows), interval_hash)
    return hashlib.sha256(place + side + np.ascontiguousarray(rows, dtype="<u4").tobytes()).digest()[:8]
