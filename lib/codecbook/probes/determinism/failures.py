"""How often coders fail, with intervals: per cell and pooled over cells, and how long it takes until they do.

What is independent are the segments, each of another clip: the same tokens are decoded in every cell, and a logit near
a grid line is near it in all of them. Pooled intervals are therefore over segments, with all cells of a segment
together; a cell alone has one trial per segment, for which the exact interval is known. Where nothing failed, or all
did, segments show no spread: the interval is then one-sided, after the "rule of three" (none of n: below 3 / n).

Pooled are the cells of full precision in which something differs from the baseline. One in which no bit does is the
baseline under another name, such as its own instruction set: each would lower the share of failures. One of lower
precision is so far off that nearly all rows differ, and would raise a mean over cells to whatever their number is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from codecbook.errors import UnsupportedInput
from codecbook.measure.statistics import LEVEL, Interval, mean_interval, pooled_share, ratio_interval, share_interval
from codecbook.probes.determinism.cells import Cell
from codecbook.probes.determinism.compare import CODERS, CellResult, CoderResult

POOLED = "pooled"
"""Name of the row that pools the cells of a coder."""


def failure_rates(
    results: Sequence[CellResult], coders: Sequence[str], num_frames: int, frame_rate_hz: float
) -> pd.DataFrame:
    """Return one row per coder and cell, and one per coder for its `pooled_cells`, for segments of `num_frames` each.

    The cell that wrote the baseline is left out, as are coders that a cell lacks.

    Returns:
        Columns ``coder``, ``cell`` (`POOLED` for the pooled row, which comes first), ``cells``, ``alike`` (cells in
        which no bit differs from the baseline), ``segments`` (distinct), ``decodes`` (segments times cells), ``wrong``,
        ``silent`` (wrong, and the decoder raised nothing), ``rows``, ``rows_differing``, ``intervals_differing``,
        ``median_s``, and with ``_low`` and ``_high`` each: ``wrong_share``, ``silent_share`` (of those wrong),
        ``rows_per_million``, ``intervals_per_million`` (of all rows). NaN
        where nothing can be said, as of the silent share where nothing is wrong. Coders that ran in no cell have no
        rows.

        Where nothing is wrong, ``wrong_share_high`` counts a segment once however many cells decoded it, as if they
        failed together; ``wrong_share_high_if_independent`` counts every decode, and is NaN elsewhere.

    Raises UnsupportedInput: no coder ran in any compared cell, or as `compared`.
    """
    rows = []
    for coder in coders:
        parts = compared(results, coder)
        if parts:
            groups = [(POOLED, pooled_cells(results, coder)), *((cell, [part]) for cell, part in parts)]
            of_cells = [_rates(coder, cell, group, num_frames, frame_rate_hz) for cell, group in groups]
            of_cells[0]["alike"] = sum(row["alike"] for row in of_cells[1:])  # whether pooled or not
            rows += of_cells
    if not rows:
        raise UnsupportedInput(f"None of {list(coders)} ran in a compared cell; received {len(results)} results.")
    return pd.DataFrame(rows)


def survival(results: Sequence[CellResult], coder: str, num_frames: int, frame_rate_hz: float) -> pd.DataFrame:
    """Return how long segments of a coder go without a wrong token; arguments as `failure_rates`.

    Columns ``time_s``, ``share`` of segments without a wrong token before that time, over `pooled_cells`, ``low`` and
    ``high``, by frame and not for the whole curve. That is the Kaplan-Meier estimate; as no segment is censored before
    its end, it is the plain share. Raises UnsupportedInput: it ran in no compared cell, or as `compared`.
    """
    parts = pooled_cells(results, coder)
    if not parts:
        raise UnsupportedInput(f"{coder!r} ran in no cell that was compared with a baseline; leave it out.")
    return _survival(parts, num_frames, frame_rate_hz)


def half_life_s(curve: pd.DataFrame) -> float:
    """Return when half of the segments of a `survival` have gone wrong; NaN where fewer than half did."""
    gone = np.array(curve["time_s"])[np.array(curve["share"]) <= 0.5]
    return float(gone[0]) if len(gone) else float("nan")


def compared(results: Sequence[CellResult], coder: str) -> list[tuple[str, CoderResult]]:
    """Return name and part of every cell in which a coder was compared with the baseline.

    Raises UnsupportedInput: cells with other numbers of segments.
    """
    parts = [(result.cell.name, part) for result in results if (part := result.ran(coder))]
    counts = {part.segments for _, part in parts}
    if len(counts) > 1:
        raise UnsupportedInput(f"Cells have {sorted(counts)} segments; pool the cells of one case.")
    return parts


def pooled_cells(results: Sequence[CellResult], coder: str) -> list[CoderResult]:
    """Return the parts of the cells of full precision in which something differs; all of them where nothing does."""
    compared(results, coder)
    parts = [part for result in results if not result.cell.precision and (part := result.ran(coder))]
    return [part for part in parts if differs(part)] or parts


def differs(part: CoderResult) -> bool:
    """Say whether a bit of the logits or CDF rows that a cell compared is not the baseline's."""
    return bool((part.logits and part.logits.differing) or (part.cdf and part.cdf.rows_differing))


