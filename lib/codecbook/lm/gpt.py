"""`TinyGPT`: a small decoder-only Transformer over one flat stream of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from codecbook.errors import UnsupportedInput
from codecbook.lm.layers import Rotation, initialise
from codecbook.lm.token_lm import LMConfig, TokenLM, require_positive


@dataclass(frozen=True)
class TinyGPTConfig(LMConfig):
    """Shape of a `TinyGPT`; the defaults are those of the bits-per-second study.

    Attributes:
        codebook_sizes: The vocabulary's size alone, ``(V,)``.
        dim: Width of the residual stream.
        layers: Number of layers.
        heads: Number of attention heads.
        hidden: Width of the feed-forward layers; 4 `dim` gives ``8 dim^2`` parameters.
        dropout: As in `LMConfig`.
        context: Longest sequence, in tokens, BOS included.
    """

    codebook_sizes: tuple[int, ...]
    dim: int = 512
    layers: int = 6
    heads: int = 8
    hidden: int = 2048
    dropout: float = 0.0
    context: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("context", self.context)
        if len(self.codebook_sizes) != 1:
            raise UnsupportedInput(
                f"A TinyGPT reads one flat stream, and was given {len(self.codebook_sizes)} codebooks; flatten the "
                "frames with codecbook.tokens.orders, or use an RVQTransformer."
            )


class TinyGPT(TokenLM):
    """The matched model of the bits-per-second study (after TrelisResearch/audio-bits; `science.md` section 1).

    RMSNorm, RoPE, GELU, no biases, logits from the embedding's own rows. With the defaults its trunk has
    ``6 * 12 * 512^2 + 13 * 512 = 18,881,024`` parameters.

    Args:
        config: Shape of the model.
    """

    architecture: ClassVar[str] = "tiny_gpt"
    config: TinyGPTConfig

    def __init__(self, config: TinyGPTConfig) -> None:
        super().__init__(config, Rotation(config.context, config.dim // config.heads))
        self.embedding = nn.Embedding(config.codebook_sizes[0] + 1, config.dim)  # the last row is BOS
        initialise(self, config.layers)

    def embed(self, codes: Tensor) -> Tensor:
        """Return float ``[B, T, D]`` for int64 codes ``[B, T, 1]``."""
        return self.embedding(codes[..., 0])

    def heads(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Return logits ``[B, T, 1, V]`` for hidden ``[B, T, D]``; `codes` are not read."""
        del codes
        return nn.functional.linear(hidden, self.embedding.weight[:-1]).unsqueeze(2)

    def head(self, hidden: Tensor, before: Tensor) -> Tensor:
        """Return logits ``[B, V]`` for hidden ``[B, D]``; `before` is empty."""
        del before
        return nn.functional.linear(hidden, self.embedding.weight[:-1])

    def masks(self, num_frames: int, num_past: int) -> Sequence[Tensor | None]:
        """Return causal masks: none where the sequence starts here."""
        mask = None
        if num_past:
            ones = torch.ones(num_frames, num_past + num_frames, device=self.device, dtype=torch.bool)
            mask = torch.zeros(ones.shape, device=self.device, dtype=self.norm.weight.dtype)
            mask = mask.masked_fill(~ones.tril(num_past), -torch.inf)
        return (mask,) * self.config.layers

    @property
    def remembered_frames(self) -> int:
        """All of the context."""
        return self.config.context

    def check_position(self, position: int) -> None:
        """Raise UnsupportedInput beyond the context."""
        if position > self.config.context:
            raise UnsupportedInput(
                f"A sequence of {position} tokens (BOS included) is longer than this model's context of "
                f"{self.config.context}; cut it, or train with a larger context."
            )
