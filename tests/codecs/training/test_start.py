import numpy as np
import pytest
import torch
from torch import nn

from codecbook.codecs.build import build_architecture, random_seeded
from codecbook.codecs.encodec_package import deprecated_weight_norm
from codecbook.codecs.training.start import (
    linear_start,
    normalised_convolutions,
    principal_components,
    report_signals,
    unit_deviation_start,
)
from codecbook.errors import UnsupportedInput

ARCHITECTURES = ["encodec", "encodec_stereo", "snac", "fsq"]


@pytest.fixture
def autoencoder(tiny_recipe):
    def make(architecture):
        module = random_seeded(architecture, tiny_recipe(architecture).arguments, 0)
        return nn.Sequential(module.encoder, module.decoder)

    return make


@pytest.fixture
def audio(tones):
    def make(architecture, seed=0):
        return torch.from_numpy(np.stack(tones(16, 0.1, 2 if "stereo" in architecture else 1, seed)))

    return make


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_default_start_is_deaf_and_the_others_are_not(autoencoder, audio, architecture):
    batch = audio(architecture)
    heard = {}
    for name in ("default", "unit deviation", "linear"):
        network = autoencoder(architecture)
        if name == "unit deviation":
            unit_deviation_start(network, batch)
        if name == "linear":
            linear_start(*network, batch)
        heard[name] = report_signals(network, batch)
    # 40 dB below the input and more: nothing that a gradient could find
    assert heard["default"].left < 0.01
    assert heard["default"].relative_error > 0.99
    for name in ("unit deviation", "linear"):
        assert min(heard[name].deviations) > 10 * heard["default"].deviations[-1], name
        assert heard[name].left > 0.1, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_linear_start_passes_audio_that_it_was_not_made_from(autoencoder, audio, architecture):
    encoder, decoder = autoencoder(architecture)
    linear_start(encoder, decoder, audio(architecture))
    for seed in (0, 1):
        report = report_signals(nn.Sequential(encoder, decoder), audio(architecture, seed))
        assert report.relative_error < 0.6, seed


def test_the_linear_start_gives_latents_of_unit_variance(autoencoder, audio):
    encoder, decoder = autoencoder("encodec")
    linear_start(encoder, decoder, audio("encodec"))
    variance = encoder(audio("encodec")).var(dim=(0, 2)).mean()
    assert float(variance.detach()) == pytest.approx(1.0, rel=1e-3)


def test_unit_deviation_means_what_it_says(autoencoder, audio):
    network = autoencoder("encodec")
    unit_deviation_start(network, audio("encodec"), last_gain=0.25)
    outputs = []
    for convolution in normalised_convolutions(network):
        convolution.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output.detach()))
    network(audio("encodec"))
    for output in outputs[:-1]:
        torch.testing.assert_close(output.mean(dim=(0, 2)), torch.zeros(output.shape[1]), rtol=0, atol=1e-4)
        spread = output.std(dim=(0, 2), correction=0)
        torch.testing.assert_close(spread, torch.ones(output.shape[1]), rtol=1e-3, atol=0)
    assert float(outputs[-1].std(correction=0)) == pytest.approx(0.25, rel=1e-3)


def test_hooks_are_gone_even_after_an_error(autoencoder):
    network = autoencoder("encodec")
    with pytest.raises(RuntimeError):
        unit_deviation_start(network, torch.zeros(1, 3, 100))
    assert not any(layer._forward_hooks for layer in normalised_convolutions(network))


def test_networks_without_weight_norm_are_refused():
    plain = nn.Sequential(nn.Conv1d(1, 1, 3))
    with pytest.raises(UnsupportedInput, match="Networks need weight_norm"):
        linear_start(plain, plain, torch.zeros(1, 1, 10))


