"""What a checkpoint holds: parameters, drift of the average, tensors that look ill, best and last losses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codecbook.lm.checkpoints import averaged_model, read_checkpoint
from codecbook.lm.options import Evaluation
from codecbook.lm.run_state import RunState
from codecbook.lm.token_lm import num_parameters, num_trunk_parameters

SPIKE = 50.0
"""A tensor spikes where its largest value is so many times its root mean square; Gaussian ones stay below 7."""


@dataclass(frozen=True)
class TensorReport:
    """One parameter of a checkpoint.

    Attributes:
        name: Of the parameter.
        shape: Its shape.
        rms: Root mean square of the finite values.
        largest: Largest finite absolute value.
        drift: Distance of the averaged from the trained weights over the length of the trained ones.
        not_finite: Number of values that are infinite or no number, trained and averaged.
    """

    name: str
    shape: tuple[int, ...]
    rms: float
    largest: float
    drift: float
    not_finite: int

    @property
    def spikes(self) -> bool:
        """Whether single values stand out, which precedes divergence and spoils quantisation."""
        return self.largest > SPIKE * self.rms


@dataclass(frozen=True)
class CheckpointReport:
    """What `inspect_checkpoint` found.

    Attributes:
        architecture: Of the model.
        arguments: Its configuration.
        num_parameters: All, shared ones once.
        num_trunk_parameters: ``N`` of FLOP counts.
        step: Optimizer steps done.
        elapsed_s: Seconds of the run.
        drift: Of all parameters together, as in `TensorReport`.
        tensors: One report per parameter.
        best: Evaluation with the fewest bits per token, None before the first.
        last: Latest evaluation.
        loss_mean_nats: Running mean of the weighted training loss, None before the first step.
        skipped_steps: Steps left out because of a spike.
        recoveries: Times the loss was not finite.
    """

    architecture: str
    arguments: dict[str, Any]
    num_parameters: int
    num_trunk_parameters: int
    step: int
    elapsed_s: float
    drift: float
    tensors: tuple[TensorReport, ...]
    best: Evaluation | None
    last: Evaluation | None
    loss_mean_nats: float | None
    skipped_steps: int
    recoveries: int


def inspect_checkpoint(path: str | Path) -> CheckpointReport:
    """Read a checkpoint (or the latest of a run's folder) and report on it.

    Raises:
        MissingWeights, CorruptInput, UnsupportedInput: As `codecbook.lm.checkpoints.read_checkpoint`.
    """
    state = read_checkpoint(path)
    model = averaged_model(state)
    names = [name for name, _ in model.named_parameters()]
    trained, averaged = state["model"], state["average"]
    run = RunState.from_stored(state["run"])
    apart = sum(float((trained[name] - averaged[name]).double().square().sum()) for name in names)
    whole = sum(float(trained[name].double().square().sum()) for name in names)
    return CheckpointReport(
        state["architecture"],
        state["arguments"],
        num_parameters(model),
        num_trunk_parameters(model),
        run.step,
        run.elapsed_s,
        (apart / whole) ** 0.5 if whole else 0.0,
        tuple(_tensor_report(name, trained[name], averaged[name]) for name in names),
        run.best(),
        run.evaluations[-1] if run.evaluations else None,
        run.loss_mean,
        run.skipped_steps,
        run.recoveries,
    )


def _tensor_report(name: str, trained: Tensor, averaged: Tensor) -> TensorReport:
    is_finite = torch.isfinite(trained)
    values = trained[is_finite].double()
    length = float(values.square().sum()) ** 0.5
    apart = float((trained - averaged)[is_finite & torch.isfinite(averaged)].double().square().sum()) ** 0.5
    return TensorReport(
        name,
        tuple(trained.shape),
        length / max(1, values.numel()) ** 0.5,
        float(values.abs().max()) if values.numel() else 0.0,
        apart / length if length else 0.0,
        int((~is_finite).sum() + (~torch.isfinite(averaged)).sum()),
    )


def report_lines(report: CheckpointReport) -> list[str]:
    """Return the report as lines of text."""
    lines = [
        f"{report.architecture}: {report.num_parameters} parameters, {report.num_trunk_parameters} in the trunk",
        f"step {report.step}, {report.elapsed_s:.0f} s, {report.skipped_steps} steps skipped, {report.recoveries} "
        "recoveries",
        f"the averaged weights are {100 * report.drift:.2f} % away from the trained ones",
    ]
    for label, evaluation in (("best", report.best), ("last", report.last)):
        if evaluation is None:
            continue
        per_codebook = ", ".join(f"{bits:.3f}" for bits in evaluation.bits_per_codebook)
        lines.append(
            f"{label}: step {evaluation.step}, {evaluation.bits_per_token:.4f} bits/token held out ({per_codebook} per "
            f"codebook), {evaluation.train_bits_per_token:.4f} in training"
        )
    if report.best is None:
        lines.append("not evaluated yet")
    lines.append(f"{'parameter':44} {'shape':>18} {'rms':>9} {'largest':>9} {'drift':>8}")
    for tensor in report.tensors:
        marks = (f"  {tensor.not_finite} NOT FINITE" if tensor.not_finite else "") + (
            "  spikes" if tensor.spikes else ""
        )
        shape = "x".join(str(size) for size in tensor.shape)
        lines.append(
            f"{tensor.name:44} {shape:>18} {tensor.rms:9.2e} {tensor.largest:9.2e} {100 * tensor.drift:7.2f} %{marks}"
        )
    return lines
