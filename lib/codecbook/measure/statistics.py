"""Every interval: of means and ratios over clips, of paired differences, of shares and of rates.

The clip is the unit that is resampled: frames and tokens of one clip are not independent. With fewer than some
ten clips every bootstrap interval is too narrow; `Interval.count` stands beside it for that reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.stats

from codecbook.errors import UnsupportedInput

LEVEL = 0.95
"""Confidence level of all intervals."""
RESAMPLES = 2000
"""Bootstrap samples of shares and rates: many are wanted, and their ends are read to two digits."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval, in the unit of the values; its ends are NaN with fewer than two."""

    mean: float
    low: float
    high: float
    count: int  # values that went in
    missing: int = 0  # values that were NaN, and were left out

    @property
    def defined(self) -> bool:
        """Whether there is an interval at all."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def above(self, value: float) -> bool | None:
        """Say whether all of it lies above a value; None where there is no interval."""
        return self.low > value if self.defined else None

    def below(self, value: float) -> bool | None:
        """Say whether all of it lies below a value; None where there is no interval."""
        return self.high < value if self.defined else None

    def columns(self, name: str, factor: float = 1.0) -> dict[str, float]:
        """Return the mean under a name and the ends under that name with ``_low`` and ``_high``, times a factor."""
        return {name: factor * self.mean, f"{name}_low": factor * self.low, f"{name}_high": factor * self.high}

    def __str__(self) -> str:
        missing = f", {self.missing} missing" if self.missing else ""
        if self.count == 0:
            return f"no values (n=0{missing})"
        if not self.defined:
            return f"{self.mean:.4g} (n={self.count}{missing}; no interval from one value)"
        width = self.high - self.low
        # two significant digits of the width; four decimals where it has none
        digits = int(np.clip(1 - np.floor(np.log10(width)), 0, 12)) if width > 0 else 4
        ends = f"[{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return f"{self.mean:.{digits}f} {ends} ({100 * LEVEL:g} %, n={self.count}{missing})"


def bootstrap_interval(values: Sequence[float] | np.ndarray, resamples: int = 4999, seed: int = 0) -> Interval:
    """Return the mean of per-clip values with its bootstrap confidence interval.

    Bias-corrected and accelerated. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 14;
    computed by `scipy.stats.bootstrap`. Values that are all equal give an interval of zero width: resampling cannot
    see any spread in them.

    Values are one per clip; NaN means missing, and is left out and counted. Equal seeds give equal intervals.

    Raises:
        UnsupportedInput: Not one axis, or infinite values.
    """
    array = _as_values(values)
    present = array[~np.isnan(array)]
    missing = len(array) - len(present)
    if len(present) < 2:
        mean = float(present[0]) if len(present) else float("nan")
        return Interval(mean, float("nan"), float("nan"), len(present), missing)
    if np.ptp(present) == 0:
        mean = float(present[0])
        return Interval(mean, mean, mean, len(present), missing)
    result = scipy.stats.bootstrap(
        (present,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(present)),  # keeps the resampled values below 16 MB
        vectorized=True,
        confidence_level=LEVEL,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    low, high = map(float, result.confidence_interval)
    return Interval(float(present.mean()), low, high, len(present), missing)


def paired_difference(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """Return the mean of ``a - b`` over the same clips, in the same order, with its confidence interval.

    Pairing removes what clips differ in, so this can tell two systems apart whose own intervals overlap. A pair
    with a NaN on either side counts as missing.

    Raises:
        UnsupportedInput: Different numbers of values, or as `bootstrap_interval`.
    """
    first, second = _as_values(a), _as_values(b)
    if len(first) != len(second):
        raise UnsupportedInput(
            f"Paired values must be of the same clips in the same order; received {len(first)} and {len(second)}."
        )
    return bootstrap_interval(first - second, seed=seed)


def ratio_interval(numerators: np.ndarray, denominators: np.ndarray, resamples: int = 4999, seed: int = 0) -> Interval:
    """Return a ratio of sums over clips with its bootstrap interval.

    It weighs long clips by their length, as a rate over all of them has to; a mean of the clips' own ratios would not.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile method; clips are
    drawn with replacement, each with both of its numbers).

    Numerators, such as bits, and denominators, such as tokens, are float ``[clips]``; these are 0 or more, one at least
    above 0. A difference of two models' bits as numerators compares them clip by clip.

    Raises:
        UnsupportedInput: Other shapes, numbers that are not finite, or nothing to divide by.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if top.ndim != 1 or top.shape != bottom.shape or not (np.isfinite(top).all() and np.isfinite(bottom).all()):
        raise UnsupportedInput(
            f"A ratio takes two finite arrays [clips]; received {list(top.shape)} and {list(bottom.shape)}. Give one "
            "number of each per clip."
        )
    if bottom.min(initial=0.0) < 0 or bottom.sum() <= 0:
        raise UnsupportedInput("The denominators of a ratio must be 0 or more, and not all 0; leave such clips out.")
    ratio = float(top.sum() / bottom.sum())
    if len(top) < 2:
        return Interval(ratio, float("nan"), float("nan"), len(top))
    # how often each clip is drawn is all that a sum depends on
    counts = np.random.default_rng(seed).multinomial(len(top), np.full(len(top), 1 / len(top)), size=resamples)
    sums = counts @ bottom
    ratios = (counts @ top)[sums > 0] / sums[sums > 0]
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(ratio, float(low), float(high), len(top))


