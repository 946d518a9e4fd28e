import numpy as np
import pytest

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.probes.weights.schemes.packing import pack, unpack

ARRAYS = [
    np.arange(-3, 3, dtype=np.int8).reshape(2, 3),
    np.array([[-30000, 2]], dtype=np.int16),
    np.array(-(2**31), dtype=np.int32),
    np.array([1.5, np.nan, np.inf], dtype=np.float16),
    np.linspace(-1, 1, 200, dtype=np.float32).reshape(2, 1, 100),
    np.zeros((0, 5), dtype=np.float32),
    np.array([], dtype=np.uint8),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{list(array.shape)}")
def test_an_array_comes_back_as_it_was(array: np.ndarray) -> None:
    (found,) = unpack(pack(array))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("width", range(1, 17))
def test_codes_take_as_many_bits_as_the_largest_needs(width: int) -> None:
    codes = np.random.default_rng(width).integers(0, 1 << width, size=(31, 7), dtype=np.uint16)
    codes[-1, -1] = (1 << width) - 1
    data = pack(codes)
    assert len(data) == 5 + -(-31 * 7 * width // 8)
    (found,) = unpack(data)
    assert found.dtype == codes.dtype
    assert np.array_equal(found, codes)


def test_all_arrays_come_back_in_their_order_whatever_the_byte_order_of_the_machine() -> None:
    data = pack(*ARRAYS)
    assert pack(*(array.astype(array.dtype.newbyteorder(">")) for array in ARRAYS)) == data
    for found, array in zip(unpack(data), ARRAYS, strict=True):
        np.testing.assert_array_equal(found, array)


def test_golden_bytes() -> None:
    data = pack(np.array([3, 1, 2], dtype=np.uint8), np.array([[1.0]], dtype=np.float16))
    assert data.hex() == "0212010327" + "0302" + "0101" + "003c"


@pytest.mark.parametrize("wanted", ["float64", "int64", "bool"])
def test_other_types_are_refused(wanted: str) -> None:
    with pytest.raises(UnsupportedInput, match=wanted):
        pack(np.zeros(3, dtype=wanted))


def test_bytes_cut_off_or_gone_on_are_refused() -> None:
    data = pack(*ARRAYS)
    for end in range(len(data)):
        with pytest.raises(CorruptInput):
            unpack(data[:end])
    with pytest.raises(CorruptInput, match="end at byte"):
        unpack(data + b"\0")


def test_changed_bytes_are_refused_or_give_arrays_no_larger_than_they_may_be() -> None:
    data, random = pack(*ARRAYS), np.random.default_rng(0)
    for _ in range(500):
        changed = bytearray(data)
        changed[random.integers(40)] = random.integers(256)
        try:
            arrays = unpack(bytes(changed))
        except CorruptInput:
            continue
        assert sum(array.nbytes for array in arrays) <= 16 * len(data)


@pytest.mark.parametrize(
    "text",
    [
        "ffffffffffffffffffff01",
        "01",
        "01050100",
        "0110010100",
        "011901010000",
        "0103" + "ff" * 300,
        "010301ffffffffffffff7f",
    ],
)
def test_hostile_headers_are_refused(text: str) -> None:
    with pytest.raises(CorruptInput):
        unpack(bytes.fromhex(text))
