"""Damage to an ``.ecdc`` stream, what it does to the audio, and what encodec's pull request 95 measures of it.

`precision_eval` and `payload_decode_matrix` are the pull request's two scripts, as functions.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from codecbook.audio import Clip
from codecbook.coding.counts import GridDialect
from codecbook.coding.ecdc.header import read_ecdc_header
from codecbook.coding.ecdc.lm import network_of
from codecbook.coding.ecdc.read import DecodedClip, read_ecdc
from codecbook.coding.ecdc.segments import outline_ecdc, shape_of
from codecbook.coding.ecdc.write import dialect_to_write, write_ecdc
from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.models.weights import checked_device

BAD_SAMPLE_THRESHOLD = 1e-3
"""A sample is bad where damage changes a channel by more than this, of full scale 1."""


@dataclass(frozen=True)
class Corruption:
    """What damage did to decoded audio, against the undamaged stream's."""

    mae: float  # mean absolute difference, of full scale
    max_abs: float  # greatest one
    first_bad_sample: int | None  # above `BAD_SAMPLE_THRESHOLD` in any channel; None if there is none
    last_bad_sample: int | None
    bad_duration_s: float | None  # from the first to the last, both included


@dataclass(frozen=True)
class FlippedByte:
    """A stream with the lowest bit of one byte flipped."""

    data: bytes
    absolute_byte: int  # which one
    payload_byte: int  # the same from the header's end
    chunk_index: int | None  # in which chunk, of an acv=4 stream
    chunk_byte: int | None  # which byte of its payload


def flip_byte(data: bytes, model: Any, fraction: float) -> FlippedByte:
    """Flip the lowest bit of one byte of a stream's payload; in an acv=4 stream, of its chunks' payloads.

    `data` is an undamaged stream, `model` its ``EncodecModel`` or an adapter of one. `fraction` says which byte: 0 is
    the first, 1 the last.
    """
    if not 0 <= fraction <= 1:
        raise UnsupportedInput(f"fraction={fraction} is outside 0 to 1.")
    outline = outline_ecdc(data, shape_of(network_of(model)), math.inf)
    ranges = [(chunk.start, chunk.end) for chunk in outline.chunks] or [(outline.body, len(data))]
    places = np.concatenate([np.arange(start, end) for start, end in ranges])
    place = int(places[min(len(places) - 1, int(len(places) * fraction))])
    damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    index = next((i for i, chunk in enumerate(outline.chunks) if place < chunk.end), None)
    chunk_byte = None if index is None else place - outline.chunks[index].start
    return FlippedByte(damaged, place, place - outline.body, index, chunk_byte)


def compare_decodes(clean: Clip, corrupt: Clip) -> Corruption:
    """Return where and how much decoded audio differs from that of the undamaged stream.

    Samples beyond the shorter of the two are left out; other rates or channels are refused.
    """
    if clean.sample_rate_hz != corrupt.sample_rate_hz or clean.num_channels != corrupt.num_channels:
        raise UnsupportedInput(
            f"The clean clip has {clean.num_channels} channel(s) at {clean.sample_rate_hz} Hz, the other "
            f"{corrupt.num_channels} at {corrupt.sample_rate_hz} Hz; compare two decodes of one codec."
        )
    length = min(clean.num_samples, corrupt.num_samples)
    difference = np.abs(corrupt.samples[:, :length].astype(np.float64) - clean.samples[:, :length])
    mae, max_abs = float(difference.mean()), float(difference.max())
    bad = np.flatnonzero(difference.max(axis=0) > BAD_SAMPLE_THRESHOLD)
    if bad.size == 0:
        return Corruption(mae, max_abs, None, None, None)
    first, last = int(bad[0]), int(bad[-1])
    return Corruption(mae, max_abs, first, last, (last - first + 1) / clean.sample_rate_hz)


def precision_eval(
    model: Any,
    clip: Clip,
    lm: nn.Module | None = None,
    acv: int = 0,
    dialect: str | GridDialect | None = None,
    *,
    bandwidth_kbps: float | None = None,
    corrupt_fraction: float | None = None,
) -> dict[str, Any]:
    """Encode and decode a clip, and measure rate, error, time, and what one flipped bit does.

    Both directions are timed once, as in the original; call it twice to leave out what a first call pays for. The bit
    is flipped at `corrupt_fraction` of the payload (`flip_byte`); None leaves that out. The other arguments, and
    errors, are those of `write_ecdc`.

    Returns:
        The pull request's figures, None where there is none: ``success`` (the undamaged stream decoded, without
        damaged segments), ``encode_s``, ``decode_s``, ``rtf_encode`` and ``rtf_decode`` (of the clip's duration),
        ``mse``, ``mae``, ``max_abs_err`` and ``snr_db`` of the decoded audio, ``bps`` (bits of the whole stream per
        second), ``encoded_bytes``, ``payload_bytes``, ``header_metadata``; of the flipped byte
        ``corrupt_absolute_byte``, ``corrupt_payload_byte``, ``corrupt_chunk_index`` and ``corrupt_chunk_byte``
        (`FlippedByte`); of what it did ``corruption_*`` (`Corruption`); and ``decode_error``: why the undamaged
        stream, or else the damaged one, did not decode.
    """
    start = time.perf_counter()
    data = write_ecdc(model, clip, lm, acv, dialect, bandwidth_kbps=bandwidth_kbps)
    encode_s = time.perf_counter() - start
    header, body = read_ecdc_header(data)
    grid = dialect_to_write(acv, dialect)
    # which the header does not store
    told = {"qstep": grid.qstep, "lm_dtype": grid.lm_dtype} if grid else {}
    start = time.perf_counter()
    clean, error = _decoded(data, model, lm, **told)
    decode_s = None if clean is None else time.perf_counter() - start
    flipped, corrupt, corrupt_error = None, None, ""
    if corrupt_fraction is not None:
        flipped = flip_byte(data, model, corrupt_fraction)
        corrupt, corrupt_error = _decoded(flipped.data, model, lm, **told)
    damage, change = _fields(FlippedByte, flipped), _compared(clean, corrupt)
    return {
        "success": not error,
        "encode_s": encode_s,
        "decode_s": decode_s,
        "rtf_encode": encode_s / clip.duration_s,
        "rtf_decode": None if decode_s is None else decode_s / clip.duration_s,
        **_errors(clip, clean),
        "bps": 8 * len(data) / clip.duration_s,
        "encoded_bytes": len(data),
        "payload_bytes": len(data) - body,
        "header_metadata": header.metadata(),
        **{f"corrupt_{name}": value for name, value in damage.items() if name != "data"},
        "corruption_mae_vs_clean_decode": change.pop("mae"),
        "corruption_max_abs_vs_clean_decode": change.pop("max_abs"),
        **{f"corruption_{name}": value for name, value in change.items()},
        # with checksums the damaged stream decodes too, one segment of it to silence
        "decode_error": error or ("" if corrupt else corrupt_error),
    }


