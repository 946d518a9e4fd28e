"""`TrainOptions`: how a language model is trained, and what a run reports."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codecbook.errors import UnsupportedInput
from codecbook.lm.objective import codebook_weights
from codecbook.lm.schedule import Budget, Schedule
from codecbook.lm.token_lm import TokenLM, require_positive

PRECISIONS = ("auto", "float32", "bfloat16")
# what may differ between a run and its continuation: they change how far and how fast it goes, not where
_MAY_CHANGE = (
    "budget", "micro_batch_size", "compile", "gradient_checkpointing", "evaluations", "checkpoint_every_s",
    "archive_every", "report_every_s",
)  # fmt: skip


@dataclass(frozen=True)
class TrainOptions:
    """How to train. The defaults are meant for a small corpus (an hour) and two CPU cores.

    Attributes:
        budget: Steps, minutes or both.
        context_frames: Frames of a window.
        stride_frames: Frames from one window to the next. Less than the context lets the windows' borders fall
            everywhere, which a small corpus gains from; an epoch is longer by as much.
        batch_size: Windows per optimizer step, over all processes and micro-batches.
        micro_batch_size: Windows per pass of one process; None for all of its share. The loss is averaged over
            micro-batches, so this changes memory and not the result.
        learning_rate: Peak.
        schedule: ``"wsd"`` or ``"cosine"``, see `codecbook.lm.schedule.Schedule`, also for the next three.
        warmup: Share of the run.
        decay: Share of the run, ``"wsd"`` only.
        final: Last rate over the peak.
        betas: Of AdamW.
        weight_decay: Of matrices and embeddings; gains of norms and position biases have none.
        gradient_clip: Longest gradient, as a Euclidean norm.
        ema_decay: Of the averaged weights, per step; evaluation, samples and the result use them.
        label_smoothing: In the training loss alone.
        codebook_weights: ``"even"``, ``"auto"`` or a number per codebook, see `codecbook.lm.objective`.
        codebook_alpha: Of ``"auto"``.
        precision: ``"bfloat16"`` autocast, ``"float32"``, or ``"auto"``: bfloat16 on CUDA, float32 elsewhere.
        compile: Use `torch.compile`.
        gradient_checkpointing: Recompute layers in the backward pass.
        spike_factor: A step whose loss is this many times the running mean is skipped.
        seed: Of parameters, dropout and order.
        evaluations: How many, evenly over the run; the last at its end.
        checkpoint_every_s: Seconds between checkpoints; 0 writes one at every step.
        archive_every: Keep the checkpoint of every so-manieth evaluation; 0 keeps none.
        report_every_s: Seconds between lines of progress.
    """

    budget: Budget = field(default_factory=lambda: Budget(minutes=10.0))
    context_frames: int = 256
    stride_frames: int = 32
    batch_size: int = 8
    micro_batch_size: int | None = None
    learning_rate: float = 2e-3
    schedule: str = "wsd"
    warmup: float = 0.03
    decay: float = 0.40
    final: float = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    label_smoothing: float = 0.0
    codebook_weights: str | Sequence[float] = "even"
    codebook_alpha: float = 1.0
    precision: str = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    spike_factor: float = 5.0
    seed: int = 0
    evaluations: int = 10
    checkpoint_every_s: float = 60.0
    archive_every: int = 0
    report_every_s: float = 15.0

    def __post_init__(self) -> None:
        for name in ("context_frames", "stride_frames", "batch_size", "evaluations"):
            require_positive(name, getattr(self, name))
        if self.micro_batch_size is not None:
            require_positive("micro_batch_size", self.micro_batch_size)
        if self.precision not in PRECISIONS:
            raise UnsupportedInput(f"precision={self.precision!r}; choose one of {', '.join(PRECISIONS)}.")
        for name in ("ema_decay", "label_smoothing"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UnsupportedInput(f"{name}={getattr(self, name)}; give a number from 0 to below 1.")
        for name in ("gradient_clip", "spike_factor"):
            if not getattr(self, name) > 0:
                raise UnsupportedInput(f"{name}={getattr(self, name)}; give a number above 0, inf for none.")
        for name in ("weight_decay", "seed", "checkpoint_every_s", "archive_every", "report_every_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UnsupportedInput(f"{name}={getattr(self, name)}; give a number of 0 or more.")
        # both raise on what cannot be, here rather than at the first step
        _ = self.learning_rate_schedule
        if isinstance(self.codebook_weights, str):
            codebook_weights(self.codebook_weights, 1)

    @property
    def learning_rate_schedule(self) -> Schedule:
        """The learning rate over progress."""
        return Schedule(self.learning_rate, self.schedule, self.warmup, self.decay, self.final)

    def stored(self) -> dict[str, Any]:
        """Return the options as a checkpoint keeps them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def decisive(self) -> dict[str, Any]:
        """Return those of `stored` that a continuation must share."""
        return {name: value for name, value in self.stored().items() if name not in _MAY_CHANGE}


@dataclass(frozen=True)
class Evaluation:
    """One look at the held-out clips, by the averaged weights, without label smoothing.

    Attributes:
        step: Optimizer steps done.
        progress: Share of the budget used up.
        elapsed_s: Seconds of the run, evaluations included.
        tokens_seen: Training tokens so far, repetitions counted.
        train_bits_per_token: Mean since the evaluation before, of the weights in training, with dropout.
        bits_per_token: Of the held-out clips.
        bits_per_codebook: Of the held-out clips, ``K`` numbers.
    """

    step: int
    progress: float
    elapsed_s: float
    tokens_seen: int
    train_bits_per_token: float
    bits_per_token: float
    bits_per_codebook: tuple[float, ...]


@dataclass(frozen=True)
class TrainReport:
    """What a run came to.

    Attributes:
        model: The averaged weights of the best evaluation, in evaluation mode.
        best: That evaluation. It was chosen on the held-out clips, so it flatters a little where evaluations
            scatter; `evaluations[-1]` does not.
        evaluations: All, in order.
        steps: Optimizer steps done, skipped ones included.
        elapsed_s: Seconds in all, resumptions added up.
        tokens_per_s: Training tokens per second of training, evaluations and checkpoints left out.
        skipped_steps: Steps left out because of a spike in the loss.
        recoveries: Times that the best checkpoint was loaded after a loss that was not finite.
        folder: Where the checkpoints and ``log.jsonl`` are.
    """

    model: TokenLM
    best: Evaluation
    evaluations: tuple[Evaluation, ...]
    steps: int
    elapsed_s: float
    tokens_per_s: float
    skipped_steps: int
    recoveries: int
    folder: Path
