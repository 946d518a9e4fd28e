"""What one configuration computed against another: logits, CDF rows, intervals, tokens, and where they first part.

Rule of thumb that the measured points are held against: a logit that is off by ``d`` falls on the other side of a
grid line with probability ``|d| / step``, so that ``1e6 E|d| / step`` logits per million change.

`CODERS` are compared: where each takes its logits from, and how these become intervals and bytes.
"""

import base64
import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from codecbook.coding.arithmetic import GridDecoder, GridEncoder, UpstreamDecoder, UpstreamEncoder
from codecbook.coding.cdf import Decoder, Encoder, coded_intervals, ideal_bits
from codecbook.coding.counts import GRID_DIALECTS, TOTAL, cdf_upstream
from codecbook.coding.exact.counts import EXACT_TOTAL_BITS, cdf_exact
from codecbook.coding.range_coder import RangeDecoder, RangeEncoder
from codecbook.errors import CorruptInput
from codecbook.probes.determinism.cells import Cell

GRID_STEPS = tuple(2.0**-n for n in (12, 10, 8, 7, 6, 4, 2))
"""Steps, in nats, at which rounded logits are compared."""
_HEADER = struct.Struct("<II")
_LARGEST_BYTES = 1 << 26


@dataclass(frozen=True)
class LogitDifference:
    """Logits of two configurations: floats in nats, or integers in their unit, 2^-8 bit."""

    count: int  # logits
    differing: int  # in any bit
    mean_abs: float  # mean of the absolute difference
    largest: float
    grid_mismatches: dict[float, int] = field(default_factory=dict)  # rounded logits that differ, by step; of floats


@dataclass(frozen=True)
class CdfDifference:
    """CDF rows of two configurations, and the intervals of the codes that were coded."""

    rows: int
    rows_differing: int  # anywhere
    intervals_differing: int  # rows in which the coded interval differs
    first: tuple[int, int, int, int] | None  # segment, frame, codebook and code of the first value that differs
    first_frames: list[int]  # by segment, the first frame in which a row differs; -1 without any
    segment_rows_differing: list[int]
    segment_intervals_differing: list[int]


@dataclass(frozen=True)
class CoderResult:
    """What a cell found of one coder; of a skipped one the reason alone. What is told by segment goes by its number.

    Segments are decoded where their rows differ from the baseline's, the first one in any case.
    """

    status: str  # "ran" or "skipped"
    reason: str = ""
    bits: float = 0.0  # ideal code length of all tokens
    hashes: dict[str, list[str]] = field(default_factory=dict)  # `step_hashes` of "logits", "cdf" and "intervals"
    logits: LogitDifference | None = None  # against the baseline's; None in the baseline
    cdf: CdfDifference | None = None
    segments: int = 0
    segments_wrong: int = 0
    first_wrong_frames: dict[int, int] = field(default_factory=dict)  # of wrong segments
    wrong_codes: dict[int, str] = field(default_factory=dict)  # what came out of them, as `pack_codes` writes it
    wrong_errors: dict[int, str] = field(default_factory=dict)  # what their decoders raised; empty if nothing
    token_hashes: dict[int, str] = field(default_factory=dict)  # `step_hashes` of the tokens of decoded segments


@dataclass(frozen=True)
class CodecResult:
    """What a cell's codec makes in one kind of numbers, against the baseline's; of a skipped one the reason alone."""

    status: str  # "ran" or "skipped"
    reason: str = ""
    tokens: int = 0
    codebooks_differing: list[int] = field(default_factory=list)  # tokens that its encoder makes otherwise
    frames_differing: int = 0  # frames with such tokens
    samples: int = 0
    samples_differing: int = 0  # of the waveform that its decoder makes of the baseline's tokens
    largest: float = 0.0  # difference of a sample, of full scale
    snr_db: float | None = None  # of that waveform; None where it is equal

    @property
    def tokens_differing(self) -> int:
        """Tokens of all codebooks."""
        return sum(self.codebooks_differing)


