"""The graphs against the specification, by ONNX's own reference evaluator and by onnxruntime, which share no code."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.onnx import Graph, OnnxLM, _Integers, export_onnx

KINDS = ("in_frame", "none", "single")


def _runtime(file: bytes, level: str = "ORT_ENABLE_ALL") -> Any:
    options: Any = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _plain_runtime(file: bytes) -> Any:
    return _runtime(file, "ORT_DISABLE_ALL")


EVALUATORS = pytest.mark.parametrize("evaluator", [ReferenceEvaluator, _runtime, _plain_runtime])


def whole(evaluator: Callable[[bytes], Any], graphs: OnnxLM, codes: np.ndarray, chunks: tuple[int, ...]) -> np.ndarray:
    """Return logits ``[B, T, K, V]``, the frames being read in chunks of these lengths."""
    c = graphs.config
    read, heads = evaluator(graphs.read), evaluator(graphs.heads)
    B, T, K = codes.shape
    inputs = np.concatenate((np.full((B, 1, K), c.codebook_size), codes[:, :-1]), axis=1)
    past = np.zeros((2 * c.layers, B, c.heads, 0, c.dim // c.heads), np.float32)
    parts = []
    for chunk in np.split(inputs, np.cumsum(chunks)[:-1], axis=1):
        hidden, past = read.run(None, {"codes": chunk, "past": past})
        parts.append(hidden)
    flat = np.concatenate(parts, axis=1).reshape(B * T, c.dim)
    (logits,) = heads.run(None, {"hidden": flat, "codes": codes.reshape(B * T, K)})
    return logits.reshape(B, T, K, c.codebook_size)


def test_a_graph_is_what_was_written_down() -> None:
    g = Graph()
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    first, second = g.ops("Split", 2, g.op("MatMul", "x", table.T), axis=1, num_outputs=2)
    product = g.cast(g.op("Mul", first, second), np.int64)
    file = g.file({"x": (np.float32, ("N", 3))}, {"y": (product, (np.int64, ("N", 1)))})
    onnx.checker.check_model(onnx.load_from_string(file), full_check=True)
    (found,) = _runtime(file).run(None, {"x": np.array([[1, 10, 100]], np.float32)})
    np.testing.assert_array_equal(found, [[210 * 543]])


@EVALUATORS
def test_roots_round_down_up_to_the_last_square(evaluator: Callable[[bytes], Any], make_integer_model) -> None:
    numbers = _Integers(make_integer_model("single"))
    root = numbers._root("squares")
    file = numbers.file({"squares": (np.float64, ("N",))}, {"root": (root, (np.int64, ("N",)))})
    last = 94_906_265  # floor of the root of 2^53 - 1
    roots = np.concatenate((np.arange(1, 1000), np.arange(last - 1000, last + 1)))
    squares = roots * roots
    naive = np.floor(np.sqrt((squares - 1).astype(np.float64)))
    assert (naive != roots - 1).any(), "rounding alone is not enough here"
    for values, expected in ((squares, roots), (squares - 1, roots - 1), (squares + 1, roots)):
        (found,) = evaluator(file).run(None, {"squares": values.astype(np.float64)})
        np.testing.assert_array_equal(found, expected)


@EVALUATORS
@pytest.mark.parametrize("peaky", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_graphs_equal_the_specification(
    kind: str, peaky: bool, evaluator: Callable[[bytes], Any], make_integer_model, draw_codes
) -> None:
    model = make_integer_model(kind, seed=4, peaky=peaky)
    clips = np.stack([draw_codes(model, 14, seed=s) for s in range(2)])
    expected = np.stack([reference_logits(model, clip) for clip in clips])
    graphs = export_onnx(model)
    found = whole(evaluator, graphs, clips, (14,))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(whole(evaluator, graphs, clips, (1, 4, 1, 8)), expected)


@pytest.mark.parametrize("window_frames", [1, 2])
def test_a_window_may_hold_no_past(window_frames: int, make_integer_model) -> None:
    source = make_integer_model("none", seed=1)
    arrays = dict(source.arrays)
    arrays["layers.position_bias"] = arrays["layers.position_bias"][..., :window_frames]
    model = ExactLM(replace(source.config, window_frames=window_frames), arrays)
    codes = np.random.default_rng(0).integers(0, 11, (1, 5, 3))
    for chunks in ((5,), (1,) * 5):
        found = whole(ReferenceEvaluator, export_onnx(model), codes, chunks)[0]
        np.testing.assert_array_equal(found, reference_logits(model, codes[0]))


@EVALUATORS
@pytest.mark.parametrize("kind", KINDS)
def test_float_graphs_agree_with_torch_but_for_rounding(
    kind: str, evaluator: Callable[[bytes], Any], make_float_model, draw_codes
) -> None:
    model = make_float_model(kind)
    codes = np.stack([draw_codes(model, 14, seed=s) for s in range(2)])
    with torch.inference_mode():
        expected = model(torch.from_numpy(codes)).numpy()
    graphs = export_onnx(model)
    # logits of a size of 10 to 100 in these models, made by float32 sums of up to 64 terms
    atol = 1e-5 * float(np.abs(expected).max())
    found = whole(evaluator, graphs, codes, (14,))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)
    np.testing.assert_allclose(whole(evaluator, graphs, codes, (3, 1, 10)), expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_valid_and_do_not_change(kind: str, make_integer_model, make_float_model) -> None:
    for model in (make_integer_model(kind), make_float_model(kind)):
        graphs = export_onnx(model)
        assert graphs == export_onnx(model)
        for file in (graphs.read, graphs.heads):
            onnx.checker.check_model(onnx.load_from_string(file), full_check=True)


def test_no_operator_of_an_exact_graph_may_approximate(make_float_model, draw_codes) -> None:
    """Only these: indexing and shapes, float32 products, elementwise arithmetic, and the root that is corrected."""
    source = make_float_model("in_frame")
    graphs = export_onnx(export_exact(source, [draw_codes(source, 40)]))
    found = {node.op_type for file in (graphs.read, graphs.heads) for node in onnx.load_from_string(file).graph.node}
    shapes = {
        "Concat", "Gather", "Identity", "Pad", "Range", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose",
        "Unsqueeze",
    }  # fmt: skip
    arithmetic = {
        "Add", "Cast", "Clip", "CumSum", "Div", "Floor", "Greater", "Less", "LessOrEqual", "MatMul", "Min", "Mul",
        "ReduceMax", "ReduceSum", "Sqrt", "Sub", "Where",
    }  # fmt: skip
    assert found <= shapes | arithmetic


def test_what_cannot_be_exported(make_float_model, make_integer_model) -> None:
    for kind in (torch.float64, torch.bfloat16):
        with pytest.raises(UnsupportedInput, match=f" is {kind}"):
            export_onnx(make_float_model("none").to(kind))
    for other in (make_float_model("rotary"), make_integer_model("rotary")):
        with pytest.raises(UnsupportedInput, match="no ONNX form"):
            export_onnx(other)
    arrays = dict(make_integer_model("none").arrays)
    arrays["layers.gelu"] = np.full_like(arrays["layers.gelu"], -128)
    with pytest.raises(UnsupportedInput, match=r"layers\.gelu can reach 128"):
        export_onnx(ExactLM(make_integer_model("none").config, arrays))
