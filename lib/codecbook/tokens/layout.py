"""`Layout`: which rows a language model sees of a clip's codes, and back from rows to `Tokens`.

Every inverse checks that each value lies where its position allows it, so that the output of a model, or a file of
another order, gives an error with its first wrong index instead of plausible but wrong tokens.

==========================  ==============  ========================  ==========================================
order                       rows ``[T, K]``  rows per coarsest frame  how
==========================  ==============  ========================  ==========================================
``"parallel"``              ``[T, K]``      1                         a frame a row
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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens.tokens import TokenFormat, Tokens, tokens_from_frames

ORDERS = ("parallel", "flat", "orpheus", "orpheus_per_position", "grouped", "bytes")
_DOUBLING = ("orpheus", "orpheus_per_position", "grouped")
_BYTE = 256
MAX_LEVELS = 10
"""Codebooks of rates that double, at most: a row of L of them has 2^L - 1 places."""
SNAC_CODEBOOK_SIZES = (4096, 4096, 4096)
SNAC_FRAME_RATE_HZ = 24_000 / 2048
"""Frames per second of the coarsest level of SNAC 24 kHz; 7 codes each make 82.03 codes per second."""


def levels_of_columns(num_levels: int) -> tuple[int, ...]:
    """Return the level of each column of order ``"grouped"``: 0, 1, 2, 2, 1, 2, 2 for SNAC's three."""
    if num_levels == 0:
        return ()
    below = tuple(1 + level for level in levels_of_columns(num_levels - 1))
    return (0, *below, *below)


def natural_order(tokens: Tokens | TokenFormat) -> str:
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


