"""Every interval: of means and ratios over clips, of paired differences, of shares and of rates.

The clip is the unit that is resampled: frames and tokens of one clip are not independent. With fewer than some
ten clips every bootstrap interval is too narrow; `Interval.count` stands beside it for that reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from codecbook.errors import UnsupportedInput

RESAMPLES = 2000
"""Bootstrap samples of shares and rates: many are wanted, and their ends are read to two digits."""


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, in the unit of the values.

    Attributes:
        mean: Mean of the values that are there; NaN without any.
        low: Lower end; NaN with fewer than two values, for which no interval is defined.
        high: Upper end; NaN likewise.
        level: Confidence level, such as 0.95.
        count: Values that went in.
        missing: Values that were NaN, and were left out.
    """

    mean: float
    low: float
    high: float
    level: float  # 0 to 1
    count: int  # values
    missing: int = 0  # values

    @property
    def defined(self) -> bool:
        """Say whether there is an interval at all."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def above(self, value: float) -> bool | None:
        """Say whether all of it lies above a value; None where there is no interval."""
        return self.low > value if self.defined else None

    def below(self, value: float) -> bool | None:
        """Say whether all of it lies below a value; None where there is no interval."""
        return self.high < value if self.defined else None

    def __str__(self) -> str:
        missing = f", {self.missing} missing" if self.missing else ""
        if self.count == 0:
            return f"no values (n=0{missing})"
        if not self.defined:
            return f"{self.mean:.4g} (n={self.count}{missing}; no interval from one value)"
        digits = _decimals(self.high - self.low)
        ends = f"[{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return f"{self.mean:.{digits}f} {ends} ({100 * self.level:g} %, n={self.count}{missing})"


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, level: float = 0.95, resamples: int = 4999, seed: int = 0
) -> Interval:
    """Return the mean of per-clip values with its bootstrap confidence interval.

    Bias-corrected and accelerated. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 14;
    computed by `scipy.stats.bootstrap`. Values that are all equal give an interval of zero width: resampling cannot
    see any spread in them.

    Args:
        values: One per clip; NaN means missing, and is left out and counted.
        level: Confidence level, above 0 and below 1.
        resamples: Bootstrap samples.
        seed: Seed of the resampling; equal seeds give equal intervals.

    Raises:
        UnsupportedInput: Not one axis, infinite values, or an argument out of range.
    """
    _check_arguments(level, resamples)
    array = _as_values(values)
    present = array[~np.isnan(array)]
    missing = len(array) - len(present)
    if len(present) < 2:
        mean = float(present[0]) if len(present) else float("nan")
        return Interval(mean, float("nan"), float("nan"), level, len(present), missing)
    mean = float(present.mean())
    if np.ptp(present) == 0:
        mean = float(present[0])
        return Interval(mean, mean, mean, level, len(present), missing)
    result = scipy.stats.bootstrap(
        (present,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(present)),  # keeps the resampled values below 16 MB
        vectorized=True,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    low, high = map(float, result.confidence_interval)
    return Interval(mean, low, high, level, len(present), missing)


def paired_difference(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    level: float = 0.95,
    resamples: int = 4999,
    seed: int = 0,
) -> Interval:
    """Return the mean of ``a - b`` over the same clips with its confidence interval.

    Pairing removes what clips differ in, so this can tell two systems apart whose own intervals overlap. A pair
    with a NaN on either side counts as missing.

    Args:
        a: One value per clip.
        b: One value per clip, in the same order.
        level: As in `bootstrap_interval`, also for the next two.
        resamples: See there.
        seed: See there.

    Raises:
        UnsupportedInput: Different numbers of values, or as `bootstrap_interval`.
    """
    first, second = _as_values(a), _as_values(b)
    if len(first) != len(second):
        raise UnsupportedInput(
            f"Paired values must be of the same clips in the same order; received {len(first)} and {len(second)}."
        )
    return bootstrap_interval(first - second, level, resamples, seed)


def ratio_interval(
    numerators: np.ndarray, denominators: np.ndarray, level: float = 0.95, resamples: int = 4999, seed: int = 0
) -> Interval:
    """Return a ratio of sums over clips with its bootstrap interval.

    It weighs long clips by their length, as a rate over all of them has to; a mean of the clips' own ratios would not.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile method; clips are
    drawn with replacement, each with both of its numbers).

    Args:
        numerators: float ``[clips]``, such as bits. A difference of two models' bits compares them clip by clip.
        denominators: float ``[clips]``, such as tokens, 0 or more, one at least above 0.
        level: Confidence level, above 0 and below 1.
        resamples: Bootstrap samples.
        seed: Of the resampling.

    Raises:
        UnsupportedInput: Other shapes, numbers that are not finite, nothing to divide by, or a level out of range.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if top.ndim != 1 or top.shape != bottom.shape or not (np.isfinite(top).all() and np.isfinite(bottom).all()):
        raise UnsupportedInput(
            f"A ratio takes two finite arrays [clips]; received {list(top.shape)} and {list(bottom.shape)}. Give one "
            "number of each per clip."
        )
    if bottom.min(initial=0.0) < 0 or bottom.sum() <= 0:
        raise UnsupportedInput("The denominators of a ratio must be 0 or more, and not all 0; leave such clips out.")
    if not (0.0 < level < 1.0 and resamples >= 1):
        raise UnsupportedInput(f"level={level}, resamples={resamples}; give a level between 0 and 1, and 1 or more.")
    ratio = float(top.sum() / bottom.sum())
    if len(top) < 2:
        return Interval(ratio, float("nan"), float("nan"), level, len(top))
    # how often each clip is drawn is all that a sum depends on
    counts = np.random.default_rng(seed).multinomial(len(top), np.full(len(top), 1 / len(top)), size=resamples)
    sums = counts @ bottom
    ratios = (counts @ top)[sums > 0] / sums[sums > 0]
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(ratio, float(low), float(high), level, len(top))


