"""What a stream says of itself before its first code, whatever the version of the format.

`version1` and `version2` have the bytes of each.
"""

import functools
import itertools
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from codecbook.coding.exact.adapt import MAX_STEP
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import TokenFormat
from codecbook.tokens.layout import Layout

HEADER_MAGIC = b"\x89CBS\r\n\x1a\n"
ROW_ORDERS = ("parallel", "grouped", "bytes")
CODERS = ("raw", "exact")
MAX_BODY_BYTES = 16384
MAX_SEGMENT_CODES = 1 << 20
"""Codes in one segment, at most: what a reader has to hold at a time."""
MAX_COLUMNS = 1024
MAX_NAME_BYTES = 4096
MAX_ROWS = (1 << 32) - 1
FRAME = struct.Struct("<8sHI")
"""What a header block of any version begins with: magic, version, bytes of the body."""
CRC = struct.Struct("<I")
MAX_HEADER_BYTES = FRAME.size + MAX_BODY_BYTES + CRC.size
"""And of a copy of it, which has a shorter frame."""


@dataclass(frozen=True)
class Parity:
    """How segments are protected by others: of `count` in a group up to `parity` may be lost, whichever they are.

    Neighbours are in different ones of `groups` groups that lie side by side, so that a burst costs each group little.
    """

    count: int = 10  # data segments in a group
    parity: int = 1  # parity segments that are added to it
    groups: int = 1  # side by side

    def __post_init__(self) -> None:
        if min(self.count, self.parity, self.groups) < 1 or self.count + self.parity > 256 or self.groups > 4096:
            raise UnsupportedInput(
                f"{self.parity} parity segments for each {self.count} others, in {self.groups} groups; give 1 or more "
                "of each, at most 256 in a group, in up to 4096 groups."
            )


