import numpy as np
import pytest
import torch
from transformers import MimiConfig, MimiModel

from codecbook.codecs.adapters.mimi import MimiCodec
from codecbook.codecs.base import Weights
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import seeded


@pytest.fixture
def codec(small_codec):
    return small_codec("mimi")


@pytest.mark.parametrize("duration_s", [0.31, 1.6])
def test_tokens_and_audio_are_those_of_transformers(codec, noise_clip, duration_s):
    clip = noise_clip(codec, duration_s)
    with torch.inference_mode():
        expected = codec.module.encode(torch.from_numpy(clip.samples)[None]).audio_codes
        decoded = codec.module.decode(expected).audio_values[0, :, : clip.num_samples].numpy()
    tokens = codec.encode(clip)
    np.testing.assert_array_equal(np.stack(tokens.codes), expected[0].numpy())
    np.testing.assert_array_equal(codec.decode(tokens).samples, decoded)


def test_long_clips_stream_past_the_transformers_window(codec, noise_clip):
    clip = noise_clip(codec, 4.9)  # 122 steps of the Transformer, whose window is 20
    with torch.inference_mode():
        expected = codec.module.encode(torch.from_numpy(clip.samples)[None]).audio_codes
    np.testing.assert_array_equal(np.stack(codec.encode(clip, chunk_s=1.0).codes), expected[0].numpy())


def test_two_semantic_codebooks_are_refused():
    config = MimiConfig(
        num_filters=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=16, upsample_groups=16, codebook_size=4, codebook_dim=8, num_quantizers=4,
        vector_quantization_hidden_dimension=8, num_semantic_quantizers=2,
    )  # fmt: skip
    with seeded(0):
        model = MimiModel(config)
    with pytest.raises(UnsupportedInput, match="2 semantic codebooks"):
        MimiCodec("mimi", model, Weights("random", "seed 0"))
