import dataclasses
import math

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.measure.bits_per_second import container_bits, published, ratio_interval, stream_rate


def test_quantities_of_a_case_computed_by_hand() -> None:
    # 2 clips, 100 tokens of 1024 kinds in 4 s, 600 bits, read two at a time
    rate = stream_rate(
        [400, 200], [60, 40], [2.5, 1.5], 1024, 1000, rows_seen=70, tokens_per_row=2, transcript_bytes=50
    )
    assert dataclasses.asdict(rate) == pytest.approx(
        {
            "bits_per_token": 6.0,
            "tokens_per_s": 25.0,
            "vocabulary_size": 1024,
            "bits_per_s": 150.0,
            "bits_per_s_low": rate.bits_per_s_low,
            "bits_per_s_high": rate.bits_per_s_high,
            "capacity_bits_per_s": 250.0,
            "utilisation": 0.6,
            "bits_per_byte": 12.0,
            "container_bits": 16,
            "information_per_storage": 0.375,
            "trunk_parameters": 1000,
            "inference_flops_per_bit": 2000 / 12,
            "training_flops": 420_000.0,
            "duration_s": 4.0,
            "clips": 2,
        }
    )
    assert rate.bits_per_s_low <= 150 <= rate.bits_per_s_high


def test_without_transcripts_there_are_no_bits_per_byte() -> None:
    assert math.isnan(stream_rate([10, 12], [4, 4], [1, 1], 16, 10, 1).bits_per_byte)


def test_one_clip_has_no_interval() -> None:
    rate = stream_rate([10], [4], [1], 16, 10, 1)
    assert math.isnan(rate.bits_per_s_low)
    assert rate.bits_per_s == 10


@pytest.mark.parametrize("bits", [[], [0.0, 0.0], [1.0]])
def test_clips_that_do_not_match_are_refused(bits: list[float]) -> None:
    with pytest.raises(UnsupportedInput):
        stream_rate(bits, [1, 1], [1.0, 1.0], 16, 10, 1)


def test_interval_of_a_ratio_weighs_clips_by_length() -> None:
    rng = np.random.default_rng(0)
    seconds = rng.uniform(1, 20, 200)
    bits = 100 * seconds + rng.normal(0, 30, 200)
    interval = ratio_interval(bits, seconds)
    assert interval.mean == pytest.approx(bits.sum() / seconds.sum(), rel=1e-12)
    # 30 sqrt(200) / sum(seconds) is the deviation of the ratio, here about 0.2
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 30 * 200**0.5 / seconds.sum(), rel=0.15)
    np.testing.assert_allclose((interval.low + interval.high) / 2, interval.mean, atol=0.05)


def test_interval_agrees_with_a_bootstrap_of_the_ratio_itself() -> None:
    rng = np.random.default_rng(1)
    seconds, bits = rng.uniform(1, 5, 60), rng.uniform(50, 900, 60)
    draws = rng.integers(0, 60, (4000, 60))
    low, high = np.quantile(bits[draws].sum(1) / seconds[draws].sum(1), [0.025, 0.975])
    interval = ratio_interval(bits, seconds)
    # resampled 4000 times: ends scatter by some percent of the width
    assert interval.low == pytest.approx(low, abs=0.1 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.1 * (high - low))


@pytest.mark.parametrize(("bits", "seconds"), [([1.0], [0.0]), ([1.0, 2.0], [1.0]), ([], [])])
def test_ratio_needs_positive_denominators(bits: list[float], seconds: list[float]) -> None:
    with pytest.raises(UnsupportedInput):
        ratio_interval(bits, seconds)


@pytest.mark.parametrize(("size", "width"), [(2, 8), (256, 8), (257, 16), (65_536, 16), (65_537, 32)])
def test_container(size: int, width: int) -> None:
    assert container_bits(size) == width


def test_published_rows_agree_with_their_own_definitions() -> None:
    rows = published()
    assert len(rows) == 6
    for row in rows:
        assert row.source.startswith("audio-bits v")
        # printed with two to four digits
        assert row.bits_per_s == pytest.approx(row.bits_per_token * row.tokens_per_s, rel=0.02)
        assert row.capacity_bits_per_s == pytest.approx(
            row.tokens_per_s * math.log2(row.vocabulary_size), rel=0.02
        )
        assert row.utilisation == pytest.approx(row.bits_per_token / math.log2(row.vocabulary_size), abs=0.01)
        assert row.training_flops == pytest.approx(6 * 18_881_024 * row.train_tokens, rel=0.05)
