"""Means with bootstrap confidence intervals: over clips, of paired differences, by domain.

The clip is the unit that is resampled: frames and tokens of one clip are not independent. With fewer than some
ten clips every bootstrap interval is too narrow; `Interval.count` stands beside it for that reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from codecbook.errors import UnsupportedInput

METHODS = ("BCa", "percentile")
"""Bootstrap methods: bias-corrected and accelerated (second-order accurate), and the plain percentile method."""


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
    values: Sequence[float] | np.ndarray,
    level: float = 0.95,
    method: str = "BCa",
    resamples: int = 4999,
    seed: int = 0,
) -> Interval:
    """Return the mean of per-clip values with its bootstrap confidence interval.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 14; computed by
    `scipy.stats.bootstrap`. Values that are all equal give an interval of zero width: resampling cannot see any
    spread in them.

    Args:
        values: One per clip; NaN means missing, and is left out and counted.
        level: Confidence level, above 0 and below 1.
        method: One of `METHODS`.
        resamples: Bootstrap samples.
        seed: Seed of the resampling; equal seeds give equal intervals.

    Raises:
        UnsupportedInput: Not one axis, infinite values, or an argument out of range.
    """
    _check_arguments(level, method, resamples)
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
        method=method,
        rng=np.random.default_rng(seed),
    )
    low, high = map(float, result.confidence_interval)
    return Interval(mean, low, high, level, len(present), missing)


def paired_difference(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    level: float = 0.95,
    method: str = "BCa",
    resamples: int = 4999,
    seed: int = 0,
) -> Interval:
    """Return the mean of ``a - b`` over the same clips with its confidence interval.

    Pairing removes what clips differ in, so this can tell two systems apart whose own intervals overlap. A pair
    with a NaN on either side counts as missing.

    Args:
        a: One value per clip.
        b: One value per clip, in the same order.
        level: As in `bootstrap_interval`.
        method: As in `bootstrap_interval`.
        resamples: As in `bootstrap_interval`.
        seed: As in `bootstrap_interval`.

    Raises:
        UnsupportedInput: Different numbers of values, or as `bootstrap_interval`.
    """
    first, second = _as_values(a), _as_values(b)
    if len(first) != len(second):
        raise UnsupportedInput(
            f"Paired values must be of the same clips in the same order; received {len(first)} and {len(second)}."
        )
    return bootstrap_interval(first - second, level, method, resamples, seed)


def by_domain(
    values: Sequence[float] | np.ndarray,
    domains: Sequence[str],
    level: float = 0.95,
    method: str = "BCa",
    resamples: int = 4999,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return one interval per domain, in order of first appearance, and one over all clips under ``"all"``.

    Args:
        values: One per clip.
        domains: The clips' domains; an empty one is shown as ``"unknown"``.
        level: As in `bootstrap_interval`.
        method: As in `bootstrap_interval`.
        resamples: As in `bootstrap_interval`.
        seed: As in `bootstrap_interval`.

    Raises:
        UnsupportedInput: Not one domain per value, a domain called "all", or as `bootstrap_interval`.
    """
    array = _as_values(values)
    labels = [str(domain) or "unknown" for domain in domains]
    if len(labels) != len(array):
        raise UnsupportedInput(f"{len(array)} values, but {len(labels)} domains; give one per clip.")
    if "all" in labels:
        raise UnsupportedInput('A domain is called "all", the key of the total; give it another name.')
    groups = {label: array[[other == label for other in labels]] for label in dict.fromkeys(labels)} | {
        "all": array
    }
    return {
        label: bootstrap_interval(group, level, method, resamples, seed) for label, group in groups.items()
    }


def _decimals(width: float) -> int:
    """Return decimals that show two significant digits of an interval's width; four where it has none."""
    if width <= 0:
        return 4
    return int(np.clip(1 - np.floor(np.log10(width)), 0, 12))


def _as_values(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)  # None, a measure that was not asked for, becomes NaN
    if array.ndim != 1:
        raise UnsupportedInput(
            f"Values must have one axis, one per clip; received shape {list(array.shape)}."
        )
    if np.isinf(array).any():
        raise UnsupportedInput(
            f"{int(np.isinf(array).sum())} of {len(array)} values are infinite (a perfect copy has an infinite "
            "SI-SDR), and so would the mean be; report them apart, or use another measure."
        )
    return array


def _check_arguments(level: float, method: str, resamples: int) -> None:
    if not 0 < level < 1:
        raise UnsupportedInput(f"level must be between 0 and 1, such as 0.95; received {level}.")
    if method not in METHODS:
        raise UnsupportedInput(f"There is no method {method!r}; choose one of {', '.join(METHODS)}.")
    if resamples < 100:
        raise UnsupportedInput(f"resamples must be at least 100; received {resamples}.")
