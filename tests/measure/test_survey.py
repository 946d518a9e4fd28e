from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from codecbook.audio import Clip
from codecbook.codecs.base import Codec, Encoded, Weights
from codecbook.errors import UnsupportedInput
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

    def _encode(self, queue, num_codebooks, chunk_s):
        digits = np.clip((queue.rest()[0] + 1) / 2, 0, 1 - 1e-6)
        codes = []
        for _ in range(num_codebooks):
            digits = digits * 2
            codes.append(np.floor(digits).astype(np.int64))
            digits = digits % 1
        yield Encoded(codes=tuple(codes))

    def _decode(self, tokens, mend=None):
        value = sum(codes / 2.0 ** (k + 1) for k, codes in enumerate(tokens.codes))
        value = value + 2.0 ** -(tokens.num_codebooks + 1)
        yield (2 * value - 1).astype(np.float32)[None]


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


def test_of_many_bandwidths_a_few_are_measured():
    codec = Rounder()
    codec.bandwidths_kbps = tuple(16.0 * count for count in (1, 2, 3, 4, 5, 6, 7))
    found = survey.survey_codec(codec, CLIPS[:1], measures=("si_sdr_db",))
    assert found.table.codebooks.tolist() == [1, 2, 4, 7]


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
    assert said == ["rounder: 1/2 empty", "rounder: 2/2 a", "rounder: 2/2 a, 64 kbps", "rounder: 2/2 a, 128 kbps"]


def test_a_clip_that_cannot_be_measured_is_skipped_as_a_whole():
    class Overflowing(Rounder):
        def _decode(self, tokens, mend=None):
            (samples,) = super()._decode(tokens)
            yield samples * np.inf if tokens.num_codebooks == 8 and tokens.num_samples == 16_000 else samples

    found = survey.survey_codec(Overflowing(), [CLIPS[0], clip("d", "speech", 0.5)], measures=("si_sdr_db",))
    assert set(found.tokens) == set(found.table["clip"]) == {"d"}
    assert [(name, "not finite" in reason) for name, reason in found.skipped] == [("a", True)]


def test_channels_that_cancel_each_other_out_are_said_and_not_coded():
    samples = CLIPS[0].samples
    against = Clip(np.concatenate([samples, -samples + np.float32(2**-15)]), 16_000, "antiphase", "speech")
    found = survey.survey_codec(Rounder(), [against, CLIPS[0]], measures=("si_sdr_db",))
    assert set(found.tokens) == {"a"}
    assert [(name, "2 channel(s) cancel" in reason) for name, reason in found.skipped] == [("antiphase", True)]
    usable, skipped = survey.convert_all([against, CLIPS[2]], 16_000, 1)
    assert [(clip.name, clip.sample_rate_hz) for clip in usable] == [("ccc", 16_000)]
    assert skipped == found.skipped


def test_music_has_no_intelligibility():
    table = survey.survey_codec(Rounder(), [CLIPS[0], CLIPS[2]], measures=("stoi", "si_sdr_db")).table
    assert table[table.domain == "speech"].stoi.notna().all()
    assert table[table.domain == "music"].stoi.isna().all()
    assert table.si_sdr_db.notna().all()


def test_listed_codecs_have_weights_and_names_of_their_own(monkeypatch):
    loaded = []

    def load(name, weights, device):
        loaded.append((weights, device))
        codec = Rounder()
        codec.name = name
        return codec

    monkeypatch.setattr(survey, "load_codec", load)
    codecs = survey.load_listed(["a", "b=random", "a=/my/model"], "pretrained", "cpu")
    assert list(codecs) == ["a", "b", "a_2"]
    assert loaded == [("pretrained", "cpu"), ("random", "cpu"), ("/my/model", "cpu")]
    with pytest.raises(UnsupportedInput, match="empty; name at least one"):
        survey.load_listed([])


