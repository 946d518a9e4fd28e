"""Save and load trained codecs: a folder with ``model.safetensors``, ``config.json`` and a card ``README.md``.

``config.json`` (format 1)::

    {"format": 1, "architecture": "encodec", "arguments": {...}, "sha256": "...", "provenance": {...}}

``architecture`` and ``arguments`` are what `codecbook.codecs.build.build_architecture` takes. ``sha256`` is over the
stored tensors, so that a model is recognised whatever its file is called, and a changed one is refused. Tensors are
stored as float16 and used as float32, which is exact. EnCodec's running averages (``embed_avg``,
``cluster_size``) are of use in training alone and are not stored.
"""

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from codecbook.codecs.build import build_architecture
from codecbook.codecs.model_folder import (
    CONFIG_NAME,
    check_finite,
    check_sha256,
    read_config,
    read_tensors,
    refuse_existing,
    write_model,
)
from codecbook.codecs.tensor_hash import tensors_sha256 as tensors_sha256
from codecbook.errors import UnsupportedInput

_TRAINING_ONLY = (".embed_avg", ".cluster_size")


@dataclass(frozen=True)
class LoadedModel:
    """A model from a folder.

    Attributes:
        module: The module in evaluation mode, float32, on the CPU.
        config: Content of ``config.json``.
        sha256: SHA-256 of the stored tensors, hex.
        folder: Where it was read from.
    """

    module: nn.Module
    config: dict
    sha256: str
    folder: Path


def _stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().clone()
        for name, tensor in module.state_dict().items()
        if not name.endswith(_TRAINING_ONLY)
    }


def save_model(
    folder: str | Path,
    module: nn.Module,
    architecture: str,
    arguments: dict,
    provenance: dict,
    overwrite: bool = False,
) -> str:
    """Write a model's parameters and configuration.

    Args:
        folder: Made if it does not exist.
        module: Built by `build_architecture(architecture, arguments)`.
        architecture: Name of the builder.
        arguments: Its keyword arguments (lists, numbers and strings).
        provenance: Whatever tells where the weights are from: data, seed, steps, measured quality.
        overwrite: Replace a model that is there.

    Returns:
        The SHA-256 of the stored tensors.

    Raises:
        CodecbookError: The folder holds a model and `overwrite` is False.
        CorruptInput: A parameter is not finite, or too large for float16.
        UnsupportedInput: The module is not what architecture and arguments build.
    """
    folder = Path(folder)
    refuse_existing(folder, overwrite)
    tensors = _stored_tensors(module)
    check_finite(tensors)
    _fill(build_architecture(architecture, arguments), tensors, folder)
    sha256 = tensors_sha256(tensors)
    config = {
        "architecture": architecture,
        "arguments": arguments,
        "sha256": sha256,
        "provenance": provenance,
    }
    write_model(folder, safetensors.torch.save(tensors, metadata={"sha256": sha256}), config, overwrite)
    return sha256


def _fill(module: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Copy stored tensors into a module after checking that each one fits."""
    state = {name: value for name, value in module.state_dict().items() if not name.endswith(_TRAINING_ONLY)}
    missing, unknown = sorted(state.keys() - tensors.keys()), sorted(tensors.keys() - state.keys())
    if missing or unknown:
        raise UnsupportedInput(
            f"The parameters in {source} are of another model than its configuration describes: "
            f"{len(missing)} are missing (first: {missing[:1]}), {len(unknown)} are unknown (first: {unknown[:1]}). "
            "Compare the number of codebooks and the architecture."
        )
    for name, value in state.items():
        if value.shape != tensors[name].shape:
            raise UnsupportedInput(
                f"Parameter {name} in {source} has shape {list(tensors[name].shape)}, the configuration makes it "
                f"{list(value.shape)}; correct the arguments in {CONFIG_NAME}."
            )
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(tensors[name])
        for name, value in module.state_dict().items():
            if name.endswith(".embed_avg"):
                value.copy_(state[name.removesuffix("_avg")])
            elif name.endswith(".cluster_size"):
                value.fill_(1.0)


def load_model(folder: str | Path) -> LoadedModel:
    """Read a model that `save_model` wrote.

    Args:
        folder: Holds ``model.safetensors`` and ``config.json``.

    Raises:
        MissingWeights: One of the files is not there.
        CorruptInput: A file is truncated or altered.
        UnsupportedInput: Another format or architecture, or parameters that do not fit the configuration.
    """
    folder = Path(folder)
    config = read_config(folder, "model", "python -m codecbook.codecs.train")
    module = build_architecture(config["architecture"], config["arguments"])
    tensors = read_tensors(folder)
    _fill(module, tensors, folder)
    sha256 = tensors_sha256(tensors)
    check_sha256(folder, sha256, config)
    return LoadedModel(module.float().eval(), config, sha256, folder)
