"""Read ``.ecdc`` streams; see `codecbook.coding.ecdc`."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from codecbook.audio import Clip
from codecbook.codecs.base import Codec
from codecbook.codecs.encodec_package import overlap_add
from codecbook.coding.counts import TOTAL, GridDialect
from codecbook.coding.ecdc_header import EcdcHeader, dialect_of, parse_header
from codecbook.coding.ecdc_lm import StepHook, decode_tokens
from codecbook.coding.ecdc_models import EncodecModel, network_of
from codecbook.coding.ecdc_raw import packed_bytes, unpack_codes
from codecbook.coding.ecdc_segments import CHUNK, SCALE, SegmentLayout, chunks_of, layout_of, scale_at
from codecbook.coding.ecdc_stepper import PackageStepper, stepper_for
from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput
from codecbook.tokens.tokens import Tokens

MAX_DURATION_S = 3600.0
_MOST_BITS_PER_SYMBOL = 25  # a range below 2^25 has at most 25 bits to lose
# what a damaged segment must spend on a token for its length to be believed: the header has no checksum
_LEAST_BITS_OF_SILENCE = 0.1


@dataclass(frozen=True)
class DamagedSegment:
    """A segment that could not be decoded, and became silence.

    Attributes:
        segment: Which one, from 0.
        first_byte: Of the stream, where its chunk's payload begins.
        end_byte: One past its last byte.
        kind: ``"checksum"``: bytes were altered; ``"coding"``: the bytes are as written, but do not decode: another
            language model, or its rounding, made them.
        reason: What was found, in words.
    """

    segment: int
    first_byte: int  # bytes
    end_byte: int  # bytes
    kind: str
    reason: str


@dataclass(frozen=True, eq=False)
class Decoded:
    """What an ``.ecdc`` stream held.

    Attributes:
        clip: float32 ``[C, S]``, silent where a segment is damaged (its neighbours fade into it where they overlap).
        tokens: Codes, segments and scales. In a damaged segment they are 0, and so is its scale.
        header: What the header said.
        dialect: Parameters of a stream of ``acv`` 3 or 4, None for others.
        damage: Damaged segments, in order; empty for a stream without any.
    """

    clip: Clip
    tokens: Tokens
    header: EcdcHeader
    dialect: GridDialect | None
    damage: tuple[DamagedSegment, ...]


@dataclass(frozen=True, eq=False)
class _Segment:
    codes: np.ndarray  # int64 [K, T]
    scale: float | None
    damage: DamagedSegment | None = None


@dataclass(frozen=True, eq=False)
class _Stream:
    data: bytes
    body: int  # where the first segment begins
    header: EcdcHeader
    network: EncodecModel
    layout: SegmentLayout

    def scale_at(self, position: int, segment: int) -> float | None:
        return scale_at(self.data, position, segment) if self.network.normalize else None


def read_ecdc(
    data: bytes,
    model: Any,
    lm: nn.Module | PackageStepper | None = None,
    *,
    qstep: float | None = None,
    lm_dtype: str | None = None,
    lm_device: str = "cpu",
    mkldnn: bool | None = None,
    on_step: StepHook | None = None,
    strict: bool = False,
    max_duration_s: float = MAX_DURATION_S,
    environ: Mapping[str, str] | None = None,
) -> Decoded:
    """Decode an ``.ecdc`` stream of any version.

    Args:
        data: The whole stream.
        model: An ``EncodecModel`` or an adapter of one, of the name that the header gives, on any device.
        lm: The language model that the stream was coded with; not needed for raw streams.
        qstep: For ``acv`` 3 and 4, the step of the logit grid; see `codecbook.coding.ecdc_header.dialect_of`.
        lm_dtype: Likewise the model's float type.
        lm_device: Torch device for the language model; ignored where `lm` is placed already.
        mkldnn: See `PackageStepper`; ignored where `lm` is placed already.
        on_step: Sees every frame that a language model coded.
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
    network = network_of(model)
    data = bytes(data)
    header, body = parse_header(data)
    _check_model(header, network)
    stream = _Stream(data, body, header, network, layout_of(network, header.num_samples))
    dialect = None
    if header.coding == "raw":
        segments = _read_raw(stream)
    else:
        if header.coding == "grid":
            dialect = dialect_of(header, qstep=qstep, lm_dtype=lm_dtype, environ=environ)
        if lm is None:
            raise MissingWeights(
                f"The stream was coded with the language model of {header.model_name}, and none was given; pass lm=, "
                "for instance codecbook.coding.ecdc.load_lm(model)."
            )
        stepper = stepper_for(lm, dialect, network.quantizer.bins, lm_device, mkldnn)
        _check_size(stream, stepper, max_duration_s)
        if header.is_chunked:
            segments = _read_chunks(stream, stepper, on_step, strict)
        else:
            segments = _read_in_one(stream, stepper, on_step)
    return Decoded(
        clip=_clip(stream, segments),
        tokens=_tokens(model, network, header, segments),
        header=header,
        dialect=dialect,
        damage=tuple(segment.damage for segment in segments if segment.damage is not None),
    )