def share_interval(failures: int, trials: int) -> Interval:
    """Return the share of independent trials that failed, with its exact interval; one-sided if none or all did.

    None of n: the highest share that gives none with probability ``1 - LEVEL``, ``1 - (1 - LEVEL)^(1/n)``, which is
    about 3 / n. All of n likewise.

    Source: Clopper and Pearson, Biometrika 26(4), 1934; Hanley and Lippman-Hand, JAMA 249(13), 1983.

    Raises:
        UnsupportedInput: Not ``0 <= failures <= trials``.
    """
    if not 0 <= failures <= trials:
        raise UnsupportedInput(f"{failures} failures of {trials}; give 0 to all.")
    if trials == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    bound = (1 - LEVEL) ** (1 / trials)
    if failures == 0:
        return Interval(0.0, 0.0, 1 - bound, trials)
    if failures == trials:
        return Interval(1.0, bound, 1.0, trials)
    low, high = scipy.stats.binomtest(failures, trials).proportion_ci(LEVEL, "exact")
    return Interval(failures / trials, float(low), float(high), trials)


def pooled_share(failures: np.ndarray, trials: np.ndarray, independent: int, seed: int = 0) -> Interval:
    """Return a share over units whose own trials belong together, such as the cells of a segment.

    Failures and trials are int ``[units]``; units without any are left out. Where nothing failed, or everything did, a
    one-sided bound may count on so many independent trials.
    """
    failures, trials = failures[trials > 0], trials[trials > 0]
    total, count = int(failures.sum()), int(trials.sum())
    if total in (0, count):
        bound = share_interval(min(total, 1) * independent, independent)
        return replace(bound, count=len(trials)) if count else bound
    if (trials == 1).all():
        return share_interval(total, count)
    return ratio_interval(failures, trials, RESAMPLES, seed)


def rate_interval(parted: np.ndarray, exposure_s: np.ndarray, cells: int, seed: int = 0) -> Interval:
    """Return partings per second, int ``[N]`` over float ``[N]``, with its interval.

    Where all segments are alike, resampling sees no spread: there it is the interval of a Poisson count (Garwood,
    Biometrika 28, 1936), with each second of audio counted once however many cells there are; one-sided for none.
    """
    total, time_s, N = int(parted.sum()), float(exposure_s.sum()), len(parted)
    if np.ptp(parted / exposure_s) > 0:
        return ratio_interval(parted, exposure_s, RESAMPLES, seed)
    once_s, count = time_s / cells, total / cells
    if total == 0:
        return Interval(0.0, 0.0, -float(np.log(1 - LEVEL)) / once_s, N)
    low, high = scipy.stats.gamma.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], [count, count + 1]) / once_s
    return Interval(total / time_s, float(low), float(high), N)


def _as_values(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)  # None, a measure that was not asked for, becomes NaN
    if array.ndim != 1:
        raise UnsupportedInput(f"Values must have one axis, one per clip; received shape {list(array.shape)}.")
    if np.isinf(array).any():
        raise UnsupportedInput(
            f"{int(np.isinf(array).sum())} of {len(array)} values are infinite (a perfect copy has an infinite "
            "SI-SDR), and so would the mean be; report them apart, or use another measure."
        )
    return array
