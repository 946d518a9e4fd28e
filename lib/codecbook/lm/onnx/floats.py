"""Float32 in ONNX: the model as it was trained.

Norms and GELU are written in the elementary operators that exporters write, which optimisers of graphs know and
replace by fused ones; what that does to the logits is for others to measure.
"""

import math

import numpy as np
import torch

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.model import ExactConfig
from codecbook.lm.gpt import TinyGPT
from codecbook.lm.layers import NORM_EPSILON, Rotation
from codecbook.lm.onnx.transformer import Arithmetic, turn
from codecbook.lm.token_lm import TokenLM


class FloatArithmetic(Arithmetic):
    """Float32 throughout.

    Args:
        model: An `RVQTransformer` or a `TinyGPT`.
        config: Its shape.

    Raises:
        UnsupportedInput: Weights of another type than float32.
    """

    logits_type = np.float32

    def __init__(self, model: TokenLM, config: ExactConfig) -> None:
        self.config = config
        self._weights = {}
        for name, tensor in model.state_dict().items():
            if tensor.dtype != torch.float32:
                raise UnsupportedInput(
                    f"Parameter {name} is {tensor.dtype}; onnxruntime has all operators for float32 alone, call "
                    "model.float() first."
                )
            self._weights[name] = tensor.detach().cpu().numpy().copy()
        if isinstance(model, TinyGPT):
            self._weights["head_weight"] = self._weights["embedding.weight"][None, :-1]  # all rows but BOS
        if isinstance(model.rotation, Rotation):
            self._weights |= {
                f"rotation.{name}": model.rotation.get_buffer(name).cpu().numpy()
                for name in ("cosine", "sine")
            }

    def rows(self, name: str, indices: str) -> str:
        """See `Arithmetic`."""
        return self.graph.op("Gather", self._weights[f"{name}.weight"], indices, axis=0)

    def stream(self, x: str) -> str:
        """See `Arithmetic`."""
        return x

    def norm(self, name: str, x: str, layer: int | None = None) -> str:
        """See `Arithmetic`."""
        g = self.graph
        squares = g.op("Pow", x, _single(2.0))
        mean = g.op("ReduceMean", squares, np.array([-1]), keepdims=1)
        deviation = g.op("Sqrt", g.op("Add", mean, _single(NORM_EPSILON)))
        return g.op("Mul", g.op("Div", x, deviation), self._weight(f"{name}.weight", layer))

    def linear(self, name: str, x: str, layer: int | None = None) -> str:
        """See `Arithmetic`."""
        return self.graph.op("MatMul", x, self._weight(f"{_MODULES[name]}.weight", layer).T)

    def by_codebook(self, name: str, x: str, codebook: str | None) -> str:
        """See `Arithmetic`."""
        rows = self._weights[_MODULES[name]]
        weight = rows.reshape(self.config.num_codebooks, -1, rows.shape[-1]).swapaxes(1, 2)
        if codebook is None:
            return self.graph.op("MatMul", x, weight)
        return self.graph.op("MatMul", x, self.graph.op("Gather", weight, codebook, axis=0))

    def gelu(self, name: str, x: str, layer: int | None = None) -> str:
        """See `Arithmetic`; one function for all layers."""
        g = self.graph
        error = g.op("Erf", g.op("Div", x, _single(math.sqrt(2.0))))
        return g.op("Mul", g.op("Mul", x, g.op("Add", error, _single(1.0))), _single(0.5))

    def factors(self, x: str) -> str:
        """See `Arithmetic`."""
        return x

    def rotation(self, positions: str) -> tuple[str, str]:
        """See `Arithmetic`."""
        cosine, sine = (
            self.graph.op("Gather", self._weights[f"rotation.{name}"], positions)
            for name in ("cosine", "sine")
        )
        return cosine, sine

    def rotated(self, x: str, rotation: tuple[str, str]) -> str:
        """See `Arithmetic`."""
        return turn(self.graph, x, rotation)

    def bias(self, layer: int, reach: str) -> str:
        """See `Arithmetic`."""
        heads, window = self.config.heads, self.config.window_frames
        table = (
            np.zeros((heads, window)) if self.config.rotary else self._weights["position_bias.weight"][layer]
        )
        table = np.concatenate((table, np.full((heads, 1), -np.inf)), axis=1)
        return self.graph.op("Gather", table.astype(np.float32), reach, axis=1)

    def mixed(self, query: str, key: str, value: str, bias: str, layer: int) -> str:
        """See `Arithmetic`."""
        g = self.graph
        scale = _single(1.0 / math.sqrt(self.config.dim // self.config.heads))
        scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 2, 4, 3]))
        scores = g.op("Add", g.op("Mul", scores, scale), bias)
        return g.op("MatMul", g.op("Softmax", scores, axis=-1), value)

    def attended(self, mixed: str, layer: int) -> str:
        """See `Arithmetic`."""
        return mixed

    def logits(self, x: str) -> str:
        """See `Arithmetic`."""
        return x

    def _weight(self, name: str, layer: int | None) -> np.ndarray:
        if layer is None:
            return self._weights[name]
        return self._weights[f"blocks.{layer}.{name.removeprefix('layers.')}"]


_MODULES = {
    "layers.query_key_value": "layers.attention.query_key_value",
    "layers.output": "layers.attention.output",
    "layers.inner": "layers.feed_forward.inner",
    "layers.outer": "layers.feed_forward.output",
    "head_inner": "head_feed_forward.inner",
    "head_outer": "head_feed_forward.output",
    "project": "project.weight",
    "logits": "head_weight",
}
"""Modules of a `TokenLM` by the names of ``docs/exact-lm.md``, where these differ."""


def _single(value: float) -> np.ndarray:
    return np.array(value, dtype=np.float32)
