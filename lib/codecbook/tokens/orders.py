"""Orders: lay the codes of several codebooks out for a sequence model, and take them apart again.

==========  =======================  =====================================  ==================================
order       array                    what one step of a model sees          after
==========  =======================  =====================================  ==================================
parallel    int64 ``[T, K]``         a frame, all codebooks at once         Défossez et al. 2022, section 3.3
delay       int64 ``[T + K - 1, K]`` codebook k, k frames late              Copet et al. 2023 (MusicGen), 2.2
RVQ flat    int64 ``[T K]``          one code, codebook after codebook      Copet et al. 2023, "flattening"
Orpheus     int64 ``[7 T_0]``        one code of SNAC's tree of levels      Siuzdak et al. 2024 (SNAC); Orpheus
==========  =======================  =====================================  ==================================

Every inverse checks that each value lies where its position allows it, so that the output of a model, or a file
of another order, gives an error with its first wrong index instead of plausible but wrong tokens.
"""

from collections.abc import Sequence

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens.tokens import Tokens, tokens_from_frames

SNAC_CODEBOOK_SIZES = (4096, 4096, 4096)
SNAC_FRAME_RATE_HZ = 24_000 / 2048
"""Frames per second of the coarsest level of SNAC 24 kHz; 7 codes each make 82.03 codes per second."""


def parallel_stack(tokens: Tokens) -> np.ndarray:
    """Return int64 ``[T, K]``, a frame a row: K heads predict all codebooks of a frame at once.

    Raises:
        UnsupportedInput: The codebooks run at different rates.
    """
    return tokens.to_frames()


def parallel_unstack(
    frames: np.ndarray, codebook_sizes: Sequence[int] | int, frame_rate_hz: float, **metadata
) -> Tokens:
    """Undo `parallel_stack`.

    Args:
        frames: Integers ``[T, K]``.
        codebook_sizes: ``V`` per codebook, or one for all.
        frame_rate_hz: Frames per second.
        metadata: Further fields of `Tokens`.

    Raises:
        CorruptInput: A code outside its codebook.
        UnsupportedInput: Another number of axes, or no integers.
    """
    return tokens_from_frames(frames, codebook_sizes, frame_rate_hz, **metadata)


def delay_stack(tokens: Tokens, pad: int | None = None) -> np.ndarray:
    """Shift codebook k down by k frames, so that codebook k of a frame is predicted after codebooks below k.

    Args:
        tokens: Of one common rate.
        pad: Fills the two corners that the shift leaves; None takes the largest ``V``, as MusicGen does.
            (MusicGen also puts one row of pads in front of all, as its start of sequence; that is left to the
            model here.)

    Returns:
        int64 ``[T + K - 1, K]``: row t holds code ``t - k`` of codebook k.

    Raises:
        UnsupportedInput: The codebooks run at different rates, or `pad` is also a code.
    """
    frames = tokens.to_frames()
    num_frames, count = frames.shape
    delayed = np.full((num_frames + count - 1, count), _pad_code(tokens.codebook_sizes, pad), dtype=np.int64)
    for k in range(count):
        delayed[k : k + num_frames, k] = frames[:, k]
    return delayed


def delay_unstack(
    delayed: np.ndarray,
    codebook_sizes: Sequence[int] | int,
    frame_rate_hz: float,
    pad: int | None = None,
    **metadata,
) -> Tokens:
    """Undo `delay_stack`.

    Args:
        delayed: Integers ``[T + K - 1, K]``.
        codebook_sizes: ``V`` per codebook, or one for all.
        frame_rate_hz: Frames per second.
        pad: As it was given to `delay_stack`.
        metadata: Further fields of `Tokens`.

    Raises:
        CorruptInput: Fewer than K - 1 rows, a corner that is not `pad`, or a code outside its codebook.
        UnsupportedInput: Another shape, no integers, or `pad` is also a code.
    """
    array = _integers(delayed, "Delayed codes", ndim=2)
    rows, count = array.shape
    sizes = (
        (codebook_sizes,) * count if isinstance(codebook_sizes, int | np.integer) else tuple(codebook_sizes)
    )
    if len(sizes) != count or count == 0:
        raise UnsupportedInput(
            f"Delayed codes of shape {list(array.shape)} do not fit {len(sizes)} codebook sizes; pass [T + K - 1, K]."
        )
    num_frames = rows - (count - 1)
    if num_frames < 0:
        raise CorruptInput(
            f"{rows} rows cannot hold {count} codebooks with delays of 0 to {count - 1} frames; at least "
            f"{count - 1} are needed, so the end is missing."
        )
    expected_pad = _pad_code(sizes, pad)
    shift = np.arange(rows)[:, None] - np.arange(count)  # the frame that each cell belongs to
    is_code = (shift >= 0) & (shift < num_frames)
    lowest = np.where(is_code, 0, expected_pad)
    highest = np.where(is_code, np.asarray(sizes) - 1, expected_pad)
    _check_ranges(array, lowest, highest, "Delayed code")
    frames = np.stack([array[k : k + num_frames, k] for k in range(count)], axis=1)
    return tokens_from_frames(frames, sizes, frame_rate_hz, **metadata)


def rvq_flatten(tokens: Tokens) -> np.ndarray:
    """Write frame after frame, codebook after codebook, codebook k's codes moved up by the sizes before it.

    Returns:
        int64 ``[T K]``; values of codebook k lie in ``[k V, (k + 1) V)`` where all sizes are V.

    Raises:
        UnsupportedInput: The codebooks run at different rates.
    """
    return (tokens.to_frames() + _offsets(tokens.codebook_sizes)).reshape(-1)


def rvq_unflatten(
    flat: np.ndarray, codebook_sizes: Sequence[int], frame_rate_hz: float, **metadata
) -> Tokens:
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


def orpheus_vocabulary_size(
    codebook_sizes: Sequence[int] = SNAC_CODEBOOK_SIZES, per_position: bool = False
) -> int:
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


def _pad_code(codebook_sizes: Sequence[int], pad: int | None) -> int:
    largest = max(codebook_sizes)
    if pad is None:
        return largest
    if 0 <= pad < largest:
        raise UnsupportedInput(
            f"pad={pad} is also a code of a codebook; choose {largest} or more, or below 0."
        )
    return pad


def _integers(values: np.ndarray, what: str, ndim: int) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != ndim or not np.issubdtype(array.dtype, np.integer):
        raise UnsupportedInput(
            f"{what} must be integers with {ndim} axes; received {array.dtype} {list(array.shape)}."
        )
    return array
