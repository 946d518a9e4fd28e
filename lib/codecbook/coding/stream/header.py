"""What stands around a stream's segments: the header, in two copies, the index of segments, and the tail.

``docs/stream-format.md``, sections 3, 5 and 6, is the normative text. Parsing a header is strict: a block is what its
writer would have written, to the byte, or it is refused.
"""

import functools
import itertools
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.tokens import TokenFormat
from codecbook.tokens.layout import Layout

VERSION = 1
HEADER_MAGIC = b"\x89CBS\r\n\x1a\n"
ROW_ORDERS = ("parallel", "grouped", "bytes")
CODERS = ("raw", "exact")
MAX_BODY_BYTES = 16384
MAX_SEGMENT_CODES = 1 << 20
"""Codes in one segment, at most: what a reader has to hold at a time."""
MAX_COLUMNS = 1024
MAX_NAME_BYTES = 4096
MAX_ROWS = (1 << 32) - 1

_FRAME = struct.Struct("<8sHI")  # magic, version, bytes of the body
_FIXED = struct.Struct("<BBHIHIIIQddHII8s32s32s")
_RUN = struct.Struct("<HId")
_CRC = struct.Struct("<I")
_INDEX_START = struct.Struct("<4sI")
_INDEX_ENTRY = struct.Struct("<QI")
_TAIL = struct.Struct("<QQI8s")
INDEX_MAGIC = b"\xc5IDX"
TAIL_MAGIC = b"\n\x1a\n\rSBC\x89"
MAX_HEADER_BYTES = _FRAME.size + MAX_BODY_BYTES + _CRC.size
TAIL_BYTES = _TAIL.size


