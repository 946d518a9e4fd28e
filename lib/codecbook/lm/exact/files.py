"""Save and load exact language models: a folder with ``model.safetensors`` and ``config.json``.

``config.json`` is as in `codecbook.lm.model_files` (format 1) with ``"architecture": "exact"``, the fields of
`ExactConfig` as ``arguments``, and one key more, ``"identity"``: `ExactLM.sha256`, which streams name.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from codecbook.codecs.model_folder import CONFIG_NAME, PARAMETERS_NAME, refuse_existing, write_model
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.certificate import certificate
from codecbook.lm.exact.model import ExactConfig, ExactLM
from codecbook.lm.exact.tensor_file import read_arrays
from codecbook.lm.model_config import read_config

ARCHITECTURE = "exact"


def save_exact(
    folder: str | Path, model: ExactLM, provenance: dict[str, Any] | None = None, overwrite: bool = False
) -> str:
    """Write an exact model.

    Args:
        folder: Made if it does not exist.
        model: The model.
        provenance: JSON types: what it was made from.
        overwrite: Replace a model that is there.

    Returns:
        `ExactLM.sha256`.

    Raises:
        CodecbookError: The folder holds a model and `overwrite` is False.
        UnsupportedInput: The model has no certificate, so that nobody could load it.
    """
    import safetensors.numpy  # here, as reading needs numpy alone

    folder = Path(folder)
    refuse_existing(folder, overwrite)
    certificate(model)
    config = {
        "architecture": ARCHITECTURE,
        "arguments": model.config.arguments(),
        "sha256": model.arrays_sha256,
        "identity": model.sha256,
        "provenance": provenance or {},
    }
    write_model(folder, safetensors.numpy.save(dict(model.arrays)), config, overwrite)
    return model.sha256


def load_exact(folder: str | Path) -> ExactLM:
    """Read a model that `save_exact` wrote, and prove its ranges again.

    Args:
        folder: Holds ``model.safetensors`` and ``config.json``.

    Raises:
        MissingWeights: One of the files is not there.
        CorruptInput: A file is truncated or altered.
        UnsupportedInput: A float model, another format, or arrays without a certificate.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config["architecture"] != ARCHITECTURE:
        raise UnsupportedInput(
            f"{folder} holds a float model ({config['architecture']!r}); export it with 'python -m codecbook.lm "
            "export'."
        )
    path = folder / PARAMETERS_NAME
    arrays = read_arrays(path.read_bytes(), path)
    known = {field.name for field in fields(ExactConfig)}
    if set(config["arguments"]) != known:
        raise CorruptInput(
            f"{folder / CONFIG_NAME} has the arguments {sorted(config['arguments'])}, an exact model has "
            f"{sorted(known)}; fetch the model again."
        )
    try:
        shape = ExactConfig(**config["arguments"])
    except (TypeError, ValueError) as error:
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
