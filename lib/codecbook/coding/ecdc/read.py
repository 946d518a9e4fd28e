"""Read ``.ecdc`` streams; see `codecbook.coding.ecdc`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from codecbook.audio import Clip
from codecbook.codecs.base import Codec
from codecbook.coding.counts import GridDialect
from codecbook.coding.ecdc.header import EcdcHeader, dialect_of
from codecbook.coding.ecdc.lm import PackageStepper, decode_steps, placed
from codecbook.coding.ecdc.models import network_of
from codecbook.coding.ecdc.segments import (
    MAX_DURATION_S,
    EcdcOutline,
    ModelShape,
    check_silence,
    outline_ecdc,
    scale_at,
    shape_of,
)
from codecbook.errors import CorruptInput, MissingWeights
from codecbook.tokens import Tokens
from codecbook.tokens.bits import unpack_bits

if TYPE_CHECKING:
    from encodec.model import EncodecModel

_MOST_BITS_PER_SYMBOL = 25  # a range below 2^25 has at most 25 bits to lose


@dataclass(frozen=True)
class DamagedSegment:
    """A segment that could not be decoded, and became silence.

    Its `kind` is ``"checksum"``: bytes were altered; or ``"coding"``: they are as written, but do not decode, as
    another language model, or its rounding, made them.
    """

    segment: int  # which one, from 0
    first_byte: int  # of the stream, where its chunk's payload begins
    end_byte: int  # one past its last byte
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"Segment {self.segment}, bytes {self.first_byte} to {self.end_byte} ({self.kind}): {self.reason}"


@dataclass(frozen=True, eq=False)
class DecodedCodes:
    """The codes of an ``.ecdc`` stream."""

    tokens: Tokens  # in a damaged segment codes are 0, and so is its scale
    header: EcdcHeader
    dialect: GridDialect | None  # parameters of a stream of acv 3 or 4
    damage: tuple[DamagedSegment, ...]  # in order


@dataclass(frozen=True, eq=False)
class DecodedClip(DecodedCodes):
    """What an ``.ecdc`` stream held."""

    clip: Clip  # silent where a segment is damaged (its neighbours fade into it where they overlap)


@dataclass(frozen=True, eq=False)
class _Segment:
    codes: np.ndarray  # int64 [K, T]
    scale: float | None
    damage: DamagedSegment | None = None


def read_ecdc(data: bytes, model: Any, lm: nn.Module | PackageStepper | None = None, **options: Any) -> DecodedClip:
    """Decode an ``.ecdc`` stream of any version.

    Args:
        data: The whole stream.
        model: An ``EncodecModel`` or an adapter of one, of the name that the header gives, on any device.
        lm: The language model that the stream was coded with; not needed for raw streams.
        options: Keyword arguments of `read_ecdc_codes`.

    Raises:
        CorruptInput: As `read_ecdc_codes`, or the decoded audio is not finite.
        UnsupportedInput: As `read_ecdc_codes`, or another kind of model.
        MissingWeights: The stream needs a language model, and none was given.
    """
    network = network_of(model)
    read = read_ecdc_codes(data, lm, shape=shape_of(network), **options)
    weights = model.weights if isinstance(model, Codec) else None
    tokens = replace(read.tokens, weights=str(weights or ""), weights_sha256=weights.sha256 if weights else "")
    return DecodedClip(tokens, read.header, read.dialect, read.damage, _clip(read, network))


def read_ecdc_codes(
    data: bytes,
    lm: nn.Module | PackageStepper | None = None,
    *,
    shape: ModelShape | None = None,
    qstep: float | None = None,
    lm_dtype: str | None = None,
    lm_device: str = "cpu",
    strict: bool = False,
    max_duration_s: float = MAX_DURATION_S,
    environ: Mapping[str, str] | None = None,
) -> DecodedCodes:
    """Decode the codes of an ``.ecdc`` stream, without its codec.

    Args:
        data: The whole stream.
        lm: The language model that it was coded with; not needed for raw streams.
        shape: Of the model; None takes what the header's name stands for.
        qstep: For ``acv`` 3 and 4, the step of the logit grid; see `codecbook.coding.ecdc.header.dialect_of`.
        lm_dtype: Likewise the model's float type.
        lm_device: Torch device for the language model; ignored where `lm` is placed already.
        strict: Raise at the first damaged segment, rather than make it silent.
        max_duration_s: A language model may spend next to nothing on a token, so that a small damaged file can claim
            hours; longer clips are refused. (The size of a raw stream must fit its header exactly.)
        environ: Environment variables; None takes the process's.

    Raises:
        CorruptInput: The stream is cut off, goes on, contradicts itself, or its codes are not what was encoded. Only
            the latter is confined to a segment, and only in ``acv`` 4; there too it is an error where a damaged
            segment claims to be far longer than its bytes.
        UnsupportedInput: Another format, version, model, number of codebooks or dialect; a clip that is too long.
        MissingWeights: The stream needs a language model, and none was given.
    """
    outline = outline_ecdc(bytes(data), shape, max_duration_s)
    header, shape, dialect = outline.header, outline.shape, None
    stepper = None
    if header.coding != "raw":
        if header.coding == "grid":
            dialect = dialect_of(header, qstep=qstep, lm_dtype=lm_dtype, environ=environ)
        if lm is None:
            raise MissingWeights(
                f"The stream was coded with the language model of {header.model_name}, and none was given; pass lm=, "
                "for instance codecbook.coding.ecdc.load_upstream_lm(model)."
            )
        stepper = placed(lm, dialect, shape.codebook_size, lm_device)
    if stepper is not None and header.is_chunked:
        segments = _read_chunks(outline, stepper, strict)
    else:
        segments = _read_in_one(outline, stepper)
    codes = np.concatenate([segment.codes for segment in segments], axis=1)
    tokens = Tokens(
        codes=tuple(codes),
        codebook_sizes=(shape.codebook_size,) * len(codes),
        frame_rates_hz=(float(shape.frame_rate_hz),) * len(codes),
        codec=shape.codec,
        weights=f"bundled: {shape.name}" if shape.weights == "bundled" else "",
        sample_rate_hz=shape.sample_rate_hz,
        channels=shape.channels,
        num_samples=header.num_samples,
        segment_frames=tuple(s.codes.shape[1] for s in segments) if shape.segment_samples else (),
        scales=tuple(s.scale for s in segments if s.scale is not None),
    )
    return DecodedCodes(tokens, header, dialect, tuple(s.damage for s in segments if s.damage))


def _read_in_one(outline: EcdcOutline, stepper: PackageStepper | None) -> list[_Segment]:
    """Read segments that follow each other without marks: where a coded one ends, its decoder says."""
    segments, position = [], outline.body
    for index in range(outline.layout.count):
        segment, taken = _decode_segment(outline, position, len(outline.data), stepper, index)
        segments.append(segment)
        position += taken
    if position != len(outline.data):
        raise CorruptInput(
            f"{len(outline.data) - position} bytes follow the last segment; the stream goes on, or it was decoded "
            "wrongly: another language model, or its rounding, made it."
        )
    return segments


def _read_chunks(outline: EcdcOutline, stepper: PackageStepper, strict: bool) -> list[_Segment]:
    segments = []
    for index, chunk in enumerate(outline.chunks):
        start, end = chunk.start, chunk.end
        if not chunk.is_intact:
            kind = "checksum"
            reason = f"the checksum is {chunk.checksum:#010x}, the chunk says {chunk.expected:#010x}"
        else:
            try:
                segment, taken = _decode_segment(outline, start, end, stepper, index)
                if taken == end - start:
                    segments.append(segment)
                    continue
                reason = f"its frames take {taken} of its {end - start} bytes; they are not what was encoded"
            except CorruptInput as error:
                reason = str(error)
            kind = "coding"
        check_silence(outline, index, chunk, kind)
        if strict:
            raise CorruptInput(
                f"Segment {index}, bytes {start} to {end}, is damaged ({kind}): {reason}; leave out strict=True to "
                "decode the rest."
            )
        shape = (outline.header.num_codebooks, outline.layout.frames(index))
        scale = 0.0 if outline.shape.normalises else None
        damage = DamagedSegment(index, start, end, kind, reason)
        segments.append(_Segment(np.zeros(shape, np.int64), scale, damage))
    return segments


def _decode_segment(
    outline: EcdcOutline, start: int, end: int, stepper: PackageStepper | None, index: int
) -> tuple[_Segment, int]:
    """Decode a segment that lies somewhere from `start` on, its scale first; return how many bytes it takes, too."""
    K, T = outline.header.num_codebooks, outline.layout.frames(index)
    shape, first = outline.shape, start + outline.shape.scale_bytes
    scale = scale_at(outline.data[:end], start, index) if shape.normalises else None
    if stepper is None:
        taken = shape.raw_bytes(K, T)
        rows = unpack_bits(outline.data[first : start + taken], (shape.codebook_size,) * K, T)
        return _Segment(np.ascontiguousarray(rows.T), scale), taken
    most = first + (K * T * _MOST_BITS_PER_SYMBOL) // 8 + 8
    codes, taken = decode_steps(outline.data[first : min(end, most)], stepper, K, T, index)
    return _Segment(codes, scale), first - start + taken


@torch.inference_mode()
def _clip(read: DecodedCodes, network: "EncodecModel") -> Clip:
    """Decode segment by segment and join them as the package does; acv=4 ends each where its audio did."""
    from codecbook.codecs.adapters.encodec import overlap_add

    layout, tokens = shape_of(network).layout(read.header.num_samples), read.tokens
    device = next(network.parameters()).device
    lost = {part.segment for part in read.damage}
    codes = torch.from_numpy(np.stack(tokens.codes)).to(device)[None]
    waves = []
    for index, segment in enumerate(codes.split(tokens.segment_frames or codes.shape[2], dim=2)):
        if index in lost:
            waves.append(torch.zeros(1, network.channels, layout.samples(index), device=device))
            continue
        scale = torch.tensor([tokens.scales[index]], device=device) if tokens.scales else None
        wave = network._decode_frame((segment, scale))
        waves.append(wave[..., : layout.samples(index)] if read.header.is_chunked else wave)
    wave = waves[0] if network.segment is None else torch.cat(list(overlap_add(waves, layout.stride)), -1)
    samples = wave[0, :, : layout.num_samples].float().cpu().numpy()
    if not np.isfinite(samples).all():
        raise CorruptInput("The decoded audio is not finite; a scale is damaged, or the codec's weights are unusable.")
    return Clip(np.ascontiguousarray(samples), layout.sample_rate_hz, name=network.name)
