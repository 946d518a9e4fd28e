import itertools

import pytest

from codecbook.errors import UnsupportedInput
from codecbook.measure.speed import compare_speed, measure_rtf


class FakeMachine:
    """A clock that only moves when work is done, and a log of the work."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls: list[str] = []

    def clock(self) -> float:
        return self.now_s

    def work(self, name: str, seconds):
        times = itertools.cycle(seconds)

        def run() -> None:
            self.calls.append(name)
            self.now_s += next(times)

        return run


def test_rtf_is_time_over_duration_without_the_warm_up():
    machine = FakeMachine()
    result = measure_rtf(
        machine.work("f", [9.0, 1.0, 2.0, 4.0]), 2.0, repeats=3, warmup=1, clock=machine.clock
    )
    assert result.seconds == (1.0, 2.0, 4.0)
    assert result.median == 1.0
    assert (result.low, result.high) == (0.75, 1.5)
    assert result.duration_s == 2.0
    assert str(result) == "1 [0.75, 1.5] x real time (n=3)"


def test_rtf_with_the_real_clock_is_positive():
    assert measure_rtf(lambda: sum(range(1000)), 1.0, repeats=2).median > 0


def test_comparison_alternates_and_pairs():
    machine = FakeMachine()
    a, b = machine.work("a", [8.0, 2.0, 4.0]), machine.work("b", [8.0, 1.0, 1.0])
    result = compare_speed(a, b, repeats=2, warmup=1, clock=machine.clock)
    assert machine.calls == ["a", "b", "a", "b", "b", "a"]
    assert result.a_seconds == (2.0, 4.0)
    assert result.b_seconds == (1.0, 1.0)
    assert result.ratio == 3.0
    assert str(result) == "3 [2.5, 3.5] (n=2 pairs)"


def test_comparison_is_untouched_by_drift_that_pairs_share():
    machine = FakeMachine()
    result = compare_speed(
        machine.work("a", [2.0, 4.0, 8.0, 16.0]),
        machine.work("b", [1.0, 2.0, 4.0, 8.0]),
        repeats=4,
        warmup=0,
        clock=machine.clock,
    )
    assert result.ratio == result.low == result.high == 2.0


def test_bad_counts_durations_and_clocks_are_refused():
    machine = FakeMachine()
    work = machine.work("f", [0.0])
    with pytest.raises(UnsupportedInput, match="repeats must be at least 1"):
        measure_rtf(work, 1.0, repeats=0)
    with pytest.raises(UnsupportedInput, match="received 1 and -1"):
        compare_speed(work, work, repeats=1, warmup=-1)
    for duration_s in (0.0, -1.0, float("nan")):
        with pytest.raises(UnsupportedInput, match="duration_s must be positive"):
            measure_rtf(work, duration_s)
    with pytest.raises(UnsupportedInput, match="took 0 s"):
        compare_speed(work, work, clock=machine.clock)
