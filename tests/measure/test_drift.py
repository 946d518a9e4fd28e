"""Drift of tokens and audio, on codecs that are made so that the answer is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec, Encoded, Weights
from codecbook.errors import UnsupportedInput
from codecbook.measure import drift
from codecbook.measure.quality import si_sdr_db
from codecbook.tokens.tokens import Tokens

RATE_HZ = 16_000


class Pcm(Codec):
    """Codes samples of 8 bits in two codebooks, the upper bits first; decodes to `late` samples later, times `gain`."""

    name = "pcm"
    weights = Weights("random", "none")
    sample_rate_hz = RATE_HZ
    channels = 1
    codebook_sizes = (16, 16)
    frame_rates_hz = (16_000.0, 16_000.0)
    bandwidths_kbps = (64.0, 128.0)
    _preferred_kbps = 128.0

    def __init__(self, gain: float = 1.0, late: int = 0, chunk_s: float = np.inf) -> None:
        self.gain, self.late, self.chunk_s = gain, late, chunk_s

    def _encode(self, queue, num_codebooks, chunk_s):
        samples = queue.rest()[0]
        if chunk_s < 1.5:  # a codec whose tokens depend on its chunks
            samples = samples + 0.1
        level = np.clip(np.floor(128 * samples), -128, 127).astype(np.int64) + 128
        yield Encoded([level // 16, level % 16][:num_codebooks])

    def _decode(self, tokens, mend=None):
        level = 16 * tokens.codes[0] + (tokens.codes[1] if tokens.num_codebooks > 1 else 8)
        heard = self.gain * (level - 128 + 0.5) / 128
        yield np.roll(heard, self.late).astype(np.float32)[None]


def sound(seconds: float = 2.0, seed: int = 0) -> Clip:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))
    smooth = np.convolve(noise, np.hanning(40), mode="same")
    return Clip((0.7 * smooth / np.abs(smooth).max()).astype(np.float32)[None], RATE_HZ, "noise", "speech")


def tokens(*codes: list[int]) -> Tokens:
    return Tokens(tuple(map(np.array, codes)), (16,) * len(codes), (50.0,) * len(codes))


def test_shares_are_over_all_codes_that_both_have() -> None:
    first, second = tokens([1, 2, 3, 4], [5, 6]), tokens([1, 2, 3, 9, 9], [5, 7])
    assert drift.changed_share(first, second) == pytest.approx(2 / 6)
    assert drift.changed_share(first, second, slice(1)) == pytest.approx(1 / 4)
    assert drift.changed_share(first, first) == 0


def test_an_idempotent_codec_keeps_every_token_and_one_that_fades_does_not() -> None:
    steady = pd.DataFrame(drift.recoded(Pcm(), sound(), (0, 1, 10)))
    assert steady.times.tolist() == [0, 1, 10]
    assert (steady[["kept_share", "first_codebook_kept_share"]] == 1).to_numpy().all()
    assert steady.si_sdr_db.nunique() == 1
    fading = pd.DataFrame(drift.recoded(Pcm(gain=0.95), sound(), (0, 1, 10)))
    assert fading.kept_share.is_monotonic_decreasing
    assert fading.kept_share.iloc[-1] < 0.6
    assert fading.kept_share.iloc[1] < fading.first_codebook_kept_share.iloc[1]
    assert fading.log_mel_distance_db.iloc[-1] > fading.log_mel_distance_db.iloc[0] + 2


def test_a_sample_of_delay_moves_every_token_of_pcm_and_faint_noise_few() -> None:
    found = drift.stability(Pcm(), sound())
    assert found["shift_changed_share"] > 0.3
    assert 0 < found["noise_changed_share"] < 0.1
    assert np.isnan(found["chunk_changed_share"])
    louder = drift.stability(Pcm(), sound(), noise_db=-20.0)
    assert louder["noise_changed_share"] > 4 * found["noise_changed_share"]
    assert drift.stability(Pcm(chunk_s=20.0), sound())["chunk_changed_share"] > 0.5


@pytest.mark.parametrize("name", ["encodec_24khz", "encodec_48khz", "snac_24khz", "fsq_50hz"])
def test_the_first_of_a_batch_has_the_codes_of_encode(name: str) -> None:
    codec = load_codec(name)
    random = np.random.default_rng(0)
    length = codec.sample_rate_hz
    waves = 0.1 * random.standard_normal((3, codec.channels, length)).astype(np.float32)
    alone = codec.encode(Clip(waves[0], codec.sample_rate_hz))
    for batch in (waves[:1], waves):
        found = codec.encode_beside(batch)  # type: ignore[attr-defined]
        first = [codes[: len(part)] for codes, part in zip(alone.codes, found, strict=True)]  # of several segments
        assert all(len(part) >= int(rate_hz) for part, rate_hz in zip(first, codec.frame_rates_hz, strict=True))
        same = np.mean([np.mean(a == b) for a, b in zip(found, first, strict=True)])
        assert same > 0.99, "floats of a batch differ in their last bits"
    clips = [Clip(wave, codec.sample_rate_hz) for wave in waves]
    assert len(drift.batch_changes(codec, clips)) == 3
    assert drift.batch_changes(codec, clips[:1]) == []
    assert drift.batch_changes(Pcm(), [sound(), sound()]) == []


def test_a_batch_of_more_than_a_segment_is_refused() -> None:
    codec = load_codec("encodec_48khz")
    with pytest.raises(UnsupportedInput, match="96000 samples are more than a segment"):
        codec.encode_beside(np.zeros((2, 2, 96_000), np.float32))  # type: ignore[attr-defined]


@pytest.mark.parametrize("late", [-30, 0, 7])
def test_a_delay_is_found_and_taken_out(late: int) -> None:
    codec, clip = Pcm(late=late), sound()
    found = drift.delay(clip, codec.decode(codec.encode(clip)))
    assert found["lag_samples"] == late
    assert found["aligned_si_sdr_db"] > 35
    assert (found["si_sdr_db"] < 20) == (late != 0)


def test_a_bit_of_pcm_is_worth_six_decibels() -> None:
    clip = sound()
    quality = [si_sdr_db(clip, drift.pcm(clip, bits)) for bits in (8, 10, 12)]
    assert np.diff(quality) == pytest.approx([12.04, 12.04], abs=0.3)
    assert len(np.unique(drift.pcm(clip, 1).samples)) == 2
    for bits, samples in ((0, clip.samples), (8, np.zeros_like(clip.samples))):
        with pytest.raises(UnsupportedInput, match="give 1 or more, and sound"):
            drift.pcm(replace(clip, samples=samples), bits)


CURVE = ([1.0, 2.0, 4.0, 8.0], [0.5, 0.7, 0.8, 0.85])


def test_rates_at_equal_quality() -> None:
    assert drift.bd_rate(CURVE, CURVE) == drift.BdRate(0.0, 1.0)
    twice = drift.bd_rate(CURVE, ([2 * rate for rate in CURVE[0]], CURVE[1]))
    assert twice.log_ratio == pytest.approx(np.log(2))
    half = drift.bd_rate(([2 * rate for rate in CURVE[0]], CURVE[1]), CURVE)
    assert half.log_ratio == pytest.approx(-np.log(2))
    worse = drift.bd_rate(CURVE, ([*CURVE[0], 3.0], [*CURVE[1], 0.1]))
    assert worse == drift.BdRate(0.0, 1.0), "a point that costs more and is worse is left out"


@pytest.mark.parametrize(
    ("other", "note"),
    [
        (([1.0, 2.0], [0.5, 0.6]), "the other curve has 2 rising point"),
        (([1.0, 2.0, 3.0], [0.5, 0.4, 0.3]), "the other curve has 1 rising point"),
        (([], []), "the other curve has 0 rising point"),
        (([1.0, np.nan, 3.0], [0.5, 0.6, np.inf]), "the other curve has 1 rising point"),
        (([1.0, 2.0, 3.0], [0.9, 0.95, 0.99]), "0 % of the narrower range"),
        (([1.0, 2.0, 3.0], [0.81, 0.9, 0.99]), "common"),
    ],
)
def test_curves_that_cannot_be_compared_say_why(other: tuple, note: str) -> None:
    found = drift.bd_rate(CURVE, other)
    assert np.isnan(found.log_ratio)
    assert note in found.note


def test_a_table_of_rates_by_clip() -> None:
    rows = [{"codec": name, "clip": clip, "kbps": factor * kbps, "distance": -quality}
            for name, factor in (("ours", 1.0), ("theirs", 1.5)) for clip in "abc"
            for kbps, quality in zip(*CURVE, strict=True)]  # fmt: skip
    found = drift.bd_rates(pd.DataFrame(rows), "ours", "distance", sign=-1)
    assert found["clip"].tolist() == ["a", "b", "c"]
    percent = drift.percent_interval(found.log_ratio)
    assert (percent.mean, percent.low, percent.high) == pytest.approx((50, 50, 50))
    assert percent.count == 3
    with pytest.raises(UnsupportedInput, match="The reference 'none' is none of ours, theirs"):
        drift.bd_rates(pd.DataFrame(rows), "none", "distance")


def test_a_passport_has_a_line_a_figure_and_a_column_a_codec() -> None:
    table = pd.DataFrame(
        {"codec": ["a", "a", "a", "b"], "kept_share": [0.1, 0.2, 0.3, 0.5], "si_sdr_db": [-9.0, 1.0, 2.0, np.nan]}
    )
    page = drift.passport([("kept (%)", table, "kept_share", 100), ("SI-SDR", table, "si_sdr_db", 1)], ["a", "b"])
    assert page["figure"].tolist() == ["kept (%)", "SI-SDR"]
    assert page["a"].tolist() == ["20 [−4.84,\N{NO-BREAK SPACE}44.8]", "1"], "the median of SI-SDR"
    assert page["b"].tolist() == ["50", "–"]
