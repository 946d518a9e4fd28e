"""Language models as ONNX graphs, in float32 or in the exact integers of ``docs/exact-lm.md``, for the probes.

``torch.onnx.export`` has no exact form of int64 shifts and divisions, hence graphs by hand. Steps and names of arrays
are the document's; a float model has the same arrays, without multipliers. `_Floats` and `_Integers` are what the two
kinds of numbers do differently.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact import spec
from codecbook.lm.exact.certificate import certificate
from codecbook.lm.exact.export import config_of, parameter_of
from codecbook.lm.exact.reference import requantise
from codecbook.lm.exact.spec import ExactConfig, ExactLM
from codecbook.lm.layers import NORM_EPSILON
from codecbook.lm.token_lm import TokenLM

Port = tuple[type[np.generic], tuple[int | str, ...]]
"""Type and shape of an input or output; axes whose length a caller chooses are named."""


@dataclass(frozen=True)
class OnnxLM:
    """A language model of a shape as two ONNX files, complete in themselves.

    ``read`` takes frames after others, first the BOS frame (every code ``V``) with an empty past:

    ========  =======  ================  ==============================================================
    input     codes    ``[B, T, K]``     int64
    input     past     ``[2L,B,H,P,d]``  keys of layer 0, its values, keys of layer 1, ...
    output    hidden   ``[B, T, D]``     at each frame, what the heads read for the frame after
    output    present  ``[2L,B,H,Q,d]``  the past of the frame after
    ========  =======  ================  ==============================================================

    ``heads`` takes ``hidden`` ``[N, D]`` and ``codes`` int64 ``[N, K]``, the frames themselves, of which code ``k`` is
    read for codebooks above ``k``; it returns ``logits`` ``[N, K, V]``.
    """

    config: ExactConfig
    read: bytes
    heads: bytes


def export_onnx(model: TokenLM | ExactLM) -> OnnxLM:
    """Convert an `RVQTransformer` of float32, or an `ExactLM` without rotary positions, to ONNX.

    Logits of the latter are int64, and equal under every runtime that computes float32 products in float32 and float64
    by IEEE 754. Raises UnsupportedInput: another kind of model or of numbers, or an exact model without a certificate.
    """
    config = model.config if isinstance(model, ExactLM) else config_of(model)
    if config.rotary:
        raise UnsupportedInput("A model with rotary positions has no ONNX form; export an RVQTransformer.")
    if isinstance(model, ExactLM):
        certificate(model)
    files = [
        build(_Integers(model) if isinstance(model, ExactLM) else _Floats(model, config))
        for build in (_read_graph, _heads_graph)
    ]
    return OnnxLM(config, *files)


class Graph:
    """Collects nodes and constants; values are known by names, which `op` returns."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}

    def op(self, kind: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """Append a node with one output; inputs are names, or arrays, which become constants."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str | np.ndarray, **attributes: Any) -> list[str]:
        """Append a node with `count` outputs."""
        node = f"{kind}_{len(self._nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        outputs = [f"{node}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node(kind, names, outputs, name=node, **attributes))
        return outputs

    def cast(self, value: str, kind: type[np.generic]) -> str:
        """Append a ``Cast``; from floats to integers it cuts off the fraction."""
        return self.op("Cast", value, to=_element_type(kind))

    def file(self, inputs: Mapping[str, Port], outputs: Mapping[str, tuple[str, Port]]) -> bytes:
        """Return the graph as an ONNX file; each output is a value's name, and its port."""
        self._nodes += [helper.make_node("Identity", [value], [name]) for name, (value, _) in outputs.items()]
        taken = [_value_info(name, port) for name, port in inputs.items()]
        given = [_value_info(name, port) for name, (_, port) in outputs.items()]
        graph = helper.make_graph(self._nodes, "lm", taken, given, list(self._constants.values()))
        # the newest with a change that the graphs need (axes of reductions as inputs), and its format of files
        opset = helper.make_opsetid("", 18)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="codecbook")
        return model.SerializeToString(deterministic=True)

    def _constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name


def _element_type(kind: type[np.generic]) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(kind))


def _value_info(name: str, port: Port) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, _element_type(port[0]), port[1])


