"""What agreement costs in rate: coarser grids against integers."""

import numpy as np
import pandas as pd

from codecbook.coding.counts import cdf_grid
from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import BASELINE
from codecbook.probes.determinism.coders import CODERS
from codecbook.probes.determinism.decode import ideal_bits


def float_bits(logits: np.ndarray, codes: np.ndarray) -> float:
    """Return the cross-entropy in bits of codes ``[N, T, K]`` under float logits ``[N, T, K, V]``, summed up."""
    total = 0.0
    for rows, chosen in zip(logits.astype(np.float64), codes, strict=True):
        top = rows.max(axis=-1, keepdims=True)
        normaliser = np.log(np.exp(rows - top).sum(axis=-1)) + top[..., 0]
        total += float((normaliser - np.take_along_axis(rows, chosen[..., None], axis=-1)[..., 0]).sum())
    return total / np.log(2)


def rate_table(
    case: Case, steps: tuple[float, ...] = (1 / 128, 1 / 64, 1 / 16, 1 / 4, 1 / 2, 1.0)
) -> pd.DataFrame:
    """Return bits per token of the baseline's coders and of coarser grids (``acv=4`` otherwise), over float logits.

    All on the tokens that coders of floats have computed.

    Args:
        case: With the baseline's answers.
        steps: Grid steps in nats.

    Returns:
        Columns ``coder``, ``step_nats`` (NaN for a coder without a grid), ``bits_per_token``, ``overhead_percent``
        (against the cross-entropy of the float logits).

    Raises:
        UnsupportedInput: The baseline was not run yet.
    """
    if not case.baseline.is_dir():
        raise UnsupportedInput(
            f"{case.folder} has no answers of a baseline; run its first cell with run_matrix."
        )
    codes, logits = case.codes_for("float32", BASELINE), np.load(case.baseline / "logits_float32.npy")
    grid = CODERS["grid128"]
    bits = {("float logits, ideal", np.nan): float_bits(logits, codes)}
    for name in case.coders:
        dialect = CODERS[name].dialect
        cdf = np.load(case.baseline / f"cdf_{name}.npy", mmap_mode="r")[: len(codes)]
        bits[name, dialect.qstep if dialect else np.nan] = ideal_bits(CODERS[name], cdf, codes)
    columns = logits.reshape(-1, logits.shape[-1])[:, :, None]
    for step in steps:
        cdf = cdf_grid(columns, qstep=step)[:, 0].reshape(logits.shape)
        bits[f"grid {step:g}", step] = ideal_bits(grid, cdf, codes)
    ideal = next(iter(bits.values()))
    return pd.DataFrame(
        [
            {"coder": name, "step_nats": step, "bits_per_token": value / codes.size,
             "overhead_percent": 100 * (value / ideal - 1)}
            for (name, step), value in bits.items()
        ]
    )  # fmt: skip
