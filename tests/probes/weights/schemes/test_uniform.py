import numpy as np
import pytest

from codecbook.compiled import numba
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.probes.weights.schemes import entropy, uniform
from codecbook.probes.weights.schemes.packing import pack
from codecbook.probes.weights.schemes.table import SCHEMES
from codecbook.probes.weights.schemes.uniform import encode_uniform

SHAPE = (64, 48)
SCHEME = SCHEMES["uniform"]
FINE = (1e-4, 1e-4)


def weights(R: int = SHAPE[0], C: int = SHAPE[1]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((R, C)).astype(np.float32)


def moment(size: int, seed: int = 1) -> np.ndarray:
    """Of inputs that correlate, and of unlike power."""
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((4 * size, size // 4)) @ random.standard_normal((size // 4, size))
    inputs = (inputs + 0.3 * random.standard_normal(inputs.shape)) * np.exp(random.standard_normal(size))
    return inputs.T @ inputs / len(inputs)


def loss(matrix: np.ndarray, data: bytes, rows: np.ndarray, gram: np.ndarray) -> float:
    """Return ``tr(E' G E H)``."""
    error = SCHEME.decode(data, matrix.shape).astype(float) - matrix
    return float(np.trace(error.T @ rows @ error @ gram))


@pytest.mark.parametrize("shape", [SHAPE, (1, 40), (40, 1), (1, 1)])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e30])
def test_a_matrix_comes_back_within_half_a_step(shape: tuple[int, int], size: float) -> None:
    matrix = np.float32(size) * weights(*shape)
    found = SCHEME.decode(encode_uniform(matrix, step=0.1), shape)
    level = np.sqrt(np.mean(matrix.astype(float) ** 2))
    assert found.dtype == np.float32
    assert np.abs(found.astype(float) - matrix).max() <= 0.051 * 2**0.25 * level  # steps are whole half octaves


@pytest.mark.parametrize("step", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("of_rows", ["matrix", "diagonal"])
def test_the_loss_is_what_the_step_promises(step: float, of_rows: str) -> None:
    matrix, gram, rows = weights(), moment(SHAPE[1]), moment(SHAPE[0], 2)
    if of_rows == "diagonal":
        rows = np.diag(np.diag(rows))
    given = rows if of_rows == "matrix" else np.diag(rows).copy()
    data = encode_uniform(matrix, step=step, gram=gram, rows=given, damping=FINE)
    assert 0.7 < loss(matrix, data, rows, gram) / (matrix.size * step**2 / 12) < 1.4  # steps are half octaves


def test_feedback_loses_less_than_none_at_the_same_size() -> None:
    matrix, gram, rows = weights(), moment(SHAPE[1]), moment(SHAPE[0], 2)
    told = {"both": (gram, rows), "columns": (gram, np.diag(rows).copy()),
            "none": (np.diag(np.diag(gram)), np.diag(rows).copy())}  # fmt: skip
    losses = {}
    for name, (columns, of_rows) in told.items():
        sizes = []
        for step in np.geomspace(0.01, 1, 25):
            data = encode_uniform(matrix, step=step, gram=columns, rows=of_rows, damping=FINE)
            sizes.append((abs(len(data) - 4 * matrix.size / 8), loss(matrix, data, rows, gram)))
        losses[name] = min(sizes)[1]
    assert losses["both"] < 0.7 * losses["columns"] < 0.7 * 0.7 * losses["none"]


def test_a_tenth_of_the_step_takes_as_many_bits_more_as_it_has_halvings() -> None:
    matrix = weights(200, 64)
    sizes = [8 * len(encode_uniform(matrix, step=step)) / matrix.size for step in (0.1, 0.01)]
    assert sizes[1] - sizes[0] == pytest.approx(np.log2(10), abs=0.05)
    assert sizes[0] == pytest.approx(np.log2(10 * np.sqrt(2 * np.pi * np.e)), abs=0.35)  # and half-octave steps


def test_blocks_of_rows_have_moments_of_their_own() -> None:
    matrix, grams = weights(60, 16), np.stack([moment(16, seed) for seed in (3, 4, 5)])
    data = encode_uniform(matrix, step=0.1, gram=grams, damping=FINE)
    losses = [
        float(np.trace(e.T @ e @ h))
        for e, h in zip(np.split(SCHEME.decode(data, matrix.shape).astype(float) - matrix, 3), grams, strict=True)
    ]
    # blocks share their columns' steps, and so cannot all have the best
    assert max(losses) < 4 * min(losses)
    assert 0.7 < sum(losses) / (matrix.size * 0.1**2 / 12) < 3
    one = encode_uniform(matrix, step=0.1, gram=grams[:1], damping=FINE)
    assert one == encode_uniform(matrix, step=0.1, gram=grams[0], damping=FINE)


@pytest.mark.parametrize(
    "options",
    [{"gram": np.eye(5)}, {"gram": np.ones((5, 48, 48))}, {"gram": np.ones(48)}, {"rows": np.ones(63)},
     {"rows": np.ones((64, 63))}, {"rows": np.eye(48)}, {"step": 0.0}, {"step": -1.0}, {"step": np.nan},
     {"step": np.inf}, {"step": 1e-50}, {"gram": np.zeros((48, 47))}],
)  # fmt: skip
def test_moments_of_another_matrix_and_steps_that_are_none_are_refused(options: dict) -> None:
    with pytest.raises(UnsupportedInput, match="do not fit a matrix of 64 x 48"):
        encode_uniform(weights(), **{"step": 0.1, **options})


def test_steps_too_fine_for_integers_are_refused() -> None:
    with pytest.raises(UnsupportedInput, match="use larger steps"):
        encode_uniform(weights(), step=1e-13)


def test_moments_of_nothing_and_of_one_direction_are_taken() -> None:
    matrix, direction = weights(), np.random.default_rng(1).standard_normal(48)
    for gram in (np.zeros((48, 48)), np.outer(direction, direction)):
        data = encode_uniform(matrix, step=0.1, gram=gram)
        assert np.isfinite(SCHEME.decode(data, matrix.shape)).all()


@pytest.mark.skipif(numba is None, reason="numba is not installed, so that all runs are plain Python")
def test_plain_python_has_the_same_bytes(monkeypatch) -> None:
    matrix, gram, rows = weights(12, 16), moment(16), moment(12, 2)
    data = encode_uniform(matrix, step=0.1, gram=gram, rows=rows)
    found = SCHEME.decode(data, matrix.shape)
    monkeypatch.setattr(uniform, "_round", uniform._round.py_func)
    for name in ("_level", "_scaled", "_code", "_code_symbol", "_code_bits", "_code_far"):
        monkeypatch.setattr(entropy, name, getattr(entropy, name).py_func)
    assert encode_uniform(matrix, step=0.1, gram=gram, rows=rows) == data
    np.testing.assert_array_equal(SCHEME.decode(data, matrix.shape), found)


def test_damaged_bytes_are_refused_or_decode_to_a_matrix_of_this_shape() -> None:
    matrix, random = weights(20, 10), np.random.default_rng(5)
    data = encode_uniform(matrix, step=0.2)
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


def floats(value: float | list[float]) -> np.ndarray:
    return np.array([value], dtype=np.float32)


@pytest.mark.parametrize(
    "arrays",
    [[], [np.zeros(2, dtype=np.float32)], [floats(np.inf), *[np.zeros(3, dtype=np.uint8)] * 3],
     [floats(0.1), *[np.zeros(3, dtype=np.uint8)] * 2], [floats([0.1]), *[np.zeros(3, dtype=np.uint8)] * 3],
     [floats(0.1), *[np.zeros(3, dtype=np.int16)] * 3]],
)  # fmt: skip
def test_other_parts_are_refused(arrays: list[np.ndarray]) -> None:
    with pytest.raises(CorruptInput):
        SCHEME.decode(pack(*arrays), (4, 4))