def test_the_linear_start_refuses_recurrent_layers(tiny_recipe, audio):
    module = build_architecture("encodec", {**tiny_recipe().arguments, "num_lstm_layers": 1})
    with pytest.raises(UnsupportedInput, match="no LSTM; use unit_deviation_start"):
        linear_start(module.encoder, module.decoder, audio("encodec"))


def test_the_linear_start_refuses_a_decoder_with_other_strides(autoencoder, tiny_recipe, audio):
    encoder, _ = autoencoder("encodec")
    other = build_architecture("fsq", {**tiny_recipe("fsq").arguments, "strides": [5, 4, 2]})
    with pytest.raises(UnsupportedInput, match=r"\[5, 4, 2\] and decoder strides \[5, 4, 2\] do not mirror"):
        linear_start(encoder, other.decoder, audio("encodec"))


def test_the_linear_start_refuses_a_decoder_narrower_than_the_encoder(tiny_recipe, audio):
    module = build_architecture("snac", {**tiny_recipe("snac").arguments, "decoder_dim": 16})
    with pytest.raises(UnsupportedInput, match="of 16 channels, an encoder of 32"):
        linear_start(module.encoder, module.decoder, audio("snac"))


def test_principal_components_are_those_of_the_covariance():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    deviations = np.array([0.1, 3.0, 1.0, 0.5, 2.0])
    vectors = torch.from_numpy((rng.standard_normal((20_000, 5)) * deviations) @ basis.T).float()
    found = principal_components(vectors, 2).numpy()
    cosines = np.abs(found @ basis[:, [1, 4]])
    # 20,000 samples turn the axes by a fraction of a degree to a few degrees
    np.testing.assert_allclose(cosines, np.eye(2), rtol=0, atol=0.05)


def chain(*gains):
    """1x1 convolutions that multiply by the given numbers."""
    layers = []
    with deprecated_weight_norm():
        for gain in gains:
            layer = nn.utils.weight_norm(nn.Conv1d(1, 1, 1))
            with torch.no_grad():
                layer.weight_v.fill_(1.0)
                layer.weight_g.fill_(gain)
                layer.bias.fill_(5.0)  # a constant is no signal, and must not be counted as one
            layers.append(layer)
    return nn.Sequential(*layers)


def test_deviations_follow_the_gains_and_leave_constants_out():
    audio = torch.randn(4, 1, 1000, generator=torch.Generator().manual_seed(0))
    report = report_signals(chain(0.5, 0.1), audio)
    deviation = float(audio.std(dim=0).mean())
    assert report.deviations == pytest.approx((0.5 * deviation, 0.05 * deviation), rel=1e-5)
    assert report.left == pytest.approx(0.05, rel=1e-5)


def test_the_error_of_a_copy_is_nought_and_of_silence_one():
    audio = torch.randn(4, 1, 1000, generator=torch.Generator().manual_seed(0))
    copy, silence = chain(1.0), chain(0.0)
    for network in (copy, silence):
        nn.init.zeros_(network[0].bias)
    alive, dead = (report_signals(network, audio) for network in (copy, silence))
    assert (alive.relative_error, alive.left) == pytest.approx((0.0, 1.0), abs=1e-6)
    assert (dead.relative_error, dead.left) == pytest.approx((1.0, 0.0), abs=1e-6), "a network that is silent is deaf"


def test_a_pattern_in_time_that_ignores_the_input_is_no_signal():
    with deprecated_weight_norm():
        stretch = nn.utils.weight_norm(nn.ConvTranspose1d(1, 1, 2, stride=2))
    with torch.no_grad():
        stretch.weight_v.copy_(torch.tensor([[[1.0, -1.0]]]))
        stretch.weight_g.fill_(1.0)
        stretch.bias.zero_()
    constant = torch.ones(3, 1, 50)
    assert report_signals(nn.Sequential(stretch), constant).deviations == (0.0,)


def test_hooks_are_gone_afterwards():
    network = chain(1.0)
    report_signals(network, torch.randn(2, 1, 10))
    assert not network[0]._forward_hooks
