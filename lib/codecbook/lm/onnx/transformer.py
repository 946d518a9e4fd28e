"""The steps of a language model as ONNX graphs, for both kinds of numbers.

`Arithmetic` is what floats and exact integers do differently. Steps and names of arrays are those of
``docs/exact-lm.md``; a float model has the same arrays, without multipliers.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from codecbook.lm.exact.model import ExactConfig
from codecbook.lm.onnx.graph import Graph, Port

_ALL = np.array(np.iinfo(np.int64).max).reshape(1)


class Arithmetic(ABC):
    """Numbers of one kind, and the operations on them.

    Attributes:
        config: Shape of the model.
        graph: Where operations are appended; set by whoever builds a graph.
        logits_type: Type of the logits.
    """

    config: ExactConfig
    graph: Graph
    logits_type: type[np.generic]

    @abstractmethod
    def rows(self, name: str, indices: str) -> str:
        """Return the rows ``[..., D]`` of a table of codes, in the unit of the stream."""

    @abstractmethod
    def stream(self, x: str) -> str:
        """Return what a residual stream keeps of a sum."""

    @abstractmethod
    def norm(self, name: str, x: str, layer: int | None = None) -> str:
        """Return factors for a matrix, RMSNorm of a stream over its last axis."""

    @abstractmethod
    def linear(self, name: str, x: str, layer: int | None = None) -> str:
        """Return the product of factors ``[..., I]`` and a matrix."""

    @abstractmethod
    def by_codebook(self, name: str, x: str, codebook: str | None) -> str:
        """Return the products of factors and the codebooks' own matrices of ``project`` or ``logits``.

        Args:
            name: Name of the matrices.
            x: ``[N, I]``, or ``[K, N, I]`` if each codebook has its own.
            codebook: Scalar int64, for the product ``[N, O]`` of one codebook; None for all, ``[K, N, O]``.
        """

    @abstractmethod
    def gelu(self, name: str, x: str, layer: int | None = None) -> str:
        """Return factors for a matrix."""

    @abstractmethod
    def factors(self, x: str) -> str:
        """Return queries, keys or values as factors of products."""

    @abstractmethod
    def rotation(self, positions: str) -> tuple[str, str]:
        """Return cosines and sines ``[T, d / 2]`` of positions."""

    @abstractmethod
    def rotated(self, x: str, rotation: tuple[str, str]) -> str:
        """Return queries or keys ``[1, B, H, T, d]`` turned, as factors."""

    @abstractmethod
    def bias(self, layer: int, reach: str) -> str:
        """Return ``[H, T, N]``, added to scores.

        Args:
            layer: The layer.
            reach: int64 ``[T, N]``, the distance, or ``W`` where a query does not see a key.
        """

    @abstractmethod
    def mixed(self, query: str, key: str, value: str, bias: str, layer: int) -> str:
        """Return the weighted values ``[1, B, H, T, d]`` that attention finds."""

    @abstractmethod
    def attended(self, mixed: str, layer: int) -> str:
        """Return weighted values ``[B, T, D]``, heads side by side, as factors."""

    @abstractmethod
    def logits(self, x: str) -> str:
        """Return logits in `logits_type`."""


def turn(g: Graph, x: str, rotation: tuple[str, str]) -> str:
    """Return queries or keys ``[..., T, d]`` turned by cosines and sines ``[T, d / 2]``."""
    cosine, sine = rotation
    first, second = g.split(x, 2, axis=-1)
    turned = (
        g.op("Sub", g.op("Mul", first, cosine), g.op("Mul", second, sine)),
        g.op("Add", g.op("Mul", second, cosine), g.op("Mul", first, sine)),
    )
    return g.op("Concat", *turned, axis=-1)


def read_graph(numbers: Arithmetic, metadata: Mapping[str, str]) -> bytes:
    """Return the graph that reads frames after others.

    ========  =======  ================  ==============================================================
    input     codes    ``[B, T, K]``     int64, BOS as ``V``
    input     past     ``[2L,B,H,P,d]``  keys of layer 0, its values, keys of layer 1, ...; ``P = 0`` at BOS
    output    hidden   ``[B, T, D]``     at each frame, what the heads read for the frame after
    output    present  ``[2L,B,H,Q,d]``  the past of the frame after
    ========  =======  ================  ==============================================================
    """
    c, g = numbers.config, Graph("read")
    numbers.graph = g
    firsts = np.arange(c.num_codebooks) * (c.codebook_size + 1)
    x = numbers.rows("embedding", g.op("Add", "codes", firsts))
    x = numbers.stream(g.op("ReduceSum", x, np.array([2]), keepdims=0))
    positions, reach = _places(g, c)
    rotation = numbers.rotation(positions) if c.rotary else None
    past = g.split("past", 2 * c.layers, axis=0)
    present = []
    for layer in range(c.layers):
        bias = numbers.bias(layer, reach)
        mixed, pair = _attention(numbers, layer, x, past[2 * layer : 2 * layer + 2], bias, rotation)
        present += pair
        x = numbers.stream(g.op("Add", x, mixed))
        inner = numbers.linear("layers.inner", numbers.norm("layers.feed_forward_norm", x, layer), layer)
        outer = numbers.linear("layers.outer", numbers.gelu("layers.gelu", inner, layer), layer)
        x = numbers.stream(g.op("Add", x, outer))
    kept = g.op("Concat", *present, axis=0)
    if not c.rotary:  # there the past is never cut, as its length is the position
        # a start before the first frame keeps all of them, one behind the last keeps none
        first = np.array([1 - c.window_frames]) if c.window_frames > 1 else _ALL
        kept = g.op("Slice", kept, first, _ALL, np.array([3]))
    g.name(numbers.norm("norm", x), "hidden")
    g.name(kept, "present")
    pasts = (2 * c.layers, "B", c.heads, "P", c.dim // c.heads)
    return g.model(
        {"codes": (np.int64, ("B", "T", c.num_codebooks)), "past": (np.float32, pasts)},
        {"hidden": _hidden(c, "B", "T"), "present": (np.float32, (*pasts[:3], "Q", pasts[4]))},
        metadata,
    )


def _hidden(config: ExactConfig, *axes: str) -> Port:
    return np.float32, (*axes, config.dim)


def _places(g: Graph, config: ExactConfig) -> tuple[str, str]:
    """Return the frames' positions after those remembered, int64 ``[T]``, and what `Arithmetic.bias` takes."""
    zero, one = np.array(0), np.array(1)
    num_past = g.op("Gather", g.op("Shape", "past"), np.array(3))
    num_keys = g.op("Add", num_past, g.op("Gather", g.op("Shape", "codes"), one))
    positions = g.op("Range", num_past, num_keys, one)
    keys = g.op("Range", zero, num_keys, one)
    distance = g.op("Sub", g.op("Unsqueeze", positions, np.array([1])), keys)
    window = np.array(config.window_frames)
    near = g.op("Min", distance, window)
    return positions, g.op("Where", g.op("Less", distance, zero), window, near)


