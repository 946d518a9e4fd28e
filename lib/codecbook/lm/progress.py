"""Clocks and means of a training run, and the lines that tell of them."""

import json
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from codecbook.lm.options import Evaluation


class Meter:
    """Time and loss of a run; steps are timed, evaluations and checkpoints are not.

    Attributes:
        training_s: Seconds spent in steps.
        tokens: Training tokens, repetitions counted.
    """

    def __init__(self) -> None:
        self.training_s, self.tokens = 0.0, 0
        self._bits = torch.zeros((), dtype=torch.float64)
        self._steps = 0
        self._before_s = 0.0
        now = time.perf_counter()
        self._start = self._step_start = self._last_save = self._last_line = now

    def start(self, elapsed_s: float) -> None:
        """Start the clocks, `elapsed_s` into the run."""
        self._before_s = elapsed_s
        now = time.perf_counter()
        self._start = self._step_start = self._last_save = self._last_line = now

    def elapsed_s(self) -> float:
        """Return the seconds of the run, resumptions added up."""
        return self._before_s + time.perf_counter() - self._start

    def add(self, bits: Tensor, num_tokens: int) -> None:
        """Count a step: its mean loss per codebook, ``[K]`` in bits, and its tokens."""
        now = time.perf_counter()
        self.training_s += now - self._step_start
        self._step_start = now
        self.tokens += num_tokens
        if bool(bits.isfinite().all()):
            self._bits += bits.mean()
            self._steps += 1

    def leave_out(self) -> None:
        """Leave the time since the last step out of the throughput: it went into an evaluation or a checkpoint."""
        self._step_start = time.perf_counter()

    def tokens_per_s(self) -> float:
        """Return training tokens per second of training so far."""
        return self.tokens / self.training_s if self.training_s else float("nan")

    def mean_bits(self) -> float:
        """Return the mean training loss since `reset_mean`, bits per token."""
        return float(self._bits) / self._steps if self._steps else float("nan")

    def reset_mean(self) -> None:
        """Start a new mean."""
        self._bits.zero_()
        self._steps = 0

    def is_save_due(self, every_s: float) -> bool:
        """Say whether the last checkpoint is that long ago."""
        return time.perf_counter() - self._last_save >= every_s

    def saved(self) -> None:
        """Note a checkpoint."""
        self._last_save = time.perf_counter()

    def is_line_due(self, every_s: float) -> bool:
        """Say whether the last line is that long ago, and if so, take it as written now."""
        is_due = time.perf_counter() - self._last_line >= every_s
        if is_due:
            self._last_line = time.perf_counter()
        return is_due

    def state(self) -> dict[str, Any]:
        """Return what a continuation needs."""
        return {
            "training_s": self.training_s, "tokens": self.tokens, "bits": float(self._bits), "steps": self._steps,
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.training_s, self.tokens = state["training_s"], state["tokens"]
        self._bits.fill_(state["bits"])
        self._steps = state["steps"]

    def line(self, step: int, progress: float) -> str:
        """Return a line of progress: loss, throughput, and the time that is left at this pace."""
        elapsed_s = self.elapsed_s()
        left = f", {_duration((1.0 - progress) / progress * elapsed_s)} left" if progress > 0 else ""
        loss = f"{self.mean_bits():.4f} bits/token in training, " if self._steps else ""
        return f"step {step}, {100 * progress:.0f} %: {loss}{self.tokens_per_s():.0f} tokens/s{left}"


def log_line(evaluation: Evaluation, learning_rate: float, tokens_per_s: float) -> str:
    """Return an evaluation as a line of JSON."""
    figures = {**asdict(evaluation), "learning_rate": learning_rate, "tokens_per_s": tokens_per_s}
    return json.dumps(figures) + "\n"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
