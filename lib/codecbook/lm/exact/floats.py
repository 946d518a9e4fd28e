"""`float_tensors`: the float model that an exact one rounds, so that a model need not be stored twice."""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact import spec
from codecbook.lm.exact.export import GELU_FLAT, LOGIT_UNITS, parameter_of
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.layers import NORM_EPSILON


def float_tensors(exact: ExactLM) -> dict[str, torch.Tensor]:
    """Return the parameters of the `RVQTransformer` that computes what an exact model does, without its rounding.

    Weights, float32 by the names of the model's state, are those of the exact model, eight bits with a scale per row;
    activations are neither rounded nor limited. Raises UnsupportedInput: rotary positions: a `TinyGPT` has one table
    where its exact form has two.
    """
    c, arrays = exact.config, {**exact.arrays, **exact.steps()}
    if c.rotary:
        raise UnsupportedInput("A TinyGPT cannot be made from its exact form; keep its floats beside it.")
    found: dict[str, np.ndarray] = {}

    def ratio(step: str, factors: str = "multiplier") -> np.ndarray:
        return arrays[f"{step}.{factors}"] * 2.0 ** -arrays[f"{step}.shift"]

    def add_matrix(step: str, unit: float | np.ndarray) -> None:
        found[step] = arrays[f"{step}.weight"] * ratio(step)[..., None] * unit

    def add_norm(step: str) -> None:
        gains = ratio(step, "gain")
        found[step] = gains * 2.0**spec.UNIT_BITS / math.sqrt(len(gains))

    def add_feed_forward(norm: str, prefix: str, unit: float) -> None:
        inner, outer = _gelu_units(arrays[prefix + "gelu"])
        add_norm(norm)
        add_matrix(prefix + "inner", inner)
        add_matrix(prefix + "outer", unit / outer)

    # all readers of a stream are norms, so its unit matters beside their epsilon alone
    unit, width = math.sqrt(c.dim * NORM_EPSILON / arrays["epsilon"]), c.dim // c.heads
    add_matrix("embedding", unit)
    for prefix in (f"layers.{i}." for i in range(c.layers)):
        query = np.repeat(ratio(prefix + "score") * math.sqrt(width) / LOGIT_UNITS, width)
        value = ratio(prefix + "mix") * 2.0**spec.SHARE_BITS
        add_norm(prefix + "attention_norm")
        add_matrix(prefix + "query_key_value", np.concatenate((query, np.ones_like(query), value))[:, None])
        add_matrix(prefix + "output", unit)
        add_feed_forward(prefix + "feed_forward_norm", prefix, unit)
    add_norm("norm")
    if c.conditioned:
        unit = math.sqrt(c.head_dim * NORM_EPSILON / arrays["head_epsilon"])
        add_matrix("project", unit)
        add_matrix("frame_embedding", unit)
        add_feed_forward("head_norm", "head_", unit)
        add_norm("logits_norm")
    add_matrix("logits", 1 / LOGIT_UNITS)
    found["position_bias"] = arrays["layers.position_bias"] / LOGIT_UNITS
    return {parameter_of(step): torch.from_numpy(array).float() for step, array in found.items()}


def _gelu_units(table: np.ndarray) -> tuple[float, float]:
    """Return the units of a table's inputs and outputs, by least squares: it has thousands of entries, rounded."""
    half = spec.GELU_SIZE // 2
    steps, entries = torch.arange(-half, half, dtype=torch.float64), torch.from_numpy(table.copy())

    def units(log_peak: float) -> tuple[float, float]:
        peak = math.exp(log_peak)
        return max(peak, GELU_FLAT) / (half - 1), peak / spec.ACTIVATION_MAX

    def misfit(log_peak: float) -> float:
        unit_in, unit_out = units(log_peak)
        outputs = torch.nn.functional.gelu(steps * unit_in) / unit_out
        return float((outputs.clamp(-spec.ACTIVATION_MAX, spec.ACTIVATION_MAX) - entries).square().sum())

    start = min(np.linspace(-10, 10, 101), key=misfit)
    best = minimize_scalar(misfit, bounds=(start - 0.2, start + 0.2), method="bounded", options={"xatol": 1e-8})
    return units(best.x)
