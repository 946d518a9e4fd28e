"""`TokenLM`: what every language model over codec tokens offers, and the Transformer trunk that all of them share.

Tokens are read a block of frames at a time, with a cache: a full pass is one block, stepping is blocks of one, and an
hour is scored in blocks of any size.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.spec import checked_sizes
from codecbook.lm.layers import NORM_EPSILON, Block, Rotation, State
from codecbook.models.weights import num_parameters
from codecbook.tokens.tokens import require_positive


@dataclass(frozen=True)
class LMConfig:
    """What the shapes of all models have in common; of what subclasses add, integers are widths, floats are shares."""

    codebook_sizes: tuple[int, ...]  # V per codebook, all equal
    dim: int  # width of the residual stream, D
    layers: int
    heads: int  # of attention
    hidden: int  # width of the feed-forward layers
    dropout: float  # share of the activations that training drops

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int:
                require_positive(field.name, value)
            elif field.type is float and not 0.0 <= value < 1.0:
                raise UnsupportedInput(f"{field.name}={value}; give a share from 0 to below 1.")
        object.__setattr__(self, "codebook_sizes", checked_sizes(self.codebook_sizes, self.dim, self.heads))

    def arguments(self) -> dict[str, Any]:
        """Return the fields as JSON types, which `codecbook.lm.models.build_lm` takes back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


