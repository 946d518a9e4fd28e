"""What an exact codec consists of: constants, tables, steps, identity; ``docs/exact-codec.md`` defines them.

Every number is an integer. A tensor of unit ``f`` holds the integer ``n`` for the value ``n 2^-f``.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from codecbook.errors import CorruptInput
from codecbook.models.store import arrays_sha256

SUM_LIMIT = 1 << 53
"""No number that occurs reaches this, so that float64 and int64 hold it."""
ACTIVATION_MAX = (1 << 23) - 1
"""Where every tensor between steps saturates."""
WEIGHT_MAX = 1 << 20
SAMPLE_UNIT = 20
"""Of samples in and out: they count in 2^-20, up to 8."""
MIN_UNIT, MAX_UNIT = 8, 22
CURVE_STEP, CURVE_END, CURVE_BITS = 8, 16, 24
"""Curves have 2^8 nodes for every 1 up to 16, of 24 bits, and are linear in between."""
SINE_NODES, SINE_STEP = 12, 16
"""The squared sine has 2^12 nodes in its period; a phase has 16 bits more."""
PHASE_BITS = SINE_NODES + SINE_STEP
GATE_UNIT, STATE_UNIT, CELL_MAX = 18, 20, 1 << 28
"""Of an LSTM: what goes into its gates, what comes out of it, and where its cells saturate."""
LEVEL_UNIT, NORMAL_UNIT = 24, 14
"""Of the level by which a segment is divided, and of the samples that come of it."""
LEVEL_BITS = 24
"""A level has so many significant bits, and so is exact as a float32."""
NORM_UNIT, NORM_MAX = 20, 1 << 28
"""Of a normalisation's gains and offsets, and where its multipliers are limited."""
EPSILON_BITS = 20
SPLIT_LIMIT = 1 << 24
"""Products of digits stay below, so that float32 adds them up exactly."""
INPUT_DIGITS, WEIGHT_DIGITS = (6, 4), (7, 3)
"""Bits of each digit, and how many, where there is no float64: digits lie in -2^(bits - 1) .. 2^(bits - 1)."""


@functools.cache
def curve_nodes(name: str) -> np.ndarray:
    """Return ``round(2^24 f(i / 256))`` for ``i`` = 0 to 4096, int64: ``f(a)`` is ``1 - exp(-a)`` (elu), or tanh.

    `decimal` rounds correctly, so the table does not depend on a maths library. No value is halfway between integers.
    """
    with localcontext() as context:
        context.prec = 60
        step, powers = (Decimal(-1) / (1 << CURVE_STEP)).exp(), [Decimal(1)]
        while len(powers) <= CURVE_END << CURVE_STEP:
            powers.append(powers[-1] * step)
        values = [1 - p if name == "elu" else (1 - p * p) / (1 + p * p) for p in powers]
        return np.array([int((value * (1 << CURVE_BITS)).to_integral_value()) for value in values], dtype=np.int64)


@functools.cache
def sine_nodes() -> np.ndarray:
    """Return ``round(2^24 sin(pi i / 4096)^2)`` for ``i`` = 0 to 4096, int64, by halving angles and adding them up."""
    with localcontext() as context:
        context.prec = 60
        cosine = Decimal(0)  # of 2 pi / 4
        for _ in range(SINE_NODES - 2):
            cosine = ((1 + cosine) / 2).sqrt()
        values = [Decimal(1), cosine]  # cos(2 pi i / 4096)
        while len(values) <= 1 << SINE_NODES:
            values.append(2 * cosine * values[-1] - values[-2])
        half = 1 << (CURVE_BITS - 1)
        return np.array([int(((1 - value) * half).to_integral_value()) for value in values], dtype=np.int64)


class Step:
    """One operation on integers ``[B, T, C]``; `unit` is that of what comes out."""

    unit: int


@dataclass(frozen=True, eq=False)
class Conv(Step):
    """A convolution: frame ``t`` of ``ceil(T / stride)`` sees inputs ``t stride - before + j dilation``."""

    weight: np.ndarray  # int32 [O, J, C], or [O, J, 1] where every output sees its own channel alone
    bias: np.ndarray  # int64 [O]
    stride: int
    dilation: int
    before: int  # inputs before the first
    reflect: bool  # what is beyond the ends is reflected there, or zero
    shift: int  # of the sums
    unit: int


@dataclass(frozen=True, eq=False)
class UpConv(Step):
    """A transposed convolution: frame ``t`` sees inputs ``(t + crop) // stride - j``, by weights of ``t``'s phase."""

    weight: np.ndarray  # int32 [stride, O, J, C]
    bias: np.ndarray  # int64 [O]
    crop: int
    shift: int
    unit: int


@dataclass(frozen=True, eq=False)
class Curve(Step):
    """ELU, or the hyperbolic tangent."""

    name: str  # "elu" or "tanh"
    input_unit: int
    unit: int


@dataclass(frozen=True, eq=False)
class Snake(Step):
    """``x + sin(alpha x)^2 / alpha`` (Ziyin et al. 2020), with an alpha of each channel."""

    turns: np.ndarray  # int32 [C], periods of the squared sine in 2^-24 by 1
    inverse: np.ndarray  # int32 [C], of alpha, in 2^-inverse_unit
    inverse_unit: int
    unit: int