@dataclass(frozen=True)
class CellResult:
    """What became of a cell."""

    cell: Cell
    status: str  # "ran", "skipped", "crashed" or "timed out"
    reason: str = ""  # why it did not run to its end
    machine: dict[str, Any] = field(default_factory=dict)  # what decides there how floats are rounded
    coders: dict[str, CoderResult] = field(default_factory=dict)  # by name, those that it came to
    codec: dict[str, CodecResult] = field(default_factory=dict)  # by name in `CODECS`, where it was tried
    seconds: float = 0.0  # wall time of its process

    def ran(self, coder: str) -> CoderResult | None:
        """Return what it found of a coder, where that was computed and compared with a baseline."""
        found = self.coders.get(coder)
        return found if found is not None and found.cdf is not None else None


def compare_logits(baseline: np.ndarray, other: np.ndarray) -> LogitDifference:
    """Compare logits ``[N, T, K, V]``, floats in nats or integers; equal infinities count as equal."""
    count, differing, total, largest = 0, 0, 0.0, 0.0
    mismatches = dict.fromkeys(GRID_STEPS, 0) if baseline.dtype.kind == "f" else {}
    for a, b in zip(baseline, other, strict=True):  # a segment at a time bounds the memory
        unequal = a != b
        before, after = a[unequal], b[unequal]
        delta = np.abs(after.astype(np.float64) - before.astype(np.float64))
        count, differing = count + a.size, differing + len(delta)
        total, largest = total + float(delta.sum()), max(largest, float(delta.max(initial=0.0)))
        for step in mismatches:
            mismatches[step] += int((_on_grid(before, step) != _on_grid(after, step)).sum())
    return LogitDifference(count, differing, total / max(count, 1), largest, mismatches)


def compare_cdf(baseline: np.ndarray, other: np.ndarray, codes: np.ndarray) -> CdfDifference:
    """Compare CDFs ``[N, T, K, V]`` of known codes ``[N, T, K]``."""
    rows_differ = np.stack([(a != b).any(axis=-1) for a, b in zip(baseline, other, strict=True)])  # [N, T, K]
    frames = np.logical_or.reduce(rows_differ, axis=2)  # [N, T]
    intervals_differ = (intervals(baseline, codes) != intervals(other, codes)).any(axis=-1)
    first = None
    if rows_differ.any():
        n, t, k = (int(i) for i in np.argwhere(rows_differ)[0])
        first = (n, t, k, int(np.argmax(baseline[n, t, k] != other[n, t, k])))
    return CdfDifference(
        rows_differ.size, int(rows_differ.sum()), int(intervals_differ.sum()), first,
        np.where(frames.any(axis=1), frames.argmax(axis=1), -1).tolist(),
        rows_differ.sum(axis=(1, 2)).tolist(), intervals_differ.sum(axis=(1, 2)).tolist(),
    )  # fmt: skip


