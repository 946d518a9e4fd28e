"""Streams of exact codecs: the audio is what the sender heard, on any machine, and a reader can tell."""

from pathlib import Path

import numpy as np
import pytest

from codecbook.audio import Clip, save
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.codecs.exact.rounding import calibration_signal
from codecbook.coding import api
from codecbook.coding.__main__ import main
from codecbook.coding.stream.reader import inspect
from codecbook.errors import UnsupportedInput


@pytest.fixture(scope="module")
def codec() -> Codec:
    """The FSQ codec in integers."""
    return load_codec("fsq_50hz", exact=True)


@pytest.fixture(scope="module")
def clip(codec: Codec) -> Clip:
    """Two seconds."""
    samples = calibration_signal(2 * codec.sample_rate_hz + 11, codec.channels) * 2.0**-21
    return Clip(samples.astype(np.float32), codec.sample_rate_hz)


def test_a_stream_holds_the_hash_of_its_audio(codec: Codec, clip: Clip) -> None:
    """It is that of what `decompress` gives, which takes the exact codec by itself."""
    data = api.compress(clip, codec, lm=None, segment_s=0.5)
    assert data == api.compress(clip, codec, lm=None, segment_s=0.5)
    decoded = api.decompress(data)
    assert decoded.clip.num_samples == clip.num_samples
    np.testing.assert_array_equal(decoded.clip.samples, codec.decode(codec.encode(clip)).samples)
    assert inspect(data).header.audio_sha256 == codec.sound_sha256([decoded.clip.samples])[:32]
    assert api.sounds_as_sent(data) is True


def test_other_audio_is_told(codec: Codec, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that decodes one sample differently is found out."""
    data = api.compress(clip, codec, lm=None)
    decode = type(codec)._decode

    def altered(self: Codec, *arguments: object) -> object:
        for i, piece in enumerate(decode(self, *arguments)):  # type: ignore[arg-type]
            piece[0, 5] += 2.0**-20 * (i == 0)
            yield piece

    monkeypatch.setattr("codecbook.coding.stream.models.load_codec", lambda *_args, **_settings: codec)
    assert api.sounds_as_sent(data) is True
    monkeypatch.setattr(type(codec), "_decode", altered)
    assert api.sounds_as_sent(data) is False


def test_float_codecs_promise_nothing(clip: Clip) -> None:
    """Their streams have no hash, and they are not taken for exact ones."""
    floats = load_codec("fsq_50hz")
    assert api.sounds_as_sent(api.compress(clip, floats, lm=None)) is None
    with pytest.raises(UnsupportedInput, match="computes in floats"):
        api.compress(clip, floats, lm=None, exact=True)


def test_command_line(clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``compress --exact`` and ``verify``."""
    save(clip, tmp_path / "a.wav")
    stream = str(tmp_path / "a.cbs")
    assert main(["compress", str(tmp_path / "a.wav"), stream, "--codec", "fsq_50hz", "--lm", "none", "--exact"]) == 0
    assert main(["verify", stream, "--lm", "none"]) == 0
    assert "the audio is what the sender heard" in capsys.readouterr().out
