"""int8 matrices times activations, for the compiled evaluator: by instructions made for it, where they prove exact.

x86 processors multiply groups of small integers and add them up in int32. LLVM does not find the best of these
instructions in loops, so `_tile` names them. The first kind of `_KINDS` that the processor has is used:

- ``avx512vnni`` and ``avxvnni`` (``vpdpbusd``): four int8 weights by four *unsigned* bytes in each of 16 or 8 lanes.
  Activations are taken plus 128, and each sum begins with minus what that adds: 128 times the sum of its weights.
- ``avx2`` (``vpmaddwd``): two weights by two activations, all made 16 bits wide, in each of 8 lanes.

None of them saturates; ``vpmaddubsw``, which others use where there is no VNNI, does. But emulators, compilers and this
file may be wrong, so the product of a process is first tried on numbers at their limits, with as many inputs as the
model's matrices have (`is_exact`). Where it fails, and on other processors, matrices stay as they are, and LLVM makes
what it can of a plain loop. The results are the same, and nothing is timed.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from codecbook.compiled import kernel, kernel_or, numba
from codecbook.lm.exact.spec import ACTIVATION_MAX

PLAIN = "plain"
# by feature of the processor: lanes of a vector, rows of activations in a tile
_KINDS = {"avx512vnni": (16, 8), "avxvnni": (8, 4), "avx2": (8, 4)}
_GROUP = 4  # inputs that follow one another in a lane
_VECTORS = 2  # of outputs, in a tile


def _find_kind() -> str:
    """Return the first kind that numba compiles for."""
    if numba is None:
        return PLAIN
    from numba.core.registry import cpu_target

    context: Any = cpu_target.target_context
    features = context.codegen().magic_tuple()[2].split(",")
    return next((name for name in _KINDS if f"+{name}" in features), PLAIN)


KIND = _find_kind()
"""What products use if they prove exact: one of `_KINDS`, or `PLAIN`."""
_LANES, _TILE_ROWS = _KINDS.get(KIND, (1, 1))
_HALF_ROWS = max(1, _TILE_ROWS // 2)
_IS_UNSIGNED = KIND.endswith("vnni")
_OFFSET = 128 * _IS_UNSIGNED


def padded(rows: int, inputs: int, outputs: int) -> tuple[int, int, int]:
    """Return how large buffers of activations ``[rows, inputs]`` and sums ``[rows, outputs]`` are for whole tiles."""
    units = _TILE_ROWS, _GROUP, _LANES * _VECTORS
    rows, inputs, outputs = (-(-size // unit) * unit for size, unit in zip((rows, inputs, outputs), units, strict=True))
    return rows, inputs, outputs


def packed_shape(outputs: int, inputs: int) -> tuple[int, int, int]:
    """Return the shape of a matrix ``[O, I]`` once it is packed."""
    _, inputs, outputs = padded(0, inputs, outputs)
    return outputs // _LANES, 1 + inputs // _GROUP, _GROUP * _LANES


def pack(weight: np.ndarray) -> np.ndarray:
    """Return matrices int8 ``[..., O, I]`` as tiles read them, int8 ``[..., O / lanes, 1 + I / 4, 4 lanes]``.

    Outputs come by vectors. Of each there are, in int32, what its sums begin with, then its inputs four by four.
    """
    *outer, num_outputs, num_inputs = weight.shape
    _, inputs, outputs = padded(0, num_inputs, num_outputs)
    whole = np.zeros((*outer, outputs, inputs), dtype=np.int8)
    whole[..., :num_outputs, :num_inputs] = weight
    first = np.int32(-_OFFSET) * whole.sum(axis=-1, dtype=np.int32)
    groups = whole.reshape(*outer, -1, _LANES, inputs // _GROUP, _GROUP).swapaxes(-2, -3)
    if not _IS_UNSIGNED:  # halves of a group apart
        groups = groups.reshape(*groups.shape[:-1], 2, 2).swapaxes(-2, -3)
    groups = groups.reshape(*outer, outputs // _LANES, inputs // _GROUP, _GROUP * _LANES)
    return np.concatenate((first.reshape(*groups.shape[:-2], 1, _LANES).view(np.int8), groups), axis=-2)


def _tile(rows: int) -> Any:
    if numba is None:
        return None
    from codecbook.lm.exact.tiles import make_tile

    return make_tile(KIND, _LANES, _VECTORS, rows)


_whole_tile, _half_tile, _row_tile = (_tile(rows) for rows in (_TILE_ROWS, _HALF_ROWS, 1))


@kernel
def _multiply_packed(weight, activations, num_rows, sums, room):
    vectors, groups = weight.shape[0], weight.shape[1] - 1
    inputs, stride = activations.ctypes.data, 2 * activations.shape[1]
    if _IS_UNSIGNED:
        for n in range(num_rows):
            for i in range(_GROUP * groups):
                room[n, i] = activations[n, i] + _OFFSET
        inputs, stride = room.ctypes.data, room.shape[1]
    n = 0
    while n < num_rows:
        left = num_rows - n  # rows beyond the last cost less than single ones
        for v in range(0, vectors, _VECTORS):
            place, out = weight[v].ctypes.data, sums[n, _LANES * v :].ctypes.data
            if left > _HALF_ROWS:
                _whole_tile(place, groups, inputs + n * stride, stride, out, 4 * sums.shape[1])
            elif left > 1:
                _half_tile(place, groups, inputs + n * stride, stride, out, 4 * sums.shape[1])
            else:
                _row_tile(place, groups, inputs + n * stride, stride, out, 4 * sums.shape[1])
        n += _TILE_ROWS if left > _HALF_ROWS else _HALF_ROWS


def _multiply_arrays(weight: Any, activations: Any, num_rows: Any, sums: Any, room: Any) -> None:
    sums[:num_rows, : weight.shape[0]] = activations[:num_rows, : weight.shape[1]].astype(np.int64) @ weight.T


@kernel_or(_multiply_arrays)
def multiply(weight, activations, num_rows, sums, room):
    """Write the products of a matrix and `num_rows` rows of activations, int16, into the rows of `sums`, int32.

    The matrix is int8 ``[O, I]``, or as `pack` returns it; then all buffers are as large as `padded` says, and
    what lies beyond O in `sums` is overwritten. `room` is uint8 and as large as `activations`.
    """
    if weight.ndim == 2:
        for o in range(weight.shape[0]):
            for n in range(num_rows):
                total = np.int32(0)
                for i in range(weight.shape[1]):
                    total = np.int32(total + np.int32(weight[o, i]) * np.int32(activations[n, i]))
                sums[n, o] = total
    else:
        _multiply_packed(weight, activations, num_rows, sums, room)


@kernel
def _place(lane, i):
    """Return where the weight of an input is in its group."""
    if _IS_UNSIGNED:
        return _GROUP * lane + i % _GROUP
    return 2 * lane + i % 2 + _LANES * (i % _GROUP - i % 2)


@kernel
def added_offset(matrix):
    """Return what activations are taken plus: a matrix that `put_column` has filled does not take it off again."""
    return 0 if matrix.ndim == 2 else _OFFSET


@kernel
def put_row(matrix, o, values):
    """Write the row of an output into a matrix, packed or not."""
    if matrix.ndim == 2:
        for i in range(values.shape[0]):
            matrix[o, i] = values[i]
    else:
        vector, lane, total = matrix[o // _LANES], o % _LANES, np.int32(0)
        for i in range(values.shape[0]):
            vector[1 + i // _GROUP, _place(lane, i)] = values[i]
            total += values[i]
        vector[0].view(np.int32)[lane] = -_OFFSET * total


@kernel
def put_column(matrix, i, values):
    """Write the column of an input into a matrix, packed or not, which takes off nothing: see `added_offset`."""
    if matrix.ndim == 2:
        for o in range(values.shape[0]):
            matrix[o, i] = values[o]
    else:
        for o in range(values.shape[0]):
            matrix[o // _LANES, 1 + i // _GROUP, _place(o % _LANES, i)] = values[o]


def is_exact(num_inputs: int, product: Callable[..., None] | None = None) -> bool:
    """Return whether a product of packed matrices is right where sums and terms are greatest, and at random.

    A product is called as `multiply` is. One that raises is not exact.
    """
    rng = np.random.default_rng(0)
    rows, width, outputs = padded(2 * _TILE_ROWS + 1, num_inputs, 6 * 5 * 6 + 1)
    patterns = [rng.choice([-1, 1], num_inputs) for _ in range(4)]
    patterns += [np.repeat([1, -1], length)[np.arange(num_inputs) % (2 * length)] for length in (1, 2, 4)]
    patterns += [np.ones(num_inputs), -np.ones(num_inputs)]
    limits = ACTIVATION_MAX * np.array(patterns, dtype=np.int64)
    random = rng.integers(-ACTIVATION_MAX, ACTIVATION_MAX + 1, (outputs, num_inputs))
    weight = np.concatenate((limits, random))[: outputs - 1].astype(np.int8)
    activations, sums = np.zeros((rows, width), dtype=np.int16), np.zeros((rows, outputs), dtype=np.int32)
    activations[:, :num_inputs] = np.concatenate((limits, random[:rows]))[:rows]
    num_rows = rows - _TILE_ROWS + 1
    try:
        (product or multiply)(pack(weight), activations, num_rows, sums, np.zeros((rows, width), dtype=np.uint8))
    except Exception:  # whatever it is, the plain loop is there
        return False
    expected = activations[:num_rows, :num_inputs].astype(np.int64) @ weight.T.astype(np.int64)
    return np.array_equal(sums[:num_rows, : len(weight)], expected)


@functools.cache
def proved_kind(sizes: frozenset[int]) -> str:
    """Return `KIND` where its product is exact for matrices with so many inputs, else `PLAIN`."""
    return KIND if KIND != PLAIN and all(map(is_exact, sizes)) else PLAIN
