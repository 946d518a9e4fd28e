"""The specification as plain numpy: one frame after the other, int64 throughout, and easy to read.

``docs/exact-lm.md`` says the same in prose. The other backends are tested to agree with this one in every bit.
"""

from typing import Any

import numpy as np

from codecbook.errors import UnsupportedInput, require_one_of
from codecbook.lm.exact import spec
from codecbook.lm.exact.certificate import certificate
from codecbook.lm.exact.spec import ExactLM
from codecbook.tokens.tokens import checked_codes

MATMULS = ("int64", "float32")


def requantise(values: np.ndarray, multiplier: np.ndarray, shift: int) -> np.ndarray:
    """Return ``floor((values * multiplier + 2^(shift - 1)) / 2^shift)``, int64."""
    return (values.astype(np.int64) * multiplier.astype(np.int64) + (1 << (shift - 1))) >> shift


def saturate(stream: np.ndarray) -> np.ndarray:
    """Return a residual stream within its limits."""
    return np.clip(stream, -spec.STREAM_MAX, spec.STREAM_MAX)


def as_activation(values: np.ndarray) -> np.ndarray:
    """Return values within the range of an activation."""
    return np.clip(values, -spec.ACTIVATION_MAX, spec.ACTIVATION_MAX)


def integer_sqrt(values: np.ndarray) -> np.ndarray:
    """Return ``floor(sqrt(values))`` of int64 from 0 to below 2^53."""
    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    root -= root * root > values
    return root + ((root + 1) * (root + 1) <= values)


def norm(stream: np.ndarray, gain: np.ndarray, shift: int, epsilon: int) -> np.ndarray:
    """Return activations ``[..., D]`` of a residual stream ``[..., D]``: RMSNorm in integers."""
    root = integer_sqrt((stream * stream).sum(axis=-1, keepdims=True) + epsilon)
    reciprocal = (1 << spec.RECIPROCAL_BITS) // root
    units = (stream * reciprocal + (1 << (spec.UNIT_BITS - 1))) >> spec.UNIT_BITS
    return as_activation(requantise(units, gain, shift))


