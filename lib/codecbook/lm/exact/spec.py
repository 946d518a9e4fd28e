"""What an exact language model consists of: constants, shape, arrays, identity; ``docs/exact-lm.md`` defines them."""

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.models.store import arrays_sha256
from codecbook.tokens.tokens import require_positive

ACTIVATION_MAX = 127
"""Greatest int8 activation or weight; -128 is not used."""
STREAM_MAX = (1 << 20) - 1
"""Where the residual streams saturate."""
PRODUCT_LIMIT = 1 << 24
"""Every sum of int8 products is proved to stay below, so that float32 holds it in whatever order it is added up."""
MULTIPLIER_LIMIT = 1 << 20
MIN_SHIFT, MAX_SHIFT = 1, 44
RECIPROCAL_BITS, UNIT_BITS = 40, 20
"""Divisions are by way of ``2^40 // divisor``; a normalised element of a stream keeps 20 bits."""
UNITS_PER_BIT = 256
"""Scores and logits count in 2^-8 bit."""
EXP2_SIZE, EXP2_BITS = 4096, 16
SHARE_BITS = 16
"""Attention weights sum up to about 2^16."""
SHARE_SHIFT = RECIPROCAL_BITS - SHARE_BITS
GELU_SIZE = 4096
ROTATION_BITS = 14
ROTATION_EXTRA_BITS = 4
"""Queries and keys that are rotated keep this many more bits until they are."""
ROTATION_SHIFT = ROTATION_BITS + ROTATION_EXTRA_BITS
ROTATION_INPUT_MAX = 4095
BIAS_BITS, BIAS_MAX = 12, 1 << 26
"""A stream may add a bias to the logits: bits after the point, and where it is limited."""


def power_table(bits: int) -> np.ndarray:
    """Return ``E[d] = floor(2^(bits - d/256) + 1/2)`` for ``d`` = 0 to ``256 bits - 1``, int64: from 2^bits down to 1.

    With ``d = 256 o + f`` and ``R[f] = floor(2^(bits + 1 - f/256))``, E is ``((R[f] >> o) + 1) >> 1``. R is the integer
    256th root of ``2^(256 (bits + 1) - f)``: eight integer square roots in a row, each rounding down, give the
    rounded-down root of the whole. No float takes part, so the table cannot depend on a maths library.
    """
    roots = []
    for f in range(256):
        root = 1 << (256 * (bits + 1) - f)
        for _ in range(8):
            root = math.isqrt(root)
        roots.append(root)
    return np.array([((root >> octave) + 1) >> 1 for octave in range(bits) for root in roots], dtype=np.int64)


@functools.cache
def exp2_table() -> np.ndarray:
    """Return `power_table` of 16 bits, read-only, with a last entry of 0, which stands for all greater distances."""
    table = power_table(EXP2_BITS)
    table[-1] = 0
    table.flags.writeable = False
    return table


def checked_sizes(codebook_sizes: Sequence[int], dim: int, heads: int) -> tuple[int, ...]:
    """Return codebook sizes of a language model, float or exact; refuse those that differ, and heads of odd width."""
    sizes = tuple(int(size) for size in codebook_sizes)
    if not sizes or min(sizes) < 1 or len(set(sizes)) > 1:
        raise UnsupportedInput(f"Codebook sizes {sizes} are not equal positive numbers; see codecbook.tokens.layout.")
    if dim % (2 * heads):
        raise UnsupportedInput(f"dim={dim} does not divide into heads={heads} of even width; choose another.")
    return sizes


