"""`export_exact`: a trained float model as integers, without further training.

Weights: int8, a scale per row (round to nearest; a row whose products could pass 2^24 gets a coarser scale).
Activations: int8, scales from the 99.99th percentile on calibration clips. SmoothQuant (Xiao et al. 2023,
"SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models", section 4) moves part of
the spread between channels from the activations into the weights: channel ``c`` of a matrix's input is divided by
``a_c^alpha / w_c^(1 - alpha)``, where ``a_c`` and ``w_c`` are its greatest activation and weight. The division costs
nothing: it is part of the gain of the norm before, or of the requantisation of the attention's output.

`float_tensors` goes back to a float model, so that a model need not be stored twice.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy
import torch

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact import spec
from codecbook.lm.exact.calibrate import Peaks, measure
from codecbook.lm.exact.certificate import certificate
from codecbook.lm.exact.spec import ExactConfig, ExactLM
from codecbook.lm.layers import NORM_EPSILON
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
LOGIT_UNITS = spec.UNITS_PER_BIT * math.log2(math.e)
_MODULES = {
    "query_key_value": "attention.query_key_value",
    "output": "attention.output",
    "inner": "feed_forward.inner",
    "outer": "feed_forward.output",
    "head_inner": "head_feed_forward.inner",
    "head_outer": "head_feed_forward.output",
}
"""Modules of a float model by the names of ``docs/exact-lm.md``, where these differ."""


def export_exact(model: TokenLM, clips: Sequence[np.ndarray]) -> ExactLM:
    """Convert a trained `RVQTransformer` or `TinyGPT` to integers, calibrated by clips of the tokens that it will read.

    These are integers ``[T, K]`` each, some thousand frames in all. Another kind of model, no clips, or weights whose
    range cannot be certified raise UnsupportedInput, a code outside its codebook CorruptInput.
    """
    if not clips:
        raise UnsupportedInput("There are no calibration clips; give at least one, of the model's kind of tokens.")
    config = config_of(model)
    exact = ExactLM(config, _Exporter(model, config, clips).arrays())
    certificate(exact)
    return exact


def config_of(model: TokenLM) -> ExactConfig:
    """Return the shape that a float model has in integers."""
    config = model.config
    shape = (config.codebook_sizes, config.dim, config.layers, config.heads, config.hidden)
    if isinstance(model, TinyGPT) and model.takes_turns:
        raise UnsupportedInput("A TinyGPT whose tokens take turns has no exact form; export one of a single level.")
    if isinstance(model, TinyGPT):
        return ExactConfig(*shape, window_frames=model.config.context, rotary=True)
    if not isinstance(model, RVQTransformer):
        raise UnsupportedInput(f"A {type(model).__name__} has no exact form; export an RVQTransformer or a TinyGPT.")
    heads = (model.config.head_dim, model.config.head_hidden) if model.conditioned else (0, 0)
    return ExactConfig(*shape, model.config.window_frames, False, model.conditioned, *heads)


def parameter_of(step: str) -> str:
    """Return the parameter of a float model that a step's weights or gains are made of."""
    if step == "logits":
        return "head_weight"
    prefix, _, name = step.rpartition(".")
    path = [prefix.replace("layers", "blocks")] if prefix else []
    return ".".join([*path, _MODULES.get(name, name), "weight"])


