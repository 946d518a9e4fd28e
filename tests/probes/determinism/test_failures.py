"""Failure rates and survival, from results."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from codecbook.book import tables
from codecbook.errors import UnsupportedInput
from codecbook.measure.statistics import Interval, share_interval
from codecbook.probes.determinism.cells import BASELINE, Cell
from codecbook.probes.determinism.compare import CdfDifference, CellResult, CoderResult, LogitDifference
from codecbook.probes.determinism.failures import (
    POOLED,
    beside_published,
    compared,
    failure_rates,
    half_life_s,
    rows_of_grids,
    silent_share,
    survival,
)

T, K, RATE_HZ = 10, 4, 50.0


def part(first: list[int], errors: Sequence[int] = (), rows: Sequence[int] = ()) -> CoderResult:
    """Return what a worker finds of segments that go wrong in these frames, -1 for never, some of them with errors."""
    wrong = {n: frame for n, frame in enumerate(first) if frame >= 0}
    rows = list(rows) or [0] * len(first)
    before = [max(frame - 1, 0) if frame >= 0 else -1 for frame in first]
    halves = [count // 2 for count in rows]
    cdf = CdfDifference(len(first) * T * K, sum(rows), sum(halves), None, before, rows, halves)
    differing = sum(rows) + len(wrong)
    logits = LogitDifference(1000, differing, 1e-9 * differing, 1e-6 * differing, {1 / 128: differing})
    return CoderResult(
        "ran", logits=logits, cdf=cdf, segments=len(first), segments_wrong=len(wrong),
        first_wrong_frames=wrong, wrong_errors={n: "end" if n in errors else "" for n in wrong},
    )  # fmt: skip


def result(name: str | Cell, **coders: CoderResult) -> CellResult:
    return CellResult(Cell(name) if isinstance(name, str) else name, "ran", coders=coders)


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
    for name in ("wrong_share", "silent_share", "rows_per_million"):
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


def test_segments_are_what_is_drawn() -> None:
    found = [result(name, x=part([2, 2, 2, -1], [1], [90, 0, 0, 0])) for name in "ab"]
    pooled = failure_rates(found, ["x"], T, RATE_HZ).iloc[0]
    assert pooled.rows_per_million_low == 0, "all are of one segment, which may be drawn never"
    assert pooled.silent_share_low < pooled.silent_share == 2 / 3 < pooled.silent_share_high


def test_the_baseline_under_another_name_and_lower_precision_are_not_pooled() -> None:
    broken, alike = part([0] * 16, rows=[4] * 16), part([-1] * 16)
    cells = [result(name, upstream=broken) for name in "abcdefg"] + [result("2 threads", upstream=alike)]
    lowered = result(Cell("bf16", precision="autocast"), upstream=part([0] * 16, rows=[T * K] * 16))
    table = failure_rates([*cells, lowered], ["upstream"], T, RATE_HZ)
    pooled = table.iloc[0]
    # 7 of 8 cells would be 0.875 [0.875, 0.875]
    expected = share_interval(16, 16)
    assert (pooled.cells, pooled.alike, pooled.wrong_share) == (7, 1, 1.0)
    assert (pooled.wrong_share_low, pooled.wrong_share_high) == (expected.low, 1.0)
    assert pooled.rows_per_million == pytest.approx(1e6 * 4 / (T * K))
    assert table[table.cell != POOLED].alike.tolist() == [0] * 7 + [1, 0]
    # where nothing differs anywhere, nothing breaks
    nothing = failure_rates([result(name, upstream=alike) for name in "ab"], ["upstream"], T, RATE_HZ).iloc[0]
    assert (nothing.cells, nothing.alike, nothing.wrong_share) == (2, 2, 0.0)
    assert not Interval(0.0, nothing.wrong_share_low, nothing.wrong_share_high, 16).above(0.5)


def test_a_coarser_grid_is_told_from_one_that_changes_nothing() -> None:
    def grids(fine: list[int], coarse: list[int], **options) -> CellResult:
        return result(Cell("a", **options), grid128=part([-1] * 3, rows=fine), grid64=part([-1] * 3, rows=coarse))

    rule = rows_of_grids([grids([20, 24, 30], [10, 12, 15])])
    assert (rule.mean, rule.below(0.6)) == (0.5, True)
    assert rows_of_grids([grids([20, 24, 30], [19, 25, 30])]).below(0.6) is False
    # a cell in which all rows differ on every grid says nothing of grids
    flat = grids([40, 40, 40], [40, 40, 40], precision="autocast")
    assert rows_of_grids([grids([20, 24, 30], [10, 12, 15]), flat]) == rule
    # nor does one whose time was up before it came to the other grid
    alone = result("b", grid128=part([-1] * 3, rows=[20, 24, 30]))
    assert rows_of_grids([grids([20, 24, 30], [10, 12, 15]), alone]) == rule
    assert rows_of_grids([grids([0, 0, 0], [0, 0, 0])]).below(0.6) is None


def test_what_raised_an_error_was_not_silent() -> None:
    loud, quiet = part([0, 4, -1], errors=[0, 1]), part([0, 4, -1])
    assert silent_share([result("a", x=loud, y=quiet), result("b", x=quiet)], ["x", "y"]) == (4, 6)
    assert silent_share([result("a", x=loud)], ["x"]) == (0, 2)
    assert silent_share([result("a", x=part([-1, -1]))], ["x"]) == (0, 0)


def test_only_what_compares_stands_beside_the_published() -> None:
    broken, alike = part([0, 1, -1], rows=[3, 3, 0]), part([-1] * 3)
    cells = [result("2 threads", grid128=alike), result("batch 8", grid128=broken),
             result(Cell("AVX2", capability="avx2"), grid128=part([0, 1, 2], rows=[5, 0, 0])),
             result(Cell("ONNX", backend="onnx"), grid128=part([-1, -1, 2], rows=[900, 0, 0]))]  # fmt: skip
    rows = [("grid128", "rounded logits that differ", "bundled model", kind, "") for kind in
            ("this processor", "one instruction set", "other instruction sets", "arm64", "")]  # fmt: skip
    rows += [("grid128", "segments that decode wrongly", "bundled model", "this processor", length)
             for length in ("1.0", "0.2")]  # fmt: skip
    rows.append(("grid128", "rounded logits that differ", "other", "this processor", ""))
    published = pd.DataFrame(rows, columns=["coder", "quantity", "series", "cells", "segment_s"])
    here = beside_published(published, {"bundled model": cells}, T / RATE_HZ)[["low_here", "high_here"]]
    nothing = [np.nan, np.nan]
    np.testing.assert_equal(here.to_numpy().tolist(), [
        [8000.0, 8000.0], [8000.0, 8000.0], [8000.0, 8000.0], nothing, nothing, nothing, [2 / 3, 1.0], nothing,
    ])  # fmt: skip
    known = tables.published("determinism")
    assert set(known.cells) == {"", "this processor", "one instruction set", "other instruction sets", "arm64"}
    assert beside_published(known, {}, 1.0).low_here.isna().all()


def test_survival_counts_what_has_not_parted(results: list[CellResult]) -> None:
    curve = survival(results, "grid", T, RATE_HZ)
    # first wrong frames: 0, 1, 4, 4, 9, and three segments that go through
    assert curve.share.tolist() == [1, 7 / 8, 6 / 8, 6 / 8, 6 / 8, 4 / 8, 4 / 8, 4 / 8, 4 / 8, 4 / 8, 3 / 8]
    assert (curve.low <= curve.share).all()
    assert (curve.high >= curve.share).all()
    assert half_life_s(curve) == 5 / RATE_HZ
    never = survival(results, "exact", T, RATE_HZ)
    assert set(never.share) == {1.0}
    assert never.low.tolist() == pytest.approx([1.0] + [0.05 ** (1 / 4)] * T)


def test_what_cannot_be_counted_is_refused(results: list[CellResult]) -> None:
    for call in (lambda: failure_rates(results, ["absent"], T, RATE_HZ), lambda: survival(results[:1], "grid", T, 1.0)):
        with pytest.raises(UnsupportedInput, match=r"compared cell|cell that was compared"):
            call()
    with pytest.raises(UnsupportedInput, match="segments"):
        compared([result("a", x=part([1])), result("b", x=part([1, 2]))], "x")
