"""Which windows a step trains on: a function of the seed and the step alone, so that nothing of it needs saving."""

import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput


class Windows(Protocol):
    """Windows of equal length over a corpus, as `codecbook.lm.data` makes them."""

    def __len__(self) -> int:
        """Return the number of windows."""
        ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return int64 ``[B, T, K]``."""
        ...


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, num_windows: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_windows)


def batch_indices(seed: int, step: int, batch_size: int, num_windows: int) -> np.ndarray:
    """Return the windows of one step, int64 ``[batch_size]``.

    Every epoch visits each window once, in an order of its own; a batch may reach into the next epoch.

    Args:
        seed: 0 or more.
        step: 0 or more.
        batch_size: Windows per step, over all processes.
        num_windows: 1 or more.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    return np.array([_permutation(seed, int(p) // num_windows, num_windows)[p % num_windows] for p in positions])


def checked_codes(codes: np.ndarray, codebook_sizes: Sequence[int], source: str) -> np.ndarray:
    """Return codes as int64, after checking them.

    Args:
        codes: Integers ``[..., K]``.
        codebook_sizes: ``V`` per codebook.
        source: Named in errors.

    Raises:
        UnsupportedInput: Another number of codebooks, or no integers.
        CorruptInput: A code outside its codebook.
    """
    codes = np.asarray(codes)
    K = len(codebook_sizes)
    if not np.issubdtype(codes.dtype, np.integer) or codes.ndim < 2 or codes.shape[-1] != K:
        raise UnsupportedInput(
            f"{source}: codes are {codes.dtype} {list(codes.shape)}, and the model reads integers [..., {K}]; mixed "
            "codecs or codebook counts cannot be trained on or scored together."
        )
    outside = (codes < 0) | (codes >= np.asarray(codebook_sizes))
    if outside.any():
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        raise CorruptInput(
            f"{source}: code {codes[at]} at {list(at)} is outside 0..{codebook_sizes[at[-1]] - 1}; the tokens are "
            "damaged, or belong to a codec with larger codebooks."
        )
    return codes.astype(np.int64, copy=False)
