"""Every evaluator of an exact codec gives the same integers, whatever the pieces, batch and threads."""

from typing import Any

import numpy as np
import pytest
import torch
from plain_codec import PlainCodec

from codecbook.codecs.build import random_seeded
from codecbook.codecs.exact.carriers import Float64, SplitFloat32
from codecbook.codecs.exact.certificate import certificate
from codecbook.codecs.exact.evaluate import Evaluator
from codecbook.codecs.exact.export import export_exact
from codecbook.codecs.exact.reference import ReferenceNetwork
from codecbook.codecs.exact.spec import ExactNetwork
from codecbook.codecs.loading import keep_signal_alive

SMALL = {"num_filters": 4, "hidden_dim": 16}
MODELS = {
    "lstm": ("encodec", {**SMALL, "num_codebooks": 4, "bandwidth_kbps": 3.0, "num_lstm_layers": 2}),
    "group_norm": (
        "encodec_stereo", {**SMALL, "num_codebooks": 4, "bandwidth_kbps": 6.0, "norm": "time_group_norm"}
    ),
    "snac": (
        "snac",
        {
            "codebook_size": 64, "encoder_dim": 4, "decoder_dim": 32, "encoder_strides": [8, 5, 2, 2],
            "depthwise": True,
        },
    ),
    "fsq": ("fsq", {**SMALL, "levels": [4, 5, 3]}),
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def network(request: pytest.FixtureRequest) -> ExactNetwork:
    """An exact codec with random weights."""
    model: Any = random_seeded(*MODELS[request.param], seed=3)
    channels = getattr(model, "channels", 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        keep_signal_alive(model, lambda wave: model.decoder(model.encoder(wave)), torch.randn(1, channels, 6400) * 0.1)
        if hasattr(model.quantizer, "vq"):
            for layer in model.quantizer.vq.layers:
                layer._codebook.embed.data.normal_(0, 0.5)
    return export_exact(model)


def _samples(network: ExactNetwork, seed: int, count: int = 3200) -> np.ndarray:
    first: Any = network.encoder[0]
    channels = first.weight.shape[2]
    noise = np.random.default_rng(seed).standard_normal((channels, count))
    return np.rint(noise * 0.3 * 2.0**network.input_unit).astype(np.int64)


@pytest.fixture(params=["compiled", "torch"])
def _curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves as they are computed with and without numba."""
    if request.param == "torch":
        monkeypatch.setattr("codecbook.codecs.exact.evaluate.numba", None)


def _through(network: ExactNetwork, batch: np.ndarray, carrier: Float64 | None = None) -> tuple[list, np.ndarray]:
    """Return codes ``[B, T_k]`` and samples ``[B, S, C]`` of ``[B, C, S]``."""
    evaluator = Evaluator(carrier=carrier)
    latents = evaluator.run(network.encoder, evaluator.numbers.tensor(batch.transpose(0, 2, 1)))
    codes = evaluator.quantize(network, latents)
    samples = evaluator.run(network.decoder, evaluator.dequantize(network, codes))
    return [level.numpy() for level in codes], samples.to(torch.int64).numpy()


@pytest.mark.usefixtures("_curves")
@pytest.mark.parametrize("carrier", [Float64, SplitFloat32])
def test_agree_with_the_reference(network: ExactNetwork, carrier: type[Float64]) -> None:
    """The reference, float64 and digits in float32 agree in every token and sample."""
    reference, samples = ReferenceNetwork(network), _samples(network, 1)
    codes, audio = _through(network, samples[None], carrier(torch.device("cpu")))
    expected = reference.encode(samples)
    assert len(np.unique(np.concatenate(expected))) > 3, "the tokens do not depend on the audio"
    for ours, theirs in zip(codes, expected, strict=True):
        np.testing.assert_array_equal(ours[0], theirs)
    np.testing.assert_array_equal(audio[0].T, reference.decode(expected))


def test_agree_with_the_text(network: ExactNetwork) -> None:
    """A codec that was written from the normative text alone comes to the same hash, tokens and samples."""
    plain, samples = PlainCodec(network.config, network.arrays), _samples(network, 2, 1920)
    assert plain.sha256 == network.sha256
    codes, audio = _through(network, samples[None])
    expected = plain.encode(samples)
    for ours, theirs in zip(codes, expected, strict=True):
        np.testing.assert_array_equal(ours[0], theirs)
    np.testing.assert_array_equal(audio[0].T, plain.decode(expected))


def test_batches_and_threads_change_nothing(network: ExactNetwork) -> None:
    """A clip's tokens and samples do not depend on its neighbours or on the number of threads."""
    batch, threads = np.stack([_samples(network, seed) for seed in range(3)]), torch.get_num_threads()
    codes, audio = _through(network, batch)
    try:
        torch.set_num_threads(3 - min(threads, 2))
        for i, clip in enumerate(batch):
            alone, sound = _through(network, clip[None])
            assert all(np.array_equal(level[i], one[0]) for level, one in zip(codes, alone, strict=True))
            np.testing.assert_array_equal(audio[i], sound[0])
    finally:
        torch.set_num_threads(threads)


def test_certificate_holds_what_occurs(network: ExactNetwork) -> None:
    """Every bound is below its limit, and the sums have one."""
    bounds = certificate(network)
    assert all(bound.greatest < bound.limit for bound in bounds)
    assert sum(bound.name.endswith(": sum") for bound in bounds) >= len(network.encoder) // 2


def test_autocast_and_reduced_float32_change_nothing(network: ExactNetwork) -> None:
    """Permission to compute products in bfloat16 is no permission to change integers."""
    samples, before = _samples(network, 5)[None], torch.get_float32_matmul_precision()
    expected = _through(network, samples)
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for carrier in (Float64, SplitFloat32):
                codes, audio = _through(network, samples, carrier(torch.device("cpu")))
                assert all(np.array_equal(a, b) for a, b in zip(codes, expected[0], strict=True))
                np.testing.assert_array_equal(audio, expected[1])
    finally:
        torch.set_float32_matmul_precision(before)
