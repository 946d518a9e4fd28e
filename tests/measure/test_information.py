import numpy as np
import pandas as pd
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.measure.information import (
    codebook_statistics,
    entropy_bits,
    even_entropy_bits,
    left_out_bits,
    short_of_even_bits,
)
from codecbook.tokens.tokens import Tokens, tokens_from_frames


def tokens_of(codes, size: int, **metadata) -> Tokens:
    return tokens_from_frames(np.asarray(codes, dtype=np.int64)[:, None], size, 75.0, **metadata)


def row_of(*tokens: Tokens) -> dict:
    (row,) = codebook_statistics(tokens).to_dict("records")
    return row


def test_entropy_by_hand():
    assert entropy_bits(np.array([1, 1, 1, 1])) == 2.0
    assert entropy_bits(np.array([2, 1, 1, 0])) == 1.5
    assert entropy_bits(np.array([7, 0])) == 0.0
    assert not np.signbit(entropy_bits(np.array([7, 0])))
    assert np.isnan(entropy_bits(np.array([], dtype=np.int64)))


def test_correction_removes_most_of_the_bias():
    rng = np.random.default_rng(0)
    size, count = 64, 300
    rows = pd.concat(codebook_statistics([tokens_of(rng.integers(0, size, count), size)]) for _ in range(200))
    predicted_bias = (size - 1) / (2 * count * np.log(2))
    assert 6 - rows["entropy_bits"].mean() == pytest.approx(predicted_bias, rel=0.1)
    assert abs(6 - rows["entropy_corrected_bits"].mean()) < 0.1 * predicted_bias


def test_statistics_of_a_small_stream_by_hand():
    entropy = 0.5 * 1 + 3 / 8 * np.log2(8 / 3) + 1 / 8 * 3
    expected = {
        "codebook": 0, "size": 8, "frame_rate_hz": 75.0, "count": 8, "used": 3,
        "usage_of_uniform": 3 / (8 * (1 - (7 / 8) ** 8)), "entropy_bits": entropy,
        "entropy_if_even_bits": even_entropy_bits(8, 8), "entropy_corrected_bits": entropy + 2 / (16 * np.log(2)),
    }  # fmt: skip
    assert row_of(tokens_of([0, 1, 0, 1, 0, 2, 0, 1], size=8)) == pytest.approx(expected, rel=1e-12)


def test_uniform_codes_reach_the_capacity():
    row = row_of(tokens_of(np.tile(np.arange(16), 50), size=16))
    assert row["usage_of_uniform"] == pytest.approx(1.0)
    assert row["entropy_bits"] == row["entropy_corrected_bits"] == 4.0  # the correction is capped at log2 V


def test_few_tokens_show_as_much_use_as_an_even_source_would():
    codes = np.random.default_rng(1).integers(0, 1024, 500)
    row = row_of(tokens_of(codes, size=1024))
    assert row["entropy_bits"] < row["entropy_corrected_bits"] < 10
    assert row["usage_of_uniform"] == pytest.approx(1.0, abs=0.07)


def test_several_clips_and_rates():
    pooled = row_of(tokens_of([0, 0, 0], 4), tokens_of([1, 1, 1], 4))
    assert (pooled["count"], pooled["used"], pooled["entropy_bits"]) == (6, 2, 1.0)
    tokens = Tokens((np.array([1, 2]), np.array([0, 1, 0, 1])), (4, 2), (10.0, 20.0))
    assert codebook_statistics([tokens])["count"].tolist() == [2, 4]
    assert row_of(tokens_of([65535, 0, 65535], size=65536))["used"] == 2


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_codes(count):
    row = row_of(tokens_of(np.zeros(count, dtype=np.int64), size=4))
    assert row["usage_of_uniform"] == 1.0 or count == 0
    for name in ("usage_of_uniform", "entropy_bits", "entropy_corrected_bits"):
        assert np.isnan(row[name]) == (count == 0)


def test_tokens_must_belong_together():
    with pytest.raises(UnsupportedInput, match="received none"):
        codebook_statistics([])
    with pytest.raises(UnsupportedInput, match="cannot be counted together"):
        codebook_statistics([tokens_of([0], 4), tokens_of([0], 8)])


def test_an_even_source_shows_less_than_its_capacity():
    # Miller: the plug-in entropy of N draws from V equal codes is about (V - 1) / (2 N ln 2) bits too low
    for size, count in ((1024, 20_000), (4, 1000)):
        bias = (size - 1) / (2 * count * np.log(2))
        assert even_entropy_bits(size, count, 0.5) == pytest.approx(np.log2(size) - bias, rel=1e-3)
    assert even_entropy_bits(1024, 100) < np.log2(100), "fewer draws than codes: some come twice"
    assert even_entropy_bits(1, 5) == 0.0
    random = np.random.default_rng(1)
    samples = [entropy_bits(np.bincount(random.integers(64, size=500), minlength=64)) for _ in range(300)]
    assert 0 <= np.mean(np.array(samples) < even_entropy_bits(64, 500)) < 0.04


def test_what_a_clip_costs_with_the_frequencies_of_the_others():
    a, b = tokens_of([0, 0, 0, 1], 2), tokens_of([0, 1], 2)
    # a by b: both codes have 1.5 of 3; b by a: 3.5 and 1.5 of 5
    expected = (4 * 1.0 - np.log2(3.5 / 5) - np.log2(1.5 / 5)) / 6
    assert left_out_bits([a, b]) == pytest.approx([expected], rel=1e-12)
    assert np.isnan(left_out_bits([a])).all(), "one clip has no others"
    even = [tokens_of(np.random.default_rng(n).integers(256, size=400), 256) for n in range(4)]
    assert left_out_bits(even)[0] > 8.0 > codebook_statistics(even)["entropy_bits"][0]


def test_a_uniform_source_passes_for_even_and_a_worn_one_does_not():
    random = np.random.default_rng(2)
    worn = random.permutation(np.r_[random.integers(256, size=1500), np.zeros(500, int)])
    found = {name: codebook_statistics([tokens_of(codes, 256)])
             for name, codes in {"uniform": random.integers(256, size=2000), "worn": worn}.items()}  # fmt: skip
    assert short_of_even_bits(found["worn"]) > 0.1
    assert short_of_even_bits(found["uniform"]) <= 0, "below log2 V, and no sign of unevenness"
    assert found["uniform"]["entropy_bits"].item() < 8
    # one uniform codebook among uneven ones is enough
    assert short_of_even_bits(pd.concat(found.values())) <= 0


def test_a_codebook_that_has_collapsed_shows_in_its_use_whatever_the_sample():
    random = np.random.default_rng(3)
    for count in (300, 3000):
        few, all_codes = (codebook_statistics([tokens_of(random.integers(size, size=count), 1024)])
                          for size in (100, 1024))  # fmt: skip
        assert few["usage_of_uniform"].item() < 0.5 < 0.95 < all_codes["usage_of_uniform"].item()
