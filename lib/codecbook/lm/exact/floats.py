"""`float_tensors`: the float model that an exact one rounds, so that a model need not be stored twice."""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.export import GELU_FLAT, LOGIT_UNITS
from codecbook.lm.exact.spec import ACTIVATION_MAX, GELU_SIZE, SHARE_BITS, UNIT_BITS, ExactLM
from codecbook.lm.layers import NORM_EPSILON


def float_tensors(exact: ExactLM) -> dict[str, torch.Tensor]:
    """Return the parameters of the `RVQTransformer` that computes what an exact model does, without its rounding.

    Weights are those of the exact model, eight bits with a scale per row; activations are neither rounded nor limited.

    Returns:
        float32 tensors by the names of the model's state.

    Raises:
        UnsupportedInput: Rotary positions: a `TinyGPT` has one table where its exact form has two.
    """
    c, arrays = exact.config, exact.arrays
    if c.rotary:
        raise UnsupportedInput("A TinyGPT cannot be made from its exact form; keep its floats beside it.")

    def ratio(name: str, factors: str = "multiplier") -> np.ndarray:
        values, shift = arrays[f"{name}.{factors}"], arrays[f"{name}.shift"]
        return values * 2.0 ** -shift.reshape(-1, *(1,) * (values.ndim - 1))

    def matrix(name: str, unit: float | np.ndarray) -> np.ndarray:
        return arrays[f"{name}.weight"] * ratio(name)[..., None] * unit

    def gain(name: str) -> np.ndarray:
        gains = ratio(name, "gain")
        return gains * 2.0**UNIT_BITS / math.sqrt(gains.shape[-1])

    # all readers of a stream are norms, so its unit matters beside their epsilon alone
    unit = math.sqrt(c.dim * NORM_EPSILON / arrays["epsilon"].item())
    width = c.dim // c.heads
    query = np.repeat(ratio("layers.score") * math.sqrt(width) / LOGIT_UNITS, width, axis=-1)
    value = ratio("layers.mix") * 2.0**SHARE_BITS
    gelus = [_gelu_units(table) for table in arrays["layers.gelu"]]
    inner, outer = (np.array(units)[:, None, None] for units in zip(*gelus, strict=True))
    layers = {
        "attention_norm": gain("layers.attention_norm"),
        "attention.query_key_value": matrix(
            "layers.query_key_value", np.concatenate((query, np.ones_like(query), value), axis=-1)[..., None]
        ),
        "attention.output": matrix("layers.output", unit),
        "feed_forward_norm": gain("layers.feed_forward_norm"),
        "feed_forward.inner": matrix("layers.inner", inner),
        "feed_forward.output": matrix("layers.outer", unit / outer),
    }
    found = {f"blocks.{i}.{name}": part for name, parts in layers.items() for i, part in enumerate(parts)}
    found |= {
        "embedding": matrix("embedding", unit),
        "position_bias": arrays["layers.position_bias"] / LOGIT_UNITS,
        "norm": gain("norm"),
    }
    if c.conditioned:
        unit = math.sqrt(c.head_dim * NORM_EPSILON / arrays["head_epsilon"].item())
        inner, outer = _gelu_units(arrays["head_gelu"])
        found |= {
            "project": matrix("project", unit),
            "frame_embedding": matrix("frame_embedding", unit),
            "head_norm": gain("head_norm"),
            "head_feed_forward.inner": matrix("head_inner", inner),
            "head_feed_forward.output": matrix("head_outer", unit / outer),
            "logits_norm": gain("logits_norm"),
        }
    tensors = {f"{name}.weight": torch.from_numpy(array).float() for name, array in found.items()}
    return tensors | {"head_weight": torch.from_numpy(matrix("logits", 1 / LOGIT_UNITS)).float()}


def _gelu_units(table: np.ndarray) -> tuple[float, float]:
    """Return the units of a table's inputs and outputs, by least squares: it has thousands of entries, rounded."""
    half = GELU_SIZE // 2
    steps, entries = torch.arange(-half, half, dtype=torch.float64), torch.from_numpy(table.copy())

    def units(log_peak: float) -> tuple[float, float]:
        peak = math.exp(log_peak)
        return max(peak, GELU_FLAT) / (half - 1), peak / ACTIVATION_MAX

    def misfit(log_peak: float) -> float:
        unit_in, unit_out = units(log_peak)
        outputs = torch.nn.functional.gelu(steps * unit_in) / unit_out
        return float((outputs.clamp(-ACTIVATION_MAX, ACTIVATION_MAX) - entries).square().sum())

    start = min(np.linspace(-10, 10, 101), key=misfit)
    best = minimize_scalar(misfit, bounds=(start - 0.2, start + 0.2), method="bounded", options={"xatol": 1e-8})
    return units(best.x)
