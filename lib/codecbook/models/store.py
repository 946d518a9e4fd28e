"""What any model is on disk: a folder with ``model.safetensors`` and ``config.json``, a hash, and where it is from.

``config.json`` (format 1)::

    {"format": 1, "architecture": "...", "arguments": {...}, "sha256": "...", "provenance": {...}}

``sha256`` is over the stored tensors, so that a model is recognised whatever its file is called, and a changed one is
refused. Importing this and reading a configuration takes numpy alone, as exact models load where there is no torch.
"""

import hashlib
import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.files import check_folder, read_json, write_file
from codecbook.paths import data_dir

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
PARAMETERS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class Weights:
    """Where a model's weights are from; printed in every table and figure that used them."""

    kind: str  # "bundled" (trained by this project's own code), "pretrained", "random" or "compressed"
    source: str  # file, hub repository or seed
    sha256: str = ""  # over the parameters, hex; equal weights have equal hashes whatever file they came from

    def __str__(self) -> str:
        return f"{self.kind}: {self.source}"


def arrays_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Return `tensors_sha256` of numpy arrays in any byte order."""
    return _sha256(
        (name, f"torch.{array.dtype.name}", array.shape, array.astype(array.dtype.newbyteorder("<"), copy=False))
        for name, array in arrays.items()
    )


def tensors_sha256(tensors: Mapping[str, "Tensor"]) -> str:
    """Return the SHA-256, hex, over names, types, shapes and little-endian values in the order of names."""
    import torch

    def data(tensor: "Tensor") -> np.ndarray:
        # by bytes, as numpy lacks some types
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return values if sys.byteorder == "little" else values.reshape(-1, tensor.element_size())[:, ::-1]

    return _sha256((name, str(tensor.dtype), tensor.shape, data(tensor)) for name, tensor in tensors.items())


def _sha256(parts: Iterable[tuple[str, str, Sequence[int], np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for name, dtype, shape, values in sorted(parts, key=lambda part: part[0]):
        digest.update(f"{name}:{dtype}:{list(shape)};".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def refuse_existing(folder: Path, overwrite: bool, architectures: Collection[str]) -> None:
    """Refuse, before any long work, a folder that holds a model, or a configuration that is not of its kind.

    With `overwrite` a model of one of the architectures may be replaced.
    """
    existing = [name for name in (PARAMETERS_NAME, CONFIG_NAME) if (folder / name).exists()]
    if existing and not overwrite:
        raise CodecbookError(f"{folder} holds {existing[0]} already; pass overwrite=True, or choose another folder.")
    if CONFIG_NAME in existing:
        path = folder / CONFIG_NAME
        found = read_json(path, dict, "remove it, or choose another folder").get("architecture")
        if found not in architectures:
            raise UnsupportedInput(f"{path} is of another architecture, {found!r}; choose another folder.")


def check_save(folder: Path, architectures: Collection[str]) -> None:
    """Refuse, before training, a folder that cannot be written to, or holds a model of another kind."""
    check_folder(folder)
    refuse_existing(folder, True, architectures)


def write_model(folder: Path, parameters: bytes, config: dict[str, Any]) -> None:
    """Write a model's two files: ``model.safetensors``, and ``config.json`` of JSON types without its ``"format"``.

    What is there is replaced; `refuse_existing` is to be called before.
    """
    text = json.dumps({"format": FORMAT, **config}, indent=2) + "\n"
    # the parameters go first: a reader between the two renames sees a hash that differs and is told so
    write_file(folder / PARAMETERS_NAME, parameters, overwrite=True)
    write_file(folder / CONFIG_NAME, text, overwrite=True)


def save_tensors(
    folder: Path,
    tensors: Mapping[str, "Tensor"],
    architecture: str,
    arguments: dict[str, Any],
    provenance: dict[str, Any],
) -> str:
    """Write tensors, as they shall be stored, as `write_model` does; return their SHA-256.

    Raises CorruptInput: a value is infinite or not a number.
    """
    import safetensors.torch

    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CorruptInput(f"Parameter {name} is not finite as float16; training diverged, save an earlier state.")
    sha256 = tensors_sha256(tensors)
    config = {"architecture": architecture, "arguments": arguments, "sha256": sha256, "provenance": provenance}
    write_model(folder, safetensors.torch.save(dict(tensors)), config)
    return sha256


def read_config(folder: Path, kind: str, training_command: str, parameters: str = PARAMETERS_NAME) -> dict[str, Any]:
    """Return the content of a model's ``config.json``, with the keys that every model has.

    Errors name the kind of model and the command that makes one; `parameters` is where these lie in the folder. Without
    them, or a ``config.json``, MissingWeights is raised; for one that is no JSON, or lacks a key, CorruptInput; for
    another format UnsupportedInput.
    """
    path = folder / CONFIG_NAME
    if not path.is_file() or not (folder / parameters).is_file():
        raise MissingWeights(
            f"{folder} holds no {kind} ({CONFIG_NAME}, {PARAMETERS_NAME}); check the path, or run {training_command}."
        )
    config = read_json(path, dict, "fetch the model again")
    for key, type_ in {"format": int, "architecture": str, "arguments": dict, "sha256": str}.items():
        if not isinstance(config.get(key), type_):
            raise CorruptInput(f"{path} has no {type_.__name__} {key!r}; fetch the model again.")
    if not isinstance(config.setdefault("provenance", {}), dict):
        raise CorruptInput(f"The provenance in {path} is no object; fetch the model again.")
    if config["format"] != FORMAT:
        raise UnsupportedInput(f"{path} has format {config['format']}, this version reads {FORMAT}; update codecbook.")
    return config


def load_tensors(folder: Path, config: Mapping[str, Any]) -> dict[str, "Tensor"]:
    """Return a model's stored tensors by name, on the CPU, checked by `check_tensors`.

    Raises CorruptInput: ``model.safetensors`` is truncated or no such file.
    """
    import safetensors.torch

    path = folder / PARAMETERS_NAME
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise CorruptInput(f"{path} is truncated or damaged ({error}); fetch the model again.") from error
    check_tensors(folder, config, tensors, tensors_sha256(tensors))
    return tensors


def check_tensors(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, "Tensor"], sha256: str) -> None:
    """Refuse parameters of another model than the configuration's, before it is built, which might take long.

    Raises:
        CorruptInput: The configuration states another hash than `sha256`, of what they are stored as.
        UnsupportedInput: It claims more layers than there are parameters, or wider ones than the widest.
    """
    if sha256 != config["sha256"]:
        raise CorruptInput(f"{folder} has SHA-256 {sha256[:16]}..., not {config['sha256'][:16]}...; fetch it again.")
    count, widest = len(tensors), max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    limits = {"layers": count, "num_lstm_layers": count, "num_codebooks": count, "hidden_dim": widest}
    for name, value in config["arguments"].items():
        found, limit = value, limits.get(name)
        if isinstance(value, list) and name != "codebook_sizes":
            found, limit = len(value), count
        if limit is not None and isinstance(found, int | float) and found > limit:
            raise UnsupportedInput(
                f"{folder / CONFIG_NAME} claims {name}={str(value)[:40]}, which the {count} parameters beside it, at "
                f"most {widest} wide, do not hold; they are of another model, fetch both again."
            )


def check_shapes(shapes: Mapping[str, Sequence[int]], tensors: Mapping[str, "Tensor"], source: Path) -> None:
    """Refuse tensors of other names or shapes than a model's, as `UnsupportedInput` that names the folder."""
    for name in sorted(shapes.keys() | tensors.keys()):
        found = list(tensors[name].shape) if name in tensors else "none"
        expected = list(shapes[name]) if name in shapes else "none"
        if found != expected:
            raise UnsupportedInput(f"{name} in {source} has shape {found}, not {expected}; fetch {CONFIG_NAME} and it.")


