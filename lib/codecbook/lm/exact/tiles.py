"""The inner loop of a product of small integers, written in LLVM's instructions; numba must be there."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTE, _INT16, _INT32, _INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def make_tile(kind: str, lanes: int, vectors: int, rows: int) -> Callable[..., Any]:
    """Return a function for kernels that computes ``[rows, vectors * lanes]`` sums, all kept in registers.

    It takes the address of `vectors` vectors of a packed matrix and how many groups each has, the address of the first
    row of activations and bytes from one row to the next, and the same of the sums. It checks nothing.
    """

    @intrinsic
    def tile(typing_context, weight, groups, inputs, input_stride, sums, sum_stride):
        def build(context, builder, _, arguments):
            _Tile(kind, lanes, vectors, rows, builder).build(*arguments)
            return context.get_dummy_value()

        return types.void(*(types.intp,) * 6), build

    return tile


class _Tile:
    def __init__(self, kind: str, lanes: int, vectors: int, rows: int, builder: Any) -> None:
        self._kind, self._lanes, self._vectors, self._rows, self._builder = kind, lanes, vectors, rows, builder
        self._sum = ir.VectorType(_INT32, lanes)

    def build(self, weight: Any, groups: Any, inputs: Any, input_stride: Any, sums: Any, sum_stride: Any) -> None:
        b, block = self._builder, 4 * self._lanes  # bytes
        blocks = b.mul(b.add(groups, _INT64(1)), _INT64(block))  # of a vector
        vectors = [b.add(weight, b.mul(_INT64(v), blocks)) for v in range(self._vectors)]
        rows = [b.add(inputs, b.mul(_INT64(r), input_stride)) for r in range(self._rows)]
        first = [self._load(vector, self._sum) for vector in vectors] * self._rows
        before, loop, end = b.basic_block, b.append_basic_block(), b.append_basic_block()
        b.branch(loop)
        b.position_at_end(loop)
        number = b.phi(_INT64)
        totals = [b.phi(self._sum) for _ in first]
        size = 4 if self._is_unsigned else 8
        at = b.mul(b.add(number, _INT64(1)), _INT64(block))
        weights = [self._group(b.add(vector, at)) for vector in vectors]
        added = []
        for row in rows:
            factors = self._spread(b.add(row, b.mul(number, _INT64(size))))
            added += [self._add(totals[len(added) + v], factors, weights[v]) for v in range(self._vectors)]
        following = b.add(number, _INT64(1))
        for phi, start, value in zip([number, *totals], [_INT64(0), *first], [following, *added], strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(value, loop)
        b.cbranch(b.icmp_signed("<", following, groups), loop, end)
        b.position_at_end(end)
        for i, value in enumerate(added):
            r, v = divmod(i, self._vectors)
            place = b.add(b.add(sums, b.mul(_INT64(r), sum_stride)), _INT64(v * block))
            b.store(value, b.inttoptr(place, self._sum.as_pointer()), align=1)

    @property
    def _is_unsigned(self) -> bool:
        return self._kind.endswith("vnni")

    def _load(self, place: Any, kind: Any) -> Any:
        return self._builder.load(self._builder.inttoptr(place, kind.as_pointer()), align=1)

    def _group(self, place: Any) -> list[Any]:
        """Return a group of weights of a vector: as it is, or its halves in 16 bits."""
        if self._is_unsigned:
            return [self._load(place, ir.VectorType(_BYTE, 4 * self._lanes))]
        wide, narrow = (ir.VectorType(kind, 2 * self._lanes) for kind in (_INT16, _BYTE))
        halves = [self._builder.add(place, _INT64(2 * self._lanes * half)) for half in range(2)]
        return [self._builder.sext(self._load(half, narrow), wide) for half in halves]

    def _spread(self, place: Any) -> list[Any]:
        """Return a group of activations in every lane, in the parts of `_group`."""
        b, parts = self._builder, []
        kind = ir.VectorType(_BYTE, 4 * self._lanes) if self._is_unsigned else ir.VectorType(_INT16, 2 * self._lanes)
        for part in range(1 if self._is_unsigned else 2):
            factors = self._load(b.add(place, _INT64(4 * part)), _INT32)
            alone = b.insert_element(self._sum(ir.Undefined), factors, _INT32(0))
            parts.append(b.bitcast(b.shuffle_vector(alone, alone, self._sum([0] * self._lanes)), kind))
        return parts

    def _add(self, total: Any, factors: list[Any], weights: list[Any]) -> Any:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self._lanes}" if self._is_unsigned else "llvm.x86.avx2.pmadd.wd"
        for parts in zip(factors, weights, strict=True):
            given = [total, *parts] if self._is_unsigned else list(parts)
            function = ir.FunctionType(self._sum, [value.type for value in given])
            call = self._builder.call(cgutils.get_or_insert_function(self._builder.module, function, name), given)
            total = call if self._is_unsigned else self._builder.add(total, call)
        return total
