"""The specification as plain numpy: one frame after the other, int64 throughout. Slow, and easy to read.

``docs/exact-lm.md`` says the same in prose. The other evaluators are tested to agree with this one in every bit.
"""

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lm.batches import checked_codes
from codecbook.lm.exact.arithmetic import (
    as_activation,
    attention_shares,
    gelu,
    norm,
    requantise,
    rotate,
    saturate,
)
from codecbook.lm.exact.model import ExactLM


class ReferenceEvaluator:
    """Reads a clip frame by frame; `logits` are those of the frame that comes next.

    Args:
        model: The model.
    """

    def __init__(self, model: ExactLM) -> None:
        self.model = model
        self._arrays = model.arrays
        layers = model.config.layers
        self._past: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(layers)]
        self._position = 0
        self._hidden = self._read(np.full(model.num_codebooks, model.config.codebook_size))

    def read(self, frame: np.ndarray) -> None:
        """Read the codes ``[K]`` of the next frame."""
        (codes,) = checked_codes(np.asarray(frame)[None], self.model.codebook_sizes, "The frame")
        self._hidden = self._read(codes)

    def logits(self, before: np.ndarray) -> np.ndarray:
        """Return logits int64 ``[V]`` of codebook ``k``, in 2^-8 bit, given the frame's codes ``[k]`` before it."""
        k, config = len(before), self.model.config
        activations = self._hidden
        if config.conditioned:
            P, V = config.head_dim, config.codebook_size
            stream = self._linear("project", activations)[k * P : (k + 1) * P]
            for j, code in enumerate(before):
                stream = stream + self._row("frame_embedding", j * V + int(code))
            activations = self._refine(saturate(stream))
        sums = self._arrays["logits.weight"][k].astype(np.int64) @ activations
        return requantise(sums, self._arrays["logits.multiplier"][k], self.model.shift("logits"))

    def _refine(self, stream: np.ndarray) -> np.ndarray:
        """Return the activations that the logits are read from, for a heads' stream ``[P]``."""
        activations = self._norm("head_norm", stream, "head_epsilon")
        inner = gelu(self._linear("head_inner", activations), self._arrays["head_gelu"])
        return self._norm("logits_norm", saturate(stream + self._linear("head_outer", inner)), "head_epsilon")

    def _read(self, codes: np.ndarray) -> np.ndarray:
        config = self.model.config
        if config.rotary and self._position >= config.window_frames:
            raise UnsupportedInput(
                f"A sequence longer than this model's {config.window_frames} tokens (BOS included); start again."
            )
        rows = [self._row("embedding", k * (config.codebook_size + 1) + int(c)) for k, c in enumerate(codes)]
        stream = saturate(np.sum(rows, axis=0))
        for layer in range(config.layers):
            stream = saturate(stream + self._attention(layer, stream))
            activations = self._norm("layers.feed_forward_norm", stream, "epsilon", layer)
            inner = gelu(self._linear("layers.inner", activations, layer), self._arrays["layers.gelu"][layer])
            stream = saturate(stream + self._linear("layers.outer", inner, layer))
        self._position += 1
        return self._norm("norm", stream, "epsilon")

    def _attention(self, layer: int, stream: np.ndarray) -> np.ndarray:
        config, arrays = self.model.config, self._arrays
        activations = self._norm("layers.attention_norm", stream, "epsilon", layer)
        parts = self._linear("layers.query_key_value", activations, layer).reshape(3, config.heads, -1)
        value = as_activation(parts[2])
        if config.rotary:
            tables = arrays["rotation.cosine"][self._position], arrays["rotation.sine"][self._position]
            query, key = rotate(parts[0], *tables), rotate(parts[1], *tables)
        else:
            query, key = as_activation(parts[0]), as_activation(parts[1])
        self._past[layer] = [(key, value), *self._past[layer]][: config.window_frames]  # newest first
        keys = np.stack([key for key, _ in self._past[layer]])  # [P, H, d], by distance
        values = np.stack([value for _, value in self._past[layer]])
        sums = np.einsum("hd,phd->hp", query, keys)
        scores = requantise(
            sums, arrays["layers.score.multiplier"][layer][:, None], self.model.shift("layers.score", layer)
        )
        if not config.rotary:
            scores = scores + arrays["layers.position_bias"][layer][:, : len(keys)]
        mixed = np.einsum("hp,phd->hd", attention_shares(scores), values).reshape(-1)
        mixed = requantise(
            mixed, arrays["layers.mix.multiplier"][layer], self.model.shift("layers.mix", layer)
        )
        return self._linear("layers.output", as_activation(mixed), layer)

    def _norm(self, name: str, stream: np.ndarray, epsilon: str, layer: int | None = None) -> np.ndarray:
        gain = self._arrays[f"{name}.gain"]
        return norm(
            stream,
            gain if layer is None else gain[layer],
            self.model.shift(name, layer or 0),
            int(self._arrays[epsilon][0]),
        )

    def _linear(self, name: str, activations: np.ndarray, layer: int | None = None) -> np.ndarray:
        weight, multiplier = self._arrays[f"{name}.weight"], self._arrays[f"{name}.multiplier"]
        if layer is not None:
            weight, multiplier = weight[layer], multiplier[layer]
        return requantise(
            weight.astype(np.int64) @ activations, multiplier, self.model.shift(name, layer or 0)
        )

    def _row(self, name: str, row: int) -> np.ndarray:
        """Return a row of a table of codes, in the stream's unit."""
        weight, multiplier = self._arrays[f"{name}.weight"][row], self._arrays[f"{name}.multiplier"][row]
        return requantise(weight, multiplier, self.model.shift(name))


def reference_logits(model: ExactLM, codes: np.ndarray) -> np.ndarray:
    """Return the logits of every frame given the frames before it, the first given BOS.

    Args:
        model: The model.
        codes: Integers ``[T, K]``.

    Returns:
        int64 ``[T, K, V]``, in 2^-8 bit.

    Raises:
        UnsupportedInput: Another number of codebooks, or a sequence longer than rotary positions reach.
        CorruptInput: A code outside its codebook.
    """
    codes = checked_codes(np.asarray(codes), model.codebook_sizes, "The clip")
    evaluator = ReferenceEvaluator(model)
    logits = np.empty((*codes.shape, model.config.codebook_size), dtype=np.int64)
    for t, frame in enumerate(codes):
        if t:
            evaluator.read(codes[t - 1])
        for k in range(model.num_codebooks):
            logits[t, k] = evaluator.logits(frame[:k])
    return logits
