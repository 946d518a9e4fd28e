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
from codecbook.measure.statistics import Interval
from codecbook.probes.determinism.matrix import CellResult
from codecbook.probes.determinism.published import published_table
from codecbook.probes.determinism.shares import RESAMPLES, pooled_share, rate_interval, share_interval

__all__ = [
    "MARKS", "POOLED", "Survival", "compared", "failure_rates", "first_frames", "published_table", "survival",
]  # fmt: skip

POOLED = "all cells"
"""Name of the row that pools the cells of a coder."""
MARKS = ("tokens", "rows", "intervals")
"""What a segment may part by: a wrong token, a CDF row that differs, a coded interval that differs."""
_PER_MILLION = 1e6


@dataclass(frozen=True)
class Survival:
    """When the segments of a coder part from the baseline, over all cells.

    Attributes:
        coder: Its name.
        mark: One of `MARKS`.
        table: Columns ``time_s``, ``share`` of segments without a mark before that time, ``low``, ``high``,
            ``at_risk`` and ``parted`` (segments times cells, before that time). The Kaplan-Meier estimate; as no
            segment is censored before its end, it is the plain share.
        median_s: When half of them have parted; NaN where fewer than half did.
        rate_per_s: How many part per second of audio while they have not: partings over the time at risk, which is
            the maximum-likelihood estimate of an exponential law.
        segments: Distinct segments.
        trials: Segments times cells.
        parted: How many of the trials parted.
    """

    coder: str
    mark: str
    table: pd.DataFrame
    median_s: float  # s
    rate_per_s: Interval  # 1/s
    segments: int
    trials: int
    parted: int


