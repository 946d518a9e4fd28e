"""`TrainOptions`: how a language model is trained; `TrainReport`: what a run came to.

Beside them the training loss, in nats, and the measure, in bits.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from codecbook.errors import UnsupportedInput, require_one_of
from codecbook.lm.token_lm import TokenLM
from codecbook.tokens.tokens import require_positive
from codecbook.training.schedule import Budget, Schedule

NATS_TO_BITS = 1.0 / math.log(2.0)
CODEBOOK_WEIGHTS = ("even", "auto")


def cross_entropy_nats(logits: Tensor, codes: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of every token, with and without label smoothing.

    With ``p`` the model's probabilities and ``y`` the token, smoothing by ``s``, from 0 to below 1, gives
    ``-(1 - s) log p_y - s mean(log p)``: it keeps a model from growing ever more certain, and is no measure of
    information, so whatever is reported is without it.

    Logits are float ``[..., V]``, codes int64 ``[...]``. Returns (smoothed, unsmoothed), in nats, float32 (or float64
    where the logits are) ``[...]``.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    log_p = logits.log_softmax(dim=-1)
    plain = -log_p.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
    if not label_smoothing:
        return plain, plain.detach()
    return (1.0 - label_smoothing) * plain - label_smoothing * log_p.mean(dim=-1), plain.detach()


def codebook_weights(kind: str, num_codebooks: int, alpha: float) -> Tensor:
    """Return the weight of each codebook in the training loss, float32 ``[K]``, of sum 1.

    They are ``"even"``, or ``"auto"``: ``1 + alpha k / (K - 1)``, more for the deeper and noisier codebooks. Another
    kind, or an `alpha` that makes a weight negative or infinite, raises UnsupportedInput.
    """
    require_one_of("codebook_weights", kind, CODEBOOK_WEIGHTS)
    weights = torch.ones(num_codebooks, dtype=torch.float64)
    if kind == "auto":
        weights += alpha * torch.arange(num_codebooks, dtype=torch.float64) / max(1, num_codebooks - 1)
    if not (weights.min() >= 0 and weights.sum().isfinite()):
        raise UnsupportedInput(f"codebook_alpha={alpha} gives the weights {weights.tolist()}; choose another.")
    return weights.div(weights.sum()).float()


PRECISIONS = ("auto", "float32", "bfloat16")
# what may differ between a run and its continuation: they change how far and how fast it goes, not where
_MAY_CHANGE = (
    "budget", "micro_batch_size", "compile", "gradient_checkpointing", "evaluations", "checkpoint_every_s",
    "archive_every", "report_every_s",
)  # fmt: skip


@dataclass(frozen=True)
class TrainOptions:
    """How to train. The defaults are meant for a small corpus (an hour) and two CPU cores.

    A stride of less than the context lets the windows' borders fall everywhere, which a small corpus gains from; an
    epoch is longer by as much. The loss is averaged over micro-batches, so their size changes memory and not the
    result. `schedule`, `warmup`, `decay` and `final` are those of `codecbook.training.schedule.Schedule`.
    """

    budget: Budget = field(default_factory=lambda: Budget(minutes=10.0))
    context_frames: int = 256  # of a window
    stride_frames: int = 32  # from one window to the next
    batch_size: int = 8  # windows per optimizer step, over all processes and micro-batches
    micro_batch_size: int | None = None  # windows per pass of one process; None for all of its share
    learning_rate: float = 2e-3  # peak
    schedule: str = "wsd"  # or "cosine"
    warmup: float = 0.03  # share of the run
    decay: float = 0.40  # share of the run, "wsd" only
    final: float = 0.02  # last rate over the peak
    betas: tuple[float, float] = (0.9, 0.95)  # of AdamW
    weight_decay: float = 0.1  # of matrices and embeddings; gains of norms and position biases have none
    gradient_clip: float = 1.0  # longest gradient, as a Euclidean norm
    ema_decay: float = 0.998  # of the averaged weights, per step; evaluation, samples and the result use them
    label_smoothing: float = 0.0  # in the training loss alone
    codebook_weights: str = "even"  # or "auto", see `codebook_weights`
    codebook_alpha: float = 1.0  # of "auto"
    precision: str = "auto"  # "bfloat16" autocast, "float32", or "auto": bfloat16 on CUDA, float32 elsewhere
    compile: bool = False  # use torch.compile
    gradient_checkpointing: bool = False  # recompute layers in the backward pass
    spike_factor: float = 5.0  # a step whose loss is this many times the running mean is skipped
    seed: int = 0  # of parameters, dropout and order
    evaluations: int = 10  # evenly over the run; the last at its end
    checkpoint_every_s: float = 60.0  # 0 writes one at every step
    archive_every: int = 0  # keep the checkpoint of one evaluation in this many; 0 keeps none
    report_every_s: float = 15.0  # between lines of progress

    def __post_init__(self) -> None:
        for name in ("context_frames", "stride_frames", "batch_size", "evaluations"):
            require_positive(name, getattr(self, name))
        if self.micro_batch_size is not None:
            require_positive("micro_batch_size", self.micro_batch_size)
        require_one_of("precision", self.precision, PRECISIONS)
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
        codebook_weights(self.codebook_weights, 1, self.codebook_alpha)

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
    """One look at the held-out clips, by the averaged weights, without label smoothing."""

    step: int  # optimizer steps done
    progress: float  # share of the budget used up
    elapsed_s: float  # of the run, evaluations included
    tokens_seen: int  # in training so far, repetitions counted
    train_bits_per_token: float  # mean since the evaluation before, of the weights in training, with dropout
    bits_per_token: float  # of the held-out clips
    bits_per_codebook: tuple[float, ...]  # of the held-out clips, K numbers


@dataclass(frozen=True)
class TrainReport:
    """What a run came to.

    The best evaluation was chosen on the held-out clips, so it flatters a little where evaluations scatter;
    `evaluations[-1]` does not.
    """

    model: TokenLM  # the averaged weights of the best evaluation, in evaluation mode
    best: Evaluation
    evaluations: tuple[Evaluation, ...]  # all, in order
    steps: int  # optimizer steps done, skipped ones included
    elapsed_s: float  # in all, resumptions added up
    tokens_per_s: float  # in training; evaluations and checkpoints are left out