def _attention(
    numbers: Arithmetic, layer: int, x: str, past: list[str], bias: str, rotation: tuple[str, str] | None
) -> tuple[str, list[str]]:
    """Return what attention adds to a stream ``[B, T, D]``, and keys and values ``[1, B, H, N, d]``."""
    c, g = numbers.config, numbers.graph
    parts = numbers.linear("layers.query_key_value", numbers.norm("layers.attention_norm", x, layer), layer)
    parts = g.op("Reshape", parts, np.array([0, 0, 3, c.heads, c.dim // c.heads]))
    query, key, value = g.split(g.op("Transpose", parts, perm=[2, 0, 3, 1, 4]), 3, axis=0)
    if rotation is None:
        query, key = numbers.factors(query), numbers.factors(key)
    else:
        query, key = numbers.rotated(query, rotation), numbers.rotated(key, rotation)
    key = g.op("Concat", past[0], key, axis=3)
    value = g.op("Concat", past[1], numbers.factors(value), axis=3)
    mixed = numbers.mixed(query, key, value, bias, layer)
    mixed = g.op("Squeeze", g.op("Transpose", mixed, perm=[0, 1, 3, 2, 4]), np.array([0]))
    mixed = g.op("Reshape", mixed, np.array([0, 0, c.dim]))
    return numbers.linear("layers.output", numbers.attended(mixed, layer), layer), [key, value]


def head_graph(numbers: Arithmetic, metadata: Mapping[str, str]) -> bytes:
    """Return the graph of one codebook's logits, the codebook being the number of codes that are known.

    ======  ======  ==========  =====================================
    input   hidden  ``[N, D]``  of `read_graph`
    input   before  ``[N, k]``  int64, codes of the frame, ``k < K``
    output  logits  ``[N, V]``  of codebook ``k``
    ======  ======  ==========  =====================================
    """
    c, g = numbers.config, Graph("head")
    numbers.graph = g
    count = g.op("Shape", "before", start=1)
    codebook = g.op("Squeeze", count)
    x = "hidden"
    if c.conditioned:
        firsts = np.arange(c.num_codebooks - 1) * c.codebook_size
        rows = g.op("Add", "before", g.op("Slice", firsts, np.array([0]), count))
        known = g.op("ReduceSum", numbers.rows("frame_embedding", rows), np.array([1]), keepdims=0)
        x = _refined(numbers, g.op("Add", numbers.by_codebook("project", x, codebook), known))
    g.name(numbers.logits(numbers.by_codebook("logits", x, codebook)), "logits")
    return g.model(
        {"hidden": _hidden(c, "N"), "before": (np.int64, ("N", "k"))},
        {"logits": (numbers.logits_type, ("N", c.codebook_size))},
        metadata,
    )


def heads_graph(numbers: Arithmetic, metadata: Mapping[str, str]) -> bytes:
    """Return the graph of all logits of frames that are known.

    ======  ======  =============  ==============================================================
    input   hidden  ``[N, D]``     of `read_graph`
    input   codes   ``[N, K]``     int64, the frames; code ``k`` is read for codebooks above ``k``
    output  logits  ``[N, K, V]``  of all codebooks
    ======  ======  =============  ==============================================================
    """
    c, g = numbers.config, Graph("heads")
    numbers.graph = g
    x = "hidden"
    if c.conditioned:
        K = c.num_codebooks
        below = g.op("Slice", "codes", np.array([0]), np.array([K - 1]), np.array([1]))
        rows = numbers.rows("frame_embedding", g.op("Add", below, np.arange(K - 1) * c.codebook_size))
        known = g.op("CumSum", g.op("Transpose", rows, perm=[1, 0, 2]), np.array(0))
        known = g.op("Pad", known, np.array([1, 0, 0, 0, 0, 0]))
        x = _refined(numbers, g.op("Add", numbers.by_codebook("project", x, None), known))
    logits = g.op("Transpose", numbers.by_codebook("logits", x, None), perm=[1, 0, 2])
    g.name(numbers.logits(logits), "logits")
    return g.model(
        {"hidden": _hidden(c, "N"), "codes": (np.int64, ("N", c.num_codebooks))},
        {"logits": (numbers.logits_type, ("N", c.num_codebooks, c.codebook_size))},
        metadata,
    )


def _refined(numbers: Arithmetic, x: str) -> str:
    """Return what the logits are read from, for a sum that enters the heads' stream."""
    x = numbers.stream(x)
    inner = numbers.gelu("head_gelu", numbers.linear("head_inner", numbers.norm("head_norm", x)))
    x = numbers.stream(numbers.graph.op("Add", x, numbers.linear("head_outer", inner)))
    return numbers.norm("logits_norm", x)
