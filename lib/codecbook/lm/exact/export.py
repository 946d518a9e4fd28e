"""`export_exact`: a trained float model as integers, without further training.

Weights: int8, a scale per row (round to nearest; a row whose products could pass 2^24 gets a coarser scale).
Activations: int8, scales from the 99.99th percentile on calibration clips. SmoothQuant (Xiao et al. 2023,
"SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models", section 4) moves part of
the spread between channels from the activations into the weights: channel ``c`` of a matrix's input is divided by
``a_c^alpha / w_c^(1 - alpha)``, where ``a_c`` and ``w_c`` are its greatest activation and weight. The division costs
nothing: it is part of the gain of the norm before, or of the requantisation of the attention's output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.calibrate import Peaks, measure, norm_modules
from codecbook.lm.exact.certificate import certificate
from codecbook.lm.exact.spec import (
    ACTIVATION_MAX,
    GELU_SIZE,
    MAX_SHIFT,
    MIN_SHIFT,
    MULTIPLIER_LIMIT,
    PRODUCT_LIMIT,
    ROTATION_BITS,
    ROTATION_EXTRA_BITS,
    SHARE_BITS,
    UNIT_BITS,
    UNITS_PER_BIT,
    ExactConfig,
    ExactLM,
    array_specs,
)
from codecbook.lm.layers import NORM_EPSILON, Rotation
from codecbook.lm.models import RVQTransformer, TinyGPT
from codecbook.lm.token_lm import TokenLM

_SMOOTHING = 0.5
"""SmoothQuant's ``alpha``."""
_STREAM_PEAK_BITS = 18
"""Calibration's greatest residual value takes this many bits; saturation is at 20."""
_SMALLEST_STREAM = 2.0**-6
"""Smaller streams need no finer unit, since the norm's epsilon outweighs their rounding."""
GELU_FLAT = 5.0
"""Below minus this, GELU is above -2e-6, which any scale rounds to 0."""
LOGIT_UNITS = UNITS_PER_BIT * math.log2(math.e)


def export_exact(model: TokenLM, clips: Sequence[np.ndarray]) -> ExactLM:
    """Convert a trained model to integers.

    Args:
        model: An `RVQTransformer` or `TinyGPT`; it is not changed.
        clips: Calibration rows, integers ``[T, K]`` per clip, of the kind that the model will read; some thousand
            frames are enough.

    Raises:
        UnsupportedInput: Another kind of model, no clips, or weights whose range cannot be certified.
        CorruptInput: A code outside its codebook.
    """
    if not clips:
        raise UnsupportedInput("There are no calibration clips; give at least one, of the model's kind of tokens.")
    exporter = _Exporter(model, config_of(model))
    exporter.calibrate(clips)
    exact = ExactLM(exporter.config, exporter.arrays())
    certificate(exact)
    return exact


def config_of(model: TokenLM) -> ExactConfig:
    """Return the shape that a float model has in integers."""
    config = model.config
    shape = (config.codebook_sizes, config.dim, config.layers, config.heads, config.hidden)
    if isinstance(model, TinyGPT):
        return ExactConfig(*shape, window_frames=model.config.context, rotary=True)
    if not isinstance(model, RVQTransformer):
        raise UnsupportedInput(f"A {type(model).__name__} has no exact form; export an RVQTransformer or a TinyGPT.")
    heads = (model.config.head_dim, model.config.head_hidden) if model.conditioned else (0, 0)
    return ExactConfig(*shape, model.config.window_frames, False, model.conditioned, *heads)


@dataclass(frozen=True)
class _Reader:
    """An input that is smoothed: the matrices that read it, stacked by rows, float64 ``[O, I]``."""

    tap: str
    weight: np.ndarray


