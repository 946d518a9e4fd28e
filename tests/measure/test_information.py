import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.measure.information import (
    actual_bitrate_kbps,
    codebook_statistics,
    entropy_bitrate_kbps,
    entropy_bits,
    entropy_miller_madow_bits,
    information_rate,
    nominal_bitrate_kbps,
    sample_coverage,
)
from codecbook.tokens.tokens import Tokens, tokens_from_frames


def tokens_of(codes, size: int, **metadata) -> Tokens:
    return tokens_from_frames(np.asarray(codes, dtype=np.int64)[:, None], size, 75.0, **metadata)


def test_nominal_bitrates_of_known_codecs():
    assert nominal_bitrate_kbps([1024] * 8, [75.0] * 8) == 6.0
    assert nominal_bitrate_kbps([2048] * 8, [12.5] * 8) == pytest.approx(1.1)
    assert nominal_bitrate_kbps([65536], [50.0]) == pytest.approx(0.8)
    snac_hz = [24000 / 2048, 24000 / 1024, 24000 / 512]
    assert nominal_bitrate_kbps([4096] * 3, snac_hz) == pytest.approx(0.984375)


def test_nominal_bitrate_refuses_what_does_not_fit():
    with pytest.raises(UnsupportedInput, match="2 codebook sizes and 1 frame rates"):
        nominal_bitrate_kbps([4, 4], [1.0])
    with pytest.raises(UnsupportedInput, match="give one rate"):
        nominal_bitrate_kbps([], [])
    with pytest.raises(UnsupportedInput, match="frame rates positive"):
        nominal_bitrate_kbps([4], [0.0])


def test_actual_bitrate_counts_every_byte():
    assert actual_bitrate_kbps(750, 1.0) == 6.0
    assert actual_bitrate_kbps(0, 2.0) == 0.0
    for num_bytes, duration_s in ((-1, 1.0), (1, 0.0), (1, float("nan"))):
        with pytest.raises(UnsupportedInput, match="duration_s positive"):
            actual_bitrate_kbps(num_bytes, duration_s)


def test_entropy_by_hand():
    assert entropy_bits(np.array([1, 1, 1, 1])) == 2.0
    assert entropy_bits(np.array([2, 1, 1, 0])) == 1.5
    assert entropy_bits(np.array([7, 0])) == 0.0
    assert not np.signbit(entropy_bits(np.array([7, 0])))
    assert np.isnan(entropy_bits(np.array([], dtype=np.int64)))
    # 1.5 + (3 - 1) / (2 * 4 * ln 2)
    assert entropy_miller_madow_bits(np.array([2, 1, 1, 0])) == pytest.approx(
        1.5 + 0.25 / np.log(2), rel=1e-12
    )


def test_coverage_by_hand():
    assert sample_coverage(np.array([2, 1, 1, 0])) == 0.5
    assert sample_coverage(np.array([4, 2])) == 1.0
    assert np.isnan(sample_coverage(np.array([0, 0])))


def test_counts_must_be_counts():
    with pytest.raises(UnsupportedInput, match="Counts must be integers"):
        entropy_bits(np.array([0.5, 0.5]))
    with pytest.raises(UnsupportedInput, match="minimum -1"):
        sample_coverage(np.array([1, -1]))


def test_correction_removes_most_of_the_bias():
    rng = np.random.default_rng(0)
    size, count = 64, 300
    plugin, corrected = [], []
    for _ in range(200):
        counts = np.bincount(rng.integers(0, size, count), minlength=size)
        plugin.append(entropy_bits(counts))
        corrected.append(entropy_miller_madow_bits(counts))
    predicted_bias = (size - 1) / (2 * count * np.log(2))
    assert 6 - np.mean(plugin) == pytest.approx(predicted_bias, rel=0.1)
    assert abs(6 - np.mean(corrected)) < 0.1 * predicted_bias


def test_statistics_of_a_small_stream_by_hand():
    (record,) = codebook_statistics(tokens_of([0, 1, 0, 1, 0, 2, 0, 1], size=8))
    assert (record.codebook, record.size, record.count, record.used) == (0, 8, 8, 3)
    assert record.frame_rate_hz == 75.0
    assert record.usage == 3 / 8
    assert record.usage_if_uniform == pytest.approx(1 - (7 / 8) ** 8)
    assert record.coverage == 1 - 1 / 8
    entropy = 0.5 * 1 + 3 / 8 * np.log2(8 / 3) + 1 / 8 * 3
    assert record.entropy_bits == pytest.approx(entropy, rel=1e-12)
    assert record.entropy_corrected_bits == pytest.approx(entropy + 2 / (16 * np.log(2)), rel=1e-12)
    assert record.utilisation == pytest.approx(entropy / 3, rel=1e-12)
    assert record.perplexity == pytest.approx(2**entropy, rel=1e-12)
    # pairs 01 x3, 10 x2, 02, 20: after 0 (4 times) 1 three times and 2 once; after 1 and 2 always 0
    assert record.conditional_entropy_bits == pytest.approx(
        4 / 7 * (3 / 4 * np.log2(4 / 3) + 1 / 4 * 2), rel=1e-12
    )
    assert record.pair_coverage == pytest.approx(1 - 2 / 7)


