"""`ExactLM`: a token language model as integers, and nothing else: its shape, its arrays, its identity."""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.arithmetic import GELU_SIZE
from codecbook.models.store import arrays_sha256
from codecbook.tokens.checks import require_positive

if TYPE_CHECKING:
    import torch

_IDENTITY_HEADER = b"codecbook exact LM 1\n"


@dataclass(frozen=True)
class ExactConfig:
    """Shape of an `ExactLM`.

    Attributes:
        codebook_sizes: ``V`` per codebook, all equal.
        dim: Width of the residual stream, ``D``.
        layers: Number of layers, ``L``.
        heads: Number of attention heads, ``H``.
        hidden: Width of the feed-forward layers, ``F``.
        window_frames: Frames that attention sees, ``W``; with rotary positions, the longest sequence.
        rotary: Positions by rotation of queries and keys (and a sequence ends after ``W`` frames), instead of a bias
            per distance.
        conditioned: Codes of a frame are conditioned on those of lower codebooks.
        head_dim: With conditioning, width of the heads' stream, ``P``; else 0.
        head_hidden: With conditioning, inner width of the heads' network; else 0.
    """

    codebook_sizes: tuple[int, ...]
    dim: int
    layers: int
    heads: int
    hidden: int
    window_frames: int
    rotary: bool = False
    conditioned: bool = False
    head_dim: int = 0
    head_hidden: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebook_sizes", tuple(int(size) for size in self.codebook_sizes))
        if not self.codebook_sizes or min(self.codebook_sizes) < 1 or len(set(self.codebook_sizes)) > 1:
            raise UnsupportedInput(f"Codebook sizes {self.codebook_sizes} are not equal positive numbers.")
        names = ["dim", "layers", "heads", "hidden", "window_frames"]
        for name in names + (["head_dim", "head_hidden"] if self.conditioned else []):
            require_positive(name, getattr(self, name))
        if self.dim % (2 * self.heads):
            raise UnsupportedInput(f"dim={self.dim} does not divide into heads={self.heads} of even width.")

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks, ``K``."""
        return len(self.codebook_sizes)

    @property
    def codebook_size(self) -> int:
        """Number of codes of each codebook, ``V``."""
        return self.codebook_sizes[0]

    def arguments(self) -> dict[str, Any]:
        """Return the fields as JSON types, in their order."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


ArraySpecs = dict[str, tuple[str, tuple[int, ...]]]


def _linear(name: str, outputs: tuple[int, ...], inputs: int, stack: tuple[int, ...] = (1,)) -> ArraySpecs:
    """Return the arrays of a matrix: int8 rows, a multiplier per row, one shift per matrix of the stack."""
    return {
        f"{name}.weight": ("int8", (*outputs, inputs)),
        f"{name}.multiplier": ("int32", outputs),
        f"{name}.shift": ("int32", stack),
    }


def array_specs(config: ExactConfig) -> ArraySpecs:
    """Return type and shape of every array of a model, by name."""
    c = config
    K, V, L, D = c.num_codebooks, c.codebook_size, c.layers, c.dim
    stack = (L,)
    specs: ArraySpecs = {
        **_linear("embedding", (K * (V + 1),), D),
        "epsilon": ("int64", (1,)),
        "layers.attention_norm.gain": ("int32", (L, D)),
        "layers.attention_norm.shift": ("int32", stack),
        **_linear("layers.query_key_value", (L, 3 * D), D, stack),
        "layers.score.multiplier": ("int32", (L, c.heads)),
        "layers.score.shift": ("int32", stack),
        "layers.mix.multiplier": ("int32", (L, D)),
        "layers.mix.shift": ("int32", stack),
        **_linear("layers.output", (L, D), D, stack),
        "layers.feed_forward_norm.gain": ("int32", (L, D)),
        "layers.feed_forward_norm.shift": ("int32", stack),
        **_linear("layers.inner", (L, c.hidden), D, stack),
        "layers.gelu": ("int8", (L, GELU_SIZE)),
        **_linear("layers.outer", (L, D), c.hidden, stack),
        "norm.gain": ("int32", (D,)),
        "norm.shift": ("int32", (1,)),
        **_linear("logits", (K, V), c.head_dim if c.conditioned else D),
    }
    if c.rotary:
        half = D // c.heads // 2
        specs |= {
            "rotation.cosine": ("int16", (c.window_frames, half)),
            "rotation.sine": ("int16", (c.window_frames, half)),
        }
    else:
        specs["layers.position_bias"] = ("int32", (L, c.heads, c.window_frames))
    return specs | (_conditioning_specs(c) if c.conditioned else {})


