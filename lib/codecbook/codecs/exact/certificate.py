"""`certificate`: proof, from a network's arrays alone, that no number of its evaluation leaves its range."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from codecbook.codecs.exact import spec
from codecbook.codecs.exact.carriers import weight_digits
from codecbook.codecs.exact.spec import ExactNetwork
from codecbook.errors import UnsupportedInput


@dataclass(frozen=True)
class Bound:
    """What one kind of number can reach."""

    name: str
    greatest: int  # in absolute value, in integer units
    limit: int  # it must stay below
    reason: str  # why


def certificate(network: ExactNetwork) -> tuple[Bound, ...]:
    """Return a bound for every number whose range depends on the network; ``docs/exact-codec.md`` lists the others.

    Raises UnsupportedInput: a bound does not hold; the message names it.
    """
    bounds = tuple(bound for path, part in network.parts() for bound in _bounds(path, part))
    for bound in bounds:
        if bound.greatest >= bound.limit:
            raise UnsupportedInput(
                f"{bound.name} can reach {bound.greatest}, and {bound.reason} only below {bound.limit}; these weights "
                "cannot be evaluated exactly, use the float codec."
            )
    return bounds


def _bounds(path: str, part: Any) -> Iterator[Bound]:
    if isinstance(part, spec.Step):
        outside = max(spec.MIN_UNIT - part.unit, part.unit - spec.MAX_UNIT, 0)
        yield Bound(f"{path}: unit beyond {spec.MIN_UNIT}..{spec.MAX_UNIT}", outside, 1, "units are defined")
    if isinstance(part, spec.Conv | spec.UpConv):
        rows = part.weight.reshape(-1, part.weight.shape[-2] * part.weight.shape[-1])
        yield from _sum_bounds(path, rows, int(np.abs(part.bias).max(initial=0)), part.shift)
    elif isinstance(part, spec.Lstm):
        hidden = _row_sum(part.hidden_weight) << spec.STATE_UNIT
        yield from _sum_bounds(path, part.input_weight, int(np.abs(part.bias).max()) + hidden, part.shift)
        yield from _digit_bounds(path, part.hidden_weight)
    elif isinstance(part, spec.Snake):
        yield _fits(f"{path}: phase", _greatest(part.turns) * spec.ACTIVATION_MAX)
        yield _fits(f"{path}: added", (_greatest(part.inverse) << spec.CURVE_BITS) * 2)
    elif isinstance(part, spec.GroupNorm):
        added = 2 * spec.NORM_MAX * spec.ACTIVATION_MAX + (_greatest(part.offset) << part.unit)
        yield _fits(f"{path}: multiplied", added + (1 << spec.NORM_UNIT))
        yield Bound(f"{path}: epsilon below 1", max(0, 1 - part.epsilon), 1, "the deviation is positive")
    elif isinstance(part, spec.Residual):
        yield _fits(
            f"{path}: sum", sum(spec.ACTIVATION_MAX << max(s, 0) for s in (part.block_shift, part.shortcut_shift))
        )
    elif isinstance(part, spec.Level):
        directions = part.directions if part.directions.size else part.table
        yield _fits(f"{path}: score", 2 * spec.ACTIVATION_MAX * _row_sum(directions) + _greatest(part.norms))
        yield from _digit_bounds(path, 2 * directions, 2 * spec.WEIGHT_MAX)
    elif isinstance(part, spec.ResidualQuantizer):
        tables = sum(_greatest(level.table) for level in part.levels)
        yield _fits(f"{path}: sum of tables", tables + spec.ACTIVATION_MAX)


def _sum_bounds(path: str, rows: np.ndarray, added: int, shift: int) -> Iterator[Bound]:
    half = 1 << max(shift - 1, 0)
    yield Bound(f"{path}: shift below 1", max(0, 1 - shift), 1, "rounding is defined")
    yield _fits(f"{path}: sum", _row_sum(rows) * spec.ACTIVATION_MAX + added + half)
    yield from _digit_bounds(path, rows)


def _digit_bounds(path: str, rows: np.ndarray, most: int = spec.WEIGHT_MAX) -> Iterator[Bound]:
    bits, _ = spec.INPUT_DIGITS
    yield Bound(f"{path}: weight", _greatest(rows), most + 1, "its digits have their bound")
    greatest = max(_row_sum(digit) for digit in weight_digits(rows)) << (bits - 1)
    yield Bound(f"{path}: sum of digits", greatest, spec.SPLIT_LIMIT, "float32 adds up exactly")


def _fits(name: str, greatest: int) -> Bound:
    return Bound(name, greatest, spec.SUM_LIMIT, "float64 is exact")


def _row_sum(rows: np.ndarray) -> int:
    return int(np.abs(rows.astype(np.int64)).sum(axis=-1).max(initial=0))


def _greatest(values: np.ndarray) -> int:
    return int(np.abs(values.astype(np.int64)).max(initial=0))
