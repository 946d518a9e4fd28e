import numpy as np
import pytest
import torch


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


def test_long_tokens_are_decoded_in_chunks_without_seams(codec, noise_clip, monkeypatch):
    tokens = codec.encode(noise_clip(codec, 3.0))
    whole = codec.decode(tokens).samples
    monkeypatch.setattr(codec, "decode_chunk_s", 0.7)
    # float32 sums in another order where a chunk has another length
    np.testing.assert_allclose(codec.decode(tokens).samples, whole, rtol=0, atol=1e-4)
