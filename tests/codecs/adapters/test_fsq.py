import math

import numpy as np
import pytest
import torch

from codecbook.codecs.build import FsqCodec, random_seeded
from codecbook.codecs.training.models import trainable


@pytest.fixture
def codec(small_codec):
    return small_codec("fsq_50hz")


def test_one_codebook_at_fifty_hertz(codec):
    assert codec.codebook_sizes == (64,)
    assert codec.frame_rates_hz == (50.0,)
    assert codec.bandwidths_kbps == pytest.approx((0.3,))


@pytest.mark.parametrize("duration_s", [0.31, 4.5])
def test_tokens_and_audio_are_those_of_the_module(codec, noise_clip, duration_s):
    clip = noise_clip(codec, duration_s)
    with torch.inference_mode():
        expected = codec.module.encode(torch.from_numpy(clip.samples)[None])
        decoded = codec.module.decode(expected)[0, :, : clip.num_samples].numpy()
    tokens = codec.encode(clip)
    np.testing.assert_array_equal(tokens.codes[0], expected[0].numpy())
    # decoded in pieces: the same sums, rounded in another order
    np.testing.assert_allclose(codec.decode(tokens).samples, decoded, rtol=0, atol=1e-5)


HOP = 40


@pytest.fixture
def audio(tones):
    return torch.from_numpy(np.stack(tones(16, 0.1)))


@pytest.fixture
def module(tiny_recipe, audio):
    network = random_seeded("fsq", tiny_recipe("fsq").arguments, 0)
    assert isinstance(network, FsqCodec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trainable(network).start(audio)
    return network


def test_constants_follow_from_strides_and_levels(module):
    assert (module.sample_rate_hz, module.hop_length, module.codebook_size) == (16_000, HOP, 64)


@pytest.mark.parametrize("num_samples", [1, HOP - 1, HOP, HOP + 1, 1000])
@torch.inference_mode()
def test_there_is_a_token_for_each_frame_begun(module, audio, num_samples):
    codes = module.encode(audio[:3, :, :num_samples])
    assert codes.dtype == torch.int64
    assert codes.shape == (3, math.ceil(num_samples / HOP))
    assert module.decode(codes).shape == (3, 1, codes.shape[1] * HOP)


@torch.inference_mode()
def test_many_codes_are_in_use_and_all_are_within_the_vocabulary(module, audio):
    codes = module.encode(audio)
    assert int(codes.min()) >= 0
    assert int(codes.max()) < module.codebook_size
    assert len(codes.unique()) > 32


@torch.inference_mode()
def test_codes_decode_to_what_the_quantiser_let_through(module, audio):
    latents = module.encoder(audio)
    quantized = module.quantizer(latents.transpose(1, 2))[0].transpose(1, 2)
    # the same rounded values, by way of indices: float32 rounding alone
    torch.testing.assert_close(module.decode(module.encode(audio)), module.decoder(quantized), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_every_code_is_told_apart_from_the_others(module):
    values = module.quantizer.indices_to_codes(torch.arange(64)[None])[0]
    distances = torch.cdist(values, values) + 10 * torch.eye(64)
    assert distances.min() > 1e-3
