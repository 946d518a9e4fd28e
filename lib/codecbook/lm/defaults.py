"""The bundled language models: one per bundled codec, and where it lies.

``data/models/lm_<codec>_mini`` holds the model's configuration, ``exact`` inside it the model in integers, with which
streams are coded. ``data/models/make_language_models.py`` says how each is trained, makes them and writes the card.
"""

from pathlib import Path

from codecbook.errors import MissingWeights
from codecbook.lm.exact.files import EXACT_NAME as EXACT_NAME
from codecbook.lm.model_files import LoadedLM, load_lm
from codecbook.paths import data_dir


def default_folder(codec: str) -> Path:
    """Return where a codec's bundled language model lies, or would lie."""
    return data_dir() / "models" / f"lm_{codec}_mini"


def load_default(codec: str) -> LoadedLM:
    """Load the bundled language model of a codec, as floats; raise MissingWeights where there is none."""
    folder = default_folder(codec)
    if not folder.is_dir():
        raise MissingWeights(
            f"There is no bundled language model of {codec!r} ({folder} does not exist); make it with python "
            "data/models/make_language_models.py, or train one with python -m codecbook.lm train."
        )
    return load_lm(folder)
