"""The language models: `TinyGPT` over one flat stream, `RVQTransformer` over frames of a residual quantiser."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from codecbook.errors import UnsupportedInput, require_one_of
from codecbook.lm.layers import NORM_EPSILON, FeedForward, RelativeBias, Rotation, State, initialise
from codecbook.lm.token_lm import LMConfig, TokenLM
from codecbook.models.store import check_kinds

CONDITIONINGS = ("none", "in_frame")


@dataclass(frozen=True)
class TinyGPTConfig(LMConfig):
    """Shape of a `TinyGPT`; the defaults are those of the bits-per-second study.

    A stream that writes the codes of a frame one after the other gives their levels in `places`, such as
    ``(0, 1, 2, 2, 1, 2, 2)``: each level then has rows of its own, and a prediction is of its level's codes alone.
    """

    codebook_sizes: tuple[int, ...]  # the vocabulary's size alone, (V,); of one level
    places: tuple[int, ...] = (0,)  # level of each token in turn, over and over
    dim: int = 512
    layers: int = 6
    heads: int = 8
    hidden: int = 2048
    dropout: float = 0.0
    context: int = 1024  # longest sequence, in tokens, BOS included

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.codebook_sizes) != 1:
            raise UnsupportedInput(f"A TinyGPT reads one stream, not {len(self.codebook_sizes)}; use RVQTransformer.")
        object.__setattr__(self, "places", tuple(int(level) for level in self.places))
        if not self.places or set(self.places) != set(range(len(set(self.places)))):
            raise UnsupportedInput(f"places={self.places} are not levels from 0 on, each at least once.")
        if self.context < len(self.places):
            raise UnsupportedInput(f"context={self.context} holds no frame of {len(self.places)} tokens; raise it.")


class TinyGPT(TokenLM):
    """The matched model of the bits-per-second study (after TrelisResearch/audio-bits).

    RMSNorm, RoPE, GELU, no biases, logits from the embedding's own rows. With the defaults its trunk has
    ``6 * 12 * 512^2 + 13 * 512 = 18,881,024`` parameters.
    """

    architecture: ClassVar[str] = "tiny_gpt"
    config: TinyGPTConfig

    def __init__(self, config: TinyGPTConfig) -> None:
        super().__init__(config, config.context, Rotation(config.context, config.dim // config.heads))
        rows = (max(config.places) + 1) * config.codebook_sizes[0]
        self.embedding = nn.Embedding(rows + 1, config.dim)  # level by level, the last row is BOS
        self.takes_turns = len(config.places) > 1
        if self.takes_turns:
            self.place_embedding = nn.Embedding(len(config.places), config.dim)  # of the token that comes next
        self.register_buffer("_levels", torch.tensor(config.places), persistent=False)
        initialise(self, config.layers)

    def embed(self, codes: Tensor, position: int = 0) -> Tensor:
        """See `TokenLM`."""
        rows = codes[..., 0]
        if not self.takes_turns:
            return self.embedding(rows)
        # the token at input position p is of place p - 1, and BOS before all of them
        places = (torch.arange(rows.shape[1], device=rows.device) + position) % len(self.config.places)
        levels = self.get_buffer("_levels")[places - 1]
        V = self.config.codebook_sizes[0]
        rows = torch.where(rows == V, self.embedding.num_embeddings - 1, rows + levels * V)
        return self.embedding(rows) + self.place_embedding(places)

    def heads(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """See `TokenLM`; `codes` are not read."""
        del codes
        if not self.takes_turns:
            return nn.functional.linear(hidden, self.embedding.weight[:-1]).unsqueeze(2)
        B, T, _ = hidden.shape
        P = len(self.config.places)
        before = int(hidden[0, 0, -1])
        x = nn.functional.pad(hidden[..., :-1], (0, 0, before, -(before + T) % P)).unflatten(1, (-1, P))
        weight = self.embedding.weight[:-1].view(-1, self.config.codebook_sizes[0], self.config.dim)
        # one product per place: [P, BT/P, D] by [P, D, V]
        logits = torch.bmm(x.permute(2, 0, 1, 3).flatten(1, 2), weight[self.get_buffer("_levels")].transpose(1, 2))
        logits = logits.unflatten(1, (B, -1)).permute(1, 2, 0, 3).flatten(1, 2)
        return logits[:, before : before + T].unsqueeze(2)

    def head(self, hidden: Tensor, before: Tensor) -> Tensor:
        """See `TokenLM`; `before` is empty."""
        return self.heads(hidden.unsqueeze(1), before)[:, 0, 0]

    def _trunk(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Add a last channel to the hidden, where tokens take turns: the place of the token that it predicts."""
        hidden, after = super()._trunk(x, state)
        if self.takes_turns:
            places = torch.arange(after.position - x.shape[1], after.position, device=x.device)
            places = (places % len(self.config.places)).to(hidden.dtype).view(1, -1, 1)
            hidden = torch.cat((hidden, places.expand(len(x), -1, 1)), dim=-1)
        return hidden, after

    def masks(self, num_frames: int, num_past: int) -> Sequence[Tensor | None]:
        """Return causal masks: none where the sequence starts here."""
        mask = None
        if num_past:
            mask = self.norm.weight.new_full((num_frames, num_past + num_frames), -torch.inf).triu(num_past + 1)
        return (mask,) * self.config.layers


