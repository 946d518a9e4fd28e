"""Models small enough that each test of the room may make its own files of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.codecs.build import random_seeded
from codecbook.codecs.loading import keep_signal_alive, save_model
from codecbook.lm.model_files import LoadedLM, load_lm, save_lm
from codecbook.lm.models import build_lm

RATE_HZ = 24_000
CODEC = {"num_codebooks": 4, "codebook_size": 64, "hidden_dim": 12, "num_filters": 2, "bandwidth_kbps": 1.8}
LM = {"codebook_sizes": [64, 64, 64], "dim": 16, "layers": 1, "heads": 2, "hidden": 32, "window_frames": 16,
      "head_dim": 8, "head_hidden": 16}  # fmt: skip


def sound(seconds: float = 1.0, seed: int = 0) -> Clip:
    """Return a buzz with some breath, at the codec's rate."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * k * (110 + 20 * seed) * time_s) / k for k in range(1, 12))
    noise = np.random.default_rng(seed).standard_normal(len(time_s))
    return Clip((0.2 * buzz + 0.02 * noise)[None].astype(np.float32), RATE_HZ)


@pytest.fixture(scope="package")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny EnCodec whose codebooks lie where its latents do."""
    module: Any = random_seeded("encodec", CODEC, 0)
    audio = torch.from_numpy(sound().samples)[None]
    keep_signal_alive(module, lambda x: module.decoder(module.encoder(x)), audio)
    with torch.no_grad():
        residual = module.encoder(audio)[0].T
        for layer in module.quantizer.vq.layers:
            book, random = layer._codebook.embed, torch.Generator().manual_seed(0)
            drawn = residual.mean(0) + residual.std(0) * torch.randn(book.shape, generator=random)
            book.copy_(drawn.half().float())
            residual = residual - book[torch.cdist(residual, book).argmin(1)]
    folder = tmp_path_factory.mktemp("codec") / "tiny"
    save_model(folder, module, "encodec", CODEC, {"recipe": "encodec_24khz_mini"})
    return folder


@pytest.fixture(scope="package")
def codec(codec_folder: Path) -> Codec:
    """It, loaded."""
    return load_codec("encodec_24khz", weights=codec_folder)


@pytest.fixture(scope="package")
def lm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model of three codebooks."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lm") / "tiny"
    save_lm(folder, build_lm("rvq_transformer", LM).eval(), {"codec": "encodec_24khz"})
    return folder


@pytest.fixture(scope="package")
def lm(lm_folder: Path) -> LoadedLM:
    """It, loaded."""
    return load_lm(lm_folder)


@pytest.fixture(scope="package")
def codes() -> list[np.ndarray]:
    """Clips of tokens for it, ``[T, 3]``."""
    random = np.random.default_rng(0)
    return [random.integers(0, 64, (40 + 10 * n, 3)) for n in range(4)]


@pytest.fixture(scope="package")
def clip() -> Clip:
    """A second of sound."""
    return sound()
