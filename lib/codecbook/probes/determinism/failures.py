"""How often coders fail, with intervals: per cell and pooled over cells, and how long it takes until they do.

What is independent are the segments, each of another clip: the same tokens are decoded in every cell, and a logit near
a grid line is near it in all of them. Pooled figures are therefore resampled by segment, with all cells of a segment
together; a cell alone has one trial per segment, for which the exact interval is known. Where nothing failed, or all
did, resampling sees no spread: the interval is then one-sided, after the "rule of three" (none of n: below 3 / n).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from codecbook.errors import UnsupportedInput
from codecbook.measure.statistics import LEVEL, RESAMPLES, Interval, pooled_share, rate_interval, share_interval
from codecbook.probes.determinism.compare import CellResult, CoderResult

POOLED = "all cells"
"""Name of the row that pools the cells of a coder."""


@dataclass(frozen=True)
class Survival:
    """When the segments of a coder go wrong, over all cells.

    `table` has the columns ``time_s``, ``share`` of segments without a wrong token before that time, ``low`` and
    ``high``. That is the Kaplan-Meier estimate; as no segment is censored before its end, it is the plain share.
    `rate_per_s` is partings over the time at risk, the maximum-likelihood estimate of an exponential law.
    """

    table: pd.DataFrame
    median_s: float  # when half of them have parted; NaN where fewer than half did
    rate_per_s: Interval  # how many part per second of audio while they have not


def failure_rates(
    results: Sequence[CellResult], coders: Sequence[str], num_frames: int, frame_rate_hz: float, seed: int = 0
) -> pd.DataFrame:
    """Return one row per coder and cell, and one per coder that pools its cells, for segments of `num_frames` each.

    The cell that wrote the baseline is left out, as are coders that a cell lacks.

    Returns:
        Columns ``coder``, ``cell`` (`POOLED` for the pooled row, which comes first), ``cells``, ``segments``
        (distinct), ``decodes`` (segments times cells), ``wrong``, ``silent`` (wrong, and the decoder raised nothing),
        ``rows``, ``rows_differing``, ``intervals_differing``, ``median_s``, and with ``_low`` and ``_high`` each:
        ``wrong_share``, ``silent_share`` (of those wrong), ``rows_per_million``, ``intervals_per_million`` (of all
        rows), ``failures_per_s`` (`Survival.rate_per_s`). NaN where nothing can be said, as of the silent share where
        nothing is wrong. Coders that ran in no cell have no rows.

        Where nothing is wrong, ``wrong_share_high`` counts a segment once however many cells decoded it, as if they
        failed together; ``wrong_share_high_if_independent`` counts every decode, and is NaN elsewhere.

    Raises UnsupportedInput: no coder ran in any compared cell, or as `compared`.
    """
    rows = []
    for coder in coders:
        parts = compared(results, coder)
        if parts:
            groups = [(POOLED, [part for _, part in parts]), *((cell, [part]) for cell, part in parts)]
            rows += [_rates(coder, cell, group, num_frames, frame_rate_hz, seed) for cell, group in groups]
    if not rows:
        raise UnsupportedInput(
            f"None of {list(coders)} ran in a cell that was compared with a baseline; received {len(results)} results."
        )
    return pd.DataFrame(rows)


def survival(
    results: Sequence[CellResult], coder: str, num_frames: int, frame_rate_hz: float, seed: int = 0
) -> Survival:
    """Return how long segments of a coder go without a wrong token; arguments as `failure_rates`.

    A segment that goes through is censored at its end. Intervals are by frame, not for the whole curve. Raises
    UnsupportedInput: the coder ran in no compared cell, or as `compared`.
    """
    parts = compared(results, coder)
    if not parts:
        raise UnsupportedInput(f"{coder!r} ran in no cell that was compared with a baseline; leave it out.")
    return _survival([part for _, part in parts], num_frames, frame_rate_hz, seed)


def compared(results: Sequence[CellResult], coder: str) -> list[tuple[str, CoderResult]]:
    """Return name and part of every cell in which a coder was compared with the baseline.

    Raises UnsupportedInput: cells with other numbers of segments.
    """
    parts = [(result.cell.name, part) for result in results if (part := result.ran(coder))]
    counts = {part.segments for _, part in parts}
    if len(counts) > 1:
        raise UnsupportedInput(
            f"Cells have {sorted(counts)} segments; pool the cells of one case, and others on their own."
        )
    return parts


def first_frames(part: CoderResult, num_frames: int) -> np.ndarray:
    """Return the first wrong frame of each segment, int64 ``[N]``; `num_frames` where there is none."""
    return np.array([part.first_wrong_frames.get(n, num_frames) for n in range(part.segments)])


def _rates(
    coder: str, cell: str, parts: list[CoderResult], num_frames: int, frame_rate_hz: float, seed: int
) -> dict[str, Any]:
    """Return a row of `failure_rates`, over all `parts`."""
    N, cells = parts[0].segments, len(parts)
    wrong = np.array([first_frames(part, num_frames) < num_frames for part in parts])  # [cells, N]
    silent = np.array([[n in part.wrong_errors and not part.wrong_errors[n] for n in range(N)] for part in parts])
    differences = [part.cdf for part in parts if part.cdf is not None]
    rows_differ = np.array([cdf.segment_rows_differing for cdf in differences])
    intervals_differ = np.array([cdf.segment_intervals_differing for cdf in differences])
    rows_each = differences[0].rows
    trials, row_trials = np.full(N, cells), np.full(N, cells * rows_each / N)
    until = _survival(parts, num_frames, frame_rate_hz, seed)
    row: dict[str, Any] = {
        "coder": coder, "cell": cell, "cells": cells, "segments": N, "decodes": wrong.size,
        "wrong": int(wrong.sum()), "silent": int(silent.sum()), "rows": cells * rows_each,
        "rows_differing": int(rows_differ.sum()), "intervals_differing": int(intervals_differ.sum()),
        "median_s": until.median_s,
        "wrong_share_high_if_independent": float("nan") if wrong.any() else share_interval(0, wrong.size).high,
    }  # fmt: skip
    row |= pooled_share(wrong.sum(axis=0), trials, N).columns("wrong_share")
    wrong_anywhere = int(wrong.any(axis=0).sum())
    row |= pooled_share(silent.sum(axis=0), wrong.sum(axis=0), wrong_anywhere).columns("silent_share")
    for name, differ in (("rows_per_million", rows_differ), ("intervals_per_million", intervals_differ)):
        row |= pooled_share(differ.sum(axis=0), row_trials, rows_each).columns(name, 1e6)
    return row | until.rate_per_s.columns("failures_per_s")


def _survival(parts: list[CoderResult], num_frames: int, frame_rate_hz: float, seed: int) -> Survival:
    first = np.stack([first_frames(part, num_frames) for part in parts])  # [cells, N]
    cells, N = first.shape
    times = np.arange(num_frames + 1)
    by_segment = (first[:, :, None] >= times).mean(axis=0)  # [N, T + 1]
    share = by_segment.mean(axis=0)
    draws = np.random.default_rng(seed).multinomial(N, np.full(N, 1 / N), size=RESAMPLES) / N
    low, high = np.quantile(draws @ by_segment, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    bound = (1 - LEVEL) ** (1 / N)  # where all segments are alike; see share_interval
    low, high = np.where(share == 1, bound, low), np.where(share == 0, 1 - bound, high)
    low[0] = 1.0  # nothing can have parted before the first frame
    parted = first < num_frames
    exposure_s = np.where(parted, first + 1, num_frames).sum(axis=0) / frame_rate_hz  # [N]
    rate = rate_interval(parted.sum(axis=0), exposure_s, cells)
    table = pd.DataFrame({"time_s": times / frame_rate_hz, "share": share, "low": low, "high": high})
    half = np.flatnonzero(share <= 0.5)
    median_s = float(times[half[0]] / frame_rate_hz) if len(half) else float("nan")
    return Survival(table, median_s, rate)
