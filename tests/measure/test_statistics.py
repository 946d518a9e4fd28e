import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.measure.statistics import Interval, bootstrap_interval, by_domain, paired_difference


def test_interval_holds_the_mean_and_is_reproducible():
    values = np.random.default_rng(0).standard_normal(40) + 5
    interval = bootstrap_interval(values, seed=1)
    assert interval.mean == pytest.approx(values.mean(), rel=1e-12)
    assert interval.low < interval.mean < interval.high
    assert interval.defined
    assert interval == bootstrap_interval(values, seed=1)
    assert interval != bootstrap_interval(values, seed=2)


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_interval_is_close_to_the_normal_one_for_many_normal_values(method):
    values = np.random.default_rng(3).standard_normal(2000)
    interval = bootstrap_interval(values, method=method)
    half_width = 1.96 * values.std() / np.sqrt(len(values))
    # the ends are quantiles of 4999 resamples: a few per cent of noise
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.06 * half_width)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.06 * half_width)


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_coverage_on_a_simulation(method):
    rng = np.random.default_rng(11)
    hits = 0
    for trial in range(300):
        interval = bootstrap_interval(
            rng.exponential(2.0, size=40), level=0.9, method=method, resamples=400, seed=trial
        )
        hits += interval.low <= 2.0 <= interval.high
    # 0.9 expected, binomial deviation 0.017, and the bootstrap of 40 skewed values is known to fall a little short
    assert 0.83 <= hits / 300 <= 0.95


def test_bca_follows_the_skew():
    values = np.random.default_rng(5).exponential(1.0, size=30)
    bca, percentile = (bootstrap_interval(values, method=m) for m in ("BCa", "percentile"))
    assert bca.low > percentile.low
    assert bca.high > percentile.high


def test_one_value_has_no_interval_and_none_has_no_mean():
    one = bootstrap_interval([5.1234])
    assert one.mean == 5.1234
    assert np.isnan(one.low)
    assert np.isnan(one.high)
    assert not one.defined
    assert str(one) == "5.123 (n=1; no interval from one value)"
    none = bootstrap_interval([])
    assert np.isnan(none.mean)
    assert str(none) == "no values (n=0)"
    assert str(bootstrap_interval([np.nan])) == "no values (n=0, 1 missing)"


def test_equal_values_have_zero_width():
    interval = bootstrap_interval([0.1, 0.1, 0.1])
    assert interval.low == interval.mean == interval.high == 0.1


def test_missing_values_are_counted_not_averaged():
    interval = bootstrap_interval([1.0, np.nan, 3.0, None])  # type: ignore[list-item]
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
    assert str(Interval(mean, low, high, 0.95, 24)) == shown


def test_pairing_removes_what_clips_differ_in():
    rng = np.random.default_rng(9)
    clips = 10 * rng.standard_normal(30)
    a, b = clips + 1 + 0.1 * rng.standard_normal(30), clips + 0.1 * rng.standard_normal(30)
    difference = paired_difference(a, b)
    assert 0.9 < difference.low < difference.high < 1.1
    # unpaired, the same data say nothing
    assert bootstrap_interval(a).low < bootstrap_interval(b).high


def test_a_pair_with_a_gap_on_either_side_is_missing():
    difference = paired_difference([3.0, np.nan, 5.0, 6.0], [1.0, 1.0, np.nan, 4.0])
    assert difference.mean == 2.0
    assert (difference.count, difference.missing) == (2, 2)


def test_pairs_must_match():
    with pytest.raises(UnsupportedInput, match="received 3 and 2"):
        paired_difference([1, 2, 3], [1, 2])


def test_by_domain_splits_and_totals():
    result = by_domain([1.0, 10.0, 3.0, 20.0, 7.0], ["speech", "music", "speech", "music", ""])
    assert list(result) == ["speech", "music", "unknown", "all"]
    assert [result[key].mean for key in result] == [2.0, 15.0, 7.0, pytest.approx(8.2)]
    assert [result[key].count for key in result] == [2, 2, 1, 5]
    assert result["all"] == bootstrap_interval([1.0, 10.0, 3.0, 20.0, 7.0])


def test_by_domain_refuses_what_does_not_fit():
    with pytest.raises(UnsupportedInput, match="2 values, but 1 domains"):
        by_domain([1.0, 2.0], ["speech"])
    with pytest.raises(UnsupportedInput, match='called "all"'):
        by_domain([1.0], ["all"])


def test_bad_arguments_are_refused():
    with pytest.raises(UnsupportedInput, match=r"1 of 2 values are infinite"):
        bootstrap_interval([1.0, np.inf])
    with pytest.raises(UnsupportedInput, match="one axis"):
        bootstrap_interval(np.ones((2, 2)))
    with pytest.raises(UnsupportedInput, match="level must be between 0 and 1"):
        bootstrap_interval([1.0, 2.0], level=95)
    with pytest.raises(UnsupportedInput, match="no method 'normal'"):
        bootstrap_interval([1.0, 2.0], method="normal")
    with pytest.raises(UnsupportedInput, match="at least 100"):
        bootstrap_interval([1.0, 2.0], resamples=10)
