import math

import pytest

from codecbook.errors import UnsupportedInput
from codecbook.training.schedule import Budget, Schedule


def test_wsd_rises_holds_and_falls() -> None:
    schedule = Schedule(1.0, "wsd", warmup=0.1, decay=0.2, final=0.05)
    assert schedule.rate(0.0) == pytest.approx(0.1)
    assert schedule.rate(0.05) == pytest.approx(0.55)
    assert schedule.rate(0.1) == schedule.rate(0.5) == schedule.rate(0.8) == 1.0
    assert schedule.rate(0.9) == pytest.approx(0.05 + 0.95 / 2)
    assert schedule.rate(1.0) == pytest.approx(0.05)


def test_cosine_falls_from_the_end_of_the_warmup() -> None:
    schedule = Schedule(2.0, "cosine", warmup=0.2, decay=0.1, final=0.0)
    assert schedule.rate(0.2) == 2.0
    assert schedule.rate(0.6) == pytest.approx(1.0)
    assert schedule.rate(1.0) == pytest.approx(0.0, abs=1e-15)
    rates = [schedule.rate(0.2 + 0.01 * i) for i in range(80)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("kind", ["wsd", "cosine"])
def test_no_warmup_and_no_decay_are_possible(kind: str) -> None:
    schedule = Schedule(1.0, kind, warmup=0.0, decay=0.0, final=0.5)
    assert schedule.rate(0.0) == 1.0
    assert math.isfinite(schedule.rate(1.0))


def test_progress_follows_what_is_used_up_first() -> None:
    assert Budget(steps=10).progress(5, 1e9) == 0.5
    assert Budget(minutes=2).progress(10**9, 30.0) == 0.25
    assert Budget(steps=10, minutes=1).progress(1, 30.0) == 0.5
    assert Budget(steps=10).progress(20, 0.0) == 1.0


@pytest.mark.parametrize("arguments", [{}, {"steps": 0}, {"minutes": -1.0}, {"minutes": math.inf}])
def test_budgets_that_never_end_are_refused(arguments: dict) -> None:
    with pytest.raises(UnsupportedInput, match="budget"):
        Budget(**arguments)


@pytest.mark.parametrize(
    "arguments", [{"kind": "linear"}, {"peak": 0.0}, {"peak": math.nan}, {"warmup": 0.7, "decay": 0.7}, {"final": 2.0}]
)
def test_impossible_schedules_are_refused(arguments: dict) -> None:
    with pytest.raises(UnsupportedInput):
        Schedule(**{"peak": 1.0, **arguments})
