"""Exact codecs behind the common interface: pieces, golden hashes, refusals."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.adapters import snac
from codecbook.codecs.base import Codec, Weights
from codecbook.codecs.exact import spec
from codecbook.codecs.exact.certificate import certificate
from codecbook.codecs.exact.codec import load, to_grid
from codecbook.codecs.exact.export import export_exact
from codecbook.codecs.exact.rounding import calibration_signal, fsq_thresholds, quantised
from codecbook.codecs.loading import load_model
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import parse_weights
from codecbook.paths import data_dir

GOLDEN = {
    "encodec_24khz": ("123fdac956dc0c69", "7bd6d58bf48ea373", "5af11553c0327d9e"),
    "encodec_48khz": ("9dc7d0ed81968f87", "1ad68efb8340812c", "acc3dca7806451e2"),
    "snac_24khz": ("5a79c94411639aca", "5dcef4e6527004ea", "83a31ee688e3cf94"),
    "fsq_50hz": ("3b1fe94204c5a6c5", "ffd7739c753cd213", "0e0fa82fd725a149"),
}


def golden_of(name: str) -> tuple[str, ...]:
    """Return the beginnings of three hashes: of the integers, of tokens, and of the samples decoded from them."""
    codec = load_codec(name, exact=True)
    tokens = codec.encode(_clip(codec, 2.7))
    codes = np.concatenate(tokens.codes).astype("<i8")
    samples = codec.decode(tokens).samples.astype("<f4")
    digests = (hashlib.sha256(array.tobytes()).hexdigest()[:16] for array in (codes, samples))
    return codec.exact_sha256[:16], *digests


def _clip(codec: Codec, duration_s: float) -> Clip:
    """Return a clip that no float rounding has touched."""
    integers = calibration_signal(int(duration_s * codec.sample_rate_hz), codec.channels)
    return Clip((integers * 2.0**-21).astype(np.float32), codec.sample_rate_hz)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_hashes(name: str) -> None:
    """The integers, tokens and samples of the bundled codecs are these on every machine."""
    assert golden_of(name) == GOLDEN[name]


@pytest.mark.parametrize(
    "settings", [{"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}, {"DNNL_MAX_CPU_ISA": "SSE41"}]
)
def test_golden_hashes_in_another_process(settings: dict[str, str]) -> None:
    """Other instruction sets come to the same hashes."""
    script = f"from {__name__.rpartition('.')[2]} import golden_of; print(*golden_of('encodec_24khz'))"
    environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), *sys.path))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split()) == GOLDEN["encodec_24khz"]


@pytest.mark.parametrize("name", ["fsq_50hz", "snac_24khz"])
def test_pieces_come_to_the_whole(name: str) -> None:
    """Chunks of a second come to the tokens and samples of one pass."""
    codec = load_codec(name, exact=True)
    clip = _clip(codec, 4.3)
    whole, pieces = codec.encode(clip, chunk_s=100.0), codec.encode(clip, chunk_s=1.0)
    assert all(np.array_equal(a, b) for a, b in zip(whole.codes, pieces.codes, strict=True))
    codec.chunk_s = 100.0
    sound = codec.decode(whole).samples
    codec.chunk_s = 1.0
    np.testing.assert_array_equal(codec.decode(whole).samples, sound)


def test_clips_of_a_few_samples_have_tokens() -> None:
    """A clip shorter than the padding is coded, too."""
    codec = load_codec("fsq_50hz", exact=True)
    for count in (1, 2, 7, 481):
        clip = Clip(np.full((1, count), 0.25, dtype=np.float32), codec.sample_rate_hz)
        assert codec.decode(codec.encode(clip)).num_samples == count


def test_grid() -> None:
    """Samples are rounded to 2^-20, halves up; beyond 8 they are refused."""
    samples = np.array([[0.0, 2.0**-21, -(2.0**-21), 1.0, -8.0 + 2.0**-20]], dtype=np.float32)
    assert to_grid(samples).tolist() == [[0, 1, 0, 1 << 20, -spec.ACTIVATION_MAX]]
    with pytest.raises(UnsupportedInput, match="A sample is 32767"):
        to_grid(np.array([[32767.0]], dtype=np.float32))


def test_tables() -> None:
    """The tables are what they say, to the last unit but where float64 cannot tell."""
    grid = np.arange(4097) / 256
    for name, exact in (("elu", -np.expm1(-grid)), ("tanh", np.tanh(grid))):
        np.testing.assert_allclose(spec.curve_nodes(name), exact * 2.0**24, rtol=0, atol=0.5001)
    sine = np.sin(np.pi * np.arange(4097) / 4096) ** 2
    np.testing.assert_allclose(spec.sine_nodes(), sine * 2.0**24, rtol=0, atol=0.5001)


def test_fsq_thresholds() -> None:
    """Digits by thresholds are those of the package's rounding."""
    for count in (3, 4, 5, 8):
        z = np.linspace(-4, 4, 4001)
        half, offset = (count - 1) * 1.001 / 2, 0.5 * (count % 2 == 0)
        rounded = np.rint(np.tanh(z + np.arctanh(offset / half)) * half - offset) + count // 2
        digits = (np.floor(z * 2.0**20)[:, None] >= fsq_thresholds(count, 20)).sum(axis=1)
        assert (digits == rounded).mean() > 0.999


