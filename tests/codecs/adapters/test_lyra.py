"""Lyra V2 with the authors' weights: a codec whose sound can be judged."""

import numpy as np
import pytest

from codecbook import audio, paths
from codecbook.codecs import load_codec
from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput


@pytest.fixture
def codec(small_codec):
    return small_codec("lyra_v2")


@pytest.fixture(scope="module")
def speech():
    extra = paths.extra_dir()
    files = sorted((extra / "data/librispeech/test").rglob("*.flac")) if extra else []
    if not files:
        pytest.skip("LibriSpeech is not here; set CODECBOOK_EXTRA to a folder with data/librispeech")
    clip = audio.load(files[0], sample_rate_hz=16_000)
    return audio.clip_from_array(clip.samples[:, :48_000], 16_000)


def test_three_bandwidths_use_16_30_and_46_codebooks(codec):
    assert [codec.num_codebooks_at(kbps) for kbps in (3.2, 6.0, 9.2)] == [16, 30, 46]


def test_speech_is_decoded_nearer_with_more_codebooks(codec, speech):
    tokens = codec.encode(speech)
    x = speech.samples[0]
    correlations = []
    for count in (4, 16, 46):
        y = codec.decode(tokens, num_codebooks=count).samples[0]
        correlations.append(np.corrcoef(x, y)[0, 1])
    assert correlations == sorted(correlations)
    assert correlations[-1] > 0.8


def test_a_clip_before_leaves_no_trace(codec, speech):
    alone = codec.encode(speech)
    codec.encode(audio.clip_from_array(speech.samples[:, ::-1].copy(), 16_000))
    assert codec.encode(speech) == alone


def test_int8_files_give_other_tokens(codec, speech):
    folder = paths.extra_dir() / "data/lyra/v2_int8"
    if not folder.is_dir():
        pytest.skip("the int8 files are not here")
    int8 = load_codec("lyra_v2", weights=folder)
    assert int8.weights.sha256 != codec.weights.sha256
    assert not int8.encode(speech).same_codes(codec.encode(speech))


def test_damaged_and_missing_files_are_refused(codec, tmp_path):
    for name in ("soundstream_encoder.tflite", "quantizer.tflite"):
        (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(MissingWeights, match=r"lyragan\.tflite is not there"):
        load_codec("lyra_v2", weights=tmp_path)
    (tmp_path / "lyragan.tflite").write_bytes(b"no model")
    with pytest.raises(CorruptInput, match="no usable model"):
        load_codec("lyra_v2", weights=tmp_path)


def test_without_the_package_the_message_says_how_to_get_it(codec, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedInput, match=r"codecbook\[lyra\]"):
        load_codec("lyra_v2", weights="pretrained")
