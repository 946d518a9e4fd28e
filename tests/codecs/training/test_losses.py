import math

import pytest
import torch

from codecbook.codecs.training import losses
from codecbook.codecs.training.losses import (
    LossWeights,
    codec_loss,
    envelope_loss,
    log_mel_distance,
    mel_filters,
    mel_spectrogram,
    relative_squared_error,
)
from codecbook.codecs.training.recipes import RECIPES

RATE_HZ = 24_000


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_relative_error_by_hand():
    target = torch.tensor([[[1.0, -1.0, 1.0, -1.0]], [[2.0, 2.0, 2.0, 2.0]]])
    estimate = torch.tensor([[[1.0, -1.0, 0.0, 0.0]], [[2.0, 2.0, 2.0, 0.0]]])
    # items: 2 / 4 and 4 / 16
    torch.testing.assert_close(relative_squared_error(estimate, target), torch.tensor(0.375), rtol=1e-5, atol=0)


def test_relative_error_of_silence_is_one_whatever_the_level():
    target = noise(2, 1, 400)
    for gain in (1.0, 0.03):
        error = relative_squared_error(torch.zeros_like(target), gain * target)
        assert 0.99 < float(error) <= 1.0


def test_relative_error_of_a_silent_target_is_finite():
    assert torch.isfinite(relative_squared_error(noise(1, 1, 100), torch.zeros(1, 1, 100)))


@pytest.mark.parametrize("window", [32, 64, 512, 2048])
def test_every_mel_band_hears_something(window):
    filters = mel_filters(window, min(64, window // 4), RATE_HZ)
    assert filters.shape == (window // 2 + 1, min(64, window // 4))
    assert (filters.sum(dim=0) > 0).all()
    assert float(filters.max()) <= 1.0


def test_noise_of_unit_deviation_has_magnitudes_near_one_at_every_window():
    waveform = noise(1, 1, 24_000)
    for window in (64, 256, 1024):
        bins = torch.stft(waveform[0], window, window // 4, window=torch.hann_window(window), return_complex=True).abs()
        expected = float((bins / torch.hann_window(window).square().sum().sqrt()).square().mean())
        assert expected == pytest.approx(1.0, rel=0.1)
        mels = mel_spectrogram(waveform, window, window // 4, RATE_HZ)
        weights = mel_filters(window, window // 4, RATE_HZ).sum(dim=0)
        # the mean magnitude of a complex Gaussian of unit power is sqrt(pi) / 2
        assert float((mels / weights[:, None]).mean()) == pytest.approx(math.sqrt(math.pi) / 2, rel=0.1)


def test_equal_waveforms_have_no_spectral_distance():
    waveform = noise(2, 1, 4096)
    assert float(log_mel_distance(waveform, waveform.clone(), RATE_HZ, (64, 1024))) == 0.0


def test_halving_the_amplitude_costs_the_logarithm_of_two():
    waveform = noise(1, 1, 8192)
    distance = log_mel_distance(waveform / 2, waveform, RATE_HZ, (1024,))
    # exact but for the floors at 1e-3 and 1e-10, far below the magnitudes of noise
    assert float(distance) == pytest.approx(math.log(2), rel=0.01)


def test_gradient_is_finite_at_digital_silence():
    estimate = torch.zeros(1, 1, 4096, requires_grad=True)
    log_mel_distance(estimate, noise(1, 1, 4096), RATE_HZ, (32, 2048)).backward()
    assert torch.isfinite(estimate.grad).all()


def test_parts_are_weighted_and_named():
    estimate, target = noise(2, 1, 12_800, seed=1), noise(2, 1, 12_800, seed=2)
    total, parts = codec_loss(estimate, target, RATE_HZ, torch.tensor(3.0), LossWeights())
    expected = {
        "relative": relative_squared_error(estimate, target),
        "log_mel": log_mel_distance(estimate, target, RATE_HZ, LossWeights().windows),
        "envelope": envelope_loss(estimate, target, RATE_HZ),
        "commitment": torch.tensor(3.0),
    }
    assert parts == {name: float(value) for name, value in expected.items()}
    weighted = sum(weight * value for weight, value in zip((1.0, 1.5, 3.0, 0.25), expected.values(), strict=True))
    torch.testing.assert_close(total, weighted, rtol=1e-6, atol=0)


def test_parts_of_weight_zero_are_not_computed():
    weights = LossWeights(relative=2.0, log_mel=0.0, envelope=0.0, commitment=0.0)
    target = noise(1, 1, 640)
    total, parts = codec_loss(torch.zeros_like(target), target, RATE_HZ, torch.tensor(0.0), weights)
    assert set(parts) == {"relative"}
    assert float(total) == pytest.approx(2.0, rel=1e-4)


def _modulated(rate_hz, tremor_hz, samples=12_800, gain=1.0):
    time_s = torch.arange(samples) / rate_hz
    noise = torch.randn(2, 1, samples, generator=torch.Generator().manual_seed(3))
    return gain * noise * (1.2 + torch.sin(2 * torch.pi * tremor_hz * time_s))


@pytest.mark.parametrize("rate_hz", [16_000, 24_000])
def test_envelopes_are_compared_whatever_the_level(rate_hz):
    target = _modulated(rate_hz, 4.0)
    assert float(envelope_loss(target, target, rate_hz)) == pytest.approx(0.0, abs=1e-3)
    assert float(envelope_loss(0.1 * target, target, rate_hz)) == pytest.approx(0.0, abs=1e-3)
    assert float(envelope_loss(-target, target, rate_hz)) == pytest.approx(0.0, abs=1e-3)


def test_other_envelopes_cost():
    target = _modulated(24_000, 4.0)
    other = torch.randn(target.shape, generator=torch.Generator().manual_seed(4))
    assert 0.7 < float(envelope_loss(other, target, 24_000)) < 1.3
    estimate = other.requires_grad_()
    envelope_loss(estimate, target, 24_000).backward()
    assert estimate.grad is not None
    assert bool(estimate.grad.isfinite().all())


def test_silence_has_a_finite_envelope_loss():
    silent = torch.zeros(1, 1, 12_800, requires_grad=True)
    loss = envelope_loss(silent, torch.zeros(1, 1, 12_800), 24_000)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0)
    assert silent.grad is not None
    assert bool(silent.grad.isfinite().all())


def test_bands_are_third_octaves_without_overlap():
    bands = losses._third_octave_bands(2048, 24_000)
    assert bands.shape == (1025, 15)
    assert bool((bands.sum(dim=1) <= 1).all())
    assert bool((bands.sum(dim=0) >= 2).all())
    assert float(bands[round(1000 / (12_000 / 1024)), :].sum()) == 1.0


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_crops_are_long_enough_for_their_losses(recipe):
    target = noise(1, recipe.channels, recipe.crop_samples)
    assert codec_loss(0.5 * target, target, recipe.sample_rate_hz, torch.zeros(()), recipe.loss)[0].isfinite()


def test_noise_below_the_floor_is_not_heard():
    quiet, silence = 1e-4 * noise(1, 1, 8192), torch.zeros(1, 1, 8192)
    heard = {floor: float(log_mel_distance(quiet, silence, RATE_HZ, (512,), floor)) for floor in (1e-3, 1e-4)}
    assert heard[1e-3] < 0.4
    assert heard[1e-4] > 0.7