def _conditioning_specs(config: ExactConfig) -> ArraySpecs:
    K, V, P = config.num_codebooks, config.codebook_size, config.head_dim
    return {
        **_linear("project", (K * P,), config.dim),
        **_linear("frame_embedding", ((K - 1) * V,), P),
        "head_epsilon": ("int64", (1,)),
        "head_norm.gain": ("int32", (P,)),
        "head_norm.shift": ("int32", (1,)),
        **_linear("head_inner", (config.head_hidden,), P),
        "head_gelu": ("int8", (GELU_SIZE,)),
        **_linear("head_outer", (P,), config.head_hidden),
        "logits_norm.gain": ("int32", (P,)),
        "logits_norm.shift": ("int32", (1,)),
    }


@dataclass(frozen=True, eq=False)
class ExactLM:
    """A language model that gives the same integer logits on every machine.

    Attributes:
        config: Shape.
        arrays: Integer arrays as `array_specs` lists them, in any byte order; kept as read-only copies.
            ``docs/exact-lm.md`` says what each one does.

    Raises:
        CorruptInput: An array is missing, unknown, or of another type or shape.
    """

    config: ExactConfig
    arrays: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        specs = array_specs(self.config)
        for name in sorted(specs.keys() | self.arrays.keys()):
            found = self.arrays.get(name)
            has = "none" if found is None else f"{found.dtype.name} {list(found.shape)}"
            needs = f"{specs[name][0]} {list(specs[name][1])}" if name in specs else "none"
            if has != needs:
                raise CorruptInput(
                    f"Array {name!r} of an exact language model is {has}, its configuration needs {needs}; the two are "
                    "not of one model, export it again."
                )
        kept = {}
        for name, (kind, _) in specs.items():
            array = np.array(self.arrays[name], dtype=kind, order="C", copy=True)  # in this machine's byte order
            array.flags.writeable = False
            kept[name] = array
        object.__setattr__(self, "arrays", MappingProxyType(kept))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes ``V`` of each codebook."""
        return self.config.codebook_sizes

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks, ``K``."""
        return self.config.num_codebooks

    @functools.cached_property
    def arrays_sha256(self) -> str:
        """SHA-256 of the arrays, hex: `codecbook.models.store.tensors_sha256`."""
        return arrays_sha256(self.arrays)

    @functools.cached_property
    def sha256(self) -> str:
        """What identifies the model in streams, hex: equal where all logits are equal by construction.

        SHA-256 over the line ``codecbook exact LM 1``, the configuration as JSON on one line (keys sorted, no
        blanks), and `arrays_sha256` in hex.
        """
        text = json.dumps(self.config.arguments(), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(_IDENTITY_HEADER)
        digest.update(f"{text}\n{self.arrays_sha256}".encode())
        return digest.hexdigest()

    def tensors(self) -> "dict[str, torch.Tensor]":
        """Return copies of the arrays as torch tensors."""
        import torch  # here, as all else needs numpy alone

        return {name: torch.from_numpy(array.copy()) for name, array in self.arrays.items()}

    def shift(self, name: str, layer: int = 0) -> int:
        """Return the shift of a step, as an integer."""
        return int(self.arrays[f"{name}.shift"][layer])
