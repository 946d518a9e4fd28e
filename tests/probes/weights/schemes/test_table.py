import itertools

import numpy as np
import pytest

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.probes.weights.schemes import lossless
from codecbook.probes.weights.schemes.packing import pack
from codecbook.probes.weights.schemes.table import SCHEMES

LOSSLESS = [name for name, scheme in SCHEMES.items() if scheme.lossless]
LOSSY = [name for name in SCHEMES if name not in LOSSLESS]
R, C = 48, 160
ENTRIES = R * C


def weights(R: int = R, C: int = C, dtype: str = "F16") -> np.ndarray:
    random = np.random.default_rng(0)
    matrix = (0.03 * random.standard_normal((R, C)) * np.exp(random.standard_normal((R, 1)))).astype(np.float32)
    return lossless.values_of(lossless.rounded_bits(matrix, dtype), dtype) if dtype != "F32" else matrix


def relative_error(found: np.ndarray, matrix: np.ndarray) -> float:
    return float(np.linalg.norm(found - matrix) / np.linalg.norm(matrix))


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("shape", [(R, C), (3, 7), (1, 1), (5, 1)])
def test_a_matrix_comes_back_in_its_shape_from_bytes_alone(name: str, shape: tuple[int, int]) -> None:
    matrix, scheme = weights(*shape), SCHEMES[name]
    data = scheme.encode(matrix, source_dtype="F16")
    found = scheme.decode(bytes(bytearray(data)), shape)
    assert found.dtype == np.float32
    assert found.shape == shape
    assert np.isfinite(found).all()
    if scheme.lossless:
        assert found.tobytes() == matrix.tobytes()


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("dtype", lossless.SOURCES)
def test_lossless_schemes_keep_every_bit_of_every_type(name: str, dtype: str) -> None:
    matrix = weights(dtype=dtype)
    matrix[0, :6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 2.0**-14]
    found = SCHEMES[name].decode(SCHEMES[name].encode(matrix, source_dtype=dtype), matrix.shape)
    assert found.tobytes() == matrix.tobytes()


@pytest.mark.parametrize("dtype", lossless.SOURCES)
def test_exponents_take_their_entropy_and_all_else_its_bits(dtype: str) -> None:
    matrix = weights(200, 500, dtype)
    source = lossless.SOURCES[dtype]
    exponents = lossless.source_bits(matrix, dtype) >> source.mantissa_bits & ((1 << source.exponent_bits) - 1)
    shares = np.bincount(exponents.ravel()) / matrix.size
    entropy = -sum(share * np.log2(share) for share in shares if share)
    bits = 8 * len(SCHEMES["exponents"].encode(matrix, source_dtype=dtype)) / matrix.size
    bound = entropy + 1 + source.mantissa_bits
    assert bound <= bits <= 1.005 * bound


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_value_that_the_source_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedInput, match="F16"):
        SCHEMES[name].encode(np.array([[1 / 3]], dtype=np.float32), source_dtype="F16")


@pytest.mark.parametrize(("name", "value"), list(itertools.product(LOSSY, [np.nan, np.inf])))
def test_weights_that_are_not_finite_are_refused_where_they_would_be_changed(name: str, value: float) -> None:
    matrix = weights()
    matrix[1, 1] = value
    with pytest.raises(CorruptInput, match=name):
        SCHEMES[name].encode(matrix)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (4,), (2, 2, 2)])
def test_what_is_no_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedInput, match="no matrix"):
        SCHEMES["int8_row"].encode(np.zeros(shape, dtype=np.float32))


