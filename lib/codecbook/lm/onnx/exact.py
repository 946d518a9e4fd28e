"""Exact integers in ONNX: the steps of ``docs/exact-lm.md`` by operators whose results are exact for them.

Matrices are multiplied as float32, exact in any order while sums stay below 2^24 (the certificate). Attention weights
of 17 bits are not split, so this is for runtimes that multiply float32 as float32, as those on CPUs do.
``MatMulInteger`` would be the natural operator, but where x86 processors lack VNNI, products of unsigned and signed
bytes overflow in onnxruntime (its pull request 12088). All else is elementwise float64 on integers and dyadic
fractions whose numerators stay below 2^53, exact whether fused or not, or int64. ``Sqrt``, the one operator whose
result may be rounded, is corrected; softmax and GELU are tables.
"""

import numpy as np

from codecbook.lm.exact.arithmetic import (
    ACTIVATION_MAX,
    EXP2_SIZE,
    GELU_SIZE,
    RECIPROCAL_BITS,
    ROTATION_BITS,
    ROTATION_EXTRA_BITS,
    ROTATION_INPUT_MAX,
    SHARE_SHIFT,
    STREAM_MAX,
    UNIT_BITS,
    exp2_table,
    requantise,
)
from codecbook.lm.exact.model import ExactLM
from codecbook.lm.onnx.transformer import Arithmetic, turn

_UNSEEN = -(2.0**40)
"""Added to the score of a key outside the window: so far from the greatest that its power is the table's last, 0."""
_RECIPROCAL = np.array(1 << RECIPROCAL_BITS)


