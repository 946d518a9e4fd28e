"""The specification as plain numpy: one clip, int64 ``[T, C]`` throughout, and easy to read.

``docs/exact-codec.md`` says the same in prose. The evaluator that computes fast is tested to agree in every bit.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from codecbook.codecs.exact import spec
from codecbook.codecs.exact.spec import ExactNetwork


def rounded(values: np.ndarray, shift: int) -> np.ndarray:
    """Return ``floor((values + 2^(shift - 1)) / 2^shift)``; a shift that is not positive is one to the left."""
    return (values + (1 << (shift - 1))) >> shift if shift > 0 else values << -shift


def saturate(values: np.ndarray) -> np.ndarray:
    """Return values within the range of what goes from step to step."""
    return np.clip(values, -spec.ACTIVATION_MAX, spec.ACTIVATION_MAX)


def curve(name: str, values: np.ndarray, unit: int, output_unit: int) -> np.ndarray:
    """Return ``f`` of values that are not negative, linear between the nodes."""
    nodes = spec.curve_nodes(name)
    step = unit - spec.CURVE_STEP
    values = np.minimum(values, spec.CURVE_END << unit)
    index = values >> step
    slope = np.append(np.diff(nodes), 0)[index]
    return rounded((nodes[index] << step) + slope * (values - (index << step)), spec.CURVE_BITS + step - output_unit)


def tanh(values: np.ndarray, unit: int) -> np.ndarray:
    """Return the hyperbolic tangent in 2^-20."""
    return np.sign(values) * curve("tanh", np.abs(values), unit, spec.STATE_UNIT)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return the logistic function in 2^-20 of a gate's input, as ``(1 + tanh(x / 2)) / 2``."""
    return rounded((1 << spec.STATE_UNIT) + tanh(values, spec.GATE_UNIT + 1), 1)


