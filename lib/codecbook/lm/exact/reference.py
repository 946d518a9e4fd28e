"""The specification as plain numpy: one frame after the other, int64 throughout, and easy to read.

``docs/exact-lm.md`` says the same in prose. The other backends are tested to agree with this one in every bit.
"""

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.arithmetic import as_activation, attention_shares, gelu, norm, requantise, rotate, saturate
from codecbook.lm.exact.certificate import certificate
from codecbook.lm.exact.model import ExactLM
from codecbook.tokens.checks import checked_codes

MATMULS = ("int64", "float32")


class ReferenceEvaluator:
    """Reads clips frame by frame; `logits` are those of the frame that comes next.

    With ``matmul="float32"``, products of matrices are left to the machine's BLAS, in whatever order it adds them up:
    as all factors are integers and all sums stay below 2^24 (the certificate), it has nothing to round. Everything
    else stays int64. This is much faster, and shows that any BLAS gives the same.

    Args:
        model: The model.
        batch: Clips that are read side by side, ``B``; arguments and results then have a first axis ``B``. None reads
            one, without this axis.
        matmul: ``"int64"`` or ``"float32"``.

    Raises:
        UnsupportedInput: Another `matmul`, no clips, or with float32 a model that has no certificate.
    """

    def __init__(self, model: ExactLM, batch: int | None = None, matmul: str = "int64") -> None:
        if matmul not in MATMULS:
            raise UnsupportedInput(f"matmul={matmul!r}; choose of {MATMULS}.")
        if matmul == "float32":
            certificate(model)
        self.model, self._matmul = model, matmul
        self._arrays = model.arrays
        # cast once, and not at every product
        self._weights = {name: array.astype(matmul) for name, array in model.arrays.items() if name.endswith(".weight")}
        self.restart(batch)

    def restart(self, batch: int | None = None) -> None:
        """Forget everything; the next frame is the first of `batch` clips, as for the constructor."""
        if batch is not None and batch < 1:
            raise UnsupportedInput(f"batch={batch}; read 1 clip or more side by side.")
        config, self._batch = self.model.config, batch
        B = batch or 1
        empty = np.empty((B, config.heads, 0, config.dim // config.heads), dtype=np.int64)
        self._past = [(empty, empty)] * config.layers  # keys and values [B, H, P, d], newest first
        self._position = 0
        self._hidden = self._read(np.full((B, config.num_codebooks), config.codebook_size))  # [B, D]

    def read(self, frame: np.ndarray) -> None:
        """Read the codes ``[K]`` (or ``[B, K]``) of the next frame.

        Raises:
            UnsupportedInput: Another number of codebooks or clips, or beyond what rotary positions reach.
            CorruptInput: A code outside its codebook.
        """
        codes = np.asarray(frame) if self._batch else np.asarray(frame)[None]
        codes = checked_codes(codes, self.model.codebook_sizes, "The frame")
        if codes.shape[:-1] != self._hidden.shape[:1]:
            raise UnsupportedInput(
                f"The frame's codes are {list(codes.shape)}, and {len(self._hidden)} clips are read side by side."
            )
        self._hidden = self._read(codes)

    def logits(self, before: np.ndarray) -> np.ndarray:
        """Return logits of codebook ``k``, in 2^-8 bit, given the frame's codes before it.

        Args:
            before: Integers ``[k]`` (or ``[B, k]``).

        Returns:
            int64 ``[V]`` (or ``[B, V]``).
        """
        before = np.asarray(before) if self._batch else np.asarray(before)[None]
        k, config = before.shape[1], self.model.config
        activations = self._hidden
        if config.conditioned:
            P, V = config.head_dim, config.codebook_size
            stream = self._linear("project", activations, slice(k * P, (k + 1) * P))
            for j in range(k):
                stream = stream + self._rows("frame_embedding", j * V + before[:, j])
            activations = self._refine(saturate(stream))
        logits = self._linear("logits", activations, k)
        return logits if self._batch else logits[0]

    def _refine(self, stream: np.ndarray) -> np.ndarray:
        """Return the activations that the logits are read from, for a heads' stream ``[B, P]``."""
        activations = self._norm("head_norm", stream, "head_epsilon")
        inner = gelu(self._linear("head_inner", activations), self._arrays["head_gelu"])
        return self._norm("logits_norm", saturate(stream + self._linear("head_outer", inner)), "head_epsilon")

    def _read(self, codes: np.ndarray) -> np.ndarray:
        config = self.model.config
        if config.rotary and self._position >= config.window_frames:
            raise UnsupportedInput(
                f"A sequence longer than this model's {config.window_frames} tokens (BOS included); start again."
            )
        firsts = np.arange(config.num_codebooks) * (config.codebook_size + 1)
        stream = saturate(self._rows("embedding", firsts + codes).sum(axis=1))  # [B, D]
        for layer in range(config.layers):
            stream = saturate(stream + self._attention(layer, stream))
            activations = self._norm("layers.feed_forward_norm", stream, "epsilon", layer)
            inner = gelu(self._linear("layers.inner", activations, layer), self._arrays["layers.gelu"][layer])
            stream = saturate(stream + self._linear("layers.outer", inner, layer))
        self._position += 1
        return self._norm("norm", stream, "epsilon")

    def _attention(self, layer: int, stream: np.ndarray) -> np.ndarray:
        config, arrays = self.model.config, self._arrays
        B = len(stream)
        activations = self._norm("layers.attention_norm", stream, "epsilon", layer)
        parts = self._linear("layers.query_key_value", activations, layer).reshape(B, 3, config.heads, -1)
        value = as_activation(parts[:, 2])  # [B, H, d], as query and key
        if config.rotary:
            tables = arrays["rotation.cosine"][self._position], arrays["rotation.sine"][self._position]
            query, key = rotate(parts[:, 0], *tables), rotate(parts[:, 1], *tables)
        else:
            query, key = as_activation(parts[:, 0]), as_activation(parts[:, 1])
        older = slice(config.window_frames - 1)
        keys, values = (
            np.concatenate((new[:, :, None], past[:, :, older]), axis=2)
            for new, past in zip((key, value), self._past[layer], strict=True)
        )
        self._past[layer] = keys, values
        sums = self._product(query[:, :, None], keys)[:, :, 0]  # [B, H, P]
        scores = requantise(
            sums, arrays["layers.score.multiplier"][layer][:, None], self.model.shift("layers.score", layer)
        )
        if not config.rotary:
            scores = scores + arrays["layers.position_bias"][layer][:, : keys.shape[2]]
        shares = attention_shares(scores)[:, :, None]
        mixed = self._product(shares, np.swapaxes(values, -1, -2)).reshape(B, -1)
        mixed = requantise(mixed, arrays["layers.mix.multiplier"][layer], self.model.shift("layers.mix", layer))
        return self._linear("layers.output", as_activation(mixed), layer)

    def _norm(self, name: str, stream: np.ndarray, epsilon: str, layer: int | None = None) -> np.ndarray:
        gain = self._arrays[f"{name}.gain"]
        return norm(
            stream,
            gain if layer is None else gain[layer],
            self.model.shift(name, layer or 0),
            int(self._arrays[epsilon][0]),
        )

    def _linear(self, name: str, activations: np.ndarray, part: int | slice | None = None) -> np.ndarray:
        """Return ``[B, O]`` of activations ``[B, I]``, by a layer's or codebook's matrix, or by some rows of one."""
        weight, multiplier = self._weights[f"{name}.weight"], self._arrays[f"{name}.multiplier"]
        if part is not None:
            weight, multiplier = weight[part], multiplier[part]
        layer = part if name.startswith("layers.") and isinstance(part, int) else 0
        return requantise(self._product(activations, weight), multiplier, self.model.shift(name, layer))

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
        weight, multiplier = self._arrays[f"{name}.weight"][rows], self._arrays[f"{name}.multiplier"][rows]
        return requantise(weight, multiplier[..., None], self.model.shift(name))


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
