"""How long a run lasts, and its learning rate as a function of progress: 0 at the start, 1 at the end.

Progress is measured in steps or in minutes.
"""

import math
from dataclasses import dataclass

from codecbook.errors import UnsupportedInput, require_one_of

SCHEDULES = ("wsd", "cosine")
_FIRST_SHARE = 0.1  # of the peak, where the warm-up starts


@dataclass(frozen=True)
class Budget:
    """How long to train. With both, whichever is used up first.

    With steps alone a run is a function of its seed; with minutes the schedule follows the clock.
    """

    steps: int | None = None  # of the optimizer
    minutes: float | None = None  # of training, evaluation and all, resumptions added up

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.minutes) if value is not None]
        if not given or not all(math.isfinite(value) and value > 0 for value in given):
            raise UnsupportedInput(f"A budget of steps={self.steps}, minutes={self.minutes} is none; give one.")

    def progress(self, step: int, elapsed_s: float) -> float:
        """Return how much of the budget is used up, 0 to 1."""
        by_steps = step / self.steps if self.steps else 0.0
        by_clock = elapsed_s / (60.0 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_clock))


def half_cosine(first: float, last: float, through: float) -> float:
    """Return the value on the way from `first` to `last`, `through` of which, 0 to 1, is done."""
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * through))


@dataclass(frozen=True)
class Schedule:
    """A learning rate over progress.

    ``"wsd"`` (warm-up, stable, decay; Hu et al. 2024, MiniCPM) holds the peak and falls along a half cosine at the
    end: a run can be prolonged without repeating it. ``"cosine"`` falls from the end of the warm-up on.
    """

    peak: float  # highest rate
    kind: str = "wsd"  # or "cosine"
    warmup: float = 0.05  # share of the run in which the rate rises linearly, from a tenth of the peak
    decay: float = 0.10  # share of the run in which a "wsd" rate falls
    final: float = 0.1  # last rate over the peak

    def __post_init__(self) -> None:
        require_one_of("schedule", self.kind, SCHEDULES)
        if not (math.isfinite(self.peak) and self.peak > 0):
            raise UnsupportedInput(f"learning_rate={self.peak}; give a positive number such as 0.001.")
        shares = (self.warmup, self.decay, self.final)
        if not all(0.0 <= share <= 1.0 for share in shares) or self.warmup + self.decay > 1.0:
            raise UnsupportedInput(
                f"warmup={self.warmup}, decay={self.decay}, final={self.final} are no shares, or two exceed 1."
            )

    def rate(self, progress: float) -> float:
        """Return the learning rate at `progress`, 0 to 1."""
        if progress < self.warmup:
            return self.peak * (_FIRST_SHARE + (1.0 - _FIRST_SHARE) * progress / self.warmup)
        start = 1.0 - self.decay if self.kind == "wsd" else self.warmup
        through = (progress - start) / (1.0 - start) if progress > start else 0.0
        return self.peak * half_cosine(1.0, self.final, through)
