"""Where a training run stands, apart from its weights."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from codecbook.lm.options import Evaluation

_MEAN_DECAY = 0.98


@dataclass
class RunState:
    """Counters of a run; changed as it goes on, stored in every checkpoint.

    Attributes:
        step: Optimizer steps done, skipped ones included.
        elapsed_s: Seconds by the clock of the first process at the last step.
        loss_mean: Running mean of the weighted loss, nats; None before the first step.
        rate_scale: Factor on the learning rate, halved by every recovery.
        skipped_steps: Steps left out because of a spike.
        skips_in_a_row: Those since the last step that was taken.
        recoveries: Times that the loss was not finite.
        evaluations: In order.
    """

    step: int = 0
    elapsed_s: float = 0.0
    loss_mean: float | None = None
    rate_scale: float = 1.0
    skipped_steps: int = 0
    skips_in_a_row: int = 0
    recoveries: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)

    def best(self) -> Evaluation | None:
        """Return the evaluation with the fewest bits per token, None before the first."""
        return min(self.evaluations, key=lambda evaluation: evaluation.bits_per_token, default=None)

    def is_evaluated(self) -> bool:
        """Say whether the weights have been evaluated as they are."""
        return bool(self.evaluations) and self.evaluations[-1].step == self.step

    def took_step(self, loss_nats: float) -> None:
        """Note a step that was taken."""
        mean = loss_nats if self.loss_mean is None else self.loss_mean
        self.loss_mean = _MEAN_DECAY * mean + (1.0 - _MEAN_DECAY) * loss_nats
        self.skips_in_a_row = 0

    def skipped_step(self) -> None:
        """Note a step that was left out."""
        self.skipped_steps += 1
        self.skips_in_a_row += 1

    def stored(self) -> dict[str, Any]:
        """Return the state in plain types."""
        return asdict(self)

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> "RunState":
        """Return the state that `stored` described."""
        state = cls(**{f.name: stored[f.name] for f in fields(cls)})
        state.evaluations = [
            Evaluation(**{**evaluation, "bits_per_codebook": tuple(evaluation["bits_per_codebook"])})
            for evaluation in stored["evaluations"]
        ]
        return state