class _Floats(Graph):
    """Float32 throughout. Norms and GELU are in the operators that exporters write, which optimisers know and fuse."""

    logits_type = np.float32

    def __init__(self, model: TokenLM, config: ExactConfig) -> None:
        super().__init__()
        self.config = config
        self._weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        for name, tensor in self._weights.items():
            if tensor.dtype != torch.float32:
                raise UnsupportedInput(f"Parameter {name} is {tensor.dtype}; onnxruntime lacks it: call model.float().")

    def rows(self, name: str, indices: str) -> str:
        """Return the rows ``[..., D]`` of a table of codes, in the unit of the stream."""
        return self.op("Gather", self._weight(name), indices, axis=0)

    def stream(self, x: str) -> str:
        """Return what a residual stream keeps of a sum."""
        return x

    def norm(self, name: str, x: str) -> str:
        """Return factors for a matrix: RMSNorm of a stream over its last axis."""
        mean = self.op("ReduceMean", self.op("Pow", x, _single(2.0)), np.array([-1]), keepdims=1)
        deviation = self.op("Sqrt", self.op("Add", mean, _single(NORM_EPSILON)))
        return self.op("Mul", self.op("Div", x, deviation), self._weight(name))

    def linear(self, name: str, x: str) -> str:
        """Return the product of factors ``[..., I]`` and a matrix, or those of the codebooks, ``[K, N, O]``."""
        return self.op("MatMul", x, _by_codebook(name, self._weight(name), self.config).swapaxes(-1, -2))

    def gelu(self, name: str, x: str) -> str:
        """Return factors for a matrix."""
        del name
        error = self.op("Erf", self.op("Div", x, _single(math.sqrt(2.0))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", error, _single(1.0))), _single(0.5))

    def factors(self, x: str) -> str:
        """Return queries, keys or values as factors of products."""
        return x

    def mixed(self, query: str, key: str, value: str, reach: str, layer: int) -> str:
        """Return the weighted values that attention finds, as factors ``[1, B, H, T, d]``.

        `reach`, int64 ``[T, N]``, is the distance, or ``W`` where a query does not see a key.
        """
        bias = _biases(self._weight("position_bias")[layer], -np.inf).astype(np.float32)
        scale = _single(1.0 / math.sqrt(self.config.dim // self.config.heads))
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 2, 4, 3]))
        scores = self.op("Add", self.op("Mul", scores, scale), self.op("Gather", bias, reach, axis=1))
        return self.op("MatMul", self.op("Softmax", scores, axis=-1), value)

    def _weight(self, name: str) -> np.ndarray:
        return self._weights[parameter_of(name)].numpy()


class _Integers(Graph):
    """Exact integers, as float64 in streams and as float32 where they are factors; methods as in `_Floats`.

    Matrices are multiplied as float32, exact in any order while sums stay below 2^24 (the certificate). Attention
    weights of 17 bits are not split, so this is for runtimes that multiply float32 as float32, as those on CPUs do.
    ``MatMulInteger`` would be the natural operator, but where x86 processors lack VNNI, products of unsigned and signed
    bytes overflow in onnxruntime (its pull request 12088). All else is elementwise float64 on integers and dyadic
    fractions whose numerators stay below 2^53, exact whether fused or not, or int64. ``Sqrt``, the one operator whose
    result may be rounded, is corrected; softmax and GELU are tables.
    """

    logits_type = np.int64

    def __init__(self, model: ExactLM) -> None:
        super().__init__()
        self.config, self._arrays = model.config, {**model.arrays, **model.steps()}

    def rows(self, name: str, indices: str) -> str:
        """Rows of a table that is requantised already."""
        weight, multiplier, shift = (self._arrays[f"{name}.{part}"] for part in ("weight", "multiplier", "shift"))
        table = requantise(weight, multiplier[:, None], shift).astype(np.int32)
        return self._double(self.op("Gather", table, indices, axis=0))

    def stream(self, x: str) -> str:
        return self._clipped(x, -spec.STREAM_MAX, spec.STREAM_MAX)

    def norm(self, name: str, x: str) -> str:
        squares = self.op("ReduceSum", self.op("Mul", x, x), np.array([-1]), keepdims=1)
        root = self._root(self.op("Add", squares, np.array([self._arrays[f"{name}.epsilon"]], np.float64)))
        units = self._rounded(self.op("Mul", x, self._reciprocal(root)), spec.UNIT_BITS)
        return self.factors(self._scaled(units, name, "gain"))

    def linear(self, name: str, x: str) -> str:
        weight = _by_codebook(name, self._arrays[f"{name}.weight"], self.config).swapaxes(-1, -2)
        sums = self._double(self.op("MatMul", x, weight.astype(np.float32)))
        return self._scaled(sums, name, shape=(*weight.shape[:-2], 1, -1))

    def gelu(self, name: str, x: str) -> str:
        half = spec.GELU_SIZE // 2
        index = self.op("Add", self._integer(self._clipped(x, -half, half - 1)), np.array(half))
        return self.op("Gather", self._arrays[name].astype(np.float32), index)

    def factors(self, x: str) -> str:
        return self.cast(self._clipped(x, -spec.ACTIVATION_MAX, spec.ACTIVATION_MAX), np.float32)

    def mixed(self, query: str, key: str, value: str, reach: str, layer: int) -> str:
        heads = self.config.heads
        # unseen keys are so far from the greatest score that their power is the table's last, 0
        bias = _biases(self._arrays["layers.position_bias"][layer], -(2.0**40))
        sums = self._double(self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 2, 4, 3])))
        scores = self._scaled(sums, f"layers.{layer}.score", shape=(heads, 1, 1))
        scores = self.op("Add", scores, self.op("Gather", bias, reach, axis=1))
        top = self.op("ReduceMax", scores, np.array([-1]), keepdims=1)
        distance = self.op("Min", self.op("Sub", top, scores), np.array(spec.EXP2_SIZE - 1, np.float64))
        powers = self.op("Gather", spec.exp2_table().astype(np.float64), self._integer(distance))
        total = self.op("ReduceSum", powers, np.array([-1]), keepdims=1)
        shares = self._rounded(self.op("Mul", powers, self._reciprocal(self._integer(total))), spec.SHARE_SHIFT)
        mixed = self._double(self.op("MatMul", self.cast(shares, np.float32), value))
        return self.factors(self._scaled(mixed, f"layers.{layer}.mix", shape=(heads, 1, -1)))

    def _scaled(self, x: str, name: str, factor: str = "multiplier", shape: tuple[int, ...] = (-1,)) -> str:
        """Requantise; ``multiplier / 2^shift`` as float64 is exact."""
        multiplier = self._arrays[f"{name}.{factor}"].astype(np.float64).reshape(shape)
        return self._rounded(self.op("Mul", x, np.ldexp(multiplier, -self._arrays[f"{name}.shift"])))

    def _rounded(self, x: str, shift: int = 0) -> str:
        """Return ``floor(x / 2^shift + 1/2)``, the document's ``(x + 2^(s-1)) >> s``."""
        scaled = self.op("Mul", x, np.array(2.0**-shift)) if shift else x
        return self.op("Floor", self.op("Add", scaled, np.array(0.5)))

    def _clipped(self, x: str, low: int, high: int) -> str:
        return self.op("Clip", x, np.array(low, np.float64), np.array(high, np.float64))

    def _reciprocal(self, divisor: str) -> str:
        """Return ``2^40 // divisor`` as float64 for positive int64: there division rounds down by definition."""
        return self._double(self.op("Div", np.array(1 << spec.RECIPROCAL_BITS), divisor))

    def _root(self, squares: str) -> str:
        """Return ``floor(sqrt(squares))`` as int64, right even where ``Sqrt`` is an integer off either way."""
        values, root = self._integer(squares), self._integer(self.op("Sqrt", squares))
        root = self.op("Sub", root, self._integer(self.op("Greater", self.op("Mul", root, root), values)))
        following = self.op("Add", root, np.array(1))
        return self.op("Add", root, self._integer(self.op("LessOrEqual", self.op("Mul", following, following), values)))

    def _integer(self, x: str) -> str:
        return self.cast(x, np.int64)

    def _double(self, x: str) -> str:
        return self.cast(x, np.float64)


