"""`Layout`: which rows a language model sees of a clip's codes, and back from rows to `Tokens`.

The way back checks that each value lies where its position allows it, so that the output of a model, or a file of
another order, gives an error with its first wrong index instead of plausible but wrong tokens.

==========================  ==============  ========================  ==========================================
order                       rows ``[T, K]``  rows per coarsest frame  how
==========================  ==============  ========================  ==========================================
``"parallel"``              ``[T, K]``      1                         a frame a row
``"flat"``                  ``[T K, 1]``    K                         codebook k's codes moved up by the sizes before
``"orpheus"``               ``[7 T, 1]``    7 (SNAC's three levels)   its tree depth first, moved up likewise
``"orpheus_per_position"``  ``[7 T, 1]``    7                         the same, with an offset for each of the 7
``"grouped"``               ``[T, 7]``      1 (SNAC's three levels)   the 7 of the Orpheus order a row, no offsets
``"bytes"``                 ``[T, 2 K]``    1 (codebooks of 65,536)   a code as digits of base 256, the highest first
==========================  ==============  ========================  ==========================================

The Orpheus order of coarsest frame i is ``L0[i], L1[2i], L2[4i], L2[4i+1], L1[2i+1], L2[4i+2], L2[4i+3]``, and goes on
likewise for more levels (SNAC 32 and 44 kHz: four, 15 codes). The original Orpheus has offsets per position.

A single codebook (FSQ, or the first of a residual quantiser) is ``"parallel"`` with one column. ``"grouped"`` and
``"bytes"`` are for models that predict the columns of a row one after the other (`RVQTransformer` with in-frame
conditioning): SNAC's tree of levels becomes a frame like any other, and a codebook of 65,536 needs two tables of 256
instead of one that would outweigh the model. By the chain rule neither gives anything away.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput, require_one_of
from codecbook.tokens.tokens import TokenFormat, Tokens

ORDERS = ("parallel", "flat", "orpheus", "orpheus_per_position", "grouped", "bytes")
_DOUBLING = ("orpheus", "orpheus_per_position", "grouped")
_A_CODE_A_ROW = ("flat", "orpheus", "orpheus_per_position")
_MAX_LEVELS = 10  # codebooks of rates that double: a row of L of them has 2^L - 1 places


def _levels_of_places(num_levels: int) -> tuple[int, ...]:
    """Return the level of each code in the Orpheus order: 0, 1, 2, 2, 1, 2, 2 for SNAC's three."""
    if num_levels == 0:
        return ()
    below = tuple(1 + level for level in _levels_of_places(num_levels - 1))
    return (0, *below, *below)


def natural_order(tokens: Tokens | TokenFormat) -> str:
    """Return the order that puts everything known at one instant into a row, in columns of moderate size.

    ``"grouped"`` for codebooks whose rates double, ``"bytes"`` for codebooks of 65,536 or more, else ``"parallel"``.
    """
    if len(set(tokens.frame_rates_hz)) > 1:
        return "grouped"
    sizes = tokens.codebook_sizes
    return "bytes" if all(map(_is_power_of_256, sizes)) and max(sizes) > 256 else "parallel"


