"""Streams of exact codecs: the audio is what the sender heard, on any machine, and a reader can tell."""

import copy
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from codecbook.audio import Clip, save
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.codecs.exact.rounding import calibration_signal
from codecbook.coding import api
from codecbook.coding.__main__ import main
from codecbook.coding.convert import convert
from codecbook.coding.stream.header import Parity
from codecbook.coding.stream.reader import inspect
from codecbook.coding.stream.version2 import pack_header
from codecbook.coding.stream.writer import StreamWriter
from codecbook.errors import UnsupportedInput


@pytest.fixture(scope="module")
def codec() -> Any:
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
    pieces = [decoded.clip.samples]
    assert inspect(data).header.audio_sha256 == codec.sound_sha256(pieces)[:32]
    assert inspect(data).header.exact_sha256 == codec.exact_sha256[:12]
    assert api.sounds_as_sent(data) is True
    copied = inspect(convert(data, "cbs").data).header
    assert (copied.exact_sha256, copied.audio_sha256) == (codec.exact_sha256[:12], codec.sound_sha256(pieces)[:32])


def test_an_exact_model_of_another_codec_is_refused(codec: Any, clip: Clip) -> None:
    """One of the same weights in other integers; in floats the stream is decoded, near what the sender heard."""
    data = api.compress(clip, codec, lm=None)
    other = copy.copy(codec)
    other.network = replace(codec.network, latent_unit=codec.network.latent_unit + 1)
    with pytest.raises(UnsupportedInput, match="here is an exact model of another codec"):
        api.decompress(data, codec=other)
    with pytest.raises(UnsupportedInput, match="was made with the weights"):
        api.decompress(data, codec=load_codec("snac_24khz", exact=True))
    floats = api.decompress(data, codec=load_codec("fsq_50hz")).clip.samples
    assert 0 < np.abs(floats - codec.decode(codec.encode(clip)).samples).max() < 0.01


def test_tokens_are_a_function_of_a_files_integers(codec: Any, tmp_path: Path) -> None:
    """Reading and mixing a file at the codec's rate rounds no sum: 16-bit stereo is its integers' mean."""
    integers = calibration_signal(codec.sample_rate_hz // 2, 2) >> 6
    soundfile.write(tmp_path / "a.wav", integers.T.astype(np.int16), codec.sample_rate_hz, "PCM_16")
    api.compress_file(tmp_path / "a.wav", tmp_path / "a.cbs", codec, lm=None)
    mean = integers.sum(axis=0, keepdims=True) * 2.0**-16
    expected = api.compress(Clip(mean.astype(np.float32), codec.sample_rate_hz), codec, lm=None)
    assert (tmp_path / "a.cbs").read_bytes() == expected


def test_first_streams_of_exact_codecs_are_read(codec: Codec, clip: Clip) -> None:
    """They have the hash of their audio alone."""
    tokens = codec.encode(clip)
    sound = codec.decode(tokens).samples
    writer = StreamWriter(file := io.BytesIO(), tokens.format)
    writer.header = replace(writer.header, audio_sha256="00" * 16)
    file.write(bytes(len(pack_header(writer.header)) - file.tell()))
    writer.write(writer.header.layout.to_rows(tokens))
    writer.close(tokens.num_samples, codec.sound_sha256([sound]))
    assert inspect(file.getvalue()).header.exact_sha256 == ""
    assert api.sounds_as_sent(file.getvalue()) is True


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


def test_a_converted_stream_keeps_what_protects_it_and_how_it_is_coded() -> None:
    """Parity, adaptation and lengths of segments; an inner code is said to be gone."""
    sound = Clip((calibration_signal(48_000, 1) * 2.0**-21).astype(np.float32), 24_000)
    data = api.compress(sound, segment_s=0.5, parity=Parity(4, 1), adapt=True, inner_parity=16)
    old, converted = inspect(data).header, convert(data, "cbs", to_lm="default")
    new = inspect(converted.data).header
    for name in ("parity", "adapt_step", "rows_per_segment", "coder"):
        assert getattr(new, name) == getattr(old, name)
    assert new.adapt_step > 0
    assert [text[:14] for text in converted.lost] == ["the inner code"]
    assert convert(converted.data, "cbs", to_lm="default").lost == ()
    raw = inspect(convert(data, "cbs").data).header
    assert (raw.coder, raw.adapt_step, raw.parity) == ("raw", 0, old.parity)
    assert convert(data, "ecdc").lost[0].startswith("the inner code")
