from pathlib import Path

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.codec import CodecAnswers, audio_batch, codec_part

CODEC = "encodec_24khz"


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    return audio_batch(CODEC, 2, 0.2)[0]


def test_audio_is_cut_from_clips(audio: np.ndarray) -> None:
    assert (audio.shape, audio.dtype) == ((2, 1, 4800), np.float32)
    assert audio.std() > 0
    with pytest.raises(UnsupportedInput, match="ask for fewer"):
        audio_batch(CODEC, 2, 1e4)


def test_the_baseline_differs_from_itself_in_nothing(audio: np.ndarray, tmp_path: Path) -> None:
    found = codec_part(audio, CODEC, 1, tmp_path / "baseline", write_baseline=True)
    assert (found["float32"]["tokens_differing"], found["float32"]["largest"]) == (0, 0.0)
    assert found["float32"]["snr_db"] is None
    assert (
        found["float64"]["snr_db"] > 60
    )  # float32 has 144 dB, a decoder of some thirty layers loses part of it
    again = codec_part(audio, CODEC, 2, tmp_path / "baseline", write_baseline=False)
    assert again["float32"]["tokens"] == found["float32"]["tokens"]
    assert sum(again["float64"]["codebooks_differing"]) == again["float64"]["tokens_differing"]
    assert again["float64"]["frames_differing"] <= again["float64"]["frames"]


def test_tokens_are_the_codecs_own(audio: np.ndarray) -> None:
    from codecbook.audio import Clip
    from codecbook.codecs import load_codec

    tokens = load_codec(CODEC).encode(Clip(audio[0], 24_000))
    np.testing.assert_array_equal(
        CodecAnswers(CODEC, "float32", 1).encode(audio[:1])[0].T, np.stack(tokens.codes)
    )
