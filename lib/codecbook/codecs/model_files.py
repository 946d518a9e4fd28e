"""Save and load trained codecs, in the folders of `codecbook.models.store`.

Tensors are stored as float16 and used as float32, which is exact. EnCodec's running averages (``embed_avg``,
``cluster_size``) are of use in training alone and are not stored.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codecbook.codecs.build import ARCHITECTURES, architecture_shapes, build_architecture
from codecbook.models.store import check_shapes, is_bundled, load_tensors, read_config, refuse_existing, save_tensors

_TRAINING_ONLY = (".embed_avg", ".cluster_size")


def save_model(
    folder: str | Path, module: nn.Module, architecture: str, arguments: dict, provenance: dict, overwrite: bool = False
) -> str:
    """Write a model that `build_architecture(architecture, arguments)` built, and return the SHA-256 of its tensors.

    The provenance is whatever tells where the weights are from: data, seed, steps, measured quality.

    Raises:
        CodecbookError: The folder holds a model and `overwrite` is False, or one of another kind.
        CorruptInput: A parameter is not finite, or too large for float16.
        UnsupportedInput: The module is not what architecture and arguments build.
    """
    folder = Path(folder)
    refuse_existing(folder, overwrite, ARCHITECTURES)
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().clone()
        for name, tensor in _stored(module.state_dict()).items()
    }
    check_shapes(_stored(architecture_shapes(architecture, arguments)), tensors, folder)
    return save_tensors(folder, tensors, architecture, arguments, provenance)


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.endswith(_TRAINING_ONLY)}


def load_model(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read a model that `save_model` wrote, in evaluation mode, float32, on the CPU, and its ``config.json``.

    Raises:
        MissingWeights: One of the files is not there.
        CorruptInput: A file is truncated or altered.
        UnsupportedInput: Another format or architecture, or parameters that do not fit the configuration.
    """
    folder = Path(folder)
    config = read_config(folder, "model", "python -m codecbook.codecs.training")
    tensors = load_tensors(folder, config)
    architecture, arguments = config["architecture"], config["arguments"]
    if not is_bundled(folder):
        check_shapes(_stored(architecture_shapes(architecture, arguments)), tensors, folder)
    module = build_architecture(architecture, arguments)
    state = module.state_dict()
    check_shapes({name: list(value.shape) for name, value in _stored(state).items()}, tensors, folder)
    with torch.no_grad():
        for name, value in tensors.items():
            state[name].copy_(value)
        for name, value in state.items():
            if name.endswith(".embed_avg"):
                value.copy_(state[name.removesuffix("_avg")])
            elif name.endswith(".cluster_size"):
                value.fill_(1.0)
    return module.float().eval(), config