def intervals(cdf: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return where each code's interval begins and ends, int64 ``[N, T, K, 2]``."""
    ends = [coded_intervals(segment.T, rows) for segment, rows in zip(codes, cdf, strict=True)]
    return np.stack(ends).transpose(0, 2, 3, 1)


def step_hashes(array: np.ndarray) -> list[str]:
    """Return the first 16 hex digits of the SHA-256 of every frame of ``[N, T, ...]``, in little-endian bytes."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return [
        hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest()[:16]
        for segment in little
        for frame in segment
    ]


def pack_codes(codes: np.ndarray) -> str:
    """Return codes 0 to 65535 ``[T, K]`` as text: ``base64(zlib(u32 T, u32 K, u16 code [T, K]))``, little-endian.

    Example:
        >>> unpack_codes(pack_codes(np.array([[3, 1023]]))).tolist()
        [[3, 1023]]
    """
    payload = _HEADER.pack(*codes.shape) + codes.astype("<u2").tobytes()
    return base64.b64encode(zlib.compress(payload, 9)).decode("ascii")


def unpack_codes(text: str) -> np.ndarray:
    """Return the codes, int64 ``[T, K]``, that `pack_codes` made text of.

    Raises CorruptInput: the text is cut off, altered or no such text, or unpacks to more than 64 MiB.
    """
    try:
        inflate = zlib.decompressobj()
        payload = inflate.decompress(base64.b64decode(text, validate=True), _LARGEST_BYTES)
        if not inflate.eof or inflate.unused_data:
            raise ValueError(f"they end early, go on too long, or exceed {_LARGEST_BYTES} bytes")
        codes = np.frombuffer(payload, dtype="<u2", offset=_HEADER.size).reshape(_HEADER.unpack_from(payload))
    except (struct.error, zlib.error, TypeError, ValueError) as error:
        raise CorruptInput(f"These are no packed codes ({error}); take them again from their result.") from error
    return codes.astype(np.int64)


def _on_grid(logits: np.ndarray, step: float) -> np.ndarray:
    return np.floor(logits.astype(np.float64) / step + 0.5 - 2.0**-40)


@dataclass(frozen=True)
class Coder:
    """From logits to bytes."""

    name: str  # key of results
    title: str  # what readers see
    numbers: str  # "float32" or "float64", logits of the float model, or "exact", of its exact twin
    counts: Callable[[Any], np.ndarray]  # CDF [T, K, V] of logits [T, V, K]
    encoder: Callable[[], Encoder]
    decoder: Callable[[bytes], Decoder]  # of one segment's bytes
    qstep: float = float("nan")  # step of its grid in nats
    # where upstream's rule computes softmax and CDF: on its model's device, as the package does; others on the CPU
    device: str = "cpu"

    @property
    def total(self) -> int:
        """What intervals are shares of."""
        return 1 << EXACT_TOTAL_BITS if self.numbers == "exact" else TOTAL

    def cdf(self, logits: np.ndarray) -> np.ndarray:
        """Return CDF rows int64 ``[R, V]`` of logits ``[R, V]``.

        Each row is computed as a lone column, as a decoder must where codes of a frame depend on one another.
        """
        columns = logits[:, :, None]
        on_device = self.name == "upstream" and self.device != "cpu"
        return self.counts(_on(self.device, columns) if on_device else columns)[:, 0]

    def encode(self, cdf: np.ndarray, codes: np.ndarray) -> list[bytes]:
        """Return the bytes of each segment, for CDFs ``[N, T, K, V]`` and codes ``[N, T, K]``."""
        return [self.encoder().encode(segment.T, rows) for segment, rows in zip(codes, cdf, strict=True)]

    def bits(self, cdf: np.ndarray, codes: np.ndarray) -> float:
        """Return what the codes cost under these CDFs, in bits: no coder undercuts it."""
        ends = intervals(cdf, codes)
        return ideal_bits(ends[..., 0], ends[..., 1], self.total)


def _on(device: str, columns: np.ndarray) -> Any:
    import torch  # here, as the exact coder needs numpy alone

    return torch.from_numpy(np.ascontiguousarray(columns)).to(device)


_Q128, _Q64 = GRID_DIALECTS["qstep128"], GRID_DIALECTS["qstep64"]
_GRID32 = replace(_Q64, lm_dtype="float32")
CODERS = {
    coder.name: coder
    for coder in (
        Coder("upstream", "upstream (float32 softmax)", "float32", cdf_upstream, UpstreamEncoder, UpstreamDecoder),
        Coder("grid128", "acv=4, grid 1/128, float32", "float32", _Q128.cdf, GridEncoder, GridDecoder, _Q128.qstep),
        Coder("grid64", "grid 1/64, float32", "float32", _GRID32.cdf, GridEncoder, GridDecoder, _GRID32.qstep),
        Coder("float64", "acv=4, grid 1/64, float64", "float64", _Q64.cdf, GridEncoder, GridDecoder, _Q64.qstep),
        Coder("exact", "exact integers", "exact", cdf_exact, RangeEncoder, RangeDecoder),
    )
}
"""By name. ``grid64`` is the coarser grid alone; with float64 in addition it is the dialect qstep64 as it stands."""

CODECS = {"codec_float32": "codec, float32", "codec_float64": "codec, float64", "codec_exact": "codec, exact integers"}
"""Titles of the kinds of numbers in which the codec itself is tried, by name."""