def _model(name: str = "fsq_50hz_mini") -> Any:
    return load_model(data_dir() / "models" / name)[0]


@pytest.mark.parametrize(
    ("value", "reason"), [(float("nan"), "not finite"), (float("inf"), "not finite"), (1e-40, "denormal")]
)
def test_weights_that_have_no_integers_are_refused(value: float, reason: str) -> None:
    """NaN, infinities and denormals are refused by name."""
    model = _model()
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if n.endswith("bias"))[0] = value
    with pytest.raises(UnsupportedInput, match=reason):
        export_exact(model)


def test_weights_beyond_the_certificate_are_refused() -> None:
    """Activations that leave the range of a unit are refused, and so are arrays that were altered."""
    model = _model()
    with torch.no_grad():
        model.encoder.model[0].conv.conv.weight_g.mul_(1e6)
    with pytest.raises(UnsupportedInput, match="no exact form"):
        export_exact(model)
    network = export_exact(_model())
    first: Any = network.encoder[0]
    altered = replace(first, weight=first.weight * 0 + spec.WEIGHT_MAX * 2)
    with pytest.raises(UnsupportedInput, match=r"encoder\.0: weight can reach"):
        certificate(replace(network, encoder=(altered, *network.encoder[1:])))
    assert replace(network, encoder=(altered, *network.encoder[1:])).sha256 != network.sha256


def test_certificate_finds_sums_that_are_too_large() -> None:
    """A bias near 2^53 is what tests would hardly meet."""
    network = export_exact(_model())
    first: Any = network.encoder[0]
    altered = replace(first, bias=first.bias + (1 << 53))
    with pytest.raises(UnsupportedInput, match=r"encoder\.0: sum can reach"):
        certificate(replace(network, encoder=(altered, *network.encoder[1:])))


def test_quantised_leaves_room() -> None:
    """Rows of many inputs get fewer bits, so that their sums fit."""
    weight, bits = quantised(np.ones((1, 1 << 12)), 1)
    assert int(weight.astype(np.int64).sum()) * spec.ACTIVATION_MAX < spec.SUM_LIMIT // 4
    assert weight[0, 0] == 2**bits


PUBLISHED_SNAC = {
    "sampling_rate": 24_000, "encoder_dim": 4, "encoder_rates": [2, 4], "decoder_dim": 16, "decoder_rates": [4, 2],
    "attn_window_size": None, "codebook_size": 16, "codebook_dim": 4, "vq_strides": [2, 1], "noise": True,
    "depthwise": True,
}  # fmt: skip


def test_published_snac() -> None:
    """Its depthwise convolutions and noise blocks come near the floats; its local attention at 44 kHz is refused."""

    def seeded(**settings: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return snac.random_model(**PUBLISHED_SNAC | settings)

    model, floats = seeded(), snac.wrap("snac_24khz", seeded(), Weights("random", "seed 1"))
    adapter: Any = SimpleNamespace(network=lambda *_: (model, floats.weights), wrap=snac.wrap)
    codec = load(adapter, "snac_24khz", parse_weights("snac_24khz", "random:1"), "cpu")
    clip = Clip(_clip(codec, 1.0).samples[:, :9600], 24_000)  # noise; in silence one near-tie decides all tokens
    tokens, expected = codec.encode(clip), floats.encode(clip)
    assert np.mean(np.concatenate(tokens.codes) == np.concatenate(expected.codes)) > 0.98
    np.testing.assert_allclose(codec.decode(expected).samples, floats.decode(expected).samples, rtol=0, atol=1e-3)
    with pytest.raises(UnsupportedInput, match="a LocalMHA, has no exact form"):
        export_exact(seeded(attn_window_size=4, decoder_dim=64, encoder_dim=16))


def test_codecs_without_an_exact_form_say_so() -> None:
    """Nothing falls back to floats."""
    with pytest.raises(UnsupportedInput, match="no exact form"):
        load_codec("mimi", weights="random:0", exact=True)