@dataclass(frozen=True)
class Layout:
    """An order, for the codebooks of one codec.

    Attributes:
        order: One of `ORDERS`.
        format: Codebook sizes, rates, and what else is known of the codec.

    Raises:
        UnsupportedInput: An unknown order, or rates or a number of codebooks that it cannot take.
    """

    order: str
    format: TokenFormat

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise UnsupportedInput(f"order={self.order!r} is unknown; choose one of {', '.join(ORDERS)}.")
        rates = self.format.frame_rates_hz
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
            wrong = [size for size in self.format.codebook_sizes if _BYTE ** _digits(size) != size]
            if wrong:
                raise UnsupportedInput(
                    f"order='bytes' needs codebooks of 256 or 65,536 codes, or another power of 256; these have "
                    f"{wrong[0]}. Take 'parallel'."
                )

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """How many values each column of the rows can have."""
        sizes = self.format.codebook_sizes
        if self.order == "parallel":
            return sizes
        if self.order == "grouped":
            return tuple(sizes[level] for level in levels_of_columns(len(sizes)))
        if self.order == "bytes":
            return (_BYTE,) * sum(_digits(size) for size in sizes)
        if self.order == "flat":
            return (flat_vocabulary_size(sizes),)
        return (orpheus_vocabulary_size(sizes, self._per_position),)

    @property
    def rows_per_frame(self) -> int:
        """Rows made of one frame of the first codebook."""
        count = self.format.num_codebooks
        if self.order in ("parallel", "grouped", "bytes"):
            return 1
        return count if self.order == "flat" else (1 << count) - 1

    @property
    def frame_rate_hz(self) -> float:
        """Rows per second, nominally."""
        return self.format.frame_rates_hz[0] * self.rows_per_frame

    def to_rows(self, tokens: Tokens) -> np.ndarray:
        """Return the rows of a clip as int64 ``[T, K]``.

        Raises:
            UnsupportedInput: Codebooks whose lengths do not fit the order.
        """
        if self.order == "parallel":
            return tokens.to_frames()
        if self.order == "flat":
            return rvq_flatten(tokens)[:, None]
        if self.order == "grouped":
            flat = orpheus_flatten(tokens, per_position=True)
            return flat.reshape(-1, len(self.codebook_sizes)) - self._column_starts
        if self.order == "bytes":
            frames = tokens.to_frames()
            columns = [
                frames[:, k] // _BYTE**digit % _BYTE
                for k, size in enumerate(tokens.codebook_sizes)
                for digit in reversed(range(_digits(size)))
            ]
            return np.stack(columns, axis=1)
        return orpheus_flatten(tokens, self._per_position)[:, None]

    def to_tokens(self, rows: np.ndarray, **of_clip: Any) -> Tokens:
        """Undo `to_rows`, for rows that a model has sampled as well; each value must be one its place allows.

        Args:
            rows: Integers ``[T, K]``, whole frames.
            of_clip: What `Tokens` knows of a clip beside its codes.

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
        known = self.format
        rate_hz = known.frame_rates_hz[0]
        if self.order == "parallel":
            tokens = tokens_from_frames(array, known.codebook_sizes, rate_hz)
        elif self.order == "flat":
            tokens = rvq_unflatten(array[:, 0], known.codebook_sizes, rate_hz)
        elif self.order == "grouped":
            flat = (_checked_columns(array, self.codebook_sizes) + self._column_starts).reshape(-1)
            tokens = orpheus_unflatten(flat, known.codebook_sizes, rate_hz, per_position=True)
        elif self.order == "bytes":
            digits = _checked_columns(array, self.codebook_sizes)
            counts = [_digits(size) for size in known.codebook_sizes]
            parts = np.split(digits, np.cumsum(counts)[:-1], axis=1)
            codes = [part @ _BYTE ** np.arange(count)[::-1] for part, count in zip(parts, counts, strict=True)]
            tokens = tokens_from_frames(np.stack(codes, axis=1), known.codebook_sizes, rate_hz)
        else:
            tokens = orpheus_unflatten(array[:, 0], known.codebook_sizes, rate_hz, self._per_position)
        return known.tokens(tokens.codes, **of_clip)

    @property
    def _per_position(self) -> bool:
        return self.order == "orpheus_per_position"

    @property
    def _column_starts(self) -> np.ndarray:
        """First value of each position in `orpheus_flatten` with offsets per position, int64 ``[7]``."""
        return _offsets(self.codebook_sizes)


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


def rvq_flatten(tokens: Tokens) -> np.ndarray:
    """Write frame after frame, codebook after codebook, codebook k's codes moved up by the sizes before it.

    Returns:
        int64 ``[T K]``; values of codebook k lie in ``[k V, (k + 1) V)`` where all sizes are V.

    Raises:
        UnsupportedInput: The codebooks run at different rates.
    """
    return (tokens.to_frames() + _offsets(tokens.codebook_sizes)).reshape(-1)


def rvq_unflatten(flat: np.ndarray, codebook_sizes: Sequence[int], frame_rate_hz: float, **metadata) -> Tokens:
    """Undo `rvq_flatten`.

    Args:
        flat: Integers ``[T K]``.
        codebook_sizes: ``V`` per codebook.
        frame_rate_hz: Frames per second, of K codes each.
        metadata: Further fields of `Tokens`.

    Raises:
        CorruptInput: A length that is no multiple of K, or a value of another codebook than its position's.
        UnsupportedInput: Another number of axes, or no integers.
    """
    sizes = tuple(codebook_sizes)
    frames = _unflatten(flat, sizes, "RVQ-flat")
    return tokens_from_frames(frames, sizes, frame_rate_hz, **metadata)


def flat_vocabulary_size(codebook_sizes: Sequence[int]) -> int:
    """Return how many values `rvq_flatten`, and `orpheus_flatten` with offsets by level, can give: the sum of V."""
    return sum(codebook_sizes)


def orpheus_flatten(tokens: Tokens, per_position: bool = False) -> np.ndarray:
    """Write SNAC's levels as Orpheus does: per coarsest frame, its tree of codes from the root down, depth first.

    With three levels the 7 codes of coarsest frame i are ``L0[i], L1[2i], L2[4i], L2[4i+1], L1[2i+1], L2[4i+2],
    L2[4i+3]``. The order is defined for any number of levels of which each has twice the codes of the one before
    (SNAC 32 and 44 kHz: four, 15 codes).

    Args:
        tokens: Of SNAC, coarsest level first.
        per_position: False moves level l up by the sizes of the levels before it (0, 4096, 8192). True gives
            every one of the 7 positions an offset of its own (0, 4096, ..., 24576), as the original Orpheus does.

    Returns:
        int64 ``[7 T_0]``.

    Raises:
        UnsupportedInput: The levels do not double.
    """
    lengths = [len(codes) for codes in tokens.codes]
    if any(length != lengths[0] << level for level, length in enumerate(lengths)):
        raise UnsupportedInput(
            f"Levels of {lengths} codes do not double from each to the next, which the Orpheus order needs; "
            "use rvq_flatten for codebooks of one rate."
        )
    tree = _tree(tokens.num_codebooks)
    columns = [tokens.codes[level].reshape(lengths[0], 1 << level)[:, position] for level, position in tree]
    offsets = _tree_offsets(tokens.codebook_sizes, per_position)
    return (np.stack(columns, axis=1) + offsets).reshape(-1)


def orpheus_unflatten(
    flat: np.ndarray,
    codebook_sizes: Sequence[int] = SNAC_CODEBOOK_SIZES,
    frame_rate_hz: float = SNAC_FRAME_RATE_HZ,
    per_position: bool = False,
    **metadata,
) -> Tokens:
    """Undo `orpheus_flatten`.

    Args:
        flat: Integers ``[7 T_0]`` (``[(2^L - 1) T_0]`` for L levels).
        codebook_sizes: ``V`` per level, coarsest first.
        frame_rate_hz: Frames per second of the coarsest level.
        per_position: As it was given to `orpheus_flatten`.
        metadata: Further fields of `Tokens`.

    Raises:
        CorruptInput: A length that is no multiple of 7, or a value of another level (or position) than its own.
        UnsupportedInput: Another number of axes, or no integers.
    """
    sizes = tuple(codebook_sizes)
    tree = _tree(len(sizes))
    slot_sizes = tuple(sizes[level] for level, _ in tree)
    slots = _unflatten(flat, slot_sizes, "Orpheus-flat", _tree_offsets(sizes, per_position))
    codes = []
    for level in range(len(sizes)):
        columns = [slot for slot, (of_level, _) in enumerate(tree) if of_level == level]
        codes.append(slots[:, columns].reshape(-1))
    rates = tuple(frame_rate_hz * (1 << level) for level in range(len(sizes)))
    return Tokens(codes=tuple(codes), codebook_sizes=sizes, frame_rates_hz=rates, **metadata)


def orpheus_vocabulary_size(codebook_sizes: Sequence[int] = SNAC_CODEBOOK_SIZES, per_position: bool = False) -> int:
    """Return how many values `orpheus_flatten` can give: 3 x 4096, or 7 x 4096 with offsets per position."""
    if not per_position:
        return flat_vocabulary_size(codebook_sizes)
    return sum(codebook_sizes[level] for level, _ in _tree(len(codebook_sizes)))


def _tree(num_levels: int) -> list[tuple[int, int]]:
    """Return (level, position within the level) of the codes of one coarsest frame, depth first.

    Positions of a level come in ascending order, which is what lets `orpheus_unflatten` gather them by level.
    """

    def below(level: int, position: int) -> list[tuple[int, int]]:
        if level == num_levels:
            return []
        children = below(level + 1, 2 * position) + below(level + 1, 2 * position + 1)
        return [(level, position), *children]

    return below(0, 0)


def _tree_offsets(codebook_sizes: Sequence[int], per_position: bool) -> np.ndarray:
    levels = [level for level, _ in _tree(len(codebook_sizes))]
    if per_position:
        return _offsets([codebook_sizes[level] for level in levels])
    return _offsets(codebook_sizes)[levels]


def _offsets(codebook_sizes: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *codebook_sizes[:-1]], dtype=np.int64)


def _unflatten(
    flat: np.ndarray, slot_sizes: tuple[int, ...], order: str, offsets: np.ndarray | None = None
) -> np.ndarray:
    """Return int64 ``[T, slots]`` without the offsets, every value checked against its slot's range."""
    array = _integers(flat, f"{order} tokens", ndim=1)
    if not slot_sizes:
        raise UnsupportedInput("codebook_sizes is empty; give the size of each codebook.")
    if len(array) % len(slot_sizes):
        raise CorruptInput(
            f"{len(array)} {order} tokens are no multiple of the {len(slot_sizes)} in a frame; the last frame is "
            f"incomplete: cut {len(array) % len(slot_sizes)} off the end, or get the whole sequence."
        )
    slots = array.reshape(-1, len(slot_sizes))
    lowest = _offsets(slot_sizes) if offsets is None else offsets
    highest = lowest + np.asarray(slot_sizes, dtype=np.int64) - 1
    _check_ranges(slots, lowest, highest, f"{order} token")
    return slots.astype(np.int64) - lowest


def _check_ranges(array: np.ndarray, lowest: np.ndarray, highest: np.ndarray, what: str) -> None:
    """Raise `CorruptInput` for the first value, in row-major order, outside its own range."""
    outside = (array < lowest) | (array > highest)
    if not outside.any():
        return
    row, column = (int(i) for i in np.argwhere(outside)[0])
    low = np.broadcast_to(lowest, array.shape)[row, column]
    high = np.broadcast_to(highest, array.shape)[row, column]
    raise CorruptInput(
        f"{what} {array[row, column]} at index {row * array.shape[1] + column} (row {row}, column {column}) must "
        f"lie in {low}..{high}; codes were lost or inserted, or are in another order: check its sizes and options, "
        f"or cut at row {row}."
    )


def _integers(values: np.ndarray, what: str, ndim: int) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != ndim or not np.issubdtype(array.dtype, np.integer):
        raise UnsupportedInput(f"{what} must be integers with {ndim} axes; received {array.dtype} {list(array.shape)}.")
    return array
