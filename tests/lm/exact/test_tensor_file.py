"""The plain reader of ``.safetensors``: equal to the package on what is whole, and closed to what is not."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from codecbook.errors import CorruptInput
from codecbook.lm.exact.files import read_arrays

PATH = Path("model.safetensors")
ARRAYS = {
    "long": np.array([[-(2**40), 5]]), "byte": np.arange(-3, 4, dtype=np.int8),
    "empty": np.zeros((0, 7), dtype=np.int16),
    "short": np.array([[-300], [300]], dtype=np.int16), "word": np.array([2**31 - 1, -(2**31)], dtype=np.int32),
    "scalar": np.array(9, dtype=np.int32),
}  # fmt: skip


def file_of(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: object = "I8", shape: object = (2,), offsets: object = (0, 2)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_files_of_the_package_are_read() -> None:
    found = read_arrays(safetensors.numpy.save(ARRAYS, metadata={"from": "a test"}), PATH)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].dtype.isnative


def test_literal_bytes() -> None:
    # written by hand: the length 66 in 8 bytes, the header, and 1 and -2 with the low byte first
    header = b'{"a":{"dtype":"I16","shape":[2],"data_offsets":[0,4]}}            '
    data = bytes([66, 0, 0, 0, 0, 0, 0, 0]) + header + bytes([1, 0, 0xFE, 0xFF])
    assert read_arrays(data, PATH)["a"].tolist() == [1, -2]


def test_every_cut_is_noticed() -> None:
    data = safetensors.numpy.save(ARRAYS)
    for length in range(len(data)):
        with pytest.raises(CorruptInput, match="truncated or damaged"):
            read_arrays(data[:length], PATH)
    with pytest.raises(CorruptInput, match="truncated or damaged"):
        read_arrays(data + b"\0", PATH)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ([], b""),
        ("text", b""),
        ({"a": 5}, b""),
        ({"a": {}}, b""),
        ({"a": entry(dtype=8)}, b"12"),
        ({"a": entry(shape=5)}, b"12"),
        ({"a": entry(shape=[-2])}, b"12"),
        ({"a": entry(shape=[True, 2])}, b"12"),
        ({"a": entry(shape=[3])}, b"12"),
        ({"a": entry(shape=[1 << 80])}, b"12"),
        ({"a": entry(offsets=[0])}, b"12"),
        ({"a": entry(offsets=[2, 0])}, b"12"),
        ({"a": entry(offsets=[0.0, 2.0])}, b"12"),
        ({"a": entry(offsets=[1, 3])}, b"123"),
        ({"a": entry(offsets=[0, 2]), "b": entry(offsets=[0, 2])}, b"12"),
        ({"a": entry(offsets=[0, 2]), "b": entry(offsets=[3, 5])}, b"12345"),
        ({"a": entry()}, b"123"),
        ({"__metadata__": {"a": "b"}}, b"1"),
    ],
)
def test_headers_that_describe_no_arrays(header: object, data: bytes) -> None:
    with pytest.raises(CorruptInput, match="truncated or damaged"):
        read_arrays(file_of(header, data), PATH)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe{}", b"[" * 100_000])
def test_headers_that_are_no_json(text: bytes) -> None:
    with pytest.raises(CorruptInput, match="truncated or damaged"):
        read_arrays(len(text).to_bytes(8, "little") + text, PATH)
    with pytest.raises(CorruptInput, match="truncated or damaged"):
        read_arrays(b"\xff" * 8 + text, PATH)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "U8", "BOOL", "i8"])
def test_other_numbers_are_refused(dtype: str) -> None:
    with pytest.raises(CorruptInput, match=f"other numbers than integers .a is {dtype}"):
        read_arrays(file_of({"a": entry(dtype)}, b"12"), PATH)
