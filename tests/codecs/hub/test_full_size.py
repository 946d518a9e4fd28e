"""The published codecs at full size: from the hub, through encoder and decoder.

Their weights are noise, of the names, shapes and sizes of the published ones, so that nothing is said of sound.
"""

import json
import os
import resource
import time

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import DacConfig, DacModel, MimiConfig, MimiModel, NeuCodecConfig, NeuCodecModel

from codecbook.codecs import load_codec
from codecbook.codecs.adapters import encodec, snac
from codecbook.codecs.encodec_package import deprecated_weight_norm
from codecbook.codecs.registry import DOWNLOAD_MB

DURATION_S = float(os.environ.get("CODECBOOK_FULL_SIZE_S", "1"))
TRANSFORMERS = {
    "dac_44khz": lambda: DacModel(DacConfig(sampling_rate=44_100)),
    "mimi": lambda: MimiModel(MimiConfig()),
    "neucodec": lambda: NeuCodecModel(NeuCodecConfig()),
}
heavy = pytest.mark.skipif(
    "CODECBOOK_FULL_SIZE" not in os.environ,
    reason="takes minutes and 8 GB of memory; set CODECBOOK_FULL_SIZE to run it",
)


def noise_state(module):
    """Fill the shapes of a module on the meta device; gains and norms are 1."""
    rng = torch.Generator().manual_seed(0)
    block = (torch.rand(1 << 22, generator=rng) - 0.5) * 0.1
    state = {}
    for name, tensor in module.state_dict().items():
        is_gain = tensor.dim() < 2 or name.endswith(("weight_g", "original0", "alpha")) or "inited" in name
        filled = torch.ones(tensor.shape, dtype=tensor.dtype)
        if not is_gain and tensor.is_floating_point():
            repeats = -(-tensor.numel() // block.numel())
            filled = block.repeat(repeats)[: tensor.numel()].reshape(tensor.shape).clone()
        state[name] = filled
    return state


def publish(hub, publish_encodec, name, folder):
    """Serve a codec's weights at full size in its publisher's layout."""
    folder.mkdir()
    with torch.device("meta"), deprecated_weight_norm():
        if name.startswith("encodec"):
            module = encodec._BUILDERS[name](pretrained=False)
        elif name == "snac_24khz":
            module = snac.snac.SNAC(**snac._PUBLISHED_24KHZ)
        else:
            module = TRANSFORMERS[name]()
    state = noise_state(module)
    if name.startswith("encodec"):
        publish_encodec(name, state)
        return
    if name == "snac_24khz":
        (folder / "config.json").write_text(json.dumps(snac._PUBLISHED_24KHZ))
        torch.save(state, folder / "pytorch_model.bin")
    else:
        module.config.save_pretrained(folder)
        safetensors.torch.save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    hub.publish(name, folder)


@pytest.mark.parametrize("name", [pytest.param(n, marks=heavy) if n == "neucodec" else n for n in DOWNLOAD_MB])
def test_a_published_codec_encodes_and_decodes(hub, publish_encodec, tmp_path, noise_clip, name):
    publish(hub, publish_encodec, name, tmp_path / "published")
    megabytes = max(file.stat().st_size for file in hub.files.values()) / 1e6
    assert megabytes == pytest.approx(DOWNLOAD_MB[name], rel=0.02), "what a download is said to be"
    times_s = [time.process_time()]
    codec = load_codec(name, weights="pretrained")
    times_s.append(time.process_time())
    clip = noise_clip(codec, DURATION_S)
    tokens = codec.encode(clip)
    times_s.append(time.process_time())
    decoded = codec.decode(tokens)
    times_s.append(time.process_time())
    assert codec.weights.kind == "pretrained"
    assert tokens.weights == str(codec.weights)
    expected = [DURATION_S * rate_hz for rate_hz in codec.frame_rates_hz]
    assert [len(codes) for codes in tokens.codes] == pytest.approx(expected, abs=12)
    assert np.isfinite(decoded.samples).all()
    assert decoded.duration_s == pytest.approx(DURATION_S, abs=0.1)
    load_s, encode_s, decode_s = np.diff(times_s)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{name}: {load_s:.1f} {encode_s:.1f} {decode_s:.1f} s of CPU, {memory_mb:.0f} MB")