def gelu(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return activations by a table of 4096 entries, whose middle stands for 0."""
    half = spec.GELU_SIZE // 2
    return table[np.clip(values, -half, half - 1) + half].astype(np.int64)


def rotate(values: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Return queries or keys ``[..., d]`` turned by their position's tables ``[..., d / 2]``."""
    wide = np.clip(values, -spec.ROTATION_INPUT_MAX, spec.ROTATION_INPUT_MAX)
    first, second = np.split(wide, 2, axis=-1)
    cosine, sine = cosine.astype(np.int64), sine.astype(np.int64)
    turned = np.concatenate((first * cosine - second * sine, second * cosine + first * sine), axis=-1)
    return (turned + (1 << (spec.ROTATION_SHIFT - 1))) >> spec.ROTATION_SHIFT


def attention_shares(scores: np.ndarray) -> np.ndarray:
    """Return the weights ``[..., P]``, in 2^-16, that scores ``[..., P]`` in 2^-8 bit give to their keys."""
    distance = scores.max(axis=-1, keepdims=True) - scores
    powers = spec.exp2_table()[np.minimum(distance, spec.EXP2_SIZE - 1)]
    reciprocal = (1 << spec.RECIPROCAL_BITS) // powers.sum(axis=-1, keepdims=True)
    return (powers * reciprocal + (1 << (spec.SHARE_SHIFT - 1))) >> spec.SHARE_SHIFT


class ReferenceEvaluator:
    """Reads clips side by side, frame by frame; `logits` are those of the frame that comes next.

    With ``matmul="float32"``, products of matrices are left to the machine's BLAS, in whatever order it adds them up:
    as all factors are integers and all sums stay below 2^24 (the certificate), it has nothing to round. This is much
    faster, and shows that any BLAS gives the same. Another `matmul`, no clips, or with float32 a model that has no
    certificate raise UnsupportedInput.
    """

    def __init__(self, model: ExactLM, batch: int = 1, matmul: str = "int64") -> None:
        require_one_of("matmul", matmul, MATMULS)
        if matmul == "float32":
            certificate(model)
        self.model, self._matmul = model, matmul
        self._steps: dict[str, Any] = {
            # cast once, and not at every product
            name: values.astype(matmul) if name.endswith(".weight") else values
            for name, values in model.steps().items()
        }
        self.start(batch)

    def start(self, batch: int = 1) -> None:
        """Forget everything; the next frame is the first of `batch` clips."""
        if batch < 1:
            raise UnsupportedInput(f"batch={batch}; read 1 clip or more side by side.")
        c = self.model.config
        empty = np.empty((batch, c.heads, 0, c.dim // c.heads), dtype=np.int64)
        self._past = [(empty, empty)] * c.layers  # keys and values [B, H, P, d], newest first
        self._position = 0
        self._hidden = self._read(np.full((batch, c.num_codebooks), c.codebook_size))  # [B, D]

    def push(self, frame: np.ndarray) -> None:
        """Read the codes ``[B, K]`` of the next frame; errors as for `reference_logits`."""
        codes = checked_codes(frame, self.model.codebook_sizes, "The frame")
        if codes.shape[:-1] != self._hidden.shape[:1]:
            raise UnsupportedInput(
                f"A frame of {len(self._hidden)} clips side by side has codes {list(codes.shape)}; give one of each."
            )
        self._hidden = self._read(codes)

    def logits(self, before: np.ndarray) -> np.ndarray:
        """Return int64 logits ``[B, V]`` of codebook ``k``, in 2^-8 bit, given the codes ``[B, k]`` before it."""
        k, activations = before.shape[1], self._hidden
        if self.model.config.conditioned:
            rows = np.arange(k) * self.model.config.codebook_size + before
            known = self._rows("frame_embedding", rows).sum(axis=1)
            stream = saturate(self._linear(f"project.{k}", activations) + known)
            activations = self._norm("logits_norm", self._feed_forward(stream, "head_norm", "head_"))
        return self._linear(f"logits.{k}", activations)

    def _read(self, codes: np.ndarray) -> np.ndarray:
        config = self.model.config
        if config.rotary and self._position >= config.window_frames:
            raise UnsupportedInput(f"A sequence beyond this model's {config.window_frames} tokens (with BOS); restart.")
        firsts = np.arange(config.num_codebooks) * (config.codebook_size + 1)
        stream = saturate(self._rows("embedding", firsts + codes).sum(axis=1))  # [B, D]
        for layer in range(config.layers):
            stream = saturate(stream + self._attention(layer, stream))
            stream = self._feed_forward(stream, f"layers.{layer}.feed_forward_norm", f"layers.{layer}.")
        self._position += 1
        return self._norm("norm", stream)

    def _attention(self, layer: int, stream: np.ndarray) -> np.ndarray:
        config, steps, prefix = self.model.config, self._steps, f"layers.{layer}."
        activations = self._norm(prefix + "attention_norm", stream)
        parts = self._linear(prefix + "query_key_value", activations).reshape(len(stream), 3, config.heads, -1)
        if config.rotary:
            tables = steps["rotation.cosine"][self._position], steps["rotation.sine"][self._position]
            parts[:, :2] = rotate(parts[:, :2], *tables)
        query, *new = as_activation(parts).swapaxes(0, 1)  # [B, H, d]; a key and a value
        older = slice(config.window_frames - 1)
        keys, values = (
            np.concatenate((newest[:, :, None], past[:, :, older]), axis=2)
            for newest, past in zip(new, self._past[layer], strict=True)
        )
        self._past[layer] = keys, values
        sums = self._product(query[:, :, None], keys)[:, :, 0]  # [B, H, P]
        scores = requantise(sums, steps[prefix + "score.multiplier"][:, None], steps[prefix + "score.shift"])
        if not config.rotary:
            scores += steps[prefix + "position_bias"][:, : keys.shape[2]]
        shares = attention_shares(scores)[:, :, None]
        mixed = self._product(shares, np.swapaxes(values, -1, -2)).reshape(len(stream), -1)
        mixed = requantise(mixed, steps[prefix + "mix.multiplier"], steps[prefix + "mix.shift"])
        return self._linear(prefix + "output", as_activation(mixed))

    def _feed_forward(self, stream: np.ndarray, norm_name: str, prefix: str) -> np.ndarray:
        """Return a stream to which a network of two matrices has added."""
        inner = self._linear(prefix + "inner", self._norm(norm_name, stream))
        return saturate(stream + self._linear(prefix + "outer", gelu(inner, self._steps[prefix + "gelu"])))

    def _norm(self, name: str, stream: np.ndarray) -> np.ndarray:
        return norm(stream, *(self._steps[f"{name}.{part}"] for part in ("gain", "shift", "epsilon")))

    def _linear(self, name: str, activations: np.ndarray) -> np.ndarray:
        """Return ``[B, O]`` of activations ``[B, I]``."""
        sums = self._product(activations, self._steps[f"{name}.weight"])
        return requantise(sums, self._steps[f"{name}.multiplier"], self._steps[f"{name}.shift"])

    def _product(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the sums over ``i``, int64 ``[..., M, O]``, of ``[..., M, I]`` times ``[..., O, I]``.

        This is the one place where float32 takes part, if it shall.
        """
        if self._matmul == "int64":
            return np.einsum("...mi,...oi->...mo", left, right)
        left, right = left.astype(np.float32), right.astype(np.float32, copy=False)
        return np.matmul(left, np.swapaxes(right, -1, -2)).astype(np.int64)

    def _rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return rows ``[..., width]`` of a table of codes, in the stream's unit."""
        weight, multiplier = self._steps[f"{name}.weight"][rows], self._steps[f"{name}.multiplier"][rows]
        return requantise(weight, multiplier[..., None], self._steps[f"{name}.shift"])


def reference_logits(model: ExactLM, codes: np.ndarray) -> np.ndarray:
    """Return the logits, int64 ``[T, K, V]`` in 2^-8 bit, of frames ``[T, K]`` given those before, the first given BOS.

    Raises:
        UnsupportedInput: Another number of codebooks, or a sequence longer than rotary positions reach.
        CorruptInput: A code outside its codebook.
    """
    codes = checked_codes(codes, model.codebook_sizes, "The clip")
    evaluator = ReferenceEvaluator(model)
    logits = np.empty((*codes.shape, model.config.codebook_size), dtype=np.int64)
    for t, frame in enumerate(codes):
        if t:
            evaluator.push(codes[t - 1][None])
        for k in range(model.num_codebooks):
            logits[t, k] = evaluator.logits(frame[None, :k])[0]
    return logits