def _check_model(header: EcdcHeader, network: EncodecModel) -> None:
    if header.model_name != network.name:
        raise UnsupportedInput(
            f"The stream is of the model {header.model_name[:60]!r}, received {network.name!r}; load that model."
        )
    most = network.quantizer.n_q
    if header.num_codebooks > most:
        raise UnsupportedInput(
            f"The stream has {header.num_codebooks} codebooks, {network.name} has {most}; it is of another model, or "
            "damaged."
        )


def _check_size(stream: _Stream, stepper: PackageStepper, max_duration_s: float) -> None:
    """Refuse too long a clip, and more tokens than the bytes could hold if each were as likely as the CDF can say."""
    layout, network = stream.layout, stream.network
    duration_s = layout.num_samples / layout.sample_rate_hz
    if duration_s > max_duration_s:
        raise UnsupportedInput(
            f"The header claims {duration_s:.0f} s of audio, above max_duration_s={max_duration_s:g}; raise it if you "
            "trust the stream."
        )
    num_bytes = len(stream.data) - stream.body
    overhead = layout.count * (CHUNK.size * stream.header.is_chunked + SCALE.size * bool(network.normalize))
    likeliest = 1 - (network.quantizer.bins - 2) * stepper.min_range / TOTAL
    least_bits = -math.log2(likeliest) if 0 < likeliest < 1 else 0.0
    tokens = stream.header.num_codebooks * layout.num_frames
    if 8 * (num_bytes - overhead) < tokens * least_bits:
        raise CorruptInput(
            f"The header claims {tokens} tokens in {layout.count} segment(s), which {num_bytes} bytes cannot hold; the "
            "stream is cut off, or its header is damaged."
        )


def _read_raw(stream: _Stream) -> list[_Segment]:
    layout, bits, K = stream.layout, stream.network.bits_per_codebook, stream.header.num_codebooks
    extra = SCALE.size if stream.network.normalize else 0
    whole = layout.num_whole
    expected = whole * (extra + packed_bytes(K * layout.frames(0), bits))
    available = len(stream.data) - stream.body
    if expected <= available:  # else the segments that are left need not be counted, however many there are
        expected += sum(extra + packed_bytes(K * layout.frames(i), bits) for i in range(whole, layout.count))
    if expected != available:
        raise CorruptInput(
            f"The header's {layout.num_samples} samples and {K} codebooks take {expected} bytes or more; the stream "
            f"has {available}: it is cut off, goes on, or its header is damaged."
        )
    segments, position = [], stream.body
    for index in range(layout.count):
        scale = stream.scale_at(position, index)
        position += extra
        end = position + packed_bytes(K * layout.frames(index), bits)
        codes = unpack_codes(stream.data[position:end], K, layout.frames(index), bits)
        segments.append(_Segment(codes, scale))
        position = end
    return segments


def _read_in_one(stream: _Stream, stepper: PackageStepper, on_step: StepHook | None) -> list[_Segment]:
    """Read segments that follow each other without marks: where one ends, its decoder says."""
    segments, position = [], stream.body
    for index in range(stream.layout.count):
        scale = stream.scale_at(position, index)
        position += 0 if scale is None else SCALE.size
        K, T = stream.header.num_codebooks, stream.layout.frames(index)
        end = position + (K * T * _MOST_BITS_PER_SYMBOL) // 8 + 8
        decoded = decode_tokens(stream.data[position:end], stepper, K, T, on_step=on_step, segment=index)
        segments.append(_Segment(decoded.codes, scale))
        position += decoded.bytes_consumed
    if position != len(stream.data):
        raise CorruptInput(
            f"{len(stream.data) - position} bytes follow the last segment; the stream goes on, or it was decoded "
            "wrongly: another language model, or its rounding, made it."
        )
    return segments