def check_kinds(arguments: Mapping[str, Any], defaults: Mapping[str, Any], owner: str) -> None:
    """Refuse arguments of a configuration that are of another kind than the defaults, such as text for a number.

    A default that is a tuple stands for integers, which are 0 or more; errors name the owner of the arguments.
    """
    unknown = sorted(arguments.keys() - defaults.keys())
    if unknown:
        raise UnsupportedInput(f"{owner} does not know {', '.join(unknown)}; it takes {', '.join(sorted(defaults))}.")
    for name, value in arguments.items():
        kinds = {
            bool: ("true or false", isinstance(value, bool)),
            str: ("text", isinstance(value, str)),
            tuple: ("a list of integers", isinstance(value, Sequence) and all(map(_is_count, value))),
            int: ("an integer of 0 or more", _is_count(value)),
            float: ("a number", isinstance(value, Real) and not isinstance(value, bool)),
        }
        kind, fits = kinds[type(defaults[name])]
        if not fits:
            raise UnsupportedInput(f"{owner} has {name}={value!r}, where it takes {kind}; correct it.")


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def is_bundled(folder: Path) -> bool:
    """Say whether a model is one of this checkout's own, whose configuration need not be tried without memory first.

    For that, torch's meta device imports a compiler: seconds, and more than 100 MB that a decoder would keep.
    """
    try:
        return folder.resolve().is_relative_to(data_dir().resolve())
    except CodecbookError:  # installed without its data
        return False