@dataclass(frozen=True)
class RVQTransformerConfig(LMConfig):
    """Shape of an `RVQTransformer`.

    Training drops a share `code_dropout` of the codes' embeddings whole, in the frames that enter and in the codes that
    condition their frame: on little data a model otherwise memorises rare combinations of codes. It drops a share of
    the heads' inputs that rises evenly from 0 at the first codebook to `head_dropout` at the last: fine codebooks are
    close to noise, and are memorised long before the coarse ones are learned.
    """

    codebook_sizes: tuple[int, ...]
    dim: int = 256
    layers: int = 4
    heads: int = 4
    hidden: int = 1024
    dropout: float = 0.1
    code_dropout: float = 0.0
    head_dropout: float = 0.0
    window_frames: int = 128  # that attention sees, the newest included
    conditioning: str = "in_frame"  # or "none", the published form: one independent linear head per codebook
    head_dim: int = 192  # with conditioning, width of what a head reads
    head_hidden: int = 384  # with conditioning, inner width of the shared network before the heads

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("conditioning", self.conditioning, CONDITIONINGS)


class RVQTransformer(TokenLM):
    """Frames in, frames out (after the NPQ/DAC pipeline).

    A frame enters as the sum of its codes' embeddings; every codebook has its own BOS. The trunk is a pre-norm
    causal Transformer with a learned bias per distance inside a window. What it says of the next frame, ``h``, is
    read by ``K`` heads. Without conditioning head ``k`` is a linear map of ``h``, and codes of one frame are
    independent given the past. They are not in truth: each quantiser refines the one before. With conditioning::

        x_k = P_k h + sum over j < k of E_j[c_j]
        logits_k = W_k norm(x_k + f(norm(x_k)))

    where ``f``, one small network for all ``k``, is all that is computed code by code when drawing or decoding.
    """

    architecture: ClassVar[str] = "rvq_transformer"
    config: RVQTransformerConfig

    def __init__(self, config: RVQTransformerConfig) -> None:
        super().__init__(config, config.window_frames - 1)  # the window holds the newest frame too
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
        self.register_buffer("_first_rows", _rows(K, V + 1), persistent=False)
        self.register_buffer("_frame_first_rows", _rows(K - 1, V), persistent=False)
        initialise(self, config.layers)

    def embed(self, codes: Tensor, position: int = 0) -> Tensor:
        """See `TokenLM`; positions are not read."""
        del position
        B, T, K = codes.shape
        rows = (codes + self.get_buffer("_first_rows")).view(B * T, K)
        kept = self._kept(rows.shape, self.embedding.weight)
        summed = nn.functional.embedding_bag(rows, self.embedding.weight, mode="sum", per_sample_weights=kept)
        return summed.view(B, T, -1)

    def heads(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """See `TokenLM`."""
        B, T, _ = hidden.shape
        K = self.num_codebooks
        x = hidden.reshape(B * T, 1, -1).expand(-1, K, -1)
        if self.conditioned:
            x = self.project(hidden).view(B * T, K, -1)
            known = self.frame_embedding(codes.reshape(B * T, K)[:, :-1] + self.get_buffer("_frame_first_rows"))
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
        """See `TokenLM`."""
        k = before.shape[1]
        if not 0 <= k < self.num_codebooks:
            raise UnsupportedInput(f"{k} codes were given, and the frame has {self.num_codebooks}; none is left.")
        x = hidden
        if self.conditioned:
            rows = slice(k * self.config.head_dim, (k + 1) * self.config.head_dim)
            x = nn.functional.linear(hidden, self.project.weight[rows])
            if k:
                known = self.frame_embedding(before + self.get_buffer("_frame_first_rows")[:k])
                x = x + known.cumsum(dim=1)[:, -1]  # not sum, to add in the order of heads()
            x = self._refine(x)
        return nn.functional.linear(x, self.head_weight[k])

    def _kept(self, shape: Sequence[int], like: Tensor) -> Tensor | None:
        """Draw which codes count, 0 or ``1 / (1 - code_dropout)`` each; None where all do."""
        if not (self.training and self.config.code_dropout):
            return None
        return nn.functional.dropout(like.new_ones(tuple(shape)), self.config.code_dropout)

    def _refine(self, x: Tensor) -> Tensor:
        return self.logits_norm(x + self.dropout(self.head_feed_forward(self.head_norm(x))))

    def masks(self, num_frames: int, num_past: int) -> Sequence[Tensor | None]:
        """Return the position biases, minus infinity for later frames and those beyond the window."""
        return tuple(self.position_bias(num_frames, num_past))


ARCHITECTURES: dict[str, tuple[type[LMConfig], Callable[[Any], TokenLM]]] = {
    TinyGPT.architecture: (TinyGPTConfig, TinyGPT),
    RVQTransformer.architecture: (RVQTransformerConfig, RVQTransformer),
}


def build_lm(architecture: str, arguments: dict[str, Any]) -> TokenLM:
    """Build a model of `ARCHITECTURES` with random parameters (torch's global generator).

    Of its configuration's fields, the arguments, ``codebook_sizes`` is needed; the others have defaults. Raises
    UnsupportedInput: an unknown architecture or argument, or a shape that cannot be.
    """
    require_one_of("architecture", architecture, ARCHITECTURES)
    config_type, model_type = ARCHITECTURES[architecture]
    fields = dataclasses.fields(config_type)
    defaults = {f.name: () if f.default is dataclasses.MISSING else f.default for f in fields}
    check_kinds(arguments, defaults, architecture)
    if "codebook_sizes" not in arguments:
        raise UnsupportedInput(f"{architecture} needs codebook_sizes; it takes {', '.join(sorted(defaults))}.")
    return model_type(config_type(**arguments))


def _rows(count: int, size: int) -> Tensor:
    """Return the first row of each of so many tables; by numpy, as torch imports a compiler for a range on "meta"."""
    return torch.from_numpy(np.arange(0, count * size, size))