def rows_of_grids(results: Sequence[CellResult], coarse: str = "grid64", fine: str = "grid128") -> Interval:
    """Return how many CDF rows differ on one grid for each that does on another, over segments.

    By the rule of rounding (`codecbook.probes.determinism.compare`) half as many logits change on a grid that is twice
    as coarse. Both are over the `pooled_cells` in which both ran; the ratio is undefined where nothing differs.
    """
    both = [result for result in results if result.ran(coarse) and result.ran(fine)]
    counts = [
        np.sum([part.cdf.segment_rows_differing for part in pooled_cells(both, coder) if part.cdf], axis=0)
        for coder in (coarse, fine)
    ]
    if np.ndim(counts[0]) == 0 or not np.sum(counts[1]):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    return ratio_interval(*counts)


def silent_share(results: Sequence[CellResult], coders: Sequence[str]) -> tuple[int, int]:
    """Return how many wrong segments raised no error, and how many are wrong, over cells and coders."""
    parts = [part for result in results for coder in coders if (part := result.ran(coder))]
    wrong = sum(part.segments_wrong for part in parts)
    return wrong - sum(bool(error) for part in parts for error in part.wrong_errors.values()), wrong


def beside_published(
    published: pd.DataFrame, series: Mapping[str, Sequence[CellResult]], segment_s: float
) -> pd.DataFrame:
    """Return published figures with ``low_here`` and ``high_here``, the least and greatest of cells that compare.

    Which do, a row says: ``series`` (key of the results of models), ``cells`` (key of `_COMPARABLE`), ``coder``,
    ``quantity`` and ``segment_s`` (that segments must have; empty for any). Of these cells, those in which something
    differs from the baseline count. NaN where there are none, or nothing to compare.
    """
    ends = []
    for row in published.to_dict("records"):
        alike = _COMPARABLE.get(row["cells"], lambda cell: False)
        fits = not row["segment_s"] or np.isclose(float(row["segment_s"]), segment_s)
        values = [
            _QUANTITIES[row["quantity"]](part, row["coder"])
            for result in series.get(row["series"], ())
            if fits and alike(result.cell) and (part := result.ran(row["coder"])) and differs(part)
        ]
        ends.append((min(values, default=np.nan), max(values, default=np.nan)))
    return published.assign(low_here=[low for low, _ in ends], high_here=[high for _, high in ends])


def _is_plain(cell: Cell) -> bool:
    """Say whether torch runs in full precision on this machine's own processor."""
    return cell.backend == "torch" and cell.device == "cpu" and not (cell.processor or cell.precision or cell.compiled)


def _instructions(cell: Cell) -> str:
    return cell.capability or cell.mkl_cbwr or cell.onednn_isa


