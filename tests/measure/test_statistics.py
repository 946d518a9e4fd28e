import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.measure.statistics import (
    Interval,
    mean_interval,
    median_interval,
    pooled_share,
    ratio_interval,
    share_interval,
)


def test_an_interval_as_columns_of_a_table():
    assert Interval(2.0, 1.0, 4.0, 9).columns("x", 10) == {"x": 20.0, "x_low": 10.0, "x_high": 40.0}


def test_a_value_lies_outside_an_interval_or_nothing_can_be_said():
    interval, none = Interval(1.0, 0.5, 2.0, 9), mean_interval([1.0])
    assert (interval.above(0.0), interval.above(0.5), interval.above(1.0)) == (True, False, False)
    assert (interval.below(3.0), interval.below(2.0), interval.below(1.0)) == (True, False, False)
    assert (none.above(0.0), none.below(9.0)) == (None, None)


def test_the_interval_of_the_textbook():
    # Student's sleep data: 1.58 [0.70, 2.46]
    gains = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    interval = mean_interval(gains)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((1.58, 0.700, 2.460), abs=5e-4)
    median = median_interval(gains)
    assert (median.mean, median.low, median.high) == (
        1.3,
        0.8,
        2.4,
    )  # second and ninth: 97.9 %, third and eighth: 89.1 %


@pytest.mark.parametrize("count", [3, 5, 6, 20])
def test_means_of_few_clips_are_covered_as_often_as_they_say(count):
    random = np.random.default_rng(count)
    covered = [abs(interval.mean - 1) <= interval.high - interval.mean
               for interval in (mean_interval(random.normal(1, 3, count)) for _ in range(2000))]  # fmt: skip
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)  # four deviations of a binomial


def test_medians_are_covered_whatever_the_tails():
    random = np.random.default_rng(0)
    intervals = [median_interval(random.standard_cauchy(8)) for _ in range(1000)]
    assert np.mean([interval.low <= 0 <= interval.high for interval in intervals]) >= 0.95 - 0.02
    assert not median_interval([1.0, 2.0, 3.0, 4.0, 5.0]).defined, "five values hold their median in 94 % of cases"
    assert median_interval([1.0, np.inf, 3.0]).mean == 3.0
    assert median_interval([-60.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).low == -60.0


def test_one_value_has_no_interval_and_none_has_no_mean():
    one = mean_interval([5.1234])
    assert one.mean == 5.1234
    assert np.isnan(one.low)
    assert np.isnan(one.high)
    assert not one.defined
    assert str(one) == "5.123 (n=1; too few for an interval)"
    none = median_interval([])
    assert np.isnan(none.mean)
    assert str(none) == "no values (n=0)"
    assert str(mean_interval([np.nan])) == "no values (n=0, 1 missing)"


def test_equal_values_have_zero_width():
    interval = mean_interval([0.1, 0.1, 0.1])
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.1, 0.1, 0.1), rel=1e-12)
    nought = mean_interval([0.0, 0.0, 0.0])
    assert (nought.above(0), nought.below(0)) == (False, False), "no change is none"


def test_missing_values_are_counted_not_averaged():
    interval = mean_interval([1.0, np.nan, 3.0, None])  # type: ignore[list-item]
    assert interval.mean == 2.0
    assert (interval.count, interval.missing) == (2, 2)
    assert "n=2, 2 missing" in str(interval)


@pytest.mark.parametrize(
    ("low", "mean", "high", "shown"),
    [
        (4.8012, 5.1234, 5.4401, "5.12 [4.80, 5.44] (95 %, n=24)"),
        (100.4, 112.6, 131.0, "113 [100, 131] (95 %, n=24)"),
        (0.00123, 0.00150, 0.00181, "0.00150 [0.00123, 0.00181] (95 %, n=24)"),
        (-1.04, 0.02, 1.06, "0.0 [-1.0, 1.1] (95 %, n=24)"),
    ],
)
def test_digits_follow_the_width(low, mean, high, shown):
    assert str(Interval(mean, low, high, 24)) == shown


def test_bad_arguments_are_refused():
    with pytest.raises(UnsupportedInput, match=r"1 of 2 are infinite"):
        mean_interval([1.0, np.inf])
    with pytest.raises(UnsupportedInput, match="one axis"):
        mean_interval(np.ones((2, 2)))


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios():
    bits, tokens = np.array([100.0, 10.0, 10.0]), np.array([10, 2, 2])
    interval = ratio_interval(bits, tokens)
    assert interval.mean == pytest.approx(120 / 14, rel=1e-12)
    assert interval.high - interval.mean == pytest.approx(interval.mean - interval.low, rel=1e-12)
    # errors 100 - 120 x 10 / 14 and so on, over 14 tokens; 196 / 108 clips of equal length, t with 0.815 degrees
    errors, count = bits - 120 / 14 * tokens, 196 / 108
    half = 22.0471 * np.sqrt(count / (count - 1) * (errors**2).sum()) / 14
    assert interval.high - interval.mean == pytest.approx(half, rel=1e-4)
    assert not ratio_interval(bits, np.array([10, 0, 0])).defined, "nearly all is one clip"
    equal = ratio_interval(bits, np.array([4, 4, 4]))
    # t of 2 degrees of freedom is 4.3027
    assert equal.high - equal.mean == pytest.approx(4.3027 * np.std(bits, ddof=1) / np.sqrt(3) / 4, rel=1e-4)


