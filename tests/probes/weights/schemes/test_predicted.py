import numpy as np
import pytest

from codecbook.compiled import numba
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.probes.weights.schemes import entropy
from codecbook.probes.weights.schemes.lossless import (
    SOURCES,
    encode_exponents,
    exponent_bound_bits,
    rounded_bits,
    values_of,
)
from codecbook.probes.weights.schemes.packing import pack
from codecbook.probes.weights.schemes.predicted import encode_predicted
from codecbook.probes.weights.schemes.table import SCHEMES

SCHEME = SCHEMES["predicted"]


def in_type(matrix: np.ndarray, dtype: str) -> np.ndarray:
    matrix = matrix.astype(np.float32)
    return matrix if dtype == "F32" else values_of(rounded_bits(matrix, dtype), dtype)


def any_bits(dtype: str, R: int = 32, C: int = 20) -> np.ndarray:
    """Every kind of value, subnormal, infinite and not a number, as often as its bits."""
    kind = np.dtype(SOURCES[dtype].bits)
    bits = np.random.default_rng(0).integers(0, 1 << 8 * kind.itemsize, (R, C)).astype(kind)
    return values_of(bits, dtype)


def table(dtype: str, R: int = 600, C: int = 32) -> np.ndarray:
    """Codewords whose later columns follow from the first ones, as those of codebooks do."""
    random = np.random.default_rng(1)
    factors = random.standard_normal((R, 6)) @ random.standard_normal((6, C))
    return in_type(0.1 * (factors + 0.02 * random.standard_normal((R, C))), dtype)


@pytest.mark.parametrize("dtype", SOURCES)
@pytest.mark.parametrize("finite", [True, False])
def test_every_bit_of_every_value_comes_back(dtype: str, finite: bool) -> None:
    matrix = any_bits(dtype)
    if finite:
        matrix = np.where(np.isfinite(matrix), matrix, -np.float32(0))
    found = SCHEME.decode(encode_predicted(matrix, dtype), matrix.shape)
    assert found.dtype == np.float32
    assert found.tobytes() == matrix.tobytes()


@pytest.mark.parametrize("dtype", SOURCES)
@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1), (9, 7)])
def test_zeros_of_both_signs_subnormals_and_the_largest_come_back(dtype: str, shape: tuple[int, int]) -> None:
    source = SOURCES[dtype]
    mantissa = source.mantissa_bits
    largest = ((1 << source.exponent_bits) - 1 << mantissa) - 1
    special = [0, 1, 2, 3, (1 << mantissa) - 1, 1 << mantissa, (1 << mantissa) + 1, largest - 1, largest]
    bits = np.array([*special, *(value | 1 << mantissa + source.exponent_bits for value in special)])
    matrix = values_of(np.resize(bits, shape).astype(source.bits), dtype)
    for part in (matrix, matrix * 0, np.abs(matrix)):
        assert SCHEME.decode(encode_predicted(part, dtype), shape).tobytes() == part.tobytes()


@pytest.mark.parametrize("dtype", SOURCES)
def test_rows_of_all_sizes_come_back(dtype: str) -> None:
    sizes = np.ldexp(1.0, np.arange(-150, 128, 2) if dtype != "F16" else np.arange(-24, 15))[:, None]
    matrix = in_type(np.random.default_rng(2).uniform(-0.99, 0.99, (len(sizes), 11)) * sizes, dtype)
    assert SCHEME.decode(encode_predicted(matrix, dtype), matrix.shape).tobytes() == matrix.tobytes()


@pytest.mark.parametrize("dtype", SOURCES)
def test_columns_that_follow_from_others_take_fewer_bits_than_exponents_could(dtype: str) -> None:
    matrix = table(dtype)
    bits = 8 * len(encode_predicted(matrix, dtype)) / matrix.size
    assert bits < exponent_bound_bits(matrix, dtype) / matrix.size - (0.5 if dtype == "BF16" else 2)


def test_columns_of_other_sizes_take_fewer_bits_than_exponents_could() -> None:
    random = np.random.default_rng(3)
    matrix = in_type(random.standard_normal((400, 64)) * np.exp(random.standard_normal(64)), "F16")
    assert 8 * len(encode_predicted(matrix, "F16")) < exponent_bound_bits(matrix, "F16")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_stored_by_exponents(value: float) -> None:
    matrix = table("F16", 9, 5)
    matrix[3, 3] = value
    data = encode_predicted(matrix, "F16")
    assert data == b"\xff" + encode_exponents(matrix, "F16")
    assert SCHEME.decode(data, matrix.shape).tobytes() == matrix.tobytes()


@pytest.mark.skipif(numba is None, reason="numba is not installed, so that all runs are plain Python")
@pytest.mark.parametrize("dtype", SOURCES)
def test_plain_python_has_the_same_bytes_and_no_number_beyond_64_bits(dtype: str, monkeypatch) -> None:
    matrix = np.where(np.isfinite(any_bits(dtype)), any_bits(dtype), 0)[:10]
    data = encode_predicted(matrix, dtype)
    for name in ("_level", "_scaled", "_code", "_code_symbol", "_code_bits", "_code_all_bits", "_code_far"):
        monkeypatch.setattr(entropy, name, getattr(entropy, name).py_func)
    assert encode_predicted(matrix, dtype) == data
    assert SCHEME.decode(data, matrix.shape).tobytes() == matrix.tobytes()


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_values_that_the_type_does_not_have_are_refused(dtype: str) -> None:
    with pytest.raises(UnsupportedInput, match=dtype):
        encode_predicted(np.array([[1 / 3]], dtype=np.float32), dtype)


@pytest.mark.parametrize("dtype", SOURCES)
def test_damaged_bytes_are_refused_or_decode_to_a_matrix_of_this_shape(dtype: str) -> None:
    matrix, random = table(dtype, 12, 6), np.random.default_rng(4)
    data = encode_predicted(matrix, dtype)
    for end in range(len(data)):
        with pytest.raises(CorruptInput):
            SCHEME.decode(data[:end], matrix.shape)
    for place in range(len(data)):
        for bit in random.choice(8, 3, replace=False):
            changed = data[:place] + bytes([data[place] ^ 1 << int(bit)]) + data[place + 1 :]
            try:
                with np.errstate(all="ignore"):
                    assert SCHEME.decode(changed, matrix.shape).shape == matrix.shape
            except CorruptInput:
                continue


@pytest.mark.parametrize("data", [b"", b"\0", b"\3" + pack(*[np.zeros(2, np.uint8)] * 3), b"\0" + pack(), b"\xff"])
def test_other_parts_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptInput):
        SCHEME.decode(data, (4, 4))
