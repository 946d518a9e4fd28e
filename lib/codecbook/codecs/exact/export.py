"""`export_exact`: a codec's trained float network as integers, the same ones on every machine.

Weights are rounded to 21 bits with a power of two for each tensor; where a row's sums could pass 2^53, to fewer. How
many bits each tensor between steps has before its point is found by sending a fixed signal through the integers made so
far: so neither a maths library nor the order of a float sum has a say in what the integers are.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codecbook.codecs.exact import spec
from codecbook.codecs.exact.certificate import certificate
from codecbook.codecs.exact.evaluate import Evaluator
from codecbook.codecs.exact.rounding import calibration_signal, fsq_thresholds, quantised, random_integers, rounded
from codecbook.codecs.exact.spec import ExactNetwork, Step
from codecbook.errors import UnsupportedInput

_HEADROOM = 3
"""Bits above what the calibration signal reaches."""
_PROBE_SAMPLES = 38_400
_TURN_BITS = 24
_RANDOM_FRAMES = 60
_LEAST_NORMAL = float(np.finfo(np.float32).tiny)


def export_exact(module: Any) -> ExactNetwork:
    """Return a network of the packages ``encodec`` or ``snac``, or an `FsqCodec`, in integers, with its certificate.

    Weight norm must not be folded yet, as a float sum decides its last bits. Raises UnsupportedInput: a layer that has
    no exact form, or weights that are not finite, denormal, or cannot be certified.
    """
    network = _Exporter(module).network()
    certificate(network)
    return network


class _Exporter:
    def __init__(self, module: Any) -> None:
        for name in ("encoder", "decoder", "quantizer"):
            if not hasattr(module, name):
                raise UnsupportedInput(f"A {type(module).__name__} has no {name}, so no exact form; use floats.")
        self.module, self.evaluator = module, Evaluator()
        self.numbers = self.evaluator.numbers
        self.names = {part: name for name, part in module.named_modules()}
        self.is_normalised = bool(getattr(module, "normalize", False))
        self.input_unit = spec.NORMAL_UNIT if self.is_normalised else spec.SAMPLE_UNIT
        first = next(part for part in module.encoder.modules() if isinstance(part, nn.Conv1d))
        probe = calibration_signal(_PROBE_SAMPLES, first.in_channels)
        # with a level of about a half, normalised samples are twice as large
        self.probe = probe >> (spec.SAMPLE_UNIT - self.input_unit - 1) if self.is_normalised else probe

    @torch.inference_mode()
    def network(self) -> ExactNetwork:
        halves = self.module.encoder, self.module.decoder
        encoder, decoder = (part.model if hasattr(part, "model") else part.block for part in halves)
        x = self.numbers.tensor(self.probe.T)[None]
        align = getattr(self.module, "hop_length", 1) * max(getattr(self.module, "vq_strides", (1,)))
        x = x[:, : x.shape[1] // align * align] if align > 1 else x
        encoder_steps, latents, unit = self.sequence(encoder, x, self.input_unit)
        if (spare := unit - self._table_unit()) > 0:
            encoder_steps = (*encoder_steps[:-1], _coarser(encoder_steps[-1], spare))
            latents, unit = self.evaluator.run(encoder_steps, x), unit - spare
        draft, quantizer = self._quantizer(latents, unit)
        codes = self.evaluator.quantize(draft, latents)
        z = torch.cat((self.evaluator.dequantize(draft, codes), self._random_latents(draft)), dim=1)
        decoder_steps, _, output_unit = self.sequence(decoder, z, quantizer.unit, is_output=not self.is_normalised)
        return replace(draft, encoder=encoder_steps, decoder=decoder_steps, output_unit=output_unit)

    def _table_unit(self) -> int:
        """Return the finest unit in which the codewords of EnCodec's quantiser are no larger than weights."""
        layers = getattr(getattr(self.module.quantizer, "vq", None), "layers", ())
        peak = max((float(np.abs(self.parameter(layer._codebook, "embed")).max()) for layer in layers), default=0.0)
        return spec.WEIGHT_MAX.bit_length() - 1 - int(np.frexp(peak)[1]) if peak else spec.MAX_UNIT

    def _random_latents(self, draft: ExactNetwork) -> Tensor:
        quantizer = draft.quantizer
        if isinstance(quantizer, spec.ScalarQuantizer):
            sizes, strides = [int(np.prod(quantizer.radix))], [1]
        else:
            sizes = [len(level.table) for level in quantizer.levels]
            strides = [level.stride for level in quantizer.levels]
        drawn = random_integers(_RANDOM_FRAMES * len(sizes)).reshape(len(sizes), -1)
        frames = _RANDOM_FRAMES // max(strides) * max(strides)
        codes = [
            torch.from_numpy(row[: frames // s] % size)[None]
            for row, size, s in zip(drawn, sizes, strides, strict=True)
        ]
        return self.evaluator.dequantize(draft, codes)

    def sequence(
        self, layers: Iterable[Any], x: Tensor, unit: int, is_output: bool = False
    ) -> tuple[tuple[Step, ...], Tensor, int]:
        """Return layers as steps, what they make of `x`, and its unit; the last one's is of samples if `is_output`."""
        steps: list[Step] = []
        layers = list(layers)
        for i, layer in enumerate(layers):
            is_last = is_output and i == len(layers) - 1
            made, x, unit = self._layer(layer, x, unit, spec.SAMPLE_UNIT if is_last else None)
            steps += made
        return tuple(steps), x, unit

    def _layer(self, layer: Any, x: Tensor, unit: int, wanted: int | None) -> tuple[tuple[Step, ...], Tensor, int]:
        """Return one layer as steps; told by their attributes, as `codecbook.codecs.networks` does."""
        if (
            isinstance(layer, nn.Identity) or type(layer).__name__ == "NoiseBlock"
        ):  # which codecs here run without noise
            return (), x, unit
        if hasattr(layer, "shortcut"):
            return self._residual(layer.block, [layer.shortcut], x, unit)
        if hasattr(layer, "lstm"):
            return self._lstm(layer, x, unit)
        if type(layer).__name__ == "ResidualUnit":
            return self._residual(layer.block, [], x, unit)
        if hasattr(layer, "block"):
            return self.sequence(layer.block, x, unit)
        if isinstance(layer, nn.ELU) and layer.alpha == 1.0:
            return self._simple(spec.Curve("elu", unit, unit), x)
        if isinstance(layer, nn.Tanh):
            return self._simple(spec.Curve("tanh", unit, spec.STATE_UNIT), x)
        if type(layer).__name__ == "Snake1d":
            return self._simple(self._snake(layer, unit), x)
        plain: Any = layer
        while hasattr(plain, "convtr") or hasattr(plain, "conv"):
            plain = plain.convtr if hasattr(plain, "convtr") else plain.conv
        is_depthwise = isinstance(plain, nn.Conv1d) and plain.groups == plain.in_channels == plain.out_channels
        if isinstance(plain, nn.Conv1d | nn.ConvTranspose1d) and (plain.groups == 1 or is_depthwise):
            make: Any = self._conv if isinstance(plain, nn.Conv1d) else self._up_conv
            steps, x, unit = make(layer, plain, x, unit, wanted)
            norm = getattr(getattr(layer, "convtr" if hasattr(layer, "convtr") else "conv", None), "norm", None)
            return self._normed(norm, steps, x, unit) if isinstance(norm, nn.GroupNorm) else (steps, x, unit)
        raise UnsupportedInput(f"{self.names.get(layer)}, a {type(layer).__name__}, has no exact form; use floats.")

    def _simple(self, step: Step, x: Tensor) -> tuple[tuple[Step, ...], Tensor, int]:
        return (step,), self.evaluator.run((step,), x), step.unit

    def _conv(self, layer: Any, plain: nn.Conv1d, x: Tensor, unit: int, wanted: int | None) -> Any:
        stride, dilation = plain.stride[0], plain.dilation[0]
        before, reflect = int(plain.padding[0]), False
        if hasattr(layer, "pad_mode"):
            total = (plain.kernel_size[0] - 1) * dilation - (stride - 1)
            before, reflect = (total if layer.causal else total - total // 2), layer.pad_mode == "reflect"
        rows = self.weight(plain).transpose(0, 2, 1)  # [O, J, C]
        weight, bias, bits = self._rows(plain, rows, unit, rows.shape[0])
        step = spec.Conv(weight, bias, stride, dilation, before, reflect, 1, 0)
        return self._finished(step, x, unit + bits, wanted, plain)

    def _up_conv(self, layer: Any, plain: nn.ConvTranspose1d, x: Tensor, unit: int, wanted: int | None) -> Any:
        stride, size, crop = plain.stride[0], plain.kernel_size[0], int(plain.padding[0])
        if hasattr(layer, "trim_right_ratio"):
            total = size - stride
            crop = total - (math.ceil(total * layer.trim_right_ratio) if layer.causal else total // 2)
        kernel = self.weight(plain)  # [C, O, size]
        taps = -(-size // stride)
        kernel = np.pad(kernel, ((0, 0), (0, 0), (0, taps * stride - size)))
        rows = kernel.reshape(*kernel.shape[:2], taps, stride).transpose(3, 1, 2, 0)  # [stride, O, J, C]
        weight, bias, bits = self._rows(plain, rows, unit, stride * rows.shape[1])
        return self._finished(spec.UpConv(weight, bias, crop, 1, 0), x, unit + bits, wanted, plain)

    def _rows(self, owner: Any, weight: np.ndarray, unit: int, rows: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Return weights and bias of a convolution as integers, and the bits of a weight after the point."""
        bias = np.zeros(weight.shape[-3]) if owner.bias is None else self.parameter(owner, "bias")
        weights, bits = quantised(weight, rows)
        return weights, rounded(bias * 2.0 ** (unit + bits)), bits

    def _finished(
        self, step: Any, x: Tensor, unit: int, wanted: int | None, owner: Any
    ) -> tuple[tuple[Step, ...], Tensor, int]:
        """Give a convolution whose sums have a unit its shift, by what the signal reaches."""
        sums = self.evaluator.sums(step, x)
        shift = unit - (self._unit(sums, unit, unit - 1, owner) if wanted is None else wanted)
        if shift < 1:
            raise self._degenerate(owner, f"its sums have only {unit} bits after the point")
        step = replace(step, shift=shift, unit=unit - shift)
        return (step,), self.evaluator._saturate(self.numbers.round(sums, shift)), step.unit

    def _unit(self, values: Tensor, unit: int, finest: int, owner: Any) -> int:
        """Return the unit, up to `finest`, at which the values, of another unit, have their headroom."""
        bits = int(values.abs().max()).bit_length() - unit  # before the point
        found = min(spec.ACTIVATION_MAX.bit_length() - _HEADROOM - bits, spec.MAX_UNIT, finest)
        if found < spec.MIN_UNIT:
            raise self._degenerate(owner, f"what comes out of it reaches 2^{bits}")
        return found

    def _degenerate(self, owner: Any, why: str) -> UnsupportedInput:
        return UnsupportedInput(f"Layer {self.names.get(owner)} has no exact form: {why}; the weights are degenerate.")

    def _normed(self, norm: nn.GroupNorm, steps: tuple[Step, ...], x: Tensor, unit: int) -> Any:
        if norm.num_groups != 1:
            raise UnsupportedInput(f"Layer {self.names.get(norm)} has {norm.num_groups} groups; exact codecs have 1.")
        gain, offset = (rounded(self.parameter(norm, name) * 2.0**spec.NORM_UNIT) for name in ("weight", "bias"))
        epsilon = round(norm.eps * 2.0 ** (2 * unit + spec.EPSILON_BITS))
        # a first try shows what it reaches
        draft = spec.GroupNorm(gain.astype(np.int32), offset.astype(np.int32), epsilon, 12)
        reached = self.evaluator.run((draft,), x)
        made, x, unit = self._simple(replace(draft, unit=self._unit(reached, draft.unit, 18, norm)), x)
        return (*steps, *made), x, unit

    def _residual(self, block: Iterable[Any], shortcut: Iterable[Any], x: Tensor, unit: int) -> Any:
        steps, y, y_unit = self.sequence(block, x, unit)
        way, z, z_unit = self.sequence(shortcut, x, unit)
        return self._sum(steps, y, y_unit, way, z, z_unit)

    def _sum(self, steps: Any, y: Tensor, y_unit: int, way: Any, z: Tensor, z_unit: int) -> Any:
        finest = max(y_unit, z_unit)
        total = y * 2 ** (finest - y_unit) + z * 2 ** (finest - z_unit)
        unit = self._unit(total, finest, finest, None)
        step = spec.Residual(steps, way, unit - y_unit, unit - z_unit, unit)
        both = [self.numbers.round(part, was - unit) for part, was in ((y, y_unit), (z, z_unit))]
        return (step,), self.evaluator._saturate(both[0] + both[1]), unit

    def _lstm(self, layer: Any, x: Tensor, unit: int) -> Any:
        lstm: nn.LSTM = layer.lstm
        steps, y, y_unit = [], x, unit
        for i in range(lstm.num_layers):
            inputs, hidden, *biases = (
                self.parameter(lstm, f"{name}_l{i}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            # both products count in one unit, at which neither's weights are too large
            bits = min(quantised(inputs, len(inputs))[1] + y_unit, quantised(hidden, len(hidden))[1] + spec.STATE_UNIT)
            made = [rounded(w * 2.0 ** (bits - u)) for w, u in ((inputs, y_unit), (hidden, spec.STATE_UNIT))]
            step = spec.Lstm(
                made[0].astype(np.int32), made[1].astype(np.int32), rounded((biases[0] + biases[1]) * 2.0**bits),
                bits - spec.GATE_UNIT,
            )  # fmt: skip
            if step.shift < 1:
                raise self._degenerate(lstm, f"its sums have only {bits} bits after the point")
            steps.append(step)
            y, y_unit = self.evaluator.run((step,), y), step.unit
        return self._sum(tuple(steps), y, y_unit, (), x, unit) if layer.skip else (tuple(steps), y, y_unit)

    def _snake(self, layer: Any, unit: int) -> spec.Snake:
        alpha = self.parameter(layer, "alpha").reshape(-1)
        inverse = 1.0 / (alpha + 1e-9)
        inverse_unit = min(27 - int(np.frexp(np.abs(inverse).max())[1]), 24)
        if inverse_unit < 0 or np.abs(alpha).max() >= 64:
            raise self._degenerate(layer, f"its alphas reach from {np.abs(alpha).min():g} to {np.abs(alpha).max():g}")
        turns = rounded(alpha * 2.0**_TURN_BITS / math.pi)
        return spec.Snake(
            turns.astype(np.int32), rounded(inverse * 2.0**inverse_unit).astype(np.int32), inverse_unit, unit
        )

    def _quantizer(self, latents: Tensor, unit: int) -> tuple[ExactNetwork, Any]:
        quantizer = self.module.quantizer
        if hasattr(quantizer, "vq"):
            made = spec.ResidualQuantizer(tuple(self._euclidean(layer, unit) for layer in quantizer.vq.layers), unit)
        elif hasattr(quantizer, "quantizers"):
            made = spec.ResidualQuantizer(self._cosines(quantizer.quantizers, latents, unit), unit)
        elif hasattr(quantizer, "_levels"):
            made = self._scalars(quantizer, latents, unit)
        else:
            raise UnsupportedInput(f"The quantiser {type(quantizer).__name__} has no exact form; use floats.")
        return ExactNetwork((), made, (), self.input_unit, unit, made.unit), made

    def _euclidean(self, layer: Any, unit: int) -> spec.Level:
        if not isinstance(layer.project_in, nn.Identity):
            raise UnsupportedInput("A quantiser of EnCodec that projects its input has no exact form; use floats.")
        table = rounded(self.parameter(layer._codebook, "embed") * 2.0**unit).astype(np.int32)
        norms = (table.astype(np.int64) ** 2).sum(axis=1)
        return spec.Level(1, table, (), np.zeros((0, 0), dtype=np.int32), norms)

    def _cosines(self, quantizers: Sequence[Any], latents: Tensor, unit: int) -> tuple[spec.Level, ...]:
        levels = []
        for quantizer in quantizers:
            stride, codebook = int(quantizer.stride), self.parameter(quantizer.codebook, "weight")
            # the mean of frames is part of the projection
            inward = self.weight(quantizer.in_proj).transpose(0, 2, 1).repeat(stride, axis=1) / stride
            weight, bias, bits = self._rows(quantizer.in_proj, inward, unit, len(inward))
            draft = spec.Conv(weight, bias, stride, 1, 0, False, 1, 0)
            project, _, _ = self._finished(draft, latents, unit + bits, None, quantizer.in_proj)
            rows, scale = quantised(codebook, len(codebook))
            outward = self.weight(quantizer.out_proj)[:, :, 0]
            weight, outer = quantised(outward, len(outward))
            sums = rows.astype(np.int64) @ weight.T.astype(np.int64)
            bias = rounded(self.parameter(quantizer.out_proj, "bias") * 2.0 ** (scale + outer))
            shift = scale + outer - unit
            table = ((sums + bias + (1 << (shift - 1))) >> shift).astype(np.int32)
            lengths = np.array([math.sqrt(math.fsum(row)) for row in (codebook**2).tolist()])
            directions = rounded(codebook / np.maximum(lengths, 1e-12)[:, None] * spec.WEIGHT_MAX).astype(np.int32)
            level = spec.Level(stride, table, project, directions, np.zeros(len(table), dtype=np.int64))
            levels.append(level)
            one = ExactNetwork((), spec.ResidualQuantizer((level,), unit), (), unit, unit, unit)
            chosen = self.evaluator.dequantize(one, self.evaluator.quantize(one, latents))
            latents = self.evaluator._saturate(latents - chosen)
        return tuple(levels)

    def _scalars(self, quantizer: Any, latents: Tensor, unit: int) -> spec.ScalarQuantizer:
        counts = [int(count) for count in quantizer._levels]
        inward, outward = (
            self.parameter(quantizer.project_in, "weight"),
            self.parameter(quantizer.project_out, "weight"),
        )
        weight, bias, bits = self._rows(quantizer.project_in, inward[:, None], unit, len(inward))
        draft = spec.Conv(weight, bias, 1, 1, 0, False, 1, 0)
        project, _, scalar_unit = self._finished(draft, latents, unit + bits, None, quantizer.project_in)
        thresholds = np.full((len(counts), max(counts) - 1), spec.ACTIVATION_MAX + 1, dtype=np.int64)
        for row, count in zip(thresholds, counts, strict=True):
            row[: count - 1] = fsq_thresholds(count, scalar_unit)
        # a digit q stands for (q - half) / half
        halves = np.array([count // 2 for count in counts], dtype=np.float64)
        scaled = outward / halves
        offset = self.parameter(quantizer.project_out, "bias")
        offset = offset - np.array([math.fsum(row) for row in outward.tolist()])
        weight, bits = quantised(scaled[:, None], len(scaled))
        draft = spec.Conv(weight, rounded(offset * 2.0**bits), 1, 1, 0, False, 1, 0)
        radix = np.array(counts, dtype=np.int64)
        digits = self.numbers.tensor(random_integers(64 * len(counts)).reshape(64, -1) % radix)[None]
        expand, _, expanded = self._finished(draft, digits, bits, None, quantizer.project_out)
        return spec.ScalarQuantizer(project, thresholds, radix, expand, expanded)

    def weight(self, plain: Any) -> np.ndarray:
        """Return the weight of a convolution, float64, with its weight norm folded: every operation rounds correctly.

        A sum of squares is rounded once, by `math.fsum`, so that no order of adding up decides its last bit.
        """
        if parametrize.is_parametrized(plain, "weight"):
            gain, direction = (self.parameter(plain.parametrizations.weight, f"original{i}") for i in (0, 1))
        elif hasattr(plain, "weight_g"):
            gain, direction = self.parameter(plain, "weight_g"), self.parameter(plain, "weight_v")
        else:
            return self.parameter(plain, "weight")
        squares = (direction**2).reshape(len(direction), -1)
        lengths = np.array([math.sqrt(math.fsum(row.tolist())) for row in squares]).reshape(gain.shape)
        if not lengths.all():
            raise self._degenerate(plain, "a direction of its weight norm is zero")
        return gain * direction / lengths

    def parameter(self, owner: Any, name: str) -> np.ndarray:
        """Return a parameter as float64; refuse values that are not finite, or denormal."""
        values = getattr(owner, name).detach().cpu().float().numpy().astype(np.float64)
        label = f"{self.names.get(owner)}.{name}"
        if not np.isfinite(values).all():
            raise UnsupportedInput(f"Parameter {label} has values that are not finite; fetch the weights again.")
        if ((values != 0) & (np.abs(values) < _LEAST_NORMAL)).any():
            raise UnsupportedInput(
                f"Parameter {label} has denormal values, which some processors take for zero; set them to zero."
            )
        return values


def _coarser(step: Any, bits: int) -> Step:
    """Return the last step of an encoder with a unit that many bits coarser."""
    shift = {"shift": step.shift + bits} if hasattr(step, "shift") else {}
    return replace(step, unit=step.unit - bits, **shift)
