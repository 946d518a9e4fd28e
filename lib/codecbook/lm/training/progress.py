"""Where a training run stands, apart from its weights: counters, clocks and means.

Checkpoints are ``latest.pt``, ``best.pt`` and ``step_NNNNNNNN.pt`` in the run's folder. Each is a complete
state from which the run goes on bit for bit. There are no states of random generators in it,
because none is carried from step to step: order and dropout are drawn from (seed, step).
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from codecbook.errors import MissingWeights, UnsupportedInput
from codecbook.lm.models import build_lm
from codecbook.lm.token_lm import TokenLM, check_vocabulary
from codecbook.lm.training.options import Evaluation
from codecbook.training import checkpoint
from codecbook.training.checkpoint import check_settings

_MEAN_DECAY = 0.98


@dataclass
class RunState:
    """Counters of a run; changed as it goes on, stored in every checkpoint."""

    step: int = 0  # optimizer steps done, skipped ones included
    elapsed_s: float = 0.0  # by the clock of the first process at the last step
    loss_mean: float | None = None  # running mean of the weighted loss, nats; None before the first step
    rate_scale: float = 1.0  # factor on the learning rate, halved by every recovery
    skipped_steps: int = 0  # left out because of a spike
    skips_in_a_row: int = 0  # those since the last step that was taken
    recoveries: int = 0  # times that the loss was not finite
    evaluations: list[Evaluation] = field(default_factory=list)
    comparable_from: int = 0  # how many evaluations were on other held-out clips than the later ones

    def best(self) -> Evaluation | None:
        """Return the evaluation with the fewest bits per token on the present held-out clips, None before the first."""
        comparable = self.evaluations[self.comparable_from :]
        return min(comparable, key=lambda evaluation: evaluation.bits_per_token, default=None)

    def is_evaluated(self) -> bool:
        """Say whether the weights have been evaluated as they are."""
        return any(evaluation.step == self.step for evaluation in self.evaluations[self.comparable_from :])

    def took_step(self, loss_nats: float) -> None:
        """Note a step that was taken."""
        mean = loss_nats if self.loss_mean is None else self.loss_mean
        self.loss_mean = _MEAN_DECAY * mean + (1.0 - _MEAN_DECAY) * loss_nats
        self.skips_in_a_row = 0

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> "RunState":
        """Return the state whose `dataclasses.asdict` was stored."""
        return cls(**{**stored, "evaluations": [Evaluation(**each) for each in stored["evaluations"]]})


@dataclass
class Meter:
    """Time and loss of a run; steps are timed, evaluations and checkpoints are not. Its fields go into checkpoints."""

    training_s: float = 0.0  # spent in steps
    tokens: int = 0  # of training, repetitions counted
    bits: float = 0.0  # per token, summed over the steps since the last evaluation
    steps: int = 0  # how many those are

    def __post_init__(self) -> None:
        self.start(0.0)

    def start(self, elapsed_s: float) -> None:
        """Start the clocks, `elapsed_s` into the run."""
        self._before_s = elapsed_s
        self._start = self._step_start = self._last_save = self._last_line = time.perf_counter()

    def elapsed_s(self) -> float:
        """Return the seconds of the run, resumptions added up."""
        return self._before_s + time.perf_counter() - self._start

    def add(self, bits: float, num_tokens: int) -> None:
        """Count a step: its mean loss in bits per token, and its tokens."""
        now = time.perf_counter()
        self.training_s += now - self._step_start
        self._step_start = now
        self.tokens += num_tokens
        if math.isfinite(bits):
            self.bits += bits
            self.steps += 1

    def tokens_per_s(self) -> float:
        """Return training tokens per second of training so far."""
        return self.tokens / self.training_s if self.training_s else float("nan")

    def mean_bits(self) -> float:
        """Return the mean training loss since `reset_mean`, bits per token."""
        return self.bits / self.steps if self.steps else float("nan")

    def reset_mean(self) -> None:
        """Start a new mean."""
        self.bits, self.steps = 0.0, 0

    def is_save_due(self, every_s: float) -> bool:
        """Say whether the last checkpoint is that long ago."""
        return time.perf_counter() - self._last_save >= every_s

    def saved(self) -> None:
        """Note a checkpoint, and leave it and an evaluation before it out of the throughput."""
        self._last_save = self._step_start = time.perf_counter()

    def is_line_due(self, every_s: float) -> bool:
        """Say whether the last line is that long ago, and if so, take it as written now."""
        is_due = time.perf_counter() - self._last_line >= every_s
        if is_due:
            self._last_line = time.perf_counter()
        return is_due

    def line(self, step: int, progress: float) -> str:
        """Return a line of progress: loss, throughput, and the time that is left at this pace."""
        left = f", {(1.0 - progress) / progress * self.elapsed_s() / 60:.1f} min left" if progress > 0 else ""
        loss = f"{self.mean_bits():.4f} bits/token in training, " if self.steps else ""
        return f"step {step}, {100 * progress:.0f} %: {loss}{self.tokens_per_s():.0f} tokens/s{left}"


FORMAT = 1
LATEST_NAME = "latest.pt"
BEST_NAME = "best.pt"
_KEYS = (
    "format", "architecture", "arguments", "options", "decisive", "model", "average", "optimizer", "run", "meter",
)  # fmt: skip


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, or the latest of a run's folder, onto the CPU.

    Raises MissingWeights, UnsupportedInput, CorruptInput: there is none; another format; truncated, or no checkpoint.
    """
    path = Path(path)
    path = path / LATEST_NAME if path.is_dir() else path
    if not path.is_file():
        raise MissingWeights(f"There is no checkpoint {path}; check the path, or train first.")
    state = checkpoint.read_checkpoint(path, _KEYS)
    if state["format"] != FORMAT:
        raise UnsupportedInput(f"{path} has format {state['format']}, this version reads {FORMAT}; update codecbook.")
    return state


def check_continuation(state: dict[str, Any], model: TokenLM, decisive: dict[str, Any], source: Path) -> None:
    """Raise UnsupportedInput unless a run with this model and these options may go on from a checkpoint."""
    if state["architecture"] != model.architecture:
        raise UnsupportedInput(f"{source} is of {state['architecture']!r}, not {model.architecture!r}; choose another.")
    check_vocabulary(model, state["arguments"]["codebook_sizes"], f"The tokens that {source} was trained on")
    wanted = model.config.arguments() | decisive
    check_settings({**state["arguments"], **state["decisive"]}, wanted, source)


def averaged_model(state: dict[str, Any]) -> TokenLM:
    """Return the model of a checkpoint with its averaged weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        model = build_lm(state["architecture"], state["arguments"])
    model.load_state_dict(state["average"])
    return model.eval()