@dataclass(frozen=True)
class ExactConfig:
    """Shape of an `ExactLM`."""

    codebook_sizes: tuple[int, ...]  # V per codebook, all equal
    dim: int  # width of the residual stream, D
    layers: int  # L
    heads: int  # of attention, H
    hidden: int  # width of the feed-forward layers, F
    window_frames: int  # that attention sees, W; with rotary positions, the longest sequence
    rotary: bool = False  # positions by rotation of queries and keys, instead of a bias per distance
    conditioned: bool = False  # codes of a frame are conditioned on those of lower codebooks
    head_dim: int = 0  # with conditioning, width of the heads' stream, P
    head_hidden: int = 0  # with conditioning, inner width of the heads' network, G

    def __post_init__(self) -> None:
        names = ["dim", "layers", "heads", "hidden", "window_frames"]
        for name in names + (["head_dim", "head_hidden"] if self.conditioned else []):
            require_positive(name, getattr(self, name))
        object.__setattr__(self, "codebook_sizes", checked_sizes(self.codebook_sizes, self.dim, self.heads))

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks, ``K``."""
        return len(self.codebook_sizes)

    @property
    def codebook_size(self) -> int:
        """Number of codes of each codebook, ``V``."""
        return self.codebook_sizes[0]


ArraySpecs = dict[str, tuple[str, tuple[int, ...]]]


def array_specs(config: ExactConfig) -> ArraySpecs:
    """Return type and shape of every array of a model, by name."""
    c = config
    K, V, L, D, P = c.num_codebooks, c.codebook_size, c.layers, c.dim, c.head_dim
    specs: ArraySpecs = {
        **_linear("embedding", K * (V + 1), D),
        "epsilon": ("int64", (1,)),
        **_scale("layers.attention_norm", L, D, factor="gain"),
        **_linear("layers.query_key_value", L, 3 * D, D),
        **_scale("layers.score", L, c.heads),
        **_scale("layers.mix", L, D),
        **_linear("layers.output", L, D, D),
        **_scale("layers.feed_forward_norm", L, D, factor="gain"),
        **_linear("layers.inner", L, c.hidden, D),
        "layers.gelu": ("int8", (L, GELU_SIZE)),
        **_linear("layers.outer", L, D, c.hidden),
        **_scale("norm", D, factor="gain"),
        **_linear("logits", K, V, P if c.conditioned else D),
    }
    if c.rotary:
        tables = (c.window_frames, D // c.heads // 2)
        specs |= {"rotation.cosine": ("int16", tables), "rotation.sine": ("int16", tables)}
    else:
        specs["layers.position_bias"] = ("int32", (L, c.heads, c.window_frames))
    if c.conditioned:
        specs |= {
            **_linear("project", K * P, D),
            **_linear("frame_embedding", (K - 1) * V, P),
            "head_epsilon": ("int64", (1,)),
            **_scale("head_norm", P, factor="gain"),
            **_linear("head_inner", c.head_hidden, P),
            "head_gelu": ("int8", (GELU_SIZE,)),
            **_linear("head_outer", P, c.head_hidden),
            **_scale("logits_norm", P, factor="gain"),
        }
    return specs


def _linear(name: str, *shape: int) -> ArraySpecs:
    """Return the arrays of a matrix: int8 rows, and a multiplier for each."""
    return {f"{name}.weight": ("int8", shape), **_scale(name, *shape[:-1])}


def _scale(name: str, *shape: int, factor: str = "multiplier") -> ArraySpecs:
    """Return the arrays of a requantisation: factors, and a shift per layer (outside of layers one)."""
    shifts = shape[:1] if name.startswith("layers.") else (1,)
    return {f"{name}.{factor}": ("int32", shape), f"{name}.shift": ("int32", shifts)}


@dataclass(frozen=True, eq=False)
class ExactLM:
    """A language model that gives the same integer logits on every machine.

    Raises CorruptInput: an array is missing, unknown, or of another type or shape.
    """

    config: ExactConfig
    arrays: Mapping[str, np.ndarray]  # as `array_specs` lists them, in any byte order; kept as read-only copies

    def __post_init__(self) -> None:
        specs = array_specs(self.config)
        for name in sorted(specs.keys() | self.arrays.keys()):
            found = self.arrays.get(name)
            has = "none" if found is None else f"{found.dtype.name} {list(found.shape)}"
            needs = f"{specs[name][0]} {list(specs[name][1])}" if name in specs else "none"
            if has != needs:
                raise CorruptInput(f"Array {name!r} of the model is {has}, not {needs} as configured; export it again.")
        # in this machine's byte order
        kept = {name: np.array(self.arrays[name], dtype=kind, order="C") for name, (kind, _) in specs.items()}
        for array in kept.values():
            array.flags.writeable = False
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
        """What identifies the model in streams, hex: equal where all logits are equal by construction."""
        text = json.dumps(asdict(self.config), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(f"codecbook exact LM 1\n{text}\n{self.arrays_sha256}".encode()).hexdigest()

    def steps(self) -> dict[str, Any]:
        """Return the arrays by single steps, as ``layers.0.inner.weight``, and by heads, as ``logits.0.weight``.

        Shifts and epsilons are Python integers, and every norm has its epsilon, as ``norm.epsilon``.
        """
        K = self.num_codebooks
        steps: dict[str, Any] = {}
        for name, array in self.arrays.items():
            step, _, part = name.partition(".")
            if step == "layers":
                steps |= {f"layers.{i}.{part}": values for i, values in enumerate(array)}
            elif step in ("project", "logits"):
                shape = (K, -1, array.shape[-1]) if part == "weight" else (K, -1)
                heads = array.repeat(K) if part == "shift" else array.reshape(shape)
                steps |= {f"{step}.{k}.{part}": values for k, values in enumerate(heads)}
            else:
                steps[name] = array
        for norm in [name.removesuffix(".gain") for name in steps if name.endswith(".gain")]:
            steps[f"{norm}.epsilon"] = steps["head_epsilon" if norm in ("head_norm", "logits_norm") else "epsilon"]
        return {name: a.item() if name.endswith(("shift", "epsilon")) else a for name, a in steps.items()}
