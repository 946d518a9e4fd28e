"""The compiled evaluator against the specification: rows, streams, threads, stepping, beyond the window."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.files import save_exact
from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.exact.stepper import ExactStepper, kernel_logits

KINDS = ("in_frame", "none", "single", "rotary")


@pytest.mark.parametrize("peaky", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_clips_equal_the_specification(kind: str, peaky: bool, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=2, peaky=peaky)
    codes = draw_codes(model, 30)  # window 6, and the rotary model's whole context
    expected = reference_logits(model, codes)
    for rows in (1, 7, 16):
        np.testing.assert_array_equal(kernel_logits(model, codes, rows), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_exported_models_equal_the_specification(kind: str, make_float_model, draw_codes) -> None:
    source = make_float_model(kind)
    codes = draw_codes(source, 30)
    model = export_exact(source, [codes])
    np.testing.assert_array_equal(kernel_logits(model, codes), reference_logits(model, codes))


@pytest.mark.parametrize("kind", KINDS)
def test_stepping_several_streams_equals_each_alone(kind: str, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=3)
    clips = np.stack([draw_codes(model, 15, seed=s) for s in range(8)])
    expected = np.stack([reference_logits(model, clip) for clip in clips])
    together = ExactStepper(model)
    for _ in range(2):
        together.start(8)
        for t in range(15):
            for k in range(model.num_codebooks):
                np.testing.assert_array_equal(together.logits(clips[:, t, :k]), expected[:, t, k])
            together.push(clips[:, t])


def test_a_stream_goes_on_as_several(make_integer_model, draw_codes) -> None:
    model = make_integer_model("in_frame", seed=6)
    codes = draw_codes(model, 5)
    clips = np.stack([np.concatenate((codes, draw_codes(model, 3, seed=s))) for s in range(11)])
    stepper = ExactStepper(model)
    for frame in codes:
        stepper.push(frame[None])
    stepper.fork(len(clips))
    for t in range(5, 8):
        for k in range(model.num_codebooks):
            expected = np.stack([reference_logits(model, clip)[t, k] for clip in clips])
            np.testing.assert_array_equal(stepper.logits(clips[:, t, :k]), expected)
        stepper.push(clips[:, t])


def test_logits_may_be_asked_for_in_any_order(make_integer_model, draw_codes) -> None:
    model = make_integer_model("in_frame")
    codes = draw_codes(model, 2)
    expected = reference_logits(model, codes)
    stepper = ExactStepper(model)
    stepper.push(codes[:1])
    for k in (2, 0, 1, 1):
        np.testing.assert_array_equal(stepper.logits(codes[1:, :k])[0], expected[1, k])


def test_threads_change_nothing(make_integer_model, draw_codes) -> None:
    model = make_integer_model("in_frame", seed=4)
    clips = [draw_codes(model, 40, seed=s) for s in range(8)]
    alone = [kernel_logits(model, clip) for clip in clips]
    with ThreadPoolExecutor(2) as pool:
        for found, expected in zip(pool.map(lambda clip: kernel_logits(model, clip), clips), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_refused_codes(make_integer_model) -> None:
    stepper = ExactStepper(make_integer_model("in_frame"), 2)
    frame = np.zeros((2, 3), dtype=np.int64)
    for call in (stepper.push, stepper.logits):
        with pytest.raises(UnsupportedInput, match="2 streams step together"):
            call(np.zeros((1, 3), dtype=np.int64))
        with pytest.raises(UnsupportedInput, match="not integers"):
            call(frame[:, :2].astype(np.float32))
    with pytest.raises(UnsupportedInput, match="none is left"):
        stepper.logits(frame)
    with pytest.raises(UnsupportedInput, match="not integers"):
        stepper.push(frame[:, :2])
    for code in (-1, 11):  # 11 is BOS inside, and no code
        with pytest.raises(CorruptInput, match=r"outside 0\.\.10"):
            stepper.push(np.full((2, 3), code))
        with pytest.raises(CorruptInput, match=r"outside 0\.\.10"):
            stepper.logits(np.full((2, 1), code))


def test_rotary_positions_end(make_integer_model) -> None:
    model = make_integer_model("rotary")
    stepper = ExactStepper(model)
    for _ in range(29):
        stepper.push(np.array([[1]]))
    with pytest.raises(UnsupportedInput, match="30 tokens"):
        stepper.push(np.array([[1]]))
    with pytest.raises(UnsupportedInput, match="longer"):
        kernel_logits(model, np.zeros((31, 1), dtype=np.int64))


@pytest.mark.parametrize("kind", ["in_frame", "rotary"])
def test_kernels_that_are_not_compiled_equal_the_specification(
    kind: str, numpy_alone: Callable[..., str], tmp_path: Path, make_integer_model
) -> None:
    save_exact(tmp_path, make_integer_model(kind, seed=5, peaky=True))
    code = """
import numpy as np
from codecbook.lm.exact.files import load_exact
from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.exact.stepper import kernel_logits

model = load_exact(sys.argv[1])
codes = np.random.default_rng(0).integers(0, 11, (4, model.num_codebooks))
print((kernel_logits(model, codes) == reference_logits(model, codes)).all())
"""
    assert numpy_alone(code, str(tmp_path)).strip() == "True"