@dataclass(frozen=True)
class Layout:
    """An order, for the codebooks of one codec; rates and numbers of codebooks that it cannot take are refused."""

    order: str  # one of `ORDERS`
    format: TokenFormat

    def __post_init__(self) -> None:
        require_one_of("order", self.order, ORDERS)
        rates = self.format.frame_rates_hz
        if self.order in _DOUBLING and len(rates) > _MAX_LEVELS:
            raise UnsupportedInput(
                f"order={self.order!r} takes up to {_MAX_LEVELS} codebooks, not {len(rates)}; use tokens.leading(...)."
            )
        step = 2.0 if self.order in _DOUBLING else 1.0
        # NPQ keeps rates as float32, so rates that are meant to be equal may differ in the eighth digit
        if not np.allclose(rates, [rates[0] * step**level for level in range(len(rates))], rtol=1e-6, atol=0):
            raise UnsupportedInput(
                f"order={self.order!r} needs codebooks "
                f"{'whose rates double' if step == 2 else 'of one rate'}; these have "
                f"{[f'{rate:g}' for rate in rates]} Hz. SNAC's levels take 'grouped' or 'orpheus', codebooks "
                "of one rate 'parallel' or 'flat'."
            )
        wrong = [size for size in self.format.codebook_sizes if not _is_power_of_256(size)]
        if self.order == "bytes" and wrong:
            raise UnsupportedInput(f"order='bytes' needs sizes of powers of 256, not {wrong[0]}; take 'parallel'.")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """How many values each column of the rows can have."""
        _, sizes, starts = self._places
        return (int((starts + sizes).max()),) if self.order in _A_CODE_A_ROW else tuple(sizes.tolist())

    @property
    def levels(self) -> tuple[int, ...]:
        """Codebook of each code of a frame, in its order."""
        return tuple(self._places[0].tolist())

    @property
    def frame_rate_hz(self) -> float:
        """Rows per second, nominally."""
        rows_per_frame = len(self._places[0]) if self.order in _A_CODE_A_ROW else 1
        return self.format.frame_rates_hz[0] * rows_per_frame

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each value in a frame: its codebook, how many values it can have, and the first of these; int64."""
        sizes = np.array(self.format.codebook_sizes)
        codebooks = np.arange(len(sizes))
        if self.order in _DOUBLING:
            codebooks = np.array(_levels_of_places(len(sizes)))
        elif self.order == "bytes":
            codebooks = np.repeat(codebooks, [len(_digit_values(size)) for size in sizes.tolist()])
        sizes_here = np.full_like(codebooks, 256) if self.order == "bytes" else sizes[codebooks]
        if self.order == "orpheus_per_position":
            starts = np.cumsum(sizes_here) - sizes_here
        elif self.order in _A_CODE_A_ROW:
            starts = (np.cumsum(sizes) - sizes)[codebooks]
        else:
            starts = np.zeros_like(codebooks)
        return codebooks, sizes_here, starts

    def to_rows(self, tokens: Tokens) -> np.ndarray:
        """Return the rows of a clip as int64 ``[T, K]``; codebooks of lengths that do not fit the order are refused."""
        if self.order in _DOUBLING:
            lengths = [len(codes) for codes in tokens.codes]
            if any(length != lengths[0] << level for level, length in enumerate(lengths)):
                raise UnsupportedInput(f"Levels of {lengths} codes do not double; take 'flat' or 'parallel'.")
            parts = [codes.reshape(-1, 1 << level) for level, codes in enumerate(tokens.codes)]
        else:
            parts = list(tokens.to_frames().T[:, :, None])
        if self.order == "bytes":
            sizes = tokens.codebook_sizes
            parts = [part // _digit_values(size) % 256 for part, size in zip(parts, sizes, strict=True)]
        codebooks, _, starts = self._places
        frames = np.empty((len(parts[0]), len(codebooks)), dtype=np.int64)
        for k, part in enumerate(parts):  # the codes of a level come in ascending order in a tree as well
            frames[:, codebooks == k] = part
        frames += starts
        return frames.reshape(-1, 1) if self.order in _A_CODE_A_ROW else frames

    def to_tokens(self, rows: np.ndarray, **of_clip: Any) -> Tokens:
        """Undo `to_rows`, also for rows that a model has sampled; `of_clip` holds further fields of `Tokens`.

        Raises:
            CorruptInput: A value of another codebook than its place's, or an incomplete last frame.
            UnsupportedInput: Another number of columns, or no integers.
        """
        frames = self._checked_frames(np.asarray(rows))
        codebooks, _, starts = self._places
        parts = [(frames - starts)[:, codebooks == k] for k in range(self.format.num_codebooks)]
        if self.order == "bytes":
            sizes = self.format.codebook_sizes
            parts = [part @ _digit_values(size) for part, size in zip(parts, sizes, strict=True)]
        return self.format.tokens([part.reshape(-1) for part in parts], **of_clip)

    def _checked_frames(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as int64 ``[T, places]``, or raise as `to_tokens` says."""
        columns = len(self.codebook_sizes)
        if rows.ndim != 2 or rows.shape[1] != columns:
            raise UnsupportedInput(f"Rows of order {self.order!r} are [T, {columns}]; received {list(rows.shape)}.")
        if not np.issubdtype(rows.dtype, np.integer):
            raise UnsupportedInput(f"Rows are of type {rows.dtype}; give integers.")
        _, sizes, starts = self._places
        if rows.size % len(sizes):
            raise CorruptInput(
                f"{len(rows)} rows of order {self.order!r} are no multiple of the {len(sizes)} in a frame; the last "
                f"frame is incomplete: cut {rows.size % len(sizes)} off the end, or get the whole sequence."
            )
        frames = rows.reshape(-1, len(sizes))
        outside = (frames < starts) | (frames >= starts + sizes)
        if outside.any():
            row, column = (int(i) for i in np.argwhere(outside)[0])
            low, high = starts[column], starts[column] + sizes[column] - 1
            raise CorruptInput(
                f"Value {frames[row, column]} at index {row * len(sizes) + column} (row {row}, column {column}) of "
                f"order {self.order!r} must lie in {low}..{high}; codes were lost or inserted, or are in another "
                f"order: check its sizes and options, or cut at row {row}."
            )
        return frames.astype(np.int64)


def _digit_values(codebook_size: int) -> np.ndarray:
    """Return what each digit of base 256 of a code is worth, the highest first, int64."""
    num_digits = max(1, -(-(codebook_size - 1).bit_length() // 8))
    return 256 ** np.arange(num_digits)[::-1]


def _is_power_of_256(codebook_size: int) -> bool:
    return 256 ** len(_digit_values(codebook_size)) == codebook_size