@dataclass(frozen=True)
class StreamHeader:
    """What a stream says of itself before its first code."""

    format: TokenFormat  # codec, weights, codebooks, rates
    order: str  # how rows are made of the codes, of `ROW_ORDERS`; see `codecbook.tokens.layout`
    coder: str  # "raw" (fixed width) or "exact" (range coder behind an exact language model)
    lm_name: str = ""  # by which the language model is looked for; empty for raw
    lm_sha256: str = ""  # of the language model, hex; empty for raw
    rows_per_segment: int = 1  # of every segment but shorter ones at the end
    num_rows: int = 0  # of all segments
    num_segments: int = 0
    num_samples: int | None = None  # length of the audio per channel, None where unknown
    codec_segment_frames: int = 0  # rows of each of the codec's own segments, a shorter last few excepted; or 0
    codec_segment_stride: int = 0  # samples from one of these to the next; 0 where unknown
    has_scales: bool = False  # whether each of the codec's segments has a gain
    stream_id: bytes = bytes(8)  # binds segments and index to this header

    def __post_init__(self) -> None:
        if (self.coder == "exact") != bool(self.lm_sha256) or (self.coder == "raw" and self.lm_name):
            raise UnsupportedInput(
                f"A stream whose coder is {self.coder!r} names the language model {self.lm_name!r} of SHA-256 "
                f"{self.lm_sha256!r}; exact coding needs one, and raw coding has none."
            )
        sizes = self.columns
        # with zero bits a code, a few bytes of raw rows could stand for any number of codes
        if not 2 <= min(sizes) <= max(sizes) <= 1 << 31 or len(sizes) > MAX_COLUMNS:
            raise UnsupportedInput(
                f"A stream has up to {MAX_COLUMNS} columns of 2 to 2^31 codes; received {len(sizes)} of {min(sizes)} "
                f"to {max(sizes)}. Codebooks of one code say nothing: leave them out."
            )
        if not 1 <= self.rows_per_segment * len(sizes) <= MAX_SEGMENT_CODES:
            raise UnsupportedInput(
                f"A segment of {self.rows_per_segment} rows of {len(sizes)} codes is outside 1..{MAX_SEGMENT_CODES} "
                "codes; choose another length of segments."
            )
        if self.codec_segment_frames and self.rows_per_segment % self.codec_segment_frames:
            raise UnsupportedInput(
                f"Segments of {self.rows_per_segment} rows do not hold whole ones of the codec, of "
                f"{self.codec_segment_frames}; choose a multiple."
            )
        if not -(-self.num_rows // self.rows_per_segment) <= self.num_segments <= self.num_rows <= MAX_ROWS:
            raise UnsupportedInput(
                f"{self.num_rows} rows in {self.num_segments} segments of up to {self.rows_per_segment} cannot be; a "
                f"stream holds up to {MAX_ROWS} rows."
            )

    @functools.cached_property
    def layout(self) -> Layout:
        """How rows are made of codes, and codes of rows."""
        return Layout(self.order, self.format)

    @functools.cached_property
    def columns(self) -> tuple[int, ...]:
        """How many values each column of the rows can have."""
        return self.layout.codebook_sizes

    @property
    def duration_s(self) -> float:
        """Length of the audio, in seconds."""
        return self.time_range_s(0, self.num_rows)[1]

    def start_of_row(self, row: int) -> float:
        """Return where a row begins, in seconds; segments of the codec that overlap are taken into account."""
        rate_hz = self.format.frame_rates_hz[0]
        rate = self.format.sample_rate_hz
        if not (self.codec_segment_frames and self.codec_segment_stride and rate):
            return row / rate_hz
        whole, inside = divmod(row, self.codec_segment_frames)
        return whole * self.codec_segment_stride / rate + inside / rate_hz

    def time_range_s(self, first_row: int, end_row: int) -> tuple[float, float]:
        """Return the seconds of audio that rows stand for, within its length."""
        end_s = self.start_of_row(end_row)
        if self.num_samples is not None and self.format.sample_rate_hz:
            length_s = self.num_samples / self.format.sample_rate_hz
            end_s = length_s if end_row >= self.num_rows else min(end_s, length_s)
        return min(self.start_of_row(first_row), end_s), end_s


def sealed(block: bytes, stream_id: bytes = b"") -> bytes:
    """Return a block and its CRC-32; `stream_id` goes into that of all but the header and the tail."""
    return block + _CRC.pack(zlib.crc32(stream_id + block))


def is_sealed(block: bytes, stream_id: bytes = b"") -> bool:
    """Whether a block is one of `sealed`."""
    return block == sealed(block[: -_CRC.size], stream_id)


def pack_header(header: StreamHeader) -> bytes:
    """Return a header block: magic, version, length, body, CRC-32; refuse a field that it cannot hold."""
    known = header.format
    optional = (header.num_samples, known.bandwidth_kbps, known.source_bitrate_kbps, known.mid_codebooks)
    flags = (*(value is not None for value in optional), header.codec_segment_frames > 0, header.has_scales)
    books = zip(known.codebook_sizes, known.frame_rates_hz, strict=True)
    runs = [(len(list(alike)), *book) for book, alike in itertools.groupby(books)]
    try:
        body = _FIXED.pack(
            CODERS.index(header.coder), ROW_ORDERS.index(header.order), sum(flag << i for i, flag in enumerate(flags)),
            known.sample_rate_hz, known.channels, header.rows_per_segment, header.num_rows, header.num_segments,
            *(value or 0 for value in optional), header.codec_segment_frames, header.codec_segment_stride,
            header.stream_id, _digest(known.weights_sha256), _digest(header.lm_sha256),
        )  # fmt: skip
        body += struct.pack("<H", len(runs)) + b"".join(_RUN.pack(*run) for run in runs)
    except struct.error as error:
        raise UnsupportedInput(f"The tokens do not fit a stream's header ({error}); check their fields.") from error
    body += b"".join(map(_pack_text, (known.codec, known.weights, header.lm_name)))
    if len(body) > MAX_BODY_BYTES:
        raise UnsupportedInput(f"A header of {len(body)} bytes is longer than {MAX_BODY_BYTES}; shorten names.")
    return sealed(_FRAME.pack(HEADER_MAGIC, VERSION, len(body)) + body)


def _digest(sha256: str) -> bytes:
    try:
        digest = bytes.fromhex(sha256) if sha256 else bytes(32)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise UnsupportedInput(f"{sha256!r} is no SHA-256; give 64 hexadecimal digits, or nothing where unknown.")
    return digest


def _pack_text(text: str) -> bytes:
    data = text.encode()
    if len(data) > MAX_NAME_BYTES:
        raise UnsupportedInput(
            f"A name of {len(data)} bytes is longer than a header's {MAX_NAME_BYTES}: {text[:60]!r}..."
        )
    return struct.pack("<H", len(data)) + data


def unpack_header(data: bytes) -> StreamHeader:
    """Parse the header block that `data` begins with; it is `MAX_HEADER_BYTES` long at most.

    Raises:
        CorruptInput: There is none, it is damaged, or contradicts itself.
        UnsupportedInput: It is intact, and of a later version of the format.
    """
    magic, version, length = _FRAME.unpack_from(data) if len(data) >= _FRAME.size else (b"", 0, 0)
    if magic != HEADER_MAGIC or length > MAX_BODY_BYTES:
        raise CorruptInput("there is no mark of a header")
    block = data[: _FRAME.size + length + _CRC.size]
    if len(block) < _FRAME.size + length + _CRC.size:
        raise CorruptInput(f"A header of {len(block)} bytes is cut off, or is none; copy the stream again.")
    if not is_sealed(block):
        raise CorruptInput("The header's checksum differs; the header is damaged.")
    if version != VERSION:
        raise UnsupportedInput(
            f"The stream is of version {version} of its format, and this program reads {VERSION}; update codecbook."
        )
    try:
        header = _parse_body(block[_FRAME.size : -_CRC.size])
        canonical = pack_header(header)
    except (CodecbookError, struct.error, UnicodeDecodeError, IndexError) as error:
        raise CorruptInput(f"The header contradicts itself ({error}); encode the recording again.") from error
    if canonical != block:
        raise CorruptInput("The header is not as its fields are written; encode the recording again.")
    return header


def _parse_body(body: bytes) -> StreamHeader:
    (
        coder, order, flags, sample_rate_hz, channels, rows_per_segment, num_rows, num_segments, *optional,
        segment_frames, segment_stride, stream_id, codec_sha256, lm_sha256,
    ) = _FIXED.unpack_from(body)  # fmt: skip
    num_samples, bandwidth, source_bitrate, mid = (
        value if flags >> i & 1 else None for i, value in enumerate(optional)
    )
    place = _FIXED.size + 2
    (count,) = struct.unpack_from("<H", body, place - 2)
    runs = [_RUN.unpack_from(body, place + i * _RUN.size) for i in range(count)]
    if sum(run[0] for run in runs) > MAX_COLUMNS:
        raise CorruptInput(f"{sum(run[0] for run in runs)} codebooks are claimed, of at most {MAX_COLUMNS}")
    place += count * _RUN.size
    texts = []
    for _ in range(3):
        (length,) = struct.unpack_from("<H", body, place)
        texts.append(body[place + 2 : place + 2 + length].decode())
        place += 2 + length
    if place != len(body):
        raise CorruptInput(f"its fields take {place} bytes, not {len(body)}")
    codec, weights, lm_name = texts
    known = TokenFormat(
        codebook_sizes=tuple(run[1] for run in runs for _ in range(run[0])),
        frame_rates_hz=tuple(run[2] for run in runs for _ in range(run[0])),
        codec=codec, weights=weights, weights_sha256=codec_sha256.hex() if any(codec_sha256) else "",
        sample_rate_hz=sample_rate_hz, channels=channels,
        bandwidth_kbps=bandwidth, source_bitrate_kbps=source_bitrate, mid_codebooks=mid,
    )  # fmt: skip
    return StreamHeader(
        format=known, order=ROW_ORDERS[order], coder=CODERS[coder],
        lm_name=lm_name, lm_sha256=lm_sha256.hex() if any(lm_sha256) else "",
        rows_per_segment=rows_per_segment, num_rows=num_rows, num_segments=num_segments, num_samples=num_samples,
        codec_segment_frames=segment_frames, codec_segment_stride=segment_stride, has_scales=bool(flags >> 5 & 1),
        stream_id=stream_id,
    )  # fmt: skip


def pack_footer(header: StreamHeader, entries: Iterable[tuple[int, int]], start: int) -> bytes:
    """Return what follows the segments, from `start` on: the second copy of the header, the index and the tail.

    `entries` say of each segment where it begins in the stream, and the CRC-32 at the end of its header.
    """
    index = _INDEX_START.pack(INDEX_MAGIC, header.num_segments) + b"".join(_INDEX_ENTRY.pack(*one) for one in entries)
    footer = pack_header(header) + sealed(index, header.stream_id)
    return footer + sealed(struct.pack("<QQ", start, start + len(footer) + TAIL_BYTES)) + TAIL_MAGIC


def unpack_tail(tail: bytes, stream_bytes: int) -> int:
    """Return where the footer begins, or 0 where these are not the last bytes of a stream of this length."""
    if len(tail) != TAIL_BYTES:
        return 0
    start, claimed, _, magic = _TAIL.unpack(tail)
    is_intact = magic == TAIL_MAGIC and is_sealed(tail[: -len(magic)]) and start <= stream_bytes == claimed
    return start if is_intact else 0


def index_bytes(num_segments: int) -> int:
    """Return how long the index of this many segments is."""
    return _INDEX_START.size + num_segments * _INDEX_ENTRY.size + _CRC.size


def unpack_index(block: bytes, header: StreamHeader) -> list[tuple[int, int]] | None:
    """Return the entries of `pack_footer`, or None where the index is damaged or that of another header."""
    start = _INDEX_START.pack(INDEX_MAGIC, header.num_segments)
    if not block.startswith(start) or not is_sealed(block, header.stream_id):
        return None
    return list(_INDEX_ENTRY.iter_unpack(block[len(start) : -_CRC.size]))
