"""Write ``.ecdc`` streams; see `codecbook.coding.ecdc`."""

import copy
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from codecbook.audio import Clip
from codecbook.coding.counts import GRID_DIALECTS, GridDialect
from codecbook.coding.ecdc.header import EcdcHeader, write_ecdc_header
from codecbook.coding.ecdc.lm import LMSource, PackageStepper, encode_steps, network_of, placed_lm
from codecbook.coding.ecdc.segments import CHUNK, MINI, SCALE, ModelShape, shape_named, shape_of
from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput, require_one_of
from codecbook.tokens import Tokens
from codecbook.tokens.bits import pack_bits

if TYPE_CHECKING:
    from encodec.model import EncodecModel


def write_ecdc(
    model: Any,
    wav: Clip | np.ndarray | Tensor,
    lm: LMSource = None,
    acv: int = 0,
    dialect: str | GridDialect | None = None,
    *,
    bandwidth_kbps: float | None = None,
) -> bytes:
    """Encode a clip as an ``.ecdc`` stream.

    Args:
        model: An ``EncodecModel`` or an adapter of one, on any device.
        wav: A clip, or float ``[C, S]``, at the model's rate and channels.
        lm: The language model, for `acv` 1 and 4; by name or file as for `codecbook.coding.ecdc.load_upstream_lm`.
        acv: 0: raw. 1: upstream's language-model stream. 4: pull request 95's, in chunks with checksums.
        dialect: For 4, a name in `codecbook.coding.counts.GRID_DIALECTS` (``"qstep128"`` by default) or parameters, of
            which a reader must be told ``qstep`` and ``lm_dtype``: the header stores neither. For 0, whose four extra
            header keys to write (None: none, as upstream). Not for 1.
        bandwidth_kbps: One of the model's; None takes what it is set to.

    Raises:
        UnsupportedInput: Another kind of model, rate, shape or `acv`, parameters that do not belong together, or a
            clip that upstream's coder cannot express.
        CorruptInput, MissingWeights: No samples, or not finite ones; a language model is needed, and none was found.
    """
    from codecbook.codecs.build import set_bandwidth

    network = network_of(model)
    shape = shape_of(network)
    grid = dialect_to_write(acv, dialect)
    stepper = _stepper(lm, acv, grid, shape)
    samples = _checked_samples(wav, network)
    if bandwidth_kbps is not None:
        network = copy.copy(network)  # shares its parameters; the caller's keeps its bandwidth
        set_bandwidth(network, bandwidth_kbps)
    with torch.inference_mode():
        frames = [
            (codes[0].cpu().numpy(), None if scale is None else float(scale.item()))
            for codes, scale in network.encode(samples[None])
        ]
    return _written(shape, samples.shape[1], frames, grid, stepper)


def write_ecdc_codes(
    tokens: Tokens, lm: LMSource = None, acv: int = 0, dialect: str | GridDialect | None = None
) -> bytes:
    """Write codes that are there already as an ``.ecdc`` stream; see `write_ecdc` for all but the first argument.

    The stream keeps the codes, the length and the segments' scales. Of the weights that made them it tells only whether
    they are this project's bundled ones. Raises CodecbookError: as `write_ecdc`, or tokens of another codec than
    ``encodec_24khz`` and ``encodec_48khz``, without length, or in other segments than the format's.
    """
    shape = shape_of_tokens(tokens)
    sizes = set(zip(tokens.codebook_sizes, tokens.frame_rates_hz, strict=True))
    if sizes != {(shape.codebook_size, shape.frame_rate_hz)} or tokens.num_codebooks > shape.num_codebooks:
        raise UnsupportedInput(
            f"An .ecdc stream of {shape.name} holds up to {shape.num_codebooks} codebooks of {shape.codebook_size} "
            f"codes at {shape.frame_rate_hz} Hz; received {tokens.num_codebooks} of (codes, Hz) {sorted(sizes)}."
        )
    if not tokens.num_samples:
        raise UnsupportedInput("Tokens must say how long their audio is to become .ecdc; set num_samples.")
    counts = list(tokens.segment_frames) or [len(tokens.codes[0])]
    if len(tokens.scales) != (len(counts) if shape.normalises else 0):
        raise UnsupportedInput(f"{len(counts)} segments, {len(tokens.scales)} scales; the tokens are of another codec.")
    grid = dialect_to_write(acv, dialect)
    stepper = _stepper(lm, acv, grid, shape)
    parts = np.split(np.stack(tokens.codes), np.cumsum(counts)[:-1], axis=1)
    frames = list(zip(parts, tokens.scales or [None] * len(parts), strict=True))
    return _written(shape, tokens.num_samples, frames, grid, stepper)


