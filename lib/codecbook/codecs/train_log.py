"""The log of a training run: one JSON object per line, and now and then a line for whoever watches."""

import json
from pathlib import Path

LOG_NAME = "log.jsonl"
LOG_EVERY_STEPS = 10
_SAY_EVERY_STEPS = 50


class TrainingLog:
    """The log file of a run.

    Args:
        folder: Where ``log.jsonl`` is, and is appended to; made with the first record.
        is_main: Whether this process writes at all; one of several does.
    """

    def __init__(self, folder: Path, is_main: bool) -> None:
        self._folder = folder
        self._is_main = is_main

    def write(self, record: dict) -> None:
        """Append a record of JSON types."""
        if self._is_main:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / LOG_NAME).open("a") as file:
                file.write(json.dumps(record) + "\n")

    def say(self, line: str) -> None:
        """Print a line at once."""
        if self._is_main:
            print(line, flush=True)

    def step(
        self, step: int, phase: str, progress: float, elapsed_s: float, rate: float, parts: dict[str, float]
    ) -> None:
        """Record a step, and say it as well where it is one of every fifty.

        Args:
            step: Steps done.
            phase: Name of the phase.
            progress: How far the run is, 0 to 1.
            elapsed_s: Training time so far.
            rate: Learning rate of the step.
            parts: Of the loss, by name.
        """
        progress = max(progress, 1e-9)
        remaining_s = elapsed_s / progress - elapsed_s
        self.write(
            {
                "step": step,
                "phase": phase,
                "elapsed_s": round(elapsed_s, 1),
                "remaining_s": round(remaining_s, 1),
                "rate": rate,
                **{name: round(value, 5) for name, value in parts.items()},
            }
        )
        if step % _SAY_EVERY_STEPS == 0:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in parts.items())
            self.say(
                f"{phase} step {step}  {100 * progress:.1f} %  {shown}  about {remaining_s / 60:.0f} min left"
            )