def share_interval(failures: int, trials: int, level: float = 0.95) -> Interval:
    """Return the share of independent trials that failed, with its exact interval; one-sided if none or all did.

    None of n: the highest share that gives none with probability ``1 - level``, ``1 - (1 - level)^(1/n)``, which is
    about 3 / n at 95 %. All of n likewise.

    Source: Clopper and Pearson, Biometrika 26(4), 1934; Hanley and Lippman-Hand, JAMA 249(13), 1983.

    Raises:
        UnsupportedInput: Not ``0 <= failures <= trials``, or a level outside 0 to 1.
    """
    if not 0 <= failures <= trials or not 0 < level < 1:
        raise UnsupportedInput(
            f"{failures} failures of {trials} at level {level}; give 0 to all, and a level such as 0.95."
        )
    if trials == 0:
        return Interval(float("nan"), float("nan"), float("nan"), level, 0)
    if failures in (0, trials):
        bound = (1 - level) ** (1 / trials)
        return (
            Interval(0.0, 0.0, 1 - bound, level, trials) if failures == 0 else Interval(1.0, bound, 1.0, level, trials)
        )
    low, high = scipy.stats.binomtest(failures, trials).proportion_ci(level, "exact")
    return Interval(failures / trials, float(low), float(high), level, trials)


def pooled_share(
    failures: np.ndarray, trials: np.ndarray, independent: int, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return a share over units whose own trials belong together, such as the cells of a segment.

    Args:
        failures: int ``[units]``.
        trials: int ``[units]``; units without any are left out.
        independent: Trials that a one-sided bound may count on where nothing failed, or everything did.
        level: Confidence level.
        seed: Of the bootstrap over units.
    """
    failures, trials = failures[trials > 0], trials[trials > 0]
    total, count = int(failures.sum()), int(trials.sum())
    if total in (0, count):
        bound = share_interval(min(total, 1) * independent, independent, level)
        return Interval(bound.mean, bound.low, bound.high, level, len(trials)) if count else bound
    if (trials == 1).all():
        return share_interval(total, count, level)
    return ratio_interval(failures, trials, level, RESAMPLES, seed)


def rate_interval(
    parted: np.ndarray, exposure_s: np.ndarray, cells: int, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return partings per second, int ``[N]`` over float ``[N]``, with its interval.

    Where all segments are alike, resampling sees no spread: there it is the interval of a Poisson count (Garwood,
    Biometrika 28, 1936), with each second of audio counted once however many cells there are; one-sided for none.
    """
    total, time_s, N = int(parted.sum()), float(exposure_s.sum()), len(parted)
    if np.ptp(parted / exposure_s) > 0:
        return ratio_interval(parted, exposure_s, level, RESAMPLES, seed)
    once_s, count = time_s / cells, total / cells
    if total == 0:
        return Interval(0.0, 0.0, -float(np.log(1 - level)) / once_s, level, N)
    low, high = scipy.stats.gamma.ppf([(1 - level) / 2, (1 + level) / 2], [count, count + 1]) / once_s
    return Interval(total / time_s, float(low), float(high), level, N)


def _decimals(width: float) -> int:
    """Return decimals that show two significant digits of an interval's width; four where it has none."""
    if width <= 0:
        return 4
    return int(np.clip(1 - np.floor(np.log10(width)), 0, 12))


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


def _check_arguments(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise UnsupportedInput(f"level must be between 0 and 1, such as 0.95; received {level}.")
    if resamples < 100:
        raise UnsupportedInput(f"resamples must be at least 100; received {resamples}.")