def _read_chunks(
    stream: _Stream, stepper: PackageStepper, on_step: StepHook | None, strict: bool
) -> list[_Segment]:
    K = stream.header.num_codebooks
    segments = []
    for index, (start, end, checksum) in enumerate(chunks_of(stream.data, stream.body, stream.layout.count)):
        T = stream.layout.frames(index)
        actual = zlib.crc32(stream.data[start:end])
        if actual != checksum:
            kind, reason = "checksum", f"the checksum is {actual:#010x}, the chunk says {checksum:#010x}"
        else:
            try:
                segments.append(_decode_chunk(stream, start, end, T, stepper, on_step, index))
                continue
            except CorruptInput as error:
                kind, reason = "coding", str(error)
        if 8 * (end - start) < K * T * _LEAST_BITS_OF_SILENCE:
            raise CorruptInput(
                f"Segment {index} is damaged ({kind}), and its {end - start} bytes are too few for the {K * T} tokens "
                "that the header claims; the header is damaged too."
            )
        if strict:
            raise CorruptInput(
                f"Segment {index}, bytes {start} to {end}, is damaged ({kind}): {reason}; leave out strict=True to "
                "decode the rest."
            )
        damage = DamagedSegment(index, start, end, kind, reason)
        scale = 0.0 if stream.network.normalize else None
        segments.append(_Segment(np.zeros((K, T), np.int64), scale, damage))
    return segments


def _decode_chunk(
    stream: _Stream,
    start: int,
    end: int,
    num_frames: int,
    stepper: PackageStepper,
    on_step: StepHook | None,
    index: int,
) -> _Segment:
    payload = stream.data[start:end]
    scale = scale_at(payload, 0, index) if stream.network.normalize else None
    coded = payload if scale is None else payload[SCALE.size :]
    decoded = decode_tokens(
        coded, stepper, stream.header.num_codebooks, num_frames, on_step=on_step, segment=index
    )
    if decoded.bytes_consumed != len(coded):
        raise CorruptInput(
            f"Segment {index}: {num_frames} frames take {decoded.bytes_consumed} of its {len(coded)} bytes; they are "
            "not what was encoded."
        )
    return _Segment(decoded.codes, scale)


@torch.inference_mode()
def _clip(stream: _Stream, segments: list[_Segment]) -> Clip:
    """Decode segment by segment and join them as the package does; acv=4 ends each where its audio did."""
    network, layout, cut = stream.network, stream.layout, stream.header.is_chunked
    device = next(network.parameters()).device
    waves = []
    for index, segment in enumerate(segments):
        if segment.damage is not None:
            waves.append(torch.zeros(1, network.channels, layout.samples(index), device=device))
            continue
        scale = None if segment.scale is None else torch.tensor([segment.scale], device=device)
        wave = network._decode_frame((torch.from_numpy(segment.codes)[None].to(device), scale))
        waves.append(wave[..., : layout.samples(index)] if cut else wave)
    wave = waves[0] if network.segment is None else overlap_add(waves, layout.stride)
    samples = wave[0, :, : layout.num_samples].float().cpu().numpy()
    if not np.isfinite(samples).all():
        raise CorruptInput(
            "The decoded audio is not finite; a scale is damaged, or the codec's weights are unusable."
        )
    return Clip(np.ascontiguousarray(samples), layout.sample_rate_hz, name=network.name)


def _tokens(model: Any, network: EncodecModel, header: EcdcHeader, segments: list[_Segment]) -> Tokens:
    codes = np.concatenate([segment.codes for segment in segments], axis=1)
    segmented = network.segment is not None
    return Tokens(
        codes=tuple(codes),
        codebook_sizes=(network.quantizer.bins,) * len(codes),
        frame_rates_hz=(float(network.frame_rate),) * len(codes),
        codec=header.model_name,
        weights=str(model.weights) if isinstance(model, Codec) else "",
        sample_rate_hz=int(network.sample_rate),
        channels=int(network.channels),
        num_samples=header.num_samples,
        segment_frames=tuple(s.codes.shape[1] for s in segments) if segmented else (),
        scales=tuple(s.scale for s in segments if s.scale is not None),
    )
