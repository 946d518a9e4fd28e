from pathlib import Path

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism import torch_steps
from codecbook.probes.determinism.case_maker import audio_batch
from codecbook.probes.determinism.torch_steps import CodecAnswers, codec_part

CODEC = "encodec_24khz"


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    return audio_batch(CODEC, 2, 0.2)[0]


def test_the_baseline_differs_from_itself_in_nothing(audio: np.ndarray, tmp_path: Path) -> None:
    found = codec_part(audio, CODEC, 1, tmp_path / "baseline", write_baseline=True)
    assert (found["float32"].tokens_differing, found["float32"].largest) == (0, 0.0)
    assert found["float32"].snr_db is None
    assert found["float64"].snr_db > 60  # float32 has 144 dB, a decoder of some thirty layers loses part of it
    again = codec_part(audio, CODEC, 2, tmp_path / "baseline", write_baseline=False)
    assert again["float32"].tokens == found["float32"].tokens
    assert sum(again["float64"].codebooks_differing) == again["float64"].tokens_differing
    assert again["float64"].frames_differing <= again["float64"].tokens_differing


def test_tokens_are_the_codecs_own(audio: np.ndarray) -> None:
    from codecbook.audio import Clip
    from codecbook.codecs import load_codec

    tokens = load_codec(CODEC).encode(Clip(audio[0], 24_000))
    np.testing.assert_array_equal(CodecAnswers(CODEC, "float32", 1).encode(audio[:1])[0].T, np.stack(tokens.codes))


def test_a_codec_runs_on_the_cells_device(audio: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedInput, match="'cuda:99' cannot be used here"):
        CodecAnswers(CODEC, "float32", 1, "cuda:99")
    codec_part(audio, CODEC, 1, tmp_path, write_baseline=True)
    asked = []

    def answers(codec: str, dtype: str, batch: int, device: str) -> CodecAnswers:
        asked.append((dtype, device))
        return CodecAnswers(codec, dtype, batch)

    monkeypatch.setattr(torch_steps, "CodecAnswers", answers)
    assert set(codec_part(audio, CODEC, 1, tmp_path, False, "cuda")) == {"float32", "float64"}
    assert set(codec_part(audio, CODEC, 1, tmp_path, False, "mps")) == {"float32"}, "MPS has no float64"
    assert asked == [("float32", "cuda"), ("float64", "cuda"), ("float32", "mps")]
