"""onnxruntime against the specification and against torch: batches, threads, optimisers, stepping.

The graphs themselves, of all kinds of models, are the matter of ``tests/lm/test_onnx.py``.
"""

import numpy as np
import pytest

from codecbook.coding.ecdc.lm import decode_steps, encode_steps
from codecbook.lm.exact.files import load_exact
from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.model_files import load_lm
from codecbook.measure.coder_speed import same_size
from codecbook.probes.determinism import onnx_steps
from codecbook.probes.determinism.backends import trace
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.onnx_steps import OPTIMISATIONS, OnnxStepper, OnnxSteps
from codecbook.probes.determinism.torch_steps import TorchSteps


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_exact_logits_are_the_specifications_however_they_are_computed(optimisation: str, case: Case) -> None:
    model = load_exact(case.folder / "exact")
    expected = np.stack([reference_logits(model, segment) for segment in case.codes])
    for threads in (1, 2):
        steps = OnnxSteps(model, threads, optimisation)
        for batch in (1, 2, 8):
            for mode in ("full", "stepping"):
                np.testing.assert_array_equal(trace(steps, case.codes, batch, mode), expected)


@pytest.mark.parametrize("chunk_frames", [1, 3, 6])
def test_chunks_change_no_exact_logit(chunk_frames: int, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_exact(case.folder / "exact")
    monkeypatch.setattr(onnx_steps, "_CHUNK_FRAMES", chunk_frames)
    found = OnnxSteps(model).full(case.codes[:1])[0]
    np.testing.assert_array_equal(found, reference_logits(model, case.codes[0]))


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_float_logits_are_torchs_but_for_rounding(optimisation: str, case: Case) -> None:
    model = load_lm(case.folder / "lm").model
    expected = TorchSteps(model).full(case.codes)
    steps = OnnxSteps(model, 2, optimisation)
    for mode in ("stepping", "full"):
        for batch in (1, 3):
            found = trace(steps, case.codes, batch, mode)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-5)  # float32 sums of 24 terms


def test_a_full_pass_leaves_stepping_alone(case: Case) -> None:
    model = load_exact(case.folder / "exact")
    codes = case.codes[:1]
    steps = OnnxSteps(model)
    steps.start(1)
    steps.push(codes[:, 0])
    full = steps.full(codes[:, ::-1])
    np.testing.assert_array_equal(full[0], reference_logits(model, codes[0, ::-1]))
    np.testing.assert_array_equal(steps.logits(codes[:, 1, :1])[0], reference_logits(model, codes[0, :2])[1, 1])


def test_a_float_model_steps_as_upstreams_does() -> None:
    codes = np.random.default_rng(0).integers(0, 32, (12, 2))
    stepper = OnnxStepper(same_size(2, 32, 10.0, codes)[0])
    data = encode_steps(codes.T, stepper)
    decoded, consumed = decode_steps(data, stepper, 2, 12)
    np.testing.assert_array_equal(decoded.T, codes)
    assert consumed == len(data)
