"""What identifies stored arrays, whatever their file is called, and on whatever machine they lie in memory."""

import hashlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


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


def tensors_sha256(tensors: Mapping[str, "Tensor"]) -> str:
    """Return the SHA-256, hex, over names, types, shapes and little-endian values in the order of names."""
    return stored_sha256({name: _as_stored(tensor.detach().cpu()) for name, tensor in tensors.items()})


def arrays_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Return `tensors_sha256` of numpy arrays in any byte order."""
    return stored_sha256(
        {
            name: StoredTensor(f"torch.{array.dtype.name}", array.shape, little_endian(array))
            for name, array in arrays.items()
        }
    )


def little_endian(array: np.ndarray) -> bytes:
    """Return an array's values in C order, little-endian."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _as_stored(tensor: "Tensor") -> StoredTensor:
    import torch  # here, as hashes of numpy's arrays are wanted where there is no torch

    # by bytes, as numpy lacks some types
    data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "big":
        data = data.reshape(-1, tensor.element_size())[:, ::-1]
    return StoredTensor(str(tensor.dtype), tuple(tensor.shape), data.tobytes())
