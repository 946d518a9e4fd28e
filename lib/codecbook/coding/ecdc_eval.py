"""What encodec's pull request 95 measures of ``.ecdc`` streams: its two scripts' figures, as functions.

`precision_eval` encodes and decodes one clip, and again with one bit of it flipped. `payload_decode_matrix` decodes
streams that exist on several devices, and compares damaged ones with their originals.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from codecbook.audio import Clip
from codecbook.codecs.base import checked_device
from codecbook.coding.ecdc_damage import Corruption, compare_decodes, flip_byte
from codecbook.coding.ecdc_header import parse_header
from codecbook.coding.ecdc_models import network_of
from codecbook.coding.ecdc_read import Decoded, read_ecdc
from codecbook.coding.ecdc_write import dialect_to_write, write_ecdc
from codecbook.errors import CodecbookError, UnsupportedInput


@dataclass(frozen=True)
class PrecisionEval:
    """One clip, encoded and decoded; and decoded again with one bit flipped.

    Attributes:
        success: The undamaged stream decoded, without damaged segments.
        encode_s: Wall time of encoding.
        decode_s: Wall time of decoding the undamaged stream; None if it failed.
        rtf_encode: Of the clip's duration.
        rtf_decode: Of the clip's duration.
        mse: Mean squared error of the decoded audio.
        mae: Mean absolute error.
        max_abs_err: Greatest absolute error.
        snr_db: Signal-to-noise ratio; gain and polarity count.
        bps: Bits of the whole stream per second of audio.
        encoded_bytes: Of the whole stream.
        payload_bytes: Without the header.
        header_metadata: The header's JSON object.
        corrupt_absolute_byte: Which byte had its lowest bit flipped, from the stream's begin; None if none had.
        corrupt_payload_byte: The same from the header's end.
        corrupt_chunk_index: In which chunk, of an acv=4 stream.
        corrupt_chunk_byte: Which byte of its payload.
        corruption_mae_vs_clean_decode: See `Corruption`, also for the next four; None if it did not decode.
        corruption_max_abs_vs_clean_decode: See `Corruption`.
        corruption_first_bad_sample: See `Corruption`.
        corruption_last_bad_sample: See `Corruption`.
        corruption_bad_duration_s: See `Corruption`.
        decode_error: Why the undamaged stream, or else the damaged one, did not decode; empty where both did.
    """

    success: bool
    encode_s: float  # s
    decode_s: float | None  # s
    rtf_encode: float  # s/s
    rtf_decode: float | None  # s/s
    mse: float | None  # of full scale, squared
    mae: float | None  # of full scale
    max_abs_err: float | None  # of full scale
    snr_db: float | None  # dB
    bps: float  # bit/s
    encoded_bytes: int  # bytes
    payload_bytes: int  # bytes
    header_metadata: dict[str, Any]
    corrupt_absolute_byte: int | None = None
    corrupt_payload_byte: int | None = None
    corrupt_chunk_index: int | None = None
    corrupt_chunk_byte: int | None = None
    corruption_mae_vs_clean_decode: float | None = None  # of full scale
    corruption_max_abs_vs_clean_decode: float | None = None  # of full scale
    corruption_first_bad_sample: int | None = None  # samples
    corruption_last_bad_sample: int | None = None  # samples
    corruption_bad_duration_s: float | None = None  # s
    decode_error: str = ""


@dataclass(frozen=True)
class MatrixRow:
    """One stream, decoded on one device.

    Attributes:
        file: Its name.
        device: Torch device of codec and language model.
        success: It decoded, without damaged segments.
        sr: Samples per second and channel; None if it did not decode.
        shape: ``(C, S)``.
        dtype: Of the samples.
        max_abs: Greatest absolute sample.
        damaged_segments: Segments that became silence.
        error: Why it did not decode, or why its first damaged segment did not; else empty.
    """

    file: str
    device: str
    success: bool
    sr: int | None = None  # Hz
    shape: tuple[int, int] | None = None
    dtype: str = ""
    max_abs: float | None = None  # of full scale
    damaged_segments: int = 0
    error: str = ""


@dataclass(frozen=True)
class MatrixPair:
    """A damaged stream against its original, both decoded on one device.

    Attributes:
        clean: Name of the original.
        corrupt: Name of the damaged one.
        device: As in `MatrixRow`.
        success: Both decoded (damaged segments allowed).
        sr: Samples per second and channel.
        corruption_mae: See `Corruption`, also for the next four.
        corruption_max_abs: See `Corruption`.
        first_bad_sample: See `Corruption`.
        last_bad_sample: See `Corruption`.
        bad_duration_s: See `Corruption`.
    """

    clean: str
    corrupt: str
    device: str
    success: bool
    sr: int | None = None  # Hz
    corruption_mae: float | None = None  # of full scale
    corruption_max_abs: float | None = None  # of full scale
    first_bad_sample: int | None = None  # samples
    last_bad_sample: int | None = None  # samples
    bad_duration_s: float | None = None  # s


@dataclass(frozen=True)
class DecodeMatrix:
    """Streams over devices.

    Attributes:
        rows: One per stream and device.
        pairs: One per pair and device.
    """

    rows: tuple[MatrixRow, ...]
    pairs: tuple[MatrixPair, ...]


def precision_eval(
    model: Any,
    clip: Clip,
    lm: nn.Module | None = None,
    acv: int = 0,
    *,
    corrupt_fraction: float | None = None,
    lm_device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
    **options: Any,
) -> PrecisionEval:
    """Encode and decode a clip, and measure rate, error, time, and what one flipped bit does.

    Both directions are timed once, as in the original; call it twice to leave out what a first call pays for.

    Args:
        model: An ``EncodecModel`` or an adapter of one.
        clip: At the model's rate and channels.
        lm: The language model, for `acv` 1 and 4.
        acv: See `codecbook.coding.ecdc.write_ecdc`.
        corrupt_fraction: 0 to 1: flip the lowest bit of the byte at this share of the payload (of an acv=4 stream:
            of its chunks' payloads, sparing lengths and checksums); None leaves it out.
        lm_device: Torch device for the language model.
        clock: Returns seconds; monotonic.
        options: Other keyword arguments of `write_ecdc`: ``dialect``, ``qstep``, ``bandwidth_kbps`` ...

    Raises:
        UnsupportedInput: See `write_ecdc`, or a fraction outside 0 to 1.
        CorruptInput: See `write_ecdc`.
        MissingWeights: See `write_ecdc`.
    """
    start = clock()
    data = write_ecdc(model, clip, lm, acv, lm_device=lm_device, **options)
    encode_s = clock() - start
    header, body = parse_header(data)
    grid_names = ("qstep", "fp_scale", "min_range", "tau", "lm_dtype")
    grid = dialect_to_write(acv, options.get("dialect"), {key: options.get(key) for key in grid_names})
    told: dict[str, Any] = {"mkldnn": options.get("mkldnn")}
    if grid is not None:
        told |= {"qstep": grid.qstep, "lm_dtype": grid.lm_dtype}  # what the header does not store

    def decode(stream: bytes) -> Decoded:
        return read_ecdc(stream, model, lm, lm_device=lm_device, environ={}, **told)

    figures: dict[str, Any] = {
        "encode_s": encode_s,
        "rtf_encode": encode_s / clip.duration_s,
        "bps": 8 * len(data) / clip.duration_s,
        "encoded_bytes": len(data),
        "payload_bytes": len(data) - body,
        "header_metadata": header.metadata(),
    }
    clean, decode_s, error = _timed(decode, data, clock)
    if clean is not None:
        error = clean.damage[0].reason if clean.damage else ""
        figures |= {
            "decode_s": decode_s,
            "rtf_decode": decode_s / clip.duration_s,
            **_errors(clip, clean.clip),
        }
    else:
        figures |= dict.fromkeys(("decode_s", "rtf_decode", "mse", "mae", "max_abs_err", "snr_db"))
    success = clean is not None and not clean.damage
    if corrupt_fraction is not None:
        flipped = flip_byte(data, model, corrupt_fraction)
        corrupted, _, corrupt_error = _timed(decode, flipped.data, clock)
        error = error or corrupt_error
        figures |= {
            "corrupt_absolute_byte": flipped.absolute_byte,
            "corrupt_payload_byte": flipped.payload_byte,
            "corrupt_chunk_index": flipped.chunk_index,
            "corrupt_chunk_byte": flipped.chunk_byte,
        }
        if clean is not None and corrupted is not None:
            figures |= _corruption_figures(compare_decodes(clean.clip, corrupted.clip))
    return PrecisionEval(success=success, decode_error=error, **figures)


def payload_decode_matrix(
    streams: Mapping[str, bytes],
    model: Any,
    lm: nn.Module | None = None,
    *,
    devices: Sequence[str] = ("cpu",),
    pairs: Sequence[tuple[str, str]] = (),
    **options: Any,
) -> DecodeMatrix:
    """Decode streams on several devices, and compare damaged ones with their originals.

    Args:
        streams: Bytes by name.
        model: An ``EncodecModel`` or an adapter of one, all streams' codec. It is moved to each device in turn, and
            back.
        lm: Their language model, which is copied to each device.
        devices: Torch devices.
        pairs: ``(clean, corrupt)`` names of streams.
        options: Keyword arguments of `codecbook.coding.ecdc.read_ecdc`: ``qstep``, ``lm_dtype``, ``mkldnn`` ...

    Raises:
        UnsupportedInput: A pair names a stream that is not given. (A stream or a device that cannot be used gives a
            row that says so.)
    """
    unknown = sorted({name for pair in pairs for name in pair} - set(streams))
    if unknown:
        raise UnsupportedInput(f"The pairs name {unknown}, which are not among {sorted(streams)}.")
    network = network_of(model)
    home = next(network.parameters()).device
    rows, compared = [], []
    for device in devices:
        decoded: dict[str, Decoded] = {}
        for name, data in streams.items():
            try:
                network.to(checked_device(device))
                decoded[name] = read_ecdc(data, model, lm, lm_device=device, **options)
                rows.append(_row(name, device, decoded[name]))
            except (
                CodecbookError,
                RuntimeError,
                AssertionError,
            ) as error:  # torch's own for an absent device
                rows.append(MatrixRow(name, device, False, error=str(error).splitlines()[0]))
            finally:
                network.to(home)
        compared += [_pair(clean, corrupt, device, decoded) for clean, corrupt in pairs]
    return DecodeMatrix(tuple(rows), tuple(compared))


def _timed(
    decode: Callable[[bytes], Decoded], data: bytes, clock: Callable[[], float]
) -> tuple[Decoded | None, float, str]:
    start = clock()
    try:
        decoded = decode(data)
    except CodecbookError as error:
        return None, clock() - start, str(error)
    return decoded, clock() - start, ""


def _errors(clip: Clip, decoded: Clip) -> dict[str, float]:
    error = decoded.samples.astype(np.float64) - clip.samples
    mse = float(np.mean(error**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr_db = float(10 * (np.log10(np.mean(clip.samples.astype(np.float64) ** 2)) - np.log10(mse)))
    return {
        "mse": mse,
        "mae": float(np.abs(error).mean()),
        "max_abs_err": float(np.abs(error).max()),
        "snr_db": snr_db,
    }


def _corruption_figures(corruption: Corruption) -> dict[str, Any]:
    return {
        "corruption_mae_vs_clean_decode": corruption.mae,
        "corruption_max_abs_vs_clean_decode": corruption.max_abs,
        "corruption_first_bad_sample": corruption.first_bad_sample,
        "corruption_last_bad_sample": corruption.last_bad_sample,
        "corruption_bad_duration_s": corruption.bad_duration_s,
    }


def _row(name: str, device: str, decoded: Decoded) -> MatrixRow:
    samples = decoded.clip.samples
    return MatrixRow(
        file=name,
        device=device,
        success=not decoded.damage,
        sr=decoded.clip.sample_rate_hz,
        shape=(samples.shape[0], samples.shape[1]),
        dtype=str(samples.dtype),
        max_abs=float(np.abs(samples).max()),
        damaged_segments=len(decoded.damage),
        error=decoded.damage[0].reason if decoded.damage else "",
    )


def _pair(clean: str, corrupt: str, device: str, decoded: Mapping[str, Decoded]) -> MatrixPair:
    if clean not in decoded or corrupt not in decoded:
        return MatrixPair(clean, corrupt, device, False)
    corruption = compare_decodes(decoded[clean].clip, decoded[corrupt].clip)
    return MatrixPair(
        clean=clean,
        corrupt=corrupt,
        device=device,
        success=True,
        sr=decoded[clean].clip.sample_rate_hz,
        corruption_mae=corruption.mae,
        corruption_max_abs=corruption.max_abs,
        first_bad_sample=corruption.first_bad_sample,
        last_bad_sample=corruption.last_bad_sample,
        bad_duration_s=corruption.bad_duration_s,
    )
