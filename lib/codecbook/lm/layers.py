"""Parts that the language models share: attention with a cache, two kinds of positions, the pre-norm block.

Chosen for exact integer evaluation later: RMSNorm (one square root per frame), GELU (one table), positions as
stored tables, no biases.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPSILON = 1e-6

KeysValues = tuple[Tensor, Tensor]
"""What a layer remembers of its past: keys and values, each ``[B, H, P, D / H]``."""


@dataclass(frozen=True)
class State:
    """What a model, float or exact, remembers between two calls of its `read`; never changed in place."""

    layers: tuple[KeysValues, ...]
    position: int  # number of frames read, the BOS frame included


class Rotation(nn.Module):
    """Rotary positions (RoPE; Su et al. 2021) from stored tables, for heads of even width."""

    def __init__(self, context: int, head_dim: int) -> None:
        super().__init__()
        frequencies = 10_000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        angles = torch.arange(context, dtype=torch.float64)[:, None] * frequencies
        # computed in float64 and stored with the weights: cos and sin differ between maths libraries
        self.register_buffer("cosine", angles.cos().float())
        self.register_buffer("sine", angles.sin().float())

    def forward(self, x: Tensor, position: int) -> Tensor:
        """Rotate queries or keys ``[B, H, T, D / H]`` whose first frame is at `position`."""
        rows = slice(position, position + x.shape[2])
        cosine = self.get_buffer("cosine")[rows].to(x.dtype)
        sine = self.get_buffer("sine")[rows].to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class RelativeBias(nn.Module):
    """A learned number per head and distance, added to attention scores; minus infinity outside the window.

    The window bounds what a step costs and remembers, and with distances alone a clip may be of any length
    (Shaw et al. 2018; T5's bias without its buckets). Each layer has a table of its own.
    """

    def __init__(self, layers: int, heads: int, window_frames: int) -> None:
        super().__init__()
        self.window_frames = window_frames
        self.weight = nn.Parameter(torch.zeros(layers, heads, window_frames))

    def forward(self, num_queries: int, num_past: int) -> Tensor:
        """Return float ``[L, 1, H, num_queries, num_past + num_queries]``; the last key is the last query's own."""
        num_keys = num_past + num_queries
        # along a diagonal the distance is constant, so the mask is one vector of distances, read at shifting
        # starts; its gradient is a sum over diagonals, much cheaper than that of an index per entry
        reach = min(num_keys, self.window_frames)
        nearest_last = self.weight[..., :reach].flip(-1)
        vector = F.pad(nearest_last, (num_keys - reach, num_queries - 1), value=-math.inf)
        return vector.unfold(-1, num_keys, 1).flip(-2).unsqueeze(1)


class Attention(nn.Module):
    """Causal multi-head self-attention by `torch.nn.functional.scaled_dot_product_attention`."""

    def __init__(self, dim: int, heads: int, rotation: Rotation | None) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self._rotation = (rotation,)  # in a tuple, so that the shared tables stay the model's alone

    def forward(
        self, x: Tensor, mask: Tensor | None, past: KeysValues | None, position: int
    ) -> tuple[Tensor, KeysValues]:
        """Attend from frames ``[B, T, D]``, the first at `position`, to themselves and the past.

        `mask` is added to the scores, broadcast to ``[B, H, T, P + T]``; None is causal, without a past. `past` are the
        keys and values of the ``P`` frames before. Returns float ``[B, T, D]``, and those of past and present.
        """
        B, T, dim = x.shape
        query, key, value = self.query_key_value(x).view(B, T, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        (rotation,) = self._rotation
        if rotation is not None:
            query, key = rotation(query, position), rotation(key, position)
        if past is not None:
            key, value = torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)
        mixed = F.scaled_dot_product_attention(
            query, key, value, None if mask is None else mask.to(query.dtype), is_causal=mask is None
        )
        return self.output(mixed.transpose(1, 2).reshape(B, T, dim)), (key, value)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, the exact one (not the tanh approximation)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden, bias=False)
        self.output = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., D]`` to ``[..., D]``."""
        return self.output(F.gelu(self.inner(x)))


class Block(nn.Module):
    """A pre-norm Transformer layer: ``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, rotation: Rotation | None) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim, eps=NORM_EPSILON)
        self.attention = Attention(dim, heads, rotation)
        self.feed_forward_norm = nn.RMSNorm(dim, eps=NORM_EPSILON)
        self.feed_forward = FeedForward(dim, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, past: KeysValues | None, position: int
    ) -> tuple[Tensor, KeysValues]:
        """Apply the layer to the residual stream; arguments and results as of `Attention.forward`."""
        mixed, present = self.attention(self.attention_norm(x), mask, past, position)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x))), present


def initialise(model: nn.Module, num_layers: int) -> None:
    """Draw matrices with deviation 0.02; those that write to the residual stream, ``1 / sqrt(2 L)`` of that.

    The scaling keeps the stream's size independent of the depth (Radford et al. 2019, section 2.3).
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or name.endswith("bias.weight"):
            continue  # gains of norms start at 1, position biases at 0
        scale = (2 * num_layers) ** -0.5 if name.endswith(".output.weight") else 1.0
        nn.init.normal_(parameter, std=0.02 * scale)
