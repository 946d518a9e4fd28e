"""Statistics that stay valid when a listener stops whenever they like, after a look at every answer.

A fixed-n p-value or interval that is looked at after each trial errs far more often than it says: of guessing listeners
who stop at the best of 100 trials, 20 in 100 reach a binomial p below 0.05. What is given here holds at all times at
once: with probability 0.95 an interval holds the truth after every answer, and a p-value falls below 0.05 at any time
for at most 5 in 100 who guess (measured: 3).

Sources: Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statistical
Science 38(4), 2023 (Ville's inequality: a nonnegative martingale that starts at 1 ever reaches 1/a with probability at
most a); Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86(1), 2024. The
same computations for pages stand in ``book/assets/anytime.js``; a test holds the two together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincc, betaln

from codecbook.errors import UnsupportedInput
from codecbook.measure.statistics import LEVEL, Interval

_GRID = np.linspace(0.0, 1.0, 1001)  # of candidates for a mean; ends of intervals are rounded outwards to it
_MOST_STAKED = 0.9  # of the capital, in one bet: listeners are few, so that bets are bold


@dataclass(frozen=True)
class Evidence:
    """What forced choices between two say against guessing."""

    correct: int
    trials: int
    e_value: float  # factor by which a bet against guessing has grown; above 20 once with probability 1/20 at most
    p: float  # anytime-valid: 1 over the largest e-value so far
    share: Interval  # correct answers: a confidence sequence


def e_values(correct: np.ndarray) -> np.ndarray:
    """Return the e-value after each trial, float64 like `correct` (bool or 0 and 1, ``[..., trials]``).

    It is the likelihood ratio of a share of correct answers drawn evenly from 1/2 to 1, against 1/2: a martingale where
    answers are guesses, whatever the listener does and whenever they stop.
    """
    right = np.cumsum(np.asarray(correct, dtype=np.int64), axis=-1)
    trials = np.arange(1, right.shape[-1] + 1)
    a, b = right + 1.0, trials - right + 1.0
    return np.exp(betaln(a, b) + (trials + 1) * np.log(2)) * betaincc(a, b, 0.5)


def evidence(correct: Sequence[bool] | np.ndarray) -> Evidence:
    """Return what the answers so far say, in the order in which they were given (bool, ``[trials]``)."""
    answers = np.asarray(correct, dtype=bool)
    if answers.ndim != 1:
        raise UnsupportedInput(f"Answers must have one axis, one per trial; received shape {list(answers.shape)}.")
    values = e_values(answers) if len(answers) else np.ones(1)
    return Evidence(
        int(answers.sum()), len(answers), float(values[-1]), float(1 / max(1.0, values.max())), _share(answers)
    )


def _share(answers: np.ndarray) -> Interval:
    """Return the share of correct answers: the candidates against which an even mixture of all has not won yet."""
    growth = np.zeros_like(_GRID)
    highest = growth.copy()
    right = 0
    with np.errstate(divide="ignore"):
        against = {True: np.log(_GRID), False: np.log1p(-_GRID)}
    for i, answer in enumerate(answers.tolist()):
        likely = (right + 1 if answer else i - right + 1) / (i + 2)  # Laplace's rule of succession
        growth = growth + np.log(likely) - against[answer]
        highest = np.maximum(highest, growth)
        right += answer
    return _interval(answers.astype(np.float64), highest, 1 / (1 - LEVEL))


def mean_sequence(values: Sequence[float] | np.ndarray, lowest: float = 0.0, highest: float = 1.0) -> Interval:
    """Return the mean of bounded values with a confidence sequence, in the order in which they came.

    Each value's mean, given those before it, is taken to be the same; nothing else is assumed of how they are spread.
    The method is the hedged capital of Waudby-Smith and Ramdas, with their predictable plug-in bets.

    Args:
        values: ``[n]``, such as differences of two scores of 0 to 100.
        lowest: Least possible value, such as -100.
        highest: Largest possible value, such as 100.

    Raises:
        UnsupportedInput: A value is out of bounds or no number.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not ((array >= lowest) & (array <= highest)).all():
        raise UnsupportedInput(f"Values must be {lowest:g} to {highest:g}, on one axis; received {array.tolist()}.")
    scaled = (array - lowest) / (highest - lowest)
    up, down = np.zeros_like(_GRID), np.zeros_like(_GRID)  # log capital of bets that the mean is higher, or lower
    peak = up.copy()
    total, spread, variance = 0.5, 0.25, 0.25
    with np.errstate(divide="ignore"):
        most_up, most_down = _MOST_STAKED / _GRID, _MOST_STAKED / (1 - _GRID)
    for n, value in enumerate(scaled, start=1):
        stake = np.sqrt(2 * np.log(2 / (1 - LEVEL)) / (variance * n * np.log(n + 1)))
        up = up + np.log1p(np.minimum(stake, most_up) * (value - _GRID))
        down = down + np.log1p(-np.minimum(stake, most_down) * (value - _GRID))
        peak = np.maximum(peak, np.maximum(up, down))
        total += value
        spread += (value - total / (n + 1)) ** 2
        variance = spread / (n + 1)
    found = _interval(scaled, peak, 2 / (1 - LEVEL))
    mean, low, high = (lowest + (highest - lowest) * end for end in (found.mean, found.low, found.high))
    return Interval(mean, low, high, found.count)


def _interval(values: np.ndarray, log_growth: np.ndarray, bound: float) -> Interval:
    """Return the candidates against which no bet ever grew to a bound, with a step of the grid on either side."""
    inside = log_growth < np.log(bound)
    if not inside.any():  # so it is with at most the chance that the level leaves
        inside[log_growth.argmin()] = True
    first, last = np.flatnonzero(inside)[[0, -1]]
    ends = _GRID[[max(0, first - 1), min(len(_GRID) - 1, last + 1)]]
    return Interval(float(values.mean()) if len(values) else float("nan"), float(ends[0]), float(ends[1]), len(values))
