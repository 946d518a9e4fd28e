import dataclasses
import json

import numpy as np
import pytest
import torch

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.adapters.snac import SnacCodec
from codecbook.codecs.base import Weights
from codecbook.errors import CorruptInput, MissingWeights
from codecbook.tokens.layout import Layout


@pytest.fixture
def codec(small_codec):
    return small_codec("snac_24khz")


def test_levels_run_at_one_two_and_four_times_the_coarsest_rate(codec, noise_clip):
    assert codec.frame_rates_hz == (11.71875, 23.4375, 46.875)
    tokens = codec.encode(noise_clip(codec, 1.0))
    assert [len(codes) for codes in tokens.codes] == [12, 24, 48]
    assert Layout("orpheus", tokens.format).to_rows(tokens).shape == (7 * 12, 1)


def test_tokens_and_audio_are_those_of_the_package(codec, noise_clip):
    clip = noise_clip(codec, 1.3)
    wave = torch.from_numpy(clip.samples)[None]
    with torch.inference_mode():
        expected = codec.module.encode(wave)
        decoded = codec.module.decode(expected)[0, :, : clip.num_samples].numpy()
    tokens = codec.encode(clip)
    for codes, level in zip(tokens.codes, expected, strict=True):
        np.testing.assert_array_equal(codes, level[0].numpy())
    np.testing.assert_allclose(codec.decode(tokens).samples, decoded, rtol=0, atol=1e-6)


def test_noise_blocks_are_silenced_so_that_decoding_repeats(small_snac, noise_clip):
    model, _ = small_snac(noise=True)
    codec = SnacCodec("snac_24khz", model, Weights("random", "seed 0"))
    tokens = codec.encode(noise_clip(codec, 0.5))
    np.testing.assert_array_equal(codec.decode(tokens).samples, codec.decode(tokens).samples)


def test_long_tokens_become_latents_piece_by_piece(codec, noise_clip, monkeypatch):
    tokens = codec.encode(noise_clip(codec, 12.0))
    quantizer = codec.module.quantizer.quantizers[0]
    lengths, decode_code = [], quantizer.decode_code
    monkeypatch.setattr(quantizer, "decode_code", lambda codes: lengths.append(codes.shape[-1]) or decode_code(codes))
    monkeypatch.setattr(codec, "chunk_s", 1.0)
    codec.decode(tokens)  # that pieces have no seams is asked of all codecs in test_networks.py
    assert len(lengths) > 3
    assert max(lengths) < len(tokens.codes[0]) / 3


@pytest.mark.parametrize("lengths", [(3, 6, 11), (3, 5, 12), (3, 7)])
def test_levels_that_do_not_fit_together_are_refused(codec, noise_clip, lengths):
    tokens = codec.encode(noise_clip(codec, 0.25))
    codes = tuple(np.resize(level, length) for level, length in zip(tokens.codes, lengths, strict=False))
    damaged = dataclasses.replace(tokens.leading(len(lengths)), codes=codes, num_samples=None)
    with pytest.raises(CorruptInput, match="do not fit together"):
        codec.decode(damaged)


def test_a_folder_as_published_is_loaded(small_snac, tmp_path, noise_clip):
    model, settings = small_snac(noise=True)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    codec = load_codec("snac_24khz", weights=tmp_path)
    assert (codec.weights.kind, codec.weights.source) == ("pretrained", str(tmp_path))
    assert codec.encode(noise_clip(codec, 0.3)).num_codebooks == 3
    (tmp_path / "pytorch_model.bin").write_bytes(b"cut")
    with pytest.raises(CorruptInput, match="could not be read as a snac_24khz"):
        load_codec("snac_24khz", weights=tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(MissingWeights, match="no folder with a pytorch_model"):
        load_codec("snac_24khz", weights=tmp_path)


def test_one_sample_makes_one_coarse_frame(codec):
    tokens = codec.encode(Clip(np.ones((1, 1), np.float32), 24_000))
    assert [len(codes) for codes in tokens.codes] == [1, 2, 4]
