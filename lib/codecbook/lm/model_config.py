"""The names of a language model's files, and the part of its ``config.json`` that float and exact models share."""

import json
from pathlib import Path
from typing import Any

from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput

FORMAT = 1
PARAMETERS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a model's ``config.json``, with the keys that every model has.

    Raises:
        MissingWeights: The folder lacks it, or the parameters.
        CorruptInput: It is no JSON, or lacks a key.
        UnsupportedInput: Another format.
    """
    path = folder / CONFIG_NAME
    if not path.is_file() or not (folder / PARAMETERS_NAME).is_file():
        raise MissingWeights(
            f"{folder} holds no language model ({CONFIG_NAME} and {PARAMETERS_NAME} are needed); check the path, or "
            "train one with 'python -m codecbook.lm train'."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # malformed JSON and malformed UTF-8 alike
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
