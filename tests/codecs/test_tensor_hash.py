"""The identity of stored arrays: the same from torch and numpy, in every byte order."""

import hashlib

import numpy as np
import torch

from codecbook.codecs.model_files import tensors_sha256
from codecbook.codecs.tensor_hash import arrays_sha256

ARRAYS = {
    "b": np.arange(-6, 6, dtype=np.int32).reshape(3, 4),
    "a": np.array([-1, 2], dtype=np.int8),
    "c": np.arange(4, dtype=np.int64).reshape(2, 2).T,
    "d": np.array([0.5, -1.25], dtype=np.float16),
    "e": np.zeros((0, 3), dtype=np.int16),
}


def test_the_bytes_are_those_of_the_text() -> None:
    text = b"a:torch.int8:[2];\xff\x02" + b"c:torch.int16:[1, 2];\x01\x00\x00\x01"
    arrays = {"c": np.array([[1, 256]], dtype=np.int16), "a": np.array([-1, 2], dtype=np.int8)}
    assert arrays_sha256(arrays) == hashlib.sha256(text).hexdigest()


def test_torch_and_numpy_agree() -> None:
    tensors = {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}
    assert arrays_sha256(ARRAYS) == tensors_sha256(tensors)


def test_byte_order_is_no_part_of_it() -> None:
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in ARRAYS.items()}
    assert arrays_sha256(swapped) == arrays_sha256(ARRAYS)


def test_types_that_numpy_lacks_have_a_hash() -> None:
    assert tensors_sha256({"a": torch.ones(2, dtype=torch.bfloat16)}) != tensors_sha256(
        {"a": torch.ones(2, dtype=torch.float16)}
    )