def test_uniform_codes_reach_the_capacity_and_a_cycle_is_predictable():
    (record,) = codebook_statistics(tokens_of(np.tile(np.arange(16), 50), size=16))
    assert record.usage == record.utilisation == 1.0
    assert record.entropy_bits == record.entropy_corrected_bits == 4.0  # the correction is capped at log2 V
    assert record.perplexity == 16.0
    assert record.conditional_entropy_bits == pytest.approx(0, abs=1e-12)
    assert entropy_bitrate_kbps([record, record]) == pytest.approx(0.6)


def test_few_tokens_are_exposed_by_their_coverage():
    codes = np.random.default_rng(1).integers(0, 1024, 500)
    (record,) = codebook_statistics(tokens_of(codes, size=1024))
    assert record.entropy_bits < record.entropy_corrected_bits < 10
    assert record.usage == pytest.approx(record.usage_if_uniform, abs=0.03)
    assert record.conditional_entropy_bits < 1  # of 10: nearly every pair is unique ...
    assert record.pair_coverage < 0.1  # ... and the coverage says so
    assert entropy_bitrate_kbps([record], corrected=True) == pytest.approx(
        0.075 * record.entropy_corrected_bits
    )


def test_several_clips_are_pooled_without_pairs_across_them():
    clips = [tokens_of([0, 0, 0], 4), tokens_of([1, 1, 1], 4)]
    (pooled,) = codebook_statistics(clips)
    assert (pooled.count, pooled.used, pooled.entropy_bits) == (6, 2, 1.0)
    assert pooled.conditional_entropy_bits == 0.0
    (joined,) = codebook_statistics(tokens_of([0, 0, 0, 1, 1, 1], 4))
    assert joined.conditional_entropy_bits > 0.1
    (segmented,) = codebook_statistics(tokens_of([0, 0, 0, 1, 1, 1], 4, segment_frames=(3, 3)))
    assert segmented == pooled


def test_codebooks_of_several_rates():
    tokens = Tokens((np.array([1, 2]), np.array([0, 1, 0, 1])), (4, 2), (10.0, 20.0))
    first, second = codebook_statistics(tokens)
    assert (first.count, second.count) == (2, 4)
    assert entropy_bitrate_kbps([first, second]) == pytest.approx((10 * 1 + 20 * 1) / 1000)


def test_large_codebooks_are_counted_by_pairs_that_occur():
    (record,) = codebook_statistics(tokens_of([65535, 0, 65535, 0, 65535], size=65536))
    assert record.used == 2
    assert record.conditional_entropy_bits == 0.0


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_codes_for_pairs(count):
    (record,) = codebook_statistics(tokens_of(np.zeros(count, dtype=np.int64), size=4))
    assert record.usage == count / 4
    assert np.isnan(record.conditional_entropy_bits)
    assert np.isnan(record.pair_coverage)
    assert np.isnan(record.entropy_bits) == (count == 0)


def test_tokens_must_belong_together():
    with pytest.raises(UnsupportedInput, match="received none"):
        codebook_statistics([])
    with pytest.raises(UnsupportedInput, match="cannot be counted together"):
        codebook_statistics([tokens_of([0], 4), tokens_of([0], 8)])


def test_information_rate_reproduces_a_published_row():
    # SNAC flat: 7.80 bits/token at 84 tokens/s with 12288 codes gives 653 bits/s of 1138 (57 %)
    rate = information_rate(
        7.80, num_tokens=8400, duration_s=100.0, vocabulary_size=12288, transcript_bytes=1400
    )
    assert rate.tokens_per_s == 84.0
    assert rate.bits_per_s == pytest.approx(655.2)
    assert rate.capacity_bits_per_s == pytest.approx(1141, abs=1)
    assert rate.utilisation == pytest.approx(0.574, abs=1e-3)
    assert rate.bits_per_byte == pytest.approx(7.80 * 6)
    assert information_rate(1.0, 1, 1.0, 2).bits_per_byte is None


def test_information_rate_refuses_what_does_not_fit():
    for arguments in ((-1.0, 1, 1.0, 2), (1.0, 0, 1.0, 2), (1.0, 1, 0.0, 2), (1.0, 1, 1.0, 1)):
        with pytest.raises(UnsupportedInput, match="vocabulary_size above 1"):
            information_rate(*arguments)
    with pytest.raises(UnsupportedInput, match="transcript_bytes must be positive; received 0"):
        information_rate(1.0, 1, 1.0, 2, transcript_bytes=0)
