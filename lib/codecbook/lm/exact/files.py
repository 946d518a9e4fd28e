"""Save and load exact language models: a folder with ``model.safetensors`` and ``config.json``.

``config.json`` is as in `codecbook.lm.model_files` (format 1) with ``"architecture": "exact"``, the fields of
`ExactConfig` as ``arguments``, and one key more, ``"identity"``: `ExactLM.sha256`, which streams name.
"""

import json
import math
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.certificate import certificate
from codecbook.lm.exact.spec import ExactConfig, ExactLM
from codecbook.models import store
from codecbook.models.store import CONFIG_NAME, PARAMETERS_NAME, check_kinds, refuse_existing, write_model

ARCHITECTURE = "exact"
_TYPES = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
_LENGTH_BYTES = 8
EXACT_NAME = "exact"
"""The folder of an exact model inside that of the float model it was made from."""
# a value of the right kind for each
_KINDS = {f.name: f.default if f.default is not MISSING else 0 for f in fields(ExactConfig)} | {"codebook_sizes": ()}


def read_config(folder: Path) -> dict[str, Any]:
    """Return the ``config.json`` of a language model, float or exact; see `codecbook.models.store.read_config`."""
    exact = f"{EXACT_NAME}/{PARAMETERS_NAME}"
    # floats may be left out, and made from the integers
    has_floats = (folder / PARAMETERS_NAME).is_file() or not (folder / exact).is_file()
    parameters = PARAMETERS_NAME if has_floats else exact
    return store.read_config(folder, "language model", "'python -m codecbook.lm train'", parameters)


def save_exact(
    folder: str | Path, model: ExactLM, provenance: dict[str, Any] | None = None, overwrite: bool = False
) -> str:
    """Write an exact model, with JSON types that say what it was made from, and return `ExactLM.sha256`.

    Raises:
        CodecbookError: The folder holds a model and `overwrite` is False, or one of another kind.
        UnsupportedInput: The model has no certificate, so that nobody could load it.
    """
    import safetensors.numpy  # here, as reading needs numpy alone

    folder = Path(folder)
    refuse_existing(folder, overwrite, (ARCHITECTURE,))
    certificate(model)
    config = {
        "architecture": ARCHITECTURE,
        "arguments": asdict(model.config),
        "sha256": model.arrays_sha256,
        "identity": model.sha256,
        "provenance": provenance or {},
    }
    write_model(folder, safetensors.numpy.save(dict(model.arrays)), config)
    return model.sha256


def load_exact(folder: str | Path) -> ExactLM:
    """Read a model that `save_exact` wrote, and prove its ranges again.

    A missing file raises MissingWeights, a truncated or altered one CorruptInput; a float model, another format, or
    arrays without a certificate UnsupportedInput.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config["architecture"] != ARCHITECTURE:
        raise UnsupportedInput(
            f"{folder} holds a float model ({config['architecture']!r}); export it with python -m codecbook.lm export."
        )
    path = folder / PARAMETERS_NAME
    arrays = read_arrays(path.read_bytes(), path)
    if set(config["arguments"]) != set(_KINDS):
        raise CorruptInput(
            f"{folder / CONFIG_NAME} has the arguments {sorted(config['arguments'])}, an exact model has "
            f"{sorted(_KINDS)}; fetch the model again."
        )
    try:
        check_kinds(config["arguments"], _KINDS, "an exact model")
        shape = ExactConfig(**config["arguments"])
    except UnsupportedInput as error:
        raise CorruptInput(f"{folder / CONFIG_NAME} describes no model ({error}); fetch it again.") from error
    model = ExactLM(shape, arrays)
    for key, found in (("sha256", model.arrays_sha256), ("identity", model.sha256)):
        if found != config.get(key):
            raise CorruptInput(
                f"The arrays in {folder} have the {key} {found[:16]}..., {CONFIG_NAME} says "
                f"{str(config.get(key))[:16]}...; one of the files was altered or is of another model."
            )
    certificate(model)
    return model


def read_arrays(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.safetensors`` file in this machine's byte order, by nothing but numpy.

    A file is the length of its header (8 bytes, little-endian), the header, and the data. The header is a JSON object:
    ``{name: {"dtype": "I8", "shape": [2, 3], "data_offsets": [begin, end]}}``, offsets counting from the end of the
    header, values little-endian in C order, without gaps; a key ``"__metadata__"`` may stand beside the names
    (https://github.com/huggingface/safetensors, "Format"). Missing or further bytes, a header that is none, or arrays
    of anything but integers of 8 to 64 bits raise CorruptInput.
    """

    def damaged(why: object) -> CorruptInput:
        return CorruptInput(f"{path} is truncated or damaged ({why}); fetch the model again.")

    try:
        start, places = _places(data)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged(error) from error
    arrays, expected = {}, 0
    for begin, end, dtype, shape, name in places:
        if dtype not in _TYPES:
            raise CorruptInput(f"{path} holds other numbers than integers ({name} is {dtype}); fetch it again.")
        kind = np.dtype(_TYPES[dtype])
        if begin != expected or end - begin != math.prod(shape) * kind.itemsize or start + end > len(data):
            raise damaged(f"the bytes {begin}..{end} of {name} do not fit its shape {list(shape)} or the file")
        values = np.frombuffer(data[start + begin : start + end], dtype=kind)
        arrays[name] = values.astype(kind.newbyteorder("=")).reshape(shape)
        expected = end
    if start + expected != len(data):
        raise damaged(f"{len(data)} bytes, its header says {start + expected}")
    return arrays


def _places(data: bytes) -> tuple[int, list[tuple[int, int, str, tuple[int, ...], str]]]:
    """Return where the data start, and begin, end, type, shape and name of each array, in the order of the data."""
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < max(start, _LENGTH_BYTES):
        raise ValueError(f"its header ends at byte {start} of {len(data)}")
    header = json.loads(data[_LENGTH_BYTES:start])
    if not isinstance(header, dict):
        raise TypeError("its header is no JSON object")
    header.pop("__metadata__", None)
    places = []
    for name, entry in header.items():
        (begin, end), dtype, shape = entry["data_offsets"], entry["dtype"], tuple(entry["shape"])
        if not isinstance(dtype, str) or any(type(n) is not int or n < 0 for n in (begin, end, *shape)):
            raise TypeError(f"{entry} describes no array")
        places.append((begin, end, dtype, shape, name))
    return start, sorted(places)
