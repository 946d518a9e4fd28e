"""What identifies stored arrays, whatever their file is called, and on whatever machine they lie in memory."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class StoredTensor(NamedTuple):
    """What a hash covers of one array.

    Attributes:
        dtype: Type as torch writes it, such as ``"torch.int8"``.
        shape: Shape.
        data: Values in C order, little-endian.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def stored_sha256(tensors: Mapping[str, StoredTensor]) -> str:
    """Return the SHA-256, hex, over names, types, shapes and little-endian values in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{list(tensor.shape)};".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def arrays_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Return `codecbook.codecs.model_files.tensors_sha256` of numpy arrays in any byte order."""
    return stored_sha256(
        {
            name: StoredTensor(f"torch.{array.dtype.name}", array.shape, little_endian(array))
            for name, array in arrays.items()
        }
    )


def little_endian(array: np.ndarray) -> bytes:
    """Return an array's values in C order, little-endian."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
