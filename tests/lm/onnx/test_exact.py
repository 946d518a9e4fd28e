"""The one operator that may be rounded, where rounding goes wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from codecbook.lm.exact import ExactConfig, ExactLM
from codecbook.lm.exact.model import array_specs
from codecbook.lm.onnx.exact import ExactArithmetic
from codecbook.lm.onnx.graph import Graph


def _reference(file: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    evaluator: Any = ReferenceEvaluator(file)
    return evaluator.run(None, feeds)[0]


def _runtime(file: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session: Any = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize("run", [_reference, _runtime])
def test_roots_round_down_up_to_the_last_square(run: Callable[..., np.ndarray]) -> None:
    config = ExactConfig((2,), 2, 1, 1, 2, 1)
    arrays = {name: np.ones(shape, kind) for name, (kind, shape) in array_specs(config).items()}
    numbers = ExactArithmetic(ExactLM(config, arrays))
    numbers.graph = g = Graph("root")
    g.name(numbers._root("squares"), "root")
    file = g.model({"squares": (np.float64, ("N",))}, {"root": (np.int64, ("N",))}, {})
    last = 94_906_265  # floor of the root of 2^53 - 1
    roots = np.concatenate((np.arange(1, 1000), np.arange(last - 1000, last + 1)))
    squares = roots * roots
    naive = np.floor(np.sqrt((squares - 1).astype(np.float64)))
    assert (naive != roots - 1).any(), "rounding alone is not enough here"
    for values, expected in ((squares, roots), (squares - 1, roots - 1), (squares + 1, roots)):
        np.testing.assert_array_equal(run(file, {"squares": values.astype(np.float64)}), expected)
