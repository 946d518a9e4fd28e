from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from codecbook.audio import Clip
from codecbook.codecs.base import Codec
from codecbook.lm.model_files import LoadedLM
from codecbook.probes.weights import gates
from codecbook.probes.weights.gates import Predictions, predictions
from codecbook.tokens import Tokens, tokens_from_frames

V = 64
RANDOM = np.random.default_rng(0)


def drawn(clips: int = 6, T: int = 400, K: int = 4) -> list[Tokens]:
    return [tokens_from_frames(RANDOM.integers(0, V, (T, K)), V, 75.0) for _ in range(clips)]


def shuffled(tokens: list[Tokens]) -> list[Tokens]:
    return [tokens_from_frames(RANDOM.permuted(one.to_frames(), axis=0), V, 75.0) for one in tokens]


def test_tokens_match_themselves_and_shuffled_ones_by_chance() -> None:
    tokens = drawn()
    same = gates.token_match(tokens, tokens)
    assert same.mean == same.low == same.high == 1
    assert gates.changed_tokens(tokens, tokens) == (0, 6 * 400 * 4)
    chance = gates.token_match(tokens, shuffled(tokens))
    assert chance.mean == pytest.approx(1 / V, abs=0.006)
    assert chance.low < chance.mean < chance.high


def test_leading_codebooks_alone_can_match() -> None:
    tokens = drawn()
    frames = [one.to_frames() for one in tokens]
    wrecked = [tokens_from_frames(np.hstack([f[:, :2], (f[:, 2:] + 1) % V]), V, 75.0) for f in frames]
    assert gates.token_match(tokens, wrecked, 2).mean == 1
    assert gates.token_match(tokens, wrecked).mean == 0.5
    assert gates.changed_tokens(tokens, wrecked) == (6 * 400 * 2, 6 * 400 * 4)


def test_clips_of_another_number_are_refused() -> None:
    tokens = drawn()
    with pytest.raises(ValueError, match=r"shorter|longer"):
        gates.token_match(tokens, tokens[1:])


def test_quality_is_of_the_decoder_whoever_made_the_tokens(codec: Codec, clip: Clip) -> None:
    tokens = [codec.encode(clip)]
    stranger = [replace(tokens[0], weights_sha256="0" * 64)]
    before, after = gates.quality(codec, [clip], tokens), gates.quality(codec, [clip], stranger)
    assert list(before.columns) == list(gates.MEASURES)
    pd.testing.assert_frame_equal(before, after)
    assert all(change.mean == 0 for change in gates.quality_change(before, after).values())
    worse = before.assign(si_sdr_db=before.si_sdr_db - 3)
    assert gates.quality_change(before, worse)["si_sdr_db"].mean == pytest.approx(-3)


def planted(likeliest: list[np.ndarray], bits: float = 100.0) -> Predictions:
    return Predictions(np.full(len(likeliest), bits), np.array([len(x) for x in likeliest]), likeliest)


def test_windows_match_whole_or_not() -> None:
    length = 3 * gates.WINDOW
    zeros = np.zeros(length, dtype=np.int64)
    windows = length - gates.WINDOW + 1
    assert planted([zeros]).whole_windows(planted([zeros])) == (windows, windows)
    for place, hit in ((0, 1), (length - 1, 1), (length // 2, gates.WINDOW)):
        changed = zeros.copy()
        changed[place] = 1
        assert planted([zeros]).whole_windows(planted([changed])) == (windows - hit, windows)
        assert planted([zeros]).match(planted([changed])).mean == pytest.approx(1 - 1 / length)
    # one changed decision in each window leaves none, though nearly all decisions are the same
    changed = zeros.copy()
    changed[:: gates.WINDOW] = 1
    assert planted([zeros]).whole_windows(planted([changed])) == (0, windows)
    assert planted([zeros[:10]]).whole_windows(planted([zeros[:10]])) == (0, 0)


def test_bits_are_compared_clip_by_clip() -> None:
    zeros = [np.zeros(10, dtype=np.int64)] * 3
    assert planted(zeros).change_percent(planted(zeros, 101.0)).mean == pytest.approx(1)
    assert planted(zeros).change_percent(planted(zeros)).mean == 0


def test_predictions_of_a_model_are_its_own(lm: LoadedLM, codes: list[np.ndarray]) -> None:
    found = predictions(lm.model, codes)
    assert found.tokens.tolist() == [3 * len(clip) for clip in codes]
    assert found.match(found).mean == 1
    # untrained: close to even
    assert found.bits.sum() / found.tokens.sum() == pytest.approx(6, abs=0.2)
    assert not lm.model.training


def test_validity_tells_sound_from_silence(codec: Codec, clip: Clip) -> None:
    tokens = codec.encode(clip)
    alive = gates.validity(clip, tokens)
    assert alive["distinct_tokens"] > 10
    assert 0 < alive["rms"] < alive["peak"]
    assert 100 < alive["zero_crossings_per_s"] < 12_000
    assert len(alive["rms_by_tenth"]) == 10
    silence = gates.validity(
        Clip(np.zeros((1, 1000), np.float32), 24_000), tokens_from_frames(np.zeros((9, 2), dtype=np.int64), V, 75.0)
    )
    assert silence["rms"] == silence["peak"] == silence["zero_crossings_per_s"] == 0
    assert silence["distinct_tokens"] == 1
    second = np.sin(2 * np.pi * 440.25 * np.arange(24_000) / 24_000)
    tone = gates.validity(Clip(second[None].astype(np.float32), 24_000), tokens)
    assert tone["zero_crossings_per_s"] == pytest.approx(880, abs=2)


def test_a_noise_floor_has_a_row_a_setting(codec: Codec, clip: Clip) -> None:
    reference = [codec.encode(clip)]
    table = gates.noise_floor(codec, [clip], reference)
    assert list(table.setting) == ["pieces of 1 s", "1 thread(s)", "2 thread(s)", "without oneDNN"]
    assert (table.tokens == sum(len(codes) for codes in reference[0].codes)).all()
    others = shuffled_codes(reference)
    assert (gates.noise_floor(codec, [clip], others).changed > 0).all()


def shuffled_codes(tokens: list[Tokens]) -> list[Tokens]:
    return [replace(one, codes=tuple(RANDOM.permutation(codes) for codes in one.codes)) for one in tokens]
