"""Spectral distances between a reference and an estimate, one channel at a time.

Both are distances: zero for equal signals, larger is worse. They see level differences (a gain error counts)
and hardly see phase, which makes them the complement of SI-SDR.
"""

from functools import lru_cache

import auraloss.freq
import numpy as np
import torch

from codecbook.audio import triangular_filters
from codecbook.errors import UnsupportedInput

MEL_WINDOWS_S = (0.005, 0.010, 0.020, 0.040, 0.080)
"""Windows of the log-mel distance in seconds; hop is a quarter of the window."""

MEL_FLOOR_DB = 80.0
"""Mel bands quieter than the reference's loudest by more than this are raised to that level before comparing."""

STFT_MIN_SAMPLES = 2048 // 2 + 1
"""Fewest samples that the STFT distance can take: its longest FFT is centred with reflected edges."""

# the Slaney scale: linear up to 15 mel, which are 1 kHz, and from there on 27 mel for a factor of 6.4
_LINEAR_HZ_PER_MEL, _LINEAR_MEL, _LOG_STEP = 200 / 3, 15, np.log(6.4) / 27
_MOST_KEPT_SAMPLES = 1 << 22  # of a signal whose spectrograms are kept, 80 MB
_MIN_LIMIT_HZ = 1000.0  # below it, the shortest window has no filter


def channel_log_mel_distance_db(
    reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int, max_frequency_hz: float | None = None
) -> float:
    """Return the mean absolute difference of log-mel spectrograms over five resolutions, in dB.

    For each window length ``w`` in `MEL_WINDOWS_S`: Hann window, hop ``w/4``, zero padding of half a window at
    either end; power spectrogram; triangular filters with unit sum on the Slaney mel scale (linear to 1 kHz,
    logarithmic above), neighbours ``2/w`` Hz apart in the linear part (two FFT bins, so no filter is
    empty); ``10 log10``; both raised to `MEL_FLOOR_DB` below the reference's loudest band. The distance is
    the mean of ``|difference|`` over bands and frames, averaged over the windows.

    This follows the multi-resolution log-mel losses of EnCodec (Défossez et al. 2022, section 3.4: 64 bands,
    windows of 2^5 to 2^11 samples) and DAC (Kumar et al. 2023, loss functions: 5 to 320 bands, hop w/4, log10), with
    three changes that make it a measure rather than a loss: windows in seconds and a filter grid fixed in hertz,
    so that it means the same at 16, 24 and 48 kHz; decibels; and a floor relative to the clip, so that turning
    both signals up changes nothing and inaudible noise in pauses does not dominate. Its figures are therefore
    not those of either paper.

    Args:
        reference: float64 ``[S]``, not silent.
        estimate: float64 ``[S]``.
        sample_rate_hz: Sampling rate of both.
        max_frequency_hz: Leave out filters that reach above this; None means half the sampling rate. Set it to
            compare clips of different sampling rates on the band that they share.

    Raises:
        UnsupportedInput: Less than 1 kHz is left to compare.
    """
    limit_hz = min(np.inf if max_frequency_hz is None else max_frequency_hz, sample_rate_hz / 2)
    if limit_hz < _MIN_LIMIT_HZ:
        raise UnsupportedInput(
            f"The log-mel distance needs {_MIN_LIMIT_HZ:g} Hz and more, not {limit_hz:g}; use clips of a higher rate."
        )
    distances = []
    all_levels_db = [_kept_levels_db(signal, sample_rate_hz) for signal in (reference, estimate)]
    for window_s, *levels_db in zip(MEL_WINDOWS_S, *all_levels_db, strict=True):
        bands = len(_mel_edges_hz(window_s, limit_hz)) - 2
        floor_db = levels_db[0][:, :bands].max() - MEL_FLOOR_DB
        wanted, received = (np.maximum(levels[:, :bands], floor_db) for levels in levels_db)
        distances.append(np.abs(wanted - received).mean())
    return float(np.mean(distances))


