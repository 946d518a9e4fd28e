"""Intervals of shares and rates whose trials belong together, one-sided where nothing happened, or everything did."""

import numpy as np
from scipy.stats import binomtest, gamma

from codecbook.errors import UnsupportedInput
from codecbook.measure.statistics import Interval
from codecbook.measure.token_costs import ratio_interval

RESAMPLES = 2000
"""Bootstrap samples: many intervals are wanted, and their ends are read to two digits."""


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
            Interval(0.0, 0.0, 1 - bound, level, trials)
            if failures == 0
            else Interval(1.0, bound, 1.0, level, trials)
        )
    low, high = binomtest(failures, trials).proportion_ci(level, "exact")
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
    parted: np.ndarray, exposure_s: np.ndarray, cells: int, level: float, seed: int
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
    low, high = gamma.ppf([(1 - level) / 2, (1 + level) / 2], [count, count + 1]) / once_s
    return Interval(total / time_s, float(low), float(high), level, N)
