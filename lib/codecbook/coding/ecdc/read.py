"""Read ``.ecdc`` streams; see `codecbook.coding.ecdc`."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from codecbook.audio import Clip
from codecbook.codecs.base import Codec
from codecbook.coding.counts import GridDialect
from codecbook.coding.ecdc import segments
from codecbook.coding.ecdc.header import EcdcHeader, dialect_of
from codecbook.coding.ecdc.lm import LMSource, PackageStepper, decode_steps, network_of, placed_lm
from codecbook.errors import CorruptInput, MissingWeights
from codecbook.tokens import Tokens
from codecbook.tokens.bits import unpack_bits


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


def read_ecdc(data: bytes, model: Any, lm: LMSource = None, **options: Any) -> DecodedClip:
    """Decode an ``.ecdc`` stream of any version.

    `model` is an ``EncodecModel`` or an adapter of one, of the name that the header gives, on any device; the others
    are arguments of `read_ecdc_codes`. Raises CodecbookError: as `read_ecdc_codes` and `decode_audio`.
    """
    read = read_ecdc_codes(data, lm, shape=segments.shape_of(network_of(model)), **options)
    clip = decode_audio(read, model)
    weights = model.weights if isinstance(model, Codec) else None
    tokens = replace(read.tokens, weights=str(weights or ""), weights_sha256=weights.sha256 if weights else "")
    return DecodedClip(tokens, read.header, read.dialect, read.damage, clip)


def read_ecdc_codes(
    data: bytes,
    lm: LMSource = None,
    *,
    shape: segments.ModelShape | None = None,
    qstep: float | None = None,
    lm_dtype: str | None = None,
    lm_device: str = "cpu",
    strict: bool = False,
    max_duration_s: float = segments.MAX_DURATION_S,
) -> DecodedCodes:
    """Decode the codes of an ``.ecdc`` stream, without its codec.

    Args:
        data: The whole stream.
        lm: The language model that it was coded with; not needed for raw streams. One given by name or file (as for
            `codecbook.coding.ecdc.load_upstream_lm`) is loaded after all checks that need no model.
        shape: Of the model; None takes what the header's name stands for.
        qstep: For ``acv`` 3 and 4, the step of the logit grid; see `codecbook.coding.ecdc.header.dialect_of`.
        lm_dtype: Likewise the model's float type.
        lm_device: Torch device for the language model.
        strict: Raise at the first damaged segment, rather than make it silent.
        max_duration_s: Refuse longer clips: with a language model, a small damaged file can claim hours.

    Raises:
        CorruptInput: The stream is cut off, goes on, contradicts itself, or its codes are not what was encoded. The
            latter alone is confined to a segment, in ``acv`` 4, unless a damaged one claims to be far too long.
        UnsupportedInput: Another format, version, model, number of codebooks or dialect; a clip that is too long.
        MissingWeights: The stream needs a language model, and none was given or found.
    """
    outline = segments.outline_ecdc(bytes(data), shape, max_duration_s)
    header, shape, K = outline.header, outline.shape, outline.header.num_codebooks
    dialect, stepper = None, None
    if header.coding == "grid":
        dialect = dialect_of(header, qstep, lm_dtype)
        dialect.check_alphabet(shape.codebook_size)
    if header.uses_lm and lm is None:
        raise MissingWeights(f"The stream needs the language model of {header.model_name}; pass lm=.")
    lost = {}
    for index, chunk in enumerate(outline.chunks):
        if not chunk.is_intact:
            reason = f"the checksum is {chunk.checksum:#010x}, the chunk says {chunk.expected:#010x}"
            lost[index] = _lost(outline, index, "checksum", reason, strict)
    if header.uses_lm:
        stepper = placed_lm(lm, dialect, shape, lm_device)
    parts, scales, position = [], [], outline.body
    for index, frames in enumerate(outline.frames):
        part, scale = None, 0.0
        if not outline.chunks:  # where a segment ends, its decoder says
            part, scale, position = _decode_segment(outline, index, position, len(outline.data), stepper)
        elif index not in lost:
            chunk = outline.chunks[index]
            try:
                part, scale, _ = _decode_segment(outline, index, chunk.start, chunk.end, stepper)
            except CorruptInput as error:
                lost[index] = _lost(outline, index, "coding", str(error), strict)
        parts.append(np.zeros((K, frames), dtype=np.int64) if part is None else part)
        scales.append(scale)
    if not outline.chunks and position != len(outline.data):
        raise CorruptInput(f"{len(outline.data) - position} bytes follow the last segment; another model made it.")
    tokens = Tokens(
        codes=tuple(np.concatenate(parts, axis=1)), codebook_sizes=(shape.codebook_size,) * K,
        frame_rates_hz=(float(shape.frame_rate_hz),) * K, codec=shape.codec,
        weights=f"bundled: {shape.name}" if shape.weights == "bundled" else "", sample_rate_hz=shape.sample_rate_hz,
        channels=shape.channels, num_samples=header.num_samples,
        segment_frames=outline.frames if shape.segment_samples else (),
        scales=tuple(scales) if shape.normalises else (),
    )  # fmt: skip
    return DecodedCodes(tokens, header, dialect, tuple(lost[index] for index in sorted(lost)))


def _lost(outline: segments.EcdcOutline, index: int, kind: str, reason: str, strict: bool) -> DamagedSegment:
    """Return what there is to say of a damaged segment; where it may not become silence, raise it."""
    segments.check_silence(outline, index, kind)
    start, end = outline.chunks[index].start, outline.chunks[index].end
    if strict:
        raise CorruptInput(f"Segment {index}, bytes {start} to {end}, is damaged ({kind}): {reason}; set strict=False.")
    return DamagedSegment(index, start, end, kind, reason)


def _decode_segment(
    outline: segments.EcdcOutline, index: int, start: int, end: int, stepper: PackageStepper | None
) -> tuple[np.ndarray, float, int]:
    """Decode a segment from `start` on, its scale first; return codes int64 ``[K, T]``, scale, and where it ends."""
    shape, K, T = outline.shape, outline.header.num_codebooks, outline.frames[index]
    first = start + shape.scale_bytes
    scale = segments.scale_at(outline.data[:end], start, index) if shape.normalises else 0.0
    if stepper is None:
        end = start + shape.raw_bytes(K, T)
        rows = unpack_bits(outline.data[first:end], (shape.codebook_size,) * K, T)
        return np.ascontiguousarray(rows.T), scale, end
    most = start + shape.most_bytes(K, T)
    codes, taken = decode_steps(outline.data[first : min(end, most)], stepper, K, T, index)
    if outline.chunks and first + taken != end:
        raise CorruptInput(f"frames take {first + taken - start} of its {end - start} bytes, and not what was encoded")
    return codes, scale, first + taken


@torch.inference_mode()
def decode_audio(read: DecodedCodes, model: Any) -> Clip:
    """Decode the codes of a stream segment by segment, and join them as the package does.

    ``acv`` 4 ends each segment where its audio did; `model` is as for `read_ecdc`.

    Raises:
        UnsupportedInput: A model of another name, or with fewer codebooks.
        CorruptInput: The decoded audio is not finite.
    """
    from codecbook.codecs.adapters.encodec import overlap_add

    network, tokens = network_of(model), read.tokens
    shape = segments.shape_of(network)
    segments.check_model(read.header, shape)
    samples = shape.segments(read.header.num_samples)
    device = next(network.parameters()).device
    lost = {part.segment for part in read.damage}
    codes = torch.from_numpy(np.stack(tokens.codes)).to(device)[None]
    waves = []
    for index, segment in enumerate(codes.split(tokens.segment_frames or codes.shape[2], dim=2)):
        if index in lost:
            waves.append(torch.zeros(1, network.channels, samples[index], device=device))
            continue
        scale = torch.tensor([tokens.scales[index]], device=device) if tokens.scales else None
        wave = network._decode_frame((segment, scale))
        waves.append(wave[..., : samples[index]] if read.header.is_chunked else wave)
    wave = torch.cat(list(overlap_add(waves, shape.stride_samples)), -1) if shape.stride_samples else waves[0]
    audio = wave[0, :, : read.header.num_samples].float().cpu().numpy()
    if not np.isfinite(audio).all():
        raise CorruptInput("The decoded audio is not finite; a scale is damaged, or the codec's weights are unusable.")
    return Clip(np.ascontiguousarray(audio), shape.sample_rate_hz, name=network.name)
