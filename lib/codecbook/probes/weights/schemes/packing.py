"""Arrays as one string of bytes that says what it holds: the form in which every scheme stores what it needs.

The number of arrays; then of each its type (a byte), its number of axes (a byte), its axes, and its values, the lowest
byte first. Numbers are LEB128. Unsigned integers are codes: all take as many bits as the largest one has (`pack_bits`).
"""

import math
from collections.abc import Iterator

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens.bits import pack_bits, unpack_bits

PLAIN_TYPES = tuple(np.dtype(name) for name in ("<i1", "<i2", "<i4", "<f2", "<f4"))
CODE_TYPES = {16: np.dtype("<u1"), 32: np.dtype("<u2")}  # the type's byte is this plus the bits of a code
MAX_VALUES = 1 << 40


def pack(*arrays: np.ndarray) -> bytes:
    """Return the bytes of arrays of int8, int16, int32, float16, float32, or codes of uint8 or uint16.

    Example:
        >>> pack(np.array([3, 1, 2], dtype=np.uint8)).hex()
        '0112010327'
    """
    parts = [_leb128(len(arrays))]
    for array in arrays:
        kind, data = _kind_and_data(array)
        parts += [bytes([kind, array.ndim]), *map(_leb128, array.shape), data]
    return b"".join(parts)


def unpack(data: bytes) -> list[np.ndarray]:
    """Return the arrays that `pack` made these bytes of; their values take at most 16 times the room of the bytes.

    Raises CorruptInput: the bytes end early, go on, or say what `pack` never writes.
    """
    reader = _Reader(data)
    arrays = [_read_array(reader) for _ in range(min(reader.number(), len(data) + 1))]
    if reader.place != len(data):
        raise CorruptInput(
            f"The packed arrays end at byte {reader.place} of {len(data)}; the bytes are damaged, fetch the file again."
        )
    return arrays


def _kind_and_data(array: np.ndarray) -> tuple[int, bytes]:
    stored = array.dtype.newbyteorder("<")
    if stored in PLAIN_TYPES:
        return PLAIN_TYPES.index(stored), array.astype(stored, copy=False).tobytes()
    for first, dtype in CODE_TYPES.items():
        if stored == dtype:
            width = max(1, int(array.max(initial=0)).bit_length())
            return first + width, _pack_codes(array, dtype, width)
    raise UnsupportedInput(f"An array of {array.dtype} cannot be packed; cast it to one of the types of `pack`.")


def _pack_codes(codes: np.ndarray, dtype: np.dtype, width: int) -> bytes:
    if width == 8 * dtype.itemsize:
        return codes.astype(dtype, copy=False).tobytes()
    return pack_bits(codes.reshape(-1, 1), (1 << width,))


def _read_array(reader: "_Reader") -> np.ndarray:
    kind, ndim = reader.take(2)
    shape = tuple(reader.number() for _ in range(ndim))
    count = math.prod(shape)
    if max(math.prod(max(size, 1) for size in shape), count) > MAX_VALUES or ndim > 8:
        raise CorruptInput(f"A packed array has the shape {list(shape)}; the bytes are damaged, fetch the file again.")
    if kind < len(PLAIN_TYPES):
        dtype = PLAIN_TYPES[kind]
        values = np.frombuffer(reader.take(count * dtype.itemsize), dtype)
    else:
        values = _read_codes(reader, kind, count)
    return values.astype(values.dtype.newbyteorder("="), copy=False).reshape(shape)


def _read_codes(reader: "_Reader", kind: int, count: int) -> np.ndarray:
    first, width = kind & ~15, kind & 15
    dtype = CODE_TYPES.get(first)
    if kind == 48:
        dtype, width = CODE_TYPES[32], 16
    if dtype is None or not 1 <= width <= 8 * dtype.itemsize:
        raise CorruptInput(
            f"A packed array has the type {kind}, which there is not; the bytes are damaged, fetch the file again."
        )
    data = reader.take(-(-count * width // 8))
    if width == 8 * dtype.itemsize:
        return np.frombuffer(data, dtype)
    return unpack_bits(data, (1 << width,), count)[:, 0].astype(dtype)


def _leb128(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


class _Reader:
    """Takes bytes from the front."""

    def __init__(self, data: bytes) -> None:
        self._data, self.place = data, 0

    def take(self, count: int) -> bytes:
        part = self._data[self.place : self.place + count]
        if len(part) < count:
            raise CorruptInput(f"Packed arrays end after {len(self._data)} bytes; they are cut off or damaged.")
        self.place += count
        return part

    def number(self) -> int:
        return sum((byte & 127) << 7 * place for place, byte in enumerate(self._leb128()))

    def _leb128(self) -> Iterator[int]:
        for _ in range(9):
            byte = self.take(1)[0]
            yield byte
            if byte < 128:
                return
        raise CorruptInput("A number in packed arrays does not end; the bytes are damaged, fetch the file again.")