class _Exporter:
    """Scales, then arrays. Everything here is float64; what `arrays` returns is integers."""

    def __init__(self, model: TokenLM, config: ExactConfig, clips: Sequence[np.ndarray]) -> None:
        self.config, self.steps = config, dict[str, np.ndarray]()
        self.parameters = {name: a.detach().cpu().double().numpy() for name, a in model.state_dict().items()}
        if isinstance(model, TinyGPT):
            self.parameters["head_weight"] = self.parameters["embedding.weight"][:-1]  # all rows but BOS
        self.readings = _readings(config)
        channels = measure(model, clips)
        self.smooth = {
            tap: self._smoothing(step, channels[tap]) for step, tap in self.readings.items() if "gelu" not in tap
        }
        self.peaks = measure(model, clips, self.smooth)

    def _smoothing(self, step: str, channels: Peaks) -> np.ndarray:
        """Return what the channels of the activation that a matrix reads are divided by."""
        activation, weight = channels.percentile(), np.abs(self._matrix(step)).max(axis=0)
        usable = (activation > 0) & (weight > 0)
        activation, weight = np.where(usable, activation, 1.0), np.where(usable, weight, 1.0)
        return activation**_SMOOTHING / weight ** (1.0 - _SMOOTHING)

    def _matrix(self, step: str) -> np.ndarray:
        """Return float64 ``[O, I]``, rows of all codebooks one after the other."""
        weight = self.parameters[parameter_of(step)]
        return weight.reshape(-1, weight.shape[-1])

    def _scale(self, tap: str) -> float:
        """Return the unit of an int8 activation with one scale."""
        return max(float(self.peaks[tap].percentile()[0]), 1e-12) / spec.ACTIVATION_MAX

    def _group_scales(self, tap: str) -> np.ndarray:
        """Return the units of activations with a scale per head or channel; dead ones take a thousandth."""
        peaks = self.peaks[tap].percentile()
        return np.maximum(peaks, max(1e-3 * float(peaks.max()), 1e-12)) / spec.ACTIVATION_MAX

    def _stream_unit(self, *norms: str) -> float:
        """Return the unit, a power of two, of the residual stream that these norms read."""
        peak = max(self.peaks[f"{norm}.input"].greatest for norm in norms)
        return 2.0 ** math.ceil(math.log2(max(peak, _SMALLEST_STREAM)) - _STREAM_PEAK_BITS)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays of the exact model."""
        c, steps = self.config, self.steps
        layers = [f"layers.{i}." for i in range(c.layers)]
        unit = self._stream_unit("norm", *(p + n for p in layers for n in ("attention_norm", "feed_forward_norm")))
        self._add_table("embedding", unit)
        steps["epsilon"] = _epsilon(c.dim, unit)
        for prefix in layers:
            self._add_layer(prefix, unit)
        self._add_norm("norm")
        if c.rotary:
            for name in ("rotation.cosine", "rotation.sine"):
                steps[name] = np.rint(self.parameters[name] * (1 << spec.ROTATION_BITS))
        else:
            steps["layers.position_bias"] = np.rint(self.parameters["position_bias.weight"] * LOGIT_UNITS)
        if c.conditioned:
            unit = self._stream_unit("head_norm", "logits_norm")
            self._add_linear("project", unit)
            self._add_table("frame_embedding", unit)
            steps["head_epsilon"] = _epsilon(c.head_dim, unit)
            self._add_feed_forward("head_norm", "head_", unit)
            self._add_norm("logits_norm")
        self._add_linear("logits", 1.0 / LOGIT_UNITS)
        for name in spec.array_specs(c).keys() - steps.keys():
            steps[name] = np.stack([steps[name.replace("layers.", prefix)] for prefix in layers])
        return {name: steps[name].reshape(shape).astype(kind) for name, (kind, shape) in spec.array_specs(c).items()}

    def _add_layer(self, prefix: str, unit: float) -> None:
        query, key, value = (self._group_scales(prefix + name) for name in ("query", "key", "value"))
        width = self.config.dim // self.config.heads
        finer = 2.0**-spec.ROTATION_EXTRA_BITS if self.config.rotary else 1.0
        units = np.concatenate((np.repeat(query * finer, width), np.repeat(key * finer, width), value))
        mixed = self.smooth[prefix + "mix"] * self._scale(prefix + "mix")
        self._add_norm(prefix + "attention_norm")
        self._add_linear(prefix + "query_key_value", units)
        self._add_factors(prefix + "score", query * key * LOGIT_UNITS / math.sqrt(width))
        self._add_factors(prefix + "mix", value * 2.0**-spec.SHARE_BITS / mixed)
        self._add_linear(prefix + "output", unit)
        self._add_feed_forward(prefix + "feed_forward_norm", prefix, unit)

    def _add_feed_forward(self, norm: str, prefix: str, unit: float) -> None:
        inner, self.steps[prefix + "gelu"] = _gelu_table(float(self.peaks[prefix + "gelu"].percentile()[0]))
        self._add_norm(norm)
        self._add_linear(prefix + "inner", inner)
        self._add_linear(prefix + "outer", unit)

    def _add_linear(self, step: str, unit: float | np.ndarray) -> None:
        """Quantise a matrix that writes in `unit` (one, or one per row)."""
        weight, tap = self._matrix(step), self.readings[step]
        rows, units = _quantised_rows(weight * self.smooth[tap] if tap in self.smooth else weight)
        self.steps[f"{step}.weight"] = rows
        self._add_factors(step, units * self._scale(tap) / unit)

    def _add_norm(self, step: str) -> None:
        """Fold the smoothing, the activation's unit and ``sqrt(D)`` into the gains of a norm."""
        gain = self.parameters[parameter_of(step)]
        ratios = gain / self.smooth[step] * math.sqrt(len(gain)) / self._scale(step) * 2.0**-spec.UNIT_BITS
        self._add_factors(step, ratios, "gain")

    def _add_table(self, step: str, unit: float) -> None:
        """Quantise a table of codes' rows, which are read and not multiplied."""
        weight = self._matrix(step)
        units = np.abs(weight).max(axis=1) / spec.ACTIVATION_MAX
        self.steps[f"{step}.weight"] = np.rint(weight / np.where(units > 0, units, 1.0)[:, None])
        self._add_factors(step, units / unit)

    def _add_factors(self, step: str, ratios: np.ndarray, name: str = "multiplier") -> None:
        """Add integers ``m`` and one shift ``s`` with ``m / 2^s`` near the ratios, ``|m| < 2^20`` as large as fits."""
        peak = float(np.abs(ratios).max())
        if not math.isfinite(peak) or peak >= spec.MULTIPLIER_LIMIT / 2**spec.MIN_SHIFT - 1:
            raise UnsupportedInput(f"Step {step} would multiply by {peak:g}, over 20 bits; the model is degenerate.")
        shift = spec.MAX_SHIFT
        while shift > spec.MIN_SHIFT and np.rint(peak * 2.0**shift) >= spec.MULTIPLIER_LIMIT:
            shift -= 1
        self.steps |= {f"{step}.{name}": np.rint(ratios * 2.0**shift), f"{step}.shift": np.array(shift)}


