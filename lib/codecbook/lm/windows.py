"""`Windows`: stretches of equal length of a corpus, in any order, each row scored once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from codecbook.errors import UnsupportedInput

if TYPE_CHECKING:
    from codecbook.lm.data import Corpus

IGNORE = -1
"""Fills a window behind its last row; no loss is taken there."""


class Windows:
    """Sliding windows over the clips of a corpus; only their places are held, codes are read on demand.

    Windows of a clip start every `stride_frames` rows and go on until one reaches its end, so each row is in at
    least one. A window that ends beyond the clip (its last, or its only one) is filled with `IGNORE`: dropping it
    would drop whole clips that are shorter than the context, and moving it back would score rows twice.

    It is a sequence of ``[T, K]`` arrays, so a ``torch.utils.data.DataLoader`` takes it as a dataset.

    Attributes:
        corpus: What is read.
        context_frames: Rows of a window, ``T``.
        stride_frames: Rows from the start of one window to the next.
        starts: int64 ``[N]``, the first row of each window, counted over all clips laid end to end.
        lengths: int64 ``[N]``, rows before the filling, 1 to ``T``.
        repeats: int64 ``[N]``, how many rows at the front were in the window before as well. Leaving them out of
            a held-out loss scores every row once, each but the clip's first with at least ``T - stride`` rows of
            context.
        clip_indices: int64 ``[N]``, the clip of each window's first row.

    Raises:
        UnsupportedInput: Lengths out of range, or a corpus shorter than the context.
    """

    def __init__(self, corpus: "Corpus", context_frames: int, stride_frames: int, packed: bool) -> None:
        if not 1 <= stride_frames <= context_frames:
            raise UnsupportedInput(
                f"context_frames={context_frames} with stride_frames={stride_frames}; choose a context of 1 or more "
                "and a stride from 1 to the context, so that no row is left out."
            )
        if corpus.num_rows < context_frames:
            raise UnsupportedInput(
                f"The corpus of {len(corpus)} clips has {corpus.num_rows} rows, fewer than context_frames="
                f"{context_frames}; lower the context, or add clips."
            )
        self.corpus = corpus
        self.context_frames = int(context_frames)
        self.stride_frames = int(stride_frames)
        stretches = np.array([corpus.num_rows]) if packed else corpus.clip_rows
        beyond_first = np.maximum(stretches - context_frames, 0)
        counts = np.where(stretches > 0, 1 + -(-beyond_first // stride_frames), 0)
        ends = np.repeat(np.cumsum(stretches), counts)
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self.starts = ends - np.repeat(stretches, counts) + nth * stride_frames
        self.lengths = np.minimum(context_frames, ends - self.starts)
        self.repeats = np.where(nth > 0, context_frames - stride_frames, 0)
        self.clip_indices = np.searchsorted(np.cumsum(corpus.clip_rows), self.starts, side="right")

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return a window as int64 ``[T, K]``, filled with `IGNORE` behind its last row.

        Raises:
            IndexError: No such window, as iteration over a sequence needs it.
            CorruptInput: A file is damaged or was altered since it was indexed.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"Window {index} of {len(self)}; choose one of them.")
        start, length = int(self.starts[index]), int(self.lengths[index])
        rows = self.corpus.rows(start, start + length)
        if length == self.context_frames:
            return rows
        window = np.full((self.context_frames, rows.shape[1]), IGNORE, dtype=np.int64)
        window[:length] = rows
        return window

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return windows as int64 ``[B, T, K]``; see `__getitem__`."""
        if len(indices) == 0:
            raise UnsupportedInput("A batch of no windows was asked for; give at least one index.")
        return np.stack([self[int(index)] for index in indices])

    @property
    def filling(self) -> float:
        """Share of all rows that is `IGNORE`; where it is large, a shorter context or `packed` saves work."""
        return 1 - float(self.lengths.sum()) / max(1, len(self) * self.context_frames)

    def shuffled(self, seed: int) -> np.ndarray:
        """Return all window indices in random order, int64 ``[N]``; equal seeds give equal orders.

        A corpus that fits into its cache is shuffled throughout. Of a larger one, random groups of shards are taken
        that fill half the cache, and windows are shuffled within each group: drawing from the whole file would read
        a row group of a million codes for every window.

        Args:
            seed: Of this epoch.
        """
        rng = np.random.default_rng(seed)
        shards, sizes = self.corpus.pools()[self.clip_indices].T
        distinct, first = np.unique(shards, return_index=True)
        shard_sizes = sizes[first]
        if shard_sizes.sum() <= self.corpus.cache_bytes:
            return rng.permutation(len(self))
        drawn = rng.permutation(len(distinct))
        group_of = np.empty(len(distinct), dtype=np.int64)
        group_of[drawn] = np.cumsum(shard_sizes[drawn]) // max(1, self.corpus.cache_bytes // 2)
        groups = group_of[np.searchsorted(distinct, shards)]
        mixed = rng.permutation(len(self))
        return mixed[np.argsort(groups[mixed], kind="stable")]
