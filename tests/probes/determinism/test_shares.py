"""Intervals of shares and rates."""

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.shares import pooled_share, rate_interval, share_interval


def test_exact_intervals_of_the_textbook() -> None:
    # Clopper and Pearson at 95 %: 4 of 10
    interval = share_interval(4, 10)
    assert (interval.low, interval.high) == pytest.approx((0.12155, 0.73762), abs=1e-5)
    none, all_of_them = share_interval(0, 60), share_interval(60, 60)
    assert (none.mean, none.low) == (0, 0)
    assert none.high == pytest.approx(3 / 60, rel=0.03), "the rule of three"
    assert all_of_them.low == pytest.approx(1 - none.high, rel=1e-12)
    assert np.isnan(share_interval(0, 0).high)
    for failures, trials, level in ((-1, 3, 0.95), (4, 3, 0.95), (1, 3, 95)):
        with pytest.raises(UnsupportedInput):
            share_interval(failures, trials, level)


def test_cells_of_a_segment_stay_together() -> None:
    # 40 segments, of which half fail in every one of 30 cells: as good as 40 trials, not as 1200
    failures = np.repeat([0, 30], 20)
    pooled = pooled_share(failures, np.full(40, 30), 40)
    alone = share_interval(20, 40)
    assert pooled.mean == 0.5
    assert pooled.high - pooled.low == pytest.approx(alone.high - alone.low, rel=0.15)
    assert pooled.high - pooled.low > 5 * (share_interval(600, 1200).high - share_interval(600, 1200).low)
    assert pooled_share(np.eye(40, dtype=int)[0], np.ones(40, int), 40) == share_interval(1, 40)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random, covered = np.random.default_rng(0), 0
    for seed in range(150):
        odds = random.beta(2, 2, size=50)  # a segment's own, the same in all of its cells
        interval = pooled_share(random.binomial(10, odds), np.full(50, 10), 50, seed=seed)
        covered += interval.low <= 0.5 <= interval.high
    assert 0.88 <= covered / 150 <= 0.99  # 0.95 with a deviation of 0.018


def test_none_or_all_of_the_pool_is_one_sided() -> None:
    trials = np.full(20, 30)
    assert pooled_share(np.zeros(20, int), trials, 20).high == share_interval(0, 20).high
    assert pooled_share(trials, trials, 20).low == share_interval(20, 20).low
    assert np.isnan(pooled_share(np.zeros(2, int), np.zeros(2, int), 0).mean)


def test_rates_where_nothing_parted_and_where_all_did_alike() -> None:
    none = rate_interval(np.zeros(6, int), np.full(6, 10 * 2.0), 10, 0.95, 0)
    assert (none.mean, none.low) == (0, 0)
    assert none.high == pytest.approx(3 / 12, rel=0.01), "six segments of 2 s, each counted once"
    alike = rate_interval(np.full(4, 3), np.full(4, 3 * 0.5), 3, 0.95, 0)
    # Garwood for a count of 4: 1.0899 to 10.2416, over 2 s
    assert (alike.mean, alike.low, alike.high) == pytest.approx((2.0, 1.0899 / 2, 10.2416 / 2), rel=1e-4)
    mixed = rate_interval(np.array([1, 0, 1, 1]), np.array([0.5, 1.0, 0.2, 0.1]), 1, 0.95, 0)
    assert mixed.mean == pytest.approx(3 / 1.8, rel=1e-12)
    assert mixed.low < mixed.mean < mixed.high
