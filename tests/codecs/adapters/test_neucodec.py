import numpy as np
import pytest
import torch
from transformers import SeamlessM4TFeatureExtractor

from codecbook import audio


@pytest.fixture
def codec(small_codec):
    return small_codec("neucodec")


def test_one_codebook_of_sixteen_bits_at_fifty_hertz(codec):
    assert codec.codebook_sizes == (65_536,)
    assert codec.frame_rates_hz == (50.0,)
    assert codec.bandwidths_kbps == (0.8,)
    assert codec.sample_rate_hz == 24_000


@pytest.mark.parametrize("num_samples", [12_000, 12_001, 24_000 - 1])
def test_there_is_a_token_per_twenty_milliseconds(codec, noise_clip, num_samples):
    tokens = codec.encode(noise_clip(codec, num_samples / 24_000))
    assert abs(len(tokens.codes[0]) - num_samples / 480) <= 1


def test_tokens_and_audio_are_those_of_transformers_with_the_features_of_the_speech_model(codec, noise_clip):
    clip = noise_clip(codec, 1.0)
    wave = np.append(audio.convert(clip, sample_rate_hz=16_000).samples[0], np.zeros(320, np.float32))
    features = SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, stride=2)(
        wave, sampling_rate=16_000, return_tensors="pt"
    )["input_features"]
    with torch.inference_mode():
        expected = codec.module.encode(torch.from_numpy(wave)[None, None], features).audio_codes
        decoded = codec.module.decode(expected).audio_values[0, :, : clip.num_samples].numpy()
    tokens = codec.encode(clip)
    np.testing.assert_array_equal(tokens.codes[0], expected[0, 0].numpy())
    np.testing.assert_array_equal(codec.decode(tokens).samples, decoded)


def test_tokens_depend_on_the_whole_clip(codec, noise_clip):
    clip = noise_clip(codec, 2.0)
    whole = codec.encode(clip).codes[0]
    half = codec.encode(noise_clip(codec, 1.0)).codes[0]
    assert (whole[: len(half)] != half).any()
    assert (codec.seams, codec.chunk_s) == ("none", np.inf)