class ExactArithmetic(Arithmetic):
    """Integers as float64 in streams, as float32 where they are factors.

    Args:
        model: The model; its certificate holds.
    """

    logits_type = np.int64

    def __init__(self, model: ExactLM) -> None:
        self.config = model.config
        self._model = model

    def rows(self, name: str, indices: str) -> str:
        """See `Arithmetic`; the table holds rows that are requantised already."""
        weight, multiplier = self._array(f"{name}.weight"), self._array(f"{name}.multiplier")
        table = requantise(weight, multiplier[:, None], self._model.shift(name)).astype(np.int32)
        return self._double(self.graph.op("Gather", table, indices, axis=0))

    def stream(self, x: str) -> str:
        """See `Arithmetic`."""
        return self._clipped(x, STREAM_MAX)

    def norm(self, name: str, x: str, layer: int | None = None) -> str:
        """See `Arithmetic`."""
        g = self.graph
        epsilon = "head_epsilon" if name in ("head_norm", "logits_norm") else "epsilon"
        squares = g.op("ReduceSum", g.op("Mul", x, x), np.array([-1]), keepdims=1)
        root = self._root(g.op("Add", squares, self._array(epsilon).astype(np.float64)))
        units = self._rounded(g.op("Mul", x, self._reciprocal(root)), UNIT_BITS)
        return self.factors(self._requantised(units, f"{name}.gain", name, layer))

    def linear(self, name: str, x: str, layer: int | None = None) -> str:
        """See `Arithmetic`."""
        weight = self._array(f"{name}.weight", layer).T.astype(np.float32)
        sums = self._double(self.graph.op("MatMul", x, weight))
        return self._requantised(sums, f"{name}.multiplier", name, layer)

    def by_codebook(self, name: str, x: str, codebook: str | None) -> str:
        """See `Arithmetic`."""
        K, g = self.config.num_codebooks, self.graph
        rows = self._array(f"{name}.weight")
        weight = rows.reshape(K, -1, rows.shape[-1]).swapaxes(1, 2).astype(np.float32)
        scale = self._scale(self._array(f"{name}.multiplier").reshape(K, 1, -1), name)
        if codebook is not None:
            weight, scale = g.op("Gather", weight, codebook, axis=0), g.op("Gather", scale, codebook, axis=0)
        return self._rounded(g.op("Mul", self._double(g.op("MatMul", x, weight)), scale))

    def gelu(self, name: str, x: str, layer: int | None = None) -> str:
        """See `Arithmetic`."""
        half = GELU_SIZE // 2
        clipped = self.graph.op("Clip", x, np.array(-half, np.float64), np.array(half - 1, np.float64))
        index = self.graph.op("Add", self._integer(clipped), np.array(half))
        return self.graph.op("Gather", self._array(name, layer).astype(np.float32), index)

    def factors(self, x: str) -> str:
        """See `Arithmetic`."""
        return self._single(self._clipped(x, ACTIVATION_MAX))

    def rotation(self, positions: str) -> tuple[str, str]:
        """See `Arithmetic`."""
        cosine, sine = (
            self.graph.op("Gather", self._array(f"rotation.{name}").astype(np.float64), positions)
            for name in ("cosine", "sine")
        )
        return cosine, sine

    def rotated(self, x: str, rotation: tuple[str, str]) -> str:
        """See `Arithmetic`."""
        turned = turn(self.graph, self._clipped(x, ROTATION_INPUT_MAX), rotation)
        return self.factors(self._rounded(turned, ROTATION_BITS + ROTATION_EXTRA_BITS))

    def bias(self, layer: int, reach: str) -> str:
        """See `Arithmetic`."""
        heads, window = self.config.heads, self.config.window_frames
        table = (
            np.zeros((heads, window)) if self.config.rotary else self._array("layers.position_bias", layer)
        )
        table = np.concatenate((table, np.full((heads, 1), _UNSEEN)), axis=1)
        return self.graph.op("Gather", table.astype(np.float64), reach, axis=1)

    def mixed(self, query: str, key: str, value: str, bias: str, layer: int) -> str:
        """See `Arithmetic`."""
        g = self.graph
        sums = self._double(g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 2, 4, 3])))
        scale = self._scale(
            self._array("layers.score.multiplier", layer)[:, None, None], "layers.score", layer
        )
        scores = g.op("Add", self._rounded(g.op("Mul", sums, scale)), bias)
        top = g.op("ReduceMax", scores, np.array([-1]), keepdims=1)
        distance = g.op("Min", g.op("Sub", top, scores), np.array(EXP2_SIZE - 1, np.float64))
        powers = g.op("Gather", exp2_table().astype(np.float64), self._integer(distance))
        total = g.op("ReduceSum", powers, np.array([-1]), keepdims=1)
        shares = self._rounded(g.op("Mul", powers, self._reciprocal(self._integer(total))), SHARE_SHIFT)
        return self._double(g.op("MatMul", self._single(shares), value))

    def attended(self, mixed: str, layer: int) -> str:
        """See `Arithmetic`."""
        return self.factors(self._requantised(mixed, "layers.mix.multiplier", "layers.mix", layer))

    def logits(self, x: str) -> str:
        """See `Arithmetic`."""
        return self._integer(x)

    def _array(self, name: str, layer: int | None = None) -> np.ndarray:
        array = self._model.arrays[name]
        return array if layer is None else array[layer]

    def _scale(self, multiplier: np.ndarray, name: str, layer: int | None = None) -> np.ndarray:
        """Return ``multiplier / 2^shift`` as float64, which is exact."""
        return np.ldexp(multiplier.astype(np.float64), -self._model.shift(name, layer or 0))

    def _requantised(self, x: str, multiplier: str, name: str, layer: int | None) -> str:
        scale = self._scale(self._array(multiplier, layer), name, layer)
        return self._rounded(self.graph.op("Mul", x, scale))

    def _rounded(self, x: str, shift: int = 0) -> str:
        """Return ``floor(x / 2^shift + 1/2)``, the document's ``(x + 2^(s-1)) >> s``."""
        scaled = self.graph.op("Mul", x, np.array(2.0**-shift)) if shift else x
        return self.graph.op("Floor", self.graph.op("Add", scaled, np.array(0.5)))

    def _clipped(self, x: str, limit: int) -> str:
        return self.graph.op("Clip", x, np.array(-limit, np.float64), np.array(limit, np.float64))

    def _reciprocal(self, divisor: str) -> str:
        """Return ``2^40 // divisor`` as float64 for positive int64: there division rounds down by definition."""
        return self._double(self.graph.op("Div", _RECIPROCAL, divisor))

    def _root(self, squares: str) -> str:
        """Return ``floor(sqrt(squares))`` as int64, right even where ``Sqrt`` is an integer off either way."""
        g = self.graph
        values = self._integer(squares)
        root = self._integer(g.op("Sqrt", squares))
        above = g.op("Greater", g.op("Mul", root, root), values)
        root = g.op("Sub", root, self._integer(above))
        following = g.op("Add", root, np.array(1))
        fits = g.op("LessOrEqual", g.op("Mul", following, following), values)
        return g.op("Add", root, self._integer(fits))

    def _integer(self, x: str) -> str:
        return self.graph.cast(x, np.int64)

    def _double(self, x: str) -> str:
        return self.graph.cast(x, np.float64)

    def _single(self, x: str) -> str:
        return self.graph.cast(x, np.float32)