class _Exporter:
    """Scales, then arrays. Everything here is float64; what `arrays` returns is integers."""

    def __init__(self, model: TokenLM, config: ExactConfig) -> None:
        self.model, self.config = model, config
        self.weights = {name: _numpy(tensor) for name, tensor in model.state_dict().items()}
        self.smooth: dict[str, np.ndarray] = {}
        self.channels: dict[str, Peaks] = {}
        self.peaks: dict[str, Peaks] = {}

    # scales

    def calibrate(self, clips: Sequence[np.ndarray]) -> None:
        """Measure activations, choose the smoothing, and measure what it leaves."""
        self.channels = measure(self.model, clips)
        for reader in self._readers():
            activation = self.channels[reader.tap].percentile()
            weight = np.abs(reader.weight).max(axis=0)
            usable = (activation > 0) & (weight > 0)
            activation, weight = np.where(usable, activation, 1.0), np.where(usable, weight, 1.0)
            self.smooth[reader.tap] = activation**_SMOOTHING / weight ** (1.0 - _SMOOTHING)
        self.peaks = measure(self.model, clips, self.smooth)

    def _readers(self) -> list[_Reader]:
        readers = []
        for layer in range(self.config.layers):
            block = f"blocks.{layer}"
            readers += [
                _Reader(f"layers.{layer}.attention_norm", self.weights[f"{block}.attention.query_key_value.weight"]),
                _Reader(f"layers.{layer}.mix", self.weights[f"{block}.attention.output.weight"]),
                _Reader(f"layers.{layer}.feed_forward_norm", self.weights[f"{block}.feed_forward.inner.weight"]),
            ]
        logits = self._logit_weights().reshape(-1, self._logit_weights().shape[-1])
        if not self.config.conditioned:
            return [*readers, _Reader("norm", logits)]
        return [
            *readers,
            _Reader("norm", self.weights["project.weight"]),
            _Reader("head_norm", self.weights["head_feed_forward.inner.weight"]),
            _Reader("logits_norm", logits),
        ]

    def _logit_weights(self) -> np.ndarray:
        """Return float64 ``[K, V, I]``."""
        if isinstance(self.model, TinyGPT):
            return self.weights["embedding.weight"][None, :-1]  # all rows but BOS
        return self.weights["head_weight"]

    def scale(self, tap: str) -> float:
        """Return the unit of an int8 activation with one scale."""
        return max(float(self.peaks[tap].percentile()[0]), 1e-12) / ACTIVATION_MAX

    def group_scales(self, tap: str) -> np.ndarray:
        """Return the units of activations with a scale per head or channel; dead ones take a thousandth."""
        peaks = self.peaks[tap].percentile()
        return np.maximum(peaks, max(1e-3 * float(peaks.max()), 1e-12)) / ACTIVATION_MAX

    def stream_unit(self, is_head: bool = False) -> float:
        """Return the unit of a residual stream, a power of two."""
        heads = ("head_norm", "logits_norm")
        norms = [name for name in norm_modules(self.model) if (name in heads) == is_head]
        peak = max(self.peaks[f"{name}.input"].greatest for name in norms)
        return 2.0 ** math.ceil(math.log2(max(peak, _SMALLEST_STREAM)) - _STREAM_PEAK_BITS)

    # arrays

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays of the exact model."""
        unit = self.stream_unit()
        layers = [self._layer(layer, unit) for layer in range(self.config.layers)]
        arrays = {f"layers.{name}": np.stack([layer[name] for layer in layers]) for name in layers[0]}
        arrays = {n: a[:, 0] if n.endswith(".shift") else a for n, a in arrays.items()}
        arrays |= _table("embedding", self.weights["embedding.weight"], unit)
        arrays |= {"epsilon": self._epsilon(self.config.dim, unit)}
        arrays |= self._norm("norm", self.weights["norm.weight"], "norm")
        arrays |= self._rotation()
        if self.config.conditioned:
            arrays |= self._conditioning()
        reader = "logits_norm" if self.config.conditioned else "norm"
        weight = self._logit_weights()
        flat = weight.reshape(-1, weight.shape[-1])
        logits = self._linear("logits", flat, reader, 1.0 / LOGIT_UNITS)
        logits["logits.weight"] = logits["logits.weight"].reshape(weight.shape)
        logits["logits.multiplier"] = logits["logits.multiplier"].reshape(weight.shape[:2])
        arrays |= logits
        return {name: arrays[name].astype(kind) for name, (kind, _) in array_specs(self.config).items()}

    def _layer(self, layer: int, unit: float) -> dict[str, np.ndarray]:
        tap, block = f"layers.{layer}", f"blocks.{layer}"
        width = self.config.dim // self.config.heads
        query, key = self.group_scales(f"{tap}.query"), self.group_scales(f"{tap}.key")
        value = self.group_scales(f"{tap}.value")
        finer = 2.0**-ROTATION_EXTRA_BITS if self.config.rotary else 1.0
        units = np.concatenate((np.repeat(query * finer, width), np.repeat(key * finer, width), value))
        mixed = self.smooth[f"{tap}.mix"] * self.scale(f"{tap}.mix")
        inner, table = _gelu_table(float(self.peaks[f"{tap}.gelu"].percentile()[0]))
        gains = {name: self.weights[f"{block}.{name}.weight"] for name in ("attention_norm", "feed_forward_norm")}
        arrays = {
            **self._norm("attention_norm", gains["attention_norm"], f"{tap}.attention_norm"),
            **self._linear(
                "query_key_value", self.weights[f"{block}.attention.query_key_value.weight"],
                f"{tap}.attention_norm", units,
            ),
            **_multiplier("score", query * key * LOGIT_UNITS / math.sqrt(width)),
            **_multiplier("mix", value * 2.0**-SHARE_BITS / mixed),
            **self._linear("output", self.weights[f"{block}.attention.output.weight"], f"{tap}.mix", unit),
            **self._norm("feed_forward_norm", gains["feed_forward_norm"], f"{tap}.feed_forward_norm"),
            **self._linear(
                "inner", self.weights[f"{block}.feed_forward.inner.weight"], f"{tap}.feed_forward_norm", inner
            ),
            "gelu": table,
            **self._linear("outer", self.weights[f"{block}.feed_forward.output.weight"], f"{tap}.gelu", unit),
        }  # fmt: skip
        if not self.config.rotary:
            arrays["position_bias"] = np.rint(self.weights["position_bias.weight"][layer] * LOGIT_UNITS)
        return arrays

    def _conditioning(self) -> dict[str, np.ndarray]:
        unit = self.stream_unit(is_head=True)
        inner, table = _gelu_table(float(self.peaks["head_gelu"].percentile()[0]))
        feed = "head_feed_forward"
        return {
            **self._linear("project", self.weights["project.weight"], "norm", unit),
            **_table("frame_embedding", self.weights["frame_embedding.weight"], unit),
            "head_epsilon": self._epsilon(self.config.head_dim, unit),
            **self._norm("head_norm", self.weights["head_norm.weight"], "head_norm"),
            **self._linear("head_inner", self.weights[f"{feed}.inner.weight"], "head_norm", inner),
            "head_gelu": table,
            **self._linear("head_outer", self.weights[f"{feed}.output.weight"], "head_gelu", unit),
            **self._norm("logits_norm", self.weights["logits_norm.weight"], "logits_norm"),
        }

    def _linear(self, name: str, weight: np.ndarray, tap: str, unit: float | np.ndarray) -> dict[str, np.ndarray]:
        """Quantise a matrix ``[O, I]`` that reads the activation `tap` and writes in `unit` (one, or ``[O]``)."""
        smoothed = weight * self.smooth[tap] if tap in self.smooth else weight
        rows, scales = _quantised_rows(smoothed)
        return {f"{name}.weight": rows, **_multiplier(name, scales * self.scale(tap) / unit)}

    def _norm(self, name: str, gain: np.ndarray, tap: str) -> dict[str, np.ndarray]:
        """Fold the smoothing, the activation's unit and ``sqrt(D)`` into the gains of a norm."""
        ratios = gain / self.smooth[tap] * math.sqrt(len(gain)) / self.scale(tap) * 2.0**-UNIT_BITS
        parts = _multiplier(name, ratios)
        return {f"{name}.gain": parts[f"{name}.multiplier"], f"{name}.shift": parts[f"{name}.shift"]}

    def _epsilon(self, width: int, unit: float) -> np.ndarray:
        return np.array([max(1, round(width * NORM_EPSILON / unit**2))])

    def _rotation(self) -> dict[str, np.ndarray]:
        rotation = self.model.rotation
        if not isinstance(rotation, Rotation):
            return {}
        return {
            f"rotation.{name}": np.rint(_numpy(rotation.get_buffer(name)) * (1 << ROTATION_BITS))
            for name in ("cosine", "sine")
        }


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _quantised_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 rows ``[O, I]`` and their units ``[O]``; a row of zeros has the unit 0."""
    magnitude = np.abs(weight)
    # rounding may add half a unit per weight, hence the margin
    most = PRODUCT_LIMIT // ACTIVATION_MAX - weight.shape[1] // 2 - 1
    if most <= 0:
        raise UnsupportedInput(f"A matrix with {weight.shape[1]} inputs has too many for sums below 2^24.")
    units = np.maximum(magnitude.max(axis=1) / ACTIVATION_MAX, magnitude.sum(axis=1) / most)
    return np.rint(weight / np.where(units > 0, units, 1.0)[:, None]), units


def _multiplier(name: str, ratios: np.ndarray) -> dict[str, np.ndarray]:
    """Return integers ``m`` and one shift ``s`` with ``m / 2^s`` near the ratios, ``|m| < 2^20`` as large as fits."""
    peak = float(np.abs(ratios).max())
    if not math.isfinite(peak) or peak >= MULTIPLIER_LIMIT / 2**MIN_SHIFT - 1:
        raise UnsupportedInput(
            f"Step {name} would have to multiply by {peak:g}, more than integers below 2^20 can; the model's weights "
            "or activations are degenerate."
        )
    shift = MAX_SHIFT
    while shift > MIN_SHIFT and np.rint(peak * 2.0**shift) >= MULTIPLIER_LIMIT:
        shift -= 1
    return {f"{name}.multiplier": np.rint(ratios * 2.0**shift), f"{name}.shift": np.array([shift])}


def _table(name: str, weight: np.ndarray, unit: float) -> dict[str, np.ndarray]:
    """Quantise a table of codes' rows, which are read and not multiplied."""
    units = np.abs(weight).max(axis=1) / ACTIVATION_MAX
    rows = np.rint(weight / np.where(units > 0, units, 1.0)[:, None])
    return {f"{name}.weight": rows, **_multiplier(name, units / unit)}


def _gelu_table(peak: float) -> tuple[float, np.ndarray]:
    """Return the unit of a GELU's input, and its table for an output whose 127 stands for `peak`."""
    half = GELU_SIZE // 2
    unit = max(peak, GELU_FLAT) / (half - 1)
    inputs = torch.arange(-half, half, dtype=torch.float64) * unit
    outputs = torch.nn.functional.gelu(inputs).numpy() / (max(peak, 1e-12) / ACTIVATION_MAX)
    return unit, np.clip(np.rint(outputs), -ACTIVATION_MAX, ACTIVATION_MAX)
