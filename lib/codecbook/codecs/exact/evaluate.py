"""`Evaluator`: exact evaluation in torch, batched, whole or in pieces, on any device.

Tensors are ``[B, T, C]``, of integers as `codecbook.codecs.exact.carriers` have them. Convolutions are products of
gathered windows, never a library's convolution, which might take a Fourier transform.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codecbook.codecs.exact import kernels, spec
from codecbook.codecs.exact.carriers import Float64, carrier_of
from codecbook.codecs.exact.reference import norm_factors
from codecbook.codecs.exact.spec import ExactNetwork
from codecbook.compiled import numba

_NARROW = 64
"""Channels up to which the windows of a convolution take longer than its products."""


class Evaluator:
    """Runs the steps of a network; the same integers as `codecbook.codecs.exact.reference`."""

    def __init__(self, device: str | torch.device = "cpu", carrier: Float64 | None = None) -> None:
        self.numbers = carrier or carrier_of(device)
        self._compiled = numba is not None and type(self.numbers) is Float64 and self.numbers.device.type == "cpu"
        self._prepared: dict[Any, Any] = {}  # constants, of a step or a level by its identity
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
        """Return the sums of a convolution before they are shifted; its weights are not kept ready."""
        step, once = replace(step, shift=0), Evaluator(carrier=self.numbers)
        return once._conv_sums(step, x, None) if isinstance(step, spec.Conv) else once._upconv_sums(step, x, None)

    def _constants(self, part: Any, make: Callable[[Any], Any]) -> Any:
        if id(part) not in self._prepared:
            self._prepared[id(part)] = make(part)
            self._kept.append(part)
        return self._prepared[id(part)]

    def _saturate(self, x: Tensor) -> Tensor:
        return self.numbers.limit(x, -spec.ACTIVATION_MAX, spec.ACTIVATION_MAX)

    def _convolution(self, step: spec.Conv | spec.UpConv) -> tuple[Any, Tensor]:
        """Return the matrix of a convolution's windows, and what is added: the bias, and half a unit to round."""
        weight, bias = step.weight, step.bias + (1 << step.shift >> 1)
        if isinstance(step, spec.UpConv):  # windows run forward in time, taps backward
            weight, copies = weight[:, :, ::-1], len(weight)
        else:
            copies = _frames_together(step)
            weight = np.stack([np.pad(weight, ((0, 0), (p, copies - 1 - p), (0, 0))) for p in range(copies)])
        bias = np.tile(bias, copies)
        return self.numbers.matrix(weight.reshape(len(bias), -1), step.shift), self.numbers.tensor(bias, step.shift)

    def _conv(self, step: spec.Conv, x: Tensor, states: dict[int, Any] | None) -> Tensor:
        return self._saturate(self.numbers.floor(self._conv_sums(step, x, states), step.shift))

    def _conv_sums(self, step: spec.Conv, x: Tensor, states: dict[int, Any] | None) -> Tensor:
        taps, T = step.weight.shape[1], x.shape[1]
        span = (taps - 1) * step.dilation + 1
        frames, together = -(-T // step.stride), _frames_together(step)
        after = (frames - 1) * step.stride + span - step.before - T
        begins = states is None or id(step) not in states
        first = _beyond(x, step.before, step.reflect, ahead=False) if begins else states[id(step)]  # type: ignore[index]
        parts = [first, x] if step.before else [x]
        if after > 0:
            parts.append(_beyond(x, after, step.reflect, ahead=True))
        whole = torch.cat(parts, dim=1) if len(parts) > 1 else x
        if states is not None and step.before:
            states[id(step)] = whole[:, T : T + step.before].clone()  # a view would keep the piece
        if step.weight.shape[2] < x.shape[2]:
            return self._depthwise(step, whole, frames)
        constants = self._constants(step, self._convolution)
        if together == 1:
            return self.numbers.product(_windows(whole, frames, taps, step.stride, step.dilation), *constants)
        # a window for several outputs, as far apart as the taps, is not much longer than for one
        groups = -(-frames // (together * step.dilation))
        missing = groups * together * step.dilation + span - 1 - whole.shape[1]
        whole = torch.cat((whole, whole.new_zeros(len(x), missing, x.shape[2])), dim=1) if missing else whole
        sums = self.numbers.product(
            _windows(whole, groups, together + taps - 1, together * step.dilation, step.dilation, step.dilation),
            *constants,
        )
        sums = sums.view(len(x), groups, step.dilation, together, -1).transpose(2, 3)
        return sums.reshape(len(x), groups * together * step.dilation, -1)[:, :frames]

    def _depthwise(self, step: spec.Conv, whole: Tensor, frames: int) -> Tensor:
        def constants(step: spec.Conv) -> list[Tensor]:
            rows = (step.bias + (1 << step.shift >> 1), *step.weight[:, :, 0].T)
            return [self.numbers.tensor(row, step.shift) for row in rows]

        sums, *taps = self._constants(step, constants)
        length = (frames - 1) * step.stride + 1
        for j, tap in enumerate(taps):
            seen = whole[:, j * step.dilation : j * step.dilation + length : step.stride]
            sums = torch.addcmul(sums, seen, tap) if j == 0 else sums.addcmul_(seen, tap)
        return sums

    def _upconv(self, step: spec.UpConv, x: Tensor, states: dict[int, Any] | None) -> Tensor:
        return self._saturate(self.numbers.floor(self._upconv_sums(step, x, states), step.shift))

    def _upconv_sums(self, step: spec.UpConv, x: Tensor, states: dict[int, Any] | None) -> Tensor:
        stride, channels, taps, _ = step.weight.shape
        B, T, _ = x.shape
        begins = states is None or id(step) not in states
        first = x.new_zeros(B, taps - 1, x.shape[2]) if begins else states[id(step)]  # type: ignore[index]
        ahead = x.new_zeros(B, -(-step.crop // stride), x.shape[2])
        whole = torch.cat((first, x, ahead), dim=1)
        if states is not None:
            states[id(step)] = whole[:, T : T + taps - 1].clone()
        frames = whole.shape[1] - taps + 1
        sums = self.numbers.product(_windows(whole, frames, taps, 1, 1), *self._constants(step, self._convolution))
        return sums.view(B, frames * stride, channels)[:, step.crop : step.crop + T * stride]

    def _curve(self, step: spec.Curve, x: Tensor, states: Any) -> Tensor:
        if step.name == "tanh":
            return self._tanh(x, step.input_unit)
        if self._compiled:
            nodes, x = self._constants("elu", _padded_nodes), x.contiguous()
            kernels.elu(x.view(-1).numpy(), nodes, step.unit, (out := torch.empty_like(x)).view(-1).numpy())
            return out
        bent = self._nodes(
            "elu", self.numbers.limit(x.clone(), -(spec.CURVE_END << step.unit), 0), step.unit, step.unit
        )
        return self.numbers.limit(x.clone(), 0, spec.ACTIVATION_MAX).sub_(bent)

    def _tanh(self, x: Tensor, unit: int) -> Tensor:
        minus = self.numbers.limit(-x.abs(), -(spec.CURVE_END << unit), 0)
        return x.sign() * self._nodes("tanh", minus, unit, spec.STATE_UNIT)

    def _nodes(self, name: str, minus: Tensor, unit: int, output_unit: int) -> Tensor:
        """Return a curve at minus `minus`, 0 or more, as the floor of ``(offset[i] + slope[i] a) / 2^shift``."""
        key, numbers = (name, unit, output_unit), self.numbers
        step = unit - spec.CURVE_STEP
        shift = spec.CURVE_BITS + step - output_unit
        if key not in self._prepared:
            nodes = spec.curve_nodes(name)
            slopes = np.append(np.diff(nodes), 0)
            offsets = ((nodes - slopes * np.arange(len(nodes))) << step) + (1 << (shift - 1))
            self._prepared[key] = numbers.tensor(offsets, shift), numbers.tensor(-slopes, shift)
        offsets, slopes = self._prepared[key]
        flat = minus.reshape(-1)
        index = numbers.down(-flat, step).to(torch.int32)
        values = torch.addcmul(offsets.index_select(0, index), slopes.index_select(0, index), flat)
        return numbers.floor(values, shift).view(minus.shape)

    def _snake(self, step: spec.Snake, x: Tensor, states: Any) -> Tensor:
        shift = spec.CURVE_BITS + step.inverse_unit - step.unit
        if self._compiled:
            out, x = torch.empty_like(x, memory_format=torch.contiguous_format), x.contiguous()
            turns, inverse = self._constants(
                step, lambda step: (step.turns.astype(np.int64), step.inverse.astype(np.int64))
            )
            rows, results = (part.view(-1, x.shape[-1]).numpy() for part in (x, out))
            kernels.snake(rows, turns, inverse, spec.sine_nodes(), step.unit, shift, results)
            return out
        turns, inverse, nodes, slopes = self._constants(step, self._sine)
        down = self.numbers.down
        phase = down(x * turns, step.unit + 24 - spec.PHASE_BITS).reshape(-1)
        phase = phase - down(phase, spec.PHASE_BITS) * (1 << spec.PHASE_BITS)
        index = down(phase, spec.SINE_STEP).to(torch.int32)
        square = torch.addcmul(nodes.index_select(0, index), slopes.index_select(0, index), phase)
        square = self.numbers.floor(square, spec.SINE_STEP).view_as(x)
        half = self.numbers.tensor(np.array(1 << (shift - 1)), shift)
        return self._saturate(self.numbers.floor(square.mul_(inverse).add_(half), shift).add_(x))

    def _sine(self, step: spec.Snake) -> tuple[Tensor, ...]:
        nodes, bits, tensor = spec.sine_nodes(), spec.SINE_STEP, self.numbers.tensor
        slopes = np.append(np.diff(nodes), 0)
        offsets = ((nodes - slopes * np.arange(len(nodes))) << bits) + (1 << (bits - 1))
        shift = spec.CURVE_BITS + step.inverse_unit - step.unit
        return tensor(step.turns), tensor(step.inverse, shift), tensor(offsets, bits), tensor(slopes, bits)

    def _groupnorm(self, step: spec.GroupNorm, x: Tensor, states: Any) -> Tensor:
        high = self.numbers.down(x, 12)
        low = x - high * (1 << 12)
        count, rows = x[0].numel(), []
        for item, h, rest in zip(x, high, low, strict=True):
            total, hh, hl, ll = (int(part.sum()) for part in (item, h * h, h * rest, rest * rest))
            rows.append(norm_factors(step, count, total, (hh << 24) + (hl << 13) + ll))
        multiplier, offset = (self.numbers.tensor(np.array(part))[:, None] for part in zip(*rows, strict=True))
        return self._saturate(self.numbers.round(x * multiplier + offset, spec.NORM_UNIT))

    def _lstm(self, step: spec.Lstm, x: Tensor, states: dict[int, Any] | None) -> Tensor:
        numbers, width = self.numbers, step.hidden_weight.shape[1]
        inputs, recurrent, bias = self._constants(step, self._gates)
        given, outputs = numbers.product(x, inputs, bias), []
        zero = x.new_zeros(len(x), width)
        hidden, cell = (zero, zero) if states is None else states.get(id(step), (zero, zero))
        for t in range(x.shape[1]):
            gates = self._saturate(numbers.floor(numbers.product(hidden, recurrent, given[:, t]), step.shift))
            i, f, g, o = gates.chunk(4, dim=1)
            i, f, o = self._sigmoid(torch.cat((i, f, o), dim=1)).chunk(3, dim=1)
            kept = f * cell + i * self._tanh(g, spec.GATE_UNIT)
            cell = numbers.limit(self.numbers.round(kept, spec.STATE_UNIT), -spec.CELL_MAX, spec.CELL_MAX)
            hidden = self.numbers.round(o * self._tanh(cell, spec.STATE_UNIT), spec.STATE_UNIT)
            outputs.append(hidden)
        if states is not None:
            states[id(step)] = hidden, cell
        return torch.stack(outputs, dim=1)

    def _gates(self, step: spec.Lstm) -> tuple[Any, Any, Tensor]:
        matrices = (self.numbers.matrix(rows, step.shift) for rows in (step.input_weight, step.hidden_weight))
        return *matrices, self.numbers.tensor(step.bias + (1 << step.shift >> 1), step.shift)

    def _sigmoid(self, x: Tensor) -> Tensor:
        return self.numbers.round((1 << spec.STATE_UNIT) + self._tanh(x, spec.GATE_UNIT + 1), 1)

    def _residual(self, step: spec.Residual, x: Tensor, states: dict[int, Any] | None) -> Tensor:
        block = self.numbers.round(self.run(step.block, x, states), -step.block_shift)
        shortcut = self.numbers.round(self.run(step.shortcut, x, states), -step.shortcut_shift)
        return self._saturate(block + shortcut)

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
            scores = self.numbers.product(self.run(level.project, latents), directions, norms)
            best = scores.amax(dim=-1, keepdim=True)  # the first of equals, whatever a device's argmax does
            order = torch.arange(len(level.norms), device=scores.device)
            codes.append(torch.where(scores == best, order, len(level.norms)).amin(dim=-1))
            chosen = table[codes[-1]].repeat_interleave(level.stride, dim=1)
            latents = self._saturate(latents - chosen)
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
        return self._saturate(total)

    def _level(self, level: spec.Level) -> tuple[Any, Tensor, Tensor]:
        directions = level.directions if level.directions.size else level.table
        numbers = self.numbers
        return numbers.matrix(2 * directions), numbers.tensor(-level.norms), numbers.tensor(level.table)


def _padded_nodes(name: str) -> np.ndarray:
    nodes = spec.curve_nodes(name)
    return np.append(nodes, nodes[-1])


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


def _frames_together(step: spec.Conv) -> int:
    """Return for how many outputs of a convolution one window is taken: copying costs less, products hardly more."""
    _, taps, channels = step.weight.shape
    return 1 + taps // 2 if step.stride == 1 and channels <= _NARROW else 1


def _windows(x: Tensor, frames: int, taps: int, stride: int, dilation: int, phases: int = 1) -> Tensor:
    """Return windows ``[B, frames phases, taps C]`` of ``[B, T, C]``, the first one from its first frame on.

    Those of a frame's phases begin one after the other.
    """
    x = x.contiguous()
    B, T, C = x.shape
    strides = (T * C, stride * C, C, dilation * C, 1)
    windows = x.as_strided((B, frames, phases, taps, C), strides, x.storage_offset())
    return windows.reshape(B, frames * phases, taps * C)
