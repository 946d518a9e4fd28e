"""Small codecs of every adapter, loaded from folders the way large ones are."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import snac
import torch
from transformers import DacConfig, DacModel, MimiConfig, MimiModel, NeuCodecConfig, NeuCodecModel, Wav2Vec2BertConfig

from codecbook import paths
from codecbook.audio import Clip, clip_from_array
from codecbook.codecs import Codec, load_codec
from codecbook.codecs.adapters import dac, mimi, neucodec
from codecbook.codecs.adapters.snac import SnacCodec, random_model
from codecbook.codecs.base import Weights
from codecbook.codecs.build import build_architecture, offered_bandwidths_kbps
from codecbook.codecs.loading import keep_signal_alive, save_model
from codecbook.codecs.training.losses import LossWeights
from codecbook.codecs.training.recipes import Phase, Recipe
from codecbook.models.weights import seeded

SMALL_SEANET = {"num_filters": 4, "hidden_dim": 16, "num_lstm_layers": 1}
ARCHITECTURES = {
    "encodec_24khz": ("encodec", {"num_codebooks": 4, "codebook_size": 64, "bandwidth_kbps": 0.9, **SMALL_SEANET}),
    "encodec_48khz": (
        "encodec_stereo",
        {"num_codebooks": 4, "codebook_size": 64, "bandwidth_kbps": 1.8, "norm": "time_group_norm", **SMALL_SEANET},
    ),
    "snac_24khz": ("snac", {"codebook_size": 64, "codebook_dim": 4, "encoder_dim": 4, "decoder_dim": 32}),
    "fsq_50hz": ("fsq", {"levels": [4, 4, 4], **SMALL_SEANET}),
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def own_model(folder: Path, name: str) -> str:
    architecture, arguments = ARCHITECTURES[name]
    with seeded(0):
        module = build_architecture(architecture, arguments)
        channels = arguments.get("channels", 2 if architecture == "encodec_stereo" else 1)
        if isinstance(module, snac.SNAC):
            keep_signal_alive(module, module, torch.randn(1, 1, 4 * 2048) * 0.1)
        else:
            # codewords of the size that latents have
            keep_signal_alive(module, lambda x: module.decoder(module.encoder(x)), torch.randn(1, channels, 9600) * 0.1)
    save_model(folder, module, architecture, arguments, {"what": "random, for tests"})
    return str(folder)


def small_dac() -> DacModel:
    config = DacConfig(
        encoder_hidden_size=4,
        decoder_hidden_size=32,
        downsampling_ratios=[2, 4, 8, 8],
        n_codebooks=4,
        codebook_size=64,
        sampling_rate=44_100,
    )
    return dac.random_model(config)


def small_mimi() -> MimiModel:
    config = MimiConfig(
        num_filters=4,
        hidden_size=32,
        upsample_groups=32,
        num_hidden_layers=2,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=8,
        codebook_size=64,
        codebook_dim=16,
        vector_quantization_hidden_dimension=16,
        num_quantizers=4,
        sliding_window=20,
    )
    return mimi.random_model(config)


def small_neucodec() -> NeuCodecModel:
    speech = Wav2Vec2BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        feature_projection_input_dim=160,
    )
    config = NeuCodecConfig(
        hidden_size=64,  # twice the groups of its normalisation
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        encoder_hidden_size=4,
        quantization_dim=96,
        semantic_model_config=speech,
    )
    return neucodec.random_model(config)


def small_snac(**changes: object) -> tuple[snac.SNAC, dict]:
    settings: dict = {
        "sampling_rate": 24_000,
        "encoder_dim": 4,
        "encoder_rates": [2, 4, 8, 8],
        "decoder_dim": 32,
        "decoder_rates": [8, 8, 4, 2],
        "attn_window_size": None,
        "codebook_size": 64,
        "codebook_dim": 4,
        "vq_strides": [4, 2, 1],
    }
    settings |= changes
    with seeded(0):
        return random_model(**settings), settings


@pytest.fixture(name="small_snac")
def give_small_snac() -> Callable[..., tuple[snac.SNAC, dict]]:
    """Give `small_snac` to tests, which cannot import a conftest."""
    return small_snac


TRANSFORMERS: dict[str, Callable] = {"dac_44khz": small_dac, "mimi": small_mimi, "neucodec": small_neucodec}


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Make, once a session, a folder with a small model of a codec."""
    folders: dict[str, str] = {}

    def folder_of(name: str) -> str:
        if name not in folders:
            folder = tmp_path_factory.mktemp(name)
            if name in ARCHITECTURES:
                own_model(folder, name)
            else:
                with seeded(0):
                    TRANSFORMERS[name]().save_pretrained(folder)
            folders[name] = str(folder)
        return folders[name]

    return folder_of


@pytest.fixture(scope="session")
def small_codec(small_folder: Callable[[str], str]) -> Callable[[str], Codec]:
    """Load, once a session, a small codec of a name; skips where Lyra's files or package are not here."""
    codecs: dict[str, Codec] = {}

    def codec_of(name: str) -> Codec:
        if name not in codecs:
            codecs[name] = _make(name, small_folder)
        return codecs[name]

    return codec_of


