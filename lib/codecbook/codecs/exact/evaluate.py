"""`Evaluator`: exact evaluation in torch, batched, whole or in pieces, on any device.

Tensors are ``[B, T, C]``. `Float64` carries integers as float64: all sums stay below 2^53 (the certificate), so a matrix
product is exact in whatever order a library adds it up, and so are products, floors and comparisons. Convolutions are
products of gathered windows, never a library's convolution, which might take a Fourier transform. Where a device has no
float64, `SplitFloat32` carries int64, and products go as digits of at most 7 bits through float32, whose sums stay
below 2^24; bfloat16 and TF32 hold such digits too.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codecbook.codecs.exact import spec
from codecbook.codecs.exact.reference import norm_factors
from codecbook.codecs.exact.spec import ExactNetwork


class Float64:
    """Integers as float64."""

    dtype = torch.float64

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def tensor(self, values: np.ndarray) -> Tensor:
        """Return integers on the device."""
        return torch.tensor(values.astype(np.int64)).to(self.dtype).to(self.device)

    def matrix(self, rows: np.ndarray) -> Any:
        """Return what `product` takes of weights ``[O, N]``."""
        return self.tensor(rows.T)

    def product(self, x: Tensor, matrix: Any) -> Tensor:
        """Return ``[..., O]`` of ``[..., N]``."""
        with torch.autocast(x.device.type, enabled=False):
            return torch.matmul(x, matrix)

    def down(self, x: Tensor, shift: int) -> Tensor:
        """Return the floor of ``x / 2^shift``, in the place of `x`."""
        return x.mul_(2.0**-shift).floor_()

    def saturate(self, x: Tensor, limit: int = spec.ACTIVATION_MAX) -> Tensor:
        """Limit `x` in its place."""
        return x.clamp_(-limit, limit)


class SplitFloat32(Float64):
    """Integers as int64, multiplied as digits in float32."""

    dtype = torch.int64

    def matrix(self, rows: np.ndarray) -> Any:
        return [self.tensor(part.T).float() for part in weight_digits(rows)]

    def product(self, x: Tensor, matrix: Any) -> Tensor:
        bits, count = spec.INPUT_DIGITS
        total: Any = 0
        for i in range(count):
            rest = (x + (1 << (bits - 1))) >> bits  # what is left is -2^(bits - 1) .. 2^(bits - 1) - 1
            digit = (x - (rest << bits) if i < count - 1 else x).float()
            for j, part in enumerate(matrix):
                with torch.autocast(x.device.type, enabled=False):
                    total = total + (torch.matmul(digit, part).to(torch.int64) << (bits * i + spec.WEIGHT_DIGITS[0] * j))
            x = rest
        return total

    def down(self, x: Tensor, shift: int) -> Tensor:
        return x >> shift

    def saturate(self, x: Tensor, limit: int = spec.ACTIVATION_MAX) -> Tensor:
        x = torch.where(x < -limit, -limit, x)
        return torch.where(x > limit, limit, x)


def weight_digits(rows: np.ndarray) -> list[np.ndarray]:
    """Return integers as digits, the lowest first, int64."""
    bits, count = spec.WEIGHT_DIGITS
    rest, digits = rows.astype(np.int64), []
    for _ in range(count - 1):
        above = (rest + (1 << (bits - 1))) >> bits
        digits.append(rest - (above << bits))
        rest = above
    return [*digits, rest]


def carrier_of(device: str | torch.device) -> Float64:
    """Return what is exact on a device: float64 where there is one."""
    device = torch.device(device)
    return (Float64 if device.type in ("cpu", "cuda") else SplitFloat32)(device)


class Evaluator:
    """Runs the steps of a network; the same integers as `codecbook.codecs.exact.reference`."""

    def __init__(self, device: str | torch.device = "cpu", carrier: Float64 | None = None) -> None:
        self.numbers = carrier or carrier_of(device)
        self._prepared: dict[int, Any] = {}  # constants of a step or a level, by its identity
        self._kept: list[Any] = []  # so that identities stay taken

    def run(self, steps: Iterable[spec.Step], x: Tensor, states: dict[int, Any] | None = None) -> Tensor:
        """Apply steps to ``[B, T, C]``.

        With `states`, ``{}`` at first, `x` is the next piece of a signal. Steps that look ahead cannot take pieces, and
        all pieces but the last must be multiples of the total stride.
        """
        for step in steps:
            x = getattr(self, f"_{type(step).__name__.lower()}")(step, x, states)
        return x

    def sums(self, step: spec.Conv | spec.UpConv, x: Tensor) -> Tensor:
        """Return the sums of a convolution before they are shifted."""
        run = self._conv_sums if isinstance(step, spec.Conv) else self._upconv_sums
        return run(step, x, None, *self._constants(step, self._convolution))

    def _constants(self, part: Any, make: Callable[[Any], Any]) -> Any:
        if id(part) not in self._prepared:
            self._prepared[id(part)] = make(part)
            self._kept.append(part)
        return self._prepared[id(part)]

    def _round(self, x: Tensor, shift: int) -> Tensor:
        if shift <= 0:
            return x * (1 << -shift)
        return self.numbers.down(x + (1 << (shift - 1)), shift)

    def _convolution(self, step: spec.Conv | spec.UpConv) -> tuple[Any, Tensor]:
        if isinstance(step, spec.Conv):
            rows = step.weight.reshape(len(step.bias), -1)
            bias = step.bias
        else:  # windows run forward in time, taps backward
            rows = step.weight[:, :, ::-1].reshape(-1, step.weight[0, 0].size)
            bias = np.tile(step.bias, len(step.weight))
        return self.numbers.matrix(rows), self.numbers.tensor(bias)

    def _conv(self, step: spec.Conv, x: Tensor, states: dict[int, Any] | None) -> Tensor:
        sums = self._conv_sums(step, x, states, *self._constants(step, self._convolution))
        return self.numbers.saturate(self._round(sums, step.shift))

    def _conv_sums(
        self, step: spec.Conv, x: Tensor, states: dict[int, Any] | None, matrix: Any, bias: Tensor
    ) -> Tensor:
        taps, T = step.weight.shape[1], x.shape[1]
        span = (taps - 1) * step.dilation + 1
        frames = -(-T // step.stride)
        after = (frames - 1) * step.stride + span - step.before - T
        begins = states is None or id(step) not in states
        first = _beyond(x, step.before, step.reflect, ahead=False) if begins else states[id(step)]  # type: ignore[index]
        parts = [first, x] if step.before else [x]
        if after > 0:
            parts.append(_beyond(x, after, step.reflect, ahead=True))
        whole = torch.cat(parts, dim=1) if len(parts) > 1 else x
        if states is not None and step.before:
            states[id(step)] = whole[:, T : T + step.before]
        return self.numbers.product(_windows(whole, frames, taps, step.stride, step.dilation), matrix) + bias

    def _upconv(self, step: spec.UpConv, x: Tensor, states: dict[int, Any] | None) -> Tensor:
        sums = self._upconv_sums(step, x, states, *self._constants(step, self._convolution))
        return self.numbers.saturate(self._round(sums, step.shift))

    def _upconv_sums(
        self, step: spec.UpConv, x: Tensor, states: dict[int, Any] | None, matrix: Any, bias: Tensor
    ) -> Tensor:
        stride, channels, taps, _ = step.weight.shape
        B, T, _ = x.shape
        begins = states is None or id(step) not in states
        first = x.new_zeros(B, taps - 1, x.shape[2]) if begins else states[id(step)]  # type: ignore[index]
        ahead = x.new_zeros(B, -(-step.crop // stride), x.shape[2])
        whole = torch.cat((first, x, ahead), dim=1)
        if states is not None:
            states[id(step)] = whole[:, T : T + taps - 1]
        frames = whole.shape[1] - taps + 1
        sums = self.numbers.product(_windows(whole, frames, taps, 1, 1), matrix) + bias
        return sums.view(B, frames * stride, channels)[:, step.crop : step.crop + T * stride]

    def _curve(self, step: spec.Curve, x: Tensor, states: Any) -> Tensor:
        if step.name == "tanh":
            return self._tanh(x, step.input_unit)
        is_negative = x < 0
        bent = self._nodes("elu", torch.where(is_negative, -x, 0), step.unit, step.unit)
        return torch.where(is_negative, -bent, x)

    def _tanh(self, x: Tensor, unit: int) -> Tensor:
        return x.sign() * self._nodes("tanh", x.abs(), unit, spec.STATE_UNIT)

    def _nodes(self, name: str, a: Tensor, unit: int, output_unit: int) -> Tensor:
        """Return a curve at `a`, 0 or more, as ``(offset[i] + slope[i] a) / 2^shift``, half included in the offset."""
        key = (name, unit, output_unit)
        if key not in self._prepared:
            nodes, step = spec.curve_nodes(name), unit - spec.CURVE_STEP
            slopes, shift = np.append(np.diff(nodes), 0), spec.CURVE_BITS + step - output_unit
            offsets = ((nodes - slopes * np.arange(len(nodes))) << step) + (1 << (shift - 1))
            self._prepared[key] = self.numbers.tensor(offsets), self.numbers.tensor(slopes), step, shift
        offsets, slopes, step, shift = self._prepared[key]
        flat = torch.where(a > spec.CURVE_END << unit, spec.CURVE_END << unit, a).reshape(-1)
        index = self.numbers.down(flat.clone(), step).to(torch.int32)
        values = slopes.index_select(0, index).mul_(flat).add_(offsets.index_select(0, index))
        return self.numbers.down(values, shift).view(a.shape)

    def _snake(self, step: spec.Snake, x: Tensor, states: Any) -> Tensor:
        turns, inverse, nodes, slopes = self._constants(step, self._sine)
        down = self.numbers.down
        phase = down(x * turns, step.unit + 24 - spec.PHASE_BITS)
        phase = phase - down(phase.clone(), spec.PHASE_BITS) * (1 << spec.PHASE_BITS)
        index = down(phase.clone(), spec.SINE_STEP)
        rest = (phase - index * (1 << spec.SINE_STEP)).view(-1)
        index = index.to(torch.int32).view(-1)
        square = slopes.index_select(0, index).mul_(rest).add_(nodes.index_select(0, index) * (1 << spec.SINE_STEP))
        square = self._round(square, spec.SINE_STEP).view_as(x)
        added = self._round(square * inverse, spec.CURVE_BITS + step.inverse_unit - step.unit)
        return self.numbers.saturate(x + added)

    def _sine(self, step: spec.Snake) -> tuple[Tensor, ...]:
        nodes = spec.sine_nodes()
        return tuple(map(self.numbers.tensor, (step.turns, step.inverse, nodes, np.append(np.diff(nodes), 0))))

    def _groupnorm(self, step: spec.GroupNorm, x: Tensor, states: Any) -> Tensor:
        high = self.numbers.down(x.clone(), 12)
        low = x - high * (1 << 12)
        count, rows = x[0].numel(), []
        for item, h, l in zip(x, high, low, strict=True):
            total, hh, hl, ll = (int(part.sum()) for part in (item, h * h, h * l, l * l))
            rows.append(norm_factors(step, count, total, (hh << 24) + (hl << 13) + ll))
        multiplier, offset = (self.numbers.tensor(np.array(part))[:, None] for part in zip(*rows, strict=True))
        return self.numbers.saturate(self._round(x * multiplier + offset, spec.NORM_UNIT))

    def _lstm(self, step: spec.Lstm, x: Tensor, states: dict[int, Any] | None) -> Tensor:
        numbers, width = self.numbers, step.hidden_weight.shape[1]
        inputs, recurrent, bias = self._constants(
            step, lambda s: (numbers.matrix(s.input_weight), numbers.matrix(s.hidden_weight), numbers.tensor(s.bias))
        )
        given, outputs = numbers.product(x, inputs) + bias, []
        zero = x.new_zeros(len(x), width)
        hidden, cell = (zero, zero) if states is None else states.get(id(step), (zero, zero))
        for t in range(x.shape[1]):
            gates = numbers.saturate(self._round(given[:, t] + numbers.product(hidden, recurrent), step.shift))
            i, f, g, o = gates.chunk(4, dim=1)
            i, f, o = self._sigmoid(torch.cat((i, f, o), dim=1)).chunk(3, dim=1)
            kept = f * cell + i * self._tanh(g, spec.GATE_UNIT)
            cell = numbers.saturate(self._round(kept, spec.STATE_UNIT), spec.CELL_MAX)
            hidden = self._round(o * self._tanh(cell, spec.STATE_UNIT), spec.STATE_UNIT)
            outputs.append(hidden)
        if states is not None:
            states[id(step)] = hidden, cell
        return torch.stack(outputs, dim=1)

    def _sigmoid(self, x: Tensor) -> Tensor:
        return self._round((1 << spec.STATE_UNIT) + self._tanh(x, spec.GATE_UNIT + 1), 1)

    def _residual(self, step: spec.Residual, x: Tensor, states: dict[int, Any] | None) -> Tensor:
        block = self._round(self.run(step.block, x, states), -step.block_shift)
        shortcut = self._round(self.run(step.shortcut, x, states), -step.shortcut_shift)
        return self.numbers.saturate(block + shortcut)

    def quantize(self, network: ExactNetwork, latents: Tensor, num_codebooks: int | None = None) -> list[Tensor]:
        """Return codes int64 ``[B, T_k]`` of latents ``[B, T, D]``."""
        quantizer = network.quantizer
        if isinstance(quantizer, spec.ScalarQuantizer):
            scalars = self.run(quantizer.project, latents)
            digits = (scalars[..., None] >= self.numbers.tensor(quantizer.thresholds)).to(torch.int64).sum(dim=-1)
            return [(digits * _places(quantizer).to(digits.device)).sum(dim=-1)]
        codes = []
        for level in quantizer.levels[:num_codebooks]:
            directions, norms, table = self._constants(level, self._level)
            scores = self.numbers.product(self.run(level.project, latents), directions) * 2 - norms
            best = scores.amax(dim=-1, keepdim=True)  # the first of equals, whatever a device's argmax does
            order = torch.arange(len(level.norms), device=scores.device)
            codes.append(torch.where(scores == best, order, len(level.norms)).amin(dim=-1))
            chosen = table[codes[-1]].repeat_interleave(level.stride, dim=1)
            latents = self.numbers.saturate(latents - chosen)
        return codes

    def dequantize(self, network: ExactNetwork, codes: Sequence[Tensor]) -> Tensor:
        """Return latents ``[B, T, D]`` of codes ``[B, T_k]`` of leading codebooks."""
        quantizer = network.quantizer
        if isinstance(quantizer, spec.ScalarQuantizer):
            places = _places(quantizer).to(codes[0].device)
            radix = torch.tensor(quantizer.radix, device=codes[0].device)
            digits = torch.div(codes[0][..., None], places, rounding_mode="floor") % radix
            return self.run(quantizer.expand, digits.to(self.numbers.dtype))
        total: Any = 0
        for level, values in zip(quantizer.levels, codes, strict=False):
            table = self._constants(level, self._level)[2]
            total = total + table[values].repeat_interleave(level.stride, dim=1)
        return self.numbers.saturate(total)

    def _level(self, level: spec.Level) -> tuple[Any, Tensor, Tensor]:
        directions = level.directions if level.directions.size else level.table
        numbers = self.numbers
        return numbers.matrix(directions), numbers.tensor(level.norms), numbers.tensor(level.table)


def _places(quantizer: spec.ScalarQuantizer) -> Tensor:
    return torch.tensor(np.append(1, np.cumprod(quantizer.radix)[:-1]))


def _beyond(x: Tensor, count: int, reflect: bool, ahead: bool) -> Tensor:
    """Return what is beyond an end of ``[B, T, C]``: zeros, or the reflection, zero where there is none."""
    B, T, C = x.shape
    there = min(count, T - 1) if reflect else 0
    zeros = x.new_zeros(B, count - there, C)
    if not there:
        return zeros
    if ahead:
        return torch.cat((x[:, T - 1 - there : T - 1].flip(1), zeros), dim=1)
    return torch.cat((zeros, x[:, 1 : there + 1].flip(1)), dim=1)


def _windows(x: Tensor, frames: int, taps: int, stride: int, dilation: int) -> Tensor:
    """Return windows ``[B, frames, taps C]`` of ``[B, T, C]``, the first one from its first frame on."""
    x = x.contiguous()
    B, T, C = x.shape
    strides = (T * C, stride * C, dilation * C, 1)
    return x.as_strided((B, frames, taps, C), strides, x.storage_offset()).reshape(B, frames, taps * C)
