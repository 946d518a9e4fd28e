"""How close a decoded clip is to the original: SI-SDR, SNR, spectral distances, STOI and PESQ.

Conventions. Both clips are compared sample by sample, as they are: nothing is shifted, scaled or resampled,
except that STOI works at 10 kHz and PESQ at 16 kHz by definition. A difference in length of up to one codec
frame is cut (`check_pair`). Several channels are measured one by one, and the mean over the channels is
reported. Where a measure is undefined, a silent reference for instance, its value is NaN rather than a number
that would spoil an average, and `evaluate` says why; input that contradicts itself (rates, channels, lengths,
samples that are not finite) is an error: a pair that is truncated or at another rate gives a number that says nothing
of the codec.
"""

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np
import scipy

from codecbook.audio import Clip, clip_from_array, convert
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.measure.spectral import STFT_MIN_SAMPLES, channel_log_mel_distance_db, channel_stft_distance

FRAME_SAMPLES = 2048
"""Largest difference in length that is trimmed: one frame of the slowest codebook here (SNAC at 24 kHz)."""

_MAX_LAG_S = 0.25
_USUAL_RATES_HZ = (8000, 16000, 22050, 24000, 32000, 44100, 48000)


def check_pair(reference: Clip, estimate: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Check that two clips may be compared, and cut them to their common length.

    A decoder works in whole frames and may return up to one more, or one less, than went in; the end of the
    longer clip is cut then. A difference above `FRAME_SAMPLES` is an error of the caller's.

    Returns:
        Reference and estimate, float64 ``[C, S]``.

    Raises:
        UnsupportedInput: Rates, channels or lengths differ.
        CorruptInput: A clip holds no samples, or samples that are not finite.
    """
    label = f"of {reference.name!r} " if reference.name else ""
    if reference.sample_rate_hz != estimate.sample_rate_hz:
        raise UnsupportedInput(
            f"Reference {label}at {reference.sample_rate_hz} Hz, estimate at {estimate.sample_rate_hz} Hz; convert one."
        )
    if reference.num_channels != estimate.num_channels:
        raise UnsupportedInput(
            f"The reference {label}has {reference.num_channels} channels, the estimate {estimate.num_channels}; mix."
        )
    for role, clip in (("reference", reference), ("estimate", estimate)):
        if clip.num_samples == 0:
            raise CorruptInput(f"The {role} {label}holds no samples; leave the clip out.")
        if not np.isfinite(clip.samples).all():
            raise CorruptInput(f"The {role} {label}has samples that are not finite; count it as a failure.")
    if abs(reference.num_samples - estimate.num_samples) > FRAME_SAMPLES:
        raise UnsupportedInput(
            f"The reference {label}has {reference.num_samples} samples and the estimate {estimate.num_samples}, "
            f"both at {reference.sample_rate_hz} Hz: more than one frame ({FRAME_SAMPLES} samples) apart. "
            + _guess_why_lengths_differ(reference, estimate)
        )
    length = min(reference.num_samples, estimate.num_samples)
    return (reference.samples[:, :length].astype(np.float64), estimate.samples[:, :length].astype(np.float64))


def misalignment_note(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> tuple[int, str]:
    """Return by how many samples a checked estimate is late, and a sentence where shifting would clearly help.

    The lag (negative: early) is that of the cross-correlation's peak within 0.25 s either way, in absolute value, so
    that an inverted estimate is still found; the shortest of equally good lags wins, and it is 0 where either clip is
    silent. A lag of a sample or two at a low SI-SDR is within what a codec's phase errors produce; a stable lag over
    many clips is a delay that should be removed before measuring.

    "Clearly" is a gain of more than 0.05 in the normalised cross-correlation, so that the one-sample lags of
    coarse codecs pass unremarked. Both clips are float64 ``[C, S]``.
    """
    norm = np.sqrt(np.sum(reference**2) * np.sum(estimate**2))
    if norm == 0:
        return 0, ""
    length = reference.shape[1]
    lags = scipy.signal.correlation_lags(length, length)
    correlation = np.zeros(len(lags))  # [2 S - 1]
    for wanted, received in zip(reference, estimate, strict=True):
        correlation += scipy.signal.correlate(received, wanted, method="fft")
    correlation = np.abs(correlation) / norm
    near = np.abs(lags) <= _MAX_LAG_S * sample_rate_hz
    lags, correlation = lags[near], correlation[near]
    peak = correlation.max()
    # the FFT's rounding must not decide between lags that are equally good, as for a periodic signal
    best = lags[correlation >= peak - 1e-9]
    lag = int(best[np.argmin(np.abs(best))])
    gain = float(peak - correlation[lags == 0][0])
    if gain <= 0.05:
        return lag, ""
    return lag, (
        f"estimate is {abs(lag)} samples {'late' if lag > 0 else 'early'} (correlation would rise by {gain:.2f}); "
        "did you forget to remove the codec's delay?"
    )


def _guess_why_lengths_differ(reference: Clip, estimate: Clip) -> str:
    """Say what may have happened: a rate that was stated wrongly shows in the ratio of the lengths."""
    ratio = estimate.num_samples / reference.num_samples
    rate_hz = reference.sample_rate_hz
    for stated_hz in _USUAL_RATES_HZ:
        if stated_hz != rate_hz and abs(ratio * rate_hz / stated_hz - 1) < 1e-3:
            return (
                f"The ratio is that of {stated_hz} to {rate_hz} Hz: is the estimate really at {rate_hz} Hz, or did "
                "one of the two miss its resampling?"
            )
    return "Is it the decoding of this clip? If so, cut both to the part that they share."


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
    import pystoi  # here, because it brings scipy.signal along: a second for notebooks that measure no STOI

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
        UnsupportedInput: An unknown measure, PESQ asked for but not installed, or as `check_pair`.
        CorruptInput: As `check_pair`.
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
        raise UnsupportedInput("pesq_wideband needs pesq; run pip install 'codecbook[pesq]', or leave it out.")