def _make(name: str, small_folder: Callable[[str], str]) -> Codec:
    if name == "lyra_v2":
        skip_without_lyra()
        return load_codec(name, weights="pretrained")
    if name == "units_25hz":
        return load_codec(name, weights="random:0")
    if name == "snac_with_attention":
        model, _ = small_snac(decoder_dim=64, attn_window_size=8)
        return SnacCodec("snac_24khz", model, Weights("random", "seed 0"))
    return load_codec(name, weights=small_folder(name))


def skip_without_lyra() -> None:
    pytest.importorskip("ai_edge_litert", reason="Lyra needs the package ai-edge-litert")
    extra = paths.extra_dir()
    if extra is None or not (extra / "data/lyra/v1_float32").is_dir():
        pytest.skip("Lyra's model files are not here; set CODECBOOK_EXTRA to a folder with data/lyra")


def noise(codec: Codec, duration_s: float, seed: int = 0) -> Clip:
    """Noise whose loudness comes and goes, at a codec's rate and channels."""
    num_samples = round(duration_s * codec.sample_rate_hz)
    samples = np.random.default_rng(seed).standard_normal((codec.channels, num_samples))
    loudness = 0.02 + 0.1 * np.abs(np.sin(np.arange(num_samples) / codec.sample_rate_hz * 4.0))
    return clip_from_array((samples * loudness).astype(np.float32), codec.sample_rate_hz)


@pytest.fixture
def noise_clip() -> Callable[..., Clip]:
    """Give `noise` to tests, which cannot import a conftest."""
    return noise


@pytest.fixture(scope="session")
def pitches() -> Callable[..., Clip]:
    """Give tests stretches of tones of several pitches, 2.5 s at 16 kHz."""

    def clip(seed: int = 0) -> Clip:
        rng = np.random.default_rng(seed)
        frequencies_hz = np.repeat(rng.uniform(100, 4000, 20), 2000)
        wave = 0.3 * np.sin(2 * np.pi * np.cumsum(frequencies_hz) / 16_000) + 0.01 * rng.standard_normal(40_000)
        return Clip(wave.astype(np.float32)[None], 16_000, name=f"tones{seed}")

    return clip


def tones(count: int, duration_s: float = 0.5, channels: int = 1, seed: int = 0) -> list[np.ndarray]:
    """Give recordings ``[C, S]`` at 16 kHz: four sines a channel and a little noise, at -14 dB or so."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(16_000 * duration_s)) / 16_000
    recordings = []
    for _ in range(count):
        frequencies_hz, phases = rng.uniform(80, 800, (channels, 4, 1)), rng.uniform(0, 6, (channels, 4, 1))
        sines = 0.1 * np.sin(2 * np.pi * frequencies_hz * time_s + phases).sum(axis=1)
        recordings.append((sines + 0.01 * rng.standard_normal(sines.shape)).astype(np.float32))
    return recordings


def tiny_recipe(architecture: str = "encodec", **changes: object) -> Recipe:
    """Give a recipe for a codec of two codebooks of 16 codes at 400 frames/s, cheap enough to train in tests."""
    seanet = {"num_filters": 2, "hidden_dim": 8, "strides": [2, 4, 5], "sample_rate_hz": 16_000}
    books = {"num_codebooks": 2, "codebook_size": 16}
    bitrate = {"bandwidth_kbps": offered_bandwidths_kbps(2, 16, 400)[-1]}
    arguments = {
        "encodec": {**seanet, **books, **bitrate},
        "encodec_stereo": {**seanet, **books, **bitrate},
        "fsq": {**seanet, "levels": [4, 4, 4]},
        "snac": {
            "codebook_size": 16, "codebook_dim": 4, "vq_strides": [2, 1], "encoder_dim": 4, "decoder_dim": 32,
            "encoder_strides": [5, 4, 2], "sample_rate_hz": 16_000,
        },
    }  # fmt: skip
    settings: dict = {
        "arguments": arguments[architecture],
        "sample_rate_hz": 16_000,
        "channels": 2 if architecture == "encodec_stereo" else 1,
        "crop_samples": 1600,
        "batch_size": 4,
        "warmup_steps": 2,
        "main_codebooks": 2,
        "phases": (Phase("autoencoder", 0.4, 1.0, 0.5), Phase("joint", 0.7, 0.6, 0.1), Phase("decoder", 1.0, 0.4, 0.1)),
        "loss": LossWeights(log_mel=1.0, envelope=0.0, windows=(64, 256)),
        "fit_seconds": 1.0,
    }
    return Recipe(architecture, **{**settings, **changes})


@pytest.fixture(name="tones")
def give_tones() -> Callable[..., list[np.ndarray]]:
    """Give `tones` to tests, which cannot import a conftest."""
    return tones


@pytest.fixture(name="tiny_recipe")
def give_tiny_recipe() -> Callable[..., Recipe]:
    """Give `tiny_recipe` to tests."""
    return tiny_recipe
