"""onnxruntime against the specification and against torch: batches, threads, optimisers, stepping."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact import ExactLM, ExactTorch, load_exact, reference_logits
from codecbook.lm.model_files import load_lm
from codecbook.lm.token_lm import TokenLM
from codecbook.probes.determinism.backends import trace
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.onnx_steps import OPTIMISATIONS, OnnxSteps
from codecbook.probes.determinism.torch_steps import TorchSteps

_spec = importlib.util.spec_from_file_location(
    "exact_models", Path(__file__).parents[2] / "lm" / "exact" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_models)
make_integer_model = _models.make_integer_model
make_float_model = _models.make_float_model
draw_codes = _models.draw_codes
KINDS = tuple(kind for kind in _models.KINDS if kind != "rotary")


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_exact_logits_are_the_specifications_however_they_are_computed(
    kind: str, optimisation: str, make_integer_model: Callable[..., ExactLM], draw_codes: Callable[..., np.ndarray]
) -> None:
    for peaky in (False, True):
        model = make_integer_model(kind, seed=6, peaky=peaky)
        codes = np.stack([draw_codes(model, 20, seed=s) for s in range(8)])
        expected = np.stack([reference_logits(model, segment) for segment in codes])
        for threads in (1, 2):
            steps = OnnxSteps(model, threads, optimisation)
            np.testing.assert_array_equal(trace(steps, codes, 8, "full"), expected)
            np.testing.assert_array_equal(trace(steps, codes, 8, "stepping"), expected)
            np.testing.assert_array_equal(trace(steps, codes[:2], 1, "full"), expected[:2])
            np.testing.assert_array_equal(trace(steps, codes[:2], 1, "stepping"), expected[:2])


@pytest.mark.parametrize("kind", ["in_frame", "single"])
def test_chunks_change_no_exact_logit(
    kind: str, make_integer_model: Callable[..., ExactLM], draw_codes: Callable[..., np.ndarray]
) -> None:
    model = make_integer_model(kind, seed=8)
    codes = draw_codes(model, 30)[None]
    for chunk_frames in (1, 7, 29):
        found = OnnxSteps(model, chunk_frames=chunk_frames).full(codes)[0]
        np.testing.assert_array_equal(found, reference_logits(model, codes[0]))


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_float_logits_are_torchs_but_for_rounding(
    kind: str, optimisation: str, make_float_model: Callable[..., TokenLM], draw_codes: Callable[..., np.ndarray]
) -> None:
    model = make_float_model(kind)
    codes = np.stack([draw_codes(model, 20, seed=s) for s in range(3)])
    expected = TorchSteps(model).full(codes)
    steps = OnnxSteps(model, 2, optimisation)
    # logits of a size of 10 to 100 in these models, made by float32 sums of up to 64 terms
    atol = 1e-5 * float(np.abs(expected).max())
    for mode in ("stepping", "full"):
        for batch in (1, 3):
            found = trace(steps, codes, batch, mode)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)


def test_the_models_of_a_case(case: Case) -> None:
    exact = load_exact(case.folder / "exact")
    expected = trace(TorchSteps(ExactTorch(exact)), case.codes, 1, "stepping")
    found = trace(OnnxSteps(exact), case.codes, 2, "stepping")
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    model = load_lm(case.folder / "lm").model
    expected = trace(TorchSteps(model), case.codes, 1, "stepping")
    # float32 sums of 24 terms
    np.testing.assert_allclose(trace(OnnxSteps(model), case.codes, 2, "full"), expected, atol=1e-5)


def test_a_full_pass_leaves_stepping_alone(
    make_integer_model: Callable[..., ExactLM], draw_codes: Callable[..., np.ndarray]
) -> None:
    model = make_integer_model("in_frame")
    codes = draw_codes(model, 6)[None]
    steps = OnnxSteps(model)
    steps.start(1)
    steps.push(codes[:, 0])
    full = steps.full(codes[:, ::-1])
    np.testing.assert_array_equal(full[0], reference_logits(model, codes[0, ::-1]))
    np.testing.assert_array_equal(steps.logits(codes[:, 1, :2])[0], reference_logits(model, codes[0, :2])[1, 2])


def test_refused_settings(make_integer_model: Callable[..., ExactLM]) -> None:
    model = make_integer_model("none")
    with pytest.raises(UnsupportedInput, match="'most'; choose one of none, basic"):
        OnnxSteps(model, optimisation="most")
    with pytest.raises(UnsupportedInput, match="threads=0"):
        OnnxSteps(model, threads=0)
    with pytest.raises(UnsupportedInput, match="chunk_frames=0"):
        OnnxSteps(model, chunk_frames=0)


def test_refused_codes(make_integer_model: Callable[..., ExactLM]) -> None:
    steps = OnnxSteps(make_integer_model("in_frame"))
    frame = np.zeros((2, 3), dtype=np.int64)
    with pytest.raises(UnsupportedInput, match=r"called for 0 segment"):
        steps.push(frame)
    steps.start(2)
    with pytest.raises(UnsupportedInput, match=r"\[1, 3\] were given, and start\(\) was called for 2"):
        steps.push(frame[:1])
    with pytest.raises(UnsupportedInput, match="none is left"):
        steps.logits(frame)
    with pytest.raises(UnsupportedInput, match="reads integers"):
        steps.push(frame[:, :2])
    with pytest.raises(UnsupportedInput, match="reads integers"):
        steps.logits(frame[:, :1].astype(np.float32))
    for code in (-1, 11):  # 11 is BOS inside, and no code
        for call in (steps.push, steps.logits):
            with pytest.raises(CorruptInput, match=f"code {code} at"):
                call(np.full((2, 3 if call == steps.push else 1), code))
    with pytest.raises(UnsupportedInput, match=r"received \[2, 0, 3\]"):
        steps.full(np.zeros((2, 0, 3), dtype=np.int64))
    with pytest.raises(UnsupportedInput, match=r"received \[2, 3\]"):
        steps.full(frame)