@pytest.mark.parametrize("lengths", [[61, 11, 6, 3, 2, 1, 1, 1], [61, 11] + [3] * 20, [3.0] * 12])
def test_a_clip_that_outweighs_the_others_counts_as_few(lengths):
    random, covered = np.random.default_rng(1), 0
    for _ in range(600):
        interval = ratio_interval(np.array(lengths) * random.normal(0.2, 0.05, len(lengths)), np.array(lengths))
        covered += interval.low <= 0.2 <= interval.high
    assert covered / 600 >= 0.92  # 0.95 with a deviation of 0.009; with a degree of freedom a clip, 0.5 and 0.8


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        tokens = rng.integers(50, 500, 12)
        bits = tokens * rng.normal(7.0, 0.5, 12)
        interval = ratio_interval(bits, tokens)
        covered += interval.low <= 7.0 <= interval.high
    assert 176 <= covered <= 200  # 95 % of 200 is 190; five deviations of a binomial below it


def test_a_ratio_of_one_clip_has_no_interval():
    interval = ratio_interval(np.array([8.0]), np.array([2]))
    assert interval.mean == 4.0
    assert not interval.defined


@pytest.mark.parametrize(
    ("bits", "tokens", "message"),
    [
        ([1.0, np.nan], [1.0, 1.0], "takes finite arrays"),
        ([1.0, 2.0], [1.0], "takes finite arrays"),
        ([1.0, 2.0], [0.0, 0.0], "not all 0"),
        ([], [], "not all 0"),
        ([1.0, 2.0], [3.0, -1.0], "0 or more"),
    ],
)
def test_numbers_that_are_no_ratio_are_refused(bits, tokens, message):
    with pytest.raises(UnsupportedInput, match=message):
        ratio_interval(np.array(bits), np.array(tokens))


def test_interval_of_a_ratio_weighs_clips_by_length() -> None:
    rng = np.random.default_rng(0)
    seconds = rng.uniform(1, 20, 200)
    bits = 100 * seconds + rng.normal(0, 30, 200)
    interval = ratio_interval(bits, seconds)
    assert interval.mean == pytest.approx(bits.sum() / seconds.sum(), rel=1e-12)
    # 30 sqrt(200) / sum(seconds) is the deviation of the ratio, here about 0.2
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 30 * 200**0.5 / seconds.sum(), rel=0.15)
    np.testing.assert_allclose((interval.low + interval.high) / 2, interval.mean, atol=0.05)


def test_interval_agrees_with_a_bootstrap_where_clips_are_many() -> None:
    rng = np.random.default_rng(1)
    seconds, bits = rng.uniform(1, 5, 60), rng.uniform(50, 900, 60)
    draws = rng.integers(0, 60, (4000, 60))
    low, high = np.quantile(bits[draws].sum(1) / seconds[draws].sum(1), [0.025, 0.975])
    interval = ratio_interval(bits, seconds)
    # resampled 4000 times: ends scatter by some percent of the width
    assert interval.low == pytest.approx(low, abs=0.1 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.1 * (high - low))


def test_exact_intervals_of_the_textbook() -> None:
    # Clopper and Pearson at 95 %: 4 of 10
    interval = share_interval(4, 10)
    assert (interval.low, interval.high) == pytest.approx((0.12155, 0.73762), abs=1e-5)
    none, all_of_them = share_interval(0, 60), share_interval(60, 60)
    assert (none.mean, none.low) == (0, 0)
    assert none.high == pytest.approx(3 / 60, rel=0.03), "the rule of three"
    assert all_of_them.low == pytest.approx(1 - none.high, rel=1e-12)
    assert np.isnan(share_interval(0, 0).high)
    for failures in (-1, 4):
        with pytest.raises(UnsupportedInput):
            share_interval(failures, 3)


def test_cells_of_a_segment_stay_together() -> None:
    # 40 segments, of which half fail in every one of 30 cells: as good as 40 trials, not as 1200
    failures = np.repeat([0, 30], 20)
    pooled = pooled_share(failures, np.full(40, 30), 40)
    alone = share_interval(20, 40)
    assert pooled.mean == 0.5
    assert pooled.high - pooled.low == pytest.approx(alone.high - alone.low, rel=0.15)
    assert pooled.high - pooled.low > 5 * (share_interval(600, 1200).high - share_interval(600, 1200).low)
    assert pooled_share(np.eye(40, dtype=int)[0], np.ones(40, int), 40) == share_interval(1, 40)


def test_segments_that_all_fail_in_the_same_cells_are_no_certainty() -> None:
    # 7 of 8 cells, in each of 16 segments: resampling them would give 0.875 [0.875, 0.875]
    found = pooled_share(np.full(16, 7), np.full(16, 8), 16)
    expected = share_interval(14, 16)
    assert (found.mean, found.low, found.high) == pytest.approx((0.875, expected.low, expected.high), rel=1e-12)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random, covered = np.random.default_rng(0), 0
    for _ in range(150):
        odds = random.beta(2, 2, size=50)  # a segment's own, the same in all of its cells
        interval = pooled_share(random.binomial(10, odds), np.full(50, 10), 50)
        covered += interval.low <= 0.5 <= interval.high
    assert 0.88 <= covered / 150 <= 0.99  # 0.95 with a deviation of 0.018


def test_none_or_all_of_the_pool_is_one_sided() -> None:
    trials = np.full(20, 30)
    assert pooled_share(np.zeros(20, int), trials, 20).high == share_interval(0, 20).high
    assert pooled_share(trials, trials, 20).low == share_interval(20, 20).low
    assert np.isnan(pooled_share(np.zeros(2, int), np.zeros(2, int), 0).mean)
