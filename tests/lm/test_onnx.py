"""The graphs by ONNX's own reference evaluator, which shares no code with onnxruntime, against the specification."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact import ExactLM, export_exact, reference_logits
from codecbook.lm.onnx import Graph, OnnxLM, _Integers, export_onnx
from codecbook.lm.token_lm import TokenLM

_spec = importlib.util.spec_from_file_location("exact_models", Path(__file__).parent / "exact" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_models)
make_integer_model = _models.make_integer_model
make_float_model = _models.make_float_model
draw_codes = _models.draw_codes
KINDS = tuple(kind for kind in _models.KINDS if kind != "rotary")


def whole(graphs: OnnxLM, codes: np.ndarray, chunks: tuple[int, ...]) -> np.ndarray:
    """Return logits ``[B, T, K, V]``, the frames being read in chunks of these lengths."""
    c = graphs.config
    read, heads = ReferenceEvaluator(graphs.read), ReferenceEvaluator(graphs.heads)
    B, T, K = codes.shape
    bos = np.full((B, 1, K), c.codebook_size)
    inputs = np.concatenate((bos, codes[:, :-1]), axis=1)
    past: Any = np.zeros((2 * c.layers, B, c.heads, 0, c.dim // c.heads), np.float32)
    parts, start = [], 0
    for length in chunks:
        outputs: Any = read.run(None, {"codes": inputs[:, start : start + length], "past": past})
        hidden, past = outputs
        parts.append(hidden)
        start += length
    assert start == T
    flat = np.concatenate(parts, axis=1).reshape(B * T, c.dim)
    outputs = heads.run(None, {"hidden": flat, "codes": codes.reshape(B * T, K)})
    return outputs[0].reshape(B, T, K, c.codebook_size)


def _reference(file: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    evaluator: Any = ReferenceEvaluator(file)
    return evaluator.run(None, feeds)[0]


def _runtime(file: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session: Any = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def test_a_graph_is_what_was_written_down() -> None:
    g = Graph()
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    first, second = g.ops("Split", 2, g.op("MatMul", "x", table.T), axis=1, num_outputs=2)
    product = g.cast(g.op("Mul", first, second), np.int64)
    file = g.file({"x": (np.float32, ("N", 3))}, {"y": (product, (np.int64, ("N", 1)))})
    onnx.checker.check_model(onnx.load_from_string(file), full_check=True)
    np.testing.assert_array_equal(_runtime(file, {"x": np.array([[1, 10, 100]], np.float32)}), [[210 * 543]])


@pytest.mark.parametrize("run", [_reference, _runtime])
def test_roots_round_down_up_to_the_last_square(
    run: Callable[..., np.ndarray], make_integer_model: Callable[..., ExactLM]
) -> None:
    numbers = _Integers(make_integer_model("single"))
    root = numbers._root("squares")
    file = numbers.graph.file({"squares": (np.float64, ("N",))}, {"root": (root, (np.int64, ("N",)))})
    last = 94_906_265  # floor of the root of 2^53 - 1
    roots = np.concatenate((np.arange(1, 1000), np.arange(last - 1000, last + 1)))
    squares = roots * roots
    naive = np.floor(np.sqrt((squares - 1).astype(np.float64)))
    assert (naive != roots - 1).any(), "rounding alone is not enough here"
    for values, expected in ((squares, roots), (squares - 1, roots - 1), (squares + 1, roots)):
        np.testing.assert_array_equal(run(file, {"squares": values.astype(np.float64)}), expected)


@pytest.mark.parametrize("peaky", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_graphs_equal_the_specification(
    kind: str, peaky: bool, make_integer_model: Callable[..., ExactLM], draw_codes: Callable[..., np.ndarray]
) -> None:
    model = make_integer_model(kind, seed=4, peaky=peaky)
    clips = np.stack([draw_codes(model, 14, seed=s) for s in range(2)])
    expected = np.stack([reference_logits(model, clip) for clip in clips])
    graphs = export_onnx(model)
    found = whole(graphs, clips, (14,))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(whole(graphs, clips, (1, 4, 1, 8)), expected)


@pytest.mark.parametrize("window_frames", [1, 2])
def test_a_window_may_hold_no_past(window_frames: int, make_integer_model: Callable[..., ExactLM]) -> None:
    source = make_integer_model("none", seed=1)
    arrays = dict(source.arrays)
    arrays["layers.position_bias"] = arrays["layers.position_bias"][..., :window_frames]
    model = ExactLM(replace(source.config, window_frames=window_frames), arrays)
    codes = np.random.default_rng(0).integers(0, 11, (1, 5, 3))
    for chunks in ((5,), (1,) * 5):
        np.testing.assert_array_equal(whole(export_onnx(model), codes, chunks)[0], reference_logits(model, codes[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_float_graphs_agree_with_torch_but_for_rounding(
    kind: str, make_float_model: Callable[..., TokenLM], draw_codes: Callable[..., np.ndarray]
) -> None:
    model = make_float_model(kind)
    codes = np.stack([draw_codes(model, 14, seed=s) for s in range(2)])
    with torch.inference_mode():
        expected = model(torch.from_numpy(codes)).numpy()
    graphs = export_onnx(model)
    # logits of a size of 10 to 100 in these models, made by float32 sums of up to 64 terms
    atol = 1e-5 * float(np.abs(expected).max())
    found = whole(graphs, codes, (14,))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)
    np.testing.assert_allclose(whole(graphs, codes, (3, 1, 10)), expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_valid_and_do_not_change(
    kind: str, make_integer_model: Callable[..., ExactLM], make_float_model: Callable[..., TokenLM]
) -> None:
    for model in (make_integer_model(kind), make_float_model(kind)):
        graphs, again = export_onnx(model), export_onnx(model)
        for part in ("read", "heads"):
            file = getattr(graphs, part)
            assert file == getattr(again, part)
            proto = onnx.load_from_string(file)
            onnx.checker.check_model(proto, full_check=True)


def test_no_operator_of_an_exact_graph_may_approximate(
    make_float_model: Callable[..., TokenLM], draw_codes: Callable[..., np.ndarray]
) -> None:
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


def test_what_cannot_be_exported(
    make_float_model: Callable[..., TokenLM], make_integer_model: Callable[..., ExactLM]
) -> None:
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
