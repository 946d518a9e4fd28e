"""Losses of codec training, scalars: of an estimate and a target, waveforms ``[B, C, S]`` of one shape.

EnCodec (Défossez et al. 2022, section 3.4) compares waveforms and linear mel spectrograms. Small models that train for
minutes get further with losses that do not depend on the loudness of the recording.
"""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_NUM_MELS = 64
_ENVELOPE_FRAMES = 30
_POWER_FLOOR = 1e-6


@dataclass(frozen=True)
class LossWeights:
    """How much each part of `codec_loss` counts."""

    relative: float = 1.0  # `relative_squared_error`
    log_mel: float = 1.5  # `log_mel_distance`
    envelope: float = 3.0  # `envelope_loss`, which small speech codecs gain intelligibility from
    commitment: float = 0.25  # of the encoder to its codewords
    windows: tuple[int, ...] = (64, 256, 512, 1024, 2048)  # of the log-mel distance, in samples
    floor: float = 1e-3  # mel magnitudes that it does not tell from silence; noise of deviation 1 has about 1


@functools.lru_cache(maxsize=64)
def mel_filters(window: int, num_mels: int, sample_rate_hz: int) -> Tensor:
    """Return triangular filters from 0 Hz to half the sampling rate, evenly spaced on the HTK mel scale, of unit peak.

    They are float32 ``[window // 2 + 1, num_mels]``. Every band holds at least one bin: a triangle narrower than the
    bins' spacing is given the bin nearest to its peak.
    """
    top_mel = 2595.0 * torch.log10(torch.tensor(1.0 + sample_rate_hz / 2 / 700.0, dtype=torch.float64))
    edges_hz = 700.0 * (10.0 ** (torch.linspace(0.0, 1.0, num_mels + 2, dtype=torch.float64) * top_mel / 2595.0) - 1)
    bins_hz = torch.linspace(0.0, sample_rate_hz / 2, window // 2 + 1, dtype=torch.float64)[:, None]
    low, peak, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    filters = torch.minimum((bins_hz - low) / (peak - low), (high - bins_hz) / (high - peak)).clamp(min=0.0)
    empty = filters.sum(dim=0) == 0
    nearest = (bins_hz - peak).abs().argmin(dim=0)
    filters[nearest[empty], empty.nonzero()[:, 0]] = 1.0
    return filters.float()


def mel_spectrogram(waveform: Tensor, window: int, num_mels: int, sample_rate_hz: int) -> Tensor:
    """Return mel magnitudes, float32 ``[B * C, num_mels, 1 + S // (window // 4)]``, >= 0.

    The window is scaled to unit energy, so that white noise of deviation 1 has magnitudes near 1 whatever the
    window's length. The hop is a quarter of it; the signal is padded by half a window.
    """
    hann = torch.hann_window(window).to(waveform.device)
    hann = hann / hann.square().sum().sqrt()
    stft = torch.stft(
        waveform.flatten(0, 1), window, window // 4, window=hann, pad_mode="constant", return_complex=True
    )
    # the square root's gradient is infinite at 0, where digital silence lies
    magnitude = (stft.real.square() + stft.imag.square() + 1e-10).sqrt()
    return torch.einsum("bft,fm->bmt", magnitude, mel_filters(window, num_mels, sample_rate_hz).to(waveform.device))


def relative_squared_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Return the mean over the batch of |estimate - target|^2 / |target|^2; 1 for silence as estimate.

    The power of a silent target is floored at 1e-6 (-60 dB of full scale).
    """
    error = (estimate - target).square().mean(dim=(1, 2))
    return (error / (target.square().mean(dim=(1, 2)) + _POWER_FLOOR)).mean()


def log_mel_distance(
    estimate: Tensor, target: Tensor, sample_rate_hz: int, windows: tuple[int, ...], floor: float = 1e-3
) -> Tensor:
    """Return the mean L1 distance between natural logarithms of mel magnitudes, each with `floor` added.

    The mean is over bands, frames and STFT windows; a window of n samples has 64 bands, or n / 4 if that is less.
    """
    total = estimate.new_zeros(())
    for window in windows:
        bands = min(_NUM_MELS, window // 4)
        ours = mel_spectrogram(estimate, window, bands, sample_rate_hz)
        with torch.no_grad():
            reference = mel_spectrogram(target, window, bands, sample_rate_hz)
        total = total + ((ours + floor).log() - (reference + floor).log()).abs().mean()
    return total / len(windows)


@functools.lru_cache(maxsize=8)
def _third_octave_bands(window: int, sample_rate_hz: int) -> Tensor:
    """Return which of the ``window // 2 + 1`` bins belong to STOI's 15 third octaves from 150 Hz, 0 or 1."""
    centres_hz = 150.0 * 2.0 ** (torch.arange(15, dtype=torch.float64) / 3)
    bins_hz = torch.linspace(0.0, sample_rate_hz / 2, window // 2 + 1, dtype=torch.float64)[:, None]
    low_hz, high_hz = centres_hz * 2.0 ** (-1 / 6), centres_hz * 2.0 ** (1 / 6)
    return ((bins_hz >= low_hz) & (bins_hz < high_hz)).float()


def envelope_loss(estimate: Tensor, target: Tensor, sample_rate_hz: int) -> Tensor:
    """Return 1 minus the mean correlation of the two signals' band envelopes, in [0, 2].

    The envelopes are those of STOI (Taal et al. 2011, section II): magnitudes in third octaves, frames of 25.6 ms
    every 12.8 ms, correlated over 384 ms, for which crops must last. STOI's clipping and its removal of silent frames
    are left out.
    """
    hop = round(0.0128 * sample_rate_hz)
    window = 2 ** math.ceil(math.log2(4 * hop))  # zero-padded, so that low bands hold several bins
    taper = torch.hann_window(2 * hop, device=target.device)
    bands = _third_octave_bands(window, sample_rate_hz).to(target.device)

    def envelopes(waveform: Tensor) -> Tensor:
        stft = torch.stft(waveform.flatten(0, 1), window, hop, 2 * hop, taper, pad_mode="constant", return_complex=True)
        power = torch.einsum("bft,fm->bmt", stft.real.square() + stft.imag.square(), bands)
        frames = (power + 1e-8).sqrt().unfold(-1, _ENVELOPE_FRAMES, 1)
        return frames - frames.mean(dim=-1, keepdim=True)

    ours, reference = envelopes(estimate), envelopes(target)
    scale = ours.square().sum(-1) * reference.square().sum(-1)
    return 1.0 - ((ours * reference).sum(-1) / (scale + 1e-8).sqrt()).mean()


def codec_loss(
    estimate: Tensor, target: Tensor, sample_rate_hz: int, commitment: Tensor, weights: LossWeights
) -> tuple[Tensor, dict[str, float]]:
    """Return (weighted sum of a codec's losses, each part's unweighted value by name).

    A part of weight 0 is not computed. `commitment` is the quantiser's.
    """
    parts: dict[str, Tensor] = {}
    if weights.relative:
        parts["relative"] = relative_squared_error(estimate, target)
    if weights.log_mel:
        parts["log_mel"] = log_mel_distance(estimate, target, sample_rate_hz, weights.windows, weights.floor)
    if weights.envelope:
        parts["envelope"] = envelope_loss(estimate, target, sample_rate_hz)
    if weights.commitment:
        parts["commitment"] = commitment
    total = estimate.new_zeros(())
    for name, value in parts.items():
        total = total + getattr(weights, name) * value
    return total, {name: float(value.detach()) for name, value in parts.items()}
