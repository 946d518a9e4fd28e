"""Save and load language models: a folder with ``model.safetensors`` and ``config.json``, as codecs have them.

``config.json`` (format 1)::

    {"format": 1, "architecture": "rvq_transformer", "arguments": {...}, "sha256": "...", "provenance": {...}}

``architecture`` and ``arguments`` are what `codecbook.lm.models.build_lm` takes. ``sha256`` is over the stored
tensors. Parameters are stored as float16 and used as float32, which is exact; tables of positions stay float32.
``provenance`` says what the model was trained on; of it ``codec`` and ``codec_weights_sha256``, where given, tell
whose tokens it predicts.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from codecbook.codecs.model_folder import (
    CONFIG_NAME,
    check_finite,
    check_sha256,
    read_tensors,
    refuse_existing,
    write_model,
)
from codecbook.codecs.provenance import Weights
from codecbook.codecs.tensor_hash import tensors_sha256
from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.lm.model_config import read_config
from codecbook.lm.models import build_lm
from codecbook.lm.token_lm import TokenLM
from codecbook.paths import data_dir


@dataclass(frozen=True)
class LoadedLM:
    """A language model from a folder.

    Attributes:
        model: In evaluation mode, float32, on the CPU.
        config: Content of ``config.json``.
        weights: Where the weights are from; ``"bundled"`` for a folder in the project's data.
        folder: Where it was read from.
    """

    model: TokenLM
    config: dict[str, Any]
    weights: Weights
    folder: Path

    @property
    def sha256(self) -> str:
        """SHA-256 of the stored tensors, hex."""
        return self.weights.sha256


def _stored_tensors(model: TokenLM) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    return {
        name: (tensor.half() if name in parameters else tensor).contiguous().clone()
        for name, tensor in model.state_dict().items()
    }


def save_lm(folder: str | Path, model: TokenLM, provenance: dict[str, Any], overwrite: bool = False) -> str:
    """Write a model's parameters and configuration.

    Args:
        folder: Made if it does not exist.
        model: The model; of a training run usually ``report.model``.
        provenance: JSON types: corpus, codec, steps, bits per token, seed.
        overwrite: Replace a model that is there.

    Returns:
        The SHA-256 of the stored tensors.

    Raises:
        CodecbookError: The folder holds a model and `overwrite` is False.
        CorruptInput: A parameter is not finite, or too large for float16.
    """
    folder = Path(folder)
    refuse_existing(folder, overwrite)
    tensors = _stored_tensors(model)
    check_finite(tensors)
    config = {
        "architecture": model.architecture,
        "arguments": model.config.arguments(),
        "sha256": tensors_sha256(tensors),
        "provenance": provenance,
    }
    write_model(folder, safetensors.torch.save(tensors), config, overwrite)
    return config["sha256"]


def load_lm(folder: str | Path) -> LoadedLM:
    """Read a model that `save_lm` wrote.

    Args:
        folder: Holds ``model.safetensors`` and ``config.json``.

    Raises:
        MissingWeights: One of the files is not there.
        CorruptInput: A file is truncated or altered.
        UnsupportedInput: Another format or architecture, or parameters that do not fit the configuration.
    """
    folder = Path(folder)
    config = read_config(folder)
    tensors = read_tensors(folder)
    sha256 = tensors_sha256(tensors)
    check_sha256(folder, sha256, config)
    with torch.random.fork_rng(devices=[]):
        model = build_lm(config["architecture"], config["arguments"])
    _fill(model, tensors, folder)
    kind = "bundled" if _is_bundled(folder) else "pretrained"
    return LoadedLM(model.eval(), config, Weights(kind, str(folder), sha256), folder)


def _is_bundled(folder: Path) -> bool:
    try:
        return folder.resolve().is_relative_to(data_dir().resolve())
    except CodecbookError:  # installed without its data
        return False


def _fill(model: TokenLM, tensors: dict[str, Tensor], source: Path) -> None:
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(shapes.keys() | stored.keys()):
        if shapes.get(name) != stored.get(name):
            raise UnsupportedInput(
                f"Parameter {name} in {source} has shape {stored.get(name, 'none')}, the configuration makes it "
                f"{shapes.get(name, 'none')}; the parameters are of another model than {CONFIG_NAME} describes."
            )
    model.load_state_dict(tensors)
