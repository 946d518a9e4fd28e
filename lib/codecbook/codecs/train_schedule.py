"""How long a run lasts, which phase it is in, and how fast it learns."""

import math
from dataclasses import dataclass

from codecbook.codecs.train_recipes import Phase, Recipe
from codecbook.errors import UnsupportedInput


@dataclass(frozen=True)
class Budget:
    """How long to train: give one of the two.

    Attributes:
        steps: Number of steps; makes a run reproducible.
        minutes: Wall time, resumptions added up; the schedule follows the clock, whatever the load.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        values = [value for value in (self.steps, self.minutes) if value is not None]
        if len(values) != 1 or not values[0] > 0:
            raise UnsupportedInput(
                f"A budget is a positive number of either steps or minutes; received steps={self.steps}, "
                f"minutes={self.minutes}."
            )

    def progress(self, step: int, elapsed_s: float) -> float:
        """Return how much of the budget is used up, 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.minutes is not None
        return min(1.0, elapsed_s / (60.0 * self.minutes))


def phase_at(phases: tuple[Phase, ...], progress: float, earliest: int = 0) -> tuple[int, float]:
    """Return (index of the phase, how far through it, 0 to 1).

    Args:
        phases: In order.
        progress: Of the run, 0 to 1.
        earliest: Phase that has been reached: a run whose budget is raised has less behind it than before, and stays.
    """
    start = 0.0
    for index, phase in enumerate(phases):
        if index >= earliest and (progress < phase.until or index == len(phases) - 1):
            return index, min(1.0, max(0.0, (progress - start) / (phase.until - start)))
        start = phase.until
    raise UnsupportedInput("A recipe needs at least one phase.")


def learning_rate(recipe: Recipe, progress: float, step: int, earliest_phase: int = 0) -> float:
    """Return the rate: a linear rise at the very start, and a half cosine through each phase."""
    index, through = phase_at(recipe.phases, progress, earliest_phase)
    phase = recipe.phases[index]
    shape = phase.final_rate + (phase.rate - phase.final_rate) * 0.5 * (1.0 + math.cos(math.pi * through))
    return recipe.learning_rate * shape * min(1.0, (step + 1) / max(1, recipe.warmup_steps))