_COMPARABLE: dict[str, Callable[[Cell], bool]] = {
    "this processor": _is_plain,
    "one instruction set": lambda cell: _is_plain(cell) and not _instructions(cell),
    "other instruction sets": lambda cell: _is_plain(cell) and bool(_instructions(cell)),
    "arm64": lambda cell: cell.backend == "torch" and cell.processor == "arm64",
}
_QUANTITIES: dict[str, Callable[[Any, str], float]] = {
    "rounded logits that differ":
        lambda part, coder: 1e6 * part.logits.grid_mismatches[CODERS[coder].qstep] / part.logits.count,
    "segments that decode wrongly": lambda part, coder: part.segments_wrong / part.segments,
    "largest difference of a logit": lambda part, coder: part.logits.largest,
}  # fmt: skip


def first_frames(part: CoderResult, num_frames: int) -> np.ndarray:
    """Return the first wrong frame of each segment, int64 ``[N]``; `num_frames` where there is none."""
    return np.array([part.first_wrong_frames.get(n, num_frames) for n in range(part.segments)])


def _rates(coder: str, cell: str, parts: list[CoderResult], num_frames: int, frame_rate_hz: float) -> dict[str, Any]:
    """Return a row of `failure_rates`, over all `parts`."""
    N, cells = parts[0].segments, len(parts)
    wrong = np.array([first_frames(part, num_frames) < num_frames for part in parts])  # [cells, N]
    silent = np.array([[n in part.wrong_errors and not part.wrong_errors[n] for n in range(N)] for part in parts])
    differences = [part.cdf for part in parts if part.cdf is not None]
    rows_differ = np.array([cdf.segment_rows_differing for cdf in differences])
    intervals_differ = np.array([cdf.segment_intervals_differing for cdf in differences])
    rows_each = differences[0].rows
    trials, row_trials = np.full(N, cells), np.full(N, cells * rows_each / N)
    row: dict[str, Any] = {
        "coder": coder, "cell": cell, "cells": cells, "alike": sum(not differs(part) for part in parts),
        "segments": N, "decodes": wrong.size,
        "wrong": int(wrong.sum()), "silent": int(silent.sum()), "rows": cells * rows_each,
        "rows_differing": int(rows_differ.sum()), "intervals_differing": int(intervals_differ.sum()),
        "median_s": half_life_s(_survival(parts, num_frames, frame_rate_hz)),
        "wrong_share_high_if_independent": float("nan") if wrong.any() else share_interval(0, wrong.size).high,
    }  # fmt: skip
    row |= pooled_share(wrong.sum(axis=0), trials, N).columns("wrong_share")
    wrong_anywhere = int(wrong.any(axis=0).sum())
    row |= pooled_share(silent.sum(axis=0), wrong.sum(axis=0), wrong_anywhere).columns("silent_share")
    for name, differ in (("rows_per_million", rows_differ), ("intervals_per_million", intervals_differ)):
        row |= pooled_share(differ.sum(axis=0), row_trials, rows_each).columns(name, 1e6)
    return row


def _survival(parts: list[CoderResult], num_frames: int, frame_rate_hz: float) -> pd.DataFrame:
    first = np.stack([first_frames(part, num_frames) for part in parts])  # [cells, N]
    N, times = first.shape[1], np.arange(num_frames + 1)
    by_segment = (first[:, :, None] >= times).mean(axis=0)  # [N, T + 1]
    share = by_segment.mean(axis=0)
    ends = [mean_interval(right) for right in by_segment.T]
    low, high = (np.clip([getattr(end, name) for end in ends], 0, 1) for name in ("low", "high"))
    bound = (1 - LEVEL) ** (1 / N)  # where all segments are alike; see share_interval
    low, high = np.where(share == 1, bound, low), np.where(share == 0, 1 - bound, high)
    low[0] = 1.0  # nothing can have parted before the first frame
    return pd.DataFrame({"time_s": times / frame_rate_hz, "share": share, "low": low, "high": high})
