"""What tokens cost under several models, with intervals over clips, as tables.

Bits per token are bits of all clips over tokens of all clips: what storing them all would take. Clips differ in length
and are resampled whole, so the interval is that of a ratio of sums, not of a mean of ratios.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines import TokenCost
from codecbook.measure.statistics import Interval

_RESAMPLES = 4999


def ratio_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a ratio of sums over clips with its bootstrap interval.

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
    if (
        top.ndim != 1
        or top.shape != bottom.shape
        or not (np.isfinite(top).all() and np.isfinite(bottom).all())
    ):
        raise UnsupportedInput(
            f"A ratio takes two finite arrays [clips]; received {list(top.shape)} and {list(bottom.shape)}. Give one "
            "number of each per clip."
        )
    if bottom.min(initial=0.0) < 0 or bottom.sum() <= 0:
        raise UnsupportedInput(
            "The denominators of a ratio must be 0 or more, and not all 0; leave such clips out."
        )
    if not (0.0 < level < 1.0 and resamples >= 1):
        raise UnsupportedInput(
            f"level={level}, resamples={resamples}; give a level between 0 and 1, and 1 or more."
        )
    ratio = float(top.sum() / bottom.sum())
    if len(top) < 2:
        return Interval(ratio, float("nan"), float("nan"), level, len(top))
    # how often each clip is drawn is all that a sum depends on
    counts = np.random.default_rng(seed).multinomial(
        len(top), np.full(len(top), 1 / len(top)), size=resamples
    )
    sums = counts @ bottom
    ratios = (counts @ top)[sums > 0] / sums[sums > 0]
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(ratio, float(low), float(high), level, len(top))


def cost_table(
    costs: Iterable[TokenCost] | Mapping[str, TokenCost], raw_bits_per_token: float, seed: int = 0
) -> pd.DataFrame:
    """Return one row per model, in the order given.

    Args:
        costs: What held-out tokens cost under each model; by name, or with their own names.
        raw_bits_per_token: What they cost without any model, for the column of percents.
        seed: Of the resampling.

    Returns:
        Columns ``model``, ``bits_per_token``, ``bits_per_token_low``, ``bits_per_token_high`` (missing where a cost
        is of all clips in one stream), ``of_raw_percent``.
    """
    named = costs.items() if isinstance(costs, Mapping) else ((cost.name, cost) for cost in costs)
    rows = []
    for name, cost in named:
        interval = ratio_interval(cost.clip_bits.sum(axis=1), cost.clip_tokens, seed=seed)
        rows.append(
            {"model": name, "bits_per_token": interval.mean, "bits_per_token_low": interval.low,
             "bits_per_token_high": interval.high, "of_raw_percent": 100 * interval.mean / raw_bits_per_token}
        )  # fmt: skip
    return pd.DataFrame(rows)


def codebook_table(costs: Mapping[str, TokenCost], seed: int = 0) -> pd.DataFrame:
    """Return one row per model and codebook, with intervals over clips.

    Args:
        costs: By name; each with bits by codebook.
        seed: Of the resampling.

    Returns:
        Columns ``model``, ``codebook``, ``bits_per_token``, ``bits_per_token_low``, ``bits_per_token_high``.
    """
    rows = []
    for name, cost in costs.items():
        columns = cost.clip_bits.shape[1]
        for k in range(columns):
            interval = ratio_interval(cost.clip_bits[:, k], cost.clip_tokens / columns, seed=seed)
            rows.append(
                {"model": name, "codebook": k, "bits_per_token": interval.mean, "bits_per_token_low": interval.low,
                 "bits_per_token_high": interval.high}
            )  # fmt: skip
    return pd.DataFrame(rows)


def saving(better: TokenCost, worse: TokenCost, seed: int = 0) -> Interval:
    """Return how many bits per token one model saves over another, clip by clip.

    Raises:
        UnsupportedInput: Costs of different clips.
    """
    if not np.array_equal(better.clip_tokens, worse.clip_tokens):
        raise UnsupportedInput(
            f"{better.name!r} charges {len(better.clip_tokens)} clips and {worse.name!r} {len(worse.clip_tokens)}, or "
            "of other lengths; compare costs of the same clips."
        )
    difference = worse.clip_bits.sum(axis=1) - better.clip_bits.sum(axis=1)
    return ratio_interval(difference, better.clip_tokens, seed=seed)