@dataclass(frozen=True, eq=False)
class GroupNorm(Step):
    """Normalisation by mean and deviation of all frames and channels."""

    gain: np.ndarray  # int32 [C], in 2^-20
    offset: np.ndarray  # int32 [C], in 2^-20
    epsilon: int  # in 2^-20 of the input's unit squared
    unit: int


@dataclass(frozen=True, eq=False)
class Lstm(Step):
    """One layer of an LSTM, its gates in torch's order: input, forget, cell, output."""

    input_weight: np.ndarray  # int32 [4 H, C]
    hidden_weight: np.ndarray  # int32 [4 H, H]
    bias: np.ndarray  # int64 [4 H]
    shift: int
    unit: int = STATE_UNIT


@dataclass(frozen=True, eq=False)
class Residual(Step):
    """The sum of two ways of one input; a way without steps hands it on."""

    block: tuple[Step, ...]
    shortcut: tuple[Step, ...]
    block_shift: int  # to the left, or to the right where it is negative
    shortcut_shift: int
    unit: int


@dataclass(frozen=True, eq=False)
class Level:
    """One level of a residual quantiser: each of its codes stands for `stride` frames."""

    stride: int
    table: np.ndarray  # int32 [V, D], what codes stand for
    project: tuple[Step, ...]  # nothing, or a convolution to what is compared
    directions: np.ndarray  # int32 [V, d], compared with; empty where it is the table
    norms: np.ndarray  # int64 [V]; the code of the greatest ``2 r . direction - norm`` is taken


@dataclass(frozen=True, eq=False)
class ResidualQuantizer:
    """Quantises what the levels before have left."""

    levels: tuple[Level, ...]
    unit: int


@dataclass(frozen=True, eq=False)
class ScalarQuantizer:
    """Finite scalar quantisation: each scalar's digit is the number of thresholds that it reaches."""

    project: tuple[Step, ...]  # a convolution to the scalars
    thresholds: np.ndarray  # int64 [n, L - 1], ascending; beyond ACTIVATION_MAX where there are fewer
    radix: np.ndarray  # int64 [n], values of each digit, the first one being the lowest
    expand: tuple[Step, ...]  # a convolution of digits
    unit: int


@dataclass(frozen=True, eq=False)
class ExactNetwork:
    """A codec's network in integers."""

    encoder: tuple[Step, ...]
    quantizer: ResidualQuantizer | ScalarQuantizer
    decoder: tuple[Step, ...]
    input_unit: int
    latent_unit: int
    output_unit: int

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Return every array by its path, as ``encoder.0.weight``."""
        return {path: value for path, value in _leaves("", self) if isinstance(value, np.ndarray)}

    @functools.cached_property
    def config(self) -> dict[str, int | str | bool]:
        """Return every number and name by its path, as ``encoder.0.stride``."""
        return {path: value for path, value in _leaves("", self) if not isinstance(value, np.ndarray)}

    @functools.cached_property
    def sha256(self) -> str:
        """What identifies the codec, hex: equal where all tokens and samples are equal by construction."""
        text = json.dumps(self.config, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(f"codecbook exact codec 1\n{text}\n{arrays_sha256(self.arrays)}".encode()).hexdigest()

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Yield every step, level and quantiser with its path, as ``decoder.3.block.1``."""
        yield from _parts("", self)


def network_from(config: Mapping[str, int | str | bool], arrays: Mapping[str, np.ndarray]) -> ExactNetwork:
    """Return the network of `ExactNetwork.config` and `arrays`; its `sha256` says whether it is the one that was meant.

    Raises CorruptInput: a part is missing, or of an unknown kind.
    """
    try:
        return _part("", config, arrays)
    except (KeyError, TypeError) as error:
        raise CorruptInput(f"These are no parts of an exact codec ({error!r}); export it again.") from error


_KINDS = {kind.__name__: kind for kind in (
    Conv, UpConv, Curve, Snake, GroupNorm, Lstm, Residual, Level, ResidualQuantizer, ScalarQuantizer, ExactNetwork
)}  # fmt: skip


def _part(path: str, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    kind, values = _KINDS[config[f"{path}.kind".lstrip(".")]], {}
    for field in fields(kind):
        inner = f"{path}.{field.name}".lstrip(".")
        if inner in arrays or inner in config:
            values[field.name] = arrays[inner] if inner in arrays else config[inner]
        elif f"{inner}.kind" in config:
            values[field.name] = _part(inner, config, arrays)
        else:  # parts that are counted, or none
            places = (f"{inner}.{i}" for i in itertools.count())
            there = itertools.takewhile(lambda place: f"{place}.kind" in config, places)
            values[field.name] = tuple(_part(place, config, arrays) for place in there)
    return kind(**values)


def _children(path: str, part: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(part):
        value, inner = getattr(part, field.name), f"{path}.{field.name}".lstrip(".")
        if isinstance(value, tuple):
            yield from ((f"{inner}.{i}", item) for i, item in enumerate(value))
        else:
            yield inner, value


def _parts(path: str, part: Any) -> Iterator[tuple[str, Any]]:
    for inner, value in _children(path, part):
        if is_dataclass(value):
            yield inner, value
            yield from _parts(inner, value)


def _leaves(path: str, part: Any) -> Iterator[tuple[str, Any]]:
    """Yield numbers, texts and arrays by path, and of each part its kind."""
    yield f"{path}.kind".lstrip("."), type(part).__name__
    for inner, value in _children(path, part):
        if is_dataclass(value):
            yield from _leaves(inner, value)
        else:
            yield inner, value
