"""How fast: real-time factors, and two implementations against each other in one run."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codecbook.errors import UnsupportedInput


@dataclass(frozen=True)
class RealTimeFactor:
    """Processing time over audio duration; below 1 is faster than real time.

    Attributes:
        median: Median over the repeats.
        low: 25th percentile.
        high: 75th percentile.
        duration_s: Duration of the audio that one call processes.
        seconds: Wall time of every repeat, in order.
    """

    median: float  # s/s
    low: float  # s/s
    high: float  # s/s
    duration_s: float  # s
    seconds: tuple[float, ...]  # s

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}] x real time (n={len(self.seconds)})"


@dataclass(frozen=True)
class SpeedComparison:
    """Time of `a` over time of `b`, pair by pair; above 1 means that `b` is faster.

    Attributes:
        ratio: Median over the pairs.
        low: 25th percentile.
        high: 75th percentile.
        a_seconds: Wall times of `a`, one per pair.
        b_seconds: Wall times of `b`, one per pair.
    """

    ratio: float  # s/s
    low: float  # s/s
    high: float  # s/s
    a_seconds: tuple[float, ...]  # s
    b_seconds: tuple[float, ...]  # s

    def __str__(self) -> str:
        return f"{self.ratio:.3g} [{self.low:.3g}, {self.high:.3g}] (n={len(self.a_seconds)} pairs)"


def measure_rtf(
    function: Callable[[], object],
    duration_s: float,
    repeats: int = 5,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> RealTimeFactor:
    """Time a call, and set it in relation to the duration of the audio that it processes.

    Quartiles rather than a standard deviation: interference only ever adds time, so the spread is one-sided.

    Args:
        function: Does the work once. On an accelerator it must wait for the device before it returns
            (``torch.cuda.synchronize()``), or only the launch is timed.
        duration_s: Seconds of audio per call.
        repeats: Timed calls.
        warmup: Calls before the first timed one: they pay for caches, compilation and page faults.
        clock: Returns seconds; monotonic.

    Raises:
        UnsupportedInput: A duration that is not positive, fewer than one repeat, or a negative warm-up.
    """
    _check_counts(repeats, warmup)
    if not duration_s > 0:
        raise UnsupportedInput(
            f"duration_s must be positive; received {duration_s}. Pass the duration of the audio per call."
        )
    for _ in range(warmup):
        function()
    seconds = [_time_call(function, clock) for _ in range(repeats)]
    median, low, high = _quartiles([value / duration_s for value in seconds])
    return RealTimeFactor(median, low, high, duration_s, tuple(seconds))


def compare_speed(
    a: Callable[[], object],
    b: Callable[[], object],
    repeats: int = 9,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> SpeedComparison:
    """Time two calls in turns (a b, b a, a b, ...) and compare pair by pair.

    A machine's speed drifts with its temperature and its other work by more than many improvements are worth.
    Neighbours in time share that drift, and alternating who goes first cancels what is left of it.

    Args:
        a: The baseline, called once per pair.
        b: The alternative, called once per pair.
        repeats: Pairs.
        warmup: Calls of each before the first timed pair.
        clock: Returns seconds; monotonic.

    Raises:
        UnsupportedInput: Fewer than one repeat, a negative warm-up, or a call too short for the clock.
    """
    _check_counts(repeats, warmup)
    for _ in range(warmup):
        a()
        b()
    a_seconds, b_seconds = [], []
    for pair in range(repeats):
        turns = [(a, a_seconds), (b, b_seconds)]
        for function, seconds in turns if pair % 2 == 0 else reversed(turns):
            seconds.append(_time_call(function, clock))
    if min(b_seconds) <= 0:
        raise UnsupportedInput(
            "A call took 0 s on this clock; let each call do more work, for instance a loop over many clips."
        )
    ratio, low, high = _quartiles([x / y for x, y in zip(a_seconds, b_seconds, strict=True)])
    return SpeedComparison(ratio, low, high, tuple(a_seconds), tuple(b_seconds))


def _time_call(function: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    return clock() - start


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return median, 25th and 75th percentile."""
    low, median, high = map(float, np.percentile(values, [25, 50, 75]))
    return median, low, high


def _check_counts(repeats: int, warmup: int) -> None:
    if repeats < 1 or warmup < 0:
        raise UnsupportedInput(
            f"repeats must be at least 1 and warmup at least 0; received {repeats} and {warmup}."
        )
