"""What a run, or the folder of a finished model, holds, in lines of text."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from codecbook.lm.exact.certificate import certificate, certificate_lines
from codecbook.lm.exact.files import ARCHITECTURE, load_exact, read_config
from codecbook.lm.model_files import load_lm
from codecbook.lm.token_lm import TokenLM, num_trunk_parameters
from codecbook.lm.training.progress import RunState, averaged_model, read_checkpoint
from codecbook.models.weights import num_parameters

_SPIKE = 50.0  # a largest value over the root mean square; of Gaussian ones it stays below 7


def tensor_table(state: dict[str, Any], names: list[str]) -> pd.DataFrame:
    """Say of each parameter of a checkpoint, a row each, whether it looks ill.

    ``length`` (Euclidean), ``rms`` and ``largest`` (absolute) are of the finite trained values, ``apart`` is the
    distance of the averaged from them, ``not_finite`` how many are infinite or no number, trained and averaged.
    """
    rows = []
    for name in names:
        trained, averaged = state["model"][name], state["average"][name]
        is_finite = trained.isfinite()
        values = trained[is_finite].double()
        rows.append(
            {
                "parameter": name,
                "shape": "x".join(map(str, trained.shape)),
                "length": float(values.norm()),
                "rms": float(values.norm()) / max(1, values.numel()) ** 0.5,
                "largest": float(values.abs().max()) if values.numel() else 0.0,
                "apart": float((trained - averaged)[is_finite & averaged.isfinite()].double().norm()),
                "not_finite": int((~is_finite).sum() + (~averaged.isfinite()).sum()),
            }
        )
    return pd.DataFrame(rows)


def checkpoint_lines(path: str | Path) -> list[str]:
    """Return what a checkpoint (or the latest of a run's folder) holds; errors as `read_checkpoint`.

    That is parameters, drift of the average, best and last losses, and parameters that look ill: values that are not
    finite, and single ones that stand out, which precedes divergence and spoils quantisation.
    """
    state = read_checkpoint(path)
    model, run = averaged_model(state), RunState.from_stored(state["run"])
    tensors = tensor_table(state, [name for name, _ in model.named_parameters()])
    drift = np.linalg.norm(tensors["apart"]) / np.linalg.norm(tensors["length"])
    lines = [
        _size_line(model),
        f"step {run.step}, {run.elapsed_s:.0f} s, {run.skipped_steps} steps skipped, {run.recoveries} recoveries",
        f"the averaged weights are {100 * drift:.2f} % away from the trained ones",
    ]
    best = run.best()
    shown = ([("best", best)] if best else []) + [("last", last) for last in run.evaluations[-1:]]
    for label, evaluation in shown:
        per_codebook = ", ".join(f"{bits:.3f}" for bits in evaluation.bits_per_codebook)
        lines.append(
            f"{label}: step {evaluation.step}, {evaluation.bits_per_token:.4f} bits/token held out ({per_codebook} "
            f"per codebook), {evaluation.train_bits_per_token:.4f} in training"
        )
    if best is None:
        lines.append("not evaluated yet")
    tensors["drift_percent"] = 100 * tensors["apart"] / tensors["length"].where(tensors["length"] > 0, 1.0)
    tensors["looks_ill"] = tensors["not_finite"].map(lambda count: f"{count} NOT FINITE" if count else "")
    tensors.loc[tensors["largest"] > _SPIKE * tensors["rms"], "looks_ill"] += " spikes"
    shown = tensors[["parameter", "shape", "rms", "largest", "drift_percent", "looks_ill"]]
    return lines + shown.to_string(index=False, float_format="%.3g").splitlines()


def _size_line(model: TokenLM) -> str:
    return f"{model.architecture}: {num_parameters(model)} parameters, {num_trunk_parameters(model)} in the trunk"


def model_lines(folder: Path) -> list[str]:
    """Return what a model's folder holds; errors as `load_lm` for a float one, as `load_exact` for an exact one."""
    config = read_config(folder)
    if config["architecture"] == ARCHITECTURE:
        exact = load_exact(folder)
        lines = [f"exact: SHA-256 {exact.sha256}", *certificate_lines(certificate(exact))]
    else:
        loaded = load_lm(folder)
        lines = [_size_line(loaded.model), f"SHA-256 {loaded.sha256}"]
    known = {**config["arguments"], **config["provenance"]}
    return lines + [f"{name}: {value}" for name, value in known.items()]
