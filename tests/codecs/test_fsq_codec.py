import math

import numpy as np
import pytest
import torch

from codecbook.codecs.build import random_seeded
from codecbook.codecs.fsq_codec import FsqCodec
from codecbook.codecs.train_models import trainable

HOP = 40


@pytest.fixture
def audio(tones):
    return torch.from_numpy(np.stack(tones(16, 0.1)))


@pytest.fixture
def codec(tiny_recipe, audio):
    module = random_seeded("fsq", tiny_recipe("fsq").arguments, 0)
    assert isinstance(module, FsqCodec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trainable(module).start(audio)
    return module


def test_constants_follow_from_strides_and_levels(codec):
    assert (codec.sample_rate_hz, codec.hop_length, codec.codebook_size) == (16_000, HOP, 64)


@pytest.mark.parametrize("num_samples", [1, HOP - 1, HOP, HOP + 1, 1000])
@torch.inference_mode()
def test_there_is_a_token_for_each_frame_begun(codec, audio, num_samples):
    codes = codec.encode(audio[:3, :, :num_samples])
    assert codes.dtype == torch.int64
    assert codes.shape == (3, math.ceil(num_samples / HOP))
    assert codec.decode(codes).shape == (3, 1, codes.shape[1] * HOP)


@torch.inference_mode()
def test_many_codes_are_in_use_and_all_are_within_the_vocabulary(codec, audio):
    codes = codec.encode(audio)
    assert int(codes.min()) >= 0
    assert int(codes.max()) < codec.codebook_size
    assert len(codes.unique()) > 32


@torch.inference_mode()
def test_codes_decode_to_what_the_quantiser_let_through(codec, audio):
    latents = codec.encoder(audio)
    quantized = codec.quantizer(latents.transpose(1, 2))[0].transpose(1, 2)
    # the same rounded values, by way of indices: float32 rounding alone
    torch.testing.assert_close(codec.decode(codec.encode(audio)), codec.decoder(quantized), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_every_code_is_told_apart_from_the_others(codec):
    values = codec.quantizer.indices_to_codes(torch.arange(64)[None])[0]
    distances = torch.cdist(values, values) + 10 * torch.eye(64)
    assert distances.min() > 1e-3
