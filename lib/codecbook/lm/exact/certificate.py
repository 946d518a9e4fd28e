"""`certificate`: proof, from a model's arrays alone, that no step of exact evaluation leaves its range.

Tests show that evaluators agree on the tokens of a test; these bounds hold for every sequence of tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.arithmetic import (
    ACTIVATION_MAX,
    EXP2_BITS,
    MAX_SHIFT,
    MIN_SHIFT,
    MULTIPLIER_LIMIT,
    PRODUCT_LIMIT,
    RECIPROCAL_BITS,
    ROTATION_BITS,
    ROTATION_INPUT_MAX,
    SHARE_BITS,
    STREAM_MAX,
    UNIT_BITS,
)
from codecbook.lm.exact.model import ExactLM

INT32_LIMIT = 1 << 31
DOUBLE_LIMIT = 1 << 53
SCORE_LIMIT = 1 << 30
"""So that the distance of two scores is an int32."""


@dataclass(frozen=True)
class Bound:
    """What one kind of number can reach.

    Attributes:
        name: The step.
        greatest: Greatest absolute value that can occur, in the step's integer unit.
        limit: The absolute value must stay below this.
        reason: What would break.
    """

    name: str
    greatest: int
    limit: int
    reason: str

    @property
    def holds(self) -> bool:
        """Whether the range is kept."""
        return self.greatest < self.limit


def certificate(model: ExactLM) -> tuple[Bound, ...]:
    """Return a bound for every step of the evaluation whose range depends on the model.

    Products and quotients in between keep theirs in any model, as their factors do: ``docs/exact-lm.md`` lists them.

    Raises:
        UnsupportedInput: A bound does not hold, so that evaluators might differ; the message names it.
    """
    bounds = (
        *_factor_bounds(model),
        *_norm_bounds(model),
        *_product_bounds(model),
        *_attention_bounds(model),
        *_stream_bounds(model),
    )
    broken = [bound for bound in bounds if not bound.holds]
    if broken:
        worst = broken[0]
        raise UnsupportedInput(
            f"{worst.name} can reach {worst.greatest}, and {worst.reason} only below {worst.limit} "
            f"({len(broken)} bound(s) broken); the model cannot be evaluated exactly, export it again."
        )
    return bounds


def certificate_lines(bounds: tuple[Bound, ...]) -> list[str]:
    """Return a certificate as lines of text, one per bound: name, share of the limit that is used, limit."""
    return [
        f"{bound.name:48s} {bound.greatest / bound.limit:8.4f} of 2^{np.log2(bound.limit):.4g}: {bound.reason}"
        for bound in bounds
    ]


def _greatest(array: np.ndarray) -> int:
    return max(int(array.max(initial=0)), -int(array.min(initial=0)))


def _factor_bounds(model: ExactLM) -> list[Bound]:
    """Bound the arrays themselves: multipliers, gains, shifts, epsilons, tables."""
    bounds = []
    for name, array in model.arrays.items():
        if name.endswith((".multiplier", ".gain")):
            bounds.append(Bound(name, _greatest(array), MULTIPLIER_LIMIT, "requantisation is exact in float64"))
        elif name.endswith(".shift"):
            outside = max(int(array.max()) - MAX_SHIFT, MIN_SHIFT - int(array.min()), 0)
            bounds.append(Bound(f"{name} beyond {MIN_SHIFT}..{MAX_SHIFT}", outside, 1, "shifts are defined"))
        elif name.endswith("epsilon"):
            bounds.append(Bound(f"{name} below 1", max(0, 1 - int(array[0])), 1, "the norm's root is positive"))
        elif name.endswith(("gelu", ".weight")):
            bounds.append(Bound(name, _greatest(array), ACTIVATION_MAX + 1, "int8 products have their bound"))
    return bounds


def _norm_bounds(model: ExactLM) -> list[Bound]:
    """Bound the results of the norms, before they are limited to activations.

    The root is at least the greatest element, so an element times the reciprocal is at most 2^40, a unit 2^20.
    """
    names = [name.removesuffix(".gain") for name in model.arrays if name.endswith(".gain")]
    reached = {name: _after(model, name, np.array(1 << UNIT_BITS), "gain") for name in names}
    return [Bound(f"{name}: result", reached[name], INT32_LIMIT, "it is an int32") for name in names]


def _rows(model: ExactLM) -> dict[str, np.ndarray]:
    """Return, by matrix, the greatest sum of products that each row can reach, int64."""
    tables = ("embedding", "frame_embedding")
    return {
        name.removesuffix(".weight"): np.abs(array.astype(np.int16)).sum(axis=-1, dtype=np.int64) * ACTIVATION_MAX
        for name, array in model.arrays.items()
        if name.endswith(".weight") and name.removesuffix(".weight") not in tables
    }


def _product_bounds(model: ExactLM) -> list[Bound]:
    return [
        Bound(f"{name}: sum of products", int(rows.max()), PRODUCT_LIMIT, "float32 adds up exactly")
        for name, rows in _rows(model).items()
    ]


def _after(model: ExactLM, name: str, greatest: np.ndarray, factor: str = "multiplier") -> int:
    """Return what requantisation makes of the greatest absolute values of a step."""
    shifts = model.arrays[f"{name}.shift"].astype(np.int64)
    multiplier = np.abs(model.arrays[f"{name}.{factor}"].astype(np.int64))
    shift = np.clip(shifts, MIN_SHIFT, MAX_SHIFT).reshape(-1, *([1] * (multiplier.ndim - 1)))
    return int((((greatest * multiplier) >> shift) + 1).max(initial=0))


def _attention_bounds(model: ExactLM) -> list[Bound]:
    config = model.config
    head_width = config.dim // config.heads
    products = head_width * ACTIVATION_MAX**2
    bias = 0 if config.rotary else _greatest(model.arrays["layers.position_bias"])
    score = _after(model, "layers.score", np.array(products)) + bias
    # each weight is rounded up by at most half a unit
    shares = (1 << SHARE_BITS) + config.window_frames // 2 + 1
    mixed = shares * ACTIVATION_MAX
    bounds = [
        Bound("attention: query by key", products, PRODUCT_LIMIT, "float32 adds up exactly"),
        Bound("attention: scores", score, SCORE_LIMIT, "their distances are int32"),
        Bound(
            "attention: sum of powers",
            config.window_frames << EXP2_BITS,
            1 << RECIPROCAL_BITS,
            "the reciprocal is positive",
        ),
        Bound("attention: weighted values", mixed, PRODUCT_LIMIT, "float32 adds up exactly"),
        Bound("attention: mixed", _after(model, "layers.mix", np.array(mixed)), INT32_LIMIT, "it is an int32"),
    ]
    if config.rotary:
        tables = max(_greatest(model.arrays[f"rotation.{name}"]) for name in ("cosine", "sine"))
        turned = 2 * ROTATION_INPUT_MAX * tables + (1 << (ROTATION_BITS + 4))
        bounds.append(Bound("attention: rotation", turned, INT32_LIMIT, "it is an int32"))
    return bounds


def _stream_bounds(model: ExactLM) -> list[Bound]:
    config, rows = model.config, _rows(model)

    def linear(name: str) -> int:
        return _after(model, name, rows[name])

    def table(name: str) -> int:
        return _after(model, name, np.array(ACTIVATION_MAX))

    def squares(width: int, epsilon: str) -> int:
        return width * STREAM_MAX**2 + int(model.arrays[epsilon][0])

    bounds = [
        Bound("embedding: sum of rows", config.num_codebooks * table("embedding"), INT32_LIMIT, "it is an int32"),
        Bound("norm: sum of squares", squares(config.dim, "epsilon"), DOUBLE_LIMIT, "float64 holds it"),
    ]
    in_stream: list[tuple[str, Callable[[], int]]] = [
        ("layers.query_key_value", lambda: linear("layers.query_key_value")),
        ("layers.output", lambda: STREAM_MAX + linear("layers.output")),
        ("layers.inner", lambda: linear("layers.inner")),
        ("layers.outer", lambda: STREAM_MAX + linear("layers.outer")),
        ("logits", lambda: linear("logits")),
    ]
    if config.conditioned:
        known = (config.num_codebooks - 1) * table("frame_embedding")
        in_stream += [
            ("project", lambda: linear("project") + known),
            ("head_inner", lambda: linear("head_inner")),
            ("head_outer", lambda: STREAM_MAX + linear("head_outer")),
        ]
        squared = squares(config.head_dim, "head_epsilon")
        bounds.append(Bound("head norms: sum of squares", squared, DOUBLE_LIMIT, "float64 holds it"))
    return bounds + [Bound(f"{name}: result", bound(), INT32_LIMIT, "it is an int32") for name, bound in in_stream]
