"""The ``config.json`` of language models, float and exact ones alike; nothing but the standard library is needed."""

from pathlib import Path
from typing import Any

from codecbook.codecs import model_folder


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a model's ``config.json``, with the keys that every model has.

    Raises:
        MissingWeights: The folder lacks it, or the parameters.
        CorruptInput: It is no JSON, or lacks a key.
        UnsupportedInput: Another format.
    """
    return model_folder.read_config(folder, "language model", "'python -m codecbook.lm train'")
