"""A model's tensors one by one: what each is for, and as which matrix it is stored.

A model is a folder of this project, a ``.safetensors`` file of any other, or a codec or language model in memory. In
files, a convolution is often a magnitude and a direction (``weight_g``, ``weight_v``); in a loaded codec they are one
weight. What is stored without loss are the file's own tensors; what is stored with loss, the weight that they make.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput
from codecbook.models import store

CODEBOOKS = "codebooks"  # all of a residual quantiser's, one below the other
# the first that matches, of the name and the number of axes; the order matters
_ROLES = (
    ("codebook", r"(_codebook|codebook)\.(embed|weight)$|\.embed$", 2),
    ("norm", r"norm\d*\.|\.norm|_norm|ln_\w*\.", 1),
    ("bias", r"bias", 0),
    ("embedding", r"embed|wte|wpe|tok_emb|lookup", 2),
    ("head", r"head_weight|lm_head|heads?\.", 2),
    ("attention", r"attn|attention|query|(^|\.)[qkvo]_proj|in_proj|out_proj", 2),
    ("mlp", r"mlp|feed_forward|ffn|(gate|up|down)_proj|fc\d|c_fc|linear\d", 2),
    ("convolution", r"", 3),
    ("matrix", r"", 2),
    ("vector", r"", 0),
)
REGIMES = {"codebook": "index", "embedding": "index", "norm": "kept", "bias": "kept", "vector": "kept"}
FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
TRAINING_ONLY = (".embed_avg", ".cluster_size", ".inited")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file."""

    name: str
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]
    role: str

    @property
    def count(self) -> int:
        """How many values it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def regime(self) -> str:
        """``"index"`` where a row is looked up, ``"argmax"`` where a decision is taken of sums, or ``"kept"``."""
        return REGIMES.get(self.role, "argmax")


def role_of(name: str, shape: tuple[int, ...]) -> str:
    """Return what a tensor is for, by its name and axes.

    Example:
        >>> role_of("layers.3.self_attn.q_proj.weight", (1024, 1024))
        'attention'
    """
    axes = sum(size > 1 for size in shape) if "weight_g" in name else len(shape)
    for role, pattern, least_axes in _ROLES:
        if axes >= least_axes and re.search(pattern, name.lower()):
            if role in ("norm", "bias") and axes >= 2 and "conv" in name.lower():
                continue
            return role
    raise AssertionError(name)


class ModelFile:
    """A ``.safetensors`` file, or the folder of one, read tensor by tensor."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        folder = self.path if self.path.is_dir() else self.path.parent
        self.file = self.path / store.PARAMETERS_NAME if self.path.is_dir() else self.path
        if not self.file.is_file():
            raise MissingWeights(f"There are no weights at {self.file}; give a .safetensors file or its folder.")
        self.config: dict[str, Any] = {}
        if self.path.is_dir() and (folder / store.CONFIG_NAME).is_file():
            self.config = store.read_config(folder, "model", "codecbook.codecs.training or codecbook.lm train")
        try:
            with safe_open(self.file, "pt") as opened:
                slices = {name: opened.get_slice(name) for name in sorted(opened.keys())}
                self.tensors = {
                    name: TensorInfo(
                        name, piece.get_dtype(), tuple(piece.get_shape()), role_of(name, piece.get_shape())
                    )
                    for name, piece in slices.items()
                }
        except (SafetensorError, OSError, ValueError) as error:
            raise CorruptInput(f"{self.file} is no safetensors file, or damaged ({error}); fetch it again.") from error
        if not any(info.count for info in self.tensors.values()):
            raise UnsupportedInput(f"{self.file} has no tensors with values; give the file of a model.")

    def read(self, name: str) -> Tensor:
        """Return one tensor as it is stored."""
        with safe_open(self.file, "pt") as opened:
            return opened.get_tensor(name)

    def tied(self) -> dict[str, str]:
        """Return tensors that are equal bit for bit to an earlier one, with that one's name."""
        seen: dict[tuple[Any, ...], str] = {}
        found = {}
        for name, info in self.tensors.items():
            if info.count > 1:
                key = info.shape, info.dtype, store.tensors_sha256({"": self.read(name)})
                if key in seen:
                    found[name] = seen[key]
                seen.setdefault(key, name)
        return found


def matrix_shape(shape: tuple[int, ...], role: str) -> tuple[int, int]:
    """Return the matrix ``[R, C]`` as which a tensor is stored: a convolution by its first axis, others by the last."""
    count = int(np.prod(shape, dtype=np.int64))
    if len(shape) < 2 or not count:
        return (1, count)
    return (shape[0], count // shape[0]) if role == "convolution" else (count // shape[-1], shape[-1])


def folded_name(name: str) -> str | None:
    """Return the weight that a magnitude or direction is part of, None of any other tensor.

    Example:
        >>> folded_name("encoder.0.conv.weight_v")
        'encoder.0.conv.weight'
    """
    for suffix in ("weight_g", "weight_v", "parametrizations.weight.original0", "parametrizations.weight.original1"):
        if name.endswith("." + suffix):
            return name.removesuffix(suffix) + "weight"
    return None


def effective(module: Any) -> dict[str, Tensor]:
    """Return a loaded model's parameters and codebooks by name, float, without what training alone uses."""
    return {
        name: tensor.detach()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and not name.endswith(TRAINING_ONLY)
    }


def stacks(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, list[str]]]:
    """Group the names of tensors into what is stored together: codebooks of one width and type, all others alone."""
    codebooks = [name for name, t in tensors.items() if role_of(name, tuple(t.shape)) == "codebook"]
    kinds = {(tensors[name].shape[1:], tensors[name].dtype) for name in codebooks}
    together = len(codebooks) > 1 and len(kinds) == 1
    if together:
        yield CODEBOOKS, codebooks
    for name in tensors:
        if not (together and name in codebooks):
            yield name, [name]
