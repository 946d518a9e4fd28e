"""How close a decoded clip is to the original: SI-SDR, SNR, spectral distances, STOI and PESQ.

Conventions. Both clips are compared sample by sample, as they are: nothing is shifted, scaled or resampled,
except that STOI works at 10 kHz and PESQ at 16 kHz by definition. A difference in length of up to one codec
frame is cut (`pairs.check_pair`). Several channels are measured one by one, and the mean over the channels is
reported. Where a measure is undefined, a silent reference for instance, its value is NaN rather than a number
that would spoil an average, and `evaluate` says why; input that contradicts itself (rates, channels, lengths,
samples that are not finite) is an error.
"""

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np
import pystoi

from codecbook.audio import Clip, clip_from_array, convert
from codecbook.errors import UnsupportedInput
from codecbook.measure.pairs import check_pair, misalignment_note
from codecbook.measure.spectral import STFT_MIN_SAMPLES, channel_log_mel_distance_db, channel_stft_distance

_STOI_RATE_HZ = 10_000
_PESQ_RATE_HZ = 16_000

# One channel: float64 [S] twice, the first of them not silent, and the rate, to a value, or why there is none.
_ChannelMeasure = Callable[[np.ndarray, np.ndarray, int], float | str]
_CHANNEL: dict[str, _ChannelMeasure] = {}


def _of_clips(measure: _ChannelMeasure) -> Callable[[Clip, Clip], float]:
    """Make a measure of one channel one of two clips, and list it."""
    name = getattr(measure, "__name__")  # noqa: B009  a type checker's callables have no names
    _CHANNEL[name] = measure

    @wraps(measure)
    def of_clips(reference: Clip, estimate: Clip) -> float:
        _check_measures([name])
        wanted, received = check_pair(reference, estimate)
        return _mean_over_channels(measure, wanted, received, reference.sample_rate_hz)[0]

    return of_clips


