import numpy as np
import pytest
from transformers import SeamlessM4TFeatureExtractor

from codecbook.codecs.adapters.neucodec import speech_features


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


def test_features_are_those_of_the_extractor_for_the_same_speech_model():
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    extractor = SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, stride=2)
    expected = extractor(wave, sampling_rate=16_000, return_tensors="np")["input_features"]
    # it works in float32
    np.testing.assert_allclose(speech_features(wave).numpy(), expected, rtol=0, atol=2e-3)


def test_tokens_depend_on_the_whole_clip(codec, noise_clip):
    clip = noise_clip(codec, 2.0)
    whole = codec.encode(clip).codes[0]
    half = codec.encode(noise_clip(codec, 1.0)).codes[0]
    assert (whole[: len(half)] != half).any()
    assert (codec.seams, codec.chunk_s) == ("none", None)
