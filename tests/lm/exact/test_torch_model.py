"""The torch evaluator against the specification: batches, chunks, stepping, threads, settings of precision."""

import numpy as np
import pytest
import torch

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact import ExactTorch, export_exact, reference_logits

KINDS = ("in_frame", "none", "single", "rotary")


@pytest.mark.parametrize("peaky", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_equal_the_specification(kind: str, peaky: bool, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=2, peaky=peaky)
    clips = [draw_codes(model, 30, seed=s) for s in range(8)]
    expected = np.stack([reference_logits(model, clip) for clip in clips])
    evaluator = ExactTorch(model)
    batch = torch.from_numpy(np.stack(clips))
    for chunk_frames in (256, 4):
        np.testing.assert_array_equal(evaluator.logits(batch, chunk_frames).numpy(), expected)
    np.testing.assert_array_equal(evaluator.logits(batch[:1]).numpy(), expected[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_stepping_equals_whole_clips(kind: str, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=3)
    codes = torch.from_numpy(draw_codes(model, 15))[None]
    evaluator = ExactTorch(model)
    full = evaluator.logits(codes)
    hidden, state = evaluator.begin()
    for t in range(15):
        for k in range(model.num_codebooks):
            torch.testing.assert_close(
                evaluator.head(hidden, codes[:, t : t + 1, :k]), full[:, t : t + 1, k], rtol=0, atol=0
            )
        hidden, state = evaluator.read(codes[:, t : t + 1], state)


def test_threads_and_precision_settings_change_nothing(make_float_model, draw_codes) -> None:
    source = make_float_model("in_frame")
    codes = draw_codes(source, 60)
    model = export_exact(source, [codes])
    expected = reference_logits(model, codes)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            for setting in ("highest", "high", "medium"):
                torch.set_float32_matmul_precision(setting)
                with torch.autocast("cpu", torch.bfloat16):
                    found = ExactTorch(model).logits(torch.from_numpy(codes)[None])[0]
                np.testing.assert_array_equal(found.numpy(), expected)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_specification(make_integer_model, draw_codes) -> None:
    model = make_integer_model("in_frame", seed=2)
    codes = draw_codes(model, 30)
    for setting in ("highest", "medium"):
        torch.set_float32_matmul_precision(setting)
        found = ExactTorch(model, "cuda").logits(torch.from_numpy(codes)[None])[0].cpu()
        np.testing.assert_array_equal(found.numpy(), reference_logits(model, codes))
    torch.set_float32_matmul_precision("highest")


def test_refused_codes(make_integer_model) -> None:
    evaluator = ExactTorch(make_integer_model("rotary"))
    with pytest.raises(UnsupportedInput, match="longer"):
        evaluator.logits(torch.zeros(1, 31, 1, dtype=torch.int64))
    with pytest.raises(UnsupportedInput, match="int64"):
        evaluator.logits(torch.zeros(1, 3, 2, dtype=torch.int64))
    with pytest.raises(CorruptInput, match="from -1"):
        evaluator.logits(torch.full((1, 3, 1), -1))
    hidden, _ = evaluator.begin()
    with pytest.raises(UnsupportedInput, match="none is left"):
        evaluator.head(hidden, torch.zeros(1, 1, 1, dtype=torch.int64))
