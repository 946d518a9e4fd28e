"""What a checkpoint holds: parameters, drift of the average, tensors that look ill, best and last losses.

And, in fewer lines, what the folder of a finished model holds.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from codecbook.lm.exact import certificate, certificate_lines, load_exact
from codecbook.lm.exact.files import ARCHITECTURE, read_config
from codecbook.lm.model_files import load_lm
from codecbook.lm.token_lm import TokenLM, num_parameters, num_trunk_parameters
from codecbook.lm.training.checkpoints import averaged_model, read_checkpoint
from codecbook.lm.training.progress import RunState

SPIKE = 50.0
"""A tensor spikes where its largest value is this many times its root mean square; Gaussian ones stay below 7."""


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


@dataclass(frozen=True, eq=False)
class CheckpointReport:
    """What `inspect_checkpoint` found.

    Attributes:
        model: With the averaged weights.
        run: Steps, losses, evaluations.
        drift: Of all parameters together, as in `TensorReport`.
        tensors: One report per parameter.
    """

    model: TokenLM
    run: RunState
    drift: float
    tensors: tuple[TensorReport, ...]


def inspect_checkpoint(path: str | Path) -> CheckpointReport:
    """Read a checkpoint (or the latest of a run's folder) and report on it.

    Raises:
        MissingWeights, CorruptInput, UnsupportedInput: As `codecbook.lm.training.checkpoints.read_checkpoint`.
    """
    state = read_checkpoint(path)
    model = averaged_model(state)
    names = [name for name, _ in model.named_parameters()]
    trained, averaged = state["model"], state["average"]
    apart = sum(float((trained[name] - averaged[name]).double().square().sum()) for name in names)
    whole = sum(float(trained[name].double().square().sum()) for name in names)
    return CheckpointReport(
        model,
        RunState.from_stored(state["run"]),
        (apart / whole) ** 0.5 if whole else 0.0,
        tuple(_tensor_report(name, trained[name], averaged[name]) for name in names),
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
    model, run = report.model, report.run
    best, last = run.best(), run.evaluations[-1] if run.evaluations else None
    lines = [
        _size_line(model),
        f"step {run.step}, {run.elapsed_s:.0f} s, {run.skipped_steps} steps skipped, {run.recoveries} recoveries",
        f"the averaged weights are {100 * report.drift:.2f} % away from the trained ones",
    ]
    for label, evaluation in (("best", best), ("last", last)):
        if evaluation is None:
            continue
        per_codebook = ", ".join(f"{bits:.3f}" for bits in evaluation.bits_per_codebook)
        lines.append(
            f"{label}: step {evaluation.step}, {evaluation.bits_per_token:.4f} bits/token held out ({per_codebook} per "
            f"codebook), {evaluation.train_bits_per_token:.4f} in training"
        )
    if best is None:
        lines.append("not evaluated yet")
    lines.append(f"{'parameter':44} {'shape':>18} {'rms':>9} {'largest':>9} {'drift':>8}")
    for tensor in report.tensors:
        marks = f"  {tensor.not_finite} NOT FINITE" if tensor.not_finite else ""
        marks += "  spikes" if tensor.spikes else ""
        shape = "x".join(str(size) for size in tensor.shape)
        lines.append(
            f"{tensor.name:44} {shape:>18} {tensor.rms:9.2e} {tensor.largest:9.2e} {100 * tensor.drift:7.2f} %{marks}"
        )
    return lines


def _size_line(model: TokenLM) -> str:
    return f"{model.architecture}: {num_parameters(model)} parameters, {num_trunk_parameters(model)} in the trunk"


def model_lines(folder: Path) -> list[str]:
    """Return what a model's folder holds, a float or an exact one, as lines of text.

    Raises:
        MissingWeights, CorruptInput, UnsupportedInput: As `codecbook.lm.model_files.load_lm` or
            `codecbook.lm.exact.load_exact`.
    """
    config = read_config(folder)
    if config["architecture"] == ARCHITECTURE:
        exact = load_exact(folder)
        lines = [f"exact: SHA-256 {exact.sha256}", *certificate_lines(certificate(exact))]
    else:
        loaded = load_lm(folder)
        lines = [_size_line(loaded.model), f"SHA-256 {loaded.sha256}"]
    known = {**config["arguments"], **config.get("provenance", {})}
    return lines + [f"{name}: {value}" for name, value in known.items()]
