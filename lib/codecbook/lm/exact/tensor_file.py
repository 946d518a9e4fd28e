"""Integer arrays from the bytes of a ``.safetensors`` file, by nothing but numpy.

A file is the length of its header (8 bytes, little-endian), the header, and the data. The header is a JSON object:
``{name: {"dtype": "I8", "shape": [2, 3], "data_offsets": [begin, end]}}``, offsets counting from the end of the
header, values little-endian in C order, without gaps; a key ``"__metadata__"`` may stand beside the names
(https://github.com/huggingface/safetensors, "Format"). The package ``safetensors`` reads the same, but is not there on
every machine that numpy runs on.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.errors import CorruptInput

_TYPES = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
_LENGTH_BYTES = 8


def read_arrays(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file, in this machine's byte order.

    Args:
        data: All bytes of the file.
        path: Named in errors.

    Raises:
        CorruptInput: Bytes are missing or too many, the header is no header, or an array holds other numbers than
            integers of 8 to 64 bits.
    """
    try:
        header, start = _header(data)
        places = sorted((*_place(entry), name) for name, entry in header.items())
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptInput(f"{path} is truncated or damaged ({error}); fetch the model again.") from error
    arrays, expected = {}, 0
    for begin, end, dtype, shape, name in places:
        if dtype not in _TYPES:
            raise CorruptInput(
                f"{path} holds other numbers than integers ({name} is {dtype}); fetch it again."
            )
        kind = np.dtype(_TYPES[dtype])
        if begin != expected or end - begin != math.prod(shape) * kind.itemsize or start + end > len(data):
            raise CorruptInput(
                f"{path} is truncated or damaged (the bytes {begin}..{end} of {name} do not fit its shape "
                f"{list(shape)} or the file); fetch the model again."
            )
        values = np.frombuffer(data[start + begin : start + end], dtype=kind)
        arrays[name] = values.astype(kind.newbyteorder("=")).reshape(shape)
        expected = end
    if start + expected != len(data):
        raise CorruptInput(
            f"{path} is truncated or damaged ({len(data)} bytes, its header says {start + expected}); fetch the model "
            "again."
        )
    return arrays


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """Return the entries by name, and where the data start."""
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < max(start, _LENGTH_BYTES):
        raise ValueError(f"its header ends at byte {start} of {len(data)}")
    header = json.loads(data[_LENGTH_BYTES:start])
    if not isinstance(header, dict):
        raise TypeError("its header is no JSON object")
    header.pop("__metadata__", None)
    return header, start


def _place(entry: dict[str, Any]) -> tuple[int, int, str, tuple[int, ...]]:
    """Return begin, end, type and shape of an array."""
    begin, end = entry["data_offsets"]
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    if not isinstance(dtype, str) or any(type(n) is not int or n < 0 for n in (begin, end, *shape)):
        raise TypeError(f"{entry} describes no array")
    return begin, end, dtype, shape
