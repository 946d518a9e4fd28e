import json

import numpy as np
import pytest
import torch

from codecbook.codecs import load_codec
from codecbook.errors import CorruptInput, UnsupportedInput


@pytest.fixture
def codec(small_codec):
    return small_codec("dac_44khz")


def test_the_frame_rate_is_not_rounded(codec):
    assert codec.frame_rates_hz[0] == pytest.approx(86.1328125)
    assert codec.module.config.frame_rate == 87


def test_tokens_and_audio_are_those_of_transformers(codec, noise_clip):
    clip = noise_clip(codec, 1.0)
    wave = torch.from_numpy(clip.samples)[None]
    wave = torch.nn.functional.pad(wave, (0, -clip.num_samples % 512))
    with torch.inference_mode():
        expected = codec.module.encode(wave).audio_codes
        decoded = codec.module.decode(audio_codes=expected).audio_values[:, : clip.num_samples].numpy()
    tokens = codec.encode(clip)
    np.testing.assert_array_equal(np.stack(tokens.codes), expected[0].numpy())
    np.testing.assert_allclose(codec.decode(tokens).samples, decoded, rtol=0, atol=1e-6)


def test_weights_that_lack_parameters_are_refused(small_folder, tmp_path):
    import safetensors.torch
    from transformers import DacModel

    model = DacModel.from_pretrained(small_folder("dac_44khz"), local_files_only=True)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors.pop(next(name for name in tensors if name.startswith("encoder")))
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UnsupportedInput, match="lack 1 parameters of DacModel"):
        load_codec("dac_44khz", weights=tmp_path)


@pytest.mark.parametrize("damage", ["weights", "config"])
def test_damaged_files_are_refused(small_folder, tmp_path, damage):
    from pathlib import Path

    for file in Path(small_folder("dac_44khz")).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if damage == "weights":
        content = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    else:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "dac"})[:-3])
    with pytest.raises(CorruptInput, match="could not be read as a dac_44khz model"):
        load_codec("dac_44khz", weights=tmp_path)