def failure_rates(
    results: Sequence[CellResult],
    coders: Sequence[str],
    num_frames: int,
    frame_rate_hz: float,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per coder and cell, and one per coder that pools its cells.

    Args:
        results: From `run_matrix`. The cell that wrote the baseline is left out, as are coders that a cell lacks.
        coders: Names, in the order of the rows.
        num_frames: ``T`` of every segment.
        frame_rate_hz: Frames per second.
        level: Confidence level of all intervals.
        seed: Of the bootstrap.

    Returns:
        Columns ``coder``, ``cell`` (`POOLED` for the pooled row, which comes first), ``cells``, ``segments``
        (distinct), ``decodes`` (segments times cells), ``wrong``, ``silent`` (wrong, and the decoder raised nothing),
        ``rows``, ``rows_differing``, ``intervals_differing``, ``median_s``, and with ``_low`` and ``_high`` each:
        ``wrong_share``, ``silent_share`` (of those wrong), ``rows_per_million``, ``intervals_per_million`` (of all
        rows), ``failures_per_s`` (`Survival.rate_per_s`). NaN where nothing can be said, as of the silent share where
        nothing is wrong. Coders that ran in no cell have no rows.

        Where nothing is wrong, ``wrong_share_high`` counts a segment once however many cells decoded it, as if they
        failed together; ``wrong_share_high_if_independent`` counts every decode, and is NaN elsewhere. Rows and
        silent failures are resampled by segment where cells counted them so (``segment_rows_differing``,
        ``segment_intervals_differing``, ``wrong_errors``), and else by cell; in a cell alone, rows are then taken
        for independent.

    Raises:
        UnsupportedInput: No coder ran in any compared cell, or segments differ between cells.
    """
    rows = []
    for coder in coders:
        parts = compared(results, coder)
        if parts:
            rows.append(
                _rates(coder, POOLED, [entry for _, entry in parts], num_frames, frame_rate_hz, level, seed)
            )
            rows += [
                _rates(coder, cell, [entry], num_frames, frame_rate_hz, level, seed) for cell, entry in parts
            ]
    if not rows:
        raise UnsupportedInput(
            f"None of {list(coders)} ran in a cell that was compared with a baseline; received {len(results)} results."
        )
    return pd.DataFrame(rows)


def survival(
    results: Sequence[CellResult],
    coder: str,
    num_frames: int,
    frame_rate_hz: float,
    mark: str = "tokens",
    level: float = 0.95,
    seed: int = 0,
) -> Survival:
    """Return how long segments of a coder go without parting from the baseline; arguments as `failure_rates`.

    Args:
        results: As there.
        coder: One name.
        num_frames: ``T`` of every segment; a segment without a mark is censored there.
        frame_rate_hz: Frames per second.
        mark: One of `MARKS`.
        level: Confidence level of the intervals: by frame, not for the whole curve.
        seed: Of the bootstrap over segments.

    Raises:
        UnsupportedInput: The coder ran in no compared cell, segments differ between cells, or an unknown mark.
    """
    parts = compared(results, coder)
    if not parts:
        raise UnsupportedInput(f"{coder!r} ran in no cell that was compared with a baseline; leave it out.")
    return _survival(coder, [entry for _, entry in parts], num_frames, frame_rate_hz, mark, level, seed)


def compared(results: Sequence[CellResult], coder: str) -> list[tuple[str, dict[str, Any]]]:
    """Return name and part of every cell in which a coder was compared with the baseline.

    Raises:
        UnsupportedInput: Cells with other numbers of segments.
    """
    parts = [(result.cell.name, result.content.get("coders", {}).get(coder, {})) for result in results]
    parts = [(cell, entry) for cell, entry in parts if entry.get("status") == "ran" and "cdf" in entry]
    counts = {entry["segments"] for _, entry in parts}
    if len(counts) > 1:
        raise UnsupportedInput(
            f"Cells have {sorted(counts)} segments; pool the cells of one case, and others on their own."
        )
    return parts


def first_frames(entry: dict[str, Any], mark: str, num_frames: int) -> np.ndarray:
    """Return the first marked frame of each segment, int64 ``[N]``; `num_frames` where there is none.

    Raises:
        UnsupportedInput: An unknown mark, or frames beyond `num_frames`.
    """
    if mark not in MARKS:
        raise UnsupportedInput(f"There is no mark {mark!r}; choose one of {', '.join(MARKS)}.")
    if mark == "tokens":
        frames = np.full(entry["segments"], -1)
        for segment, frame in entry["first_wrong_frames"].items():  # JSON makes text of the keys
            frames[int(segment)] = frame
    else:
        frames = np.array(
            entry["cdf"]["first_frames" if mark == "rows" else "first_interval_frames"], dtype=np.int64
        )
    if frames.max(initial=-1) >= num_frames:
        raise UnsupportedInput(
            f"A segment parts in frame {frames.max()}, but num_frames={num_frames}; give the case's T."
        )
    return np.where(frames < 0, num_frames, frames)


def _rates(
    coder: str,
    cell: str,
    entries: list[dict[str, Any]],
    num_frames: int,
    frame_rate_hz: float,
    level: float,
    seed: int,
) -> dict[str, Any]:
    """Return a row of `failure_rates`, over all `entries`."""
    N = entries[0]["segments"]
    wrong = np.array(
        [first_frames(entry, "tokens", num_frames) < num_frames for entry in entries]
    )  # [cells, N]
    until = _survival(coder, entries, num_frames, frame_rate_hz, "tokens", level, seed)
    rows = sum(entry["cdf"]["rows"] for entry in entries)
    row: dict[str, Any] = {
        "coder": coder, "cell": cell, "cells": len(entries), "segments": N, "decodes": wrong.size,
        "wrong": int(wrong.sum()), "silent": sum(e["segments_wrong"] - e["wrong_with_error"] for e in entries),
        "rows": rows, "rows_differing": sum(entry["cdf"]["rows_differing"] for entry in entries),
        "intervals_differing": sum(entry["cdf"]["intervals_differing"] for entry in entries),
        "median_s": until.median_s,
        "wrong_share_high_if_independent": float("nan") if wrong.any() else share_interval(0, wrong.size, level).high,
    }  # fmt: skip
    columns = {
        "wrong_share": (pooled_share(wrong.sum(axis=0), np.full(N, len(entries)), N, level, seed), 1),
        "silent_share": (_silent_share(entries, wrong, level, seed), 1),
        "rows_per_million": (_row_share(entries, "rows_differing", level, seed), _PER_MILLION),
        "intervals_per_million": (_row_share(entries, "intervals_differing", level, seed), _PER_MILLION),
        "failures_per_s": (until.rate_per_s, 1),
    }
    for name, (interval, factor) in columns.items():
        ends = ("", interval.mean), ("_low", interval.low), ("_high", interval.high)
        row |= {name + end: factor * value for end, value in ends}
    return row


def _silent_share(entries: list[dict[str, Any]], wrong: np.ndarray, level: float, seed: int) -> Interval:
    """Return the share of wrong segments without an error: by segment where errors were kept, else by cell."""
    independent = int(wrong.any(axis=0).sum())
    if all("wrong_errors" in entry for entry in entries):
        silent = np.zeros(wrong.shape, dtype=bool)
        for c, entry in enumerate(entries):
            for segment, error in entry["wrong_errors"].items():
                silent[c, int(segment)] = not error
        return pooled_share(silent.sum(axis=0), wrong.sum(axis=0), independent, level, seed)
    count = np.array([entry["segments_wrong"] for entry in entries])
    silent_count = count - np.array([entry["wrong_with_error"] for entry in entries])
    if len(entries) == 1:
        return share_interval(int(silent_count[0]), int(count[0]), level)
    return pooled_share(silent_count, count, independent, level, seed)


def _row_share(entries: list[dict[str, Any]], key: str, level: float, seed: int) -> Interval:
    """Return the share of differing rows: by segment where they were counted so, else by cell.

    A cell alone without such counts is taken for independent rows.
    """
    differing = np.array([entry["cdf"][key] for entry in entries])
    rows = np.array([entry["cdf"]["rows"] for entry in entries])
    if all(f"segment_{key}" in entry["cdf"] for entry in entries):
        by_segment = np.array([entry["cdf"][f"segment_{key}"] for entry in entries]).sum(axis=0)
        return pooled_share(
            by_segment, np.full(len(by_segment), rows.sum() / len(by_segment)), rows[0], level, seed
        )
    if len(entries) == 1:
        return share_interval(int(differing[0]), int(rows[0]), level)
    return pooled_share(differing, rows, int(rows[0]), level, seed)


def _survival(
    coder: str,
    entries: list[dict[str, Any]],
    num_frames: int,
    frame_rate_hz: float,
    mark: str,
    level: float,
    seed: int,
) -> Survival:
    first = np.stack([first_frames(entry, mark, num_frames) for entry in entries])  # [cells, N]
    cells, N = first.shape
    times = np.arange(num_frames + 1)
    by_segment = (first[:, :, None] >= times).mean(axis=0)  # [N, T + 1]
    share = by_segment.mean(axis=0)
    draws = np.random.default_rng(seed).multinomial(N, np.full(N, 1 / N), size=RESAMPLES) / N
    low, high = np.quantile(draws @ by_segment, [(1 - level) / 2, (1 + level) / 2], axis=0)
    bound = (1 - level) ** (1 / N)  # where all segments are alike; see share_interval
    low, high = np.where(share == 1, bound, low), np.where(share == 0, 1 - bound, high)
    low[0] = 1.0  # nothing can have parted before the first frame
    parted = first < num_frames
    exposure_s = np.where(parted, first + 1, num_frames).sum(axis=0) / frame_rate_hz  # [N]
    rate = rate_interval(parted.sum(axis=0), exposure_s, cells, level, seed)
    table = pd.DataFrame(
        {"time_s": times / frame_rate_hz, "share": share, "low": low, "high": high,
         "at_risk": (first[:, :, None] >= times).sum(axis=(0, 1)),
         "parted": (first[:, :, None] < times).sum(axis=(0, 1))}
    )  # fmt: skip
    half = np.flatnonzero(share <= 0.5)
    median_s = float(times[half[0]] / frame_rate_hz) if len(half) else float("nan")
    return Survival(coder, mark, table, median_s, rate, N, first.size, int(parted.sum()))
