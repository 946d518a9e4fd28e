"""How a device carries integers: `Float64`, or `SplitFloat32` where there is no float64.

As float64, all sums stay below 2^53 (certificate), so a matrix product is exact in whatever order a library adds it up,
and so are products, floors and comparisons. Where a device has no float64, it carries int64, and products go as digits
of at most 7 bits through float32, whose sums stay below 2^24; bfloat16 and TF32 hold such digits too.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from codecbook.codecs.exact import spec


class Float64:
    """Integers as float64.

    Constants of a step whose results are shifted to the right are divided before: by a power of two, which is exact.
    """

    dtype = torch.float64

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def tensor(self, values: np.ndarray, shift: int = 0) -> Tensor:
        """Return integers on the device, to be shifted later by `floor`."""
        scaled = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
        return (scaled * 2.0**-shift).to(self.device)

    def matrix(self, rows: np.ndarray, shift: int = 0) -> Any:
        """Return what `product` takes of weights ``[O, N]``."""
        return self.tensor(rows.T, shift)

    def product(self, x: Tensor, matrix: Any, bias: Tensor) -> Tensor:
        """Return ``x matrix + bias``, ``[..., O]`` of ``[..., N]``."""
        with torch.autocast(x.device.type, enabled=False):
            return torch.addmm(bias, x.reshape(-1, x.shape[-1]), matrix).view(*x.shape[:-1], -1)

    def floor(self, x: Tensor, shift: int) -> Tensor:
        """Return what the floor of ``x / 2^shift`` is once constants were divided; `x` may be overwritten."""
        return x.floor_()

    def down(self, x: Tensor, shift: int) -> Tensor:
        """Return the floor of ``x / 2^shift``."""
        return (x * 2.0**-shift).floor_()

    def round(self, x: Tensor, shift: int) -> Tensor:
        """Return the nearest integers of ``x / 2^shift``, halves up; of a shift that is not positive, one to the left.

        Without a shift it is `x` itself.
        """
        return (x * 2.0**-shift).add_(0.5).floor_() if shift > 0 else x * (1 << -shift) if shift else x

    def limit(self, x: Tensor, low: int, high: int) -> Tensor:
        """Return `x` within limits; it may be overwritten."""
        return x.clamp_(low, high)


class SplitFloat32(Float64):
    """Integers as int64, multiplied as digits in float32."""

    dtype = torch.int64

    def tensor(self, values: np.ndarray, shift: int = 0) -> Tensor:
        """Return integers on the device."""
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(self.device)

    def matrix(self, rows: np.ndarray, shift: int = 0) -> Any:
        """Return the digits of weights ``[O, N]``, float32."""
        return [self.tensor(part.T).float() for part in weight_digits(rows)]

    def product(self, x: Tensor, matrix: Any, bias: Tensor) -> Tensor:
        """Return ``x matrix + bias``, by the products of all digits."""
        bits, count = spec.INPUT_DIGITS
        total = bias
        for i in range(count):
            rest = (x + (1 << (bits - 1))) >> bits
            digit = (x - (rest << bits) if i < count - 1 else x).float()
            for j, part in enumerate(matrix):
                with torch.autocast(x.device.type, enabled=False):
                    total = total + (
                        torch.matmul(digit, part).to(torch.int64) << (bits * i + spec.WEIGHT_DIGITS[0] * j)
                    )
            x = rest
        return total

    def floor(self, x: Tensor, shift: int) -> Tensor:
        """Return the floor of ``x / 2^shift``."""
        return x >> shift

    def down(self, x: Tensor, shift: int) -> Tensor:
        """Return the floor of ``x / 2^shift``."""
        return x >> shift

    def round(self, x: Tensor, shift: int) -> Tensor:
        """Return the nearest integers of ``x / 2^shift``, halves up."""
        return (x + (1 << (shift - 1))) >> shift if shift > 0 else x << -shift

    def limit(self, x: Tensor, low: int, high: int) -> Tensor:
        """Return `x` within limits."""
        x = torch.where(x < low, low, x)
        return torch.where(x > high, high, x)


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
