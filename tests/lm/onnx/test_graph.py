import numpy as np
import onnx
import onnxruntime

from codecbook.lm.onnx.graph import Graph


def test_a_graph_is_what_was_written_down() -> None:
    g = Graph("example")
    first, second = g.split(g.op("Add", "x", np.array([1.0, 2.0, 3.0, 4.0])), 2, axis=0)
    g.name(g.cast(g.op("Mul", first, second), np.int64), "y")
    file = g.model({"x": (np.float64, (4,))}, {"y": (np.int64, (2,))}, {"key": "value"})
    model = onnx.load_from_string(file)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("key", "value")]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.array([0.5, 0.5, 0.0, -1.0])})
    np.testing.assert_array_equal(found, [4, 7])  # 1.5 * 3, 2.5 * 3, cut off


def test_equal_constants_are_stored_once() -> None:
    g = Graph("example")
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    total = g.op("Add", g.op("Add", "x", table), table.copy())
    for other in (table.T.reshape(2, 3), table.astype(np.float64).astype(np.float32) + 1):
        total = g.op("Add", total, other)
    g.name(total, "y")
    file = g.model({"x": (np.float32, (2, 3))}, {"y": (np.float32, (2, 3))}, {})
    stored = [
        onnx.numpy_helper.to_array(constant) for constant in onnx.load_from_string(file).graph.initializer
    ]
    assert len(stored) == 3
    np.testing.assert_array_equal(stored[0], table)


def test_views_are_stored_in_their_own_order() -> None:
    g = Graph("example")
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    g.name(g.op("MatMul", "x", table.T), "y")
    file = g.model({"x": (np.float32, (1, 3))}, {"y": (np.float32, (1, 2))}, {})
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.array([[1, 10, 100]], np.float32)})
    np.testing.assert_array_equal(found, [[210, 543]])
