"""`ExactTorch`: exact evaluation on any torch device, whole clips or stepping, batched.

Matrices are multiplied as float32. Every factor is an integer of at most 8 bits and every sum stays below 2^24 (the
certificate), so the result is exact in whatever order it is added up. A device that lowers float32 products to TF32
or bfloat16 (``torch.set_float32_matmul_precision``, ``allow_tf32``) changes nothing, as integers up to 256 are exact
in both and sums are still kept in float32. Attention weights have 17 bits, so they are split into two factors of at
most 256. Autocasting also rounds results, and is switched off here. All else is int64: sums, products, shifts and
comparisons, and where a device has more, its own roots and divisions.

The integer operations that a device may lack (reductions, limits, roots, reciprocals) come in two kinds. `NATIVE` takes
torch's own. They are exact on CPUs and on CUDA, where float64 exists and int64 is complete. `PORTABLE` gets by with
sums, products, shifts and comparisons of int64, which are exact on every device that has int64 at all. MPS has no
float64, and in some versions its int64 divisions and reductions pass through float32 or int32
(https://github.com/pytorch/pytorch/issues/152758).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact import spec
from codecbook.lm.exact.spec import RECIPROCAL_BITS, ExactLM
from codecbook.lm.layers import KeysValues, State
from codecbook.lm.token_lm import check_codes


class Integers:
    """Operations on int64 tensors of any shape, by torch's own."""

    def clamp(self, values: Tensor, low: int, high: int) -> Tensor:
        """Return `values` within ``low`` to ``high``."""
        return values.clamp(low, high)

    def total(self, values: Tensor, dim: int) -> Tensor:
        """Return the sums along the negative axis `dim`, which goes away."""
        return values.sum(dim=dim)

    def largest(self, values: Tensor) -> Tensor:
        """Return the greatest of each last axis, which becomes 1."""
        return values.amax(dim=-1, keepdim=True)

    def root(self, values: Tensor) -> Tensor:
        """Return ``floor(sqrt(values))`` of numbers from 0 to below 2^53."""
        root = values.double().sqrt().to(torch.int64)
        root = root - (root * root > values).to(torch.int64)  # corrects what float64 rounded
        return root + ((root + 1) * (root + 1) <= values).to(torch.int64)

    def reciprocal(self, values: Tensor) -> Tensor:
        """Return ``floor(2^40 / values)`` of numbers from 1 to below 2^40."""
        return torch.div(1 << RECIPROCAL_BITS, values, rounding_mode="floor")


class _Portable(Integers):
    def clamp(self, values: Tensor, low: int, high: int) -> Tensor:
        values = torch.where(values < low, low, values)
        return torch.where(values > high, high, values)

    def total(self, values: Tensor, dim: int) -> Tensor:
        return _folded(values, dim, torch.add).squeeze(dim)

    def largest(self, values: Tensor) -> Tensor:
        return _folded(values, -1, lambda first, second: torch.where(first > second, first, second))

    def root(self, values: Tensor) -> Tensor:
        # bit by bit from the top, of the 27 at most below 2^53: a bit stays if the square still fits
        root = torch.zeros_like(values)
        for bit in range(26, -1, -1):
            trial = root + (1 << bit)
            root = torch.where(trial * trial <= values, trial, root)
        return root

    def reciprocal(self, values: Tensor) -> Tensor:
        # long division; shifting what is left, not the divisor, keeps all numbers below 2^41
        left = torch.full_like(values, 1 << RECIPROCAL_BITS)
        quotient = torch.zeros_like(values)
        for bit in range(RECIPROCAL_BITS, -1, -1):
            fits = (left >> bit) >= values
            left = left - (torch.where(fits, values, 0) << bit)
            quotient = torch.where(fits, quotient + (1 << bit), quotient)
        return quotient


