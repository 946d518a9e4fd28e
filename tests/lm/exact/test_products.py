"""Products by special instructions: what they are held to, planted errors, and the same bytes from all of them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from codecbook.coding.exact.frames import encode_frames
from codecbook.compiled import numba
from codecbook.lm.exact import products, stepper
from codecbook.lm.exact.files import save_exact
from codecbook.lm.exact.products import KIND, PLAIN, is_exact, multiply, pack, padded, put_column, put_row

pytestmark = pytest.mark.skipif(numba is None, reason="numba is not installed")
special = pytest.mark.skipif(KIND == PLAIN, reason="this processor has no instruction for packed matrices")


def planted(weight: np.ndarray, activations: np.ndarray, num_rows: int, sums: np.ndarray, room: np.ndarray) -> None:
    """Multiply as `multiply` does, but let two neighbours' products saturate in 16 bits, as ``vpmaddubsw`` does."""
    multiply(weight, activations, num_rows, sums, room)
    units = np.eye(activations.shape[1], dtype=np.int16)
    matrix = np.zeros((activations.shape[1] + 8, sums.shape[1]), dtype=np.int32)
    multiply(
        weight,
        np.pad(units, ((0, 8), (0, 0))),
        len(units),
        matrix,
        np.zeros_like(units, shape=(len(matrix), len(units))),
    )
    terms = activations[:num_rows, :, None].astype(np.int64) * matrix[None, : len(units)]
    pairs = terms.reshape(num_rows, -1, 2, sums.shape[1]).sum(axis=2)
    sums[:num_rows] = np.clip(pairs, -(1 << 14), (1 << 14) - 1).sum(axis=1)


@special
@pytest.mark.parametrize("num_inputs", [1, 2, 5, 20, 200, 259])
def test_products_are_exact(num_inputs: int) -> None:
    assert is_exact(num_inputs)


@special
@pytest.mark.parametrize("num_inputs", [2, 21, 200])
def test_products_that_saturate_are_refused(num_inputs: int) -> None:
    assert not is_exact(num_inputs, planted)


@special
def test_products_that_fail_are_refused() -> None:
    def missing(*_: object) -> None:
        raise RuntimeError("illegal instruction")

    def almost(weight: np.ndarray, activations: np.ndarray, num_rows: int, sums: np.ndarray, room: np.ndarray) -> None:
        multiply(weight, activations, num_rows, sums, room)
        sums[num_rows - 1, 0] += 1

    assert not is_exact(8, missing)
    assert not is_exact(8, almost)


@special
@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 33])
def test_packed_matrices_equal_plain_ones(num_rows: int) -> None:
    rng = np.random.default_rng(num_rows)
    for size, num_inputs in ((1, 1), (31, 6), (32, 4), (70, 201)):
        weight = rng.integers(-127, 128, (size, num_inputs)).astype(np.int8)
        rows, inputs, outputs = padded(num_rows, num_inputs, size)
        activations = rng.integers(-127, 128, (rows, inputs)).astype(np.int16)
        room, found = np.zeros((rows, inputs), dtype=np.uint8), np.zeros((rows, outputs), dtype=np.int32)
        expected = activations[:num_rows, :num_inputs].astype(np.int64) @ weight.T
        for matrix in (weight, pack(weight)):
            multiply(matrix, activations, num_rows, found, room)
            np.testing.assert_array_equal(found[:num_rows, :size], expected)
            found[:] = 0


@special
def test_rows_and_columns_are_written_where_pack_has_them() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (37, 10)).astype(np.int8)
    by_rows, by_columns = pack(np.zeros_like(weight)), pack(np.zeros_like(weight))
    for o, row in enumerate(weight):
        put_row(by_rows, o, (-row).astype(np.int32))  # what was there before must leave nothing
        put_row(by_rows, o, row.astype(np.int32))
    for i, column in enumerate(weight.T):
        put_column(by_columns, i, column.astype(np.int32))
    np.testing.assert_array_equal(by_rows, pack(weight))
    np.testing.assert_array_equal(by_columns[:, 1:], pack(weight)[:, 1:])
    assert not by_columns[:, 0].any()


def test_a_model_whose_product_is_refused_has_the_same_bytes(
    make_integer_model, draw_codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = draw_codes(make_integer_model("in_frame"), 40)
    expected = encode_frames(make_integer_model("in_frame"), codes)
    monkeypatch.setattr(products, "is_exact", lambda num_inputs: False)
    products.proved_kind.cache_clear()
    try:
        model = make_integer_model("in_frame")
        assert stepper.product_kind(model) == PLAIN
        found = encode_frames(model, codes)
    finally:
        products.proved_kind.cache_clear()
    assert (found.payload, found.interval_hash) == (expected.payload, expected.interval_hash)


@pytest.mark.skipif(
    KIND not in ("avx512vnni", "avxvnni"), reason="this processor has no better instruction to leave out"
)
def test_other_instruction_sets_give_the_same_bytes(make_integer_model, draw_codes, tmp_path: Path) -> None:
    model = make_integer_model("in_frame", peaky=True)
    codes = draw_codes(model, 30)
    save_exact(tmp_path / "model", model)
    np.save(tmp_path / "codes.npy", codes)
    code = """
import sys
import numpy as np
from codecbook.coding.exact.frames import decode_many, encode_frames
from codecbook.lm.exact.files import load_exact
from codecbook.lm.exact.stepper import product_kind

model, codes = load_exact(sys.argv[1] + "/model"), np.load(sys.argv[1] + "/codes.npy")
coded = encode_frames(model, codes)
for result in decode_many(model, [coded.payload] * 5, [len(codes)] * 5):
    assert (result[0] == codes).all()
print(product_kind(model), coded.payload.hex(), coded.interval_hash)
"""
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+avx,+avx2"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    coded = encode_frames(model, codes)
    assert done.stdout.split() == ["avx2", coded.payload.hex(), str(coded.interval_hash)]
