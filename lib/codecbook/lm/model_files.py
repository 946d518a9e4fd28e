"""Save and load language models, in the folders of `codecbook.models.store`.

``architecture`` and ``arguments`` are what `codecbook.lm.models.build_lm` takes. Parameters are stored as float16 and
used as float32, which is exact; tables of positions stay float32. Where there is no ``model.safetensors``, the floats
are made from the exact model in the folder ``exact``, over whose arrays ``sha256`` then is
(`codecbook.lm.exact.export`). Of ``provenance``, ``codec`` and ``codec_weights_sha256``, where given, tell whose tokens
the model predicts.

Each bundled codec has a model, ``data/models/lm_<codec>_mini``, in ``exact`` as the integers with which streams are
coded. ``data/models/make_language_models.py`` says how each is trained, makes them and writes the card.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codecbook.errors import MissingWeights, UnsupportedInput
from codecbook.lm.exact.files import EXACT_NAME as EXACT_NAME
from codecbook.lm.exact.files import load_exact, read_config
from codecbook.lm.models import ARCHITECTURES, build_lm
from codecbook.lm.token_lm import TokenLM
from codecbook.models import store
from codecbook.models.weights import unallocated
from codecbook.paths import data_dir


@dataclass(frozen=True)
class LoadedLM:
    """A language model from a folder."""

    model: TokenLM  # in evaluation mode, float32, on the CPU
    config: dict[str, Any]  # content of config.json

    @property
    def sha256(self) -> str:
        """SHA-256 of the stored tensors, hex."""
        return self.config["sha256"]


def save_lm(folder: str | Path, model: TokenLM, provenance: dict[str, Any], overwrite: bool = False) -> str:
    """Write a model, with JSON types that say what it was trained on, and return the SHA-256 of the stored tensors.

    Raises:
        CodecbookError: The folder holds a model and `overwrite` is False, or one of another kind.
        CorruptInput: A parameter is not finite, or too large for float16.
    """
    folder = Path(folder)
    store.refuse_existing(folder, overwrite, ARCHITECTURES)
    parameters = dict(model.named_parameters())
    tensors = {
        name: (tensor.half() if name in parameters else tensor).contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    return store.save_tensors(folder, tensors, model.architecture, model.config.arguments(), provenance)


def load_lm(folder: str | Path) -> LoadedLM:
    """Read a model that `save_lm` wrote.

    A missing file raises MissingWeights, a truncated or altered one CorruptInput; another format or architecture, or
    parameters that do not fit the configuration, UnsupportedInput.
    """
    folder = Path(folder)
    config = read_config(folder)
    if (folder / store.PARAMETERS_NAME).is_file():
        tensors = store.load_tensors(folder, config)
    else:
        exact = load_exact(folder / EXACT_NAME)
        # here, as it brings libraries along that a machine need not have which computes a model in floats
        from codecbook.lm.exact.export import float_tensors

        tensors = float_tensors(exact)
        store.check_tensors(folder, config, tensors, exact.arrays_sha256)
    architecture, arguments = config["architecture"], config["arguments"]
    if not store.is_bundled(folder):
        # first without allocating any of it
        try:
            with unallocated():
                unbuilt = build_lm(architecture, arguments)
        except (RuntimeError, TypeError, OverflowError) as error:  # sizes beyond 64 bits, in torch's many words
            raise UnsupportedInput(
                f"{folder / store.CONFIG_NAME} describes no model ({str(error).splitlines()[0]}); fetch it again."
            ) from error
        store.check_shapes(_shapes(unbuilt), tensors, folder)
    with torch.random.fork_rng(devices=[]):
        model = build_lm(architecture, arguments)
    store.check_shapes(_shapes(model), tensors, folder)
    model.load_state_dict(tensors)
    return LoadedLM(model.eval(), config)


def _shapes(model: TokenLM) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def default_folder(codec: str) -> Path:
    """Return where a codec's bundled language model lies, or would lie."""
    return data_dir() / "models" / f"lm_{codec}_mini"


def load_default(codec: str) -> LoadedLM:
    """Load the bundled language model of a codec, as floats; raise MissingWeights where there is none."""
    folder = default_folder(codec)
    if not folder.is_dir():
        raise MissingWeights(f"No bundled language model of {codec!r}; run data/models/make_language_models.py.")
    return load_lm(folder)
