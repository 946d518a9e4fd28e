import numpy as np
import pytest
import torch

from codecbook.audio import Clip, convert
from codecbook.errors import UnsupportedInput
from codecbook.measure.spectral import MEL_WINDOWS_S, _mel_filters, channel_log_mel_distance_db, channel_stft_distance

RATES_HZ = (8000, 16000, 22050, 24000, 44100, 48000)

pytestmark = pytest.mark.usefixtures("one_thread")  # small transforms spend more time on waking threads than on work


def noise(seed: int, num_samples: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("window_s", MEL_WINDOWS_S)
def test_every_filter_has_unit_sum_and_none_is_empty(window_s, rate_hz):
    bank = _mel_filters(window_s, rate_hz, rate_hz / 2)
    assert bank.shape[1] >= 4
    np.testing.assert_allclose(bank.sum(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("window_s", MEL_WINDOWS_S)
def test_filter_grid_is_the_same_at_all_rates_up_to_the_limit(window_s):
    low = _mel_filters(window_s, 16000, 8000.0)
    high = _mel_filters(window_s, 48000, 8000.0)
    # equal windows in seconds put the FFT bins at equal frequencies; the higher rate only has more of them
    np.testing.assert_allclose(high[: len(low)], low, atol=1e-12)
    assert not high[len(low) :].any()


def test_filters_are_those_of_transformers():
    from transformers.audio_utils import mel_filter_bank, mel_to_hertz

    spacing_mel, count = 2 / 0.02 / (200 / 3), 30
    end_hz = float(mel_to_hertz(spacing_mel * (count + 1), mel_scale="slaney"))
    wanted = mel_filter_bank(241, count, 0.0, end_hz, 24000, norm=None, mel_scale="slaney")
    bank = _mel_filters(0.02, 24000, end_hz + 1)
    np.testing.assert_allclose(bank, wanted / wanted.sum(axis=0), rtol=0, atol=1e-12)


def test_log_mel_distances_are_those_of_the_signals_given_last():
    signals = [noise(seed, 8000) for seed in range(6)]
    once = [channel_log_mel_distance_db(signals[0], other, 16000, limit) for other in signals for limit in (4e3, None)]
    again = [channel_log_mel_distance_db(signals[0], other, 16000, limit) for limit in (4e3, None) for other in signals]
    assert sorted(once) == sorted(again)
    assert len(set(once)) == 11


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_log_mel_distance_of_a_gain_is_the_gain_in_db(rate_hz):
    x = noise(0, rate_hz // 2)
    assert channel_log_mel_distance_db(x, x, rate_hz) == 0
    # white noise lies above the floor everywhere, so every band and frame differs by the gain
    assert channel_log_mel_distance_db(x, 0.5 * x, rate_hz) == pytest.approx(20 * np.log10(2), rel=1e-9)


def test_log_mel_distance_is_unchanged_by_a_common_gain():
    x, y = noise(0, 8000), noise(1, 8000)
    once = channel_log_mel_distance_db(x, y, 16000)
    assert channel_log_mel_distance_db(1e-3 * x, 1e-3 * y, 16000) == pytest.approx(once, rel=1e-9)


def test_log_mel_distance_of_silence_is_bounded_by_the_floor():
    x = noise(0, 8000)
    assert 40 < channel_log_mel_distance_db(x, np.zeros_like(x), 16000) <= 80


def test_log_mel_distance_means_the_same_at_three_rates():
    speech_band = convert(Clip(noise(2, 16000).astype(np.float32)[None], 16000), 48000)
    other = convert(Clip(noise(3, 16000).astype(np.float32)[None], 16000), 48000)
    distances = []
    for rate_hz in (16000, 24000, 48000):
        x, y = (convert(clip, rate_hz).samples[0].astype(np.float64) for clip in (speech_band, other))
        distances.append(channel_log_mel_distance_db(x, y, rate_hz, max_frequency_hz=7000))
    # the resampler's transition band lies above 7 kHz; what is left is frame positions and its ripple
    np.testing.assert_allclose(distances, distances[0], rtol=1e-3)


def slaney_mel_to_hz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def test_log_mel_distance_agrees_with_its_formula_written_out():
    rate_hz = 16000
    t = np.arange(4000) / rate_hz
    # a chirp leaves bands below the floor, so the clamp takes part
    x = np.sin(2 * np.pi * (200 + 4000 * t) * t)
    y = 0.8 * x + 0.01 * noise(1, 4000)
    distances = []
    for window_s in (0.005, 0.010, 0.020, 0.040, 0.080):
        length = round(window_s * rate_hz)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        edges_hz, step = [], 2 / window_s * 3 / 200
        while slaney_mel_to_hz(len(edges_hz) * step) <= rate_hz / 2:
            edges_hz.append(slaney_mel_to_hz(len(edges_hz) * step))
        bins_hz = np.arange(length // 2 + 1) / window_s
        levels = []
        for signal in (x, y):
            padded = np.pad(signal, length // 2)
            frames = [padded[i : i + length] for i in range(0, len(padded) - length + 1, length // 4)]
            power = np.abs(np.fft.rfft(hann * np.array(frames))) ** 2
            bands = []
            for low, mid, high in zip(edges_hz, edges_hz[1:], edges_hz[2:], strict=False):
                triangle = np.interp(bins_hz, [low, mid, high], [0, 1, 0], left=0, right=0)
                bands.append(power @ triangle / triangle.sum())
            levels.append(np.array(bands))
        floor = levels[0].max() * 1e-8
        wanted, received = (10 * np.log10(np.maximum(level, floor)) for level in levels)
        assert (levels[0] < floor).any()
        distances.append(np.abs(wanted - received).mean())
    assert channel_log_mel_distance_db(x, y, rate_hz) == pytest.approx(np.mean(distances), rel=1e-9)


def test_a_limit_that_leaves_nothing_is_refused():
    x = noise(0, 8000)
    with pytest.raises(UnsupportedInput, match=r"needs 1000 Hz and more, not 500"):
        channel_log_mel_distance_db(x, x, 16000, max_frequency_hz=500)
    with pytest.raises(UnsupportedInput, match="and more, not 0"):
        channel_log_mel_distance_db(x, x, 16000, max_frequency_hz=0)


def test_stft_distance_agrees_with_its_formula_in_float64():
    x, y = noise(0, 6000), 0.7 * noise(0, 6000) + 0.3 * noise(1, 6000)
    parts = []
    for n_fft, hop, length in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
        magnitudes = []
        for signal in (x, y):
            spectrum = torch.stft(
                torch.from_numpy(signal),
                n_fft,
                hop,
                length,
                torch.hann_window(length, dtype=torch.float64),
                return_complex=True,
            )
            magnitudes.append(np.sqrt(np.maximum(spectrum.abs().numpy() ** 2, 1e-8)))
        wanted, received = magnitudes
        convergence = np.linalg.norm(wanted - received) / np.linalg.norm(wanted)
        parts.append(convergence + np.abs(np.log(wanted) - np.log(received)).mean())
    # the library works in float32
    assert channel_stft_distance(x, y) == pytest.approx(np.mean(parts), rel=1e-4)


def test_stft_distance_of_halved_and_of_equal_signals():
    x = noise(0, 6000)
    assert channel_stft_distance(x, x) == 0
    # convergence 1/2, logarithm ln 2
    assert channel_stft_distance(x, 0.5 * x) == pytest.approx(0.5 + np.log(2), rel=1e-4)