def test_a_clip_without_a_loudness_keeps_its_row():
    surround = Clip(np.repeat(CLIPS[0].samples, 6, axis=0), 16_000, "surround", "unknown")
    table = survey.clip_table([CLIPS[0], surround])
    assert table["clip"].tolist() == ["a", "surround"]
    assert np.isfinite(table.loudness_lufs.iloc[0])
    assert np.isnan(table.loudness_lufs.iloc[1])
    assert table.note.iloc[0] == ""
    assert "up to 5 channels; received 6" in table.note.iloc[1]


def test_a_tokenizer_without_decoder_gives_rates_and_no_quality():
    tokenizer = Rounder()
    tokenizer.decodes = False
    table = survey.survey_codec(tokenizer, CLIPS[:1], measures=("si_sdr_db",)).table
    assert table.si_sdr_db.isna().all()
    assert table.decode_rtf.isna().all()
    assert table.actual_kbps.tolist() == pytest.approx([64.0, 128.0])


def test_quality_by_codebooks_rises():
    table = survey.survey_codec(Rounder(), CLIPS[:2], (2, 4, 8), ("si_sdr_db",)).table
    for _, rows in table.groupby("clip"):
        assert rows.codebooks.tolist() == [2, 4, 8]
        assert rows.bandwidth_kbps.tolist() == [32.0, 64.0, 128.0]
        assert rows.si_sdr_db.is_monotonic_increasing


def test_summarise_takes_what_is_typical_of_each_group():
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
    assert summary.si_sdr_db.tolist() == [3.0, 5.0], "a perfect copy counts in a median"
    assert summary.si_sdr_db_low.isna().all(), "too few for the interval of a median"
    assert survey.summarise(table[:0], ("si_sdr_db",)).columns.tolist() == summary.columns.tolist()


def test_changes_are_taken_clip_by_clip_and_by_domain():
    table = pd.DataFrame(
        {
            "domain": ["speech"] * 6 + ["music"] * 2,
            "clip": ["a", "a", "b", "b", "c", "c", "d", "d"],
            "bandwidth_kbps": [1.5, 6.0] * 4,
            "si_sdr_db": [1.0, 2.0, 5.0, 8.0, -np.inf, 3.0, 0.0, 7.0],
        }
    )
    found = survey.changes(table, "si_sdr_db")
    assert found["speech"].mean == pytest.approx(3.0)
    assert found["music"].mean == 7.0
    assert not found["music"].defined, "one clip"
    assert survey.changes(table[table.bandwidth_kbps == 6.0], "si_sdr_db") == {}


class Shallow(Rounder):
    """Ignores all codebooks but the first four."""

    def _decode(self, tokens, mend=None):
        yield from super()._decode(tokens.leading(min(4, tokens.num_codebooks)))


@pytest.mark.parametrize(("codec", "helps"), [(Rounder(), True), (Shallow(), False)])
def test_a_codec_that_ignores_its_deeper_codebooks_is_found_out(codec, helps):
    clips = [clip("n" * n, "speech", 0.2) for n in range(1, 7)]
    measures = ("si_sdr_db", "log_mel_8khz_distance_db")
    table = survey.survey_codec(codec, clips, (2, 4, 8), measures).table
    deeper = table[table.codebooks >= 4]
    assert survey.changes(deeper, "si_sdr_db")["speech"].above(0) is helps
    assert survey.changes(deeper, "log_mel_8khz_distance_db")["speech"].below(0) is helps
    gains = survey.steps(table, "si_sdr_db")
    assert [gain.above(0) for gain in gains] == [True, helps]
    assert survey.all_above(gains) is helps
    assert survey.all_above(survey.steps(table[table["clip"] == "n"], "si_sdr_db")) is None, "one clip"
    assert survey.all_above([]) is None


def test_the_rate_is_that_of_whole_frames_and_no_more():
    tokens = Rounder().encode(CLIPS[0])
    assert survey.beyond_nominal_bits(tokens) <= 1e-6
    for frames in (len(tokens.codes[0]) - 1, len(tokens.codes[0]) + 2):
        codes = tuple(np.resize(code, frames) for code in tokens.codes)
        assert survey.beyond_nominal_bits(replace(tokens, codes=codes)) > 1e-6
