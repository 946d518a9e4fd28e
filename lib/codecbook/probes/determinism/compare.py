"""What one configuration computed against another: logits, CDF rows, intervals, and where they first part.

Rule of thumb that the measured points are held against: a logit that is off by ``d`` falls on the other side of a
grid line with probability ``|d| / step``, so that ``1e6 E|d| / step`` logits per million change.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np

GRID_STEPS = tuple(2.0**-n for n in (12, 10, 8, 7, 6, 4, 2))
"""Steps, in nats, at which rounded logits are compared."""


@dataclass(frozen=True)
class LogitDifference:
    """Logits of two configurations.

    Attributes:
        count: How many logits.
        differing: How many differ in any bit.
        mean_abs: Mean of the absolute difference; of integer logits in their unit, 2^-8 bit.  # nats
        largest: The largest difference.
        grid_mismatches: By step in nats, how many rounded logits differ; empty for integers.
    """

    count: int
    differing: int
    mean_abs: float  # nats
    largest: float  # nats
    grid_mismatches: dict[float, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CdfDifference:
    """CDF rows of two configurations, and the intervals of the codes that were coded.

    Attributes:
        rows: How many rows.
        rows_differing: How many differ anywhere.
        intervals_differing: In how many rows the coded interval differs.
        first: Segment, frame, codebook and code of the first value that differs, in coding order; None without any.
        first_frames: By segment, the first frame in which a row differs; -1 without any.
        first_interval_frames: The same of coded intervals.
        segment_rows_differing: `rows_differing` by segment.
        segment_intervals_differing: `intervals_differing` by segment.
    """

    rows: int
    rows_differing: int
    intervals_differing: int
    first: tuple[int, int, int, int] | None
    first_frames: list[int]
    first_interval_frames: list[int]
    segment_rows_differing: list[int]
    segment_intervals_differing: list[int]


def compare_logits(baseline: np.ndarray, other: np.ndarray) -> LogitDifference:
    """Compare logits ``[N, T, K, V]``, floats in nats or integers; equal infinities count as equal."""
    count, differing, total, largest = 0, 0, 0.0, 0.0
    is_float = baseline.dtype.kind == "f"
    mismatches = dict.fromkeys(GRID_STEPS, 0) if is_float else {}
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
    ends = np.stack([intervals(cdf, codes) for cdf in (baseline, other)])
    intervals_differ = (ends[0] != ends[1]).any(axis=-1)
    first = None
    if rows_differ.any():
        n, t, k = (int(i) for i in np.argwhere(rows_differ)[0])
        first = (n, t, k, int(np.argmax(baseline[n, t, k] != other[n, t, k])))
    return CdfDifference(
        rows_differ.size, int(rows_differ.sum()), int(intervals_differ.sum()), first,
        _first_frames(rows_differ), _first_frames(intervals_differ),
        rows_differ.sum(axis=(1, 2)).tolist(), intervals_differ.sum(axis=(1, 2)).tolist(),
    )  # fmt: skip


def intervals(cdf: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return where each code's interval begins and ends, int64 ``[N, T, K, 2]``."""
    high = np.take_along_axis(cdf, codes[..., None], axis=-1)[..., 0]
    low = np.take_along_axis(cdf, np.maximum(codes - 1, 0)[..., None], axis=-1)[..., 0]
    return np.stack([np.where(codes > 0, low, 0), high], axis=-1).astype(np.int64)


def step_hashes(array: np.ndarray) -> list[str]:
    """Return the first 16 hex digits of the SHA-256 of every frame of ``[N, T, ...]``, in little-endian bytes."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return [
        hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest()[:16]
        for segment in little
        for frame in segment
    ]


def _on_grid(logits: np.ndarray, step: float) -> np.ndarray:
    return np.floor(logits.astype(np.float64) / step + 0.5 - 2.0**-40)


def _first_frames(differ: np.ndarray) -> list[int]:
    frames = np.logical_or.reduce(differ, axis=2)  # [N, T]
    return np.where(frames.any(axis=1), frames.argmax(axis=1), -1).tolist()
