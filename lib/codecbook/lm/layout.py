"""`Layout`: which rows a language model sees of a clip's codes, and back from rows to `Tokens`.

==========================  ==============  ========================  ==========================================
order                       rows ``[T, K]``  rows per coarsest frame  of `codecbook.tokens.orders`
==========================  ==============  ========================  ==========================================
``"parallel"``              ``[T, K]``      1                         `parallel_stack`: a frame a row
``"flat"``                  ``[T K, 1]``    K                         `rvq_flatten`: codebook k's codes moved up
``"orpheus"``               ``[7 T, 1]``    7 (SNAC's three levels)   `orpheus_flatten`, offsets per level
``"orpheus_per_position"``  ``[7 T, 1]``    7                         `orpheus_flatten`, offsets per position
``"grouped"``               ``[T, 7]``      1 (SNAC's three levels)   the 7 of `orpheus_flatten` in a row, no offsets
``"bytes"``                 ``[T, 2 K]``    1 (codebooks of 65,536)   a code as digits of base 256, the highest first
==========================  ==============  ========================  ==========================================

A single codebook (FSQ, or the first of a residual quantiser) is ``"parallel"`` with one column. ``"grouped"`` and
``"bytes"`` are for models that predict the columns of a row one after the other (`RVQTransformer` with in-frame
conditioning): SNAC's tree of levels becomes a frame like any other, and a codebook of 65,536 needs two tables of 256
instead of one that would outweigh the model. By the chain rule neither gives anything away.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import Tokens, orders

ORDERS = ("parallel", "flat", "orpheus", "orpheus_per_position", "grouped", "bytes")
_DOUBLING = ("orpheus", "orpheus_per_position", "grouped")
_BYTE = 256
MAX_LEVELS = 10
"""Codebooks of rates that double, at most: a row of L of them has 2^L - 1 places."""


def levels_of_columns(num_levels: int) -> tuple[int, ...]:
    """Return the level of each column of order ``"grouped"``: 0, 1, 2, 2, 1, 2, 2 for SNAC's three."""
    if num_levels == 0:
        return ()
    below = tuple(1 + level for level in levels_of_columns(num_levels - 1))
    return (0, *below, *below)


def natural_order(tokens: Tokens) -> str:
    """Return the order that puts everything known at one instant into a row, in columns of moderate size.

    ``"grouped"`` for codebooks whose rates double, ``"bytes"`` for codebooks of 65,536 or more, else ``"parallel"``.

    Args:
        tokens: Of the codec; their codes do not matter.
    """
    if len(set(tokens.frame_rates_hz)) > 1:
        return "grouped"
    sizes = tokens.codebook_sizes
    are_powers = all(_BYTE ** _digits(size) == size for size in sizes)
    return "bytes" if are_powers and max(sizes) > _BYTE else "parallel"


def without_codes(tokens: Tokens) -> Tokens:
    """Return what is known of the codec and not of the clip: no codes, length, segments or scales."""
    return replace(
        tokens,
        codes=tuple(np.zeros(0, dtype=np.int64) for _ in tokens.codes),
        num_samples=None,
        segment_frames=(),
        scales=(),
        source_bitrate_kbps=None,
    )


