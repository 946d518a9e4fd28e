import numpy as np
import pandas as pd
import pytest

from codecbook.audio import Clip
from codecbook.codecs.base import Codec, Encoded, Weights
from codecbook.measure import survey


class Rounder(Codec):
    """Keeps the first K binary digits of every sample: a residual quantiser with two codes a codebook."""

    name = "rounder"
    weights = Weights("random", "none")
    sample_rate_hz = 16_000
    channels = 1
    codebook_sizes = (2,) * 8
    frame_rates_hz = (16_000.0,) * 8
    bandwidths_kbps = (64.0, 128.0)
    device = "cpu"

    def _encode_samples(self, samples, num_codebooks, chunk_s):
        digits = np.clip((samples[0] + 1) / 2, 0, 1 - 1e-6)
        codes = []
        for _ in range(num_codebooks):
            digits = digits * 2
            codes.append(np.floor(digits).astype(np.int64))
            digits = digits % 1
        return Encoded(codes=tuple(codes))

    def _decode_tokens(self, tokens):
        value = sum(codes / 2.0 ** (k + 1) for k, codes in enumerate(tokens.codes))
        value = value + 2.0 ** -(tokens.num_codebooks + 1)
        return (2 * value - 1).astype(np.float32)[None]


def clip(name, domain, seconds=1.0, rate_hz=16_000):
    random = np.random.default_rng(len(name))
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    samples = 0.4 * np.sin(2 * np.pi * 220 * time_s) * np.sin(2 * np.pi * 2 * time_s)
    samples = samples + 0.05 * random.standard_normal(len(time_s))
    return Clip(samples.astype(np.float32)[None], rate_hz, name, domain)


CLIPS = [clip("a", "speech"), clip("bb", "speech"), clip("ccc", "music", rate_hz=32_000)]


def test_a_row_for_each_clip_and_bandwidth():
    found = survey.survey_codec(Rounder(), CLIPS, measures=("si_sdr_db",))
    assert list(zip(found.table["clip"], found.table.bandwidth_kbps, found.table.codebooks, strict=True)) == [
        (name, kbps, count) for name in ("a", "bb", "ccc") for kbps, count in ((64.0, 4), (128.0, 8))
    ]
    assert found.table.actual_kbps.tolist() == pytest.approx([64.0, 128.0] * 3)
    assert found.tokens["a"].num_codebooks == 8
    assert found.skipped == []


def test_each_further_digit_is_worth_six_decibels():
    table = survey.survey_codec(Rounder(), CLIPS[:1], measures=("si_sdr_db",)).table
    gain_db = table.si_sdr_db.iloc[1] - table.si_sdr_db.iloc[0]
    # uniform quantisation noise falls by 6.02 dB a bit where the step is small against the signal; 4 bits are coarse
    assert gain_db == pytest.approx(4 * 6.02, abs=2.0)


def test_a_clip_that_the_codec_cannot_take_is_skipped_with_its_reason():
    empty = Clip(np.zeros((1, 0), np.float32), 16_000, "empty", "speech")
    said = []
    found = survey.survey_codec(Rounder(), [empty, CLIPS[0]], measures=("si_sdr_db",), progress=said.append)
    assert set(found.table["clip"]) == {"a"}
    assert [(name, "no samples" in reason) for name, reason in found.skipped] == [("empty", True)]
    assert said == ["rounder: 1/2 empty", "rounder: 2/2 a"]


def test_a_tokenizer_without_decoder_gives_rates_and_no_quality():
    tokenizer = Rounder()
    tokenizer.decodes = False
    table = survey.survey_codec(tokenizer, CLIPS[:1], measures=("si_sdr_db",)).table
    assert table.si_sdr_db.isna().all()
    assert table.decode_rtf.isna().all()
    assert table.actual_kbps.tolist() == pytest.approx([64.0, 128.0])


def test_quality_by_codebooks_rises():
    table = survey.quality_by_codebooks(Rounder(), CLIPS[:2], (2, 4, 8), ("si_sdr_db",))
    for _, rows in table.groupby("clip"):
        assert rows.codebooks.tolist() == [2, 4, 8]
        assert rows.si_sdr_db.is_monotonic_increasing


def test_summarise_averages_within_groups_and_leaves_infinities_out():
    table = pd.DataFrame(
        {
            "codec": "x",
            "bandwidth_kbps": [1.0, 1.0, 1.0, 2.0],
            "domain": "speech",
            "clip": ["a", "b", "c", "a"],
            "si_sdr_db": [1.0, 3.0, np.inf, 5.0],
        }
    )
    summary = survey.summarise(table, ("si_sdr_db",))
    assert summary.bandwidth_kbps.tolist() == [1.0, 2.0]
    assert summary.clips.tolist() == [3, 1]
    assert summary.si_sdr_db.tolist() == [2.0, 5.0]
    assert summary.si_sdr_db_low.iloc[0] >= 1.0
    assert summary.si_sdr_db_high.iloc[0] <= 3.0
    assert np.isnan(summary.si_sdr_db_low.iloc[1]), "one clip has no interval"
