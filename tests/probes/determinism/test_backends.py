import numpy as np
import pytest

from codecbook.coding.ecdc.lm import upstream_lm
from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.backends import Steps, decode_segments, load_steps, trace
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import BASELINE, Cell
from codecbook.probes.determinism.compare import CODERS, Coder, intervals
from codecbook.probes.determinism.torch_steps import PackageSteps


def test_all_exact_backends_agree(case: Case) -> None:
    codes = case.codes
    expected = trace(load_steps(case, "exact", Cell("torch")), codes, 1, "stepping")
    assert expected.shape == (*codes.shape, 24)
    assert expected.dtype == np.int32
    for backend in ("torch", "numba", "numpy", "numpy-blas"):
        steps = load_steps(case, "exact", Cell(backend, backend=backend))
        for batch in (1, 2):
            np.testing.assert_array_equal(trace(steps, codes, batch, "stepping"), expected)
        if not backend.startswith("numpy"):
            np.testing.assert_array_equal(trace(steps, codes, 2, "full"), expected)


@pytest.mark.parametrize("numbers", ["float32", "float64"])
def test_floats_agree_but_for_rounding(case: Case, numbers: str) -> None:
    steps = load_steps(case, numbers, Cell("torch"))
    stepped = trace(steps, case.codes, 1, "stepping")
    assert stepped.dtype == numbers
    np.testing.assert_allclose(trace(steps, case.codes, 3, "full"), stepped, atol=1e-5)  # float32 sums of 24 terms


def test_upstreams_model_steps_as_it_reads_at_once() -> None:
    codes = np.random.default_rng(0).integers(0, 16, size=(2, 5, 3))
    steps = PackageSteps(upstream_lm(3, 16, 75.0, 1))
    stepped = trace(steps, codes, 2, "stepping")
    assert stepped.shape == (2, 5, 3, 16)
    np.testing.assert_allclose(trace(steps, codes, 1, "full"), stepped, atol=1e-4)  # float32, 5 post-norm layers


def test_the_reference_has_no_full_pass(case: Case) -> None:
    with pytest.raises(UnsupportedInput, match="frame by frame"):
        load_steps(case, "exact", Cell("numpy", backend="numpy")).full(case.codes)


every_coder = pytest.mark.parametrize("coder", CODERS.values(), ids=CODERS)


def prepared(case: Case, coder: Coder) -> tuple[Steps, np.ndarray]:
    steps = load_steps(case, coder.numbers, BASELINE)
    logits = trace(steps, case.codes, 1, "stepping")
    return steps, coder.cdf(logits.reshape(-1, logits.shape[-1])).reshape(logits.shape)


@every_coder
def test_the_same_configuration_decodes_what_it_encoded(case: Case, coder: Coder) -> None:
    steps, cdf = prepared(case, coder)
    streams = coder.encode(cdf, case.codes)
    N, T, K = case.codes.shape
    for data, expected in zip(streams, case.codes, strict=True):
        ((codes, error),) = decode_segments(coder, steps, [data], T, K)
        np.testing.assert_array_equal(codes, expected)
        assert error == ""
    bits = coder.bits(cdf, case.codes)
    assert bits <= 8 * sum(map(len, streams)) <= bits + 40 * N


@every_coder
def test_intervals_lie_in_the_total(case: Case, coder: Coder) -> None:
    _, cdf = prepared(case, coder)
    ends = intervals(cdf, case.codes)
    assert (ends[..., 0] < ends[..., 1]).all()
    assert cdf.max() <= coder.total + 1024  # upstream's may end a little above


@every_coder
def test_damaged_bytes_give_wrong_codes_or_an_error(case: Case, coder: Coder) -> None:
    steps, cdf = prepared(case, coder)
    data = bytes([coder.encode(cdf, case.codes)[0][0] ^ 0x55]) + b"\0" * 2
    ((codes, error),) = decode_segments(coder, steps, [data], *case.codes.shape[1:])
    assert (codes != case.codes[0]).any()
    assert error == "" or error.startswith("frame ")


def test_an_exact_batch_decodes_as_single_segments_do(case: Case) -> None:
    coder = CODERS["exact"]
    steps, cdf = prepared(case, coder)
    streams = coder.encode(cdf, case.codes)
    parts = decode_segments(coder, steps, streams, *case.codes.shape[1:])
    np.testing.assert_array_equal(np.stack([codes for codes, _ in parts]), case.codes)
