"""Concealment measured: where gaps lie, what is scored, and that a better method is told from a worse one."""

import numpy as np
import pytest

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.errors import UnsupportedInput
from codecbook.probes.corruption import concealment


@pytest.fixture(scope="module")
def codec():
    return load_codec("encodec_24khz")


@pytest.fixture(scope="module")
def speech(codec):
    return concealment.held_out_speech(codec, 2)


def test_bundled_speech_is_held_out_and_of_several_speakers(codec, speech):
    corpus = concealment.bundled_tokens(codec.name, 8)
    speakers = {row.clip: row.speaker for row in corpus.clips}
    assert set(speech) <= set(corpus.held_out.clips)
    assert len({speakers[name] for name in speech}) == 2
    for tokens in speech.values():
        codec.check_tokens(tokens)


def test_gaps_lie_where_there_is_sound_and_apart():
    samples = np.zeros((1, 24_000 * 12), dtype=np.float32)
    samples[:, 24_000 * 3 : 24_000 * 9] = 0.1
    clip = Clip(samples, 24_000)
    starts = concealment.place_gaps(clip, 320, 8, 4, seed=0)
    assert starts == concealment.place_gaps(clip, 320, 8, 4, seed=0) != concealment.place_gaps(clip, 320, 8, 4, seed=1)
    assert 2 <= len(starts) <= 4
    assert (np.diff(starts) >= 75 + 8).all()
    assert all(3 * 75 - 8 <= start <= 9 * 75 for start in starts)
    assert concealment.place_gaps(Clip(samples[:, :24_000], 24_000), 320, 8, 4, seed=0) == []


def test_interpolation_is_told_from_silence(codec, speech):
    scores = concealment.measure_concealment(codec, speech, ("silence", "interpolate"), (15,), gaps=2)
    assert list(zip(scores.method, scores.gap_ms, strict=True)) == [("silence", 200.0), ("interpolate", 200.0)] * 2
    assert concealment.difference(scores, "stoi", "interpolate", "silence", 200.0).mean > 0
    assert concealment.difference(scores, "log_mel_db", "interpolate", "silence", 200.0).mean < -5
    table = concealment.table(scores, against="silence")
    assert table.stoi_above_silence.tolist()[0] == 0
    assert table.utterances.tolist() == [2, 2]
    # a method that does nothing must not seem to do something
    planted = scores.assign(stoi=0.5)
    assert concealment.difference(planted, "stoi", "interpolate", "silence", 200.0).above(0) is False


def test_utterances_without_room_are_refused(codec, speech):
    short = {name: tokens.format.tokens([level[:60] for level in tokens.codes]) for name, tokens in speech.items()}
    with pytest.raises(UnsupportedInput, match="room for a gap"):
        concealment.measure_concealment(codec, short, ("hold",))