def _readings(config: ExactConfig) -> dict[str, str]:
    """Return which activation each matrix reads, by the names of steps and taps."""
    in_layer = {"query_key_value": "attention_norm", "output": "mix", "inner": "feed_forward_norm", "outer": "gelu"}
    found = {f"layers.{i}.{m}": f"layers.{i}.{tap}" for i in range(config.layers) for m, tap in in_layer.items()}
    if not config.conditioned:
        return found | {"logits": "norm"}
    return found | {
        "project": "norm", "head_inner": "head_norm", "head_outer": "head_gelu", "logits": "logits_norm"
    }  # fmt: skip


def _epsilon(width: int, unit: float) -> np.ndarray:
    return np.array(max(1, round(width * NORM_EPSILON / unit**2)))


def _quantised_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 rows ``[O, I]`` and their units ``[O]``; a row of zeros has the unit 0."""
    magnitude = np.abs(weight)
    # rounding may add half a unit per weight, hence the margin
    most = spec.PRODUCT_LIMIT // spec.ACTIVATION_MAX - weight.shape[1] // 2 - 1
    if most <= 0:
        raise UnsupportedInput(f"A matrix with {weight.shape[1]} inputs has too many for sums below 2^24.")
    units = np.maximum(magnitude.max(axis=1) / spec.ACTIVATION_MAX, magnitude.sum(axis=1) / most)
    return np.rint(weight / np.where(units > 0, units, 1.0)[:, None]), units


def _gelu_table(peak: float) -> tuple[float, np.ndarray]:
    """Return the unit of a GELU's input, and its table for an output whose 127 stands for `peak`."""
    half = spec.GELU_SIZE // 2
    unit = max(peak, GELU_FLAT) / (half - 1)
    inputs = torch.arange(-half, half, dtype=torch.float64) * unit
    outputs = torch.nn.functional.gelu(inputs).numpy() / (max(peak, 1e-12) / spec.ACTIVATION_MAX)
    return unit, np.clip(np.rint(outputs), -spec.ACTIVATION_MAX, spec.ACTIVATION_MAX)


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
    best: Any = scipy.optimize.minimize_scalar(
        misfit, bounds=(start - 0.2, start + 0.2), method="bounded", options={"xatol": 1e-8}
    )
    return units(best.x)
