"""`certificate`: proof, from a model's arrays alone, that no step of exact evaluation leaves its range.

Tests show that evaluators agree on the tokens of a test; these bounds hold for every sequence of tokens.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact import spec
from codecbook.lm.exact.spec import ExactLM


@dataclass(frozen=True)
class Bound:
    """What one kind of number can reach."""

    name: str  # of the step
    greatest: int  # greatest absolute value that can occur, in the step's integer unit
    limit: int  # the absolute value must stay below this
    reason: str  # what would break


def certificate(model: ExactLM) -> tuple[Bound, ...]:
    """Return a bound for every step of the evaluation whose range depends on the model.

    Products and quotients in between keep theirs in any model, as their factors do: ``docs/exact-lm.md`` lists them.
    Raises UnsupportedInput: a bound does not hold, so that evaluators might differ; the message names it.
    """
    # by matrix, the greatest sum of products that each row can reach
    sums = {
        name.removesuffix(".weight"): np.abs(rows.astype(np.int16)).sum(axis=-1, dtype=np.int64) * spec.ACTIVATION_MAX
        for name, rows in model.arrays.items()
        if name.endswith(".weight") and "embedding" not in name
    }
    bounds = (
        *_factor_bounds(model),
        *_norm_bounds(model),
        *(_adds_up(f"{name}: sum of products", int(rows.max())) for name, rows in sums.items()),
        *_attention_bounds(model),
        *_stream_bounds(model, sums),
    )
    broken = [bound for bound in bounds if bound.greatest >= bound.limit]
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


def _adds_up(name: str, greatest: int) -> Bound:
    return Bound(name, greatest, spec.PRODUCT_LIMIT, "float32 adds up exactly")


def _is_int32(name: str, greatest: int) -> Bound:
    return Bound(name, greatest, 1 << 31, "it is an int32")


def _greatest(array: np.ndarray) -> int:
    return max(int(array.max(initial=0)), -int(array.min(initial=0)))


def _after(model: ExactLM, name: str, greatest: np.ndarray | int, factor: str = "multiplier") -> int:
    """Return what requantisation makes of the greatest absolute values of a step."""
    factors = np.abs(model.arrays[f"{name}.{factor}"].astype(np.int64))
    shifts = np.clip(model.arrays[f"{name}.shift"].astype(np.int64), spec.MIN_SHIFT, spec.MAX_SHIFT)
    return int((((greatest * factors) >> shifts.reshape(-1, *[1] * (factors.ndim - 1))) + 1).max(initial=0))


def _factor_bounds(model: ExactLM) -> Iterator[Bound]:
    """Bound the arrays themselves: multipliers, gains, shifts, epsilons, tables."""
    low, high = spec.MIN_SHIFT, spec.MAX_SHIFT
    for name, array in model.arrays.items():
        if name.endswith((".multiplier", ".gain")):
            yield Bound(name, _greatest(array), spec.MULTIPLIER_LIMIT, "requantisation is exact in float64")
        elif name.endswith(".shift"):
            outside = max(int(array.max()) - high, low - int(array.min()), 0)
            yield Bound(f"{name} beyond {low}..{high}", outside, 1, "shifts are defined")
        elif name.endswith("epsilon"):
            yield Bound(f"{name} below 1", max(0, 1 - int(array[0])), 1, "the norm's root is positive")
        elif name.endswith(("gelu", ".weight")):
            yield Bound(name, _greatest(array), spec.ACTIVATION_MAX + 1, "int8 products have their bound")


def _norm_bounds(model: ExactLM) -> Iterator[Bound]:
    """Bound the results of the norms, before they are limited to activations.

    The root is at least the greatest element, so an element times the reciprocal is at most 2^40, a unit 2^20.
    """
    for norm in [name.removesuffix(".gain") for name in model.arrays if name.endswith(".gain")]:
        yield _is_int32(f"{norm}: result", _after(model, norm, 1 << spec.UNIT_BITS, "gain"))


def _attention_bounds(model: ExactLM) -> Iterator[Bound]:
    c, arrays = model.config, model.arrays
    products = c.dim // c.heads * spec.ACTIVATION_MAX**2
    bias = 0 if c.rotary else _greatest(arrays["layers.position_bias"])
    scores = _after(model, "layers.score", products) + bias
    powers = c.window_frames << spec.EXP2_BITS
    # each weight is rounded up by at most half a unit
    mixed = ((1 << spec.SHARE_BITS) + c.window_frames // 2 + 1) * spec.ACTIVATION_MAX
    yield _adds_up("attention: query by key", products)
    yield Bound("attention: scores", scores, 1 << 30, "their distances are int32")
    yield Bound("attention: sum of powers", powers, 1 << spec.RECIPROCAL_BITS, "the reciprocal is positive")
    yield _adds_up("attention: weighted values", mixed)
    yield _is_int32("attention: mixed", _after(model, "layers.mix", mixed))
    if c.rotary:
        tables = max(_greatest(arrays[f"rotation.{name}"]) for name in ("cosine", "sine"))
        yield _is_int32("attention: rotation", 2 * spec.ROTATION_INPUT_MAX * tables + (1 << spec.ROTATION_SHIFT))


def _stream_bounds(model: ExactLM, sums: Mapping[str, np.ndarray]) -> Iterator[Bound]:
    """Bound the results of matrices, and the streams that they are added to."""
    c, arrays = model.config, model.arrays
    added = {"layers.output": spec.STREAM_MAX, "layers.outer": spec.STREAM_MAX, "head_outer": spec.STREAM_MAX}
    added["logits"] = spec.BIAS_MAX >> spec.BIAS_BITS  # of a stream that adapts
    squares = c.dim * spec.STREAM_MAX**2 + int(arrays["epsilon"][0])
    yield _is_int32("embedding: sum of rows", c.num_codebooks * _after(model, "embedding", spec.ACTIVATION_MAX))
    yield Bound("norm: sum of squares", squares, 1 << 53, "float64 holds it")
    if c.conditioned:
        added["project"] = (c.num_codebooks - 1) * _after(model, "frame_embedding", spec.ACTIVATION_MAX)
        squares = c.head_dim * spec.STREAM_MAX**2 + int(arrays["head_epsilon"][0])
        yield Bound("head norms: sum of squares", squares, 1 << 53, "float64 holds it")
    for name, rows in sums.items():
        yield _is_int32(f"{name}: result", added.get(name, 0) + _after(model, name, rows))