def shape_of_tokens(tokens: Tokens) -> ModelShape:
    """Return the shape of the model that tokens are of: this project's bundled one where their label says so."""
    mini = f"{tokens.codec}{MINI}"
    return shape_named(mini if tokens.weights == f"bundled: {mini}" else tokens.codec)


def dialect_to_write(acv: int, dialect: str | GridDialect | None) -> GridDialect | None:
    """Return the parameters that `write_ecdc` uses (None: upstream's rules); UnsupportedInput where they do not fit."""
    if acv not in (0, 1, 4):
        raise UnsupportedInput(f"acv={acv} is not written; choose 0 (raw), 1 (upstream) or 4.")
    if acv == 1 and dialect is not None:
        raise UnsupportedInput(f"Upstream's stream (acv=1) has no dialect; leave out {dialect}, or choose acv=4.")
    if dialect is None:
        return GRID_DIALECTS["qstep128"] if acv == 4 else None
    if isinstance(dialect, GridDialect):
        return dialect
    require_one_of("dialect", dialect, GRID_DIALECTS)
    return GRID_DIALECTS[dialect]


def _stepper(lm: LMSource, acv: int, grid: GridDialect | None, shape: ModelShape) -> PackageStepper | None:
    if acv == 0:
        if lm is not None:
            raise UnsupportedInput("acv=0 is raw and uses no language model; leave lm out, or choose acv=1 or 4.")
        return None
    if lm is None:
        raise MissingWeights(f"acv={acv} codes with a language model; pass lm=, or choose acv=0.")
    return placed_lm(lm, grid, shape)


def _written(
    shape: ModelShape,
    num_samples: int,
    frames: Sequence[tuple[np.ndarray, float | None]],
    grid: GridDialect | None,
    stepper: PackageStepper | None,
) -> bytes:
    """Return the stream of segments, each ``(codes [K, T], scale)``."""
    counts = [codes.shape[1] for codes, _ in frames]
    expected = [shape.frames(samples) for samples in shape.segments(num_samples)]
    if counts != expected:
        raise UnsupportedInput(f"Segments have {counts[:3]} frames, not {expected[:3]}; the hop length does not fit.")
    header = EcdcHeader(shape.name, num_samples, len(frames[0][0]), uses_lm=stepper is not None)
    if grid is not None:
        acv = 4 if header.uses_lm else 0
        header = replace(header, fp_scale=grid.fp_scale, min_range=grid.min_range, acv=acv, tau=float(grid.tau))
    parts = [write_ecdc_header(header)]
    for index, (codes, scale) in enumerate(frames):
        if stepper is None:
            payload = pack_bits(codes.T, (shape.codebook_size,) * len(codes))
        else:
            payload = encode_steps(codes, stepper, index)
        if scale is not None:
            payload = SCALE.pack(scale) + payload
        if header.is_chunked:
            parts.append(CHUNK.pack(len(payload), zlib.crc32(payload)))
        parts.append(payload)
    return b"".join(parts)


def _checked_samples(wav: Clip | np.ndarray | Tensor, network: "EncodecModel") -> Tensor:
    """Return samples ``[C, S]`` as a float32 tensor on the model's device."""
    if isinstance(wav, Clip):
        if wav.sample_rate_hz != network.sample_rate:
            raise UnsupportedInput(f"The clip is at {wav.sample_rate_hz} Hz, not {network.sample_rate}; convert it.")
        wav = wav.samples
    samples = torch.as_tensor(wav)
    if samples.dim() != 2 or samples.shape[0] != network.channels or not samples.is_floating_point():
        raise UnsupportedInput(f"Give float [{network.channels}, S], not {samples.dtype} {list(samples.shape)}.")
    if samples.shape[1] == 0:
        raise CorruptInput("The clip holds no samples; leave it out.")
    if not bool(torch.isfinite(samples).all()):
        raise CorruptInput("The clip has samples that are not finite; repair or cut the recording.")
    return samples.float().to(next(network.parameters()).device)
