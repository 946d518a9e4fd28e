"""Which windows a step trains on: a function of the seed and the step alone, so that nothing of it needs saving."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput


class Windows(Protocol):
    """Windows of equal length over a corpus, as `codecbook.lm.data` makes them."""

    def __len__(self) -> int:
        """Return the number of windows."""
        ...

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Return int64 ``[B, T, K]``."""
        ...

    def shuffled(self, seed: int) -> np.ndarray:
        """Return all indices in an order that the seed decides."""
        ...


class Clips(Protocol):
    """Whole clips, read one at a time."""

    def __len__(self) -> int:
        """Return the number of clips."""
        ...

    def clip(self, index: int) -> np.ndarray:
        """Return int64 ``[T, K]``."""
        ...


class BatchOrder:
    """The windows of every step. Each epoch visits each window once, in an order of its own.

    Args:
        windows: What to draw from.
        batch_size: Windows per step, over all processes.
        seed: 0 or more.
    """

    def __init__(self, windows: Windows, batch_size: int, seed: int) -> None:
        self.windows, self.batch_size, self.seed = windows, batch_size, seed
        self._orders: dict[int, np.ndarray] = {}

    def indices(self, step: int) -> np.ndarray:
        """Return int64 ``[batch_size]``; a batch may reach into the next epoch."""
        epochs, places = np.divmod(
            np.arange(step * self.batch_size, (step + 1) * self.batch_size), len(self.windows)
        )
        return np.array([self._order(int(epoch))[place] for epoch, place in zip(epochs, places, strict=True)])

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
            # two epochs at most meet in a batch, unless it is larger than the corpus
            self._orders = {known: order for known, order in self._orders.items() if known == epoch - 1}
            self._orders[epoch] = self.windows.shuffled(seed)
        return self._orders[epoch]


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
