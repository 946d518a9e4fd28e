"""The benchmark: what is compared, and what it says. Whether anything is fast is not asked here."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

import pytest
import torch

from codecbook.measure.statistics import Interval

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))
try:
    import bench as command
    from benchmarks import PARTS, Bar, Size, bench, compare_speed, training_steps
finally:
    sys.path.remove(str(ROOT / "workflow"))
SMALL = Size(frames=2, batch=1, window_frames=8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_compares_in_pairs(part: str) -> None:
    ticks = count()
    bars = list(bench(part, 2, SMALL, clock=lambda: float(next(ticks))))
    assert len(bars) == (6 if part == "coders" else 2)
    for bar in bars:
        # on a clock that ticks once a call both sides take as long; of eight streams each then an eighth
        ratio = 8.0 if "at once" in bar.text else 1.0
        assert (bar.part, bar.ratio.mean, bar.ratio.count) == (part, ratio, 2)
        assert bar.least > 0


def test_a_bar_is_met_by_the_median() -> None:
    bar = Bar("coders", "a against b", 15.0, Interval(15.0, 9.5, 20.25, 6))
    assert bar.met
    assert str(bar) == "met    coders: a against b: 15 [10, 20] (95 %, n=6) times as fast; at least 15"
    assert not Bar("coders", "a against b", 15.0, Interval(14.9, 14.0, 20.0, 6)).met


def test_training_steps_change_the_models_and_not_the_random_state() -> None:
    before = torch.get_rng_state()
    with training_steps(("none", "in_frame"), 2, 16, 2, 8) as steps:
        assert list(steps) == ["plain", "none", "in_frame"]
        for step in steps.values():
            step()
            step()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "returncode", "said"),
    [
        (["--help"], 0, "Exit status: 0 where every bar is met"),
        (["speed"], 2, "'speed' is nothing to time; choose of coders, counts, training"),
        (["--rounds", "0"], 2, "0 is no whole number of at least 1"),
        (["coders", "--round", "3"], 2, "unrecognized arguments: --round 3"),
    ],
)
def test_its_command_line(arguments: list[str], returncode: int, said: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", str(ROOT / "run_all.sh"), "bench", *arguments],
        capture_output=True, text=True, env={**environment, "PATH": path},
    )  # fmt: skip
    assert done.returncode == returncode, done.stderr
    assert re.sub(r"\s+", " ", done.stdout + done.stderr).count(said) == 1


def test_parts_are_known_before_anything_is_installed() -> None:
    assert command.PARTS == PARTS


class FakeMachine:
    """A clock that only moves when work is done, and a log of the work."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls: list[str] = []

    def clock(self) -> float:
        return self.now_s

    def work(self, name: str, seconds):
        times = cycle(seconds)

        def run() -> None:
            self.calls.append(name)
            self.now_s += next(times)

        return run


def test_comparison_alternates_and_pairs() -> None:
    machine = FakeMachine()
    a, b = machine.work("a", [8.0, 2.0, 4.0]), machine.work("b", [8.0, 1.0, 1.0])
    assert compare_speed(a, b, 2, machine.clock).mean == 3.0
    assert machine.calls == ["a", "b", "a", "b", "b", "a"]


def test_comparison_is_untouched_by_drift_that_pairs_share() -> None:
    machine = FakeMachine()
    drift = [2.0**n for n in range(6)]
    a, b = machine.work("a", [1.0, *(2 * pace for pace in drift)]), machine.work("b", [1.0, *drift])
    found = compare_speed(a, b, 6, machine.clock)
    assert (found.mean, found.low, found.high) == (2.0, 2.0, 2.0)
