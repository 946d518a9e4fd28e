"""Check that a reference clip and its estimate are comparable, and tell whether they are aligned.

Every measure of `quality` compares sample by sample, so a pair that is shifted, truncated or at another rate gives a
number that says nothing of the codec. Such pairs are refused here; nothing is shifted or resampled to make them fit.
"""

import numpy as np
from scipy.signal import correlate, correlation_lags

from codecbook.audio import Clip
from codecbook.errors import CorruptInput, UnsupportedInput

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
            f"The reference {label}is at {reference.sample_rate_hz} Hz and the estimate at "
            f"{estimate.sample_rate_hz} Hz; bring both to one rate with codecbook.audio.convert."
        )
    if reference.num_channels != estimate.num_channels:
        raise UnsupportedInput(
            f"The reference {label}has {reference.num_channels} channel(s) and the estimate "
            f"{estimate.num_channels}; bring both to the same with codecbook.audio.convert(clip, channels=...)."
        )
    for role, clip in (("reference", reference), ("estimate", estimate)):
        if clip.num_samples == 0:
            raise CorruptInput(f"The {role} {label}holds no samples; leave the clip out.")
        if not np.isfinite(clip.samples).all():
            raise CorruptInput(
                f"The {role} {label}has samples that are not finite; count it as a failure, and leave it out."
            )
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
    lags = correlation_lags(length, length)
    correlation = np.zeros(len(lags))  # [2 S - 1]
    for wanted, received in zip(reference, estimate, strict=True):
        correlation += correlate(received, wanted, method="fft")
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
