"""`RVQTransformer`: a Transformer over frames of a residual vector quantiser, with or without in-frame conditioning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from codecbook.errors import UnsupportedInput
from codecbook.lm.layers import NORM_EPSILON, FeedForward, RelativeBias, initialise
from codecbook.lm.token_lm import LMConfig, TokenLM, require_positive

CONDITIONINGS = ("none", "in_frame")


@dataclass(frozen=True)
class RVQTransformerConfig(LMConfig):
    """Shape of an `RVQTransformer`.

    Attributes:
        codebook_sizes: ``V`` per codebook, all equal.
        dim: Width of the residual stream.
        layers: Number of layers.
        heads: Number of attention heads.
        hidden: Width of the feed-forward layers.
        dropout: As in `LMConfig`.
        code_dropout: Share of the codes whose embeddings training drops whole, in the frames that enter and in the
            codes that condition their frame. On little data a model otherwise learns rare combinations of codes by
            heart.
        head_dropout: Share of the last codebook's head inputs that training drops; it rises evenly from 0 at the first.
            Fine codebooks are close to noise, and a model that passes over its data often learns theirs by heart long
            before it has learned what there is to learn of the coarse ones.
        window_frames: Frames that attention sees, the newest included.
        conditioning: ``"in_frame"`` predicts code ``k`` of a frame from its codes below ``k`` too; ``"none"`` is the
            published form, one linear head per codebook, independent of one another. With one codebook both are the
            same model.
        head_dim: With conditioning, width of what a head reads.
        head_hidden: With conditioning, inner width of the shared network before the heads.
    """

    codebook_sizes: tuple[int, ...]
    dim: int = 256
    layers: int = 4
    heads: int = 4
    hidden: int = 1024
    dropout: float = 0.1
    code_dropout: float = 0.0
    head_dropout: float = 0.0
    window_frames: int = 128
    conditioning: str = "in_frame"
    head_dim: int = 192
    head_hidden: int = 384

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window_frames", "head_dim", "head_hidden"):
            require_positive(name, getattr(self, name))
        for name in ("code_dropout", "head_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UnsupportedInput(f"{name}={getattr(self, name)}; give a share from 0 to below 1.")
        if self.conditioning not in CONDITIONINGS:
            raise UnsupportedInput(
                f"conditioning={self.conditioning!r}; choose one of {', '.join(CONDITIONINGS)}."
            )


class RVQTransformer(TokenLM):
    """Frames in, frames out (after the NPQ/DAC pipeline; `science.md` section 2).

    A frame enters as the sum of its codes' embeddings; every codebook has its own BOS. The trunk is a pre-norm
    causal Transformer with a learned bias per distance inside a window. What it says of the next frame, ``h``, is
    read by ``K`` heads. Without conditioning head ``k`` is a linear map of ``h``, and codes of one frame are
    independent given the past. They are not in truth: each quantiser refines the one before. With conditioning::

        x_k = P_k h + sum over j < k of E_j[c_j]
        logits_k = W_k norm(x_k + f(norm(x_k)))

    where ``f``, one small network for all ``k``, is all that is computed code by code when drawing or decoding.

    Args:
        config: Shape of the model.
    """

    architecture: ClassVar[str] = "rvq_transformer"
    config: RVQTransformerConfig

    def __init__(self, config: RVQTransformerConfig) -> None:
        super().__init__(config)
        K, V = len(config.codebook_sizes), config.codebook_sizes[0]
        self.embedding = nn.Embedding(K * (V + 1), config.dim)  # per codebook V rows, then its BOS
        self.position_bias = RelativeBias(config.layers, config.heads, config.window_frames)
        self.conditioned = config.conditioning == "in_frame" and K > 1
        if self.conditioned:
            self.project = nn.Linear(config.dim, K * config.head_dim, bias=False)
            # the last codebook's codes condition nothing
            self.frame_embedding = nn.Embedding((K - 1) * V, config.head_dim)
            self.head_norm = nn.RMSNorm(config.head_dim, eps=NORM_EPSILON)
            self.head_feed_forward = FeedForward(config.head_dim, config.head_hidden)
            self.logits_norm = nn.RMSNorm(config.head_dim, eps=NORM_EPSILON)
        head_inputs = config.head_dim if self.conditioned else config.dim
        self.head_weight = nn.Parameter(torch.empty(K, V, head_inputs))
        self.register_buffer("_first_rows", torch.arange(K) * (V + 1), persistent=False)
        self.register_buffer("_frame_first_rows", torch.arange(K - 1) * V, persistent=False)
        initialise(self, config.layers)

    def embed(self, codes: Tensor) -> Tensor:
        """Return the sum of the codes' embeddings, float ``[B, T, D]``, for int64 codes ``[B, T, K]``."""
        B, T, K = codes.shape
        rows = (codes + self.get_buffer("_first_rows")).view(B * T, K)
        kept = self._kept(rows.shape, self.embedding.weight)
        summed = nn.functional.embedding_bag(rows, self.embedding.weight, mode="sum", per_sample_weights=kept)
        return summed.view(B, T, -1)

    def heads(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Return logits ``[B, T, K, V]`` for hidden ``[B, T, D]`` and the frames' own codes ``[B, T, K]``."""
        B, T, _ = hidden.shape
        K = self.num_codebooks
        x = hidden.reshape(B * T, 1, -1).expand(-1, K, -1)
        if self.conditioned:
            x = self.project(hidden).view(B * T, K, -1)
            known = self.frame_embedding(
                codes.reshape(B * T, K)[:, :-1] + self.get_buffer("_frame_first_rows")
            )
            kept = self._kept(known.shape[:2], known)
            if kept is not None:
                known = known * kept.unsqueeze(-1)
            x = self._refine(x + nn.functional.pad(known.cumsum(dim=1), (0, 0, 1, 0)))
        if self.training and self.config.head_dropout:
            rates = torch.linspace(0.0, self.config.head_dropout, K, device=x.device).view(K, 1)
            x = x * (torch.rand_like(x) >= rates) / (1.0 - rates)
        # one product per codebook: [K, BT, d] by [K, d, V]
        logits = torch.bmm(x.transpose(0, 1), self.head_weight.transpose(1, 2))
        return logits.transpose(0, 1).unflatten(0, (B, T))

    def head(self, hidden: Tensor, before: Tensor) -> Tensor:
        """Return logits ``[B, V]`` of codebook ``k`` for hidden ``[B, D]`` and codes ``[B, k]`` of those before it."""
        k = before.shape[1]
        if not 0 <= k < self.num_codebooks:
            raise UnsupportedInput(
                f"{k} codes were given, and the frame has {self.num_codebooks}; none is left to predict."
            )
        x = hidden
        if self.conditioned:
            rows = slice(k * self.config.head_dim, (k + 1) * self.config.head_dim)
            x = nn.functional.linear(hidden, self.project.weight[rows])
            if k:
                known = self.frame_embedding(before + self.get_buffer("_frame_first_rows")[:k])
                x = (
                    x + known.cumsum(dim=1)[:, -1]
                )  # cumsum, not sum: the same order of additions as in heads()
            x = self._refine(x)
        return nn.functional.linear(x, self.head_weight[k])

    def _kept(self, shape: Sequence[int], like: Tensor) -> Tensor | None:
        """Draw which codes count, 0 or ``1 / (1 - code_dropout)`` each; None where all do."""
        if not (self.training and self.config.code_dropout):
            return None
        return nn.functional.dropout(like.new_ones(tuple(shape)), self.config.code_dropout)

    def _refine(self, x: Tensor) -> Tensor:
        return self.logits_norm(x + self.dropout(self.head_feed_forward(self.head_norm(x))))

    @property
    def _reads_current_frame(self) -> bool:
        return self.conditioned

    def masks(self, num_frames: int, num_past: int) -> Sequence[Tensor | None]:
        """Return the position biases, minus infinity for later frames and those beyond the window."""
        return tuple(self.position_bias(num_frames, num_past))

    @property
    def remembered_frames(self) -> int:
        """One less than the window, which holds the newest frame too."""
        return self.config.window_frames - 1

    def check_position(self, position: int) -> None:
        """Accept any length: positions are distances inside the window."""