class TokenLM(nn.Module, ABC):
    """A causal language model over frames of ``K`` codes (a flat stream has ``K = 1``).

    Attributes:
        remembered_frames: How many frames a cache keeps; with rotary positions, the longest sequence.
        gradient_checkpointing: Recompute layers in the backward pass: about a third more time, activations of one
            layer instead of all.
    """

    architecture: ClassVar[str]  # the name that `build_lm` knows
    config: LMConfig

    def __init__(self, config: LMConfig, remembered_frames: int, rotation: Rotation | None = None) -> None:
        super().__init__()
        self.config, self.remembered_frames = config, remembered_frames
        self.gradient_checkpointing = False
        self.rotation = rotation
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.hidden, config.dropout, rotation) for _ in range(config.layers)
        )
        self.norm = nn.RMSNorm(config.dim, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes ``V`` of each codebook."""
        return self.config.codebook_sizes

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks, ``K``."""
        return len(self.config.codebook_sizes)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.norm.weight.device

    @abstractmethod
    def embed(self, codes: Tensor, position: int = 0) -> Tensor:
        """Return float ``[B, T, D]`` for int64 codes ``[B, T, K]``, the first at `position`; code ``V`` is BOS."""

    @abstractmethod
    def heads(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Return logits ``[B, T, K, V]`` of frames whose own codes, int64 ``[B, T, K]``, are known.

        At each frame, `hidden`, float ``[B, T, D]``, is the trunk's output for the frames before. For the logits of
        codebook ``k`` a model with in-frame conditioning reads the frame's codes below ``k``, and no others.
        """

    @abstractmethod
    def head(self, hidden: Tensor, before: Tensor) -> Tensor:
        """Return logits ``[B, V]`` of codebook ``k`` of one frame, whose codes below, int64 ``[B, k]``, are known."""

    @abstractmethod
    def masks(self, num_frames: int, num_past: int) -> Sequence[Tensor | None]:
        """Return one attention mask per layer for `num_frames` frames after `num_past` remembered ones."""

    def check_position(self, position: int) -> None:
        """Raise UnsupportedInput where rotary positions do not reach as far as a sequence of this many frames."""
        if self.rotation is not None and position > self.remembered_frames:
            raise UnsupportedInput(f"{position} tokens (with BOS) exceed the context {self.remembered_frames}; cut it.")

    def forward(self, codes: Tensor) -> Tensor:
        """Return the logits of every frame given the frames before it, the first given BOS, float ``[B, T, K, V]``.

        ``[:, t]`` predicts ``codes[:, t]`` of the codes int64 ``[B, T, K]``, so no shift is left to the caller.

        Raises:
            UnsupportedInput: Another number of codebooks or axes, or more frames than the model's context.
            CorruptInput: A code outside its codebook.
        """
        check_codes(codes, self.codebook_sizes)
        inputs = torch.cat((self._bos(codes.shape[0]), codes[:, :-1]), dim=1)
        return self.heads(self._trunk(self.embed(inputs), None)[0], codes)

    def begin(self, batch_size: int = 1) -> tuple[Tensor, State]:
        """Read the BOS frame: return hidden ``[B, 1, D]``, which predicts frame 0, and a state."""
        return self._trunk(self.embed(self._bos(batch_size)), None)

    def read(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        """Read further frames, int64 ``[B, T, K]``; errors as for `forward`.

        Returns:
            Hidden float ``[B, T, D]``, at ``t`` the prediction of the frame **after** ``codes[:, t]``, and the state
            after them. The state that was given stays valid.
        """
        check_codes(codes, self.codebook_sizes)
        return self._trunk(self.embed(codes, state.position), state)

    def _bos(self, batch_size: int) -> Tensor:
        return torch.full((batch_size, 1, self.num_codebooks), self.codebook_sizes[0], device=self.device)

    def _trunk(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Run embedded frames ``[B, T, D]`` through the layers, and keep what later frames may look at."""
        position = 0 if state is None else state.position
        self.check_position(position + x.shape[1])
        x = self.dropout(x)
        past = (None,) * len(self.blocks) if state is None else state.layers
        num_past = 0 if state is None else state.layers[0][0].shape[2]
        recompute = self.gradient_checkpointing and torch.is_grad_enabled()
        layers = []
        for block, mask, layer_past in zip(self.blocks, self.masks(x.shape[1], num_past), past, strict=True):
            inputs = x, mask, layer_past, position
            x, (key, value) = checkpoint(block, *inputs, use_reentrant=False) if recompute else block(*inputs)
            first = max(0, key.shape[2] - self.remembered_frames)
            layers.append((key[:, :, first:], value[:, :, first:]))
        return self.norm(x), State(tuple(layers), position + x.shape[1])


def check_codes(codes: Tensor, codebook_sizes: Sequence[int]) -> None:
    """Raise as `TokenLM.forward` does unless these are int64 codes ``[B, T, K]`` of equal codebooks."""
    K, V = len(codebook_sizes), codebook_sizes[0]
    if codes.dtype != torch.int64 or codes.ndim != 3 or codes.shape[2] != K:
        raise UnsupportedInput(f"Codes are {codes.dtype} {list(codes.shape)}, the model reads int64 [B, T, {K}].")
    if codes.shape[1] < 1:
        raise UnsupportedInput("Codes have no frames; give at least one.")
    # elsewhere it would make the host wait at every step; there, trainer and scorer check before they copy
    if codes.device.type == "cpu" and not torch.compiler.is_compiling() and ((codes < 0) | (codes >= V)).any():
        raise CorruptInput(f"Codes {int(codes.min())} to {int(codes.max())} are outside 0..{V - 1}; check their codec.")


def num_trunk_parameters(model: TokenLM) -> int:
    """Return ``N`` as counts of FLOPs take it: all parameters of the layers and the last norm, no tables of codes."""
    return num_parameters(model.blocks) + num_parameters(model.norm)


def check_vocabulary(model: TokenLM, codebook_sizes: Sequence[int], source: str = "The tokens") -> None:
    """Raise UnsupportedInput unless tokens have the codebooks that a model was made for."""
    if tuple(codebook_sizes) != model.codebook_sizes:
        raise UnsupportedInput(
            f"{source} have {_describe(codebook_sizes)}, the model {_describe(model.codebook_sizes)}; use its codec's."
        )


def _describe(codebook_sizes: Sequence[int]) -> str:
    sizes = tuple(codebook_sizes)
    return f"{len(sizes)} x {sizes[0]} codes" if len(set(sizes)) == 1 else f"codebooks of {sizes} codes"
