"""Failure rates and survival, from results."""

from collections.abc import Sequence

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.measure.statistics import share_interval
from codecbook.probes.determinism.cells import BASELINE, Cell
from codecbook.probes.determinism.compare import CdfDifference, CellResult, CoderResult
from codecbook.probes.determinism.failures import POOLED, compared, failure_rates, survival

T, K, RATE_HZ = 10, 4, 50.0


def part(first: list[int], errors: Sequence[int] = (), rows: Sequence[int] = ()) -> CoderResult:
    """Return what a worker finds of segments that go wrong in these frames, -1 for never, some of them with errors."""
    wrong = {n: frame for n, frame in enumerate(first) if frame >= 0}
    rows = list(rows) or [0] * len(first)
    before = [max(frame - 1, 0) if frame >= 0 else -1 for frame in first]
    halves = [count // 2 for count in rows]
    cdf = CdfDifference(len(first) * T * K, sum(rows), sum(halves), None, before, rows, halves)
    return CoderResult(
        "ran", cdf=cdf, segments=len(first), segments_wrong=len(wrong),
        first_wrong_frames=wrong, wrong_errors={n: "end" if n in errors else "" for n in wrong},
    )  # fmt: skip


def result(name: str, **coders: CoderResult) -> CellResult:
    return CellResult(Cell(name), "ran", coders=coders)


@pytest.fixture
def results() -> list[CellResult]:
    baseline = CoderResult("ran", segments=4)
    return [
        CellResult(BASELINE, "ran", coders={"grid": baseline, "exact": baseline}),
        result("a", grid=part([0, 4, -1, -1], [0], [2, 4, 0, 0]), exact=part([-1] * 4)),
        result("b", grid=part([1, 9, 4, -1], [], [2, 2, 4, 0]), exact=part([-1] * 4)),
        result("c", grid=CoderResult("skipped", "none"), exact=part([-1] * 4)),
        CellResult(Cell("d"), "timed out"),
    ]


def test_counts_are_those_of_the_cells(results: list[CellResult]) -> None:
    table = failure_rates(results, ["grid", "exact", "absent"], T, RATE_HZ)
    assert list(zip(table.coder, table.cell, strict=True)) == [
        ("grid", POOLED), ("grid", "a"), ("grid", "b"),
        ("exact", POOLED), ("exact", "a"), ("exact", "b"), ("exact", "c"),
    ]  # fmt: skip
    pooled = table.iloc[0]
    assert (pooled.cells, pooled.segments, pooled.decodes, pooled.wrong, pooled.silent) == (2, 4, 8, 5, 4)
    assert (pooled.rows, pooled.rows_differing, pooled.intervals_differing) == (320, 14, 7)
    assert pooled.wrong_share == 5 / 8
    assert pooled.silent_share == 4 / 5
    assert pooled.rows_per_million == pytest.approx(1e6 * 14 / 320)
    for name in ("wrong_share", "silent_share", "rows_per_million", "failures_per_s"):
        low, middle, high = (table[name + end].to_numpy(dtype=float) for end in ("_low", "", "_high"))
        known = ~np.isnan(middle)
        assert known[0]
        assert (low[known] <= middle[known]).all()
        assert (high[known] >= middle[known]).all()
    alone = table.iloc[1]
    expected = share_interval(2, 4)
    assert (alone.wrong_share_low, alone.wrong_share_high) == (expected.low, expected.high)
    assert (alone.silent_share_low, alone.silent_share_high) == (share_interval(1, 2).low, share_interval(1, 2).high)


def test_no_failure_is_no_certainty(results: list[CellResult]) -> None:
    table = failure_rates(results, ["exact"], T, RATE_HZ)
    pooled = table.iloc[0]
    assert (pooled.wrong, pooled.wrong_share, pooled.wrong_share_low) == (0, 0, 0)
    # four clips, in however many cells: not twelve trials
    assert pooled.wrong_share_high == table.iloc[1].wrong_share_high == share_interval(0, 4).high
    assert pooled.wrong_share_high_if_independent == share_interval(0, 12).high
    assert np.isnan(failure_rates(results, ["grid"], T, RATE_HZ).iloc[0].wrong_share_high_if_independent)
    assert np.isnan(pooled.silent_share)
    assert np.isnan(pooled.median_s)
    assert pooled.failures_per_s_high == pytest.approx(-np.log(0.05) / (4 * T / RATE_HZ))


def test_segments_are_what_is_drawn() -> None:
    found = [result(name, x=part([2, 2, 2, -1], [1], [90, 0, 0, 0])) for name in "ab"]
    pooled = failure_rates(found, ["x"], T, RATE_HZ).iloc[0]
    assert pooled.rows_per_million_low == 0, "all are of one segment, which may be drawn never"
    assert pooled.silent_share_low < pooled.silent_share == 2 / 3 < pooled.silent_share_high


def test_survival_counts_what_has_not_parted(results: list[CellResult]) -> None:
    curve = survival(results, "grid", T, RATE_HZ)
    # first wrong frames: 0, 1, 4, 4, 9, and three segments that go through
    assert curve.table.share.tolist() == [1, 7 / 8, 6 / 8, 6 / 8, 6 / 8, 4 / 8, 4 / 8, 4 / 8, 4 / 8, 4 / 8, 3 / 8]
    assert (curve.table.low <= curve.table.share).all()
    assert (curve.table.high >= curve.table.share).all()
    assert curve.median_s == 5 / RATE_HZ
    assert curve.rate_per_s.mean == pytest.approx(5 / ((1 + 2 + 5 + 5 + 10 + 3 * T) / RATE_HZ))
    never = survival(results, "exact", T, RATE_HZ)
    assert set(never.table.share) == {1.0}
    assert never.table.low.tolist() == pytest.approx([1.0] + [0.05 ** (1 / 4)] * T)


def test_an_exponential_law_is_found_again() -> None:
    random, hz = np.random.default_rng(3), 2.0
    frames = random.geometric(hz / RATE_HZ, size=400) - 1
    found = survival([result("a", x=part(np.where(frames < T, frames, -1).tolist()))], "x", T, RATE_HZ)
    assert found.rate_per_s.low < hz < found.rate_per_s.high
    assert found.rate_per_s.mean == pytest.approx(hz, rel=0.25)


def test_what_cannot_be_counted_is_refused(results: list[CellResult]) -> None:
    for call in (lambda: failure_rates(results, ["absent"], T, RATE_HZ), lambda: survival(results[:1], "grid", T, 1.0)):
        with pytest.raises(UnsupportedInput, match="cell that was compared"):
            call()
    with pytest.raises(UnsupportedInput, match="segments"):
        compared([result("a", x=part([1])), result("b", x=part([1, 2]))], "x")