def _single(value: float) -> np.ndarray:
    return np.array(value, dtype=np.float32)


def _biases(table: np.ndarray, unseen: float) -> np.ndarray:
    """Return ``[H, W + 1]``: what is added to a score at each distance, and where a query does not see a key."""
    return np.concatenate((table, np.full((len(table), 1), unseen)), axis=1, dtype=np.float64)


def _by_codebook(name: str, weight: np.ndarray, config: ExactConfig) -> np.ndarray:
    """Return a matrix ``[O, I]``, or the stack ``[K, O, I]`` where each codebook has its own."""
    return weight.reshape(config.num_codebooks, -1, weight.shape[-1]) if name in ("project", "logits") else weight


def _read_graph(n: _Floats | _Integers) -> bytes:
    c, op = n.config, n.op
    firsts = np.arange(c.num_codebooks) * (c.codebook_size + 1)
    x = n.stream(op("ReduceSum", n.rows("embedding", op("Add", "codes", firsts)), np.array([2]), keepdims=0))
    zero, one, window = np.array(0), np.array(1), np.array(c.window_frames)
    num_past = op("Gather", op("Shape", "past"), np.array(3))
    num_keys = op("Add", num_past, op("Gather", op("Shape", "codes"), one))
    queries = op("Unsqueeze", op("Range", num_past, num_keys, one), np.array([1]))
    distance = op("Sub", queries, op("Range", zero, num_keys, one))
    reach = op("Where", op("Less", distance, zero), window, op("Min", distance, window))
    past, present = n.ops("Split", 2 * c.layers, "past", axis=0, num_outputs=2 * c.layers), []
    for layer in range(c.layers):
        prefix = f"layers.{layer}."
        parts = n.factors(n.linear(prefix + "query_key_value", n.norm(prefix + "attention_norm", x)))
        parts = op("Reshape", parts, np.array([0, 0, 3, c.heads, c.dim // c.heads]))
        query, *new = n.ops("Split", 3, op("Transpose", parts, perm=[2, 0, 3, 1, 4]), axis=0, num_outputs=3)
        old = past[2 * layer : 2 * layer + 2]
        key, value = (op("Concat", *pair, axis=3) for pair in zip(old, new, strict=True))
        present += [key, value]
        mixed = op("Transpose", n.mixed(query, key, value, reach, layer), perm=[0, 1, 3, 2, 4])
        mixed = op("Reshape", op("Squeeze", mixed, np.array([0])), np.array([0, 0, c.dim]))
        x = n.stream(op("Add", x, n.linear(prefix + "output", mixed)))
        x = _feed_forward(n, x, prefix + "feed_forward_norm", prefix)
    # a start before the first frame keeps all of them, one behind the last keeps none
    end = np.array([np.iinfo(np.int64).max])
    first = np.array([1 - c.window_frames]) if c.window_frames > 1 else end
    kept = op("Slice", op("Concat", *present, axis=0), first, end, np.array([3]))
    remembered = (2 * c.layers, "B", c.heads, "P", c.dim // c.heads)
    return n.file(
        {"codes": (np.int64, ("B", "T", c.num_codebooks)), "past": (np.float32, remembered)},
        {
            "hidden": (n.norm("norm", x), (np.float32, ("B", "T", c.dim))),
            "present": (kept, (np.float32, (*remembered[:3], "Q", remembered[4]))),
        },
    )


def _heads_graph(n: _Floats | _Integers) -> bytes:
    c, op = n.config, n.op
    K, x = c.num_codebooks, "hidden"
    if c.conditioned:
        below = op("Slice", "codes", np.array([0]), np.array([K - 1]), np.array([1]))
        rows = n.rows("frame_embedding", op("Add", below, np.arange(K - 1) * c.codebook_size))
        known = op("CumSum", op("Transpose", rows, perm=[1, 0, 2]), np.array(0))
        known = op("Pad", known, np.array([1, 0, 0, 0, 0, 0]))
        x = n.stream(op("Add", n.linear("project", x), known))
        x = n.norm("logits_norm", _feed_forward(n, x, "head_norm", "head_"))
    logits = n.cast(op("Transpose", n.linear("logits", x), perm=[1, 0, 2]), n.logits_type)
    return n.file(
        {"hidden": (np.float32, ("N", c.dim)), "codes": (np.int64, ("N", K))},
        {"logits": (logits, (n.logits_type, ("N", K, c.codebook_size)))},
    )


def _feed_forward(n: _Floats | _Integers, x: str, norm: str, prefix: str) -> str:
    """Return a stream to which a network of two matrices has added."""
    inner = n.gelu(prefix + "gelu", n.linear(prefix + "inner", n.norm(norm, x)))
    return n.stream(n.op("Add", x, n.linear(prefix + "outer", inner)))
