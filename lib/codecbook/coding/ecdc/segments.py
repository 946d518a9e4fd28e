"""How ``.ecdc`` cuts a clip into segments, what stands between them, and what of a stream can be checked with that.

All of it follows from a stream's header and what its model's name stands for (`ModelShape`). A header has no checksum
and may claim anything, and loading the models that it names takes seconds; so what can be refused is refused here.
"""

import math
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any

from codecbook.coding.counts import TOTAL
from codecbook.coding.ecdc.header import EcdcHeader, read_ecdc_header
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens.bits import packed_bytes

CHUNK = struct.Struct(">II")
"""What precedes a segment in ``acv`` 4: length and CRC-32 of the payload."""
SCALE = struct.Struct(">f")
"""What precedes the codes of a segment of a model that normalises."""
MINI = "_mini"
"""How the names of bundled models end."""
MAX_DURATION_S = 3600.0
_MOST_BITS_PER_TOKEN = 25  # a range below 2^25 has at most 25 bits to lose
_LEAST_BITS_OF_SILENCE = 0.1  # what a damaged segment must spend on a token for its length to be believed


@dataclass(frozen=True)
class ModelShape:
    """What the format must know of an EnCodec, its weights aside."""

    name: str  # as in a stream's header
    num_codebooks: int  # K at most
    codebook_size: int  # V
    sample_rate_hz: int
    frame_rate_hz: int
    channels: int
    normalises: bool  # whether each segment has a scale
    segment_samples: int | None = None  # in a segment; None where a clip is one
    stride_samples: int | None = None  # from one segment's start to the next one's

    @property
    def codec(self) -> str:
        """Registry name of the codec."""
        return self.name.removesuffix(MINI)

    @property
    def weights(self) -> str:
        """Which weights the name stands for, as `codecbook.codecs.load_codec` takes them."""
        return "bundled" if self.name.endswith(MINI) else "pretrained"

    @property
    def scale_bytes(self) -> int:
        """Bytes of a segment's scale."""
        return SCALE.size if self.normalises else 0

    def num_segments(self, num_samples: int) -> int:
        """Return how many segments a clip of this many samples per channel has."""
        return -(-num_samples // (self.stride_samples or num_samples))

    def segments(self, num_samples: int) -> list[int]:
        """Return the samples of each: `segment_samples` or what is left, starting `stride_samples` after the last."""
        length, stride = self.segment_samples or num_samples, self.stride_samples or num_samples
        return [min(length, num_samples - start) for start in range(0, num_samples, stride)]

    def frames(self, num_samples: int) -> int:
        """Return the frames of a segment: ``ceil(samples * frame_rate / sample_rate)``, in integers.

        The package computes the same in floats (``samples / sample_rate * frame_rate``), which rounds up to a frame too
        many for some lengths: at 24 kHz already for 6720 samples, 22 in place of 21. It writes such streams and cannot
        read them; here they are read.
        """
        return -(-num_samples * self.frame_rate_hz // self.sample_rate_hz)

    def raw_bytes(self, num_codebooks: int, num_frames: int) -> int:
        """Return what a segment takes without a language model, its scale included."""
        return self.scale_bytes + packed_bytes((self.codebook_size,) * num_codebooks, num_frames)

    def most_bytes(self, num_codebooks: int, num_frames: int) -> int:
        """Return what a segment can take with a language model, its scale included."""
        return self.scale_bytes + num_codebooks * num_frames * _MOST_BITS_PER_TOKEN // 8 + 8


_24KHZ = ModelShape("encodec_24khz", 32, 1024, 24_000, 75, 1, False)
_48KHZ = ModelShape("encodec_48khz", 16, 1024, 48_000, 150, 2, True, 48_000, 47_520)
MODEL_SHAPES = {
    shape.name: shape
    for shape in (
        _24KHZ,
        _48KHZ,
        replace(_24KHZ, name="encodec_24khz_mini", num_codebooks=16),
        replace(_48KHZ, name="encodec_48khz_mini", num_codebooks=8),
    )
}
"""The authors' models, and this project's bundled ones."""


def shape_named(name: str) -> ModelShape:
    """Return the shape that a header's model name stands for; UnsupportedInput for other names."""
    if name not in MODEL_SHAPES:
        raise UnsupportedInput(f"The stream is of the model {name[:60]!r}; known are {', '.join(MODEL_SHAPES)}.")
    return MODEL_SHAPES[name]


def shape_of(network: Any) -> ModelShape:
    """Return the shape of an ``EncodecModel``."""
    return ModelShape(
        name=network.name, num_codebooks=network.quantizer.n_q, codebook_size=network.quantizer.bins,
        sample_rate_hz=int(network.sample_rate), frame_rate_hz=int(network.frame_rate), channels=network.channels,
        normalises=bool(network.normalize), segment_samples=network.segment_length,
        stride_samples=network.segment_stride,
    )  # fmt: skip


@dataclass(frozen=True)
class Chunk:
    """The payload of one segment of an ``acv`` 4 stream."""

    start: int  # its first byte
    end: int  # one past its last byte
    checksum: int  # CRC-32 of its bytes
    expected: int  # CRC-32 that the stream says

    @property
    def is_intact(self) -> bool:
        """Whether its bytes pass their checksum."""
        return self.checksum == self.expected


def chunks_of(data: bytes, body: int, count: int) -> tuple[Chunk, ...]:
    """Return the chunks of an ``acv`` 4 stream; CorruptInput unless their lengths lead to its end exactly.

    A chunk whose length is damaged cannot be found again, nor can those after it.
    """
    chunks = []
    position = body
    for index in range(count):
        start = position + CHUNK.size
        if start > len(data):
            raise CorruptInput(f"The stream ends at byte {len(data)}, before chunk {index} of {count}; it is cut off.")
        length, expected = CHUNK.unpack_from(data, position)
        position = start + length
        if position > len(data):
            raise CorruptInput(f"Chunk {index} of {count} claims {length} of {len(data) - start} bytes; it is cut off.")
        chunks.append(Chunk(start, position, zlib.crc32(data[start:position]), expected))
    if position != len(data):
        raise CorruptInput(f"{len(data) - position} bytes follow the last of {count} chunks; the stream is damaged.")
    return tuple(chunks)


def scale_at(data: bytes, position: int, segment: int) -> float:
    """Return the scale of a segment; CorruptInput where the stream ends before it, or it is no positive number."""
    if position + SCALE.size > len(data):
        raise CorruptInput(f"The stream ends before segment {segment}; it is cut off.")
    (scale,) = SCALE.unpack_from(data, position)
    if not (math.isfinite(scale) and scale > 0):
        raise CorruptInput(f"Segment {segment} has the scale {scale}, which must be above 0; the stream is damaged.")
    return scale


@dataclass(frozen=True, eq=False)
class EcdcOutline:
    """A stream whose header, size and checksums have been looked at."""

    data: bytes
    header: EcdcHeader
    body: int  # where the first segment begins
    shape: ModelShape  # of the model that the header names
    frames: tuple[int, ...]  # of each segment
    chunks: tuple[Chunk, ...] = ()  # one for each segment where the stream has checksums (acv 4)

    @property
    def duration_s(self) -> float:
        """Length of the audio, in seconds."""
        return self.header.num_samples / self.shape.sample_rate_hz


def outline_ecdc(data: bytes, shape: ModelShape | None = None, max_duration_s: float = MAX_DURATION_S) -> EcdcOutline:
    """Check all of a stream that can be checked without its models; see `codecbook.coding.ecdc.read_ecdc_codes`.

    Raises:
        CorruptInput: The stream is cut off, goes on, contradicts itself, or claims more than its bytes can hold.
        UnsupportedInput: Another format, version, model or number of codebooks; a clip that is too long.
    """
    header, body = read_ecdc_header(data)
    shape = shape_named(header.model_name) if shape is None else shape
    check_model(header, shape)
    duration_s = header.num_samples / shape.sample_rate_hz
    if header.uses_lm and duration_s > max_duration_s:
        raise UnsupportedInput(f"The header claims {duration_s:.0f} s; raise max_duration_s={max_duration_s:g}.")
    available = len(data) - body
    count = shape.num_segments(header.num_samples)
    if count > available:
        raise CorruptInput(f"{available} bytes cannot hold the header's {count} segment(s); the stream is cut off.")
    frames = tuple(shape.frames(samples) for samples in shape.segments(header.num_samples))
    outline = EcdcOutline(data, header, body, shape, frames)
    if header.uses_lm:
        _check_coded_size(outline)
    else:
        K = header.num_codebooks
        expected = sum(shape.raw_bytes(K, num_frames) for num_frames in frames)
        if expected != available:
            raise CorruptInput(f"{header.num_samples} samples take {expected} bytes, not {available}: damaged stream.")
    if header.is_chunked:
        outline = replace(outline, chunks=chunks_of(data, body, count))
        for index, chunk in enumerate(outline.chunks):
            if not chunk.is_intact:
                check_silence(outline, index, "checksum")
    elif header.uses_lm and shape.normalises:
        scale_at(data, body, 0)
    return outline


def check_model(header: EcdcHeader, shape: ModelShape) -> None:
    """Raise UnsupportedInput where a stream is of another model, by its name or its number of codebooks."""
    if header.model_name != shape.name:
        raise UnsupportedInput(f"The stream is of the model {header.model_name[:60]!r}, not {shape.name!r}; load that.")
    if header.num_codebooks > shape.num_codebooks:
        raise UnsupportedInput(f"{header.num_codebooks} codebooks, {shape.name} has {shape.num_codebooks}; check it.")


def check_silence(outline: EcdcOutline, index: int, kind: str) -> None:
    """Raise CorruptInput for a damaged segment that is far too long for its bytes to be filled in."""
    tokens = outline.header.num_codebooks * outline.frames[index]
    num_bytes = outline.chunks[index].end - outline.chunks[index].start
    if 8 * num_bytes < tokens * _LEAST_BITS_OF_SILENCE:
        raise CorruptInput(f"Segment {index} is damaged ({kind}): {num_bytes} bytes are too few for {tokens} tokens.")


def _check_coded_size(outline: EcdcOutline) -> None:
    """Refuse more tokens than the bytes could hold if each were as likely, or fewer than if as rare, as can be."""
    shape, header, count = outline.shape, outline.header, len(outline.frames)
    num_bytes = len(outline.data) - outline.body
    tokens = header.num_codebooks * sum(outline.frames)
    min_range = 2 if header.coding == "upstream" else header.min_range or 1
    likeliest = 1 - (shape.codebook_size - 2) * min_range / TOTAL
    least_bits = -math.log2(likeliest) if 0 < likeliest < 1 else 0.0
    overhead = count * (CHUNK.size * header.is_chunked + shape.scale_bytes)
    if 8 * (num_bytes - overhead) < tokens * least_bits:
        raise CorruptInput(f"{tokens} tokens in {count} segment(s) need more than {num_bytes} bytes: damaged header.")
    most = sum(shape.most_bytes(header.num_codebooks, frames) for frames in outline.frames)
    if not header.is_chunked and num_bytes > most:
        raise CorruptInput(f"{tokens} tokens, of at most {most} bytes, where {num_bytes} follow: damaged header.")