@_of_clips
def si_sdr_db(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float | str:
    """Return the scale-invariant signal-to-distortion ratio in dB.

    ``10 log10(|a r|^2 / |a r - e|^2)`` with ``a = <e, r> / <r, r>``, after removing the mean of both; computed
    in float64 without the small constants that libraries add, so a perfect copy gives inf and an uncorrelated
    estimate -inf. NaN where reference or estimate is silent or constant: the ratio is then 0/0.

    Source: Le Roux et al., SDR - half-baked or well done?, ICASSP 2019 (arXiv 1811.02508).
    """
    centred = [signal - signal.mean() for signal in (reference, estimate)]
    for role, signal, original in zip(("reference", "estimate"), centred, (reference, estimate), strict=True):
        # what the mean's own rounding leaves of a constant is no signal
        if np.sum(signal**2) <= 1e-24 * np.sum(original**2):
            return f"the {role} is silent or constant"
    wanted, received = centred
    target = np.dot(received, wanted) / np.dot(wanted, wanted) * wanted
    return _ratio_db(target, target - received)


@_of_clips
def snr_db(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float | str:
    """Return the signal-to-noise ratio ``10 log10(|r|^2 / |r - e|^2)`` in dB; gain and polarity count.

    inf for a perfect copy; 0 dB for a silent estimate; NaN for a silent reference.
    """
    return _ratio_db(reference, reference - estimate)


@_of_clips
def log_mel_distance_db(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float | str:
    """Return the mean absolute difference of log-mel spectrograms over five resolutions, in dB.

    The definition stands in `codecbook.measure.spectral.channel_log_mel_distance_db`. NaN for a silent reference.
    """
    return channel_log_mel_distance_db(reference, estimate, sample_rate_hz)


@_of_clips
def log_mel_8khz_distance_db(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float | str:
    """Return the log-mel distance of what lies below 8 kHz, the band that recordings and codecs of all rates share.

    Speech that was recorded at 16 kHz is empty above it, where a codec of 48 kHz is charged for its own noise alone.
    """
    return channel_log_mel_distance_db(reference, estimate, sample_rate_hz, max_frequency_hz=8000.0)


@_of_clips
def stft_distance(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float | str:
    """Return the multi-resolution STFT distance (spectral convergence + natural log magnitude), dimensionless.

    The definition stands in `codecbook.measure.spectral.channel_stft_distance`. NaN for a silent reference, or
    1024 samples or less.
    """
    if len(reference) < STFT_MIN_SAMPLES:
        return f"{len(reference)} samples are fewer than the {STFT_MIN_SAMPLES} that its longest window needs"
    return channel_stft_distance(reference, estimate)


@_of_clips
def stoi(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float | str:
    """Return the short-time objective intelligibility, about 0 to 1, at 10 kHz (package pystoi).

    NaN for a silent reference, a rate below 10 kHz, or less than about 0.4 s of speech once frames 40 dB below
    the loudest are dropped.

    Source: Taal et al., IEEE Trans. Audio, Speech and Language Processing 19(7), 2011.
    """
    if sample_rate_hz < _STOI_RATE_HZ:
        return f"{sample_rate_hz} Hz is below the {_STOI_RATE_HZ} Hz that it is defined at"
    too_short = "too short: it needs about 0.4 s after silent frames are dropped"
    # 384 ms are its shortest segment; far below that, pystoi fails instead of warning
    if len(reference) < 0.384 * sample_rate_hz:
        return too_short
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
            return float(pystoi.stoi(reference, estimate, sample_rate_hz))
    except RuntimeWarning:
        return too_short


@_of_clips
def pesq_wideband(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float | str:
    """Return wideband PESQ as MOS-LQO, 1.04 to 4.64, resampled to 16 kHz (ITU-T P.862.2, package pesq).

    PESQ aligns the two signals in time itself. It is defined for speech; on music it is a number without a
    meaning. NaN for a silent reference or estimate, a rate below 16 kHz, less than 0.25 s, or where no speech is
    detected. Raises UnsupportedInput where the package is not installed.
    """
    from pesq import PesqError, pesq

    if not estimate.any():
        return "the estimate is silent"
    if sample_rate_hz < _PESQ_RATE_HZ:
        return f"{sample_rate_hz} Hz is below the {_PESQ_RATE_HZ} Hz of the wideband mode"
    wanted, received = (
        convert(clip_from_array(signal, sample_rate_hz), _PESQ_RATE_HZ).samples[0] for signal in (reference, estimate)
    )
    try:
        return float(pesq(_PESQ_RATE_HZ, wanted, received, "wb"))
    except PesqError as error:
        reason = error.args[0] if error.args else type(error).__name__
        return reason.decode() if isinstance(reason, bytes) else str(reason)
    except ValueError:  # the wrapper fails to convert a NaN of the reference implementation
        return "PESQ came to no number, as for an estimate that is all but silent"


MEASURES = tuple(_CHANNEL)
"""Names of all measures: functions of this module."""


def evaluate(reference: Clip, estimate: Clip, measures: Sequence[str]) -> tuple[dict[str, float], list[str]]:
    """Take some of `MEASURES` of a decoded clip against its original, at the same rate and channels.

    Returns:
        Each measure's value, NaN where it is undefined; and what a reader of the figures should know: undefined
        measures, channels left out, a difference in length, a delay.

    Raises:
        UnsupportedInput: An unknown measure, PESQ asked for but not installed, or as `pairs.check_pair`.
        CorruptInput: As `pairs.check_pair`.
    """
    wanted, received = check_pair(reference, estimate)
    _check_measures(measures)
    notes = []
    if reference.num_samples != estimate.num_samples:
        notes.append(f"estimate has {estimate.num_samples - reference.num_samples:+d} samples; compared without")
    _, delay = misalignment_note(wanted, received, reference.sample_rate_hz)
    if delay:
        notes.append(delay)
    values = {}
    for name in measures:
        values[name], reasons = _mean_over_channels(_CHANNEL[name], wanted, received, reference.sample_rate_hz)
        notes.extend(f"{name}: {reason}" for reason in reasons)
    return values, notes


def pesq_available() -> bool:
    """Say whether the optional package `pesq` is installed."""
    return importlib.util.find_spec("pesq") is not None


def _ratio_db(signal: np.ndarray, noise: np.ndarray) -> float:
    """Return the energy ratio in dB, +-inf where one of the energies is zero."""
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(np.sum(signal**2)) - 10 * np.log10(np.sum(noise**2)))


def _mean_over_channels(
    measure: _ChannelMeasure, reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int
) -> tuple[float, list[str]]:
    """Return the mean over the channels for which the measure is defined, and why it is not for the others."""
    values, reasons = [], []
    for channel, (wanted, received) in enumerate(zip(reference, estimate, strict=True)):
        outcome = measure(wanted, received, sample_rate_hz) if wanted.any() else "the reference is silent"
        if isinstance(outcome, str):
            reasons.append(outcome if len(reference) == 1 else f"channel {channel}: {outcome}")
        else:
            values.append(outcome)
    return (float(np.mean(values)) if values else float("nan")), reasons


def _check_measures(measures: Sequence[str]) -> None:
    unknown = [name for name in measures if name not in MEASURES]
    if unknown:
        raise UnsupportedInput(f"There is no measure {', '.join(unknown)}; choose from {', '.join(MEASURES)}.")
    if "pesq_wideband" in measures and not pesq_available():
        raise UnsupportedInput(
            "pesq_wideband needs the package pesq; run pip install 'codecbook[pesq]', or leave it out."
        )