def payload_decode_matrix(
    streams: Mapping[str, bytes],
    model: Any,
    lm: nn.Module | None = None,
    *,
    devices: Sequence[str] = ("cpu",),
    pairs: Sequence[tuple[str, str]] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decode streams on several devices, and compare damaged ones with their originals.

    Streams are given by name, the pairs as ``(clean, corrupt)`` names. The model, an ``EncodecModel`` or an adapter of
    one, is moved to each torch device in turn, and back; the language model is copied there.

    Returns:
        A table with a row per stream and device: ``file``, ``device``, ``success`` (it decoded, without damaged
        segments), ``sr`` (Hz), ``shape``, ``dtype`` and ``max_abs`` of the samples, ``damaged_segments`` and
        ``error``. And one with a row per pair and device: ``clean``, ``corrupt``, ``device``, ``success`` (both
        decoded, damaged segments allowed), ``sr``, ``corruption_mae``, ``corruption_max_abs``, ``first_bad_sample``,
        ``last_bad_sample``, ``bad_duration_s`` (`Corruption`).

    Raises UnsupportedInput: a pair names a stream that is not given. (A stream or a device that cannot be used gives a
    row that says so.)
    """
    unknown = sorted({name for pair in pairs for name in pair} - set(streams))
    if unknown:
        raise UnsupportedInput(f"The pairs name {unknown}, which are not among {sorted(streams)}.")
    rows, compared = [], []
    for device in devices:
        decoded: dict[str, DecodedClip | None] = {}
        for name, data in streams.items():
            found, error = _decoded(data, model, lm, device, lm_device=device)
            decoded[name] = found
            row = {"file": name, "device": device, "success": not error, "sr": None, "shape": None, "dtype": "",
                   "max_abs": None, "damaged_segments": 0, "error": error}  # fmt: skip
            if found is not None:
                samples = found.clip.samples
                row |= {"sr": found.clip.sample_rate_hz, "shape": samples.shape, "dtype": str(samples.dtype),
                        "max_abs": float(np.abs(samples).max()), "damaged_segments": len(found.damage)}  # fmt: skip
            rows.append(row)
        for clean, corrupt in pairs:
            both = decoded[clean], decoded[corrupt]
            figures = _compared(*both)
            compared.append(
                {"clean": clean, "corrupt": corrupt, "device": device, "success": all(both),
                 "sr": both[0].clip.sample_rate_hz if both[0] and both[1] else None,
                 "corruption_mae": figures.pop("mae"), "corruption_max_abs": figures.pop("max_abs"), **figures}
            )  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(compared)


def all_noticed(rows: pd.DataFrame, streams: Sequence[str]) -> bool:
    """Say whether the reader noticed that these streams are damaged, on each device of `payload_decode_matrix`."""
    return bool((rows.loc[rows["file"].isin(list(streams)), "error"] != "").all())


def _decoded(
    data: bytes, model: Any, lm: nn.Module | None, device: str = "", **options: Any
) -> tuple[DecodedClip | None, str]:
    """Decode a stream, with the model on a device where one is named; return also what is wrong with it."""
    network = network_of(model)
    home = next(network.parameters()).device
    try:
        if device:
            network.to(checked_device(device))
        decoded = read_ecdc(data, model, lm, **options)
    except (CodecbookError, RuntimeError) as error:  # torch's own where a device lacks memory or an operation
        return None, str(error).splitlines()[0]
    finally:
        network.to(home)
    return decoded, decoded.damage[0].reason if decoded.damage else ""


def _errors(clip: Clip, decoded: DecodedClip | None) -> dict[str, float | None]:
    if decoded is None:
        return dict.fromkeys(("mse", "mae", "max_abs_err", "snr_db"))
    error = decoded.clip.samples.astype(np.float64) - clip.samples
    mse = float(np.mean(error**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr_db = float(10 * (np.log10(np.mean(clip.samples.astype(np.float64) ** 2)) - np.log10(mse)))
    return {"mse": mse, "mae": float(np.abs(error).mean()), "max_abs_err": float(np.abs(error).max()), "snr_db": snr_db}


def _compared(clean: DecodedClip | None, corrupt: DecodedClip | None) -> dict[str, Any]:
    return _fields(Corruption, compare_decodes(clean.clip, corrupt.clip) if clean and corrupt else None)


def _fields(kind: type, record: Any) -> dict[str, Any]:
    """Return the fields of a record of this kind, None where there is no record."""
    return dict.fromkeys(kind.__dataclass_fields__) if record is None else asdict(record)