def channel_stft_distance(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return the multi-resolution STFT distance of Parallel WaveGAN, dimensionless.

    Mean over three resolutions of spectral convergence (Frobenius norm of the magnitudes' difference over that
    of the reference) plus mean absolute difference of the natural logarithm of the magnitudes; Hann windows of
    600, 1200 and 240 samples, hops 120, 240 and 50, FFTs of 1024, 2048 and 512, power clamped at 1e-8.
    As `auraloss.freq.MultiResolutionSTFTLoss` computes it with its defaults, in float32.

    The windows are in samples, as published: compare figures of one sampling rate only.

    Source: Yamamoto, Song and Kim, Parallel WaveGAN, ICASSP 2020 (arXiv 1910.11480), section 2.2.

    Both signals are float64 ``[S]``, of at least `STFT_MIN_SAMPLES`.
    """
    batches = [
        torch.from_numpy(np.ascontiguousarray(signal, dtype=np.float32))[None, None] for signal in (estimate, reference)
    ]
    with torch.inference_mode():
        return float(_stft_loss()(*batches))


@lru_cache(maxsize=1)
def _stft_loss() -> auraloss.freq.MultiResolutionSTFTLoss:
    return auraloss.freq.MultiResolutionSTFTLoss()


def _kept_levels_db(signal: np.ndarray, sample_rate_hz: int) -> list[np.ndarray]:
    """Return `_levels_db`, kept for the next measure, and of a reference for its next estimate."""
    levels_db = _levels_db if len(signal) <= _MOST_KEPT_SAMPLES else _levels_db.__wrapped__
    return levels_db(signal.tobytes(), sample_rate_hz)


@lru_cache(maxsize=4)  # two channels and their estimates
def _levels_db(signal: bytes, sample_rate_hz: int) -> list[np.ndarray]:
    """Return the log-mel spectrogram ``[T, M]`` of a signal (float64) for each window, all of the band, in dB."""
    samples = torch.frombuffer(bytearray(signal), dtype=torch.float64)
    with np.errstate(divide="ignore"):
        return [
            10
            * np.log10(
                _power_spectrogram(samples, w, sample_rate_hz) @ _mel_filters(w, sample_rate_hz, sample_rate_hz / 2)
            )
            for w in MEL_WINDOWS_S
        ]


def _power_spectrogram(signal: torch.Tensor, window_s: float, sample_rate_hz: int) -> np.ndarray:
    """Return ``|STFT|^2``, float64 ``[T, F]``, Hann window, hop of a quarter of it, centred with zeros."""
    length = _window_samples(window_s, sample_rate_hz)
    spectrum = torch.stft(
        signal, n_fft=length, hop_length=max(1, length // 4),
        window=_hann_window(length), center=True, pad_mode="constant", return_complex=True,
    )  # fmt: skip
    return (spectrum.real.square() + spectrum.imag.square()).numpy().T


@lru_cache(maxsize=16)
def _hann_window(length: int) -> torch.Tensor:
    return torch.hann_window(length, dtype=torch.float64)


def _window_samples(window_s: float, sample_rate_hz: int) -> int:
    """Return the even number of samples nearest to a window; with an odd one the last bin is not half the rate."""
    return 2 * round(window_s * sample_rate_hz / 2)


@lru_cache(maxsize=64)
def _mel_filters(window_s: float, sample_rate_hz: int, limit_hz: float) -> np.ndarray:
    """Return triangular filters float64 ``[F, M]``, each of unit sum, on a grid that only `window_s` decides."""
    num_bins = _window_samples(window_s, sample_rate_hz) // 2 + 1
    bank = triangular_filters(_mel_edges_hz(window_s, limit_hz), num_bins, sample_rate_hz)
    return bank / bank.sum(axis=0, keepdims=True)


def _mel_edges_hz(window_s: float, limit_hz: float) -> np.ndarray:
    """Return where triangular filters begin, peak and end, ``[M + 2]``, up to a limit of 1 kHz and more."""
    spacing_mel = 2 / window_s / _LINEAR_HZ_PER_MEL
    limit_mel = _LINEAR_MEL + np.log(limit_hz / _LINEAR_MEL / _LINEAR_HZ_PER_MEL) / _LOG_STEP
    mel = spacing_mel * np.arange(int(limit_mel / spacing_mel + 1e-9) + 1)
    above = np.exp(_LOG_STEP * (np.maximum(mel, _LINEAR_MEL) - _LINEAR_MEL))
    return _LINEAR_HZ_PER_MEL * np.minimum(mel, _LINEAR_MEL) * above