@dataclass(frozen=True)
class StreamHeader:
    """What a stream says of itself before its first code."""

    format: TokenFormat  # codec, weights, codebooks, rates
    order: str  # how rows are made of the codes, of `ROW_ORDERS`; see `codecbook.tokens.layout`
    coder: str  # "raw" (fixed width) or "exact" (range coder behind an exact language model)
    lm_name: str = ""  # by which the language model is looked for; empty for raw
    lm_sha256: str = ""  # of the language model, hex; empty for raw. As read: the digits that the version keeps
    rows_per_segment: int = 1  # of every segment but shorter ones at the end
    num_rows: int = 0  # of all segments
    num_segments: int = 0
    num_samples: int | None = None  # length of the audio per channel, None where unknown
    codec_segment_frames: int = 0  # rows of each of the codec's own segments, a shorter last few excepted; or 0
    codec_segment_stride: int = 0  # samples from one of these to the next; 0 where unknown
    has_scales: bool = False  # whether each of the codec's segments has a gain
    stream_id: bytes = b""  # binds segments and index to this header
    version: int = 2  # of the format
    parity: Parity | None = None  # None where no segment is protected
    audio_sha256: str = ""  # of the decoded samples, the first 16 bytes, hex; empty where unknown
    exact_sha256: str = ""  # of the integers of an exact codec, hex, as read its first 6 bytes; empty where it is none
    adapt_step: int = 0  # with which a bias on the logits learns (`codecbook.coding.exact.adapt`); 0 without one
    body_bytes: int = field(default=0, compare=False)  # as it was read

    def __post_init__(self) -> None:
        if (self.coder == "exact") != bool(self.lm_sha256) or (self.coder == "raw" and self.lm_name):
            raise UnsupportedInput(
                f"Coder {self.coder!r}, language model {self.lm_name!r}: exact coding needs one, raw coding has none."
            )
        if not 0 <= self.adapt_step <= (MAX_STEP if self.coder == "exact" else 0):
            raise UnsupportedInput(
                f"adapt_step={self.adapt_step} with coder {self.coder!r}: give 0 to {MAX_STEP}, and 0 for raw coding."
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
                f"{self.rows_per_segment} rows of {len(sizes)} codes in a segment; choose 1..{MAX_SEGMENT_CODES} codes."
            )
        unit = self.codec_segment_frames
        if unit and self.rows_per_segment % unit:
            raise UnsupportedInput(
                f"{self.rows_per_segment} rows do not hold whole ones of the codec; choose a multiple of {unit}."
            )
        if not -(-self.num_rows // self.rows_per_segment) <= self.num_segments <= self.num_rows <= MAX_ROWS:
            raise UnsupportedInput(
                f"{self.num_rows} rows cannot be {self.num_segments} segments of {self.rows_per_segment} at most, "
                f"and no stream holds more than {MAX_ROWS} rows; give other numbers."
            )

    @property
    def block_bytes(self) -> int:
        """Length of the first header block, as it was read."""
        return FRAME.size + self.body_bytes + CRC.size

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
    """Return a block and its CRC-32, of which `stream_id` is a part in all but the headers."""
    return block + CRC.pack(zlib.crc32(stream_id + block))


def is_sealed(block: bytes, stream_id: bytes = b"") -> bool:
    """Whether a block is one of `sealed`."""
    return block == sealed(block[: -CRC.size], stream_id)


def frame_header(version: int, body: bytes) -> bytes:
    """Return a header block: magic, version, length, body, CRC-32."""
    if len(body) > MAX_BODY_BYTES:
        raise UnsupportedInput(f"A header of {len(body)} bytes is longer than {MAX_BODY_BYTES}; shorten names.")
    return sealed(FRAME.pack(HEADER_MAGIC, version, len(body)) + body)


def open_header(data: bytes) -> tuple[int, bytes]:
    """Return version and body of the header block that `data` begins with, at most `MAX_HEADER_BYTES`.

    Raises CorruptInput: there is none, or it is damaged.
    """
    magic, version, length = FRAME.unpack_from(data) if len(data) >= FRAME.size else (b"", 0, 0)
    if magic != HEADER_MAGIC or length > MAX_BODY_BYTES:
        raise CorruptInput("there is no mark of a header")
    block = data[: FRAME.size + length + CRC.size]
    if len(block) < FRAME.size + length + CRC.size:
        raise CorruptInput(f"A header of {len(block)} bytes is cut off, or is none; copy the stream again.")
    if not is_sealed(block):
        raise CorruptInput("The header's checksum differs; the header is damaged.")
    return version, block[FRAME.size : -CRC.size]


def runs_of(known: TokenFormat) -> list[tuple[int, int, float]]:
    """Return runs of codebooks that are alike: how many, size, rate in Hz."""
    books = zip(known.codebook_sizes, known.frame_rates_hz, strict=True)
    return [(len(list(alike)), *book) for book, alike in itertools.groupby(books)]


def codebooks_of(runs: Sequence[tuple[int, int, float]]) -> dict[str, Any]:
    """Return sizes and rates of the codebooks of such runs, and refuse more of them than a stream may have."""
    count = sum(run[0] for run in runs)
    if count > MAX_COLUMNS:
        raise CorruptInput(f"{count} codebooks are claimed, of at most {MAX_COLUMNS}")
    sizes, rates_hz = (tuple(run[i] for run in runs for _ in range(run[0])) for i in (1, 2))
    return {"codebook_sizes": sizes, "frame_rates_hz": rates_hz}


def header_of(values: dict[str, Any]) -> StreamHeader:
    """Return the header with these fields, its own and its format's."""
    names = {field.name for field in fields(TokenFormat)} & values.keys()
    known = TokenFormat(**{name: values.pop(name) for name in names})
    return StreamHeader(format=known, **values)


def digest_bytes(sha256: str, count: int = 32) -> bytes:
    """Return the first bytes of a SHA-256 in hex, or of what an earlier reader has kept of it; zeros where unknown."""
    digest = sha256 or "00" * 32
    if not re.fullmatch(f"([0-9a-fA-F]{{2}}){{{count},32}}", digest):
        raise UnsupportedInput(f"{sha256!r} is no SHA-256; give 64 hexadecimal digits, or nothing where unknown.")
    return bytes.fromhex(digest)[:count]
