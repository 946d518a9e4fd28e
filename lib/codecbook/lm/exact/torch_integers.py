"""The integer operations of `ExactTorch` that a device may lack: reductions, limits, roots, reciprocals.

`NATIVE` takes torch's own. They are exact on CPUs and on CUDA, where float64 exists and int64 is complete. `PORTABLE`
gets by with sums, products, shifts and comparisons of int64, which are exact on every device that has int64 at all.
MPS has no float64, and in some versions its int64 divisions and reductions pass through float32 or int32
(https://github.com/pytorch/pytorch/issues/152758).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from codecbook.lm.exact.spec import RECIPROCAL_BITS


class Integers:
    """Operations on int64 tensors of any shape, by torch's own."""

    def clamp(self, values: Tensor, low: int, high: int) -> Tensor:
        """Return `values` within ``low`` to ``high``."""
        return values.clamp(low, high)

    def total(self, values: Tensor, dim: int) -> Tensor:
        """Return the sums along the negative axis `dim`, which goes away."""
        return values.sum(dim=dim)

    def largest(self, values: Tensor) -> Tensor:
        """Return the greatest of each last axis, which becomes 1."""
        return values.amax(dim=-1, keepdim=True)

    def root(self, values: Tensor) -> Tensor:
        """Return ``floor(sqrt(values))`` of numbers from 0 to below 2^53."""
        root = values.double().sqrt().to(torch.int64)
        root = root - (root * root > values).to(torch.int64)  # corrects what float64 rounded
        return root + ((root + 1) * (root + 1) <= values).to(torch.int64)

    def reciprocal(self, values: Tensor) -> Tensor:
        """Return ``floor(2^40 / values)`` of numbers from 1 to below 2^40."""
        return torch.div(1 << RECIPROCAL_BITS, values, rounding_mode="floor")


class _Portable(Integers):
    def clamp(self, values: Tensor, low: int, high: int) -> Tensor:
        values = torch.where(values < low, low, values)
        return torch.where(values > high, high, values)

    def total(self, values: Tensor, dim: int) -> Tensor:
        return _folded(values, dim, torch.add).squeeze(dim)

    def largest(self, values: Tensor) -> Tensor:
        return _folded(values, -1, lambda first, second: torch.where(first > second, first, second))

    def root(self, values: Tensor) -> Tensor:
        # bit by bit from the top, of the 27 at most below 2^53: a bit stays if the square still fits
        root = torch.zeros_like(values)
        for bit in range(26, -1, -1):
            trial = root + (1 << bit)
            root = torch.where(trial * trial <= values, trial, root)
        return root

    def reciprocal(self, values: Tensor) -> Tensor:
        # long division; shifting what is left, not the divisor, keeps all numbers below 2^41
        left = torch.full_like(values, 1 << RECIPROCAL_BITS)
        quotient = torch.zeros_like(values)
        for bit in range(RECIPROCAL_BITS, -1, -1):
            fits = (left >> bit) >= values
            left = left - (torch.where(fits, values, 0) << bit)
            quotient = torch.where(fits, quotient + (1 << bit), quotient)
        return quotient


def _folded(values: Tensor, dim: int, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Join the halves of an axis until one element is left."""
    while values.shape[dim] > 1:
        half = values.shape[dim] // 2
        first, second, odd = values.split((half, half, values.shape[dim] - 2 * half), dim=dim)
        values = torch.cat((join(first, second), odd), dim=dim)
    return values


NATIVE = Integers()
PORTABLE = _Portable()


def integers_of(device: torch.device) -> Integers:
    """Return the operations that are exact on a device, whatever the version of its drivers."""
    return NATIVE if device.type in ("cpu", "cuda") else PORTABLE