def groups(name: str) -> int:
    size = int(name.partition("_g")[2] or C)
    return R * -(-C // size)


@pytest.mark.parametrize("name", [name for name in SCHEMES if name.startswith(("int", "nf4", "gptq", "hadamard"))])
def test_scalars_take_their_codes_and_a_float16_per_group(name: str) -> None:
    bits = int(next(letter for letter in name if letter.isdigit()))
    stated = ENTRIES * bits / 8 + 2 * groups(name)
    assert stated <= len(SCHEMES[name].encode(weights())) <= stated + 16


@pytest.mark.parametrize("name", [name for name in SCHEMES if name.startswith("int")])
def test_no_entry_is_off_by_more_than_half_a_step(name: str) -> None:
    matrix, scheme = weights(), SCHEMES[name]
    found = scheme.decode(scheme.encode(matrix), matrix.shape)
    size = int(name.partition("_g")[2] or C)
    most = 2 ** (int(name[3]) - 1) - 1
    for start in range(0, C, size):
        part = np.s_[:, start : start + size]
        steps = np.abs(matrix[part]).max(axis=1, keepdims=True) / most
        assert (np.abs(found[part] - matrix[part]) <= 0.5 * steps * 1.002).all()  # scales are float16


BOUNDS = {"bf16": 0.003, "f16": 0, "nf4_g64": 0.11, "hqq4_g64": 0.1, "hadamard4_g64": 0.13, "gptq4_g64": 0.13,
          "gptq3_g64": 0.3, "pq_d2": 0.2, "pq_d4": 0.45, "svd_half": 0.75, "svd_quarter": 0.9}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
def test_errors_on_normal_weights_are_what_they_should_be(name: str) -> None:
    scheme, matrix = SCHEMES[name], weights()
    assert relative_error(scheme.decode(scheme.encode(matrix), matrix.shape), matrix) <= BOUNDS[name]


@pytest.mark.parametrize("name", [name for name in LOSSY if SCHEMES[name].scaled])
@pytest.mark.parametrize("exponent", [-100, 20, 100])
def test_the_size_of_weights_changes_nothing_but_the_size(name: str, exponent: int) -> None:
    scheme, matrix = SCHEMES[name], weights(16, 64)
    found = scheme.decode(scheme.encode(matrix), matrix.shape)
    other = scheme.decode(scheme.encode(np.ldexp(matrix, exponent)), matrix.shape)
    np.testing.assert_allclose(other, np.ldexp(found, exponent), rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in LOSSY if SCHEMES[name].scaled])
def test_zeros_stay_zeros(name: str) -> None:
    data = SCHEMES[name].encode(np.zeros((4, 70), dtype=np.float32))
    assert not SCHEMES[name].decode(data, (4, 70)).any()


def test_gptq_makes_up_for_rounding_where_inputs_correlate() -> None:
    random, matrix = np.random.default_rng(1), weights(64, 96)
    inputs = random.standard_normal((1000, 96)) * 0.9 ** np.arange(96) @ random.standard_normal((96, 96))
    gram, scheme = inputs.T @ inputs / 1000, SCHEMES["gptq4_g64"]
    losses = []
    for known in (gram, None):
        error = (scheme.decode(scheme.encode(matrix, gram=known), matrix.shape) - matrix) @ inputs.T
        losses.append(np.square(error).sum())
    assert losses[0] < 0.3 * losses[1]


def test_a_hadamard_transform_spreads_an_outlier() -> None:
    matrix = weights(32, 64)
    matrix[:, 5] = 1.0
    errors = [
        relative_error(SCHEMES[name].decode(SCHEMES[name].encode(matrix), matrix.shape)[:, :5], matrix[:, :5])
        for name in ("hadamard4_g64", "int4_g64")
    ]
    assert errors[0] < 0.7 * errors[1]


def test_a_low_rank_matrix_survives_its_singular_vectors() -> None:
    random = np.random.default_rng(2)
    matrix = (random.standard_normal((60, 3)) @ random.standard_normal((3, 80))).astype(np.float32)
    assert relative_error(SCHEMES["svd_half"].decode(SCHEMES["svd_half"].encode(matrix), (60, 80)), matrix) < 1e-3


def test_outer_products_are_added_one_after_the_other() -> None:
    factors = np.array([[6e4, 1, -6e4]], dtype=np.float16), np.array([[6e4], [1], [6e4]], dtype=np.float16)
    data = bytes(2) + pack(*factors)
    assert SCHEMES["svd_half"].decode(data, (1, 1)) == 0  # float32 has no room for the 1 beside the first product


def test_golden_bytes() -> None:
    matrix = np.array([[0.875, -0.5, 0.125, 0.0]], dtype=np.float32)
    data = SCHEMES["int4_row"].encode(matrix)
    # exponent 0; scales: float16 [1, 1] = 0.125; codes: 4 bits each, of levels from -7 on
    assert data.hex() == "0000" + "02" + "03020101" + "0030" + "14020104" + "3e78"
    assert np.array_equal(SCHEMES["int4_row"].decode(data, (1, 4)), matrix)


@pytest.mark.parametrize("name", SCHEMES)
def test_damaged_bytes_are_refused_or_decode_to_a_matrix_of_this_shape(name: str) -> None:
    scheme, matrix, random = SCHEMES[name], weights(6, 40), np.random.default_rng(3)
    data = scheme.encode(matrix, source_dtype="F16")
    for end in range(len(data)):
        with pytest.raises(CorruptInput):
            scheme.decode(data[:end], matrix.shape)
    for _ in range(150):
        changed = bytearray(data)
        changed[random.integers(len(data))] ^= 1 << random.integers(8)
        try:
            with np.errstate(all="ignore"):
                assert scheme.decode(bytes(changed), matrix.shape).shape == matrix.shape
        except CorruptInput:
            continue
