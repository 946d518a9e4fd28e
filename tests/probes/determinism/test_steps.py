import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.case import Case, random_model
from codecbook.probes.determinism.cells import Cell
from codecbook.probes.determinism.steps import PackageSteps, trace


def test_all_exact_backends_agree(case: Case) -> None:
    codes = case.codes
    expected = trace(case.steps("exact", Cell("torch")), codes, 1, "stepping")
    assert expected.shape == (*codes.shape, 24)
    assert expected.dtype == np.int32
    for backend in ("torch", "numba", "numpy", "numpy-blas"):
        steps = case.steps("exact", Cell(backend, backend=backend))
        for batch in (1, 2):
            np.testing.assert_array_equal(trace(steps, codes, batch, "stepping"), expected)
        if not backend.startswith("numpy"):
            np.testing.assert_array_equal(trace(steps, codes, 2, "full"), expected)


@pytest.mark.parametrize("numbers", ["float32", "float64"])
def test_floats_agree_but_for_rounding(case: Case, numbers: str) -> None:
    steps = case.steps(numbers, Cell("torch"))
    stepped = trace(steps, case.codes, 1, "stepping")
    assert stepped.dtype == numbers
    np.testing.assert_allclose(
        trace(steps, case.codes, 3, "full"), stepped, atol=1e-5
    )  # float32 sums of 24 terms


def test_upstreams_model_steps_as_it_reads_at_once() -> None:
    codes = np.random.default_rng(0).integers(0, 16, size=(2, 5, 3))
    steps = PackageSteps(random_model(3, seed=1, codebook_size=16))
    stepped = trace(steps, codes, 2, "stepping")
    assert stepped.shape == (2, 5, 3, 16)
    np.testing.assert_allclose(
        trace(steps, codes, 1, "full"), stepped, atol=1e-4
    )  # float32, 5 post-norm layers


def test_the_reference_has_no_full_pass(case: Case) -> None:
    with pytest.raises(UnsupportedInput, match="frame by frame"):
        case.steps("exact", Cell("numpy", backend="numpy")).full(case.codes)
