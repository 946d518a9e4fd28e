"""A folder with ``model.safetensors`` and ``config.json``: what the files of codecs, language and exact models share.

``config.json`` (format 1)::

    {"format": 1, "architecture": "...", "arguments": {...}, "sha256": "...", "provenance": {...}}

``sha256`` is over the stored tensors. Importing this and reading a configuration takes the standard library alone, so
that exact models load where there is nothing but numpy.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.files import write_file

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
PARAMETERS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"


def refuse_existing(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds a model, before any long work.

    Raises:
        CodecbookError: One of the files is there, and `overwrite` is False.
    """
    existing = [name for name in (PARAMETERS_NAME, CONFIG_NAME) if (folder / name).exists()]
    if existing and not overwrite:
        raise CodecbookError(
            f"{folder} holds {existing[0]} already; pass overwrite=True, or choose another folder."
        )


def check_finite(tensors: Mapping[str, "Tensor"]) -> None:
    """Refuse what float16 cannot hold.

    Args:
        tensors: As they shall be stored.

    Raises:
        CorruptInput: A value is infinite or not a number.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CorruptInput(
                f"Parameter {name} is not finite as float16; the training has diverged, save an earlier state."
            )


def write_model(folder: Path, parameters: bytes, config: dict[str, Any], overwrite: bool = False) -> None:
    """Write a model's two files.

    Args:
        folder: Made if it does not exist.
        parameters: Content of ``model.safetensors``.
        config: Content of ``config.json`` without its ``"format"``, JSON types.
        overwrite: Replace a model that is there.

    Raises:
        CodecbookError: One of the files is there, and `overwrite` is False.
    """
    text = json.dumps({"format": FORMAT, **config}, indent=2) + "\n"
    # the parameters go first: a reader between the two renames sees a hash that differs and is told so
    write_file(folder / PARAMETERS_NAME, parameters, overwrite)
    write_file(folder / CONFIG_NAME, text, overwrite)


def read_config(folder: Path, kind: str, training_command: str) -> dict[str, Any]:
    """Return the content of a model's ``config.json``, with the keys that every model has.

    Args:
        folder: Holds both files.
        kind: What the folder should hold, named in errors: ``"model"``.
        training_command: What makes such a model, named in errors.

    Raises:
        MissingWeights: The folder lacks it, or the parameters.
        CorruptInput: It is no JSON, or lacks a key.
        UnsupportedInput: Another format.
    """
    path = folder / CONFIG_NAME
    if not path.is_file() or not (folder / PARAMETERS_NAME).is_file():
        raise MissingWeights(
            f"{folder} holds no {kind} ({CONFIG_NAME} and {PARAMETERS_NAME} are needed); check the path, or train one "
            f"with {training_command}."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # malformed JSON and malformed UTF-8 alike
        raise CorruptInput(f"{path} is no JSON text ({error}); fetch the model again.") from error
    expected = {"format": int, "architecture": str, "arguments": dict, "sha256": str}
    for key, type_ in expected.items():
        if not isinstance(config, dict) or not isinstance(config.get(key), type_):
            raise CorruptInput(f"{path} has no {type_.__name__} {key!r}; fetch the model again.")
    if config["format"] != FORMAT:
        raise UnsupportedInput(
            f"{path} has format {config['format']}, this version reads {FORMAT}; update codecbook."
        )
    return config


def read_tensors(folder: Path) -> dict[str, "Tensor"]:
    """Return the stored tensors by name, on the CPU.

    Raises:
        CorruptInput: ``model.safetensors`` is truncated or no such file.
    """
    import safetensors.torch  # here, as configurations are read where there is no torch

    path = folder / PARAMETERS_NAME
    try:
        return safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise CorruptInput(f"{path} is truncated or damaged ({error}); fetch the model again.") from error


def check_sha256(folder: Path, sha256: str, config: dict[str, Any]) -> None:
    """Refuse parameters of another model than the configuration's.

    Args:
        folder: Named in errors.
        sha256: Of the tensors that were read.
        config: As `read_config` returns it.

    Raises:
        CorruptInput: The configuration states another hash.
    """
    if sha256 != config["sha256"]:
        raise CorruptInput(
            f"The parameters in {folder} have SHA-256 {sha256[:16]}..., {CONFIG_NAME} says "
            f"{config['sha256'][:16]}...; one of the files was altered or is of another model, fetch both again."
        )
