"""Save and load language models: a folder with ``model.safetensors`` and ``config.json``, as codecs have them.

``config.json`` (format 1)::

    {"format": 1, "architecture": "rvq_transformer", "arguments": {...}, "sha256": "...", "provenance": {...}}

``architecture`` and ``arguments`` are what `codecbook.lm.models.build_lm` takes. ``sha256`` is over the stored
tensors. Parameters are stored as float16 and used as float32, which is exact; tables of positions stay float32.
``provenance`` says what the model was trained on; of it ``codec`` and ``codec_weights_sha256``, where given, tell
whose tokens it predicts.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from codecbook.codecs.provenance import Weights
from codecbook.codecs.tensor_hash import tensors_sha256
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.files import write_file
from codecbook.lm.model_config import CONFIG_NAME as CONFIG_NAME
from codecbook.lm.model_config import FORMAT as FORMAT
from codecbook.lm.model_config import PARAMETERS_NAME as PARAMETERS_NAME
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
    existing = [name for name in (PARAMETERS_NAME, CONFIG_NAME) if (folder / name).exists()]
    if existing and not overwrite:
        raise CodecbookError(
            f"{folder} holds {existing[0]} already; pass overwrite=True, or choose another folder."
        )
    tensors = _stored_tensors(model)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CorruptInput(
                f"Parameter {name} is not finite as float16; the training has diverged, save an earlier state."
            )
    config = {
        "format": FORMAT,
        "architecture": model.architecture,
        "arguments": model.config.arguments(),
        "sha256": tensors_sha256(tensors),
        "provenance": provenance,
    }
    text = json.dumps(config, indent=2) + "\n"
    # the parameters go first: a reader between the two renames sees a hash that differs and is told so
    write_file(folder / PARAMETERS_NAME, safetensors.torch.save(tensors), overwrite)
    write_file(folder / CONFIG_NAME, text, overwrite)
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
    path = folder / PARAMETERS_NAME
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise CorruptInput(f"{path} is truncated or damaged ({error}); fetch the model again.") from error
    sha256 = tensors_sha256(tensors)
    if sha256 != config["sha256"]:
        raise CorruptInput(
            f"The parameters in {folder} have SHA-256 {sha256[:16]}..., {CONFIG_NAME} says "
            f"{config['sha256'][:16]}...; one of the files was altered or is of another model, fetch both again."
        )
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
