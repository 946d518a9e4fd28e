"""Arrays as one string of bytes that says what it holds: the form in which every scheme stores what it needs.

The number of arrays; then of each its type (a byte), its number of axes (a byte), its axes, and its values, the lowest
byte first. Numbers are LEB128. Unsigned integers are codes: all take as many bits as the largest one has (`pack_bits`).
"""

import math

import numpy as np

from codecbook.coding.stream.fields import Fields, varint
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
    parts = [varint(len(arrays))]
    for array in arrays:
        kind, data = _kind_and_data(array)
        parts += [bytes([kind, array.ndim]), *map(varint, array.shape), data]
    return b"".join(parts)


def unpack(data: bytes) -> list[np.ndarray]:
    """Return the arrays that `pack` made these bytes of; their values take at most 16 times the room of the bytes.

    Raises CorruptInput: the bytes end early, go on, or say what `pack` never writes.
    """
    fields = Fields(data)
    try:
        arrays = [_read_array(fields) for _ in range(min(fields.varint(), len(data) + 1))]
    except (IndexError, ValueError) as error:  # of the fields
        raise CorruptInput(f"Packed arrays cannot be read ({error}); fetch the file again.") from error
    if fields.place != len(data):
        raise CorruptInput(f"Packed arrays end at byte {fields.place} of {len(data)}; fetch the file again.")
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


def _read_array(fields: Fields) -> np.ndarray:
    kind, ndim = fields.take(2)
    shape = tuple(fields.varint() for _ in range(ndim))
    count = math.prod(shape)
    if max(math.prod(max(size, 1) for size in shape), count) > MAX_VALUES or ndim > 8:
        raise ValueError(f"an array of shape {list(shape)}")
    if kind < len(PLAIN_TYPES):
        dtype = PLAIN_TYPES[kind]
        values = np.frombuffer(fields.take(count * dtype.itemsize), dtype)
    else:
        values = _read_codes(fields, kind, count)
    return values.astype(values.dtype.newbyteorder("="), copy=False).reshape(shape)


def _read_codes(fields: Fields, kind: int, count: int) -> np.ndarray:
    first, width = kind & ~15, kind & 15
    dtype = CODE_TYPES.get(first)
    if kind == 48:
        dtype, width = CODE_TYPES[32], 16
    if dtype is None or not 1 <= width <= 8 * dtype.itemsize:
        raise ValueError(f"an array of type {kind}, which there is not")
    data = fields.take(-(-count * width // 8))
    if width == 8 * dtype.itemsize:
        return np.frombuffer(data, dtype)
    return unpack_bits(data, (1 << width,), count)[:, 0].astype(dtype)