def _folded(values: Tensor, dim: int, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Join the halves of an axis until one element is left."""
    while values.shape[dim] > 1:
        half = values.shape[dim] // 2
        first, second, odd = values.split((half, half, values.shape[dim] - 2 * half), dim=dim)
        values = torch.cat((join(first, second), odd), dim=dim)
    return values


NATIVE = Integers()
PORTABLE = _Portable()


def integers_of(device: torch.device) -> Integers:
    """Return the operations that are exact on a device, whatever the version of its drivers."""
    return NATIVE if device.type in ("cpu", "cuda") else PORTABLE


# 2^(shift - 1) by shift. Looked up, as torch.compile takes a number that varies between calls for a symbol, and the
# code that torch 2.13 writes for `1 << (symbol - 1)` overflows 32 bits.
_HALVES = (0, *(1 << bit for bit in range(62)))


class ExactTorch:
    """The evaluator for GPUs, and other devices with int64; the same integers as `reference_logits`.

    `integers` are by default the operations that are exact on the device.
    """

    def __init__(self, model: ExactLM, device: str | torch.device = "cpu", integers: Integers | None = None) -> None:
        self.model, self.device = model, torch.device(device)
        self._integers = integers or integers_of(self.device)
        self._steps: dict[str, Any] = model.steps()
        for name, values in self._steps.items():
            if not name.endswith(".shift"):
                # matrices go into float32 products; all else is int64
                is_matrix = name.endswith(".weight") and "embedding" not in name
                kind = torch.float32 if is_matrix else torch.int64
                self._steps[name] = torch.tensor(values).to(kind).to(self.device)
        self._exp2 = torch.tensor(spec.exp2_table().tolist(), dtype=torch.int64, device=self.device)

    @torch.no_grad()  # torch.compile (2.13) cannot slice the tensors of inference_mode
    def logits(self, codes: Tensor, chunk_frames: int = 256) -> Tensor:
        """Return the logits of frames, int64 ``[B, T, K]``, given the frames before, the first given BOS.

        They are int64 ``[B, T, K, V]`` on the device, in 2^-8 bit; none depends on how many frames are read at a time.
        Errors as for `reference_logits`.
        """
        check_codes(codes.cpu(), self.model.codebook_sizes)
        codes = codes.to(self.device)
        inputs = torch.cat((self._bos(len(codes)), codes[:, :-1]), dim=1)
        state, parts = None, []
        for start in range(0, codes.shape[1], chunk_frames):
            chunk = slice(start, start + chunk_frames)
            hidden, state = self._read(inputs[:, chunk], state)
            heads = [self.head(hidden, codes[:, chunk, :k]) for k in range(self.model.num_codebooks)]
            parts.append(torch.stack(heads, dim=2))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def begin(self, batch_size: int = 1) -> tuple[Tensor, State]:
        """Read BOS: return hidden int64 ``[B, 1, D]``, which predicts frame 0, and a state."""
        return self._read(self._bos(batch_size), None)

    @torch.no_grad()
    def read(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        """Read frames int64 ``[B, T, K]``; return hidden int64 ``[B, T, D]``, each for the frame after, and a state."""
        check_codes(codes.cpu(), self.model.codebook_sizes)
        return self._read(codes.to(self.device), state)

    @torch.no_grad()
    def head(self, hidden: Tensor, before: Tensor) -> Tensor:
        """Return logits int64 ``[..., V]`` of codebook ``k`` for hidden ``[..., D]`` and codes ``[..., k]`` before."""
        c, k, before = self.model.config, before.shape[-1], before.to(self.device)
        if not 0 <= k < c.num_codebooks:
            raise UnsupportedInput(f"{k} codes were given, and the frame has {c.num_codebooks}; none is left.")
        if c.conditioned:
            x = self._linear(f"project.{k}", hidden)
            if k:
                firsts = torch.arange(k, device=self.device) * c.codebook_size
                x = x + self._integers.total(self._rows("frame_embedding", before + firsts), -2)
            hidden = self._norm("logits_norm", self._feed_forward(self._saturate(x), "head_norm", "head_"))
        return self._linear(f"logits.{k}", hidden)

    def _read(self, codes: Tensor, state: State | None) -> tuple[Tensor, State]:
        c = self.model.config
        position = 0 if state is None else state.position
        if c.rotary and position + codes.shape[1] > c.window_frames:
            raise UnsupportedInput(f"A sequence is longer than this model's {c.window_frames} tokens; start again.")
        firsts = torch.arange(c.num_codebooks, device=self.device) * (c.codebook_size + 1)
        x = self._saturate(self._integers.total(self._rows("embedding", codes + firsts), -2))
        layers = []
        for layer in range(c.layers):
            past = None if state is None else state.layers[layer]
            mixed, remembered = self._attention(f"layers.{layer}.", x, past, position)
            layers.append(remembered)
            x = self._saturate(x + self._linear(f"layers.{layer}.output", mixed))
            x = self._feed_forward(x, f"layers.{layer}.feed_forward_norm", f"layers.{layer}.")
        return self._norm("norm", x), State(tuple(layers), position + codes.shape[1])

    def _attention(self, prefix: str, x: Tensor, past: KeysValues | None, position: int) -> tuple[Tensor, KeysValues]:
        c, steps = self.model.config, self._steps
        B, T, _ = x.shape
        parts = self._linear(prefix + "query_key_value", self._norm(prefix + "attention_norm", x))
        query, key, value = parts.view(B, T, 3, c.heads, -1).permute(2, 0, 3, 1, 4)
        if c.rotary:
            query, key = self._rotate(query, position), self._rotate(key, position)
        query, key, value = (self._activation(part).float() for part in (query, key, value))
        if past is not None:
            key, value = torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)
        P = key.shape[2]
        scores = self._product(query, key.transpose(-1, -2))
        scores = _requantise(scores, steps[prefix + "score.multiplier"][:, None, None], steps[prefix + "score.shift"])
        distance = torch.arange(P - T, P, device=self.device)[:, None] - torch.arange(P, device=self.device)
        if not c.rotary:
            reach = self._integers.clamp(distance, 0, c.window_frames - 1)
            scores = scores + steps[prefix + "position_bias"][:, reach]
        shares = self._shares(scores, (distance >= 0) & (distance < c.window_frames))
        # 17 bits as two factors that bfloat16 holds
        high = shares >> 8
        low = shares - (high << 8)
        mixed = (self._product(high.float(), value) << 8) + self._product(low.float(), value)
        mixed = mixed.transpose(1, 2).reshape(B, T, c.dim)
        mixed = self._activation(_requantise(mixed, steps[prefix + "mix.multiplier"], steps[prefix + "mix.shift"]))
        first = max(0, P - (c.window_frames - 1))
        return mixed, (key[:, :, first:], value[:, :, first:])

    def _rotate(self, x: Tensor, position: int) -> Tensor:
        rows = slice(position, position + x.shape[2])
        cosine, sine = self._steps["rotation.cosine"][rows], self._steps["rotation.sine"][rows]
        first, second = self._integers.clamp(x, -spec.ROTATION_INPUT_MAX, spec.ROTATION_INPUT_MAX).chunk(2, dim=-1)
        turned = torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
        return (turned + (1 << (spec.ROTATION_SHIFT - 1))) >> spec.ROTATION_SHIFT

    def _shares(self, scores: Tensor, visible: Tensor) -> Tensor:
        top = self._integers.largest(torch.where(visible, scores, -(1 << 40)))
        powers = torch.where(visible, self._exp2[self._integers.clamp(top - scores, 0, spec.EXP2_SIZE - 1)], 0)
        reciprocal = self._integers.reciprocal(self._integers.total(powers, -1)[..., None])
        return (powers * reciprocal + (1 << (spec.SHARE_SHIFT - 1))) >> spec.SHARE_SHIFT

    def _feed_forward(self, x: Tensor, norm: str, prefix: str) -> Tensor:
        half = spec.GELU_SIZE // 2
        inner = self._integers.clamp(self._linear(prefix + "inner", self._norm(norm, x)), -half, half - 1)
        return self._saturate(x + self._linear(prefix + "outer", self._steps[prefix + "gelu"][inner + half]))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        gain, shift, epsilon = (self._steps[f"{name}.{part}"] for part in ("gain", "shift", "epsilon"))
        squares = self._integers.total(x * x, -1)[..., None] + epsilon
        reciprocal = self._integers.reciprocal(self._integers.root(squares))
        units = (x * reciprocal + (1 << (spec.UNIT_BITS - 1))) >> spec.UNIT_BITS
        return self._activation(_requantise(units, gain, shift))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        sums = self._product(x.float(), self._steps[f"{name}.weight"].transpose(0, 1))
        return _requantise(sums, self._steps[f"{name}.multiplier"], self._steps[f"{name}.shift"])

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            return torch.matmul(a, b).to(torch.int64)

    def _rows(self, name: str, rows: Tensor) -> Tensor:
        weight, multiplier = self._steps[f"{name}.weight"][rows], self._steps[f"{name}.multiplier"][rows]
        return _requantise(weight, multiplier[..., None], self._steps[f"{name}.shift"])

    def _saturate(self, x: Tensor) -> Tensor:
        return self._integers.clamp(x, -spec.STREAM_MAX, spec.STREAM_MAX)

    def _activation(self, x: Tensor) -> Tensor:
        return self._integers.clamp(x, -spec.ACTIVATION_MAX, spec.ACTIVATION_MAX)

    def _bos(self, batch_size: int) -> Tensor:
        c = self.model.config
        return torch.full((batch_size, 1, c.num_codebooks), c.codebook_size, dtype=torch.int64, device=self.device)


def _requantise(values: Tensor, multiplier: Tensor, shift: int) -> Tensor:
    return (values * multiplier + _HALVES[shift]) >> shift
