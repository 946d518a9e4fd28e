"""Windows of equal length over a corpus: what training sees.

batch = Windows(train, context_frames=300).batch([0, 1])  # [B, T, K]
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpus import Corpus

IGNORE = -1
"""Fills a window behind its last row; no loss is taken there."""


class Windows:
    """Sliding windows over the clips of a corpus.

    Windows of a clip start every `stride_frames` rows (None: `context_frames`) and go on until one reaches its end, so
    each row is in at least one. They have `context_frames` rows, ``T``; one that ends beyond the clip is filled with
    `IGNORE`: dropping it would drop whole short clips, and moving it back would train on rows twice. Lengths out of
    range, or a corpus shorter than the context, raise UnsupportedInput.

    Attributes:
        clip_indices: int64 ``[N]``, the clip of each window.
        starts: int64 ``[N]``, the first row of each window in its clip.
        lengths: int64 ``[N]``, rows before the filling, 1 to ``T``.
    """

    def __init__(self, corpus: Corpus, context_frames: int, stride_frames: int | None = None) -> None:
        stride_frames = context_frames if stride_frames is None else stride_frames
        if not 1 <= stride_frames <= context_frames:
            raise UnsupportedInput(
                f"context_frames={context_frames} with stride_frames={stride_frames}; choose 1 <= stride <= context."
            )
        if corpus.num_rows < context_frames:
            raise UnsupportedInput(f"{corpus.num_rows} rows are fewer than context_frames={context_frames}; add clips.")
        self.context_frames, self._corpus = int(context_frames), corpus
        # two epochs at most meet in a batch, unless it is larger than the corpus
        self._order = lru_cache(maxsize=2)(self._drawn_order)
        beyond_first = np.maximum(corpus.clip_rows - context_frames, 0)
        counts = np.where(corpus.clip_rows > 0, 1 + -(-beyond_first // stride_frames), 0)
        self.clip_indices = np.repeat(np.arange(len(corpus)), counts)
        self.starts = (np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)) * stride_frames
        self.lengths = np.minimum(context_frames, corpus.clip_rows[self.clip_indices] - self.starts)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return a window as int64 ``[T, K]``, filled with `IGNORE` behind its last row."""
        start = int(self.starts[index])
        rows = self._corpus.clip(self.clip_indices[index], start, start + self.context_frames)
        return np.pad(rows, ((0, self.context_frames - len(rows)), (0, 0)), constant_values=IGNORE)

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return windows as int64 ``[B, T, K]``; see `__getitem__`."""
        return np.stack([self[index] for index in indices])

    def of_step(self, step: int, batch_size: int, seed: int) -> np.ndarray:
        """Return which windows a training step sees, over all processes, int64 ``[batch_size]``.

        They are a function of seed and step alone, so that nothing of it needs saving. Each epoch visits each window
        once, in an order of its own; a batch may reach into the next epoch.
        """
        places = np.arange(step * batch_size, (step + 1) * batch_size)
        epochs, places = np.divmod(places, len(self))
        return np.array([self._order(seed, int(epoch))[place] for epoch, place in zip(epochs, places, strict=True)])

    def _drawn_order(self, seed: int, epoch: int) -> np.ndarray:
        of_epoch = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
        return np.random.default_rng(of_epoch).permutation(len(self))
