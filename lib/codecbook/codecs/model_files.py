"""Save and load trained codecs: a folder with ``model.safetensors``, ``config.json`` and a card ``README.md``.

``config.json`` (format 1)::

    {"format": 1, "architecture": "encodec", "arguments": {...}, "sha256": "...", "provenance": {...}}

``architecture`` and ``arguments`` are what `codecbook.codecs.build.build_architecture` takes. ``sha256`` is over the
stored tensors, so that a model is recognised whatever its file is called, and a changed one is refused. Tensors are
stored as float16 and used as float32, which is exact. EnCodec's running averages (``embed_avg``,
``cluster_size``) are of use in training alone and are not stored.
"""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from codecbook.codecs.build import build_architecture
from codecbook.codecs.tensor_hash import tensors_sha256 as tensors_sha256
from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput

FORMAT = 1
PARAMETERS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
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


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under another name in the same folder, then rename it, so that nobody reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
    existing = [name for name in (PARAMETERS_NAME, CONFIG_NAME) if (folder / name).exists()]
    if existing and not overwrite:
        raise CodecbookError(
            f"{folder} holds {existing[0]} already; pass overwrite=True, or choose another folder."
        )
    tensors = _stored_tensors(module)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CorruptInput(
                f"Parameter {name} is not finite as float16; the training has diverged, save an earlier state."
            )
    _fill(build_architecture(architecture, arguments), tensors, folder)
    sha256 = tensors_sha256(tensors)
    config = {
        "format": FORMAT,
        "architecture": architecture,
        "arguments": arguments,
        "sha256": sha256,
        "provenance": provenance,
    }
    # the parameters go first: a reader between the two renames sees a hash that differs and is told so
    write_atomically(folder / PARAMETERS_NAME, safetensors.torch.save(tensors, metadata={"sha256": sha256}))
    write_atomically(folder / CONFIG_NAME, (json.dumps(config, indent=2) + "\n").encode())
    return sha256


def _read_config(folder: Path) -> dict:
    path = folder / CONFIG_NAME
    if not path.is_file() or not (folder / PARAMETERS_NAME).is_file():
        raise MissingWeights(
            f"{folder} holds no model ({CONFIG_NAME} and {PARAMETERS_NAME} are needed); check the path, or train one "
            "with python -m codecbook.codecs.train."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CorruptInput(f"{path} is no JSON text ({error}); fetch the model again.") from error
    expected = {"format": int, "architecture": str, "arguments": dict, "sha256": str}
    for key, kind in expected.items():
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise CorruptInput(f"{path} has no {kind.__name__} {key!r}; fetch the model again.")
    if config["format"] != FORMAT:
        raise UnsupportedInput(
            f"{path} has format {config['format']}, this version reads {FORMAT}; update codecbook."
        )
    return config


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
    config = _read_config(folder)
    module = build_architecture(config["architecture"], config["arguments"])
    try:
        tensors = safetensors.torch.load((folder / PARAMETERS_NAME).read_bytes())
    except safetensors.SafetensorError as error:
        raise CorruptInput(
            f"{folder / PARAMETERS_NAME} is truncated or damaged ({error}); fetch the model again."
        ) from error
    _fill(module, tensors, folder)
    sha256 = tensors_sha256(tensors)
    if sha256 != config["sha256"]:
        raise CorruptInput(
            f"The parameters in {folder} have SHA-256 {sha256[:16]}..., {CONFIG_NAME} says "
            f"{config['sha256'][:16]}...; one of the files was altered or is of another model, fetch both again."
        )
    return LoadedModel(module.float().eval(), config, sha256, folder)