class ReferenceNetwork:
    """Encodes and decodes one clip of integers."""

    def __init__(self, network: ExactNetwork) -> None:
        self.network = network

    def encode(self, samples: np.ndarray, num_codebooks: int | None = None) -> list[np.ndarray]:
        """Return codes ``[T_k]`` of samples int64 ``[C, S]``, of a codec without segments."""
        latents = run(self.network.encoder, np.asarray(samples, dtype=np.int64).T)
        return self.quantize(latents, num_codebooks)

    def decode(self, codes: Sequence[np.ndarray]) -> np.ndarray:
        """Return samples int64 ``[C, S]`` of codes of leading codebooks."""
        return run(self.network.decoder, self.dequantize(codes)).T

    def quantize(self, latents: np.ndarray, num_codebooks: int | None = None) -> list[np.ndarray]:
        """Return codes of latents ``[T, D]``."""
        quantizer = self.network.quantizer
        if isinstance(quantizer, spec.ScalarQuantizer):
            scalars = run(quantizer.project, latents)
            digits = (scalars[:, :, None] >= quantizer.thresholds).sum(axis=2)
            return [(digits * np.append(1, np.cumprod(quantizer.radix)[:-1])).sum(axis=1)]
        codes = []
        for level in quantizer.levels[:num_codebooks]:
            compared = run(level.project, latents)
            directions = level.directions if level.directions.size else level.table
            scores = 2 * (compared @ directions.T.astype(np.int64)) - level.norms
            codes.append(scores.argmax(axis=1))  # the first of equals
            latents = saturate(latents - level.table[codes[-1]].repeat(level.stride, axis=0))
        return codes

    def dequantize(self, codes: Sequence[np.ndarray]) -> np.ndarray:
        """Return latents ``[T, D]``."""
        quantizer = self.network.quantizer
        if isinstance(quantizer, spec.ScalarQuantizer):
            places = np.append(1, np.cumprod(quantizer.radix)[:-1])
            return run(quantizer.expand, codes[0][:, None] // places % quantizer.radix)
        total: Any = 0
        for level, values in zip(quantizer.levels, codes, strict=False):
            total = total + level.table[values].astype(np.int64).repeat(level.stride, axis=0)
        return saturate(total)


def run(steps: Sequence[spec.Step], x: np.ndarray) -> np.ndarray:
    """Apply steps to ``[T, C]``."""
    for step in steps:
        x = saturate(_STEPS[type(step)](step, x))
    return x


def _conv(step: spec.Conv, x: np.ndarray) -> np.ndarray:
    T, frames = len(x), math.ceil(len(x) / step.stride)
    sums = np.zeros((frames, len(step.bias)), dtype=np.int64) + step.bias
    for j in range(step.weight.shape[1]):
        place = np.arange(frames) * step.stride - step.before + j * step.dilation
        if step.reflect:
            place = np.where(place < 0, -place, np.where(place >= T, 2 * (T - 1) - place, place))
        inside = (place >= 0) & (place < T)
        seen, weight = np.where(inside[:, None], x[np.where(inside, place, 0)], 0), step.weight[:, j].T.astype(np.int64)
        sums += seen * weight if len(weight) < seen.shape[1] else seen @ weight
    return rounded(sums, step.shift)


def _up_conv(step: spec.UpConv, x: np.ndarray) -> np.ndarray:
    stride, _, taps, _ = step.weight.shape
    source, phase = np.divmod(np.arange(len(x) * stride) + step.crop, stride)
    sums = np.zeros((len(source), len(step.bias)), dtype=np.int64) + step.bias
    for p in range(stride):
        for j in range(taps):
            place = source[phase == p] - j
            inside = (place >= 0) & (place < len(x))
            inputs = np.where(inside[:, None], x[np.where(inside, place, 0)], 0)
            sums[phase == p] += inputs @ step.weight[p, :, j].T.astype(np.int64)
    return rounded(sums, step.shift)


def _curve(step: spec.Curve, x: np.ndarray) -> np.ndarray:
    if step.name == "tanh":
        return tanh(x, step.input_unit)
    return np.where(x > 0, x, -curve("elu", np.maximum(-x, 0), step.unit, step.unit))


def _snake(step: spec.Snake, x: np.ndarray) -> np.ndarray:
    turns = x * step.turns.astype(np.int64)
    phase = (turns >> (step.unit + 24 - spec.PHASE_BITS)) % (1 << spec.PHASE_BITS)
    index, rest = phase >> spec.SINE_STEP, phase % (1 << spec.SINE_STEP)
    nodes = spec.sine_nodes()
    square = rounded((nodes[index] << spec.SINE_STEP) + (nodes[index + 1] - nodes[index]) * rest, spec.SINE_STEP)
    return x + rounded(square * step.inverse, spec.CURVE_BITS + step.inverse_unit - step.unit)


def _group_norm(step: spec.GroupNorm, x: np.ndarray) -> np.ndarray:
    multiplier, offset = norm_factors(step, x.size, int(x.sum()), sum(int(v) for v in (x * x).sum(axis=0)))
    return rounded(x * np.array(multiplier) + np.array(offset), spec.NORM_UNIT)


def norm_factors(step: spec.GroupNorm, count: int, total: int, squares: int) -> tuple[list[int], list[int]]:
    """Return by channel what inputs are multiplied by, and what is added then, both in 2^-20 of the output.

    `count` inputs have the sum `total` and the sum of squares `squares`.
    """
    variance = ((count * squares - total * total) << spec.EPSILON_BITS) + count * count * step.epsilon
    deviation = math.isqrt(variance)  # in count 2^10 units of the input
    scale = count << (step.unit + spec.EPSILON_BITS // 2)
    limited = [min(max(int(g) * scale // deviation, -spec.NORM_MAX), spec.NORM_MAX) for g in step.gain]
    offsets = [
        (int(offset) << step.unit) - multiplier * total // count
        for offset, multiplier in zip(step.offset, limited, strict=True)
    ]
    return limited, offsets


def _lstm(step: spec.Lstm, x: np.ndarray) -> np.ndarray:
    width = step.hidden_weight.shape[1]
    hidden, cell, outputs = np.zeros(width, dtype=np.int64), np.zeros(width, dtype=np.int64), []
    weight, recurrent = step.input_weight.astype(np.int64), step.hidden_weight.astype(np.int64)
    for frame in x:
        gates = saturate(rounded(weight @ frame + recurrent @ hidden + step.bias, step.shift))
        i, f, g, o = np.split(gates, 4)
        kept = sigmoid(f) * cell + sigmoid(i) * tanh(g, spec.GATE_UNIT)
        cell = np.clip(rounded(kept, spec.STATE_UNIT), -spec.CELL_MAX, spec.CELL_MAX)
        hidden = rounded(sigmoid(o) * tanh(cell, spec.STATE_UNIT), spec.STATE_UNIT)
        outputs.append(hidden)
    return np.stack(outputs)


def _residual(step: spec.Residual, x: np.ndarray) -> np.ndarray:
    block, shortcut = run(step.block, x), run(step.shortcut, x)
    return rounded(block, -step.block_shift) + rounded(shortcut, -step.shortcut_shift)


_STEPS: dict[type, Any] = {
    spec.Conv: _conv,
    spec.UpConv: _up_conv,
    spec.Curve: _curve,
    spec.Snake: _snake,
    spec.GroupNorm: _group_norm,
    spec.Lstm: _lstm,
    spec.Residual: _residual,
}
