"""Write ``.ecdc`` streams; see `codecbook.coding.ecdc`."""

import copy
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codecbook.audio import Clip
from codecbook.codecs.build import set_bandwidth
from codecbook.coding.counts import GRID_DIALECTS, GridDialect
from codecbook.coding.ecdc_header import EcdcHeader, build_header
from codecbook.coding.ecdc_lm import StepHook, encode_tokens
from codecbook.coding.ecdc_models import EncodecModel, network_of
from codecbook.coding.ecdc_raw import pack_codes
from codecbook.coding.ecdc_segments import CHUNK, SCALE, layout_of
from codecbook.coding.ecdc_stepper import PackageStepper, stepper_for
from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput


def write_ecdc(
    model: Any,
    wav: Clip | np.ndarray | Tensor,
    lm: nn.Module | PackageStepper | None = None,
    acv: int = 0,
    dialect: str | GridDialect | None = None,
    *,
    qstep: float | None = None,
    fp_scale: int | None = None,
    min_range: int | None = None,
    tau: float | None = None,
    lm_dtype: str | None = None,
    bandwidth_kbps: float | None = None,
    lm_device: str = "cpu",
    mkldnn: bool | None = None,
    on_step: StepHook | None = None,
) -> bytes:
    """Encode a clip as an ``.ecdc`` stream.

    Args:
        model: An ``EncodecModel`` or an adapter of one, on any device.
        wav: A clip, or float ``[C, S]``, at the model's rate and channels.
        lm: The language model, for `acv` 1 and 4.
        acv: 0: raw. 1: upstream's language-model stream. 4: pull request 95's, in chunks with checksums.
        dialect: For 4, a name in `codecbook.coding.counts.GRID_DIALECTS` or parameters; ``"qstep128"`` by default.
            For 0, whose four extra header keys to write (None: none, as upstream). Not for 1.
        qstep: Replaces the dialect's, as do the next four. The header does not store it: a reader must be told.
        fp_scale: See `GridDialect`.
        min_range: See `GridDialect`.
        tau: See `GridDialect`.
        lm_dtype: See `GridDialect`. Not stored in the header either.
        bandwidth_kbps: One of the model's; None takes what it is set to.
        lm_device: Torch device for the language model; ignored where `lm` is placed already.
        mkldnn: See `PackageStepper`; ignored where `lm` is placed already.
        on_step: Sees every frame that a language model codes.

    Raises:
        UnsupportedInput: Another kind of model, rate, shape or `acv`; parameters that do not belong together or are
            out of range; or a clip that upstream's coder cannot express.
        CorruptInput: No samples, or samples that are not finite.
        MissingWeights: A language model is needed, and none was given.
    """
    network = network_of(model)
    changes = {
        "qstep": qstep,
        "fp_scale": fp_scale,
        "min_range": min_range,
        "tau": tau,
        "lm_dtype": lm_dtype,
    }
    grid = dialect_to_write(acv, dialect, changes)
    stepper = None
    if acv == 0 and lm is not None:
        raise UnsupportedInput("acv=0 is raw and uses no language model; leave lm out, or choose acv=1 or 4.")
    if acv > 0:
        if lm is None:
            raise MissingWeights(f"acv={acv} codes with a language model; pass lm=, or choose acv=0.")
        stepper = stepper_for(lm, grid if acv == 4 else None, network.quantizer.bins, lm_device, mkldnn)
    samples = _checked_samples(wav, network)
    frames = _encode(network, samples, bandwidth_kbps)
    layout = layout_of(network, samples.shape[1])
    counts = [codes.shape[1] for codes, _ in frames]
    expected = [layout.frames(index) for index in range(layout.count)]
    if counts != expected:
        raise UnsupportedInput(
            f"The model makes segments of {counts[:3]} frames, where the format expects {expected[:3]}; its hop length "
            "does not fit its frame rate."
        )
    header = EcdcHeader(
        network.name,
        samples.shape[1],
        len(frames[0][0]),
        uses_lm=acv > 0,
        fp_scale=grid.fp_scale if grid else None,
        min_range=grid.min_range if grid else None,
        acv=acv if grid else None,
        tau=float(grid.tau) if grid else None,
    )
    parts = [build_header(header)]
    for index, (codes, scale) in enumerate(frames):
        if stepper is None:
            coded = pack_codes(codes, network.bits_per_codebook)
        else:
            coded = encode_tokens(codes, stepper, on_step=on_step, segment=index)
        payload = coded if scale is None else SCALE.pack(scale) + coded
        if header.is_chunked:
            parts.append(CHUNK.pack(len(payload), zlib.crc32(payload)))
        parts.append(payload)
    return b"".join(parts)


