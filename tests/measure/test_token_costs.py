"""Costs of tokens as tables with intervals over clips."""

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines import TokenCost
from codecbook.measure.token_costs import codebook_table, cost_table, ratio_interval, saving


def _cost(name: str, bits: np.ndarray, tokens: np.ndarray) -> TokenCost:
    return TokenCost(name, bits, tokens)


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios():
    bits, tokens = np.array([100.0, 10.0, 10.0]), np.array([10, 2, 2])
    interval = ratio_interval(bits, tokens)
    assert interval.mean == pytest.approx(120 / 14, rel=1e-12)
    assert interval.low <= interval.mean <= interval.high
    assert (interval.low, interval.high) == pytest.approx((5.0, 10.0), rel=1e-12)
    assert ratio_interval(bits, tokens) == interval, "equal seeds give equal intervals"


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        tokens = rng.integers(50, 500, 40)
        bits = tokens * rng.normal(7.0, 0.5, 40)
        interval = ratio_interval(bits, tokens, resamples=400, seed=seed)
        covered += interval.low <= 7.0 <= interval.high
    assert 176 <= covered <= 200  # 95 % of 200 is 190; five deviations of a binomial below it


def test_one_clip_has_no_interval():
    interval = ratio_interval(np.array([8.0]), np.array([2]))
    assert interval.mean == 4.0
    assert not interval.defined


@pytest.mark.parametrize(
    ("bits", "tokens", "message"),
    [
        ([1.0, 2.0], [1.0], "two finite arrays"),
        ([1.0, np.nan], [1.0, 1.0], "two finite arrays"),
        ([1.0, 2.0], [0.0, 0.0], "not all 0"),
        ([1.0, 2.0], [3.0, -1.0], "0 or more"),
    ],
)
def test_numbers_that_are_no_ratio_are_refused(bits, tokens, message):
    with pytest.raises(UnsupportedInput, match=message):
        ratio_interval(np.array(bits), np.array(tokens))
    with pytest.raises(UnsupportedInput, match="level=1"):
        ratio_interval(np.array([1.0, 2.0]), np.array([1.0, 1.0]), level=1.0)


def test_tables_hold_models_codebooks_and_savings():
    tokens = np.array([20, 40])
    first = _cost("a", np.array([[60.0, 80.0], [120.0, 160.0]]), tokens)
    second = _cost("b", np.array([[70.0, 90.0], [140.0, 180.0]]), tokens)
    table = cost_table([first, second], raw_bits_per_token=10.0)
    assert table["model"].tolist() == ["a", "b"]
    assert table["bits_per_token"].tolist() == [7.0, 8.0]
    assert table["of_raw_percent"].tolist() == pytest.approx([70.0, 80.0])
    books = codebook_table({"a": first})
    assert books[["codebook", "bits_per_token"]].to_numpy().tolist() == [[0.0, 6.0], [1.0, 8.0]]
    gain = saving(first, second)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((1.0, 1.0, 1.0), rel=1e-12)
    with pytest.raises(UnsupportedInput, match="same clips"):
        saving(first, _cost("c", second.clip_bits, tokens + 2))


def test_a_cost_of_one_stream_has_no_interval_in_the_table():
    stream = _cost("xz", np.array([[80.0]]), np.array([10]))
    row = cost_table({"xz": stream}, raw_bits_per_token=10.0).iloc[0]
    assert row["bits_per_token"] == 8.0
    assert np.isnan(row["bits_per_token_low"])
