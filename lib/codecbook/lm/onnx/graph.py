"""`Graph`: an ONNX graph, written down one operation after the other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

OPSET = 18
"""Of ONNX: the newest with a change that the graphs need (axes of reductions as inputs); older runtimes read it too."""
IR_VERSION = 8
"""File format that goes with opset 18."""

Operand = str | np.ndarray
Port = tuple[type[np.generic], tuple[int | str, ...]]
"""Type and shape of an input or output; axes whose length a caller chooses are named."""


class Graph:
    """Collects nodes and constants; values are known by names, which `op` returns.

    Args:
        name: Of the graph.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, kind: str, *inputs: Operand, **attributes: Any) -> str:
        """Append a node with one output and return the output's name.

        Args:
            kind: Operator of ONNX.
            inputs: Names of values; arrays become constants.
            attributes: Of the operator.
        """
        return self._append(kind, inputs, 1, attributes)[0]

    def split(self, value: str, count: int, axis: int) -> list[str]:
        """Append a ``Split`` into `count` equal parts and return their names."""
        return self._append("Split", (value,), count, {"axis": axis, "num_outputs": count})

    def cast(self, value: str, kind: type[np.generic]) -> str:
        """Append a ``Cast``; from floats to integers it cuts off the fraction."""
        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))

    def name(self, value: str, name: str) -> str:
        """Give a value the name of an output."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"name_{name}"))
        return name

    def model(
        self, inputs: Mapping[str, Port], outputs: Mapping[str, Port], metadata: Mapping[str, str]
    ) -> bytes:
        """Return the graph as an ONNX file.

        Args:
            inputs: By name.
            outputs: By name, each given by `name`.
            metadata: Kept in the file.
        """
        graph = helper.make_graph(
            self._nodes, self._name, _ports(inputs), _ports(outputs), list(self._constants.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="codecbook",
        )
        helper.set_model_props(model, dict(metadata))
        return model.SerializeToString(deterministic=True)

    def _append(
        self,
        kind: str,
        inputs: tuple[Operand, ...],
        count: int,
        attributes: Mapping[str, Any],
    ) -> list[str]:
        node = f"{kind}_{len(self._nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        outputs = [f"{node}_{i}" for i in range(count)] if count > 1 else [node]
        self._nodes.append(helper.make_node(kind, names, outputs, name=node, **attributes))
        return outputs

    def _constant(self, array: np.ndarray) -> str:
        """Return the name of a constant, which is stored once however often it is used."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            name = f"constant_{len(self._constants)}"
            self._constants[name] = numpy_helper.from_array(
                np.ascontiguousarray(array).reshape(array.shape), name
            )
            self._known[key] = name
        return self._known[key]


def _ports(ports: Mapping[str, Port]) -> list:
    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
        for name, (kind, shape) in ports.items()
    ]