@dataclass(frozen=True)
class Layout:
    """An order, for the codebooks of one codec.

    Attributes:
        order: One of `ORDERS`.
        template: Tokens without codes: codebook sizes, rates, and what else is known of the codec.

    Raises:
        UnsupportedInput: An unknown order, or rates or a number of codebooks that it cannot take.
    """

    order: str
    template: Tokens

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise UnsupportedInput(f"order={self.order!r} is unknown; choose one of {', '.join(ORDERS)}.")
        rates = self.template.frame_rates_hz
        if self.order in _DOUBLING and len(rates) > MAX_LEVELS:
            raise UnsupportedInput(
                f"order={self.order!r} takes up to {MAX_LEVELS} codebooks, as each of them doubles a row; received "
                f"{len(rates)}. Leave out the last ones with tokens.leading(...)."
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
        if self.order == "bytes":
            wrong = [size for size in self.template.codebook_sizes if _BYTE ** _digits(size) != size]
            if wrong:
                raise UnsupportedInput(
                    f"order='bytes' needs codebooks of 256 or 65,536 codes, or another power of 256; these have "
                    f"{wrong[0]}. Take 'parallel'."
                )

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """How many values each column of the rows can have."""
        sizes = self.template.codebook_sizes
        if self.order == "parallel":
            return sizes
        if self.order == "grouped":
            return tuple(sizes[level] for level in levels_of_columns(len(sizes)))
        if self.order == "bytes":
            return (_BYTE,) * sum(_digits(size) for size in sizes)
        if self.order == "flat":
            return (orders.flat_vocabulary_size(sizes),)
        return (orders.orpheus_vocabulary_size(sizes, self._per_position),)

    @property
    def rows_per_frame(self) -> int:
        """Rows made of one frame of the first codebook."""
        count = self.template.num_codebooks
        if self.order in ("parallel", "grouped", "bytes"):
            return 1
        return count if self.order == "flat" else (1 << count) - 1

    @property
    def frame_rate_hz(self) -> float:
        """Rows per second, nominally."""
        return self.template.frame_rates_hz[0] * self.rows_per_frame

    def to_rows(self, tokens: Tokens) -> np.ndarray:
        """Return the rows of a clip as int64 ``[T, K]``.

        Raises:
            UnsupportedInput: Codebooks whose lengths do not fit the order.
        """
        if self.order == "parallel":
            return orders.parallel_stack(tokens)
        if self.order == "flat":
            return orders.rvq_flatten(tokens)[:, None]
        if self.order == "grouped":
            flat = orders.orpheus_flatten(tokens, per_position=True)
            return flat.reshape(-1, len(self.codebook_sizes)) - self._column_starts
        if self.order == "bytes":
            frames = orders.parallel_stack(tokens)
            columns = [
                frames[:, k] // _BYTE**digit % _BYTE
                for k, size in enumerate(tokens.codebook_sizes)
                for digit in reversed(range(_digits(size)))
            ]
            return np.stack(columns, axis=1)
        return orders.orpheus_flatten(tokens, self._per_position)[:, None]

    def to_tokens(self, rows: np.ndarray) -> Tokens:
        """Undo `to_rows`, for rows that a model has sampled as well; each value must be one its place allows.

        Args:
            rows: Integers ``[T, K]``, whole frames.

        Raises:
            CorruptInput: A value of another codebook than its place's, or an incomplete last frame.
            UnsupportedInput: Another number of columns, or no integers.
        """
        array = np.asarray(rows)
        columns = len(self.codebook_sizes)
        if array.ndim != 2 or array.shape[1] != columns:
            raise UnsupportedInput(
                f"Rows of order {self.order!r} have the shape [T, {columns}]; received {list(array.shape)}."
            )
        known = self.template
        rate_hz = known.frame_rates_hz[0]
        if self.order == "parallel":
            tokens = orders.parallel_unstack(array, known.codebook_sizes, rate_hz)
        elif self.order == "flat":
            tokens = orders.rvq_unflatten(array[:, 0], known.codebook_sizes, rate_hz)
        elif self.order == "grouped":
            flat = (_checked_columns(array, self.codebook_sizes) + self._column_starts).reshape(-1)
            tokens = orders.orpheus_unflatten(flat, known.codebook_sizes, rate_hz, per_position=True)
        elif self.order == "bytes":
            digits = _checked_columns(array, self.codebook_sizes)
            counts = [_digits(size) for size in known.codebook_sizes]
            parts = np.split(digits, np.cumsum(counts)[:-1], axis=1)
            codes = [
                part @ _BYTE ** np.arange(count)[::-1] for part, count in zip(parts, counts, strict=True)
            ]
            tokens = orders.parallel_unstack(np.stack(codes, axis=1), known.codebook_sizes, rate_hz)
        else:
            tokens = orders.orpheus_unflatten(array[:, 0], known.codebook_sizes, rate_hz, self._per_position)
        return replace(known, codes=tokens.codes)

    @property
    def _per_position(self) -> bool:
        return self.order == "orpheus_per_position"

    @property
    def _column_starts(self) -> np.ndarray:
        """First value of each position in `orders.orpheus_flatten` with offsets per position, int64 ``[7]``."""
        return np.cumsum([0, *self.codebook_sizes[:-1]], dtype=np.int64)


def _digits(codebook_size: int) -> int:
    """Return how many digits of base 256 a code has."""
    return max(1, math.ceil((codebook_size - 1).bit_length() / 8))


def _checked_columns(rows: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Return rows as int64 ``[T, K]`` after checking each value against its column."""
    if not np.issubdtype(rows.dtype, np.integer):
        raise UnsupportedInput(f"Rows are of type {rows.dtype}; give integers.")
    outside = (rows < 0) | (rows >= np.asarray(sizes))
    if outside.any():
        row, column = (int(i) for i in np.argwhere(outside)[0])
        raise CorruptInput(
            f"Value {rows[row, column]} in row {row}, column {column} is outside 0..{sizes[column] - 1}; the rows are "
            "damaged, or in another order."
        )
    return rows.astype(np.int64)