def dialect_to_write(
    acv: int, dialect: str | GridDialect | None, changes: dict[str, Any]
) -> GridDialect | None:
    """Return the parameters that `write_ecdc` uses, or None where upstream's rules apply.

    Args:
        acv: See `write_ecdc`.
        dialect: See `write_ecdc`.
        changes: Fields of `GridDialect` to replace, where their value is not None.

    Raises:
        UnsupportedInput: An `acv` that is not written, an unknown name, or parameters for upstream's stream.
    """
    changes = {key: value for key, value in changes.items() if value is not None}
    if acv not in (0, 1, 4):
        raise UnsupportedInput(f"acv={acv} is not written; choose 0 (raw), 1 (upstream) or 4.")
    if acv == 1 and (dialect is not None or changes):
        raise UnsupportedInput(
            f"Upstream's stream (acv=1) has no dialect or parameters; leave out {dialect or list(changes)}, or choose "
            "acv=4."
        )
    if isinstance(dialect, str):
        if dialect not in GRID_DIALECTS:
            raise UnsupportedInput(
                f"There is no dialect {dialect!r}; choose one of {', '.join(GRID_DIALECTS)}."
            )
        dialect = GRID_DIALECTS[dialect]
    if dialect is None:
        if acv != 4 and not changes:
            return None
        dialect = GRID_DIALECTS["qstep128"]
    return replace(dialect, **changes)


def _checked_samples(wav: Clip | np.ndarray | Tensor, network: EncodecModel) -> Tensor:
    """Return samples ``[C, S]`` as a float32 tensor on the model's device."""
    if isinstance(wav, Clip):
        if wav.sample_rate_hz != network.sample_rate:
            raise UnsupportedInput(
                f"The clip is at {wav.sample_rate_hz} Hz, {network.name} at {network.sample_rate} Hz; use "
                "codecbook.audio.convert."
            )
        wav = wav.samples
    samples = torch.as_tensor(wav)
    if samples.dim() != 2 or samples.shape[0] != network.channels or not samples.is_floating_point():
        raise UnsupportedInput(
            f"{network.name} takes float samples [{network.channels}, S]; received {samples.dtype} "
            f"{list(samples.shape)}."
        )
    if samples.shape[1] == 0:
        raise CorruptInput("The clip holds no samples; leave it out.")
    if not bool(torch.isfinite(samples).all()):
        raise CorruptInput("The clip has samples that are not finite; repair or cut the recording.")
    return samples.float().to(next(network.parameters()).device)


@torch.inference_mode()
def _encode(
    network: EncodecModel, samples: Tensor, bandwidth_kbps: float | None
) -> list[tuple[np.ndarray, float | None]]:
    """Return codes int64 ``[K, T]`` and the scale of every segment."""
    if bandwidth_kbps is not None:
        network = copy.copy(network)  # shares its parameters; the caller's keeps its bandwidth
        set_bandwidth(network, bandwidth_kbps)
    return [
        (codes[0].cpu().numpy(), None if scale is None else float(scale.item()))
        for codes, scale in network.encode(samples[None])
    ]
