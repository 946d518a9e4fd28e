"""Codes at fixed width: row by row, in a row column by column, the lowest bit of a code and of a byte first.

A code of a codebook of V takes as many bits as ``V - 1`` has, one at least; the last byte is filled with zeros. That is
how ``.ecdc`` and ``.cbs`` hold codes without a language model.
"""

import numpy as np

from codecbook.errors import CorruptInput

_BLOCK_BITS = 1 << 18  # spread out into bytes at a time


def packed_bytes(codebook_sizes: tuple[int, ...], num_rows: int) -> int:
    """Return how many bytes `pack_bits` makes of this many rows."""
    return -(-num_rows * sum(_widths(codebook_sizes)) // 8)


def pack_bits(rows: np.ndarray, codebook_sizes: tuple[int, ...]) -> bytes:
    """Pack rows ``[T, K]`` of codes below their codebook's size.

    Example:
        >>> pack_bits(np.array([[1, 1023], [512, 0]]), (1024, 1024)).hex()
        '01fc0f2000'
    """
    columns, places, _ = _bits_of_row(codebook_sizes)
    block = _block_rows(len(columns))
    parts = []
    for start in range(0, len(rows), block):
        bits = (rows[start : start + block, columns] >> places) & 1
        parts.append(np.packbits(bits.astype(np.uint8), bitorder="little").tobytes())
    return b"".join(parts)


def unpack_bits(data: bytes, codebook_sizes: tuple[int, ...], num_rows: int, *, damaged: bool = False) -> np.ndarray:
    """Return the rows, int64 ``[num_rows, K]``, that `pack_bits` made these bytes of.

    Where the bytes are known to be damaged, rows are those that are there, and a code beyond its codebook is the last.

    Raises CorruptInput: another number of bytes, a code beyond its codebook, or bits after the last code.
    """
    columns, places, starts = _bits_of_row(codebook_sizes)
    if damaged:
        num_rows = min(num_rows, 8 * len(data) // len(columns))
        data = data[: packed_bytes(codebook_sizes, num_rows)]
    used, expected = num_rows * len(columns), packed_bytes(codebook_sizes, num_rows)
    if len(data) != expected:
        raise CorruptInput(
            f"{num_rows} rows of {len(columns)} bits take {expected} bytes, not {len(data)}: make or fetch them again."
        )
    if not damaged and used % 8 and data[-1] >> used % 8:
        raise CorruptInput("The bits after the last code are not zero: they are damaged.")
    packed, block = np.frombuffer(data, dtype=np.uint8), _block_rows(len(columns))
    rows = np.zeros((num_rows, len(codebook_sizes)), dtype=np.int64)
    for start in range(0, num_rows, block):
        part = rows[start : start + block]
        bits = np.unpackbits(packed[start * len(columns) // 8 :], count=len(part) * len(columns), bitorder="little")
        values = bits.reshape(len(part), -1).astype(np.int64) << places
        part[:] = np.add.reduceat(values, starts, axis=1)
    if damaged:
        return np.minimum(rows, np.asarray(codebook_sizes) - 1)
    beyond = np.argwhere(rows >= np.asarray(codebook_sizes))
    if beyond.size:
        row, column = beyond[0]
        raise CorruptInput(f"Code {rows[row, column]} of row {row}, column {column} is beyond its codebook.")
    return rows


def _widths(codebook_sizes: tuple[int, ...]) -> list[int]:
    return [max(1, (size - 1).bit_length()) for size in codebook_sizes]


def _bits_of_row(codebook_sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of each bit of a row its column and its place in the code, and where each column begins."""
    widths = np.array(_widths(codebook_sizes), dtype=np.int64)
    columns, starts = np.repeat(np.arange(len(widths)), widths), np.cumsum(widths) - widths
    return columns, np.arange(len(columns)) - starts[columns], starts


def _block_rows(bits_per_row: int) -> int:
    """Return how many rows are spread out at a time, a multiple of 8, so that they begin and end with a byte."""
    return 8 * max(1, _BLOCK_BITS // (8 * bits_per_row))
